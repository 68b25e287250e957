"""Coordination logs are JSON *streams*, not lines: records stand one to a line, several on one, or spread over many.

What counts as a record, so that one bad record never swallows its neighbours and the result does not depend on how the
bytes arrived:

- A ``{`` begins a record if it stands in the first column, or if the last thing before it is the ``}`` of another; in
  any other place only if what it begins has both a type and a time (a record may follow a torn one on the same line,
  while the objects inside a damaged record begin in such places too).
- Strings may hold raw newlines, bytes that are not UTF-8 are read as U+FFFD, NaN as null: the record is there.
- Blank space and ``#`` comment lines are passed over. Anything else that is no object is damage up to where the next
  record begins: text, lists, bare strings. Nothing is dropped in silence.
- A record that is not complete yet waits for its rest, and so does a line without its newline. It is torn for good when
  a later line is a whole object by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from .layout import Layout
from .parser import ID_LENGTH, MAX_DEPTH, WORD_LENGTH, is_deep, parse_time, reason_of, whole_number
from .records import Damage, LogBatch, LogCursor, LogRecord
from .redaction import may_hold_secret, redact, redact_text, storable

#: A single record may be this long; what is longer is damage, since it has to be held in memory.
LONGEST_RECORD = 16 * 1024 * 1024
_HEAD = 1024  # bytes at the start and before the cursor by which a file is known again
_LOOK_BACK = 64  # bytes before the cursor that say whether a `{` may begin a record
_EXCERPT = 160  # characters

TYPE_KEYS = ("event", "event_type", "type")
TIME_KEYS = ("timestamp", "time", "at", "created_at", "detected_at")


def read_log(layout: Layout, path: str, cursor: LogCursor, limit: int = 4 * 1024 * 1024) -> LogBatch:
    """Read the next records of the log at ``path`` (relative to the home), about ``limit`` bytes of them.

    All records of a batch belong to the generation of the cursor that comes back. A log that was moved aside is first
    read to its end under its new name, in batches of the old generation. A file that cannot be opened gives nothing.
    """
    try:
        with _open(layout, path) as file:
            return _read_known(layout, path, file, cursor, limit)
    except FileNotFoundError:
        rest = _read_rest(layout, path, cursor, limit, ended=False) if cursor.inode else None
        return rest or LogBatch(cursor, [], [], more=False)
    except OSError:
        return LogBatch(cursor, [], [], more=False)


class _File:
    """An open log with what tells it from others."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.inode, self.size = status.st_ino, status.st_size

    def read(self, offset: int, length: int) -> bytes:
        """Read that many bytes, fewer only where the file ends."""
        pieces = []
        while length > 0 and (piece := os.pread(self.descriptor, length, offset)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def digest(self, offset: int, length: int) -> str:
        return hashlib.blake2b(self.read(offset, length), digest_size=16).hexdigest()

    def fingerprint(self, offset: int) -> tuple[str, int]:
        """Digest the first bytes and the last ones before an offset, and say how many each."""
        length = min(offset, _HEAD)
        return self.digest(0, length) + self.digest(offset - length, length), length

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _open(layout: Layout, path: str) -> _File:
    """Open a regular file inside the home; never wait for a pipe, never follow a link out."""
    absolute = os.path.join(layout.home, path)  # noqa: PTH118 - relative(…) wrote it
    if not layout.inside(absolute):
        raise PermissionError(path)
    descriptor = os.open(absolute, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermissionError(path)
    return _File(descriptor)


# --- which file it is -------------------------------------------------------------------------------------------------


def _read_known(layout: Layout, path: str, file: _File, cursor: LogCursor, limit: int) -> LogBatch:
    replaced = _replaced(file, cursor)
    if replaced == "rotated":
        rest = _read_rest(layout, path, cursor, limit, ended=True)
        if rest:
            return rest
    if replaced:
        cursor = LogCursor(path, file.inode, cursor.generation + 1)
    return _read_batch(file, cursor, limit, replaced)


def _replaced(file: _File, cursor: LogCursor) -> str:
    """Say whether this file is another than the one the cursor has read: "rotated", "truncated" or ""."""
    if not cursor.inode:
        return ""
    if file.inode == cursor.inode:
        known = file.size >= cursor.offset and file.digest(0, cursor.head_length) == cursor.head[:32]
        return "" if known else "truncated"
    # A copy that took its place, as git and `jq … > tmp && mv` leave one, continues it: all that was read is in it.
    length = min(cursor.offset, cursor.head_length)
    continues = (
        file.size >= cursor.offset > 0
        and file.digest(0, cursor.head_length) + file.digest(cursor.offset - length, length) == cursor.head
    )
    return "" if continues else "rotated"


def _renamed(layout: Layout, path: str, inode: int) -> Iterator[str]:
    """Yield where the file that stood here lies by now: beside its old place, or in an ``archive`` below that."""
    folder, _, name = path.rpartition("/")
    pending = [folder]
    while pending:
        current = pending.pop()
        with os.scandir(layout.home / current) as entries:
            for entry in entries:
                if entry.inode() == inode and (current, entry.name) != (folder, name):
                    yield f"{current}/{entry.name}"
                elif (current != folder or entry.name == "archive") and entry.is_dir(follow_symlinks=False):
                    pending.append(f"{current}/{entry.name}")


def _read_rest(layout: Layout, path: str, cursor: LogCursor, limit: int, *, ended: bool) -> LogBatch | None:
    """Read on in the file that stood here before, if it was only moved aside."""
    try:
        for other in _renamed(layout, path, cursor.inode):
            if layout.is_log(other):
                continue  # it is read under its new name: see first_cursor
            with _open(layout, other) as file:
                if file.inode == cursor.inode and not _replaced(file, cursor) and file.size > cursor.offset:
                    batch = _read_batch(file, cursor, limit, ended=ended)
                    return replace(batch, more=batch.more or ended)
    except OSError:
        pass  # deleted, compressed or refused meanwhile: what was left of it is lost
    return None


def first_cursor(layout: Layout, path: str, known: Iterable[LogCursor]) -> LogCursor:
    """Make the cursor for a log that was not known before.

    Where it is a known log under a new name (``events/x.jsonl`` moved to ``events/x-2025-11-20.jsonl``, which is read
    as a log of its own), it goes on where that one was left, so that no record is stored twice.
    """
    cursors = [cursor for cursor in known if cursor.path != path and cursor.inode and cursor.offset]
    try:
        with _open(layout, path) as file:
            for cursor in cursors:
                if cursor.inode == file.inode and not _replaced(file, cursor):
                    return LogCursor(path, file.inode, 0, cursor.offset, cursor.head, cursor.head_length)
    except OSError:
        pass
    return LogCursor(path)


# --- one batch --------------------------------------------------------------------------------------------------------


def _read_batch(file: _File, cursor: LogCursor, limit: int, replaced: str = "", *, ended: bool = False) -> LogBatch:
    """Read records from the cursor on. ``ended``: nobody writes to this file any more, so what is torn stays torn."""
    start, length = cursor.offset, max(limit, 1)
    back = min(_LOOK_BACK, start)
    while True:
        data = file.read(start - back, back + length)
        at_end = len(data) < back + length or start + length >= file.size
        stretch = _Stretch(data, start - back, back, ended=ended and at_end)
        stretch.parse(at_end)
        if stretch.position > back or at_end:
            break
        if length >= LONGEST_RECORD:
            stretch.give_up()
            break
        length = min(length * 4, LONGEST_RECORD)
    offset = start - back + stretch.position
    head, head_length = file.fingerprint(offset)
    moved = LogCursor(cursor.path, file.inode, cursor.generation, offset, head, head_length)
    return LogBatch(moved, stretch.records, stretch.damages, more=not at_end, replaced=replaced)


class _Decoded(NamedTuple):
    """What stands at a ``{``: a whole object, the beginning of one, or neither, with the reason."""

    value: dict[str, Any] | None
    end: int
    reason: str = ""
    incomplete: bool = False


_NEWLINE, _BRACE = b"\n{"
_BLANK = b" \t\r\n"
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")
_OBJECT = re.compile(rb'\{(?=\s*(?:["}]|\Z))')
_LINE_OBJECT = re.compile(rb"(?<=\n)\{")
_RECORD_END = re.compile(rb"[ \t\r]*(?:\n|\{)")
_TIME_KEY = re.compile(rb'"(?:timestamp|time|at|created_at|detected_at)"')
_FIRST_LOOK = 4096  # bytes in which the end of an object is looked for first
_LONGEST_WORD = 16  # characters; a word of JSON that is cut off, as `fals` or `\\u00`, is shorter
_DECODER = json.JSONDecoder(strict=False, parse_int=whole_number)
_LONG_LINE = 2 * MAX_DEPTH  # bytes; a shorter one cannot be nested too deeply
#: Bytes of one stretch that are looked at closely in vain; after that only a line that is a record will do. Nothing but
#: a log that was made to be slow comes near it.
_EFFORT = 32 * 1024 * 1024
_DEEP = 16 * 1024  # what it costs, in bytes, to find out that something is nested too deeply


class _Stretch:
    """A stretch of a log in memory, and what is found in it. Positions are indexes into ``data``."""

    def __init__(self, data: bytes, base: int, position: int, *, ended: bool = False) -> None:
        self.data = data
        self.base = base  # offset of data[0] in the file
        self.position = position  # everything before it is done
        self.ended = ended
        self.records: list[LogRecord] = []
        self.damages: list[Damage] = []
        self.suspect = may_hold_secret(data)
        self.effort = 0  # bytes that were looked at in vain

    def parse(self, at_end: bool) -> None:
        """Go through the stretch: line by line as long as a line is a record, which is the rule, else step by step."""
        data, base, suspect, append, loads = self.data, self.base, self.suspect, self.records.append, orjson.loads
        position, size = self.position, len(data)
        while position < size:
            if data[position] == _BRACE and (position == 0 or data[position - 1] == _NEWLINE):
                newline = data.find(b"\n", position)
                end = newline if newline >= 0 else size
                line = data[position:end]
                try:
                    value = loads(line)
                except orjson.JSONDecodeError:
                    pass
                else:
                    if len(line) <= _LONG_LINE or not is_deep(line, value):
                        if suspect and may_hold_secret(line):
                            append(_record(base + position, redact(value)))
                        else:
                            append(_record(base + position, value, line.decode().rstrip()))
                        position = end + 1 if newline >= 0 else size
                        continue
            self.position = position
            if not self._step(at_end):
                return
            position = self.position
        self.position = position

    def _step(self, at_end: bool) -> bool:
        """Do what comes next; False if that has to wait for what is not written, or not read, yet."""
        found = _NOT_BLANK.search(self.data, self.position)
        at = self.position = found.start() if found else len(self.data)
        if not found:
            return True
        if found[0] == b"{" and self._is_worth_a_look(at):
            decoded = self._decode(at)
            if decoded.value is not None:
                self._take(at, decoded.value, decoded.end)
                return True
            if decoded.incomplete:
                return at_end and self._is_torn(at)
            return self._skip(at, at + 1, decoded.reason)
        newline = self.data.find(b"\n", at)
        if newline < 0 and not self.ended:
            return False
        if found[0] == b"#":
            self.position = newline + 1 if newline >= 0 else len(self.data)
            return True
        return self._skip(at, at, "A list where a record is expected" if found[0] == b"[" else "No record begins here")

    def give_up(self) -> None:
        """Pass over a record, or a line, that is too long to be held in memory."""
        if not self._is_torn(self.position):
            self._damage(self.position, len(self.data), f"Longer than {LONGEST_RECORD >> 20} MiB")

    def _line_end(self, at: int) -> int:
        newline = self.data.find(b"\n", at)
        return newline if newline >= 0 else len(self.data)

    # A record

    def _is_worth_a_look(self, at: int) -> bool:
        if self.effort > _EFFORT:
            return self._is_whole_line(at)
        return self._begins_record(at) or self._stands_out(at)

    def _begins_record(self, at: int) -> bool:
        """Whether a ``{`` stands in the first column or follows the end of another record."""
        before = self.data[max(0, at - _LOOK_BACK) : at]
        if before[-1:] == b"\n":
            return True
        before = before.rstrip(_BLANK)
        return before[-1:] == b"}" or (not before and self.base == 0 and at <= _LOOK_BACK)

    def _stands_out(self, at: int) -> bool:
        """Whether what begins in any other place is a whole record all the same, with a type and a time."""
        line_end = self._line_end(at)
        self.effort += line_end - at
        if not _TIME_KEY.search(self.data, at, line_end):
            return False
        value, end, *_ = self._decode(at)
        if value is None or not (_RECORD_END.match(self.data, end) or (self.ended and end == len(self.data))):
            return False
        return any(parse_time(value.get(key)) for key in TIME_KEYS) and bool(_first_text(value, TYPE_KEYS))

    def _decode(self, at: int) -> _Decoded:
        decoded = self._decoded(at)
        if decoded.value is None:
            self.effort += decoded.end - at
        return decoded

    def _decoded(self, at: int) -> _Decoded:
        try:
            end = self._find_end(at)
        except json.JSONDecodeError as error:
            # Nothing but the text of a string can go on in the next line: elsewhere the complaint is final there.
            unfinished = error.msg.startswith("Unterminated") or self.data.find(b"\n", at + error.pos) < 0
            return _Decoded(None, at + error.pos, f"Not JSON: {reason_of(error.msg)}", unfinished)
        except RecursionError:
            end = at
        value = _loads(self.data[at:end]) if end > at else None
        if value is None:
            return _Decoded(None, at + _DEEP, "Nested too deeply", self.data.find(b"\n", at) < 0)
        return _Decoded(value, end)

    def _find_end(self, at: int) -> int:
        """Find where the object that begins here ends. Raises JSONDecodeError with a position relative to ``at``.

        Looks at no more text than it has to, since such an error costs as much as all the text that was given.
        """
        length = _FIRST_LOOK
        while True:
            # Bytes read as Latin-1 keep their positions, and no byte of UTF-8 beyond ASCII looks like punctuation.
            text = self.data[at : at + length].decode("latin-1")
            try:
                return at + int(_DECODER.raw_decode(text)[1])
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated") or error.pos > len(text) - _LONGEST_WORD
                if at + length >= len(self.data) or not cut_off:
                    raise
            length *= 16

    def _take(self, at: int, value: dict[str, Any], end: int) -> None:
        piece = self.data[at:end]
        value = redact(value) if b"\0" in piece or may_hold_secret(piece) else value
        self.records.append(_record(self.base + at, value))
        self.position = end

    def _is_whole_line(self, at: int) -> bool:
        """Whether a line that has ended is an object by itself, and not an empty one."""
        if self.data[at - 1 : at] != b"\n":
            return False
        end = self._line_end(at)
        return (end < len(self.data) or self.ended) and bool(_loads(self.data[at:end]))

    # Damage

    def _is_torn(self, at: int) -> bool:
        """Whether an incomplete record will never be completed: pass over it then, to the next one.

        That is so if a later line is a whole object by itself, or if nobody writes here any more.
        """
        for begin in _LINE_OBJECT.finditer(self.data, at + 1):
            if self._is_whole_line(begin.start()):
                self._damage(at, begin.start(), "Torn: its end is missing")
                return True
        if self.ended:
            self._skip(at, at + 1, "Torn: its end is missing")
        return self.ended

    def _skip(self, at: int, search_from: int, reason: str) -> bool:
        """Pass over damage up to where the next record begins, else to the end of the last whole line."""
        for candidate in _OBJECT.finditer(self.data, search_from):
            begin = candidate.start()
            if self.effort <= _EFFORT and self._begins_record(begin):
                decoded = self._decode(begin)
                good = decoded.value is not None or (decoded.incomplete and not self.ended)
            else:
                good = self._is_worth_a_look(begin)
            if good:
                self._damage(at, begin, reason)
                return True
        self._damage(at, len(self.data) if self.ended else self.data.rfind(b"\n") + 1, reason)
        return True

    def _damage(self, begin: int, end: int, reason: str) -> None:
        length = len(self.data[begin:end].rstrip(_BLANK))
        text = redact_text(self.data[begin : begin + min(length, 4096)].decode(errors="replace"))
        excerpt = " ".join(text.split())
        excerpt = excerpt if len(excerpt) <= _EXCERPT else excerpt[: _EXCERPT - 1] + "…"
        self.damages.append(Damage(self.base + begin, length, reason, excerpt))
        self.position = end


# --- one record -------------------------------------------------------------------------------------------------------


def _loads(piece: bytes) -> dict[str, Any] | None:
    """Parse one object, however it is written; None if it is none or too deep to be walked."""
    try:
        value = orjson.loads(piece)
    except orjson.JSONDecodeError:
        try:
            value = _DECODER.decode(piece.decode(errors="replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) and not is_deep(piece, value) else None


def _record(offset: int, value: dict[str, Any], text: str = "") -> LogRecord:
    """Make the record; ``text`` is its JSON where nothing had to be redacted in it."""
    get = value.get
    moment = parse_time(get("timestamp")) or next(filter(None, map(parse_time, map(get, TIME_KEYS))), None)
    kind = get("event")
    if not kind or type(kind) is not str:
        kind = _first_text(value, TYPE_KEYS)
    worker_id = get("worker_id") or _worker_in(get("data"))
    if type(worker_id) is not str or len(worker_id) > ID_LENGTH:
        worker_id = ""
    return LogRecord(offset, moment, kind[:WORD_LENGTH], worker_id, text or _dumps(value))


def _first_text(value: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        text = value.get(key)
        if text and isinstance(text, str):
            return text
    return ""


def _worker_in(data: object) -> object:
    """Look for the worker id inside ``data``, which some writers encode once more as a JSON string."""
    if isinstance(data, str) and data[:1] == "{" and '"worker_id"' in data:
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            return ""
    worker_id = data.get("worker_id") if isinstance(data, dict) else ""
    return storable(worker_id) if isinstance(worker_id, str) else ""


def _dumps(value: dict[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # a number of more than 64 bits, half a surrogate pair
        return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))
