"""Following a log: what is new since the last look, and what happened to the file. Who looks sets the pace."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

from .files import megabytes
from .log_files import OpenLog
from .log_lines import Line, Shield, note, unseen
from .logs import ALL, STEP, Choice, line_start, read_raws, split
from .records import Problem

#: Lines of one look; whoever is further behind than BEHIND bytes goes on with the last KEEP of them.
MOST_LINES, BEHIND, KEEP = 1_000, 4 * STEP, STEP // 4
#: Bytes that are gone through to count the lines that are left out; beyond, only bytes are told.
COUNTED = 128 * STEP
_REMEMBERED = 64  # bytes in front of the place, to know the file again by


class News(NamedTuple):
    """What one look has brought. The first line replaces the last one from before where both begin at one place."""

    lines: tuple[Line, ...]
    end: int
    identity: str
    more: bool = False  # there is more that did not fit


@dataclass(slots=True)
class _Open:
    """A line that has no end yet: it is shown once it has been the same for two looks."""

    offset: int = -1
    length: int = 0
    shown: int = -1


class Follower:
    """Follows what stands under one name, through rotation and being cut short."""

    def __init__(
        self, reopen: Callable[[], OpenLog | Problem], offset: int | None, identity: str = "", choice: Choice = ALL
    ) -> None:
        """Begin at an offset of the file that was known by that identity; None: at the end."""
        self._reopen, self._choice = reopen, choice
        self._log: OpenLog | None = None
        self._offset, self._identity = offset, identity
        self._middle = False  # in the middle of a line that is too long to be read
        self._mark = b""
        self._shield = Shield()
        self._open = _Open()
        self._told_gone = False

    def look(self) -> News:
        """Read what is new."""
        lines: list[Line] = []
        log = self._log or self._start(lines)
        if log is None:
            return News(tuple(lines), self._offset or 0, self._identity)
        size = log.size()
        self._check(log, size, lines)
        self._skip(log, size, lines)
        more = self._take(log, size, lines)
        if not more and self._place >= size - (self._open.length if self._open.offset >= 0 else 0):
            self._watch_name(log, lines)
        return News(tuple(lines), self._place, self._identity, more)

    def waiting(self) -> int:
        """Bytes that have come and were not read."""
        return max(0, self._log.size() - self._place - self._open.length) if self._log else 0

    def close(self) -> None:
        if self._log:
            self._log.close()
            self._log = None

    @property
    def _place(self) -> int:
        return self._offset or 0

    # -- the file

    def _start(self, lines: list[Line]) -> OpenLog | None:
        opened = self._reopen()
        if isinstance(opened, Problem):
            if not self._told_gone:
                lines.append(note(f"This log cannot be read now: {opened.reason}. Waiting for it."))
            self._told_gone = True
            return None
        self._log, size = opened, opened.size()
        if self._identity and opened.identity != self._identity:
            lines.append(note("The file was replaced: here begins the one that stands under its name now."))
            self._offset = 0
        self._identity, self._told_gone = opened.identity, False
        place = size if self._offset is None else self._offset
        if place > size:
            lines.append(_cut_short(size))
            place = 0
        self._go_to(opened, line_start(opened, place))
        return opened

    def _go_to(self, log: OpenLog, place: int) -> None:
        self._offset, self._open, self._shield = place, _Open(), Shield()
        self._middle = place > 0 and log.read(place - 1, 1) != b"\n"
        for part in log.read(max(0, place - STEP // 32), min(place, STEP // 32)).splitlines():
            self._shield.hides(part)
        self._remember(log)

    def _remember(self, log: OpenLog) -> None:
        low = max(0, self._place - _REMEMBERED)
        self._mark = log.read(low, self._place - low)

    def _check(self, log: OpenLog, size: int, lines: list[Line]) -> None:
        """Notice a file that was emptied and written anew, also if it is longer than before by now."""
        if size >= self._place and log.read(self._place - len(self._mark), len(self._mark)) == self._mark:
            return
        lines.append(_cut_short(size))
        self._go_to(log, 0)

    def _watch_name(self, log: OpenLog, lines: list[Line]) -> None:
        """Notice at its end that the file has been moved away, and go on with the one in its place."""
        replaced = log.replaced()
        if replaced is None and not self._told_gone:
            lines.append(note("The file is gone. Waiting for another one of this name."))
            self._told_gone = True
        if not replaced:
            return
        if self._open.length > max(0, self._open.shown):
            lines += self._read_open(log.read(self._place, self._open.length), self._place)
        self.close()
        self._offset, self._identity = 0, ""
        opened = self._start(lines)
        if opened:
            lines.append(note("The log was rotated: here begins the new file."))

    # -- its lines

    def _skip(self, log: OpenLog, size: int, lines: list[Line]) -> None:
        """Leave out what nobody could keep up with, and say how much it is."""
        if size - self._place <= BEHIND:
            return
        begin, place = self._place, line_start(log, size - KEEP)
        count, at = 0, begin
        while at < min(place, begin + COUNTED):
            data = log.read(at, min(STEP, place - at))
            count += data.count(b"\n")
            at += len(data) or STEP
        whole = f"{count:,} lines" if at >= place else f"more than {count:,} lines ({megabytes(place - begin)})"
        lines.append(note(f"{whole} left out here: they came faster than they could be shown."))
        self._go_to(log, place)

    def _take(self, log: OpenLog, size: int, lines: list[Line]) -> bool:
        """Read the lines that have ended; return whether there are more."""
        begin = self._place
        data = log.read(begin, min(STEP, size - begin))
        cut = data.rfind(b"\n") + 1
        if self._middle and data:
            end = data.find(b"\n") + 1
            lines.append(unseen(begin, end or len(data)))
            self._move(log, begin + (end or len(data)), middle=not end)
            return self._place < size
        if cut == 0:
            if len(data) == STEP:  # a line of that length is shown as far as it goes
                lines += read_raws(split(data, begin), self._shield, self._choice)
                self._move(log, begin + STEP, middle=True)
                return True
            self._show_open(begin, data, lines)
            return False
        raws = split(data[:cut], begin)[:MOST_LINES]
        taken = [raw for raw in raws if self._choice.takes(raw)]
        lines += read_raws(taken, self._shield, self._choice)
        end = raws[-1].offset + raws[-1].length
        self._move(log, end, middle=False)
        if end == begin + cut:
            self._show_open(end, data[cut:], lines)
        return end < begin + cut or begin + len(data) < size

    def _move(self, log: OpenLog, place: int, *, middle: bool) -> None:
        self._offset, self._middle, self._open = place, middle, _Open()
        self._remember(log)

    def _show_open(self, offset: int, data: bytes, lines: list[Line]) -> None:
        """Show a line without an end, as a prompt is one, when nothing was added to it since the last look."""
        known = self._open
        if (known.offset, known.length) != (offset, len(data)):
            self._open = _Open(offset, len(data), known.shown if known.offset == offset else -1)
        elif data and known.shown != len(data):
            known.shown = len(data)
            lines += self._read_open(data, offset)

    def _read_open(self, data: bytes, offset: int) -> list[Line]:
        hidden = copy(self._shield)  # the same line is read again when it has ended
        return read_raws([raw for raw in split(data, offset) if self._choice.takes(raw)], hidden, self._choice)


def _cut_short(size: int) -> Line:
    return note(f"The file was cut short, to {size:,} bytes: here it begins anew.")
