"""``manage.py poll`` and ``manage.py workers`` as processes: the contract, signals, sudden death, the single place."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from .conftest import Home, iso
from .running import ROOT, Place, lives, until


def test_poll_once_prints_what_it_read(place: Place, home: Home) -> None:
    home.spec()
    home.spec("w-2", status="pending")
    home.spec("w-3", directory="completed", status="completed")
    home.write("coordination/worker-specs/active/broken.json", "{")
    home.write("coordination/worker-specs/archived/MANIFEST.json", "[]")
    home.append("coordination/pm-activity.jsonl", '{"event":"pm_started"}\n{"event": oops}\n{"event":"x"}\n')
    report = place.json("poll", "--once")
    assert report.pop("seconds") > 0
    assert report == {
        "specs": 3,
        "unreadable": 1,
        "other": 1,
        "workers": {"zombie": 1, "pending": 1, "unreadable": 1},
        "events": 2,
        "damaged": 1,
    }
    again = place.json("poll", "--once")
    assert (again["specs"], again["events"], again["damaged"]) == (3, 0, 0)


def test_workers_lists_the_live_runs(place: Place, home: Home) -> None:
    home.spec(execution__started_at=iso(datetime.now(UTC)), execution__host="host-b")
    home.spec("w-2", directory="failed", status="failed")
    home.write("coordination/worker-specs/active/broken.json", "{")
    place.json("poll", "--once")
    rows = {row["worker_id"]: row for row in place.json("workers")}
    assert set(rows) == {"w-1", "broken"}
    assert set(rows["w-1"]) == {
        *("worker_id", "created_at", "path", "host", "worker_type", "task_id", "status", "health", "reasons", "pid"),
        *("started_at", "last_checkin_at", "progress_pct", "time_limit_minutes", "overdue", "pm_health", "as_of"),
    }
    assert rows["w-1"]["health"] == "unknown"
    assert rows["w-1"]["time_limit_minutes"] == 45
    assert rows["w-1"]["started_at"].endswith("Z")
    assert [row["worker_id"] for row in place.json("workers", "--health", "unreadable")] == ["broken"]
    assert len(place.json("workers", "--all")) == 3


def test_without_a_home_it_says_which_variable_to_set(place: Place) -> None:
    del place.environment["COMMIT_RELAY_HOME"]
    done = place.run("poll", "--once")
    assert done.returncode != 0
    assert "COMMIT_RELAY_HOME" in done.stderr


def test_a_missing_worker_specs_is_an_error_that_is_shown(place: Place, home: Home) -> None:
    home.specs.rename(home.path / "elsewhere")
    done = place.run("poll", "--once", "--json")
    assert done.returncode == 1
    assert "worker-specs" in done.stderr
    assert json.loads(done.stdout)["specs"] == 0


def test_a_change_on_disk_is_stored_long_before_the_timer(place: Place, home: Home) -> None:
    home.spec(status="pending")
    place.start("poll", RELAY_POLL_SECONDS="60")
    until(lambda: place.query("SELECT 1 FROM workers_worker WHERE health = 'pending'"))
    home.spec(status="completed", created_at=_created(home))
    until(lambda: place.query("SELECT 1 FROM workers_worker WHERE health = 'completed'"), 10)


def _created(home: Home) -> str:
    return json.loads((home.specs / "active" / "w-1.json").read_text())["created_at"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_between_two_cycles(place: Place, home: Home, number: signal.Signals) -> None:
    home.spec()
    process = place.start("poll")
    until(lambda: place.query("SELECT 1 FROM workers_worker"))
    process.send_signal(number)
    assert process.wait(5) == 0


def test_a_cold_start_is_left_in_time(place: Place, home: Home) -> None:
    for number in range(6_000):
        home.spec(f"w-{number}", status="pending", execution__started_at=None)
    process = place.start("poll", "--once")
    until(lambda: place.query("SELECT pid FROM workers_poller WHERE pid IS NOT NULL"))
    process.send_signal(signal.SIGTERM)
    process.wait(5)
    stored = place.query("SELECT COUNT(*) FROM workers_worker")[0][0]
    assert (process.returncode, stored < 6_000) in ((143, True), (0, False)), "it ended early, or was done already"


def test_a_poller_is_one_whatever_its_database_is_called(place: Place, home: Home, tmp_path: Path) -> None:
    home.spec()
    place.start("poll")
    until(lambda: place.query("SELECT 1 FROM workers_worker"))
    (tmp_path / "linked.sqlite3").symlink_to(place.database)
    second = place.run("poll", "--once", DATABASE_URL=f"sqlite:///{tmp_path / 'linked.sqlite3'}")
    assert second.returncode != 0


def test_it_ends_when_its_parent_is_gone(place: Place, home: Home) -> None:
    home.spec()
    process = place.start("poll", "--until-stdin-closes")
    until(lambda: place.query("SELECT 1 FROM workers_worker"))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(5) == 0


def test_a_second_poller_refuses_to_start_and_names_the_first(place: Place, home: Home) -> None:
    home.spec()
    first = place.start("poll")
    until(lambda: place.query("SELECT 1 FROM workers_worker"))
    second = place.run("poll", "--once")
    assert second.returncode != 0
    assert f"process {first.pid}" in second.stderr
    other_host = place.run("poll", "--once", RELAY_HOST="host-b")
    assert other_host.returncode == 0, other_host.stderr


def test_the_place_is_free_the_moment_its_holder_is_dead(place: Place, home: Home) -> None:
    home.spec()
    first = place.start("poll")
    until(lambda: place.query("SELECT 1 FROM workers_worker"))
    first.kill()
    first.wait()
    assert place.run("poll", "--once").returncode == 0


def test_every_record_is_stored_once_though_the_poller_is_killed_at_any_moment(place: Place, home: Home) -> None:
    """A writer appends all the time, the poller is killed again and again, and nothing is lost or doubled."""
    random_numbers, pace = random.Random(7), Event()
    path, written = "coordination/pm-activity.jsonl", 0
    home.spec()
    place.json("poll", "--once")
    for _ in range(8):
        process = place.start("poll", RELAY_POLL_SECONDS="0.05")
        kill_at = time.monotonic() + 0.6 + random_numbers.random() * 0.5
        while time.monotonic() < kill_at:
            count = random_numbers.randrange(1, 40)
            text = "".join(f'{{"event":"e","n":{written + i},"data":{{"x":"{"y" * 60}"}}}}\n' for i in range(count))
            cut = random_numbers.randrange(len(text))  # appends are torn at any byte
            home.append(path, text[:cut])
            home.append(path, text[cut:])
            written += count
            pace.wait(0.01)
        process.kill()
        process.wait()
    place.json("poll", "--once")
    numbers = [row[0] for row in place.query("SELECT json_extract(data, '$.n') FROM workers_event ORDER BY id")]
    assert len(numbers) == written
    assert numbers == list(range(written))
    assert place.query("SELECT COUNT(*) FROM workers_finding WHERE kind = 'damaged log'") == [(0,)]


def test_an_error_of_the_cycle_is_shown_and_passes(place: Place, home: Home) -> None:
    """The database refuses writes for a while; the poller backs off, says so, and goes on."""
    home.spec()
    process = place.start("poll", RELAY_POLL_SECONDS="0.1")
    until(lambda: place.query("SELECT 1 FROM workers_worker"))
    _execute(place, "ALTER TABLE workers_worker RENAME TO away")
    home.spec("w-2")
    until(lambda: place.query("SELECT 1 FROM workers_poller WHERE error LIKE '%cycle fails%'"))
    _execute(place, "ALTER TABLE away RENAME TO workers_worker")
    until(lambda: place.query("SELECT 1 FROM workers_poller WHERE error = ''"))
    assert lives(process.pid)


def _execute(place: Place, sql: str) -> None:
    with sqlite3.connect(place.database, timeout=10) as connection:
        connection.execute(sql)


def test_an_unreadable_home_is_named(place: Place, home: Home) -> None:
    done = place.run("poll", "--once", COMMIT_RELAY_HOME=str(home.path / "nowhere"))
    assert done.returncode != 0
    assert "COMMIT_RELAY_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_polling_needs_no_terminal_and_prints_no_bar(place: Place, home: Home) -> None:
    for number in range(50):
        home.spec(f"w-{number}")
    done = place.run("poll", "--once", "--json")
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_a_reader_that_has_heard_enough_is_no_error(place: Place, home: Home) -> None:
    home.spec()
    place.run("poll", "--once")
    command = [sys.executable, "manage.py", "workers"]
    with subprocess.Popen(
        command, cwd=ROOT, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `head` does
        assert process.stderr.read() == b""
        assert process.wait(30) == 141
