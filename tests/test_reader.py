"""A look at the coordination directory tells what changed, whatever lies in it, and opens nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from workers.coordination.layout import Layout
from workers.coordination.reader import DirectoryReader
from workers.coordination.records import CheckIn, FileStamp, Other, PmState, Problem, Scan, Spec, Traces
from workers.coordination.traces import reads_like_error

from .conftest import Home, powerless

REAL = Path(__file__).resolve().parents[2] / "shared" / "real-fleet"
LATER = 10.0  # seconds after which a stamp proves that a file is as it was


@pytest.fixture
def reader(home: Home) -> DirectoryReader:
    return DirectoryReader(Layout(home.path))


def look(reader: DirectoryReader, *paths: Path | str) -> Scan:
    """Look at everything, or at some paths, as if nobody had written just now."""
    return reader.scan([os.fspath(path) for path in paths] or None, now=time.time() + LATER)


def names(scan: Scan) -> dict[str, Any]:
    return {seen.path.removeprefix("coordination/worker-specs/"): seen.content for seen in scan.specs}


def opened_by(action: Any) -> list[str]:
    """Return the paths of the home that are opened while something is done."""
    paths: list[str] = []
    active = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open" and isinstance(arguments[0], str) and "/coordination/" in arguments[0]:
            paths.append(arguments[0])

    sys.addaudithook(hook)
    try:
        action()
    finally:
        active = False
    return paths


# --- worker-specs


def test_every_json_file_below_worker_specs_is_seen(home: Home, reader: DirectoryReader) -> None:
    for directory in ("active", "completed", "archived/2025-11-09", "zombie/2025-11-20/deep", "some other name"):
        home.spec(f"w-{directory.replace('/', '-')}", directory)
    home.write("coordination/worker-specs/archived/MANIFEST.json", "{}")
    home.write("coordination/worker-specs/top.json", "{")
    for name in ("active/w.json.tmp", "active/w.json.swp", "README.md", "active/.w.json.1234", "active/w.JSON.bak"):
        home.write(f"coordination/worker-specs/{name}", "{}")
    seen = names(look(reader))
    assert {path: type(content) for path, content in seen.items()} == {
        "active/w-active.json": Spec,
        "completed/w-completed.json": Spec,
        "archived/2025-11-09/w-archived-2025-11-09.json": Spec,
        "zombie/2025-11-20/deep/w-zombie-2025-11-20-deep.json": Spec,
        "some other name/w-some other name.json": Spec,
        "archived/MANIFEST.json": Other,
        "top.json": Problem,
    }
    assert set(reader.specs) == {f"coordination/worker-specs/{path}" for path in seen}


def test_a_second_look_finds_nothing_new_and_opens_nothing(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    home.write("coordination/worker-specs/active/bad.json", "{")
    home.pm(w_1={"health_state": "healthy"})
    home.write("coordination/pm-daemon-heartbeat.json", '{"status": "running"}')
    home.write("coordination/worker-checkins/w-1.json", '{"worker_id": "w-1"}')
    home.append("coordination/pm-activity.jsonl", "{}\n")
    home.write("agents/workers/w-1/worker.pid", "4711")
    assert look(reader)
    second: list[Scan] = []
    assert opened_by(lambda: second.append(look(reader))) == []
    assert not second[0]


@pytest.mark.parametrize("named", [True, False])
def test_only_the_file_that_changed_is_opened(home: Home, reader: DirectoryReader, named: bool) -> None:
    for number in range(5):
        home.spec(f"w-{number}")
    look(reader)
    changed = home.spec("w-3", status="pending")
    scans: list[Scan] = []
    paths = [changed] if named else []
    assert opened_by(lambda: scans.append(look(reader, *paths))) == [os.fspath(changed)]
    (seen,) = scans[0].specs
    assert seen.path == "coordination/worker-specs/active/w-3.json"
    assert isinstance(seen.content, Spec)
    assert seen.content.status == "pending"
    status = changed.stat()
    assert seen.stamp == FileStamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    assert reader.specs[seen.path] == seen.stamp


def test_a_change_of_the_same_length_within_one_tick_of_the_clock_is_seen(home: Home, reader: DirectoryReader) -> None:
    path = home.write("coordination/worker-specs/active/w.json", '{"worker_id": "w", "status": "pending"}')
    reader.scan()
    before = path.stat()
    path.write_text('{"worker_id": "w", "status": "running"}')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    stamp = path.stat()
    reader.specs["coordination/worker-specs/active/w.json"] = FileStamp(
        stamp.st_ino, stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns
    )  # as if both writes had left the same stamp
    (seen,) = reader.scan().specs
    assert isinstance(seen.content, Spec)
    assert seen.content.status == "running"


def test_a_file_written_just_now_is_not_reported_twice(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    home.pm(w_1={})
    home.write("coordination/worker-checkins/w-1.json", '{"worker_id": "w-1"}')
    home.write("agents/workers/w-1/worker.pid", "4711")
    assert reader.scan()
    assert not reader.scan()
    assert not look(reader)


def test_a_spec_that_moves_is_gone_here_and_seen_there(home: Home, reader: DirectoryReader) -> None:
    path = home.spec("w-1")
    look(reader)
    target = home.specs / "failed" / "w-1.json"
    target.parent.mkdir()
    path.rename(target)
    scan = look(reader)
    assert scan.removed == ["coordination/worker-specs/active/w-1.json"]
    assert list(names(scan)) == ["failed/w-1.json"]


def test_a_move_is_seen_when_only_its_two_paths_are_named(home: Home, reader: DirectoryReader) -> None:
    path = home.spec("w-1")
    look(reader)
    target = home.specs / "failed" / "deep" / "w-1.json"
    target.parent.mkdir(parents=True)
    path.rename(target)
    scan = look(reader, path, target)
    assert scan.removed == ["coordination/worker-specs/active/w-1.json"]
    assert list(names(scan)) == ["failed/deep/w-1.json"]
    assert not look(reader)


def test_a_directory_that_appears_or_is_removed_may_be_named(home: Home, reader: DirectoryReader) -> None:
    look(reader)
    home.spec("w-1", "zombie/2025-11-20")
    home.spec("w-2", "zombie")
    assert sorted(names(look(reader, home.specs / "zombie"))) == ["zombie/2025-11-20/w-1.json", "zombie/w-2.json"]
    shutil.rmtree(home.specs / "zombie")
    assert look(reader, "coordination/worker-specs/zombie").removed == [
        "coordination/worker-specs/zombie/2025-11-20/w-1.json",
        "coordination/worker-specs/zombie/w-2.json",
    ]
    assert reader.specs == {}


def test_paths_that_concern_nobody_are_ignored(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    look(reader)
    home.write("coordination/worker-specs/active/w-1.json.tmp", "{}")
    below = ("active/w-1.json.tmp", "never/there.json", "active/w-1.json")
    for path in (
        *(home.specs / name for name in below),
        "coordination/token-budget.json",
        "/etc/passwd",
        "agents/x",
        "../x",
    ):
        assert not look(reader, path), path


def test_a_wake_up_for_the_home_itself_looks_at_everything(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    assert names(look(reader, home.path))
    home.spec("w-2")
    assert names(look(reader, home.path / "coordination"))


def test_a_path_that_is_gone_before_it_is_looked_at_is_no_error(home: Home, reader: DirectoryReader) -> None:
    look(reader)
    assert not look(reader, home.specs / "active" / "w-0.json")


def test_files_that_come_and_go_during_the_look_disturb_no_other(home: Home, reader: DirectoryReader) -> None:
    home.spec("steady")
    look(reader)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            paths = [home.spec(f"w-{number}") for number in range(5)]
            for path in paths:
                path.unlink()

    writer = threading.Thread(target=come_and_go)
    writer.start()
    try:
        scans = [reader.scan() for _ in range(300)]
    finally:
        stop.set()
        writer.join()
    assert any(scan.specs for scan in scans)
    assert not [problem for scan in scans for problem in (*scan.problems.values(), scan.error) if problem]
    assert "coordination/worker-specs/active/steady.json" not in [path for scan in scans for path in scan.removed]
    look(reader)
    assert list(reader.specs) == ["coordination/worker-specs/active/steady.json"]


def test_a_file_with_another_name_than_its_id_is_read(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1", "archived", name="w-1-launcher-bug-1762964226")
    (content,) = names(look(reader)).values()
    assert (content.worker_id, content.oddities) == ("w-1", ("Its file name is not its id",))


def test_a_link_to_itself_hides_no_neighbour(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    (home.specs / "active" / "circle.json").symlink_to("circle.json")
    (home.specs / "active" / "circle").symlink_to("circle")
    seen = names(look(reader))
    assert isinstance(seen["active/w-1.json"], Spec)
    assert seen["active/circle.json"] == Problem("It cannot be read: too many levels of symbolic links")
    assert not look(reader)


def test_a_file_of_50_mb_is_named_and_not_read(home: Home, reader: DirectoryReader) -> None:
    path = home.write("coordination/worker-specs/active/huge.json", '{"worker_id": "huge"}')
    os.truncate(path, 50 * 1024 * 1024)
    began = time.monotonic()
    content = names(look(reader))["active/huge.json"]
    assert content == Problem("50 MiB long: files of more than 4 MiB are not read")
    assert time.monotonic() - began < 0.5
    assert not look(reader)


def test_bytes_that_are_not_utf8_are_a_problem(home: Home, reader: DirectoryReader) -> None:
    home.write("coordination/worker-specs/active/latin.json", b'{"worker_id": "caf\xe9"}')
    assert names(look(reader))["active/latin.json"].reason.startswith("Not UTF-8: byte 0xe9 at offset 18")


def test_a_name_that_is_not_utf8_is_a_problem(home: Home, reader: DirectoryReader) -> None:
    path = os.fsencode(home.specs) + b"/active/caf\xe9.json"
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"{}")
    assert names(look(reader)) == {"active/caf\\xe9.json": Problem("Its name is not UTF-8, and so it is not read")}
    os.unlink(path)  # noqa: PTH108 - bytes
    assert look(reader).removed == ["coordination/worker-specs/active/caf\\xe9.json"]


def test_a_directory_with_the_name_of_a_file_is_looked_into(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1", "archived/odd.json")
    assert list(names(look(reader))) == ["archived/odd.json/w-1.json"]
    assert not look(reader)


def test_a_pipe_or_a_socket_is_a_problem_and_stops_nothing(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    os.mkfifo(home.specs / "active" / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()  # noqa: PTH109 - the path of a socket must be short
        os.chdir(home.specs / "active")
        listener.bind("socket.json")
        os.chdir(here)
        seen = names(look(reader))
    assert isinstance(seen["active/w-1.json"], Spec)
    assert seen["active/pipe.json"] == Problem("No regular file, and so not read")
    assert isinstance(seen["active/socket.json"], Problem)


def test_a_link_out_of_the_home_is_refused_and_never_followed(
    home: Home, reader: DirectoryReader, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.json").write_text('{"worker_id": "outside", "status": "running"}')
    (home.specs / "active" / "file.json").symlink_to(outside / "secret.json")
    (home.specs / "active" / "up.json").symlink_to("../../../../outside/secret.json")
    (home.specs / "elsewhere").symlink_to(outside)
    scans: list[Scan] = []
    opened = opened_by(lambda: scans.append(look(reader)))
    assert not [path for path in opened if "secret" in path]
    seen = names(scans[0])
    assert seen == dict.fromkeys(
        ["active/file.json", "active/up.json"],
        Problem(f"A link out of the home, to {outside}/secret.json: it is not followed"),
    ) | {"elsewhere": Problem(f"A link out of the home, to {outside}: it is not followed")}
    assert not look(reader)
    (home.specs / "elsewhere").unlink()
    assert look(reader).removed == ["coordination/worker-specs/elsewhere"]


def test_a_link_inside_the_home_is_followed_once(home: Home, reader: DirectoryReader) -> None:
    real = home.spec("w-1", name="w-1")
    kept = home.write("coordination/kept/w-2.json", real.read_text().replace("w-1", "w-2"))
    (home.specs / "active" / "w-2.json").symlink_to(kept)
    (home.specs / "all").symlink_to(home.specs / "active")
    (home.specs / "circle").symlink_to(home.path)
    (home.specs / "archive").symlink_to(kept.parent)
    (kept.parent / "again").symlink_to(kept.parent)
    seen = names(look(reader))
    assert set(seen) >= {"active/w-1.json", "active/w-2.json", "archive/w-2.json"}
    assert len(seen) < 40
    assert not look(reader)
    kept.write_text(kept.read_text().replace("running", "pending"))
    assert names(look(reader))["active/w-2.json"].status == "pending"


def test_a_link_to_nothing_is_a_problem(home: Home, reader: DirectoryReader) -> None:
    (home.specs / "active" / "w-1.json").symlink_to("nothing.json")
    (home.specs / "active" / ".#w-1.json").symlink_to("mara@host.4711")  # an editor's lock
    assert names(look(reader)) == {"active/w-1.json": Problem("A link that leads to nothing")}


def test_a_file_that_may_not_be_read_is_a_problem_until_it_may(open_home: Home) -> None:
    path = open_home.spec("w-1")
    reader = DirectoryReader(Layout(open_home.path))
    path.chmod(0)
    with powerless():
        assert names(look(reader)) == {
            "active/w-1.json": Problem("It cannot be read: the poller's user lacks the permission")
        }
        assert not look(reader)
    path.chmod(0o644)
    with powerless():
        assert isinstance(names(look(reader))["active/w-1.json"], Spec)


def test_a_directory_that_may_not_be_listed_loses_none_of_its_files(open_home: Home) -> None:
    open_home.spec("w-1", "archived/old")
    open_home.spec("w-2")
    reader = DirectoryReader(Layout(open_home.path))
    look(reader)
    folder = open_home.specs / "archived"
    folder.chmod(0)
    with powerless():
        scan = look(reader)
    assert (scan.removed, scan.specs) == ([], [])
    assert list(scan.problems) == ["coordination/worker-specs/archived"]
    folder.chmod(0o755)
    scan = look(reader)
    assert (scan.removed, scan.specs, scan.problems) == ([], [], {"coordination/worker-specs/archived": None})


def test_a_fleet_that_may_not_be_read_is_an_error(open_home: Home) -> None:
    open_home.specs.chmod(0)
    with powerless():
        error = DirectoryReader(Layout(open_home.path)).scan().error
    open_home.specs.chmod(0o755)
    assert error == f"{open_home.specs} cannot be read (Permission denied): let the poller's user read it"


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (
            "coordination/worker-specs",
            "holds no coordination/worker-specs: set COMMIT_RELAY_HOME to the directory that does",
        ),
        ("coordination", "holds no coordination/worker-specs: set COMMIT_RELAY_HOME to the directory that does"),
        (".", "does not exist: mount it, or set COMMIT_RELAY_HOME to the fleet's home"),
    ],
)
def test_a_missing_directory_is_an_error_and_no_departure(
    home: Home, reader: DirectoryReader, missing: str, says: str
) -> None:
    home.spec("w-1")
    look(reader)
    moved = home.path.with_name("moved")
    (home.path / missing).rename(moved)
    for scan in (look(reader), look(reader, home.specs / "active" / "w-1.json")):
        assert scan.error == f"{home.path} {says}"
        assert (scan.removed, scan.specs) == ([], [])
    moved.rename(home.path / missing)
    assert not look(reader)


def test_worker_specs_that_lead_out_of_the_home_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "home" / "coordination").mkdir(parents=True)
    (tmp_path / "home" / "coordination" / "worker-specs").symlink_to(tmp_path / "outside")
    assert "leads out of the home" in DirectoryReader(Layout(tmp_path / "home")).scan().error


def test_a_home_that_is_itself_a_link_is_read(home: Home, tmp_path: Path) -> None:
    path = home.spec("w-1")
    (tmp_path / "link").symlink_to(home.path)
    reader = DirectoryReader(Layout(tmp_path / "link"))
    assert list(names(look(reader))) == ["active/w-1.json"]
    home.spec("w-1", status="pending")
    assert names(look(reader, path))["active/w-1.json"].status == "pending"


# --- files that are being written


def test_a_spec_that_is_half_written_is_left_alone_until_it_is_whole(home: Home, reader: DirectoryReader) -> None:
    path = home.spec("w-1")
    look(reader)
    whole = path.read_text().replace("running", "pending")
    path.write_text(whole[:100])
    written = path.stat().st_mtime
    assert not reader.scan(now=written + 0.2)
    assert not reader.scan([os.fspath(path)], now=written + 0.4)
    path.write_text(whole)
    assert names(reader.scan(now=path.stat().st_mtime + 0.2))["active/w-1.json"].status == "pending"


def test_a_spec_that_stays_broken_is_shown_after_a_second(home: Home, reader: DirectoryReader) -> None:
    path = home.spec("w-1")
    look(reader)
    path.write_text('{"worker_id": ')
    written = path.stat().st_mtime
    assert not reader.scan(now=written + 0.9)
    assert isinstance(names(reader.scan(now=written + 1.1))["active/w-1.json"], Problem)
    assert not reader.scan(now=written + 2)


def test_a_spec_that_was_broken_from_the_start_is_shown_at_once(home: Home, reader: DirectoryReader) -> None:
    path = home.write("coordination/worker-specs/active/w-1.json", '{"worker_id": ,')
    assert isinstance(names(reader.scan())["active/w-1.json"], Problem)
    path.write_text('{"worker_id": , ')
    assert isinstance(names(reader.scan())["active/w-1.json"], Problem)


def test_a_torn_spec_that_is_removed_is_gone(home: Home, reader: DirectoryReader) -> None:
    path = home.spec("w-1")
    look(reader)
    path.write_text("{")
    assert not reader.scan(now=path.stat().st_mtime + 0.1)
    path.unlink()
    assert reader.scan().removed == ["coordination/worker-specs/active/w-1.json"]


# --- what the caller could not keep


def test_what_is_forgotten_is_told_again(home: Home, reader: DirectoryReader) -> None:
    path = home.spec("w-1")
    home.pm(w_1={})
    home.write("coordination/worker-checkins/w-1.json", '{"worker_id": "w-1"}')
    home.append("coordination/pm-activity.jsonl", "{}\n")
    home.write("agents/workers/w-1/worker.pid", "4711")
    first = look(reader)
    for forgotten in (path, "coordination/pm-state.json", "coordination/worker-checkins/w-1.json",
                      "coordination/pm-activity.jsonl", "agents/workers/w-1/worker.pid"):  # fmt: skip
        reader.forget(os.fspath(forgotten))
    assert look(reader) == first
    assert not look(reader)


def test_a_removal_that_is_forgotten_is_told_again(home: Home, reader: DirectoryReader) -> None:
    path = home.spec("w-1")
    state = home.pm()
    look(reader)
    path.unlink()
    state.unlink()
    first = look(reader)
    assert (first.removed, first.pm_gone) == (["coordination/worker-specs/active/w-1.json"], True)
    reader.forget(first.removed[0])
    reader.forget("coordination/pm-state.json")
    assert look(reader) == first
    assert not look(reader)


# --- the PM daemon and check-ins


def test_the_pm_state_is_told_when_it_changes_and_when_it_is_gone(home: Home, reader: DirectoryReader) -> None:
    path = home.pm(w_1={"health_state": "stalled"})
    state = look(reader).pm
    assert isinstance(state, PmState)
    assert state.entries["w-1"].health_state == "stalled"
    home.pm(w_1={"health_state": "healthy"})
    state = look(reader, path).pm
    assert isinstance(state, PmState)
    assert state.entries["w-1"].health_state == "healthy"
    path.unlink()
    scan = look(reader)
    assert (scan.pm, scan.pm_gone) == (None, True)
    assert not look(reader)


def test_an_empty_pm_state_is_a_problem_once_it_stays_empty(home: Home, reader: DirectoryReader) -> None:
    path = home.pm()
    look(reader)
    path.write_text("")
    assert reader.scan(now=path.stat().st_mtime + 0.1).pm is None
    assert reader.scan(now=path.stat().st_mtime + 2).pm == Problem("The file is empty")


def test_the_pm_daemons_heartbeat_is_part_of_its_state(home: Home, reader: DirectoryReader) -> None:
    home.write("coordination/pm-state.json", '{"pm_daemon": {"pid": 5, "last_loop": "2025-11-20T10:00:00Z"}}')
    look(reader)
    beat = home.write(
        "coordination/pm-daemon-heartbeat.json", '{"pid": 7, "timestamp": "2025-11-20T10:03:00Z", "status": "running"}'
    )
    state = look(reader, beat).pm
    assert isinstance(state, PmState)
    assert (state.daemon.pid, state.daemon.status) == (7, "running")
    assert state.daemon.last_loop == datetime(2025, 11, 20, 10, 3, tzinfo=UTC)
    beat.write_text('{"pid": null, "timestamp": null, "status": "stopped"}')
    state = look(reader).pm
    assert isinstance(state, PmState)
    assert (state.daemon.pid, state.daemon.status) == (5, "stopped")
    beat.write_text("[]")
    assert list(look(reader).problems) == ["coordination/pm-daemon-heartbeat.json"]
    beat.write_text("{}")
    assert look(reader).problems == {"coordination/pm-daemon-heartbeat.json": None}


def test_a_check_in_is_told_once_although_the_pm_daemon_deletes_it(home: Home, reader: DirectoryReader) -> None:
    name = "coordination/worker-checkins/w-1-20251120T100000Z.json"
    data = '{"worker_id": "w-1", "timestamp": "2025-11-20T10:00:00Z", "status": "in_progress", "progress_pct": 40}'
    path = home.write(name, data)
    at = datetime(2025, 11, 20, 10, tzinfo=UTC)
    assert look(reader, path).checkins == [CheckIn("w-1", at, name, "in_progress", 40.0)]
    assert not look(reader)
    path.unlink()
    assert not look(reader)
    home.write(name, data)
    assert len(look(reader).checkins) == 1


def test_a_broken_check_in_is_a_problem_until_it_is_gone(home: Home, reader: DirectoryReader) -> None:
    path = home.write("coordination/worker-checkins/x.json", "{")
    home.write("coordination/worker-checkins/w-1.json", '{"worker_id": "w-1"}')
    scan = look(reader)
    assert [checkin.worker_id for checkin in scan.checkins] == ["w-1"]
    assert isinstance(scan.problems["coordination/worker-checkins/x.json"], Problem)
    path.unlink()
    assert look(reader).problems == {"coordination/worker-checkins/x.json": None}


# --- logs


def test_the_logs_that_grew_shrank_or_are_gone_are_told(home: Home, reader: DirectoryReader) -> None:
    activity = home.append("coordination/pm-activity.jsonl", "{}\n")
    home.append("coordination/dashboard-events.jsonl", "{}\n")
    events = home.append("coordination/events/x.jsonl", "{}\n")
    home.append("coordination/events/archive/2025/x.jsonl", "{}\n")
    home.append("coordination/git-operations.jsonl", "{}\n")
    assert look(reader).logs == [
        "coordination/dashboard-events.jsonl", "coordination/events/x.jsonl", "coordination/pm-activity.jsonl",
    ]  # fmt: skip
    home.append("coordination/events/x.jsonl", "{}\n")
    assert look(reader, events).logs == ["coordination/events/x.jsonl"]
    os.truncate(activity, 0)
    assert look(reader).logs == ["coordination/pm-activity.jsonl"]
    events.unlink()
    assert look(reader).logs == ["coordination/events/x.jsonl"]
    assert not look(reader)


def test_a_log_whose_name_cannot_be_stored_is_a_problem(home: Home, reader: DirectoryReader) -> None:
    home.append("coordination/events/x.jsonl", "{}\n")
    with open(os.fsencode(home.path) + b"/coordination/events/caf\xe9.jsonl", "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"{}\n")
    scan = look(reader)
    assert scan.logs == ["coordination/events/x.jsonl"]
    assert list(scan.problems) == ["coordination/events/caf\\xe9.jsonl"]
    assert not look(reader)


def test_a_log_that_leads_out_of_the_home_is_a_problem(home: Home, reader: DirectoryReader, tmp_path: Path) -> None:
    (tmp_path / "outside.jsonl").write_text("{}\n")
    (home.path / "coordination" / "pm-activity.jsonl").symlink_to(tmp_path / "outside.jsonl")
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "x.jsonl").write_text("{}\n")
    (home.path / "coordination" / "events").symlink_to(tmp_path / "events")
    scan = look(reader)
    assert scan.logs == []
    assert set(scan.problems) == {"coordination/pm-activity.jsonl", "coordination/events"}
    assert not look(reader)


# --- what live workers leave behind


def traces_of(scan: Scan, worker_id: str = "w-1") -> Traces:
    return scan.traces[worker_id]


def test_the_traces_of_a_live_worker_are_read(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    pid = home.write("agents/workers/w-1/worker.pid", "4711\n")
    home.write("agents/workers/w-1/heartbeat.pid", "4712")
    home.write("agents/workers/w-1/heartbeat.json", '{"timestamp": "2025-11-20T10:00:00Z", "progress": "half"}')
    home.write("agents/workers/w-1/status.json", '{"status": "failed", "exit_code": 2, "error": "password=x"}')
    home.write("agents/workers/w-1/logs/stdout.log", "one\nBearer abcdef123456 two\n\n")
    home.write("agents/workers/w-1/logs/heartbeat-emitter.log", "beat\n" * 100)
    traces = traces_of(look(reader))
    assert traces.pid_file
    assert (traces.pid_file.pid, traces.pid_file.source) == (4711, "agents/workers/w-1/worker.pid")
    assert abs(traces.pid_file.written_at.timestamp() - pid.stat().st_mtime) < 0.001
    assert traces.companion
    assert traces.companion.pid == 4712
    assert traces.heartbeat
    assert (traces.heartbeat.worker_id, traces.heartbeat.step) == ("w-1", "half")
    assert traces.status
    assert (traces.status.exit_code, traces.status.error) == (2, "password=[redacted]")
    assert traces.log
    assert (traces.log.source, traces.log.size) == ("agents/workers/w-1/logs/stdout.log", 29)
    assert (traces.log.last_line, traces.log.error) == ("Bearer [redacted] two", "")
    assert traces.problems == ()


def test_logs_of_every_date_belong_to_the_worker(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    home.write("agents/workers/w-1/logs/stdout.log", "old\n")
    newest = home.write("agents/logs/workers/2025-11-20/w-1/run.log", "new\n")
    home.write("agents/logs/workers/2025-11-20/w-10/run.log", "another\n")
    os.utime(newest, (time.time() + 3, time.time() + 3))
    log = traces_of(look(reader)).log
    assert log
    assert (log.source, log.last_line, log.size) == ("agents/logs/workers/2025-11-20/w-1/run.log", "new", 8)


@pytest.mark.parametrize(
    ("relative", "text", "part"),
    [
        ("agents/workers/w-1/worker.pid", "4713", "pid_file"),
        ("agents/workers/w-1/status.json", '{"status": "completed"}', "status"),
        ("agents/workers/w-1/heartbeat.json", '{"timestamp": "2025-11-20T10:00:00Z"}', "heartbeat"),
        ("agents/workers/w-1/logs/stderr.log", "x\n", "log"),
        ("agents/logs/workers/2025-11-20/w-1/run.log", "x\n", "log"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_new_trace_is_told_and_so_is_its_end(
    home: Home, reader: DirectoryReader, relative: str, text: str, part: str, named: bool
) -> None:
    home.spec("w-1")
    look(reader)
    paths = [relative] if named else []
    path = home.write(relative, text)
    assert getattr(traces_of(look(reader, *paths)), part)
    assert not look(reader)
    path.unlink()
    assert getattr(traces_of(look(reader, *paths)), part) is None
    assert not look(reader)


def test_a_log_line_is_told(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    home.append("agents/workers/w-1/logs/stdout.log", "one\n")
    look(reader)
    home.append("agents/workers/w-1/logs/stdout.log", "two\n")
    log = traces_of(look(reader)).log
    assert log
    assert log.last_line == "two"


def test_traces_are_looked_for_when_a_worker_becomes_live(home: Home, reader: DirectoryReader) -> None:
    home.write("agents/workers/w-1/worker.pid", "4711")
    home.write("agents/workers/broken/worker.pid", "4712")
    home.spec("w-1", "completed")
    assert look(reader).traces == {}
    path = home.spec("w-1", name="another name")
    assert list(look(reader, path).traces) == ["w-1"]
    home.write("coordination/worker-specs/active/broken.json", "{")
    assert list(look(reader).traces) == ["broken"]


def test_an_id_that_is_no_part_of_a_path_has_no_traces(home: Home, reader: DirectoryReader) -> None:
    home.write("agents/secret/worker.pid", "4711")
    (home.path / "agents" / "workers").mkdir()
    for number, worker_id in enumerate(("../secret", "..", ".", "a/b", "/etc", "x\0y", "w" * 300)):
        home.write(f"coordination/worker-specs/active/{number}.json", json.dumps({"worker_id": worker_id}))
        assert Layout(home.path).worker_dir(worker_id) == ""
    assert look(reader).traces == {}
    assert Layout(home.path).worker_dir("w-1") == str(home.path / "agents" / "workers" / "w-1")


def test_broken_traces_are_problems(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    home.write("agents/workers/w-1/worker.pid", "12 13")
    home.write("agents/workers/w-1/status.json", "{")
    traces = traces_of(look(reader))
    assert [path for path, _ in traces.problems] == ["agents/workers/w-1/status.json", "agents/workers/w-1/worker.pid"]
    assert (traces.pid_file, traces.status) == (None, None)


def test_traces_that_lead_out_of_the_home_are_refused(home: Home, reader: DirectoryReader, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "logs").mkdir(parents=True)
    (outside / "worker.pid").write_text("1")
    for worker_id in ("w-1", "w-2", "w-3"):
        home.spec(worker_id)
    (home.path / "agents" / "workers" / "w-2").mkdir(parents=True)
    (home.path / "agents" / "workers" / "w-1").symlink_to(outside)
    (home.path / "agents" / "workers" / "w-2" / "worker.pid").symlink_to(outside / "worker.pid")
    (home.path / "agents" / "workers" / "w-2" / "logs").symlink_to(outside / "logs")
    scan = look(reader)
    assert {
        path: problem.reason.split(",")[0] for traces in scan.traces.values() for path, problem in traces.problems
    } == {
        "agents/workers/w-1": "A link out of the home",
        "agents/workers/w-2/worker.pid": "A link out of the home",
        "agents/workers/w-2/logs": "A link out of the home",
    }
    assert all(traces.pid_file is None for traces in scan.traces.values())
    assert not look(reader)


def test_an_empty_log_is_no_activity(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    home.write("agents/workers/w-1/logs/stdout.log", "")
    home.write("agents/workers/w-1/worker.pid", "4711")
    assert traces_of(look(reader)).log is None


@pytest.mark.parametrize("size", [10, 5000, 70_000])
def test_the_last_line_of_a_long_log_is_found_from_its_end(home: Home, reader: DirectoryReader, size: int) -> None:
    home.spec("w-1")
    home.write("agents/workers/w-1/logs/stdout.log", "first\n" * 1000 + "x" * size + "\n\n\n")
    log = traces_of(look(reader)).log
    assert log
    assert log.last_line == ("x" * size if size < 500 else "x" * 499 + "…")


def test_colours_and_progress_bars_are_no_text(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    home.write("agents/workers/w-1/logs/stdout.log", "a\n 10 %\r 20 %\r\x1b[31mred\x1b[0m\x07\n")
    log = traces_of(look(reader)).log
    assert log
    assert log.last_line == "red"


def test_an_error_at_the_end_of_another_log_of_that_moment_counts(home: Home, reader: DirectoryReader) -> None:
    home.spec("w-1")
    stderr = home.write(
        "agents/workers/w-1/logs/stderr.log", "Traceback (most recent call last):\n  x\nValueError: no\n"
    )
    stdout = home.write("agents/workers/w-1/logs/stdout.log", "bye\n")
    now = time.time()
    os.utime(stdout, (now, now))
    os.utime(stderr, (now - 2, now - 2))
    log = traces_of(look(reader)).log
    assert log
    assert (log.last_line, log.error) == ("bye", "ValueError: no")
    os.utime(stderr, (now - 60, now - 60))
    log = traces_of(look(reader)).log
    assert log
    assert log.error == ""


ERRORS = [
    "Traceback (most recent call last):", "ValueError: invalid literal", "KeyboardInterrupt", "SystemExit: 1",
    "django.db.utils.OperationalError: database is locked", "java.lang.NullPointerException: x", "ERROR: no space left",
    "[2025-11-16T07:24:50-0600] [PM] ERROR: Worker w-1 failed", "2025-11-16 07:24:50,123 - app - ERROR - it broke",
    "2025-11-16T07:24:50Z ERROR it broke", "ERROR:root:it broke", "[main] FATAL cannot go on", "Error: it broke",
    "error: could not compile", "git: fatal: not a repository", "fatal: not a git repository", "panic: runtime error",
    "API Error: 401 Unauthorized", "npm ERR! code ELIFECYCLE", "exited with exit code 1",
    "Process exited with code 137", "exit status 2", "command failed with exit code: 3",
    "/bin/sh: 1: claude: command not found", "Segmentation fault",
    "Killed", "Out of memory: Killed process 4711", "    at main (/app/index.js:10:5)", "Node.js v20.1.0",
    '{"level":"error","msg":"x"}', "level=fatal msg=x", "Caused by: java.io.IOException: x", "Uncaught TypeError: x",
]  # fmt: skip
NO_ERRORS = [
    "", "done", "0 errors", "Finished with 0 errors, 0 failures", "no errors found", "errors: 0", "error count is zero",
    "Implemented ERROR handling", "Added error handling to the gateway", "exited with code 0", "exit status 0",
    "Process finished with exit code 0", "INFO: retrying after error", "[2025-11-16T07:24:50-0600] [PM] WARN: stalled",
    "2025-11-16 07:24:50 INFO Fixed ValueError in parser", "returned status 200", "Tests: 12 passed, 0 failed",
    "level=info msg=error", "Fixes the panic button", "Wrote ErrorPage.tsx", "version 1.2.3", "exit",
    "Error handling: done", "Handled all errors", "Compiled without errors",
]  # fmt: skip


@pytest.mark.parametrize("line", ERRORS)
def test_a_line_that_says_that_something_went_wrong_reads_like_an_error(line: str) -> None:
    assert reads_like_error(line)


@pytest.mark.parametrize("line", NO_ERRORS)
def test_a_line_that_only_mentions_errors_does_not(line: str) -> None:
    assert not reads_like_error(line)


# --- the whole


def test_the_real_fleet_is_read_whole(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip(f"there is no real fleet at {REAL}")
    shutil.copytree(REAL, tmp_path / "home", copy_function=shutil.copyfile)
    reader = DirectoryReader(Layout(tmp_path / "home"))
    scan = look(reader)
    files = {os.fspath(path.relative_to(REAL)) for path in (REAL / "coordination/worker-specs").rglob("*.json")}
    assert {seen.path for seen in scan.specs} == files
    assert Counter(type(seen.content).__name__ for seen in scan.specs) == {"Spec": 101, "Problem": 6, "Other": 2}
    broken = [seen.content for seen in scan.specs if isinstance(seen.content, Problem)]
    assert all(problem.line and problem.column and problem.excerpt and problem.reading for problem in broken)
    assert sum(seen.path.startswith("coordination/worker-specs/active/") for seen in scan.specs) == 12
    assert len(scan.logs) == 5
    assert isinstance(scan.pm, PmState)
    assert (len(scan.pm.entries), scan.pm.daemon.status) == (59, "stopped")
    assert (scan.problems, scan.error, scan.removed) == ({}, "", [])
    assert not look(reader)
