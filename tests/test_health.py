"""The decision table, with a row on each side of every limit, and the six mistakes of such tools under their names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workers.coordination.records import (
    LogActivity,
    PmEntry,
    Problem,
    Process,
    ProcessKey,
    Sign,
    Spec,
    StatusFile,
    WorkerProcesses,
)
from workers.health import Health, Limits, Memory, Observation, clock, effective_limits, judge, span

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LIMITS = Limits()
A_MOMENT = timedelta(milliseconds=1)


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def process(started: datetime = NOW - timedelta(hours=1), pid: int = 4711) -> Process:
    return Process(ProcessKey(pid, 100, "boot"), 1, "bash", ("bash", "execute.sh"), "/w", "me", True, started)


def living(**parts: float) -> WorkerProcesses:
    main = process(ago(**parts) if parts else ago(hours=1))
    return WorkerProcesses(main=main, found_by="its pid file", source="agents/workers/w-1/worker.pid", tree=(main,))


def seen(
    *,
    status: str = "running",
    started: datetime | None = None,
    directory: str = "active",
    processes: WorkerProcesses | None = None,
    **more: object,
) -> Observation:
    spec = Spec("w-1", ago(hours=2), status=status, started_at=started or ago(minutes=30), time_limit_minutes=45)
    return Observation(
        content=spec,
        path=f"coordination/worker-specs/{directory}/w-1.json",
        directory=directory,
        processes=living() if processes is None else processes,
        **more,  # type: ignore[arg-type]
    )


def health(observation: Observation, now: datetime = NOW) -> Health:
    return judge(observation, now, LIMITS).health


def checkin(**parts: float) -> tuple[Sign, ...]:
    return (Sign(ago(**parts), "coordination/pm-state.json#last_checkin"),)


NONE = WorkerProcesses()
AT_LATE, AT_STALLED, AT_GRACE = timedelta(minutes=10), timedelta(minutes=15), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        # a process lives; the silence since the later of start and last sign decides
        (seen(checkins=checkin(minutes=10)), Health.HEALTHY),
        (seen(checkins=(Sign(NOW - AT_LATE - A_MOMENT, "x"),)), Health.LATE),
        (seen(checkins=checkin(minutes=15)), Health.LATE),
        (seen(checkins=(Sign(NOW - AT_STALLED - A_MOMENT, "x"),)), Health.STALLED),
        (seen(started=NOW - AT_LATE), Health.HEALTHY),
        (seen(started=NOW - AT_LATE - A_MOMENT), Health.LATE),
        (seen(started=NOW - AT_STALLED), Health.LATE),
        (seen(started=NOW - AT_STALLED - A_MOMENT), Health.STALLED),
        # any sign of life will do where it never checked in
        (seen(log=LogActivity(ago(minutes=3), "log", 10)), Health.HEALTHY),
        (seen(log=LogActivity(ago(minutes=12), "log", 10)), Health.LATE),
        (seen(memory=Memory(progress_changed_at=ago(minutes=3))), Health.HEALTHY),
        (seen(memory=Memory(last_cpu_at=ago(minutes=3))), Health.HEALTHY),
        (seen(memory=Memory(last_cpu_at=ago(minutes=16))), Health.STALLED),
        # it did check in, and has not for long, though it shows other signs
        (seen(checkins=checkin(minutes=20), log=LogActivity(ago(minutes=1), "log", 10)), Health.LATE),
        (seen(checkins=checkin(minutes=9), log=LogActivity(ago(minutes=1), "log", 10)), Health.HEALTHY),
        # no process of its own
        (seen(started=NOW - AT_GRACE, processes=NONE), Health.HEALTHY),
        (seen(started=NOW - AT_GRACE - A_MOMENT, processes=NONE), Health.ZOMBIE),
        (seen(processes=NONE, memory=Memory(seen_alive_at=ago(minutes=2), pid=7)), Health.CRASHED),
        (seen(processes=NONE, log=LogActivity(ago(minutes=2), "log", 9, "x", error="Traceback")), Health.CRASHED),
        (seen(processes=NONE, log=LogActivity(ago(minutes=40), "log", 9, "x", error="Traceback")), Health.ZOMBIE),
        (seen(processes=NONE, status_file=StatusFile("failed", ago(minutes=1), "s", 1, "boom")), Health.CRASHED),
        (seen(processes=NONE, status_file=StatusFile("failed", ago(minutes=40), "s", 1, "boom")), Health.ZOMBIE),
        (seen(processes=NONE, status_file=StatusFile("completed", ago(minutes=1), "s")), Health.COMPLETED),
        (seen(processes=WorkerProcesses(hidden="it runs on host-b")), Health.UNKNOWN),
        # the spec or the directory says so
        (seen(status="pending"), Health.PENDING),
        (seen(status="completed"), Health.COMPLETED),
        (seen(status="failed"), Health.FAILED),
        (seen(status="cancelled"), Health.CANCELLED),
        (seen(status="dancing"), Health.UNKNOWN),
        (seen(status=""), Health.UNKNOWN),
        (seen(directory="failed"), Health.FAILED),
        (seen(directory="zombie/2025-11-20"), Health.FAILED),
        (seen(directory="completed"), Health.COMPLETED),
        (seen(directory="archived"), Health.GONE),
        (seen(directory="archived/failed-20251107-135749"), Health.FAILED),
        (seen(directory="archived", status="completed"), Health.COMPLETED),
        (seen(directory="failed", status="completed"), Health.COMPLETED),
        (replace(seen(), here=False), Health.GONE),
        (replace(seen(), content=Problem("Not JSON", 3, 4)), Health.UNREADABLE),
    ],
)
def test_the_table(observation: Observation, expected: Health) -> None:
    verdict = judge(observation, NOW, LIMITS)
    assert verdict.health is expected, [reason.text for reason in verdict.reasons]
    assert verdict.reasons[0].text
    assert all(reason.source for reason in verdict.reasons)


# -- the six mistakes that burnt every product with automatic detection


def test_no_heartbeat_yet_is_not_dead() -> None:
    assert health(seen(started=ago(seconds=5), processes=NONE)) is Health.HEALTHY
    assert health(seen(started=ago(minutes=5))) is Health.HEALTHY
    never = replace(seen(started=ago(hours=3)), checkins=())
    assert health(never) is Health.STALLED, "one that never checked in is still found"


def test_an_old_heartbeat_is_not_inherited_by_a_new_run() -> None:
    inherited = seen(started=ago(minutes=20), checkins=checkin(minutes=21))
    verdict = judge(inherited, NOW, LIMITS)
    assert verdict.health is Health.STALLED
    assert verdict.last_checkin is None


def test_late_but_alive_and_working_is_not_a_zombie() -> None:
    working = seen(started=ago(hours=2), memory=Memory(last_cpu_at=ago(seconds=5)))
    assert health(working) is Health.HEALTHY
    assert judge(working, NOW, LIMITS).not_checking_in


def test_finished_between_the_check_and_the_verdict() -> None:
    done = seen(processes=NONE, memory=Memory(seen_alive_at=ago(seconds=3), pid=7))
    assert health(replace(done, status_file=StatusFile("completed", ago(seconds=1), "s"))) is Health.COMPLETED


def test_another_host_is_never_guessed() -> None:
    elsewhere = seen(started=ago(hours=9), processes=WorkerProcesses(hidden="it runs on host-b, this is host-a"))
    verdict = judge(elsewhere, NOW, LIMITS)
    assert verdict.health is Health.UNKNOWN
    assert "host-b" in verdict.reasons[0].text


def test_a_heartbeat_of_a_companion_is_no_life() -> None:
    """Its emitter outlives it: without a process of its own the heartbeat counts for nothing."""
    assert health(seen(processes=NONE, checkins=checkin(seconds=5))) is Health.ZOMBIE


# -- marks, reasons and the next look


@pytest.mark.parametrize(
    ("started", "overdue"), [(ago(minutes=45), False), (NOW - timedelta(minutes=45) - A_MOMENT, True)]
)
def test_overdue_is_a_mark_on_any_running_state(started: datetime, overdue: bool) -> None:
    for processes in (None, NONE):
        verdict = judge(seen(started=started, processes=processes), NOW, LIMITS)
        assert verdict.overdue is overdue
        assert verdict.health.running


def test_the_next_look_is_when_the_verdict_changes() -> None:
    """Judging again one moment after the promised time gives the next verdict, and not before."""
    observation = seen(started=ago(minutes=1))
    now, states = NOW, []
    for _ in range(12):
        verdict = judge(observation, now, LIMITS)
        states.append(verdict.health)
        if verdict.recheck_at is None:
            break
        assert verdict.recheck_at >= now
        assert judge(observation, verdict.recheck_at, LIMITS).health is verdict.health
        now = verdict.recheck_at + A_MOMENT
    assert states[0] is Health.HEALTHY
    assert Health.LATE in states
    assert states[-1] is Health.STALLED
    assert judge(observation, now, LIMITS).overdue


def test_a_sign_from_the_future_does_not_keep_it_healthy_for_ever() -> None:
    future = seen(started=ago(hours=1), checkins=(Sign(NOW + timedelta(days=400), "pm"),))
    assert judge(future, NOW, LIMITS).last_sign == Sign(NOW, "pm")


def test_a_disagreement_with_the_pm_daemon_is_marked() -> None:
    entry = PmEntry("w-1", health_state="healthy")
    stalled = seen(started=ago(minutes=20), pm=entry, pm_last_loop=ago(minutes=2))
    assert judge(stalled, NOW, LIMITS).pm_disagrees
    agreeing = replace(stalled, pm=replace(entry, health_state="stalled"))
    assert not judge(agreeing, NOW, LIMITS).pm_disagrees
    silent = replace(stalled, pm_last_loop=ago(minutes=11))
    verdict = judge(silent, NOW, LIMITS)
    assert not verdict.pm_disagrees
    assert any("silent" in reason.text for reason in verdict.reasons)


def test_reasons_do_not_tick() -> None:
    """A sentence with an age in it would be pushed to every browser every second."""
    observation = seen(started=ago(minutes=20), log=LogActivity(ago(minutes=1), "log", 10))
    later = NOW + timedelta(seconds=30)
    assert judge(observation, NOW, LIMITS).reasons == judge(observation, later, LIMITS).reasons


def test_an_unreadable_file_says_where_and_what_it_would_say() -> None:
    problem = Problem("Not JSON: value missing", 29, 24, reading=Spec("w", None, status="pending"))
    verdict = judge(replace(seen(), content=problem), NOW, LIMITS)
    assert verdict.reasons[0].text == "Not JSON: value missing at line 29, column 24"
    assert "pending" in verdict.reasons[1].text


# -- limits


def test_limits_come_from_the_admin_else_the_pm_else_the_default() -> None:
    assert effective_limits({}, {}).late_after == timedelta(minutes=10)
    from_pm = effective_limits({}, {"stalled_after_minutes": 30.0})
    assert (from_pm.late_after, from_pm.stalled_after) == (timedelta(minutes=10), timedelta(minutes=30))
    both = effective_limits({"stalled_after": 1200}, {"stalled_after_minutes": 30.0})
    assert both.stalled_after == timedelta(minutes=20)
    assert both.sources["stalled_after"] == "set by an admin"


def test_late_is_never_over_stalled() -> None:
    assert effective_limits({"late_after": 3600}, {}).late_after == timedelta(minutes=15)


def test_moments_and_spans_read_well() -> None:
    assert clock(NOW - timedelta(minutes=1), NOW) == "11:59 UTC"
    assert clock(NOW - timedelta(days=1), NOW) == "2026-02-28 12:00 UTC"
    assert (span(timedelta(minutes=15)), span(timedelta(seconds=90))) == ("15 min", "90 s")
