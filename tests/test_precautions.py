"""What the fleet's own files say of preventing failures: lists of types, alerts, pids; and what the poller keeps."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.coordination.layout import WORKER_TYPES, Layout
from workers.coordination.prevention import (
    LARGEST_LIST,
    MOST_ALERTS,
    MOST_DAEMONS,
    MOST_TYPES,
    MOST_WORKERS,
    PreventionReader,
    parse_health_alerts,
    parse_worker_types,
)
from workers.coordination.records import HealthAlerts, Problem, TypeSetting
from workers.cycle import Cycle
from workers.models import Change, Poller

from .conftest import Home, iso

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ3b3JrZXIifQ.c2lnbmF0dXJlLW5vdC1yZWFs"


def types_of(document: Any) -> tuple[dict[str, float | None], list[str]]:
    found = parse_worker_types(json.dumps(document).encode(), "t.json")
    assert not isinstance(found, Problem), found
    return {each.worker_type: each.time_limit_minutes for each in found[0]}, found[1]


def alerts_of(document: Any) -> HealthAlerts:
    found = parse_health_alerts(json.dumps(document).encode())
    assert isinstance(found, HealthAlerts), found
    return found


# --- lists of worker types


@pytest.mark.parametrize(
    ("document", "limits"),
    [
        ({"worker_types": [{"type_id": "scan", "time_limit_minutes": 15}]}, {"scan": 15}),
        ({"worker_types": [{"type_id": "scan", "timeout_minutes": 20.5}]}, {"scan": 20.5}),
        ({"worker_types": [{"worker_type": "fix-worker", "resources": {"timeout_minutes": 20}}]}, {"fix-worker": 20}),
        ({"worker_types": {"scan": {"time_limit_minutes": 15}, "fix": {}}}, {"scan": 15, "fix": None}),
        ({"version": "1.0", "scan-worker": {"timeout_seconds": 900}}, {"scan-worker": 15}),
        ([{"id": "scan", "default_timeout_minutes": 5}], {"scan": 5}),
        ({"worker_types": [{"type_id": "scan", "typical_token_allocation": 8000, "skills": []}]}, {"scan": None}),
        ({"worker_types": []}, {}),
        ({}, {}),
    ],
)
def test_both_shapes_of_a_list_of_types_are_read(document: Any, limits: dict[str, float | None]) -> None:
    assert types_of(document) == (limits, [])


def test_where_a_limit_stands_is_kept() -> None:
    found = parse_worker_types(
        b'{"worker_types": [{"type_id": "a"}, {"type_id": "b", "timeout_minutes": 3}]}', "t.json"
    )
    assert not isinstance(found, Problem)
    assert found[0][1] == TypeSetting("b", "t.json#worker_types[1].timeout_minutes", 3)


@pytest.mark.parametrize(
    ("entry", "note"),
    [
        ({"time_limit_minutes": "15"}, "“scan.time_limit_minutes” is text where a number is expected"),
        ({"time_limit_minutes": True}, "“scan.time_limit_minutes” is true or false where a number is expected"),
        ({"time_limit_minutes": 0}, "“scan.time_limit_minutes” is no time limit: it is not between 0 and a year"),
        ({"time_limit_minutes": -5}, "“scan.time_limit_minutes” is no time limit: it is not between 0 and a year"),
        ({"time_limit_minutes": 1e300}, "“scan.time_limit_minutes” is no time limit: it is not between 0 and a year"),
        ({"timeout": 300}, "“scan.timeout” has no unit, and is not used"),
        ("fast", "“scan” is text where an object is expected"),
        (15, "“scan” is a number where an object is expected"),
    ],
)
def test_what_is_not_understood_of_a_type_is_said_with_its_key(entry: Any, note: str) -> None:
    limits, notes = types_of({"scan": entry})
    assert notes == [note]
    assert limits in ({"scan": None}, {})


def test_of_two_limits_of_a_type_the_first_holds_and_the_other_is_told_of() -> None:
    both = {"time_limit_minutes": 15, "timeout_minutes": 20}
    limits, notes = types_of({"scan": both})
    assert limits == {"scan": 15}
    assert notes == ["“scan.timeout_minutes” says otherwise than “time_limit_minutes”, which holds"]
    limits, notes = types_of([{"id": "scan", "timeout_minutes": 15}, {"id": "scan", "timeout_minutes": 20}])
    assert limits == {"scan": 15}
    assert notes == ["“[1]” is a second entry for scan; the first one holds"]


def test_a_list_of_types_may_be_as_long_as_it_likes() -> None:
    limits, notes = types_of([{"id": f"t{n}"} for n in range(MOST_TYPES + 5)])
    assert len(limits) == MOST_TYPES
    assert notes == [f"It lists {MOST_TYPES + 5} types; only the first {MOST_TYPES} are read"]


def test_secrets_in_a_list_of_types_are_not_kept() -> None:
    found = parse_worker_types(json.dumps({"scan": {"description": f"Bearer {TOKEN}"}}).encode(), "t.json")
    assert TOKEN not in repr(found)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_the_parsers_raise(data: bytes) -> None:
    for parsed in (parse_worker_types(data, "t.json"), parse_health_alerts(data)):
        assert parsed is not None


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda each: st.lists(each, max_size=4)))
def test_no_values_make_the_parsers_raise(value: Any) -> None:
    keys = ("type_id", "time_limit_minutes", "description", "resources", "zombie_workers", "message", "created_at")
    entry = dict.fromkeys(keys, value)
    for document in ({"worker_types": [entry, value]}, {"scan": entry}, {"alerts": [entry, value]}, {"alerts": value}):
        data = json.dumps(document).encode()
        parse_worker_types(data, "t.json")
        parse_health_alerts(data)


# --- alerts


def test_an_alert_is_read_with_its_workers() -> None:
    alert = {
        "id": "alert-1",
        "type": "zombie_threshold",
        "severity": "high",
        "status": "active",
        "message": f"44 zombies, token={TOKEN}",
        "created_at": "2025-11-21T10:00:00-0600",
        "threshold": 10,
        "metric_value": 44,
        "zombie_workers": "w-1, w-2,,w-1",
        "worker_id": None,
    }
    (found,) = alerts_of({"alerts": [alert], "sla_config": {"high": 30}}).alerts
    assert (found.type, found.severity, found.status) == ("zombie_threshold", "high", "active")
    assert found.created_at == datetime(2025, 11, 21, 16, tzinfo=UTC)
    assert (found.threshold, found.metric_value, found.workers) == (10, 44, ("w-1", "w-2"))
    assert TOKEN not in found.message
    assert found.message.startswith("44 zombies")


def test_of_very_many_alerts_and_workers_the_last_and_the_first_are_kept_and_that_is_said() -> None:
    alerts: list[Any] = [{"id": n} for n in range(MOST_ALERTS + 3)]
    alerts[-1] = {"id": "last", "zombie_workers": ",".join(f"w-{n}" for n in range(MOST_WORKERS + 1))}
    found = alerts_of({"alerts": alerts})
    assert (len(found.alerts), found.alerts[0].id, found.alerts[-1].id) == (MOST_ALERTS, "3", "last")
    assert len(found.alerts[-1].workers) == MOST_WORKERS
    assert [note.partition(";")[0] for note in found.notes] == [
        "It holds 103 alerts",
        "“alerts[102].zombie_workers” names 501 workers",
    ]


@pytest.mark.parametrize("alerts", ["none", 7, {"a": 1}])
def test_alerts_that_are_no_list_are_none_and_said(alerts: Any) -> None:
    found = alerts_of({"alerts": alerts})
    assert found.alerts == ()
    assert "where a list is expected" in found.notes[0]


# --- reading


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What stands for /tmp, in which other fleets of this host may have their files."""
    path = tmp_path / "outside"
    path.mkdir()
    return path


@pytest.fixture
def reader(home: Home, outside: Path) -> PreventionReader:
    return PreventionReader(Layout(home.path), str(outside))


def later() -> float:
    return time.time() + 60


def test_lists_of_the_fleet_and_of_its_masters_are_found(home: Home, reader: PreventionReader) -> None:
    path = "coordination/masters/security/knowledge-base/worker-types.json"
    home.write(path, '{"worker_types": [{"type_id": "scan"}]}')
    found = reader.look()
    assert found.looked == ((WORKER_TYPES, False), (path, True))
    home.write(WORKER_TYPES, '{"scan": {"time_limit_minutes": 15}}')
    found = reader.look()
    assert [each.source for each in found.types] == [f"{WORKER_TYPES}#scan.time_limit_minutes", path]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "The file is empty"),
        ('{"scan": ', "Not JSON"),
        ("[" * 200 + "]" * 200, "Nested more than"),
        ('"scan"', "JSON, but text and no list of worker types"),
        ("x" * (LARGEST_LIST + 1), "are not read"),
    ],
)
def test_a_list_that_cannot_be_read_is_a_note_with_its_reason(
    home: Home, reader: PreventionReader, text: str, reason: str
) -> None:
    home.write(WORKER_TYPES, text)
    found = reader.look(later())
    assert found.types == ()
    assert [(note.path, reason in note.text) for note in found.notes] == [(WORKER_TYPES, True)]
    assert found.looked[0] == (WORKER_TYPES, True)


def test_what_is_being_written_says_what_it_said_before(home: Home, reader: PreventionReader) -> None:
    home.write(WORKER_TYPES, '{"scan": {}}')
    assert reader.look(later()).types
    home.write(WORKER_TYPES, '{"scan": ')
    assert [each.worker_type for each in reader.look(time.time()).types] == ["scan"]
    assert reader.look(later()).types == ()


def test_a_file_that_has_not_changed_is_not_read_again(home: Home, reader: PreventionReader) -> None:
    home.write(WORKER_TYPES, '{"scan": {}}')
    first = reader.look(later()).types[0]
    assert reader.look(later()).types[0] is first
    home.write(WORKER_TYPES, '{"scan": {"time_limit_minutes": 5}}')
    assert reader.look(later()).types[0].time_limit_minutes == 5


def test_no_link_leads_out_of_the_home(home: Home, reader: PreventionReader, tmp_path: Path, outside: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"scan": {"time_limit_minutes": 1}}')
    (home.path / "coordination/config").mkdir()
    (home.path / WORKER_TYPES).symlink_to(secret)
    (tmp_path / "number").write_text("1")
    (outside / "commit-relay-x.pid").symlink_to(tmp_path / "number")
    (home.path / "agents").symlink_to(outside)
    (home.path / "coordination/x.pid").symlink_to(tmp_path / "number")
    found = reader.look(later())
    assert (found.types, found.daemons) == ((), ())
    assert sorted(note.path for note in found.notes) == sorted(
        ["coordination/x.pid", WORKER_TYPES, f"{outside}/commit-relay-x.pid"]
    )


def test_pid_and_heartbeat_files_are_found_where_daemons_leave_them(
    home: Home, reader: PreventionReader, outside: Path
) -> None:
    home.write("coordination/worker-daemon-heartbeat.json", '{"pid": 12, "timestamp": "2025-11-21T10:00:00Z"}')
    home.write("agents/supervisor.pid", "13\n")
    home.write("coordination/notes.json", "{}")
    (outside / "commit-relay-coordinator.pid").write_text("14")
    (outside / "pm-daemon.pid").write_text("15")
    (outside / "nginx.pid").write_text("16")
    (outside / "heartbeat-w-1.pid").write_text("17")
    found = {each.name: each.pid for each in reader.look().daemons}
    assert found == {"worker-daemon": 12, "supervisor": 13, "coordinator": 14, "pm-daemon": 15}


def test_a_strange_file_outside_is_named_and_none_of_its_text_shown(reader: PreventionReader, outside: Path) -> None:
    (outside / "commit-relay-a.pid").write_text("hunter2 is the password")
    os.mkfifo(outside / "commit-relay-b.pid")
    (outside / "commit-relay-c.pid").mkdir()
    (outside / "commit-relay-d.pid").write_bytes(b"1" * 70_000)
    found = reader.look(later())
    assert found.daemons == ()
    assert [note.path[-5] for note in found.notes] == ["a", "b", "c", "d"]
    assert "hunter2" not in repr(found)


def test_very_many_pid_files_are_not_all_read(reader: PreventionReader, outside: Path) -> None:
    for number in range(MOST_DAEMONS + 1):
        (outside / f"commit-relay-{number:03}.pid").write_text("1")
    found = reader.look()
    assert len(found.daemons) == MOST_DAEMONS
    assert "101 pid and heartbeat files were found" in found.notes[-1].text


# --- the poller


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def start(home: Home, outside: Path) -> Cycle:
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.rounds.reader.outside = str(outside)
    cycle.start(datetime.now(UTC))
    return cycle


def told() -> dict[str, Any]:
    said: dict[str, Any] = Poller.objects.get().prevention
    return said


@pytest.mark.django_db
def test_the_poller_says_which_daemons_live(home: Home, outside: Path, daemon: subprocess.Popen[bytes]) -> None:
    home.write("coordination/worker-daemon.pid", str(daemon.pid))
    gone = subprocess.Popen(["true"])
    gone.wait()
    home.write("coordination/cleaner.pid", str(gone.pid))
    old = home.write("coordination/supervisor.pid", str(daemon.pid))
    os.utime(old, (time.time() - 3600,) * 2)  # written an hour before the process that has its pid now was born
    start(home, outside).run_once(datetime.now(UTC))
    found = {each["name"]: each for each in told()["daemons"]}
    assert {name: each["state"] for name, each in found.items()} == {
        "worker-daemon": "alive",
        "cleaner": "gone",
        "supervisor": "another",
    }
    assert found["worker-daemon"]["command"] == "sleep 600"


@pytest.mark.django_db
def test_it_looks_once_in_ten_seconds_and_writes_what_has_changed(
    home: Home, outside: Path, daemon: subprocess.Popen[bytes]
) -> None:
    home.write("coordination/worker-daemon.pid", str(daemon.pid))
    cycle, now = start(home, outside), datetime.now(UTC)
    news = Change.objects.filter(kind=Change.Kind.POLLER)
    cycle.run_once(now)
    assert news.count() == 1
    daemon.kill()
    daemon.wait()
    cycle.run_once(now + timedelta(seconds=9))
    assert (told()["daemons"][0]["state"], news.count()) == ("alive", 1)
    cycle.run_once(now + timedelta(seconds=10))
    assert (told()["daemons"][0]["state"], news.count()) == ("gone", 2)
    cycle.run_once(now + timedelta(seconds=20))
    assert news.count() == 2
    start(home, outside).run_once(now + timedelta(seconds=30))
    assert news.count() == 2, "the next poller knows what was written"


@pytest.mark.django_db
def test_alerts_and_configuration_come_with_it(home: Home, outside: Path) -> None:
    state = {"pm_daemon": {}, "monitored_workers": {}, "configuration": {"late_after_minutes": 7, "mode": ["a", "b"]}}
    home.write("coordination/pm-state.json", json.dumps(state))
    path = home.write("coordination/health-alerts.json", '{"alerts": [{"id": "a-1", "zombie_workers": "w-1,w-2"}]}')
    cycle, now = start(home, outside), datetime.now(UTC)
    cycle.run_once(now)
    said = told()
    assert (said["alerts_there"], said["alerts"][0]["workers"]) == (True, ["w-1", "w-2"])
    assert said["settings"] == [["late_after_minutes", "7"], ["mode", '["a","b"]']]
    assert said["numbers"] == {"late_after_minutes": 7}
    path.unlink()
    cycle.run_once(now + timedelta(seconds=11))
    assert (told()["alerts_there"], told()["alerts"]) == (False, [])


@pytest.mark.django_db
def test_an_unreadable_home_keeps_what_was_said_last(home: Home, outside: Path) -> None:
    home.write(WORKER_TYPES, '{"scan": {}}')
    cycle, now = start(home, outside), datetime.now(UTC)
    cycle.run_once(now)
    home.specs.rename(home.specs.with_name("away"))
    (home.path / WORKER_TYPES).unlink()
    cycle.run_once(now + timedelta(seconds=11))
    assert [each["type"] for each in told()["types"]] == ["scan"]


@pytest.mark.django_db
def test_the_room_on_the_disk_is_measured_once_a_minute(home: Home, outside: Path) -> None:
    cycle, now = start(home, outside), datetime.now(UTC)
    cycle.run_once(now)
    poller = Poller.objects.get()
    assert poller.disk_free_bytes is not None
    assert poller.disk_total_bytes is not None
    assert 0 < poller.disk_free_bytes <= poller.disk_total_bytes
    Poller.objects.update(disk_total_bytes=1)
    cycle.run_once(now + timedelta(seconds=59))
    assert Poller.objects.get().disk_total_bytes == 1
    cycle.run_once(now + timedelta(seconds=60))
    assert Poller.objects.get().disk_total_bytes == poller.disk_total_bytes


@pytest.mark.django_db
def test_no_secret_of_the_configuration_reaches_the_database(home: Home, outside: Path) -> None:
    state = {"pm_daemon": {}, "configuration": {"api_key": "hunter2hunter2", "note": f"Bearer {TOKEN}"}}
    home.write("coordination/pm-state.json", json.dumps(state))
    home.write("coordination/x.pid", f"{iso(datetime.now(UTC))} {TOKEN}")
    start(home, outside).run_once(datetime.now(UTC))
    text = json.dumps(told())
    assert "hunter2" not in text
    assert TOKEN not in text
