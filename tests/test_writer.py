"""Files of a home are written so that nobody ever misses one, or finds half of one, whoever else writes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from workers.coordination import writer
from workers.coordination.layout import Layout
from workers.coordination.writer import (
    ChangedError,
    WriteError,
    append_line,
    clear,
    place,
    read,
    remove,
    rename,
    replace,
    set_aside,
)

ACTIVE = "coordination/worker-specs/active"
FAILED = "coordination/worker-specs/failed"
SPEC = f"{ACTIVE}/w-1.json"
MOVED = f"{FAILED}/w-1.json"
LOG = "coordination/dashboard-events.jsonl"
OLD = b'{"worker_id": "w-1", "status": "running"}\n'
NEW = b'{"worker_id": "w-1", "status": "failed"}\n'
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's place, or mount a disk")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    home = tmp_path / "home"
    (home / ACTIVE).mkdir(parents=True)
    (home / SPEC).write_bytes(OLD)
    return Layout(home)


def names(layout: Layout, folder: str = ACTIVE) -> list[str]:
    return sorted(path.name for path in (layout.home / folder).iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def leftovers(layout: Layout) -> list[str]:
    return [path.name for path in layout.home.rglob(".*")]


# --- replacing --------------------------------------------------------------------------------------------------------


def test_a_file_gets_exactly_the_new_bytes_and_keeps_its_mode(layout: Layout) -> None:
    for mode in (0o600, 0o640, 0o644, 0o664, 0o400):
        (layout.home / SPEC).chmod(mode)
        data = b"\xff\x00 %o" % mode
        replace(layout, SPEC, data, expected=read(layout, SPEC) or b"", token="t")
        assert (layout.home / SPEC).read_bytes() == data
        assert mode_of(layout.home / SPEC) == mode
    assert names(layout) == ["w-1.json"]


@as_root
def test_a_file_keeps_its_owner(layout: Layout) -> None:
    os.chown(layout.home / SPEC, NOBODY, 12345)
    replace(layout, SPEC, NEW, expected=OLD, token="t")
    place(layout, MOVED, NEW, token="t", like=SPEC)
    for path in (SPEC, MOVED):
        status = (layout.home / path).stat()
        assert (status.st_uid, status.st_gid) == (NOBODY, 12345)


@pytest.mark.parametrize("data", [b"", b"x" * (3 * 1024 * 1024)], ids=["empty", "large"])
def test_files_of_any_size_are_read_and_replaced(layout: Layout, data: bytes) -> None:
    replace(layout, SPEC, data, expected=OLD, token="t")
    assert read(layout, SPEC) == data
    replace(layout, SPEC, OLD, expected=data, token="t")
    assert read(layout, SPEC) == OLD


def test_a_file_that_somebody_changed_is_not_replaced(layout: Layout) -> None:
    for other in (b"", OLD.strip(), OLD + b" "):
        (layout.home / SPEC).write_bytes(other)
        with pytest.raises(ChangedError, match=r"active/w-1\.json: somebody has changed it"):
            replace(layout, SPEC, NEW, expected=OLD, token="t")
        assert (layout.home / SPEC).read_bytes() == other
    assert names(layout) == ["w-1.json"]


def test_a_file_that_is_gone_is_not_made_again(layout: Layout) -> None:
    (layout.home / SPEC).unlink()
    for path in (SPEC, MOVED):
        with pytest.raises(ChangedError, match="it is gone"):
            replace(layout, path, NEW, expected=OLD, token="t")
    assert names(layout) == []
    assert not (layout.home / FAILED).exists()


def during_fsync(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Let somebody act once, while the temporary file is on its way to the disk."""
    real, pending = os.fsync, [act]

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if pending:
            pending.pop()()

    monkeypatch.setattr(os, "fsync", fsync)


def heartbeat(path: Path, data: bytes) -> None:
    """Write as ``jq … f > f.tmp && mv f.tmp f`` does."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def test_a_heartbeat_while_we_write_is_noticed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    during_fsync(monkeypatch, lambda: heartbeat(layout.home / SPEC, OLD + b"\n"))
    with pytest.raises(ChangedError):
        replace(layout, SPEC, NEW, expected=OLD, token="t")
    assert read(layout, SPEC) == OLD + b"\n"
    assert names(layout) == ["w-1.json"]


def test_a_file_that_vanishes_while_we_write_stays_away(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    during_fsync(monkeypatch, (layout.home / SPEC).unlink)
    with pytest.raises(ChangedError, match="it is gone"):
        replace(layout, SPEC, NEW, expected=OLD, token="t")
    assert names(layout) == []


@contextmanager
def watched(path: Path) -> Iterator[list[bytes]]:
    """Read a file all the time, and collect what it says: anything but whole JSON, b"gone" where it is missed."""
    seen: list[bytes] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                data = path.read_bytes()
                json.loads(data)
            except FileNotFoundError:
                seen.append(b"gone")
            except ValueError:
                seen.append(data)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join()


@contextmanager
def shell(script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["bash", "-c", script, "_", *arguments], start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_beside_a_running_heartbeat_every_change_arrives_or_is_refused(layout: Layout) -> None:
    path = layout.home / SPEC
    beat = 'while :; do jq ".beat += 1" "$1" > "$1.tmp" && mv "$1.tmp" "$1"; sleep 0.02; done'
    beats: set[int | None] = set()
    written = 0
    with watched(path) as seen, shell(beat, str(path)):
        deadline = time.monotonic() + 30
        while (written < 10 or len(beats) < 5) and time.monotonic() < deadline:
            before = read(layout, SPEC)
            assert before
            document = json.loads(before)
            beats.add(document.get("beat"))
            after = json.dumps({**document, "ours": written}).encode()
            with suppress(ChangedError):
                replace(layout, SPEC, after, expected=before, token="t")
                written += 1
    assert written >= 10
    assert len(beats) >= 5
    assert seen == []
    assert [name for name in names(layout) if "relay" in name] == []


def test_a_writer_with_the_shared_temporary_name_does_not_empty_our_file(layout: Layout) -> None:
    """Trap 10, step by step: the daemon has just emptied ``<file>.tmp`` and not yet written into it."""
    path = layout.home / SPEC
    shared = path.with_name("w-1.json.tmp")
    with shared.open("wb") as daemon:
        replace(layout, SPEC, NEW, expected=OLD, token="t")
        assert path.read_bytes() == NEW
        assert shared.read_bytes() == b""
        daemon.write(OLD)
    shared.replace(path)
    assert path.read_bytes() == OLD  # the daemon's own, whole; and the caller, who looks again, sees it


def test_among_daemons_that_empty_each_others_files_ours_are_whole(layout: Layout) -> None:
    """Two daemons share a name and do leave empty files; what we call written was ours, and whole, at that moment."""
    path = layout.home / SPEC
    daemon = 'while :; do printf "{\\"daemon\\": 1}" > "$1.tmp"; mv "$1.tmp" "$1" 2>/dev/null; done'
    written = 0
    with shell(daemon, str(path)), shell(daemon, str(path)):
        for number in range(3000):
            before = read(layout, SPEC)
            if before is None:
                continue
            ours = json.dumps({"ours": number, "long": "x" * 5000}).encode()
            try:
                replace(layout, SPEC, ours, expected=before, token="t")
            except ChangedError:
                continue
            written += 1
            now = read(layout, SPEC)
            assert now == ours or now in (b"", b'{"daemon": 1}')
            if written == 20:
                break
    assert written == 20


def test_a_leftover_of_the_same_token_is_no_obstacle(layout: Layout) -> None:
    leftover = layout.home / ACTIVE / ".w-1.json.t.relay-tmp"
    leftover.write_bytes(b"half of som")
    replace(layout, SPEC, NEW, expected=OLD, token="t")
    assert read(layout, SPEC) == NEW
    assert names(layout) == ["w-1.json"]


def test_the_longest_name_can_be_replaced(layout: Layout) -> None:
    path = f"{ACTIVE}/{'ü' * 125}.json"
    place(layout, path, OLD, token="a" * 64)
    replace(layout, path, NEW, expected=OLD, token="a" * 64)
    assert read(layout, path) == NEW
    with pytest.raises(WriteError, match="no path inside the home"):
        place(layout, f"{ACTIVE}/{'ü' * 126}.json", OLD, token="a")
    assert leftovers(layout) == []


@pytest.mark.parametrize("token", ["", "a.b", "a/b", "..", "é", "a" * 65, "a b", "a\n"])
def test_a_token_that_could_be_mistaken_is_refused(layout: Layout, token: str) -> None:
    for act in (
        lambda: replace(layout, SPEC, NEW, expected=OLD, token=token),
        lambda: place(layout, MOVED, NEW, token=token),
        lambda: clear(layout, ACTIVE, token),
    ):
        with pytest.raises(ValueError, match="cannot be a token"):
            act()
    assert read(layout, SPEC) == OLD


# --- placing ----------------------------------------------------------------------------------------------------------


def test_a_new_file_is_placed_with_its_directories(layout: Layout) -> None:
    place(layout, f"{FAILED}/2025/w-1.json", NEW, token="t")
    assert (layout.home / FAILED / "2025/w-1.json").read_bytes() == NEW
    mask = os.umask(0)
    os.umask(mask)
    assert mode_of(layout.home / FAILED) == 0o755 & ~mask
    assert mode_of(layout.home / FAILED / "2025/w-1.json") == 0o644 & ~mask
    assert (layout.home / FAILED / "2025/w-1.json").stat().st_nlink == 1
    assert names(layout, f"{FAILED}/2025") == ["w-1.json"]


def test_a_new_file_takes_the_mode_of_another(layout: Layout) -> None:
    (layout.home / SPEC).chmod(0o660)
    place(layout, MOVED, NEW, token="t", like=SPEC)
    assert mode_of(layout.home / MOVED) == 0o660
    place(layout, f"{FAILED}/w-2.json", NEW, token="t", like=f"{ACTIVE}/gone.json")
    assert read(layout, f"{FAILED}/w-2.json") == NEW


def stand_there(path: Path, what: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if what == "file":
        path.write_bytes(b"of somebody else")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("/nowhere")


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
@pytest.mark.parametrize("what", ["file", "directory", "dangling link"])
def test_nothing_is_overwritten(layout: Layout, monkeypatch: pytest.MonkeyPatch, what: str, links: bool) -> None:
    if not links:
        forbid_links(monkeypatch)
    stand_there(layout.home / MOVED, what)
    before = os.lstat(layout.home / MOVED)
    with pytest.raises(ChangedError, match=r"failed/w-1\.json: something stands there already"):
        place(layout, MOVED, NEW, token="t")
    with pytest.raises(ChangedError, match="something stands there already"):
        rename(layout, SPEC, MOVED)
    assert os.lstat(layout.home / MOVED) == before
    assert read(layout, SPEC) == OLD
    assert names(layout, FAILED) == ["w-1.json"]


def forbid_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a file system without hard links."""

    def link(*arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


def test_a_file_system_without_links_serves_too(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_links(monkeypatch)
    place(layout, MOVED, NEW, token="t", like=SPEC)
    assert read(layout, MOVED) == NEW
    assert set_aside(layout, MOVED) == f"{FAILED}/w-1-earlier-1.json"
    rename(layout, SPEC, MOVED)
    assert read(layout, MOVED) == OLD
    assert (names(layout), names(layout, FAILED)) == ([], ["w-1-earlier-1.json", "w-1.json"])


def test_a_failed_move_without_links_leaves_no_empty_file(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_links(monkeypatch)
    fail(monkeypatch, "rename", errno.EIO)
    with pytest.raises(WriteError, match="the disk reports an error"):
        rename(layout, SPEC, MOVED)
    assert (names(layout), names(layout, FAILED)) == (["w-1.json"], [])


def test_one_of_many_that_place_at_once_wins(layout: Layout) -> None:
    won: list[int] = []

    def try_it(number: int) -> None:
        try:
            place(layout, MOVED, b"%d" % number, token=f"t{number}")
            won.append(number)
        except ChangedError:
            pass

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read(layout, MOVED) == b"%d" % won[0]
    assert names(layout, FAILED) == ["w-1.json"]


# --- setting aside, renaming, removing --------------------------------------------------------------------------------


def test_an_earlier_file_is_kept_under_the_first_free_name(layout: Layout) -> None:
    for number in (1, 2, 3):
        place(layout, MOVED, b"%d" % number, token="t")
        assert set_aside(layout, MOVED) == f"{FAILED}/w-1-earlier-{number}.json"
    assert [read(layout, f"{FAILED}/w-1-earlier-{number}.json") for number in (1, 2, 3)] == [b"1", b"2", b"3"]
    (layout.home / FAILED / "w-1-earlier-2.json").unlink()
    place(layout, MOVED, b"4", token="t")
    assert set_aside(layout, MOVED) == f"{FAILED}/w-1-earlier-2.json"
    assert set_aside(layout, MOVED) == ""
    assert set_aside(layout, "coordination/no/such.json") == ""


def test_a_file_that_is_set_aside_is_never_missed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its new name before it loses the old one."""
    seen: list[list[str]] = []
    real = os.unlink

    def unlink(*arguments: Any, **options: Any) -> None:
        seen.append(names(layout))
        real(*arguments, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    set_aside(layout, SPEC)
    assert seen == [["w-1-earlier-1.json", "w-1.json"]]


def test_setting_aside_and_renaming_are_finished_after_a_kill(layout: Layout) -> None:
    os.link(layout.home / SPEC, layout.home / ACTIVE / "w-1-earlier-1.json")
    assert set_aside(layout, SPEC) == f"{ACTIVE}/w-1-earlier-1.json"
    assert names(layout) == ["w-1-earlier-1.json"]
    (layout.home / FAILED).mkdir()
    os.link(layout.home / ACTIVE / "w-1-earlier-1.json", layout.home / MOVED)
    rename(layout, f"{ACTIVE}/w-1-earlier-1.json", MOVED)
    assert (names(layout), read(layout, MOVED)) == ([], OLD)


def test_a_file_is_renamed_with_mode_and_time(layout: Layout) -> None:
    (layout.home / SPEC).chmod(0o640)
    before = (layout.home / SPEC).stat()
    rename(layout, SPEC, MOVED)
    after = (layout.home / MOVED).stat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert names(layout) == []
    with pytest.raises(ChangedError, match=r"active/w-1\.json: it is gone"):
        rename(layout, SPEC, MOVED)


def test_a_file_is_not_lost_by_renaming_it_to_itself(layout: Layout) -> None:
    (layout.home / "other").symlink_to(layout.home / ACTIVE)
    os.link(layout.home / SPEC, layout.home / "a-second-name")
    for target in (SPEC, "other/w-1.json"):
        with pytest.raises(ChangedError, match="something stands there already"):
            rename(layout, SPEC, target)
    assert read(layout, SPEC) == OLD


def test_a_heartbeat_while_we_rename_keeps_the_newer_file(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        heartbeat(layout.home / SPEC, NEW)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ChangedError, match=r"active/w-1\.json: somebody has changed it"):
        rename(layout, SPEC, MOVED)
    assert read(layout, SPEC) == NEW
    assert names(layout, FAILED) == []


def test_a_file_that_vanishes_while_we_rename_is_said_to_be_gone(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(*arguments: Any, **options: Any) -> None:
        (layout.home / SPEC).unlink()
        real(*arguments, **options)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ChangedError, match="it is gone"):
        rename(layout, SPEC, MOVED)


def test_a_file_is_removed_if_it_is_the_one(layout: Layout) -> None:
    with pytest.raises(ChangedError):
        remove(layout, SPEC, expected=NEW)
    assert read(layout, SPEC) == OLD
    assert remove(layout, SPEC, expected=OLD) is True
    assert remove(layout, SPEC, expected=OLD) is False
    assert remove(layout, "coordination/no/such.json", expected=OLD) is False


# --- lines ------------------------------------------------------------------------------------------------------------


def test_a_line_is_appended(layout: Layout) -> None:
    assert append_line(layout, LOG, b'{"n": 1}') == 0
    assert append_line(layout, LOG, b'{"n": 2}\n') == 9
    assert read(layout, LOG) == b'{"n": 1}\n{"n": 2}\n'
    mask = os.umask(0)
    os.umask(mask)
    assert mode_of(layout.home / LOG) == 0o644 & ~mask
    assert append_line(layout, "coordination/events/new/relay.jsonl", b"{}") == 0


def test_a_line_after_a_torn_one_stands_alone(layout: Layout) -> None:
    (layout.home / LOG).write_bytes(b'{"n": 1}\n{"n": 2, "ha')
    assert append_line(layout, LOG, b'{"n": 3}') == 21
    assert read(layout, LOG) == b'{"n": 1}\n{"n": 2, "ha\n{"n": 3}\n'


def test_two_lines_in_one_are_refused(layout: Layout) -> None:
    with pytest.raises(ValueError, match="no line break"):
        append_line(layout, LOG, b"a\nb")
    assert read(layout, LOG) is None


def append_many(home: str, who: int) -> None:
    layout = Layout(Path(home))
    for number in range(100):
        append_line(layout, LOG, json.dumps({"who": who, "n": number, "fill": "x" * (number * 37)}).encode())


def test_lines_that_four_processes_append_are_all_there(layout: Layout) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append_many, args=(str(layout.home), who)) for who in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    records = [json.loads(line) for line in (read(layout, LOG) or b"").split(b"\n") if line]
    for who in range(4):
        assert [record["n"] for record in records if record["who"] == who] == list(range(100))


# --- nothing leaves the home ------------------------------------------------------------------------------------------

Act = Callable[[Layout, str], Any]
ACTS: dict[str, Act] = {
    "read": read,
    "replace": lambda layout, path: replace(layout, path, NEW, expected=OLD, token="t"),
    "place": lambda layout, path: place(layout, path, NEW, token="t"),
    "set aside": set_aside,
    "remove": lambda layout, path: remove(layout, path, expected=OLD),
    "rename": lambda layout, path: rename(layout, path, "coordination/moved.json"),
    "rename to": lambda layout, path: rename(layout, SPEC, path),
    "append": lambda layout, path: append_line(layout, path, b"{}"),
}
each_act = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())


@each_act
def test_a_directory_that_leads_out_of_the_home_is_refused(layout: Layout, tmp_path: Path, act: Act) -> None:
    outside = tmp_path / "home-of-others"
    outside.mkdir()
    (outside / "w-1.json").write_bytes(OLD)
    (layout.home / FAILED).symlink_to(outside)
    for path in (MOVED, f"{FAILED}/new/w-9.json"):
        with pytest.raises(WriteError, match=r"failed.*: it leads out of the home, to .*home-of-others"):
            act(layout, path)
    assert list(outside.iterdir()) == [outside / "w-1.json"]
    assert (outside / "w-1.json").read_bytes() == OLD
    with pytest.raises(WriteError, match="leads out"):
        clear(layout, FAILED, "t")


@each_act
def test_a_directory_that_becomes_a_link_after_it_was_looked_at_is_refused(tmp_path: Path, act: Act) -> None:
    outside, home = tmp_path / "outside", tmp_path / "home"
    for folder in (outside, home / ACTIVE, home / FAILED):
        folder.mkdir(parents=True)
    for path in (outside / "w-1.json", home / SPEC, home / MOVED):
        path.write_bytes(OLD)

    class Swapping(Layout):
        def inside(self, path: str | os.PathLike[str]) -> bool:
            answer = super().inside(path)
            if os.fspath(path).endswith("failed"):
                shutil.rmtree(home / FAILED)
                (home / FAILED).symlink_to(outside)
            return answer

    try:
        result = act(Swapping(home), MOVED)
    except (ChangedError, WriteError):
        result = None
    assert result in (None, "", False)
    assert list(outside.iterdir()) == [outside / "w-1.json"]
    assert (outside / "w-1.json").read_bytes() == OLD


@each_act
def test_a_link_is_refused(layout: Layout, tmp_path: Path, act: Act) -> None:
    (tmp_path / "secret.json").write_bytes(OLD)
    link = layout.home / ACTIVE / "link.json"
    for target in (tmp_path / "secret.json", layout.home / SPEC):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises((WriteError, ChangedError), match=r"link\.json: (it is a symbolic link|something stands)"):
            act(layout, f"{ACTIVE}/link.json")
        assert link.is_symlink()
        assert target.read_bytes() == OLD
    assert leftovers(layout) == []


@each_act
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused(layout: Layout, act: Act, make: Callable[[Path], None]) -> None:
    make(layout.home / ACTIVE / "odd.json")
    with pytest.raises((WriteError, ChangedError), match=r"odd\.json: (it is no regular|a directory|something stands)"):
        act(layout, f"{ACTIVE}/odd.json")
    assert names(layout) == ["odd.json", "w-1.json"]


@each_act
@pytest.mark.parametrize(
    "path",
    ["", "/etc/hosts", "../w.json", f"{ACTIVE}/../../../../w.json", f"{ACTIVE}//w.json", f"{ACTIVE}/", ".", "a\0b"],
)
def test_a_path_that_is_no_plain_path_is_refused(layout: Layout, act: Act, path: str) -> None:
    with pytest.raises(WriteError, match="no path inside the home"):
        act(layout, path)


def test_a_link_to_another_place_of_the_home_is_followed(layout: Layout) -> None:
    (layout.home / "elsewhere").mkdir()
    (layout.home / FAILED).symlink_to(layout.home / "elsewhere")
    place(layout, MOVED, NEW, token="t")
    assert (layout.home / "elsewhere/w-1.json").read_bytes() == NEW


def test_a_home_that_is_a_link_is_written_to(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(layout.home)
    linked = Layout(tmp_path / "link")
    replace(linked, SPEC, NEW, expected=OLD, token="t")
    assert read(layout, SPEC) == NEW


def test_files_in_the_home_itself_are_written(layout: Layout) -> None:
    place(layout, "top.json", OLD, token="t")
    assert set_aside(layout, "top.json") == "top-earlier-1.json"
    assert read(layout, "top-earlier-1.json") == OLD
    (layout.home / ".x.t.relay-tmp").touch()
    clear(layout, "", "t")
    assert leftovers(layout) == []


def test_a_home_that_is_gone_is_not_made(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "gone")
    assert read(layout, SPEC) is None
    with pytest.raises(WriteError, match="no such file"):
        place(layout, SPEC, NEW, token="t")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LARGEST", len(OLD))
    assert read(layout, SPEC) == OLD
    monkeypatch.setattr(writer, "LARGEST", len(OLD) - 1)
    with pytest.raises(WriteError, match="it is larger than"):
        read(layout, SPEC)


# --- what the system refuses ------------------------------------------------------------------------------------------


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refuse)


@pytest.mark.parametrize("name", ["write", "fsync", "fchmod", "rename"])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, name, errno.EIO)
        with pytest.raises(WriteError, match=r"w-1\.json: the disk reports an error; look at the system's log"):
            replace(layout, SPEC, NEW, expected=OLD, token="t")
    assert read(layout, SPEC) == OLD
    assert names(layout) == ["w-1.json"]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full; make room"),
        (errno.EROFS, "its file system is read-only; mount it writable"),
        (errno.EXDEV, "the two directories are on different file systems; move the file by hand"),
        (errno.EBUSY, r"the system refuses \(device or resource busy\)"),
    ],
)
def test_a_refusal_says_what_to_do(layout: Layout, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str) -> None:
    fail(monkeypatch, "link", number)
    for act in (ACTS["place"], ACTS["rename to"]):
        with pytest.raises(WriteError, match=rf"failed/w-1\.json: {sentence}"):
            act(layout, MOVED)
    assert (names(layout), names(layout, FAILED)) == (["w-1.json"], [])


def test_a_file_where_a_directory_should_be_is_named(layout: Layout) -> None:
    (layout.home / FAILED).write_bytes(b"a file")
    for act in (ACTS["place"], ACTS["rename to"], ACTS["append"]):
        with pytest.raises(WriteError, match=r"failed/w-1\.json: what should be its directory is none"):
            act(layout, MOVED)
    assert read(layout, MOVED) is None
    assert read(layout, SPEC) == OLD


@pytest.fixture
def open_layout() -> Iterator[Layout]:
    """A home that others may reach: above tmp_path only its owner may pass."""
    home = Path(tempfile.mkdtemp(prefix="relay-writer-"))
    home.chmod(0o755)
    (home / ACTIVE).mkdir(parents=True)
    (home / SPEC).write_bytes(OLD)
    yield Layout(home)
    shutil.rmtree(home)


@contextmanager
def nobody() -> Iterator[None]:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@as_root
@pytest.mark.parametrize("name", ["replace", "place", "set aside", "remove", "rename", "rename to", "append"])
def test_without_the_permission_nothing_happens(open_layout: Layout, name: str) -> None:
    path = f"{ACTIVE}/new.json" if name in {"place", "rename to", "append"} else SPEC
    with nobody(), pytest.raises(WriteError, match="this user lacks the permission; give it the right"):
        ACTS[name](open_layout, path)
    assert read(open_layout, SPEC) == OLD
    assert names(open_layout) == ["w-1.json"]


@as_root
def test_what_may_not_be_read_is_said(open_layout: Layout) -> None:
    (open_layout.home / SPEC).chmod(0o600)
    with nobody(), pytest.raises(WriteError, match="this user lacks the permission"):
        read(open_layout, SPEC)


@as_root
def test_a_user_who_may_write_into_the_directory_replaces_and_moves_another_users_file(open_layout: Layout) -> None:
    (open_layout.home / ACTIVE).chmod(0o777)
    (open_layout.home / SPEC).chmod(0o644)
    with nobody():
        rename(open_layout, SPEC, f"{ACTIVE}/moved.json")  # whose file may not be linked, where the system is strict
        replace(open_layout, f"{ACTIVE}/moved.json", NEW, expected=OLD, token="t")
    assert mode_of(open_layout.home / ACTIVE / "moved.json") == 0o644
    assert (open_layout.home / ACTIVE / "moved.json").stat().st_uid == NOBODY
    assert names(open_layout) == ["moved.json"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Layout]:
    """A home on a disk of four pages."""
    home = tmp_path / "small"
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(home)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (home / ACTIVE).mkdir(parents=True)
        (home / SPEC).write_bytes(OLD)
        yield Layout(home)
    finally:
        subprocess.run(["umount", str(home)], check=True)


@as_root
def test_a_full_disk_leaves_what_was_there(small_disk: Layout) -> None:
    large = b"x" * 50_000
    for act in (
        lambda: replace(small_disk, SPEC, large, expected=OLD, token="t"),
        lambda: place(small_disk, MOVED, large, token="t"),
    ):
        with pytest.raises(WriteError, match="the disk is full; make room and try again"):
            act()
    assert read(small_disk, SPEC) == OLD
    assert (names(small_disk), names(small_disk, FAILED)) == (["w-1.json"], [])
    replace(small_disk, SPEC, NEW, expected=OLD, token="t")
    assert read(small_disk, SPEC) == NEW


@as_root
def test_a_line_that_does_not_fit_on_the_disk_spoils_no_other(small_disk: Layout) -> None:
    append_line(small_disk, LOG, b'{"n": 1}')
    with pytest.raises(WriteError, match="only a part of the line fitted; make room"):
        append_line(small_disk, LOG, b"x" * 50_000)
    with pytest.raises(WriteError, match="the disk is full"):
        append_line(small_disk, LOG, b'{"n": 2}')
    os.truncate(small_disk.home / LOG, 5000)  # somebody makes room
    append_line(small_disk, LOG, b'{"n": 3}')
    lines = (read(small_disk, LOG) or b"").split(b"\n")
    assert (lines[0], set(lines[1]), lines[2]) == (b'{"n": 1}', set(b"x"), b'{"n": 3}')


def limited(home: str) -> None:
    """Be a process that may write no file of more than 1000 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    layout = Layout(Path(home))
    with pytest.raises(WriteError, match="larger than this process may write"):
        replace(layout, SPEC, b"x" * 5000, expected=OLD, token="t")
    with pytest.raises(WriteError, match="larger than this process may write"):
        place(layout, MOVED, b"x" * 5000, token="t")


def test_a_process_that_may_write_no_more_leaves_what_was_there(layout: Layout) -> None:
    process = multiprocessing.get_context("fork").Process(target=limited, args=(str(layout.home),))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert read(layout, SPEC) == OLD
    assert (names(layout), names(layout, FAILED)) == (["w-1.json"], [])


# --- killed at any point ----------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from workers.coordination import writer
from workers.coordination.layout import Layout

home, action, call, moment = sys.argv[1:]
real = getattr(os, call)

def die(*arguments, **options):
    if moment == "after":
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

layout, spec, moved = Layout(Path(home)), "{SPEC}", "{MOVED}"
os.makedirs(layout.home / "{FAILED}")
setattr(os, call, die)
if action == "replace":
    writer.replace(layout, spec, {NEW}, expected={OLD}, token="t")
elif action == "place":
    writer.place(layout, moved, {NEW}, token="t")
elif action == "rename":
    writer.rename(layout, spec, moved)
else:
    writer.set_aside(layout, spec)
"""


def killed(layout: Layout, action: str, call: str, moment: str) -> None:
    """Do something in a process that is killed before or after a call to the system."""
    code = KILLED
    for name, value in {"SPEC": SPEC, "MOVED": MOVED, "FAILED": FAILED, "NEW": repr(NEW), "OLD": repr(OLD)}.items():
        code = code.replace("{" + name + "}", value)
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", code, str(layout.home), action, call, moment]
    assert subprocess.run(command, cwd=root).returncode == -signal.SIGKILL


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_a_killed_replace_leaves_a_whole_file(layout: Layout, call: str, moment: str) -> None:
    killed(layout, "replace", call, moment)
    done = (call, moment) == ("rename", "after")
    assert read(layout, SPEC) == (NEW if done else OLD)
    assert names(layout) in (["w-1.json"], [".w-1.json.t.relay-tmp", "w-1.json"])
    clear(layout, ACTIVE, "t")
    assert names(layout) == ["w-1.json"]
    if not done:
        replace(layout, SPEC, NEW, expected=OLD, token="t")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "unlink"])
def test_a_killed_place_leaves_a_whole_file_or_none(layout: Layout, call: str, moment: str) -> None:
    killed(layout, "place", call, moment)
    done = call == "unlink" or (call, moment) == ("link", "after")
    assert read(layout, MOVED) == (NEW if done else None)
    assert [path.name for path in (layout.home / FAILED).glob("*.json")] == ["w-1.json"] * done
    clear(layout, FAILED, "t")
    assert read(layout, MOVED) == (NEW if done else None)
    assert names(layout, FAILED) == ["w-1.json"] * done


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["link", "unlink"])
def test_a_killed_rename_can_be_done_again(layout: Layout, call: str, moment: str) -> None:
    killed(layout, "rename", call, moment)
    assert OLD in (read(layout, SPEC), read(layout, MOVED))
    if (call, moment) != ("unlink", "after"):
        rename(layout, SPEC, MOVED)
    assert (read(layout, SPEC), read(layout, MOVED)) == (None, OLD)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["link", "unlink"])
def test_a_killed_set_aside_can_be_done_again(layout: Layout, call: str, moment: str) -> None:
    killed(layout, "set aside", call, moment)
    done = (call, moment) == ("unlink", "after")
    assert set_aside(layout, SPEC) == ("" if done else f"{ACTIVE}/w-1-earlier-1.json")
    assert names(layout) == ["w-1-earlier-1.json"]


def test_only_the_leftovers_of_a_token_are_cleared(layout: Layout) -> None:
    folder = layout.home / ACTIVE
    others = [".w-1.json.other.relay-tmp", ".w-1.json.t.relay-tmp.json", "w-1.json.t.relay-tmp", ".t.relay-tmp.d"]
    for name in [".w-1.json.t.relay-tmp", ".w-2.json.t.relay-tmp", *others]:
        (folder / name).write_bytes(b"")
    (folder / ".dir.t.relay-tmp").mkdir()
    (folder / ".link.t.relay-tmp").symlink_to("w-1.json")
    clear(layout, ACTIVE, "t")
    assert names(layout) == sorted(["w-1.json", ".dir.t.relay-tmp", ".link.t.relay-tmp", *others])
    clear(layout, "coordination/no-such-folder", "t")
    clear(layout, f"{SPEC}/below-a-file", "t")


def test_readers_do_not_see_a_temporary_file(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    during_fsync(monkeypatch, lambda: seen.extend((layout.home / ACTIVE).iterdir()))
    replace(layout, SPEC, NEW, expected=OLD, token="t-7")
    assert sorted(path.name for path in seen) == [".w-1.json.t-7.relay-tmp", "w-1.json"]
    assert [path.name for path in seen if path.suffix in {".json", ".jsonl", ".log", ".pid"}] == ["w-1.json"]


def test_no_descriptor_stays_open(layout: Layout, tmp_path: Path) -> None:
    (layout.home / "out").symlink_to(tmp_path)
    (layout.home / ACTIVE / "link.json").symlink_to("w-1.json")

    def everything() -> None:
        for act in ACTS.values():
            for path in (SPEC, MOVED, "out/x.json", f"{ACTIVE}/link.json", f"{SPEC}/x.json", "no/such/x.json"):
                with suppress(ChangedError, WriteError):
                    act(layout, path)
        clear(layout, ACTIVE, "t")

    before = len(list(Path("/proc/self/fd").iterdir()))
    everything()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
