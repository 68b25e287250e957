"""Incidents on real files: from the verdicts as they change, and out of the logs at the first poll."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from workers.coordination.records import HealthAlerts
from workers.cycle import Cycle, Interrupted
from workers.health import Health
from workers.incidents import How, Kind
from workers.models import (
    Change,
    Event,
    EventCount,
    Fold,
    HealthChange,
    Incident,
    Limit,
    Mark,
    Poller,
    PollerGap,
    Silence,
    Worker,
)

from . import factories
from .conftest import Home, iso
from .repairs import Workshop

pytestmark = pytest.mark.django_db
PM = "coordination/pm-activity.jsonl"
BEATS = "coordination/events/heartbeat-events.jsonl"
DAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


def started(home: Home, host: str = "host-a", **more: Any) -> Cycle:
    cycle = Cycle(home.path, host, 2.0, **more)
    cycle.start(now())
    return cycle


def poll(home: Home) -> None:
    cycle = started(home)
    cycle.run_once(now())
    cycle.folds.remember(now())


def told() -> list[tuple[str, str, str]]:
    """Every incident: whose, of which kind, how it ended ("" where it lasts)."""
    return list(Incident.objects.order_by("detected", "pk").values_list("worker_id", "kind", "how"))


def line(kind: str, at: datetime, worker_id: str = "", **data: Any) -> str:
    return json.dumps({"timestamp": iso(at), "event": kind, "worker_id": worker_id, "data": data}) + "\n"


def loops(worker_id: str, *kinds: str, since: datetime = DAY, minutes: int = 60) -> str:
    """What a PM daemon that loops every three minutes writes of a dead worker."""
    text = ""
    for minute in range(0, minutes, 3):
        at = since + timedelta(minutes=minute)
        text += "".join(line(kind, at, worker_id) for kind in kinds) + line("pm_loop_completed", at)
    return text


@pytest.fixture
def sleeper(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the worker's own directory, as a headless worker has."""
    directory = home.path / "agents" / "workers" / "w-1"
    directory.mkdir(parents=True)
    process = subprocess.Popen(["sleep", "600"], cwd=directory)
    yield process
    process.kill()
    process.wait()


def beat(home: Home, cycle: Cycle, at: datetime) -> None:
    """A heartbeat of a time to come, as the file's own time says, too; and a look at that moment."""
    path = home.write("agents/workers/w-1/heartbeat.json", json.dumps({"timestamp": at.isoformat()}))
    os.utime(path, (at.timestamp(), at.timestamp()))
    cycle.run_once(at + timedelta(seconds=1))


# --- live -------------------------------------------------------------------------------------------------------------


def test_a_crash_opens_an_incident_and_the_end_in_its_spec_closes_it(
    home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    home.spec()
    cycle = started(home)
    cycle.run_once(now())
    assert told() == []
    sleeper.kill()
    sleeper.wait()
    seen = now()
    cycle.run_once(seen)
    crash = Incident.objects.get()
    assert (crash.kind, crash.detected, crash.began, crash.resolved) == (Kind.CRASHED, seen, seen, None)
    assert str(sleeper.pid) in crash.cause
    assert Change.objects.filter(kind=Change.Kind.INCIDENT, key=crash.pk).exists()
    home.spec(status="completed", execution__completed_at=iso(now()))
    cycle.run_once(now())
    assert told() == [("w-1", "crashed", How.COMPLETED)]


def test_a_stall_is_detected_late_and_ends_by_itself(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    began = now() - timedelta(seconds=1)
    home.spec(execution__started_at=iso(began), resources__time_limit_minutes=600)
    cycle = started(home)
    cycle.run_once(now())
    cycle.run_once(began + timedelta(minutes=16))
    (stall,) = Incident.objects.all()
    assert stall.kind == Kind.STALLED
    assert abs(stall.began - began) < timedelta(seconds=2), "the silence began with its start"
    assert stall.detected == began + timedelta(minutes=16)
    beat(home, cycle, began + timedelta(minutes=17))
    assert told() == [("w-1", "stalled", How.RECOVERED)]


def test_over_its_limit_is_an_incident_beside_the_others(home: Home) -> None:
    home.spec(resources__time_limit_minutes=2)
    poll(home)
    assert sorted(kind for _, kind, _ in told()) == ["overdue", "zombie"]
    overdue = Incident.objects.get(kind=Kind.OVERDUE)
    spec_start = home.made_at.replace(microsecond=0) - timedelta(minutes=5)
    assert overdue.began == spec_start + timedelta(minutes=2)


def test_a_poller_that_starts_again_opens_nothing_twice(home: Home) -> None:
    home.spec()
    poll(home)
    before = list(Incident.objects.values())
    poll(home)
    assert list(Incident.objects.values()) == before


def test_what_nobody_watched_of_it_is_noted_at_its_end(home: Home) -> None:
    home.spec()
    poll(home)
    at = now()
    Incident.objects.update(began=at - timedelta(hours=4), detected=at - timedelta(hours=4))
    PollerGap.objects.create(host="host-a", began=at - timedelta(hours=9), ended=at - timedelta(hours=3))
    home.spec(status="failed")
    poll(home)
    zombie = Incident.objects.get(kind=Kind.ZOMBIE)
    assert zombie.unwatched_seconds == pytest.approx(3600, abs=5)


def test_a_failure_that_lay_in_an_archive_is_dated_to_its_end_and_waits_for_nobody(home: Home) -> None:
    home.spec(directory="archived", status="failed", execution__completed_at="2026-01-05T10:00:00Z", error="boom")
    home.spec("w-2", directory="failed", status="failed", execution__completed_at="2026-01-05T11:00:00Z")
    poll(home)
    assert told() == [("w-1", "failed", How.ARCHIVED), ("w-2", "failed", "")]
    first = Incident.objects.get(worker_id="w-1")
    assert (first.detected, first.resolved, first.cause) == (DAY + timedelta(hours=1), DAY + timedelta(hours=1), "boom")
    path = home.specs / "failed" / "w-2.json"
    path.rename(home.specs / "archived" / "w-2.json")
    poll(home)
    assert told()[1] == ("w-2", "failed", How.ARCHIVED)


@pytest.mark.parametrize("first", ["failed", "completed"])
def test_a_failure_is_resolved_when_a_later_run_does_its_task(home: Home, first: str) -> None:
    """In whichever order they are seen, and also when the task is one that was to do it again."""

    def fail() -> None:
        home.spec(directory="failed", status="failed", execution__completed_at="2026-01-05T10:00:00Z", task_id="t-1")

    def complete() -> None:
        home.spec(
            "w-2",
            directory="completed",
            status="completed",
            execution__completed_at="2026-01-05T12:00:00Z",
            task_id="t-2",
            task_data={"metadata": {"retry_of": "t-1"}},
        )

    fail()
    if first == "failed":
        poll(home)
        assert told() == [("w-1", "failed", "")]
    complete()
    poll(home)
    assert told() == [("w-1", "failed", How.COMPLETED)]
    assert Incident.objects.get().resolved == datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_a_clean_up_resolves_the_zombie_by_name_and_is_no_failure_of_its_own(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.cycle()
    (zombie,) = Incident.objects.filter(kind=Kind.ZOMBIE)
    remediation = workshop.repair("clean-up")
    workshop.cycle()
    zombie.refresh_from_db()
    assert (zombie.how, zombie.remediation) == (How.REMEDIATION, remediation)
    assert not Incident.objects.filter(kind=Kind.FAILED).exists()


def test_a_recovered_task_resolves_the_failure(workshop: Workshop) -> None:
    workshop.home.spec(directory="failed", status="failed", task_data={"description": "Do it"})
    workshop.cycle()
    assert told() == [("w-1", "failed", "")]
    remediation = workshop.repair("recover-task")
    failure = Incident.objects.get()
    assert (failure.how, failure.remediation) == (How.REMEDIATION, remediation)


# --- out of the logs --------------------------------------------------------------------------------------------------


def test_repeated_lines_become_a_few_incidents_marked_as_read_from_the_log(home: Home) -> None:
    home.spec("w-9", directory="completed", status="completed", created_at=iso(DAY - timedelta(hours=1)))
    home.append(PM, loops("w-9", "worker_stalled", "timeout_exceeded", "zombie_detected", minutes=3000))
    poll(home)
    kinds = Incident.objects.filter(from_log=True).values_list("kind", "seen", "run__worker_id")
    assert sorted(kinds) == [("overdue", 1000, "w-9"), ("zombie", 1000, "w-9")]
    assert Event.objects.count() == 4000


def test_records_of_several_logs_are_folded_in_order_of_time(home: Home) -> None:
    """The zombie log is read behind the other, and yet lies in its midst."""
    home.append(PM, loops("w-9", "worker_stalled", minutes=30) + loops("x", since=DAY + timedelta(minutes=90)))
    home.append(BEATS, line("checkin_received", DAY + timedelta(minutes=10), "w-9"))
    poll(home)
    stalls = Incident.objects.filter(worker_id="w-9", kind=Kind.STALLED).order_by("detected")
    assert [(each.how, each.resolved) for each in stalls] == [
        (How.RECOVERED, DAY + timedelta(minutes=10)),
        (How.UNREPORTED, DAY + timedelta(minutes=27)),
    ]


def test_what_is_seen_live_stands_for_what_the_log_says_of_it(home: Home) -> None:
    created = now() - timedelta(hours=3)
    home.spec(created_at=iso(created), execution__started_at=iso(created), resources__time_limit_minutes=600)
    told_at = (now() - timedelta(hours=2)).replace(microsecond=0)
    home.append(PM, loops("w-1", "zombie_detected", since=told_at))
    poll(home)
    (zombie,) = Incident.objects.all()
    assert (zombie.from_log, zombie.detected) == (False, told_at), "noticed when the first of both noticed it"
    home.append(PM, loops("w-1", "zombie_detected", since=now() - timedelta(minutes=3), minutes=2))
    poll(home)
    assert Incident.objects.count() == 1


def test_what_people_said_of_a_logged_incident_goes_over_to_the_live_one(home: Home) -> None:
    created = now() - timedelta(hours=3)
    path = home.spec(created_at=iso(created), status="pending", execution__started_at=None)
    home.append(PM, loops("w-1", "zombie_detected", since=now() - timedelta(hours=2)))
    poll(home)
    Incident.objects.update(acknowledged=now(), acknowledged_by="kim", acknowledged_reason="known", note="see #7")
    path.unlink()
    home.spec(created_at=iso(created), execution__started_at=iso(created), resources__time_limit_minutes=600)
    poll(home)
    (zombie,) = Incident.objects.all()
    assert (zombie.from_log, zombie.acknowledged_by, zombie.note) == (False, "kim", "see #7")


def test_the_newest_records_wait_a_minute_for_older_ones_and_are_then_told(home: Home) -> None:
    at = now().replace(microsecond=0)
    home.append(PM, line("worker_failed", at, "w-9"))
    cycle = started(home)
    cycle.run_once(at + timedelta(seconds=1))
    assert told() == []
    cycle.run_once(at + timedelta(seconds=61))
    assert told() == [("w-9", "failed", "")]


def test_reading_on_goes_on_where_it_was_left_whatever_was_remembered(home: Home) -> None:
    text = loops("w-9", "worker_stalled", minutes=200).splitlines(keepends=True)
    cut = random.Random(3).sample(range(len(text)), 6)
    whole = Home(home.path.with_name("whole"))
    whole.append(PM, "".join(text))
    began = 0
    cycle = started(home)
    for number, end in enumerate([*sorted(cut), len(text)]):
        home.append(PM, "".join(text[began:end]))
        began = end
        cycle.run_once(now())
        if number % 3 == 1:
            cycle.folds.remember(now())
        if number % 2:
            cycle = started(home)
    other = started(whole, "host-b")
    other.run_once(now())
    columns = ("worker_id", "kind", "began", "detected", "resolved", "how", "seen", "number")
    here, there = (list(Incident.objects.filter(host=host).values_list(*columns)) for host in ("host-a", "host-b"))
    assert here == there
    assert len(here) == 1


def test_a_first_pass_that_was_interrupted_is_done_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        home.append(PM, loops(f"w-{number}", "worker_failed", minutes=3, since=DAY + timedelta(minutes=number)))
    cycle = started(home)
    monkeypatch.setattr("workers.fold_store.ROWS_AT_ONCE", 10)
    save, saved = cycle.folds._save_part, []

    def once(*arguments: Any) -> None:
        if saved:
            raise Interrupted
        saved.append(save(*arguments))

    monkeypatch.setattr(cycle.folds, "_save_part", once)
    with pytest.raises(Interrupted):
        cycle.run_once(now())
    assert Incident.objects.count() == 10
    poll(home)
    assert Incident.objects.count() == 30
    assert not Fold.objects.get().state.startswith("{}")


def test_what_is_too_much_to_hold_is_read_from_the_database(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.append(PM, loops("w-9", "zombie_detected", minutes=300))
    monkeypatch.setattr("workers.fold_store.MOST_HELD", 10)
    poll(home)
    assert list(Incident.objects.values_list("kind", "seen")) == [("zombie", 100)]


def test_an_old_log_that_is_put_back_brings_its_failures_and_nothing_twice(home: Home) -> None:
    home.append(PM, loops("w-9", "zombie_detected", since=DAY))
    poll(home)
    later = DAY + timedelta(days=20)
    home.append(PM, loops("w-8", "zombie_detected", since=later))
    poll(home)
    home.append(BEATS, line("zombie_detected", DAY + timedelta(minutes=5), "w-9") + line("worker_failed", DAY, "w-7"))
    poll(home)
    assert sorted((worker, kind) for worker, kind, _ in told()) == [
        ("w-7", "failed"),
        ("w-8", "zombie"),
        ("w-9", "zombie"),
    ]


def test_hostile_records_are_words_and_nothing_else(home: Home) -> None:
    odd = ["<script>alert(1)</script>", "x" * 300, "../../etc", "", "\x00"]
    for name in odd:
        home.append(PM, json.dumps({"timestamp": iso(DAY), "event": "worker_failed", "worker_id": name}) + "\n")
    home.append(PM, '{"timestamp": "9999-01-01T00:00:00Z", "event": "worker_failed", "worker_id": "w-1", "data": 5}\n')
    poll(home)
    assert Incident.objects.filter(worker_id="<script>alert(1)</script>").exists()
    assert Incident.objects.filter(worker_id="w-1", kind=Kind.FAILED).count() == 1


# --- what explains it -------------------------------------------------------------------------------------------------


def test_starts_of_the_pm_daemon_are_marked_once_whichever_file_tells(home: Home) -> None:
    home.append(PM, line("pm_started", DAY) + line("pm_started", DAY + timedelta(hours=5)))
    home.write(
        "coordination/pm-state.json",
        json.dumps({"pm_daemon": {"pid": 1, "started_at": iso(DAY + timedelta(hours=5, seconds=2))}}),
    )
    poll(home)
    poll(home)
    starts = Mark.objects.filter(kind=Mark.Kind.PM_START).order_by("at").values_list("at", flat=True)
    assert [round((at - DAY).total_seconds() / 3600) for at in starts] == [0, 5]


def test_a_changed_limit_is_marked_and_the_first_is_none(home: Home) -> None:
    cycle = started(home)
    cycle.run_once(now())
    assert not Mark.objects.exists()
    Limit.objects.create(name="late_after", seconds=720)
    cycle.run_once(now() + timedelta(seconds=5))
    cycle.run_once(now() + timedelta(seconds=8))
    assert list(Mark.objects.values_list("kind", "text")) == [("limit", "late after 10 min → 12 min")]


def test_targets_come_from_the_fleets_alerts(home: Home) -> None:
    cycle = started(home)
    cycle.run_once(now())
    assert Poller.objects.get().targets == {}
    odd = {"critical": 15, "high": 30.5, "low": "soon", "never": -1, "x": True}
    path = home.write("coordination/health-alerts.json", json.dumps({"sla_config": odd, "alerts": []}))
    cycle.run_once(now(), paths={str(path)})
    cycle.run_once(now())
    assert Poller.objects.get().targets == {"critical": 15, "high": 30.5}
    home.write("coordination/health-alerts.json", "{")
    cycle.run_once(now() + timedelta(minutes=1))
    assert Poller.objects.get().targets == {"critical": 15, "high": 30.5}, "what it said last still holds"
    path.unlink()
    cycle.run_once(now())
    assert Poller.objects.get().targets == HealthAlerts().targets


def test_silences_that_ended_are_counted_by_type_and_minute(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    began = now().replace(microsecond=0)
    home.spec(execution__started_at=iso(began))
    cycle = started(home)

    for minute in (0.1, 0.5, 3.5, 4):
        beat(home, cycle, began + timedelta(minutes=minute))
    assert not Silence.objects.exists(), "between two looks so far apart nobody listened"
    beat(home, cycle, began + timedelta(seconds=242))
    for second in range(245, 500, 2):
        cycle.run_once(began + timedelta(seconds=second))
    for minute in (8.35, 8.4):
        beat(home, cycle, began + timedelta(minutes=minute))
    kept = list(Silence.objects.values_list("worker_type", "minutes", "count"))
    assert kept == [("implementation-worker", 4, 1)]


# --- what is pruned ---------------------------------------------------------------------------------------------------


def test_events_stored_too_long_ago_go_and_what_was_made_of_them_stays(home: Home) -> None:
    home.spec("w-9", directory="failed", status="failed")
    home.append(PM, loops("w-8", "zombie_detected", minutes=30))
    cycle = started(home, events_kept=timedelta(days=90))
    cycle.run_once(now())
    counted, incidents = EventCount.objects.count(), Incident.objects.count()
    Event.objects.filter(pk__lte=Event.objects.order_by("pk")[14].pk).update(stored_at=now() - timedelta(days=91))
    cycle = started(home)
    cycle.run_once(now())
    assert Event.objects.count() == 5, "however old what it tells of is, it goes by when it was stored"
    assert (EventCount.objects.count(), Incident.objects.count()) == (counted, incidents)
    assert HealthChange.objects.filter(new=Health.FAILED).exists()
    poll(home)
    assert Incident.objects.count() == incidents


def test_pruning_many_holds_the_lock_for_a_moment_only(home: Home) -> None:
    home.append(PM, loops("w-8", "zombie_detected", minutes=30))
    poll(home)
    log = Event.objects.first()
    assert log is not None
    old = now() - timedelta(days=100)
    Event.objects.all().delete()
    Event.objects.bulk_create(
        Event(log=log.log, generation=0, offset=number, at=old, stored_at=old, data="{}") for number in range(3_000)
    )
    cycle = started(home)
    longest = 0.0
    with connection.execute_wrapper(lambda execute, *arguments: _timed(execute, arguments)):
        cycle.store.prune(now(), timedelta(days=90))
    longest = max(_SECONDS)
    assert not Event.objects.exists()
    assert longest < 2, "each statement by itself, and there are many of them"
    assert len(_SECONDS) > 6


_SECONDS: list[float] = []


def _timed(execute: Any, arguments: Any) -> Any:
    began = time.perf_counter()
    try:
        return execute(*arguments)
    finally:
        _SECONDS.append(time.perf_counter() - began)


def test_a_run_in_trouble_of_another_host_is_nobody_elses(home: Home) -> None:
    other = factories.add(Health.ZOMBIE, host="host-b")
    home.spec()
    poll(home)
    assert set(Incident.objects.values_list("host", flat=True)) == {"host-a"}
    assert Worker.objects.get(pk=other.pk).health == Health.ZOMBIE
