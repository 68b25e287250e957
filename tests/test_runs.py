"""Runs, not ids: which file is which run, through moves, copies, damage and restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from workers.coordination.records import CheckIn, FileStamp, Other, PmEntry, Problem, Sign, Spec, SpecSeen
from workers.health import Health, Limits, judge
from workers.runs import Roster, Run, RunKey, directory_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CREATED = NOW - timedelta(hours=1)
_stamps = count(1)


def file(directory: str, name: str = "w-1", **spec: object) -> SpecSeen:
    values: dict[str, object] = {"worker_id": "w-1", "created_at": CREATED, "status": "running", **spec}
    return at(f"coordination/worker-specs/{directory}/{name}.json", Spec(**values))  # type: ignore[arg-type]


def at(path: str, content: Spec | Problem | Other) -> SpecSeen:
    number = next(_stamps)
    return SpecSeen(path, FileStamp(number, 1, number, number), content)


@pytest.fixture
def roster() -> Roster:
    return Roster()


def only(roster: Roster) -> Run:
    (run,) = roster.runs.values()
    return run


def test_a_file_that_moves_stays_the_same_run(roster: Roster) -> None:
    (run,) = roster.place(file("active"), NOW)
    moved = file("failed", status="failed")
    roster.place(moved, NOW)
    roster.remove(["coordination/worker-specs/active/w-1.json"])
    assert only(roster) is run
    assert run.file is moved
    assert not run.live
    assert not list(roster.of_id("w-1"))


def test_a_reused_id_is_another_run(roster: Roster) -> None:
    roster.place(file("archived", created_at=CREATED - timedelta(days=9)), NOW)
    roster.place(file("active"), NOW)
    assert len(roster.runs) == 2
    (live,) = roster.of_id("w-1")
    assert live.spec is not None
    assert live.spec.created_at == CREATED


def test_the_same_run_in_two_places_is_live_if_one_is_active(roster: Roster) -> None:
    roster.place(file("active"), NOW)
    roster.place(file("failed", status="failed"), NOW)
    run = only(roster)
    assert run.live
    assert run.file is not None
    assert directory_of(run.file.path) == "active"


def test_a_live_file_that_is_torn_stays_that_run(roster: Roster) -> None:
    (run,) = roster.place(file("active"), NOW)
    roster.place(at("coordination/worker-specs/active/w-1.json", Problem("Not JSON: it ends early", 3, 1)), NOW)
    assert only(roster) is run
    assert judge(run.observe(None), NOW, Limits()).health is Health.UNREADABLE
    roster.place(file("active"), NOW)
    assert judge(run.observe(None), NOW, Limits()).health is Health.ZOMBIE


def test_an_unreadable_file_that_is_repaired_keeps_its_row(roster: Roster) -> None:
    (run,) = roster.place(at("coordination/worker-specs/active/w-1.json", Problem("Not JSON", 1, 1)), NOW)
    run.pk = 7
    (same,) = roster.place(file("active"), NOW)
    assert same is run
    assert same.key == RunKey("w-1", CREATED.isoformat())
    assert only(roster).pk == 7


def test_an_unreadable_file_is_the_run_that_its_reading_names(roster: Roster) -> None:
    reading = Spec("w-1", CREATED, status="pending")
    roster.place(at("coordination/worker-specs/active/x.json", Problem("a hole", 1, 1, reading=reading)), NOW)
    assert only(roster).key == RunKey("w-1", CREATED.isoformat())


def test_a_file_that_becomes_something_else_leaves_its_run(roster: Roster) -> None:
    (run,) = roster.place(file("active"), NOW)
    assert roster.place(at("coordination/worker-specs/active/w-1.json", Other("a list")), NOW) == [run]
    assert run.file is None
    assert not run.live


def test_a_restart_begins_a_new_attempt_that_inherits_nothing(roster: Roster) -> None:
    started = NOW - timedelta(minutes=30)
    (run,) = roster.place(file("active", started_at=started), NOW)
    run.memory = run.memory.__class__(attempt_began=started, first_seen_at=NOW, seen_alive_at=NOW, pid=4711)
    roster.place(file("active", status="pending", started_at=None), NOW)
    assert (run.memory.attempt, run.memory.seen_alive_at) == (2, None)
    again = NOW + timedelta(seconds=5)
    roster.place(file("active", started_at=again), again)
    assert (run.memory.attempt, run.memory.attempt_began) == (2, again)


def test_the_first_start_is_the_first_attempt(roster: Roster) -> None:
    (run,) = roster.place(file("active", status="pending"), NOW)
    roster.place(file("active", started_at=NOW), NOW)
    assert run.memory.attempt == 1


def test_what_is_older_than_the_run_is_not_its_own(roster: Roster) -> None:
    (run,) = roster.place(file("active", checkins=(Sign(CREATED + timedelta(minutes=3), "spec"),)), NOW)
    run.pm = PmEntry("w-1", last_checkin=CREATED - timedelta(minutes=2))
    run.checkin = CheckIn("w-1", CREATED - timedelta(seconds=30), "file")
    assert [sign.source for sign in run.checkins()] == ["spec", "file"], "a minute of tolerance, and no more"


def test_the_first_progress_is_no_sign_of_life_and_a_change_is(roster: Roster) -> None:
    (run,) = roster.place(file("active", progress_pct=40.0), NOW)
    run.note_progress(NOW)
    assert (run.memory.progress_pct, run.memory.progress_changed_at) == (40.0, None)
    roster.place(file("active", progress_pct=50.0), NOW)
    run.note_progress(NOW)
    assert run.memory.progress_changed_at == NOW


def test_what_ended_before_anybody_looked_is_dated_to_its_end(roster: Roster) -> None:
    ended = NOW - timedelta(days=3)
    (run,) = roster.place(file("completed", status="completed", ended_at=ended), NOW)
    run.settle(judge(run.observe(None), NOW, Limits()), NOW)
    assert run.health_since == ended
