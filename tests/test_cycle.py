"""The cycle on real files: what comes in on disk is what stands in the database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from workers.cycle import Cycle, Report
from workers.health import Health
from workers.ingest import ForeignHomeError
from workers.models import (
    Change,
    Event,
    Finding,
    HealthChange,
    Limit,
    LogFile,
    Mark,
    Poller,
    PollerGap,
    Worker,
    WorkerDocument,
)

from .conftest import Home, iso
from .running import until

pytestmark = pytest.mark.django_db
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ3b3JrZXIifQ.c2lnbmF0dXJlLW5vdC1yZWFs"


def now() -> datetime:
    return datetime.now(UTC)


def started(home: Home, host: str = "host-a") -> Cycle:
    cycle = Cycle(home.path, host, 2.0)
    cycle.start(now())
    return cycle


def poll(home: Home) -> Report:
    return started(home).run_once(now())


def worker(worker_id: str = "w-1") -> Worker:
    return Worker.objects.get(worker_id=worker_id)


@pytest.fixture
def sleeper(home: Home) -> subprocess.Popen[bytes]:
    """A process in the worker's own directory, as a headless worker has."""
    directory = home.path / "agents" / "workers" / "w-1"
    directory.mkdir(parents=True)
    process = subprocess.Popen(["sleep", "600"], cwd=directory)
    yield process
    process.kill()
    process.wait()


def test_a_running_worker_without_a_process_is_a_zombie(home: Home) -> None:
    home.spec()
    report = poll(home)
    assert (report.specs, report.unreadable, report.other) == (1, 0, 0)
    run = worker()
    assert run.health == Health.ZOMBIE
    assert run.live
    assert run.path == "coordination/worker-specs/active/w-1.json"
    assert "no process" in run.main_reason


def test_a_process_in_its_directory_is_its_life_and_its_end_a_crash(
    home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    home.spec()
    cycle = started(home)
    cycle.run_once(now())
    assert (worker().health, worker().pid) == (Health.HEALTHY, sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    cycle.run_once(now())
    run = worker()
    assert run.health == Health.CRASHED
    assert str(sleeper.pid) in run.main_reason
    assert [change.new for change in HealthChange.objects.filter(worker=run).order_by("id")] == ["healthy", "crashed"]


def test_what_a_poller_saw_alive_the_next_poller_knows(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    home.spec()
    poll(home)
    sleeper.kill()
    sleeper.wait()
    poll(home)
    assert worker().health == Health.CRASHED


def test_a_worker_that_says_how_it_ended_before_it_ends_did_not_crash(
    home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    home.spec()
    cycle = started(home)
    cycle.run_once(now())
    home.write("agents/workers/w-1/status.json", json.dumps({"status": "completed", "timestamp": iso(now())}))
    sleeper.kill()
    sleeper.wait()
    cycle.run_once(now())
    assert worker().health == Health.COMPLETED
    assert not HealthChange.objects.filter(new=Health.CRASHED).exists()


def test_a_restart_begins_a_new_attempt(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    home.spec()
    cycle = started(home)
    cycle.run_once(now())
    sleeper.kill()
    sleeper.wait()
    home.spec(status="pending", execution__started_at=None, created_at=_created(home))
    cycle.run_once(now())
    home.spec(execution__started_at=iso(now()), created_at=_created(home))
    cycle.run_once(now())
    run = worker()
    assert (run.attempt, run.health) == (2, Health.HEALTHY), "what was seen alive belongs to the attempt before"


def _created(home: Home) -> str:
    return json.loads((home.specs / "active" / "w-1.json").read_text())["created_at"]


def test_only_changed_files_are_opened_again(home: Home) -> None:
    for number in range(20):
        home.spec(f"w-{number}")
    cycle = started(home)
    assert cycle.run_once(now()).opened == 20
    assert cycle.run_once(now()).opened == 0
    home.spec("w-3", status="pending")
    assert cycle.run_once(now()).opened == 1


def test_a_wake_up_looks_only_at_its_paths(home: Home) -> None:
    path = home.spec("w-1", status="pending")
    home.spec("w-2", status="pending")
    cycle = started(home)
    cycle.run_once(now())
    home.spec("w-1", status="completed")
    home.spec("w-2", status="completed")
    assert cycle.run_once(now(), paths={str(path)}).opened == 1
    assert (worker("w-1").health, worker("w-2").health) == (Health.COMPLETED, Health.PENDING)


def test_nothing_is_written_when_nothing_changed(home: Home) -> None:
    home.spec()
    cycle = started(home)
    cycle.run_once(now())
    before = Change.objects.count()
    report = cycle.run_once(now())
    assert (report.changed, Change.objects.count()) == (0, before)


def test_a_poller_that_starts_again_writes_nothing_new(home: Home) -> None:
    home.spec()
    home.spec("w-2", directory="completed", status="completed")
    home.append("coordination/pm-activity.jsonl", '{"event":"pm_started","timestamp":"2026-01-01T00:00:00Z"}\n')
    poll(home)
    said = Change.objects.exclude(kind=Change.Kind.PROCESSES)  # others on this host may start what looks like a worker
    changes, history = said.count(), HealthChange.objects.count()
    report = poll(home)
    assert (report.changed, report.events) == (0, 0)
    assert (said.count(), HealthChange.objects.count(), Event.objects.count()) == (changes, history, 1)


def test_time_alone_turns_it_stalled(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    home.spec(execution__started_at=iso(now()))
    cycle = started(home)
    cycle.run_once(now())
    assert worker().health == Health.HEALTHY
    cycle.run_once(now() + timedelta(minutes=10, seconds=5))
    assert worker().health == Health.LATE
    cycle.run_once(now() + timedelta(minutes=15, seconds=5))
    assert worker().health == Health.STALLED


def test_a_check_in_file_counts_though_the_pm_daemon_deletes_it(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    home.spec(execution__started_at=iso(now() - timedelta(minutes=20)))
    cycle = started(home)
    cycle.run_once(now())
    assert worker().health == Health.STALLED
    checkin = home.write(
        "coordination/worker-checkins/w-1-20260301T120000Z.json",
        json.dumps({"worker_id": "w-1", "timestamp": iso(now()), "status": "in_progress", "progress_pct": 60}),
    )
    cycle.run_once(now(), paths={str(checkin)})
    assert (worker().health, worker().progress_pct) == (Health.HEALTHY, 60)
    checkin.unlink()
    cycle.run_once(now())
    assert worker().health == Health.HEALTHY


def test_work_on_a_core_is_a_sign_of_life(home: Home) -> None:
    directory = home.path / "agents" / "workers" / "w-1"
    directory.mkdir(parents=True)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"], cwd=directory)
    try:
        home.spec(execution__started_at=iso(now() - timedelta(minutes=20)))
        cycle = started(home)
        moment = now()
        cycle.run_once(moment)
        assert worker().health == Health.STALLED
        used = psutil.Process(busy.pid).cpu_times().user
        until(lambda: psutil.Process(busy.pid).cpu_times().user > used + 0.3, what="some work")
        cycle.run_once(moment + timedelta(seconds=11))
        run = worker()
        assert run.health == Health.HEALTHY
        assert (run.cpu_percent or 0) > 1
        assert run.rss_bytes
    finally:
        busy.kill()
        busy.wait()


def test_a_pm_entry_of_an_earlier_run_is_not_this_runs(home: Home) -> None:
    home.spec()
    home.pm(w_1={"worker_id": "w-1", "started_at": "2025-11-16T09:00:00-0600", "health_state": "stalled"})
    cycle = started(home)
    cycle.run_once(now())
    assert worker().pm_health == ""
    home.pm(w_1={"worker_id": "w-1", "started_at": iso(now()), "health_state": "healthy"})
    cycle.run_once(now())
    assert (worker().pm_health, worker().pm_disagrees) == ("healthy", True)
    document = WorkerDocument.objects.get(worker__worker_id="w-1")
    assert document.pm_entry["health_state"] == "healthy"


def test_secrets_are_stored_nowhere(home: Home) -> None:
    home.spec(identity__token=TOKEN, context__password="hunter2hunter2", execution__tokens_used=1234)
    home.append(
        "coordination/dashboard-events.jsonl",
        json.dumps({"type": "x", "timestamp": iso(now()), "data": {"api_key": "k-123456789", "note": TOKEN}}) + "\n",
    )
    poll(home)
    stored = json.dumps(
        [
            list(WorkerDocument.objects.values_list("spec", "pm_entry")),
            list(Event.objects.values_list("data")),
            list(Worker.objects.values_list("reasons", "error", "description")),
        ],
        default=str,
    )
    for secret in (TOKEN, "hunter2hunter2", "k-123456789"):
        assert secret not in stored
    assert worker().tokens_used == 1234


def test_every_file_is_accounted_for(home: Home) -> None:
    home.spec()
    home.write("coordination/worker-specs/active/broken.json", '{"worker_id": "broken", "status": ,}')
    home.write("coordination/worker-specs/archived/failed-2025/MANIFEST.json", '{"archived": 33}')
    home.write("coordination/worker-specs/active/latin.json", b'{"worker_id": "\xe9"}')
    report = poll(home)
    assert (report.specs, report.unreadable, report.other) == (1, 2, 1)
    kinds = sorted(Finding.objects.values_list("kind", flat=True))
    assert kinds == ["other", "unreadable", "unreadable"]
    broken = worker("broken")
    assert (broken.health, broken.live, broken.problem_line) == (Health.UNREADABLE, True, 1)


def test_a_finding_goes_when_it_is_mended_and_keeps_its_age_while_not(home: Home) -> None:
    path = "coordination/worker-specs/active/w-1.json"
    home.write(path, "{")
    cycle = started(home)
    cycle.run_once(now())
    since = Finding.objects.get().since
    home.write(path, "{ ")
    cycle.run_once(now() + timedelta(seconds=60))
    assert Finding.objects.get(kind="unreadable").since == since
    home.spec()
    cycle.run_once(now() + timedelta(seconds=120))
    assert not Finding.objects.exists()


def test_a_file_that_moves_between_directories_is_one_run_and_never_gone(home: Home) -> None:
    path = home.spec(status="completed")
    cycle = started(home)
    cycle.run_once(now())
    target = home.specs / "completed" / path.name
    target.parent.mkdir()
    path.rename(target)
    cycle.run_once(now(), paths={str(path)})
    cycle.run_once(now())
    assert (worker().health, worker().live, worker().directory) == (Health.COMPLETED, False, "completed")
    assert not HealthChange.objects.filter(new=Health.GONE).exists()


def test_a_file_that_was_moved_here_was_changed_when_it_was_moved(home: Home) -> None:
    path = home.spec()
    yesterday = (now() - timedelta(days=1)).timestamp()
    os.utime(path, (yesterday, yesterday))
    cycle = started(home)
    cycle.run_once(now())
    target = home.specs / "completed" / path.name
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    cycle.run_once(now(), paths={str(path), str(target)})
    cycle.run_once(now())
    lag = Poller.objects.get().lag_ms
    assert lag is not None
    assert lag < 60_000


def test_a_file_that_vanishes_is_gone_with_what_it_said(home: Home) -> None:
    path = home.spec(task_id="task-9")
    cycle = started(home)
    cycle.run_once(now())
    path.unlink()
    cycle.run_once(now())
    cycle.run_once(now())
    run = worker()
    assert (run.health, run.live, run.task_id) == (Health.GONE, False, "task-9")
    home.spec(task_id="task-9", created_at=iso(run.created_at))
    cycle.run_once(now())
    assert worker().live, "and it may come back"


def test_what_ended_keeps_its_outcome_when_its_file_is_tidied_away(home: Home) -> None:
    path = home.spec(status="completed", directory="completed")
    cycle = started(home)
    cycle.run_once(now())
    path.unlink()
    for _ in range(3):
        cycle.run_once(now())
    assert (worker().health, worker().live) == (Health.COMPLETED, False)


def test_a_file_that_vanished_while_nobody_looked_is_gone_too(home: Home) -> None:
    path = home.spec()
    poll(home)
    path.unlink()
    cycle = started(home)
    cycle.run_once(now())
    assert cycle.uncertain
    cycle.run_once(now())
    assert worker().health == Health.GONE
    assert not cycle.uncertain


def test_reused_ids_are_different_rows(home: Home) -> None:
    home.spec(directory="archived", created_at="2025-11-16T09:00:00-0600", status="failed")
    home.spec(directory="completed", created_at="2025-11-18T09:00:00-0600", status="completed")
    home.spec()
    poll(home)
    assert Worker.objects.filter(worker_id="w-1").count() == 3
    assert Worker.objects.filter(worker_id="w-1", live=True).count() == 1


def test_a_missing_worker_specs_is_an_error_and_not_a_departure(home: Home) -> None:
    home.spec()
    cycle = started(home)
    cycle.run_once(now())
    home.specs.rename(home.path / "elsewhere")
    for _ in range(3):
        report = cycle.run_once(now())
    assert report.error
    assert worker().health == Health.ZOMBIE
    assert worker().live
    assert "worker-specs" in Poller.objects.get().error
    (home.path / "elsewhere").rename(home.specs)
    cycle.run_once(now())
    assert Poller.objects.get().error == ""


def test_events_are_stored_once_with_their_place(home: Home) -> None:
    lines = [
        '{"timestamp":"2026-01-01T00:00:00-0600","event":"worker_stalled","worker_id":"w-1","data":{"minutes":25}}',
        "",
        '{"timestamp":"2026-01-01T00:03:00Z","type":"x","data":"{\\"worker_id\\":\\"w-2\\"}"}',
    ]
    home.append("coordination/pm-activity.jsonl", "\n".join(lines) + "\n")
    cycle = started(home)
    assert cycle.run_once(now()).events == 2
    assert cycle.run_once(now()).events == 0
    first, second = Event.objects.order_by("id")
    assert (first.type, first.worker_id, first.offset) == ("worker_stalled", "w-1", 0)
    assert first.at == datetime(2026, 1, 1, 6, tzinfo=UTC)
    assert second.worker_id == "w-2"
    log = LogFile.objects.get()
    assert (log.records, log.damaged) == (2, 0)


def test_a_torn_tail_waits_for_its_rest_also_across_pollers(home: Home) -> None:
    path = "coordination/events/heartbeat-events.jsonl"
    home.append(path, '{"event_type":"a"}\n{"event_type":')
    assert poll(home).events == 1
    home.append(path, '"b"}\n')
    assert poll(home).events == 1
    assert list(Event.objects.order_by("id").values_list("type", flat=True)) == ["a", "b"]


def test_damage_is_counted_with_its_offset(home: Home) -> None:
    good = '{"event_type":"a"}\n'
    home.append("coordination/events/x.jsonl", f'{good}{{"event_type": oops}}\n{good}')
    report = poll(home)
    assert (report.events, report.damaged) == (2, 1)
    assert Finding.objects.get(kind="damaged log").offset == len(good)


def test_time_without_a_poller_is_remembered(home: Home) -> None:
    began = now()
    cycle = started(home)
    cycle.run_once(began)
    later = Cycle(home.path, "host-a", 2.0)
    later.start(began + timedelta(minutes=7))
    gap = PollerGap.objects.get()
    assert (gap.ended - gap.began) == timedelta(minutes=7)


def test_another_home_under_the_same_name_is_refused(home: Home, tmp_path: Path) -> None:
    poll(home)
    other = Home(tmp_path / "other")
    with pytest.raises(ForeignHomeError, match=str(home.path)):
        started(other)
    started(other, host="host-b").run_once(now())
    assert Poller.objects.count() == 2


def test_an_admins_limit_takes_effect_within_a_cycle(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    home.spec(execution__started_at=iso(now() - timedelta(minutes=5)))
    cycle = started(home)
    cycle.run_once(now())
    assert worker().health == Health.HEALTHY
    Limit.objects.create(name="stalled_after", seconds=60)
    cycle.run_once(now() + timedelta(seconds=2))
    assert worker().health == Health.STALLED
    assert Mark.objects.get().text == "late after 10 min → 1 min, stalled after 15 min → 1 min"


def test_the_outbox_keeps_an_hour(home: Home) -> None:
    home.spec()
    cycle = started(home)
    cycle.run_once(now())
    assert Change.objects.exists()
    cycle.run_once(now() + timedelta(hours=1, minutes=6))
    assert not Change.objects.filter(at__lt=now()).exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\x00\x01\x02",
        b'{"worker_id": "../../etc/passwd", "status": "running"}',
        b'{"worker_id": "a\\u0000b", "status": "running", "created_at": "9999-99-99"}',
        b'{"worker_id": {"a": 1}, "status": ["running"], "created_at": 5, "resources": "x", "execution": []}',
        b'{"worker_id": "w", "status": "running", "execution": {"started_at": "2999-01-01T00:00:00Z"}}',
        b'{"worker_id": "w", "status": "running", "resources": {"time_limit_minutes": -1e308, "timeout_minutes": "x"}}',
        b'{"worker_id": "' + b"x" * 10_000 + b'", "status": "running"}',
        b'{"worker_id": "w", "status": "running", "created_at": "2026-01-01T00:00:00Z", "pid": 99999999999999999999}',
        b"[" * 100_000,
        b'{"worker_id": "w", "status": "running", "description": "<script>alert(1)</script>$(reboot)"}',
    ],
    ids=range(14),
)
def test_nothing_that_a_file_contains_stops_the_cycle(home: Home, content: bytes) -> None:
    home.spec("good")
    home.write("coordination/worker-specs/active/bad.json", content)
    home.write("coordination/pm-state.json", content)
    home.write("agents/workers/good/worker.pid", content)
    home.write("agents/workers/good/heartbeat.json", content)
    home.write("agents/workers/good/status.json", content)
    home.write("agents/workers/good/logs/stdout.log", content)
    home.write("coordination/worker-checkins/good-20260301T000000Z.json", content)
    home.append("coordination/pm-activity.jsonl", content + b'\n{"event":"after"}\n')
    report = poll(home)
    assert report.specs + report.unreadable + report.other == 2
    assert worker("good").health == Health.ZOMBIE
    assert Event.objects.filter(type="after").exists()


def test_a_symlink_out_of_the_home_is_not_followed(home: Home, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"worker_id": "stolen", "status": "running", "worker_type": "x", "created_at": "2026-01-01"}')
    (home.specs / "active" / "link.json").symlink_to(secret)
    report = poll(home)
    assert (report.specs, report.unreadable) == (0, 1)
    assert not Worker.objects.filter(worker_id="stolen").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_shown(home: Home) -> None:
    home.spec().chmod(0)
    assert poll(home).unreadable == 1
