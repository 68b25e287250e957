"""Reading logs of any size: from the end, by offsets, never more than STEP bytes at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from .log_files import OpenLog
from .log_lines import Line, Shield, read_line, unseen
from .parser import parse_time

STEP = 256 * 1024  # bytes
#: Bytes that are gone through for one answer: for lines, for the few lines of a shared log, and for a search.
FOR_LINES, FOR_CHOSEN, FOR_SEARCH = 4 * STEP, 64 * STEP, 128 * STEP
MOST_HITS = 100
_LOOK_BACK = 8 * 1024  # a private key that began further up has ended
_TIME = re.compile(rb"\s*\[?(20\d\d-\d\d-\d\d[T ][0-9:.,]+ ?(?:Z|UTC|[+-]\d\d:?\d\d)?)")
_CODES = re.compile(rb"\x1b\[[0-9;:<=>?]*[ -/]*[@-~]?")
_AROUND = timedelta(minutes=1)


class Raw(NamedTuple):
    """A line as it is in the file. Where its beginning is unknown there is no data, but a length."""

    offset: int
    data: bytes | None
    length: int


class Piece(NamedTuple):
    """A stretch of a log, in order. Between ``begin`` and ``end`` is nothing of the worker's that it leaves out."""

    lines: tuple[Line, ...]
    begin: int
    end: int
    size: int


class Found(NamedTuple):
    """What a search found, newest first, and how far back it has looked: 0 where that was all of it."""

    lines: tuple[Line, ...]
    looked_to: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines of a log are the run's: all of them, or of a shared log those that name the worker."""

    names: re.Pattern[bytes] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, raw: Raw) -> bool:
        return self.names is None or (raw.data is not None and self.names.search(raw.data) is not None)

    def other_run(self, data: bytes) -> str:
        """Whether the time at the beginning of a shared log's line is not one of this run's."""
        found = _TIME.match(data) if self.names else None
        moment = parse_time(found[1].decode("ascii", "replace").strip()) if found else None
        if moment and self.since and moment < self.since - _AROUND:
            return "earlier"
        return "later" if moment and self.until and moment >= self.until - _AROUND else ""


ALL = Choice()


def before(log: OpenLog, end: int | None, most: int, choice: Choice = ALL) -> Piece:
    """Read the last lines in front of a place, or of the file."""
    size = log.size()
    end = size if end is None else min(max(end, 0), size)
    begin, budget = end, FOR_CHOSEN if choice.names else FOR_LINES
    lines: list[Line] = []
    while begin > 0 and len(lines) < most and end - begin < budget:
        block = _block_before(log, begin, size)
        kept = [raw for raw in block if choice.takes(raw)][-(most - len(lines)) :]
        full = len(lines) + len(kept) >= most
        begin = kept[0].offset if full else block[0].offset
        lines[:0] = _read(log, kept, choice)
    return Piece(tuple(lines), begin, end, size)


def after(log: OpenLog, begin: int, most: int, choice: Choice = ALL) -> Piece:
    """Read the lines from a place on. The last may not have ended yet, if it is the last of the file."""
    size = log.size()
    begin = end = min(max(begin, 0), size)
    budget = FOR_CHOSEN if choice.names else FOR_LINES
    lines: list[Line] = []
    while end < size and len(lines) < most and end - begin < budget:
        block = _block_after(log, end, size)
        kept = [raw for raw in block if choice.takes(raw)][: most - len(lines)]
        full = len(lines) + len(kept) >= most
        last = kept[-1] if full else block[-1]
        end = last.offset + last.length
        lines += _read(log, kept, choice)
    return Piece(tuple(lines), begin, end, size)


def around(log: OpenLog, place: int, most: int, choice: Choice = ALL) -> Piece:
    """Read the lines around a place, a third of them in front of it."""
    size = log.size()
    place = line_start(log, min(max(place, 0), size))
    front, back = before(log, place, most // 3, choice), after(log, place, most, choice)
    return Piece((*front.lines, *back.lines), front.begin, back.end, size)


def search(log: OpenLog, words: str, end: int | None, choice: Choice = ALL, *, errors: bool = False) -> Found:
    """Find lines that contain the words, or that read like errors, from the end on. What is redacted is not found."""
    size = log.size()
    begin = end = size if end is None else min(max(end, 0), size)
    wanted = words.casefold()

    def fits(line: Line) -> bool:
        return wanted in line.text.casefold() and (line.error or not errors)

    hits: list[Line] = []
    budget = FOR_SEARCH // 8 if errors else FOR_SEARCH
    while begin > 0 and len(hits) < MOST_HITS and end - begin < budget:
        block = _block_before(log, begin, size)
        for raw in reversed(_likely(block, wanted, choice)):
            if fits(read_line(raw.data or b"", raw.offset)):
                hits += filter(fits, _read(log, [raw], choice))  # as a line of a key it does not fit
            if len(hits) >= MOST_HITS:
                return Found(tuple(hits), raw.offset)
        begin = block[0].offset
    return Found(tuple(hits), begin)


def _likely(block: list[Raw], wanted: str, choice: Choice) -> list[Raw]:
    """The lines that are worth being made readable. Most steps have none, which is seen at one glance."""
    known = [raw for raw in block if raw.data is not None]
    if not wanted.isascii():  # letters of other alphabets are folded only when they can be read
        return [raw for raw in known if choice.takes(raw)]
    small = wanted.encode()
    if small not in _bare(b"\n".join([raw.data or b"" for raw in known])):
        return []
    return [raw for raw in known if small in _bare(raw.data or b"") and choice.takes(raw)]


def _bare(data: bytes) -> bytes:
    return _CODES.sub(b"", data).lower() if b"\x1b" in data else data.lower()


def text_of(log: OpenLog, end: int, choice: Choice = ALL) -> Iterator[str]:
    """All lines up to a place as text, redacted, a step at a time: what is downloaded."""
    begin, shield = 0, Shield()
    while begin < end:
        block = _block_after(log, begin, end)
        text = []
        for raw in block:
            hidden = shield.hides(raw.data or b"")
            if choice.takes(raw):
                text.append(_plain(read_line(raw.data or b"", raw.offset, hidden=hidden), raw))
        begin = block[-1].offset + block[-1].length
        yield "".join(text)


def _plain(line: Line, raw: Raw) -> str:
    left_out = raw.length if raw.data is None else line.left_out
    return f"{line.text} … {left_out} more bytes of this line\n" if left_out else f"{line.text}\n"


# --- blocks -----------------------------------------------------------------------------------------------------------


def line_start(log: OpenLog, place: int) -> int:
    """Where the line begins that a place is in; the place itself where that is further away than one step."""
    low = max(0, place - STEP)
    data = log.read(low, place - low)
    at = data.rfind(b"\n")
    if at >= 0:
        return low + at + 1
    return place if low else 0


def _block_before(log: OpenLog, end: int, size: int) -> list[Raw]:
    """The lines of the step in front of a place, the first of which may reach further up and is then left to it."""
    begin = max(0, end - STEP)
    data = log.read(begin, end - begin)
    if begin > 0 and log.read(begin - 1, 1) != b"\n":
        cut = data.find(b"\n") + 1
        if cut in (0, len(data)):
            return [Raw(begin, None, end - begin)]
        begin, data = begin + cut, data[cut:]
    if not data:  # the file became shorter meanwhile
        return [Raw(begin, None, end - begin)]
    lines = split(data, begin)
    if end < size and not data.endswith(b"\n"):  # its rest is looked at, so that no secret is cut in two
        last = lines[-1]
        rest, _, _ = log.read(end, STEP // 4).partition(b"\n")
        lines[-1] = Raw(last.offset, (last.data or b"") + rest, last.length)
    return lines


def _block_after(log: OpenLog, begin: int, size: int) -> list[Raw]:
    """The lines of the step from a place on; a line that does not end in it is taken as far as it goes."""
    known = begin == 0 or log.read(begin - 1, 1) == b"\n"
    data = log.read(begin, min(STEP, size - begin))
    if not data:
        return [Raw(begin, None, size - begin)]
    if not known:
        return [Raw(begin, None, data.find(b"\n") + 1 or len(data))]
    return _whole(data, begin, size)


def _whole(data: bytes, begin: int, size: int) -> list[Raw]:
    cut = data.rfind(b"\n") + 1
    if 0 < cut < len(data) and begin + len(data) < size:
        data = data[:cut]
    return split(data, begin)


def split(data: bytes, begin: int) -> list[Raw]:
    parts = data.split(b"\n")
    ends = not parts[-1]
    if ends:
        parts.pop()
    lines = []
    for part in parts:
        lines.append(Raw(begin, part, len(part) + 1))
        begin += len(part) + 1
    if not ends:
        lines[-1] = Raw(lines[-1].offset, parts[-1], len(parts[-1]))
    return lines


def _read(log: OpenLog, raws: list[Raw], choice: Choice) -> list[Line]:
    """Make lines readable, of which the first may stand within a key."""
    shield = Shield()
    at = raws[0].offset if raws else 0
    for part in _above(log, at):
        shield.hides(part)
    return read_raws(raws, shield, choice)


def _above(log: OpenLog, offset: int) -> list[bytes]:
    low = max(0, offset - _LOOK_BACK)
    data = log.read(low, offset - low)
    return data.splitlines() if b"-----BEGIN" in data else []


def read_raws(raws: Iterable[Raw], shield: Shield, choice: Choice) -> list[Line]:
    """Make lines readable that follow each other."""
    lines = []
    for offset, data, length in raws:
        if data is None:
            lines.append(unseen(offset, length))
            continue
        line = read_line(data, offset, hidden=shield.hides(data))
        if choice.names and (other := choice.other_run(data)):
            line = line._replace(other_run=other)
        lines.append(line)
    return lines
