"""Reading a worker's logs from disk: which files are its own, their ends, and what may be shown of a line."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.coordination.layout import Layout
from workers.coordination.log_answers import Answer, Question, Whose, answer, is_earlier
from workers.coordination.log_files import OpenLog, find_logs, names_exactly, open_log
from workers.coordination.log_follow import BEHIND, Follower
from workers.coordination.log_lines import LONGEST, Line, Shield, read_line
from workers.coordination.logs import STEP, Choice, after, around, before, search, text_of
from workers.coordination.records import Problem
from workers.coordination.traces import ERROR_LINES, reads_like_error

from .conftest import Home

LOG = "agents/workers/w-1/logs/stdout.log"
W1 = Whose("w-1")


@pytest.fixture
def layout(home: Home) -> Layout:
    return Layout(home.path)


def opened(layout: Layout, path: str = LOG) -> OpenLog:
    log = open_log(layout, path)
    assert isinstance(log, OpenLog), log
    return log


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]  # type: ignore[attr-defined]


# Which files are a worker's


def test_all_that_is_the_workers_is_listed_and_nothing_of_others(home: Home, layout: Layout) -> None:
    mine = [
        "agents/workers/w-1/worker.log",
        "agents/workers/w-1/logs/stdout.log",
        "agents/workers/w-1/logs/notes.txt",
        "agents/logs/workers/2026-11-20/w-1/report.md",
        "agents/logs/workers/2026-11-20/w-1/deep/er/trace.log",
        "agents/logs/old/w-1/x.log",
    ]
    for path in [*mine, "agents/logs/system/pm-daemon.log"]:
        home.write(path, "text\n")
    for path in (
        "agents/workers/w-1/prompt.md",
        "agents/workers/w-10/logs/stdout.log",
        "agents/logs/workers/2026-11-20/w-10/x.log",
        "agents/logs/workers/2026-11-20/a-w-1/x.log",
        "coordination/w-1/x.log",
    ):
        home.write(path, "text\n")
    listing = find_logs(layout, "w-1")
    assert {log.path for log in listing.logs if not log.shared} == set(mine)
    assert [log.path for log in listing.logs if log.shared] == ["agents/logs/system/pm-daemon.log"]
    assert listing.complete


@pytest.mark.parametrize("worker_id", ["", ".", "..", "../w-1", "a/b", "a\0b"])
def test_an_id_that_is_no_name_has_no_logs(home: Home, layout: Layout, worker_id: str) -> None:
    home.write(LOG, "text\n")
    assert find_logs(layout, worker_id).logs == ()


def test_what_cannot_be_read_is_listed_with_the_reason(home: Home, layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "secret.log").write_text("outside")
    logs = home.write(LOG, "text\n").parent
    (logs / "out.log").symlink_to(tmp_path / "secret.log")
    (logs / "inside.log").symlink_to(logs / "stdout.log")
    (logs / "gone.log").symlink_to(logs / "nothing")
    (logs / "folder").mkdir()
    os.mkfifo(logs / "pipe.log")
    problems = {log.name: log.problem for log in find_logs(layout, "w-1").logs}
    assert "a link out of the home" in problems["out.log"]
    assert problems["inside.log"] == "" == problems["stdout.log"]
    assert problems["gone.log"] == "it is gone"
    assert problems["folder"] == "a directory, no file"
    assert problems["pipe.log"] == "a named pipe, no file"
    found = answer(layout, W1, Question(file="agents/workers/w-1/logs/out.log"))
    assert found.piece is None
    assert "outside" not in str(found)


def test_a_directory_that_leads_out_of_the_home_is_named_and_not_gone_into(
    home: Home, layout: Layout, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "logs").mkdir(parents=True)
    (elsewhere / "logs" / "stdout.log").write_text("outside")
    (home.path / "agents/workers").mkdir(parents=True)
    (home.path / "agents/workers/w-1").symlink_to(elsewhere)
    (home.path / "agents/logs/x").mkdir(parents=True)
    (home.path / "agents/logs/x/w-1").symlink_to(elsewhere)
    listing = find_logs(layout, "w-1")
    assert all("a link out of the home" in log.problem for log in listing.logs)
    assert {log.path for log in listing.logs} >= {"agents/workers/w-1", "agents/logs/x/w-1"}


def test_a_file_that_becomes_a_link_while_it_is_opened_is_not_read(
    home: Home, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("outside")
    path = home.write(LOG, "text\n")
    real = os.open

    def swapped(name: str, flags: int) -> int:
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        return real(name, flags)

    monkeypatch.setattr("workers.coordination.log_files.os.open", swapped)
    assert isinstance(open_log(layout, LOG), Problem)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Worker w-1 stalled", True),
        ("w-1", True),
        ("worker=w-1, x", True),
        ("agents/workers/w-1/worker.pid", True),
        ("specs/active/w-1.json", True),
        ("It was w-1.", True),
        ('{"id":"w-1"}', True),
        ("w-10", False),
        ("w-1-restart-2", False),
        ("new-w-1", False),
        ("w-1.5", False),
        ("a.w-1", False),
        ("w-1_b", False),
        ("éw-1", False),
    ],
)
def test_only_this_very_id_is_named(line: str, names: bool) -> None:
    assert bool(names_exactly("w-1").search(line.encode())) is names


def test_of_a_system_log_only_its_lines_are_read_and_those_of_another_run_are_marked(
    home: Home, layout: Layout
) -> None:
    path = "agents/logs/system/pm-daemon.log"
    home.write(
        path,
        "[2026-11-20T07:00:00+0000] [PM] Worker w-1 stalled\n"
        "[2026-11-24T07:00:30+0000] [PM] Worker w-10 stalled\n"
        "[2026-11-24T07:00:30+0000] [PM] Worker w-1 stalled\n"
        "jq: error near w-1\n"
        "[2026-11-25T07:00:00+0000] [PM] Worker w-1 stalled\n",
    )
    whose = Whose("w-1", datetime(2026, 11, 24, 7, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC))
    found = answer(layout, whose, Question(file=path))
    assert found.piece is not None
    assert [line.other_run for line in found.piece.lines] == ["earlier", "", "", "later"]
    assert not any("w-10" in line.text for line in found.piece.lines)


def test_its_few_lines_in_a_large_system_log_are_found_from_the_end(home: Home, layout: Layout) -> None:
    path = "agents/logs/system/pm-daemon.log"
    home.write(path, "w-1 first\n" + "about others\n" * 100_000 + "w-1 last\n" + "about others\n" * 1000)
    found = answer(layout, W1, Question(file=path))
    assert found.piece is not None
    assert texts(found.piece.lines) == ["w-1 first", "w-1 last"]
    assert found.piece.begin == 0


def test_a_log_from_before_the_run_belongs_to_an_earlier_one(home: Home, layout: Layout) -> None:
    path = home.write(LOG, "text\n")
    created = datetime.now(UTC)
    for seconds, earlier in ((-3600, True), (-30, False), (30, False)):
        os.utime(path, (created.timestamp() + seconds,) * 2)
        (log,) = find_logs(layout, "w-1").logs
        assert is_earlier(Whose("w-1", created), log) is earlier


def test_the_newest_log_of_this_run_is_the_one_that_opens(home: Home, layout: Layout) -> None:
    now = time.time()
    folder = "agents/workers/w-1/logs"
    for name, age, text in (
        ("stdout.log", 100, "x\n"),
        ("old.log", 9000, "x\n"),
        ("stderr.log", 5, ""),
        ("heartbeat-emitter.log", 1, "x\n"),
        ("notes.md", 2, "x\n"),
    ):
        os.utime(home.write(f"{folder}/{name}", text), (now - age,) * 2)
    found = answer(layout, Whose("w-1", datetime.now(UTC) - timedelta(minutes=30)), Question())
    assert found.log is not None
    assert found.log.name == "stdout.log"


def test_without_a_log_of_its_own_the_system_log_that_names_it_opens(home: Home, layout: Layout) -> None:
    home.write("agents/logs/system/a.log", "Worker w-10\n")
    assert answer(layout, W1, Question()).log is None
    home.write("agents/logs/system/b.log", "Worker w-1\n")
    found = answer(layout, W1, Question())
    assert found.log is not None
    assert found.log.name == "b.log"


# From the end, and further up


def test_pages_backwards_and_forwards_hold_every_line_once(home: Home, layout: Layout) -> None:
    whole = [f"line {number} " + "x" * (number * 7919 % 300) for number in range(5_000)]
    home.write(LOG, "\n".join(whole) + "\nnot ended")
    with opened(layout) as log:
        pieces, end = [], None
        while True:
            piece = before(log, end, 333)
            pieces.insert(0, texts(piece.lines))
            end = piece.begin
            if not end:
                break
        assert [text for piece in pieces for text in piece] == [*whole, "not ended"]
        found, begin = [], 0
        while begin < log.size():
            piece = after(log, begin, 333)
            found += texts(piece.lines)
            begin = piece.end
        assert found == [*whole, "not ended"]


@given(st.lists(st.integers(0, 700), max_size=40), st.integers(1, 9), st.booleans())
def test_no_byte_is_lost_however_lines_and_steps_fall(lengths: list[int], most: int, ends: bool) -> None:
    class InMemory(OpenLog):
        def __init__(self, data: bytes) -> None:
            self.data, self._descriptor = data, -1

        def size(self) -> int:
            return len(self.data)

        def read(self, offset: int, length: int) -> bytes:
            return self.data[offset : offset + length] if length > 0 else b""

    whole = [f"{number}:" + "x" * length for number, length in enumerate(lengths)]
    log = InMemory(("\n".join(whole) + ("\n" if ends and whole else "")).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.coordination.logs.STEP", 256)
        patch.setattr("workers.coordination.logs.FOR_LINES", 1024)
        shown, end = [], log.size()
        while end > 0:
            piece = before(log, end, most)
            assert piece.begin < end
            shown[:0] = piece.lines
            end = piece.begin
        heads(shown, whole)
        shown, begin = [], 0
        while begin < log.size():
            piece = after(log, begin, most)
            assert piece.end > begin
            shown += piece.lines
            begin = piece.end
        heads(shown, whole)


def heads(shown: list[Line], whole: list[str]) -> None:
    """Every line is there once, at least with its beginning."""
    begun = [line.text for line in shown if line.runs]
    assert [text.split(":")[0] for text in begun] == [text.split(":")[0] for text in whole]
    assert all(
        text.startswith(head) and (head == text or len(text) > 250) for head, text in zip(begun, whole, strict=True)
    )


def test_a_place_is_shown_with_what_is_around_it(home: Home, layout: Layout) -> None:
    home.write(LOG, "".join(f"line {number:04}\n" for number in range(1000)))
    with opened(layout) as log:
        piece = around(log, 500 * 10 + 4, 90)
    assert texts(piece.lines)[29:32] == ["line 0499", "line 0500", "line 0501"]


def test_a_log_of_a_gigabyte_opens_like_a_small_one(home: Home, layout: Layout) -> None:
    line = b"2026-11-24T07:00:00Z INFO something was done\n"
    small = home.write("agents/workers/w-1/logs/small.log", line * 20_000)
    large = home.path / "agents/workers/w-1/logs/large.log"
    with large.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + line * 20_000)

    def seconds(path: Path) -> float:
        began = time.perf_counter()
        found = answer(layout, W1, Question(file=f"agents/workers/w-1/logs/{path.name}", most=500))
        assert found.piece is not None
        assert len(found.piece.lines) == 500
        return time.perf_counter() - began

    floor = min(seconds(small) for _ in range(5))
    tracemalloc.start()
    took = min(seconds(large) for _ in range(5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 20 * floor + 0.1
    assert peak < 16 * STEP


def test_a_line_without_end_costs_no_more_than_a_step_at_a_time(home: Home, layout: Layout) -> None:
    path = home.path / LOG
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    tracemalloc.start()
    with opened(layout) as log:
        piece = before(log, None, 100)
        assert all(line.left_out for line in piece.lines)
        assert search(log, "nothing", None).lines == ()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * STEP


# What may be shown of a line


def test_a_very_long_line_is_cut_with_a_marker(home: Home, layout: Layout) -> None:
    home.write(LOG, "y" * 10_000 + "\nshort\n")
    with opened(layout) as log:
        long, short = before(log, None, 10).lines
    assert (len(long.text), long.left_out) == (LONGEST, 10_000 - LONGEST)
    assert (short.text, short.left_out) == ("short", 0)


def test_a_line_longer_than_a_step_shows_its_head_and_never_its_middle(home: Home, layout: Layout) -> None:
    home.write(LOG, "first\n" + "password=" + "z" * (3 * STEP) + "\nlast\n")
    with opened(layout) as log:
        lines = before(log, None, 10).lines
        assert lines[0].text == "first"
        assert lines[1].text == "password=[redacted]"
        assert lines[-1].text == "last"
        assert not any("zzz" in line.text for line in lines)
        for place in (STEP, STEP + 5, 20):
            assert not any("zzz" in line.text for line in after(log, place, 10).lines)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\xff\xfe caf\xc3\xa9", "\ufffd\ufffd café"),
        (b"a\x00b\x07c", "a\u2400b\u2407c"),
        (b"tab\there", "tab\there"),
        ("\u202egnp.exe".encode(), "\ufffdgnp.exe"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b[2J\x1b[1;1Hcleared\x1b[K", "cleared"),
        (b"\x1bPq#0\x1b\\after", "after"),
        (b"half \x1b[31", "half "),
        (b"10 %\r20 %\r30 %", "30 %"),
        (b"windows\r", "windows"),
    ],
)
def test_nothing_is_left_that_a_terminal_would_obey(raw: bytes, shown: str) -> None:
    assert read_line(raw, 0).text == shown


@pytest.mark.parametrize(
    ("code", "style"),
    [
        ("31", "red"),
        ("91", "red"),
        ("1;32", "green bold"),
        ("38;5;196", "red"),
        ("38;2;10;20;250", "blue"),
        ("38;5;244", "white"),
        ("41;97", "white on-red"),
        ("4", "underline"),
        ("31;0", ""),
        ("1;22", ""),
        ("58;5;1", ""),
        ("999", ""),
    ],
)
def test_colours_become_names_of_a_small_set(code: str, style: str) -> None:
    (run,) = read_line(f"\x1b[{code}mtext\x1b[0m".encode(), 0).runs
    assert run == (style, "text")


def test_a_secret_is_not_shown_though_colours_go_through_it() -> None:
    line = read_line(b"export GITHUB_TOKEN=\x1b[32mghp_abcdefgh\x1b[31mijklmnop1234\x1b[0m and more", 0)
    assert line.text == "export GITHUB_TOKEN=[redacted] and more"


@pytest.mark.parametrize("cut", range(LONGEST - 40, LONGEST + 3, 3))
def test_no_cut_goes_through_a_secret(cut: int) -> None:
    line = read_line(b"x" * cut + b" sk-abcdefghijklmnop1234567890", 0)
    assert "sk-" not in line.text


def test_a_private_key_of_many_lines_is_hidden_wherever_reading_begins(home: Home, layout: Layout) -> None:
    body = "\n".join(f"MIIE{number:060}" for number in range(30))
    home.write(LOG, f"before\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nbehind\n")
    with opened(layout) as log:
        for most in range(1, 36):
            assert "MIIE" not in "".join(texts(before(log, None, most).lines))
        for place in range(0, log.size(), 50):
            assert "MIIE" not in "".join(texts(after(log, place, 5).lines))
        assert "MIIE" not in "".join(text_of(log, log.size()))
        assert search(log, "MIIE", None).lines == ()
        assert texts(before(log, None, 1).lines) == ["behind"]


def test_a_mention_of_a_key_does_not_hide_the_log_for_ever() -> None:
    shield = Shield()
    assert not shield.hides(b"looking for -----BEGIN PRIVATE KEY-----")
    assert not all(shield.hides(b"line") for _ in range(500))


def test_lines_that_read_like_errors_are_marked(home: Home, layout: Layout) -> None:
    home.write(
        LOG, "fine\n10:30:02 \x1b[31mERROR\x1b[0m connection reset\n0 errors\nTraceback (most recent call last):\n"
    )
    with opened(layout) as log:
        assert [line.error for line in before(log, None, 9).lines] == [False, True, False, True]


def test_the_quick_look_for_errors_overlooks_no_pattern() -> None:
    examples = [
        *("[ERROR] x", "level=fatal", "panic: x", "Traceback (most recent call last):", "ValueError: x"),
        *("foo.BarException", "KeyboardInterrupt", "SystemExit: 2", "    at f (a.js:1:2)", "Node.js v20.1.0"),
        *("npm ERR! x", "exited with code 2", "return code: 3", "Segmentation fault", "core dumped", "out of memory"),
        *("oom-killed", "x: command not found", "Killed", "SEVERE something", "Unhandled rejection: x", "CRITICAL - x"),
    ]
    assert all(reads_like_error(line) for line in examples)
    assert all(any(pattern.search(line) for line in examples) for pattern in ERROR_LINES.values())


# Searching


def test_a_search_finds_newest_first_with_the_place(home: Home, layout: Layout) -> None:
    home.write(LOG, "Alpha one\nbeta\nALPHA \x1b[1mtwo\x1b[0m\nÄpfel\n")
    with opened(layout) as log:
        found = search(log, "alpha", None)
        assert [(line.text, line.offset) for line in found.lines] == [("ALPHA two", 15), ("Alpha one", 0)]
        assert found.looked_to == 0
        assert texts(search(log, "äpfel", None).lines) == ["Äpfel"]
        assert texts(search(log, "alpha two", None).lines) == ["ALPHA two"]


def test_a_search_goes_on_where_it_stopped(home: Home, layout: Layout) -> None:
    home.write(LOG, "".join(f"hit {number}\n" for number in range(1000)))
    with opened(layout) as log:
        seen: list[str] = []
        end = None
        while end != 0:
            found = search(log, "hit", end)
            seen += texts(found.lines)
            end = found.looked_to
    assert seen == [f"hit {number}" for number in reversed(range(1000))]


def test_a_search_never_tells_a_secret(home: Home, layout: Layout) -> None:
    home.write(LOG, "password=hunter2\n")
    with opened(layout) as log:
        assert search(log, "hunter", None).lines == ()
        assert texts(search(log, "password", None).lines) == ["password=[redacted]"]


def test_errors_can_be_searched_for(home: Home, layout: Layout) -> None:
    home.write(LOG, "fine\nERROR: one\nfine\nERROR: two\n")
    with opened(layout) as log:
        assert texts(search(log, "", None, errors=True).lines) == ["ERROR: two", "ERROR: one"]
        assert texts(search(log, "ONE", None, errors=True).lines) == ["ERROR: one"]


def test_what_is_downloaded_is_whole_and_redacted(home: Home, layout: Layout) -> None:
    home.write(LOG, "one\nTOKEN=abcdefgh1\n" + "long " * 100_000 + "\n\x1b[31mred\x1b[0m\nlast")
    with opened(layout) as log:
        text = "".join(text_of(log, log.size()))
    assert text.startswith("one\nTOKEN=[redacted]\nlong long")
    assert text.endswith("\nred\nlast\n")


# Following


class Pen:
    """Writes into a log that is followed."""

    def __init__(self, home: Home, layout: Layout, choice: Choice | None = None) -> None:
        self.path = home.write(LOG, "before\n")
        self.follower = Follower(lambda: open_log(layout, LOG), None, "", choice or Choice())
        assert self.news() == []

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def news(self) -> list[str]:
        return texts(self.follower.look().lines)


@pytest.fixture
def pen(home: Home, layout: Layout) -> Pen:
    return Pen(home, layout)


def test_what_is_appended_is_followed(pen: Pen) -> None:
    pen.write("one\ntwo\n")
    assert pen.news() == ["one", "two"]
    assert pen.news() == []


def test_a_line_that_has_not_ended_is_shown_when_it_rests_and_comes_again_whole(pen: Pen) -> None:
    pen.write("Continue? ")
    assert pen.news() == []
    (line,) = pen.follower.look().lines
    assert (line.text, line.offset) == ("Continue? ", 7)
    assert pen.news() == []
    pen.write("yes\n")
    (line,) = pen.follower.look().lines
    assert (line.text, line.offset) == ("Continue? yes", 7)


def test_a_file_that_is_cut_short_is_said_and_followed(pen: Pen) -> None:
    pen.write("one\n")
    pen.news()
    pen.path.write_text("new\n")
    assert pen.news() == ["The file was cut short, to 4 bytes: here it begins anew.", "new"]


def test_a_file_that_was_emptied_and_is_longer_again_is_noticed(pen: Pen) -> None:
    pen.path.write_text("quite another beginning\n" * 3)
    assert pen.news()[0].startswith("The file was cut short")


def test_rotation_is_said_and_nothing_is_lost(pen: Pen) -> None:
    pen.write("one\n")
    pen.path.rename(pen.path.with_suffix(".1"))
    pen.path.write_text("two\n")
    with pen.path.with_suffix(".1").open("a") as file:
        file.write("late\nunended")
    seen = [text for _ in range(4) for text in pen.news()]
    assert seen == ["one", "late", "unended", "The log was rotated: here begins the new file.", "two"]


def test_a_file_that_is_gone_is_waited_for(pen: Pen) -> None:
    pen.path.unlink()
    assert pen.news() == ["The file is gone. Waiting for another one of this name."]
    assert pen.news() == []
    pen.path.write_text("again\n")
    assert [text for _ in range(2) for text in pen.news()][-1] == "again"


def test_whoever_cannot_keep_up_is_told_what_was_left_out(pen: Pen) -> None:
    lines = [f"line {number:08}" for number in range(100_000)]
    pen.write("\n".join(lines) + "\n")
    seen: list[str] = []
    while news := pen.news():
        seen += news
    assert len("\n".join(lines)) > BEHIND
    left_out = int(seen[0].split()[0].replace(",", ""))
    assert "left out here" in seen[0]
    assert seen[1:] == lines[left_out:]


def test_a_follower_goes_on_at_its_place_in_the_file_that_it_knew(home: Home, layout: Layout) -> None:
    home.write(LOG, "one\ntwo\nthree\n")
    with opened(layout) as log:
        identity = log.identity
    known = Follower(lambda: open_log(layout, LOG), 4, identity)
    assert texts(known.look().lines) == ["two", "three"]
    other = Follower(lambda: open_log(layout, LOG), 4, "another")
    assert texts(other.look().lines)[1:] == ["one", "two", "three"]


def test_only_lines_that_name_the_worker_are_followed_in_a_system_log(home: Home, layout: Layout) -> None:
    pen = Pen(home, layout, Choice(names_exactly("w-1")))
    pen.write("w-10 a\nw-1 b\n")
    assert pen.news() == ["w-1 b"]


def test_following_needs_little_memory_however_fast_the_log_grows(pen: Pen) -> None:
    pen.write("x" * 199 + "\n")
    block = ("y" * 199 + "\n") * 20_000
    tracemalloc.start()
    for _ in range(5):
        pen.write(block)
        pen.news()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(block) * 2 + 8 * STEP


# Over to another host


def test_questions_and_answers_survive_the_way_to_another_host(home: Home, layout: Layout) -> None:
    home.write(LOG, "one\n\x1b[31mERROR: two\x1b[0m\n")
    whose = Whose("w-1", datetime(2026, 11, 24, tzinfo=UTC), None)
    question = Question(words="two", errors=True)
    assert Question.from_text(question.as_text(whose), "w-1") == (question, whose)
    found = answer(layout, whose, question)
    again = Answer.from_json(found.as_json())
    assert (again.piece, again.found, again.log, again.identity) == (
        found.piece,
        found.found,
        found.log,
        found.identity,
    )


def test_a_wide_tree_of_other_workers_is_looked_through_quickly(home: Home, layout: Layout) -> None:
    for day in range(10):
        for number in range(100):
            (home.path / f"agents/logs/workers/2026-11-{day + 10}/w-{number}").mkdir(parents=True)
    home.write("agents/logs/workers/2026-11-19/w-1/x.log", "text\n")
    names: Callable[[], object] = lambda: find_logs(layout, "w-1")  # noqa: E731
    names()
    began = time.perf_counter()
    listing = find_logs(layout, "w-1")
    assert time.perf_counter() - began < 0.5
    assert [log.path for log in listing.logs] == ["agents/logs/workers/2026-11-19/w-1/x.log"]
