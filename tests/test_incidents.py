"""Incidents: live ones from changes of verdict, past ones folded out of the logs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.coordination.records import LogRecord
from workers.folding import (
    LATENESS,
    PM_LOG,
    RECORDS,
    REPEATED_WITHIN,
    Past,
    RunFacts,
    fold,
    newest_before,
)
from workers.health import Health
from workers.incidents import KINDS, How, Incident, Kind, Turn, follow, overlap
from workers.spells import SAME_LOOP

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HEARTBEATS = "coordination/events/heartbeat-events.jsonl"
CLEANUPS = "coordination/events/zombie-cleanup-events.jsonl"
NOWHERE = newest_before({})


def at(**parts: float) -> datetime:
    return NOW + timedelta(**parts)


# --- live -------------------------------------------------------------------------------------------------------------


def turn(new: Health, moment: datetime = NOW, old: Health | None = Health.HEALTHY, **more: object) -> Turn:
    return Turn("w-1", "r", moment, new, old, **more)  # type: ignore[arg-type]


def live(*turns: Turn) -> list[Incident]:
    """Follow the turns one after another, as the poller does; every incident as it is at the end."""
    lasting: list[Incident] = []
    over: list[Incident] = []
    for each in turns:
        closed, opened = follow(lasting, each)
        kinds = {incident.kind for incident in closed}
        lasting = [incident for incident in lasting if incident.kind not in kinds] + opened
        over += closed
    return over + lasting


def test_the_help_says_for_each_kind_what_its_moments_mean() -> None:
    assert set(KINDS) == set(Kind)
    assert all(text.endswith(".") for meaning in KINDS.values() for text in meaning)


def test_a_stall_begins_with_the_silence_and_ends_with_a_sign_of_life() -> None:
    (incident,) = live(
        turn(Health.STALLED, last_sign=at(minutes=-15), reason="silent"), turn(Health.LATE, at(minutes=4))
    )
    assert (incident.began, incident.detected, incident.resolved) == (at(minutes=-15), NOW, at(minutes=4))
    assert (incident.how, incident.cause, incident.from_log) == (How.RECOVERED, "silent", False)


def test_a_stall_that_turns_zombie_closes_and_the_zombie_opens() -> None:
    stall, zombie = live(
        turn(Health.STALLED, last_sign=at(minutes=-15)), turn(Health.ZOMBIE, at(hours=1), last_sign=at(minutes=-15))
    )
    assert (stall.kind, stall.resolved, stall.how) == (Kind.STALLED, at(hours=1), How.SUPERSEDED)
    assert (zombie.kind, zombie.began, zombie.resolved) == (Kind.ZOMBIE, NOW, None)


@pytest.mark.parametrize(
    ("after", "how"),
    [
        (turn(Health.HEALTHY), How.RECOVERED),
        (turn(Health.COMPLETED), How.COMPLETED),
        (turn(Health.CANCELLED), How.CANCELLED),
        (turn(Health.GONE), How.GONE),
        (turn(Health.FAILED), How.SUPERSEDED),
        (turn(Health.FAILED, remediated=True), How.REMEDIATION),
        (turn(Health.PENDING), How.RESTARTED),
        (turn(Health.HEALTHY, attempt=2), How.RESTARTED),
        (turn(Health.ZOMBIE, attempt=2), How.RESTARTED),
        (turn(Health.UNKNOWN), None),
        (turn(Health.UNREADABLE), None),
        (turn(Health.ZOMBIE), None),
    ],
)
def test_how_a_zombie_ends(after: Turn, how: How | None) -> None:
    first, *_ = live(turn(Health.ZOMBIE), replace(after, at=at(minutes=9)))
    assert first.how is how
    assert first.resolved == (at(minutes=9) if how else None)


def test_overdue_is_an_incident_beside_the_others_until_it_ends() -> None:
    since = at(minutes=-1)
    found = live(
        turn(Health.HEALTHY, overdue=True, overdue_since=since),
        turn(Health.STALLED, at(hours=1), overdue=True, overdue_since=since),
        turn(Health.HEALTHY, at(hours=2), overdue=True, overdue_since=since),
        turn(Health.FAILED, at(hours=3), overdue=True, ended_at=at(hours=3)),
    )
    assert [(each.kind, each.how) for each in found] == [
        (Kind.STALLED, How.RECOVERED),
        (Kind.OVERDUE, How.SUPERSEDED),
        (Kind.FAILED, None),
    ]
    assert found[1].began == since


def test_a_failure_from_before_anybody_looked_says_nothing_of_how_fast_it_was_noticed() -> None:
    (incident,) = live(turn(Health.FAILED, old=None, ended_at=at(days=-9)))
    assert (incident.detected, incident.began_known) == (at(days=-9), False)


def test_clocks_that_jump_never_make_a_negative_duration() -> None:
    back, ahead = at(hours=-1), at(hours=2)
    (incident,) = live(turn(Health.CRASHED, process_gone_at=ahead), turn(Health.HEALTHY, back))
    assert incident.began <= incident.detected
    assert incident.resolved == incident.detected
    assert incident.duration(back) == timedelta()
    assert replace(incident, resolved=None).duration(back) == timedelta()


@given(st.lists(st.builds(lambda new, hour, due, attempt: turn(new, at(hours=hour), overdue=due, attempt=attempt),
    st.sampled_from(Health), st.integers(-5, 5), st.booleans(), st.integers(1, 3)), max_size=12))  # fmt: skip
def test_whatever_happens_each_kind_is_open_once_and_no_moment_runs_backwards(turns: list[Turn]) -> None:
    found = live(*turns)
    lasting = [each for each in found if each.resolved is None]
    assert len({each.kind for each in lasting}) == len(lasting)
    assert all(each.began <= each.detected <= (each.resolved or each.detected) for each in found)
    if turns:
        assert follow(lasting, turns[-1]) == ([], []), "the same turn again changes nothing"


def test_how_much_of_a_stretch_nobody_watched_counts_no_minute_twice() -> None:
    gaps = [(at(hours=1), at(hours=3)), (at(hours=2), at(hours=4)), (at(hours=6), at(hours=5)), (at(hours=-9), NOW)]
    assert overlap(NOW, at(hours=8), gaps) == timedelta(hours=3)
    assert overlap(NOW, at(hours=2), gaps) == timedelta(hours=1)
    assert overlap(at(hours=4), NOW, gaps) == timedelta()


# --- folded out of logs -----------------------------------------------------------------------------------------------


def say(kind: str, moment: datetime | None, worker_id: str = "w-1", log: str = PM_LOG, **data: object):  # type: ignore[no-untyped-def]
    return log, LogRecord(0, moment, kind, "" if kind.startswith("pm_") else worker_id, json.dumps({"data": data}))


def loops(since: float, until: float, *kinds: str, every: float = 3) -> list[tuple[str, LogRecord]]:
    """What a PM daemon writes between two moments (minutes): each loop its complaints, then that it is done."""
    found, minute = [], since
    while minute <= until:
        found += [say(kind, at(minutes=minute)) for kind in (*kinds, "pm_loop_completed")]
        minute += every
    return found


def told(*records: tuple[str, LogRecord]) -> list[Incident]:
    return settled(fold(records, NOWHERE))


def settled(past: Past) -> list[Incident]:
    """Every incident, those of the newest records as well; ``past`` stays as it is."""
    copy = stored(past)
    copy.settle()
    return copy.incidents()


def stored(past: Past) -> Past:
    return Past.from_json(past.as_json())


def test_a_weekend_of_repeated_lines_is_one_zombie_and_one_overdue() -> None:
    zombie, overdue = sorted(
        told(*loops(0, 48 * 60, "worker_stalled", "timeout_exceeded", "zombie_detected")), key=lambda each: each.kind
    )[::-1]
    assert (zombie.kind, overdue.kind) == (Kind.ZOMBIE, Kind.OVERDUE)
    assert (zombie.detected, zombie.resolved, zombie.from_log, zombie.seen) == (NOW, None, True, 961)
    assert overdue.seen == 961


def test_a_stall_that_was_told_before_its_zombie_is_an_incident_of_its_own() -> None:
    stall, zombie = told(*loops(0, 57, "worker_stalled"), *loops(60, 90, "worker_stalled", "zombie_detected"))
    assert (stall.kind, stall.resolved, stall.how) == (Kind.STALLED, at(minutes=60), How.SUPERSEDED)
    assert (zombie.kind, zombie.detected, zombie.resolved) == (Kind.ZOMBIE, at(minutes=60), None)


@pytest.mark.parametrize("minutes", [35, 45])
def test_the_long_loops_of_a_night_do_not_split_it(minutes: float) -> None:
    assert len(told(*loops(0, 8 * 60, "zombie_detected", every=minutes))) == 1


def test_a_worker_that_an_awake_daemon_did_not_complain_of_had_recovered() -> None:
    (early, late) = told(*loops(0, 30, "worker_stalled"), *loops(33, 90), *loops(93, 99, "worker_stalled"))
    assert (early.resolved, early.how) == (at(minutes=30), How.UNREPORTED)
    assert (late.detected, late.resolved) == (at(minutes=93), None)
    (just,) = told(*loops(0, 30, "worker_stalled"), *loops(33, 72), say("worker_stalled", at(minutes=75)))
    assert just.resolved is None, "just as long as the limit is not longer"


def test_sleep_splits_nothing_and_is_unwatched() -> None:
    (incident,) = told(*loops(0, 30, "zombie_detected"), *loops(30 + 24.6 * 60, 26 * 60, "zombie_detected"))
    assert incident.resolved is None
    assert incident.unwatched == timedelta(hours=24.6) - SAME_LOOP, "what is longer than a loop"


def test_a_laptop_that_dozes_off_in_the_middle_of_a_loop_splits_nothing() -> None:
    """So in the real fleet: of two complaints of one loop the second came 16 min later, the next loop 41 min after."""
    first, second = (say("worker_presumed_dead", NOW, f"w-{number}", HEARTBEATS) for number in (1, 2))
    again = [say("worker_presumed_dead", at(minutes=57), f"w-{number}", HEARTBEATS) for number in (1, 2)]
    late = (second[0], second[1]._replace(at=at(minutes=16)))
    assert [each.seen for each in told(first, late, *again)] == [2, 2]


def test_loops_of_a_doze_without_a_complaint_tell_of_recovery_too() -> None:
    dozing = loops(30, 300, every=30)
    assert len(told(say("zombie_detected", NOW), *dozing, say("zombie_detected", at(minutes=330)))) == 2


def test_other_logs_that_go_on_do_not_make_a_sleeping_pm_daemon_awake() -> None:
    others = [say("x", at(minutes=minute), log=HEARTBEATS) for minute in range(0, 600, 5)]
    assert len(told(*loops(0, 30, "zombie_detected"), *others, *loops(600, 630, "zombie_detected"))) == 1


def test_a_log_without_loops_is_measured_by_all_of_them() -> None:
    dead = [say("worker_presumed_dead", at(minutes=minute), log=HEARTBEATS) for minute in (0, 100)]
    assert len(told(*dead)) == 1, "nothing was awake"
    assert len(told(dead[0], *loops(3, 97), dead[1])) == 2
    assert len(told(dead[0], say("worker_presumed_dead", at(days=4), log=HEARTBEATS))) == 2, "no sleep is that long"


@pytest.mark.parametrize(
    ("after", "how"),
    [
        ("checkin_received", How.RECOVERED),
        ("worker_registered", How.RESTARTED),
        ("worker_started", How.RESTARTED),
        ("worker_completed", How.COMPLETED),
        ("zombie_cleanup_completed", How.REMEDIATION),
        ("worker_zombie_cleaned", How.REMEDIATION),
    ],
)
def test_what_ends_a_zombie(after: str, how: How) -> None:
    (incident,) = told(*loops(0, 9, "zombie_detected"), say(after, at(minutes=10)))
    assert (incident.resolved, incident.how) == (at(minutes=10), how)


def test_a_check_in_between_two_stalls_makes_two() -> None:
    stalls = told(
        *loops(0, 9, "worker_stalled"), say("checkin_received", at(minutes=10)), *loops(30, 39, "worker_stalled")
    )
    assert [(each.began, each.detected, each.resolved) for each in stalls] == [
        (NOW, NOW, at(minutes=10)),
        (at(minutes=10), at(minutes=30), None),
    ]
    assert [each.began_known for each in stalls] == [False, True]


def test_a_failure_ends_the_stall_keeps_its_cause_and_is_never_just_forgotten() -> None:
    stall, failure = told(
        *loops(0, 9, "worker_stalled"), say("worker_failed", at(minutes=10), error="boom"), *loops(12, 900)
    )
    assert (stall.how, stall.resolved) == (How.SUPERSEDED, at(minutes=10))
    assert (failure.kind, failure.cause, failure.resolved) == (Kind.FAILED, "boom", None)


def test_a_clean_up_whose_zombie_was_lost_still_counts_as_one() -> None:
    (incident,) = told(
        say("zombie_process_terminated", NOW, log=CLEANUPS),
        say("zombie_cleanup_completed", NOW, log=CLEANUPS),
        say("zombie_cleanup_completed", at(seconds=2), log="coordination/dashboard-events.jsonl"),
    )
    assert (incident.kind, incident.how, incident.resolved) == (Kind.ZOMBIE, How.REMEDIATION, NOW)


def test_ids_are_reused_and_a_record_belongs_to_the_newest_run_before_it() -> None:
    runs = [RunFacts("old", NOW, at(minutes=5), timedelta(minutes=60)), RunFacts("new", at(hours=9), None, None)]
    records = [
        say("timeout_exceeded", at(hours=-1)),
        *loops(70, 79, "timeout_exceeded"),
        say("timeout_exceeded", at(hours=10)),
    ]
    unknown, old, new = settled(fold(records, newest_before({"w-1": runs})))
    assert (unknown.run, unknown.how, unknown.resolved) == ("", How.REPLACED, NOW)
    assert (old.run, old.began, old.began_known) == ("old", at(minutes=65), True)
    assert (old.how, old.resolved) == (How.REPLACED, at(hours=9))
    assert (new.run, new.resolved) == ("new", None)


def test_the_wrong_ages_of_the_pm_daemon_are_not_believed() -> None:
    (incident,) = told(say("worker_stalled", NOW, minutes_since_checkin=29_376_940))
    assert (incident.began, incident.began_known) == (NOW, False)


def test_a_warning_tells_when_the_silence_began() -> None:
    (incident,) = told(
        say("heartbeat_warning", NOW),
        say("heartbeat_critical", at(minutes=1)),
        say("worker_presumed_dead", at(minutes=2)),
    )
    assert (incident.began, incident.detected) == (NOW, at(minutes=2))


def test_a_failure_without_a_time_or_from_the_future_is_kept_once() -> None:
    records = [say("pm_started", NOW), say("worker_failed", None), say("worker_failed", at(days=400), "w-2")]
    past = fold([*records, *records], NOWHERE, now=NOW)
    assert [(each.worker_id, each.detected) for each in settled(past)] == [("w-1", NOW), ("w-2", NOW)]


def test_what_is_over_can_be_let_go_and_does_not_come_back() -> None:
    records = [*loops(0, 9, "zombie_detected"), say("worker_completed", at(minutes=10)), *loops(12, 60)]
    past = fold([*records, say("worker_failed", at(minutes=9), "w-2")], NOWHERE)
    past.forget(at(minutes=30))
    assert list(past.subjects) == ["w-2"], "a failure lasts"
    assert [each.worker_id for each in settled(fold(records[:4], NOWHERE, past))] == ["w-2"]


# --- for any log ------------------------------------------------------------------------------------------------------

RUNS = {"w-1": [RunFacts("a", at(hours=2)), RunFacts("b", at(hours=7), at(hours=7.5), timedelta(hours=1))]}
LOOKUP = newest_before(RUNS)
kinds = st.sampled_from([*RECORDS, "pm_loop_completed", "pm_loop_completed", "pm_started", "system_ERROR"])
record = st.builds(
    lambda kind, second, worker, log: say(kind, at(seconds=second), worker, log, error="boom"),
    kinds,
    st.integers(0, 36_000) | st.integers(0, 600),
    st.sampled_from(["w-1", "w-2"]),
    st.sampled_from([PM_LOG, HEARTBEATS]),
)
logs = st.lists(record, max_size=60).map(lambda found: sorted(found, key=lambda each: each[1].at))


def covered(records: Iterable[tuple[str, LogRecord]], incidents: list[Incident]) -> None:
    """Every complaint lies in an incident of its run: of its own kind, or of the graver one that it turned into."""
    for _, each in records:
        kind = RECORDS[each.type].kind if each.type in RECORDS and each.worker_id else None
        facts = LOOKUP(each.worker_id, each.at) if each.at else None
        if kind is None or each.at is None:
            continue
        graver = {kind, Kind.ZOMBIE} if kind is Kind.STALLED else {kind}
        slack = timedelta() if kind is Kind.FAILED else timedelta(minutes=5)
        assert any(
            incident.kind in graver
            and (incident.worker_id, incident.run) == (each.worker_id, facts.run if facts else "")
            and incident.detected <= each.at <= (incident.resolved or each.at) + slack
            for incident in incidents
        ), each


@settings(max_examples=150, deadline=None)
@given(logs, st.data())
def test_folding_does_not_depend_on_the_batch_size(records: list[tuple[str, LogRecord]], data: st.DataObject) -> None:
    whole = fold(records, LOOKUP)
    past, rest = Past(), records
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        past, rest = stored(fold(rest[:size], LOOKUP, past)), rest[size:]
    assert settled(past) == settled(whole)
    assert past.as_json() == whole.as_json()


@settings(max_examples=150, deadline=None)
@given(logs, st.integers(0, 60))
def test_folding_again_changes_nothing(records: list[tuple[str, LogRecord]], again: int) -> None:
    past = fold(records, LOOKUP)
    before = settled(past)
    assert settled(fold(records[again:], LOOKUP, stored(past))) == before
    assert settled(fold(records, LOOKUP, fold(records, LOOKUP, past))) == before


@settings(max_examples=150, deadline=None)
@given(logs, st.randoms(use_true_random=False))
def test_folding_does_not_depend_on_a_little_disorder(records: list[tuple[str, LogRecord]], random) -> None:  # type: ignore[no-untyped-def]
    jitter = LATENESS.total_seconds() - 1
    disordered = sorted(records, key=lambda each: each[1].at.timestamp() + random.uniform(0, jitter))  # type: ignore[union-attr]
    assert settled(fold(disordered, LOOKUP)) == settled(fold(records, LOOKUP))


@settings(max_examples=300, deadline=None)
@given(st.lists(record, max_size=60))
def test_no_failure_is_lost_in_whatever_order_they_come(records: list[tuple[str, LogRecord]]) -> None:
    incidents = settled(fold(records, LOOKUP))
    covered(records, incidents)
    assert all(each.began <= each.detected <= (each.resolved or each.detected) for each in incidents)


def test_the_limit_is_longer_than_any_loop_that_was_seen_and_shorter_than_any_sleep() -> None:
    assert timedelta(minutes=35) < REPEATED_WITHIN < timedelta(hours=1)
