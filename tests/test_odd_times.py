"""What a cycle must not believe, and what it must not lose: odd times, odd names, directories that come and go."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from workers import crosscheck
from workers.coordination.files import moment_of
from workers.coordination.records import FileStamp
from workers.cycle import Cycle, Interrupted
from workers.health import Health
from workers.ingest import Store
from workers.models import Finding, HealthChange, Poller, PollerGap, Worker

from .conftest import Home, iso

pytestmark = pytest.mark.django_db


def now() -> datetime:
    return datetime.now(UTC)


def begin(home: Home) -> Cycle:
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(now())
    return cycle


def run(home: Home) -> None:
    """What one poller does that starts, looks twice and ends."""
    cycle = begin(home)
    cycle.run_once(now())
    cycle.run_once(now())


@contextmanager
def sleeper_of(home: Home, worker_id: str) -> Iterator[int]:
    """A process in the worker's own directory, as a headless worker has."""
    directory = home.path / "agents" / "workers" / worker_id
    directory.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"], cwd=directory) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_missing_directory_is_no_departure_for_a_poller_that_starts(home: Home) -> None:
    home.spec("w-1", status="pending", execution__started_at=None)
    run(home)
    away = home.specs.rename(home.specs.with_name("away"))
    last = Poller.objects.get().last_cycle_at
    cycle = begin(home)
    for _ in range(3):
        assert "holds no coordination/worker-specs" in cycle.run_once(now()).error
    assert Worker.objects.get().health == Health.PENDING
    assert Worker.objects.get().live
    assert Poller.objects.get().last_cycle_at == last, "nobody has seen the directory since"
    away.rename(home.specs)
    cycle.run_once(now())
    assert [change.new for change in HealthChange.objects.all()] == [Health.PENDING]


@pytest.mark.parametrize("hours", [0, 1, 100])
def test_a_start_that_is_yet_to_come_makes_nobody_healthy_for_ever(home: Home, hours: int) -> None:
    home.spec("w-1", execution__started_at="2099-01-01T00:00:00Z")
    cycle = begin(home)
    cycle.run_once(now())
    cycle.run_once(now() + timedelta(hours=hours, minutes=2))
    assert Worker.objects.get().health == Health.ZOMBIE


def test_a_checkin_that_is_yet_to_come_counts_as_made_when_it_was_written(home: Home) -> None:
    path = home.spec("w-1", heartbeat={"last_heartbeat": "2099-01-01T00:00:00Z"}, execution__started_at=iso(now()))
    with sleeper_of(home, "w-1"):
        cycle = begin(home)
        cycle.run_once(now())
        worker = Worker.objects.get()
        assert worker.last_checkin_at is not None
        assert abs(worker.last_checkin_at.timestamp() - path.stat().st_mtime) < 1
        cycle.run_once(now() + timedelta(minutes=20))
        assert Worker.objects.get().health == Health.STALLED


def test_a_creation_that_is_yet_to_come_does_not_disown_a_living_worker(home: Home) -> None:
    home.spec("w-1", created_at=(now() + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S"))
    with sleeper_of(home, "w-1") as pid:
        run(home)
        assert Worker.objects.get().pid == pid


def test_a_spec_that_gains_a_creation_time_stays_the_same_run(home: Home) -> None:
    home.spec("w-1", created_at=None)
    with sleeper_of(home, "w-1"):
        cycle = begin(home)
        cycle.run_once(now())
        first = Worker.objects.get()
        home.spec("w-1")
        cycle.run_once(now())
        cycle.run_once(now())
    assert Worker.objects.get().pk == first.pk


def test_a_repaired_file_whose_name_is_not_its_id_gets_the_id_that_it_says(home: Home) -> None:
    path = home.write("coordination/worker-specs/active/odd-name.json", '{"worker_id": "r-2", "status": ')
    cycle = begin(home)
    cycle.run_once(now())
    assert Worker.objects.get().worker_id == "odd-name"
    path.unlink()
    home.spec("r-2", name="odd-name", status="pending", execution__started_at=None)
    cycle.run_once(now())
    assert Worker.objects.get().worker_id == "r-2"
    run(home)
    assert Worker.objects.get().worker_id == "r-2"


def test_a_backup_of_active_begins_no_attempt(home: Home) -> None:
    home.spec("w-1")
    home.spec("w-1", directory="active-backup", status="pending", execution__started_at=None)
    for _ in range(3):
        run(home)
    assert Worker.objects.get().attempt == 1


def test_what_the_pm_says_of_an_earlier_attempt_is_not_about_this_one(home: Home) -> None:
    began = now() - timedelta(minutes=20)
    entry = {"worker_id": "w-1", "started_at": iso(began), "last_checkin": iso(began), "progress_pct": 40}
    home.pm(w_1={**entry, "health_state": "stalled"})
    home.spec("w-1", created_at=iso(began), execution__started_at=iso(began))
    cycle = begin(home)
    cycle.run_once(now())
    assert Worker.objects.get().pm_health == "stalled"
    home.spec("w-1", created_at=iso(began), execution__started_at=iso(now()), progress_pct=0)
    cycle.run_once(now())
    worker = Worker.objects.get()
    assert (worker.attempt, worker.pm_health, worker.pm_disagrees, worker.progress_pct) == (2, "", False, 0)


def test_a_checkin_from_before_the_start_is_none(home: Home) -> None:
    old = iso(now() - timedelta(minutes=90))
    home.spec("w-1", created_at=old, heartbeat={"last_heartbeat": old})
    run(home)
    assert Worker.objects.get().last_checkin_at is None


def test_a_status_file_without_a_time_is_as_old_as_its_file(home: Home) -> None:
    home.spec("w-1")
    status = home.write("agents/workers/w-1/status.json", '{"status": "completed"}')
    os.utime(status, (0, now().timestamp() - 3 * 86400))
    run(home)
    assert Worker.objects.get().health == Health.ZOMBIE


@pytest.mark.parametrize(("seconds", "year"), [(-63_000_000_000, 1970), (1_763_000_000, 2025), (10**12, 9999)])
def test_a_time_that_no_calendar_has_is_cut_off(seconds: int, year: int) -> None:
    """Such times stand on some file systems (tmpfs, network shares), and would end every cycle."""
    assert moment_of(FileStamp(1, 1, seconds * 10**9, 0)).year == year


def test_one_time_without_a_poller_is_one_gap_however_often_a_start_fails() -> None:
    last = now() - timedelta(minutes=5)
    store = Store("host-a", "/srv/relay")
    for minutes in (3, 2, 1):
        store.note_gap(last, now() - timedelta(minutes=minutes), 2.0)
    assert PollerGap.objects.count() == 1


def test_a_copy_that_is_removed_takes_its_finding_along(home: Home) -> None:
    path = home.spec("w-1", status="pending", execution__started_at=None)
    copy = home.specs / "failed" / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    cycle = begin(home)
    cycle.run_once(now())
    assert Finding.objects.filter(kind=Finding.Kind.DUPLICATE).count() == 2
    path.unlink()
    cycle.run_once(now())
    cycle.run_once(now() + crosscheck.AT_LEAST_EVERY)  # by then it looks, however busy this machine is
    assert not Finding.objects.filter(kind=Finding.Kind.DUPLICATE).exists()


def test_a_zombie_does_not_check_in_either(home: Home) -> None:
    home.spec("w-1", execution__started_at=iso(now() - timedelta(hours=9)), created_at=iso(now() - timedelta(hours=10)))
    run(home)
    assert Worker.objects.get().not_checking_in


def test_a_cycle_is_left_where_somebody_wants_the_poller_to_end(home: Home) -> None:
    home.spec("w-1")
    stopped = threading.Event()
    cycle = Cycle(home.path, "host-a", 2.0, stopped)
    cycle.start(now())
    stopped.set()
    with pytest.raises(Interrupted):
        cycle.run_once(now())
    assert not Worker.objects.exists()
