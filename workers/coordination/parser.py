"""Bytes of one file of the coordination directory become a typed record or a :class:`Problem`; never an exception.

What is looked for where, and in which order, is the precedence list of coordination-format.md, section 2. A value of
the wrong type is passed over and noted as an oddity; null, "" and "null" are passed over in silence.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import orjson

from .layout import SPECS
from .records import CheckIn, Document, Other, PmDaemon, PmEntry, PmState, Problem, Sign, Spec, StatusFile
from .redaction import may_hold_secret, redact, redact_text, redacted_slice, storable

#: What our columns hold, in characters. An id must be whole, so a longer one is not used; other words are cut.
ID_LENGTH = 255
WORD_LENGTH = 100
TEXT_LENGTH = 20_000
#: Deeper JSON would overflow the stack of whatever walks it afterwards.
MAX_DEPTH = 100
MAX_PID = 4_194_304  # Linux: the largest pid_max
MAX_COUNT = 2**63 - 1  # what a column of tokens holds
MOST_SETTINGS, SETTING_LENGTH = 100, 200  # of the PM daemon's configuration, and characters of one
MAX_TIME_LIMIT = 60 * 24 * 366  # minutes

# --- times ------------------------------------------------------------------------------------------------------------

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2101, 1, 1, tzinfo=UTC)
_TIDY = re.compile(r"(?i)\s*(?:utc|gmt|z)?\s*\Z")
#: Records of one moment come together. A plain dict: where most are new, an lru_cache costs more than it saves.
_TIMES: dict[str, datetime | None] = {}


def parse_time(value: object) -> datetime | None:
    """Read a time of any format that fleets write (coordination-format.md, section 4) as UTC.

    A text without a time zone is taken as UTC; a plausible number is seconds or milliseconds since 1970. None for
    placeholders and for years before 2000 or after 2100.
    """
    if type(value) is str:
        if value in _TIMES:
            return _TIMES[value]
        if len(value) > 64:
            return None
        if len(_TIMES) >= 16384:
            _TIMES.clear()
        moment = _TIMES[value] = _parse_time_text(value)
        return moment
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _parse_epoch(value)
    return None


def _parse_time_text(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _parse_odd_time(text)
    return _plausible(moment)


def _parse_odd_time(text: str) -> datetime | None:
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) in {10, 13}:
        return _parse_epoch(int(text))
    if not text[:4].isdigit():
        return None
    without_zone = _TIDY.sub("", text)  # 2025-11-20t09:00:00z, 2025-11-20 09:00:00 UTC
    tidied = without_zone + "+00:00" if without_zone != text else re.sub(r" (?=[+-]\d\d:?\d\d\Z)", "", text)
    try:
        return _plausible(datetime.fromisoformat(tidied))
    except ValueError:
        return None


def _parse_epoch(number: float) -> datetime | None:
    if not math.isfinite(number) or number <= 0:
        return None
    seconds = number / 1000 if number > 1e11 else number
    if not _EARLIEST.timestamp() <= seconds < _LATEST.timestamp():
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _plausible(moment: datetime) -> datetime | None:
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None
    return moment if 2000 <= moment.year <= 2100 else None


# --- JSON -------------------------------------------------------------------------------------------------------------

_STRING_OR_WORD = re.compile(r'"(?:[^"\\]++|\\.)*+"|-?Infinity|NaN', re.DOTALL)
#: A string takes all the rest where its end is missing, and nothing is tried twice: a spec may hold anything, and while
#: a pattern is looked for nothing else of the poller runs.
_HOLE = re.compile(r'"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)(?:\s*+:([ \t]*+)(?=\s*+[,}]))?', re.DOTALL)
_KEY_BEFORE = re.compile(r'"((?:[^"\\]|\\.){0,200})"\s*:\s*\Z', re.DOTALL)
_REASONS = {
    "Expecting value": "a value is missing",
    "Expecting property name enclosed in double quotes": "a key in double quotes is expected",
    "Expecting ':' delimiter": "a colon is missing behind a key",
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Extra data": "there is more text behind its end",
    "Invalid control character at": "a raw control character stands in a text",
    "Unterminated string starting at": "a text has no closing quote",
    "Invalid \\escape": "a backslash in a text escapes nothing",
    "Invalid \\uXXXX escape": "a \\u in a text is not followed by four hexadecimal digits",
    "NaN": "NaN and Infinity are no JSON numbers",
}


def load(data: bytes) -> Any:
    """Parse JSON strictly; a :class:`Problem` where that fails."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = _load_slowly(data)
    if is_deep(data, document):
        return Problem(f"Nested more than {MAX_DEPTH} levels deep")
    return document


def _load_slowly(data: bytes) -> Any:
    """Find out what is wrong, or read the little JSON that orjson refuses: half a surrogate pair, 1e999."""
    if not data.strip():
        return Problem("The file is empty")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _not_utf8(data, error.start)
    if text.startswith("\ufeff"):
        return Problem("Not JSON: it begins with a byte order mark", 1, 1, line_around(text, 1))
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=whole_number)
    except json.JSONDecodeError as error:
        return _not_json(text, error.msg, error.pos)
    except RecursionError:
        return Problem(f"Nested more than {MAX_DEPTH} levels deep")
    except ValueError:  # NaN and the like, or a number of more than 4,300 digits
        word = next((match for match in _STRING_OR_WORD.finditer(text) if match[0][0] != '"'), None)
        return (
            _not_json(text, "NaN", word.start()) if word else Problem("Not JSON that can be read: a number is too long")
        )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def whole_number(digits: str) -> float | None:
    """Read a number as orjson does: one of more than 64 bits as a float."""
    return int(digits) if len(digits) < 19 else _finite(digits)


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def is_deep(data: bytes, document: Any) -> bool:
    """Whether a document is nested deeper than :data:`MAX_DEPTH`; cheap, since few have that many brackets at all."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    level, depth = [document], 0
    while level and depth <= MAX_DEPTH:
        children: list[Any] = []
        for item in level:
            children += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        level, depth = children, depth + 1
    return bool(level)


def reason_of(message: str) -> str:
    """Put a complaint of the standard library's JSON parser into words."""
    return next((words for start, words in _REASONS.items() if message.startswith(start)), message)


def _not_utf8(data: bytes, offset: int) -> Problem:
    before = data[:offset].decode()
    column = offset - data.rfind(b"\n", 0, offset) if before.isascii() else len(before) - before.rfind("\n")
    text = data.decode(errors="replace")
    reason = f"Not UTF-8: byte 0x{data[offset]:02x} at offset {offset} is part of no character"
    return Problem(reason, before.count("\n") + 1, column, line_around(text, len(before)))


def _not_json(text: str, message: str, at: int) -> Problem:
    """Turn the standard library's complaint into a sentence, and point at the place where a person would repair it."""
    end = len(text.rstrip())
    if at >= end or message.startswith("Unterminated"):
        reason = "the file ends before it is complete" if at >= end else _REASONS["Unterminated string starting at"]
        at = min(at, end)
    elif message == "Expecting value":
        reason, at = _no_value(text, at)
    else:
        reason = reason_of(message)
    line_start = text.rfind("\n", 0, at) + 1
    return Problem(f"Not JSON: {reason}", text.count("\n", 0, at) + 1, at - line_start + 1, line_around(text, at))


def _no_value(text: str, at: int) -> tuple[str, int]:
    if not text[:at].strip():
        return "it does not begin like JSON", at
    key = _KEY_BEFORE.search(text, max(0, at - 500), at)
    name = f" for “{clip(storable(key[1]), 80)}”" if key else ""
    if text[at] not in ",}]":
        return f"what stands there{name} is no JSON value", at
    behind_colon = len(text[:at].rstrip())
    newline = text.find("\n", behind_colon, at)
    return f"value missing{name}", newline if newline >= 0 else at


def line_around(text: str, at: int) -> str:
    """Cut out the line around a place, at most 60 characters to each side, redacted."""
    begin = max(text.rfind("\n", 0, at) + 1, at - 60)
    newline = text.find("\n", at)
    end = min(len(text) if newline < 0 else newline, at + 60)
    context = max(0, begin - 65536)
    return redacted_slice(text[context : end + 4096], begin - context, end - context).strip()


def clip(text: str, length: int) -> str:
    """Cut a text so that it and its ellipsis are no longer than that."""
    return text if len(text) <= length else text[: length - 1] + "…"


class Hole(NamedTuple):
    """A blank value: between two characters of a text stands nothing but blanks where a value should."""

    key: str
    start: int  # behind the colon
    end: int


def holes(text: str) -> list[Hole]:
    """Find the blank values of a text (``"x": ,``), outside of strings."""
    return [Hole(match[1], *match.span(2)) for match in _HOLE.finditer(text) if match[2] is not None]


def _fill_holes(data: bytes) -> bytes | None:
    """Read blank values as null; None where there are none. ``edits.fill_blanks`` does the same to a file."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    pieces, at = [], 0
    for hole in holes(text):
        pieces += [text[at : hole.start], " null"]
        at = hole.end
    return "".join([*pieces, text[at:]]).encode() if pieces else None


# --- looking values up ------------------------------------------------------------------------------------------------


class _Key(NamedTuple):
    """One place where a value may stand: ``execution.started_at`` is the key ``started_at`` of that section."""

    section: str
    key: str
    name: str


def _keys(*names: str) -> tuple[_Key, ...]:
    return tuple(_Key(name.rpartition(".")[0], name.rpartition(".")[2], name) for name in names)


CREATED = _keys("created_at")
STARTED = _keys("execution.started_at")
ENDED = _keys(
    "execution.completed_at",
    "execution.ended_at",
    "completed_at",
    "failed_at",
    "cleanup.cleaned_at",
    "zombie_detected_at",
)
CHECKINS = _keys("heartbeat.last_heartbeat", "execution.last_heartbeat", "heartbeat.last_seen")
TIME_LIMIT = _keys("resources.time_limit_minutes", "resources.timeout_minutes")
TOKEN_BUDGET = _keys("resources.token_budget", "resources.token_allocation", "token_budget.allocated")
TOKENS_USED = _keys("execution.tokens_used", "heartbeat.health.tokens_used", "token_budget.used")
PROGRESS = _keys(
    "progress_pct",
    "execution.progress_pct",
    "progress",
    "heartbeat.progress_pct",
    "heartbeat.health.progress_pct",
)
PID = _keys("execution.pid", "pid")
HOST = _keys("execution.host", "execution.hostname", "host", "hostname")
PRIORITY = _keys("context.priority", "task_data.priority", "priority")
TASK_TYPE = _keys("task_data.type")
MASTER = _keys("parent_master", "created_by")
DESCRIPTION = _keys(
    "task_data.description",
    "task_data.context.description",
    "task_data.title",
    "task_title",
    "context.task_description",
    "context.task_title",
    "context.instructions",
    "scope.description",
    "scope.objective",
)
RETRY_OF = _keys(
    "task_data.metadata.retry_of",
    "metadata.retry_of",
    "context.retry_of",
    "task_data.context.retry_of",
    "task_data.retry_of",
    "retry_of",
)
ERROR = _keys("execution.error", "failure_reason", "error", "zombie_reason", "cleanup.reason", "execution.notes")

_SECTIONS = _keys(
    "execution",
    "resources",
    "heartbeat",
    "heartbeat.health",
    "context",
    "task_data",
    "task_data.context",
    "task_data.metadata",
    "metadata",
    "cleanup",
    "scope",
    "token_budget",
)
_EMPTY: Document = {}
_KINDS = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


def kind_of(value: object) -> str:
    """Name the type of a JSON value in words."""
    return _KINDS.get(type(value), "null")


class _Lookup:
    """Takes the first usable value out of a document and remembers what was odd on the way."""

    __slots__ = ("oddities", "sections")

    def __init__(self, document: Document, sections: tuple[_Key, ...] = ()) -> None:
        self.oddities: list[str] = []
        self.sections: dict[str, Document] = {"": document}
        for parent, key, name in sections:
            value = self.sections[parent].get(key)
            if type(value) is dict:
                self.sections[name] = value
            else:
                self.sections[name] = _EMPTY
                if value is not None and value != "" and value != "null":
                    self.wrong(name, value, "an object")

    def wrong(self, name: str, value: object, wanted: str) -> None:
        self.oddities.append(f"“{name}” is {kind_of(value)} where {wanted} is expected")

    def text(self, keys: tuple[_Key, ...], length: int) -> str:
        """Return the first text that says something; longer ones than a column holds are cut."""
        for section, key, name in keys:
            value = self.sections[section].get(key)
            if value is None:
                continue
            if type(value) is not str:
                self.wrong(name, value, "text")
            elif value and value != "null" and not value.isspace():
                if len(value) <= length:
                    return value
                if length < TEXT_LENGTH:
                    self.oddities.append(f"“{name}” is longer than {length} characters and shown cut")
                return clip(value, length)
        return ""

    def number(self, keys: tuple[_Key, ...], least: float, most: float) -> tuple[float | None, str]:
        """Return the first number within bounds, and the key that it came from."""
        for section, key, name in keys:
            value = self.sections[section].get(key)
            if value is None or value == "" or value == "null":
                continue
            if type(value) is not int and type(value) is not float:
                self.wrong(name, value, "a number")
            elif least <= value <= most:
                return value, name
            else:
                self.oddities.append(f"“{name}” is not between {least:g} and {most:.15g}")
        return None, ""

    def count(self, keys: tuple[_Key, ...], most: int = MAX_COUNT) -> int | None:
        number, _ = self.number(keys, 0, most)
        return None if number is None else int(number)

    def progress(self, keys: tuple[_Key, ...]) -> float | None:
        number, _ = self.number(keys, -math.inf, math.inf)
        return None if number is None else min(max(float(number), 0.0), 100.0)

    def time(self, keys: tuple[_Key, ...]) -> tuple[datetime | None, str]:
        """Return the first time that can be read, and the key that it came from."""
        for section, key, name in keys:
            value = self.sections[section].get(key)
            if value is None or value == "" or value == "null":
                continue
            moment = parse_time(value)
            if moment is not None:
                return moment, name
            self.oddities.append(f"“{name}” holds no time that can be read")
        return None, ""


# --- specs ------------------------------------------------------------------------------------------------------------

#: Minutes, from the fleet's spawn-worker.sh; by the type without its `-worker`.
DEFAULT_TIME_LIMITS = {
    "scan": 15,
    "fix": 20,
    "analysis": 15,
    "implementation": 45,
    "test": 20,
    "review": 15,
    "pr": 10,
    "documentation": 20,
}
TIME_LIMIT_OTHERWISE = 60
_ID = _keys("worker_id")
_TYPE = _keys("worker_type")
_STATUS = _keys("status")
_TASK = _keys("task_id")
_FINISHED = frozenset({"completed", "complete", "success"})
NAME_IS_NOT_ID = "Its file name is not its id"
_RUN_TOLERANCE = timedelta(minutes=1)  # a start this much before created_at still belongs to the run


def parse_spec(data: bytes, path: str) -> Spec | Problem | Other:
    """Read one ``*.json`` under worker-specs; ``path`` is relative to the home and says what kind of file to expect."""
    document = load(data)
    if isinstance(document, Problem):
        return _with_reading(document, data, path)
    what = _why_no_spec(document, path)
    if what:
        return Other(what)
    return _spec(redact(document) if may_hold_secret(data) else document, path)


def description_of(data: bytes) -> str:
    """Return a spec's description as it stands in the file, for whom it is to be handed on to; never to be stored."""
    document = load(data)
    return "" if isinstance(document, Problem) else _Lookup(document, _SECTIONS).text(DESCRIPTION, TEXT_LENGTH)


def _with_reading(problem: Problem, data: bytes, path: str) -> Problem:
    """Add what an unreadable spec would say with its blank values read as null; only to show."""
    filled = _fill_holes(data)
    reading = parse_spec(filled, path) if filled else None  # filled, it has no holes: this ends
    if not isinstance(reading, Spec):
        return problem
    return Problem(problem.reason, problem.line, problem.column, problem.excerpt, reading)


def _why_no_spec(document: object, path: str) -> str:
    """Say what a piece of JSON is instead of a spec; "" for a spec. In ``active/`` any sign of a spec will do."""
    if not isinstance(document, dict):
        return f"JSON, but {kind_of(document)} and no object"
    folders = path.partition(f"{SPECS}/")[2].split("/")[:-1]
    if "templates" in folders:
        return "a template"
    if "reports" in folders:
        return "a report"
    has_type, has_status = "worker_type" in document, "status" in document
    if folders[:1] == ["active"]:
        is_spec = has_type or has_status or "worker_id" in document
    else:
        is_spec = has_type and has_status and ("worker_id" in document or "created_at" in document)
    if is_spec:
        return ""
    if path.rpartition("/")[2].lower().startswith("manifest"):
        return "a manifest"
    return "JSON without the keys of a worker spec"


def _spec(document: Document, path: str) -> Spec:
    look = _Lookup(document, _SECTIONS)
    worker_id = _worker_id(look, path)
    worker_type = look.text(_TYPE, WORD_LENGTH)
    status = look.text(_STATUS, WORD_LENGTH)
    created_at, _ = look.time(CREATED)
    started_at, started_key = look.time(STARTED)
    ended_at, ended_key = look.time(ENDED)
    _note_order(look, created_at, started_at, ended_at, started_key, ended_key)
    time_limit, time_limit_source = look.number(TIME_LIMIT, 0.001, MAX_TIME_LIMIT)
    if time_limit is None:
        time_limit, time_limit_source = default_time_limit(worker_type)
    errors = ERROR[:-1] if status.lower() in _FINISHED else ERROR  # its notes on a success are no error
    return Spec(
        worker_id=worker_id,
        created_at=created_at,
        worker_type=worker_type,
        task_id=look.text(_TASK, ID_LENGTH),
        task_type=look.text(TASK_TYPE, WORD_LENGTH),
        master=look.text(MASTER, WORD_LENGTH).removesuffix("-master"),
        status=status,
        priority=look.text(PRIORITY, 50),
        description=look.text(DESCRIPTION, TEXT_LENGTH),
        retry_of=look.text(RETRY_OF, ID_LENGTH),
        started_at=started_at,
        ended_at=ended_at,
        time_limit_minutes=time_limit,
        time_limit_source=time_limit_source,
        token_budget=look.count(TOKEN_BUDGET),
        tokens_used=look.count(TOKENS_USED),
        progress_pct=look.progress(PROGRESS),
        pid=_pid(look),
        host=look.text(HOST, ID_LENGTH),
        error=look.text(errors, TEXT_LENGTH),
        checkins=_checkins(look, path),
        document=document,
        oddities=tuple(look.oddities),
    )


def _worker_id(look: _Lookup, path: str) -> str:
    name = path.rpartition("/")[2].removesuffix(".json")
    value = look.sections[""].get("worker_id")
    if type(value) is str and value and value != "null" and len(value) <= ID_LENGTH and not value.isspace():
        if value != name:
            look.oddities.append(NAME_IS_NOT_ID)
        return value
    if type(value) is str and len(value) > ID_LENGTH:
        look.oddities.append(f"“worker_id” is longer than {ID_LENGTH} characters; its file name is taken as its id")
    else:
        said = "empty" if value in ("", "null") or value is None else kind_of(value)
        look.oddities.append(f"“worker_id” is {said}; its file name is taken as its id")
    return clip(storable(name), ID_LENGTH)


def _note_order(
    look: _Lookup,
    created: datetime | None,
    started: datetime | None,
    ended: datetime | None,
    started_key: str,
    ended_key: str,
) -> None:
    """Note times that cannot be in this order: often values of an earlier run of the same id."""
    if created and started and started < created - _RUN_TOLERANCE:
        look.oddities.append(f"“{started_key}” is before “created_at”")
    if started and ended and ended < started:
        look.oddities.append(f"“{ended_key}” is before “{started_key}”")
    elif created and ended and not started and ended < created - _RUN_TOLERANCE:
        look.oddities.append(f"“{ended_key}” is before “created_at”")


def bare_type(worker_type: str) -> str:
    """A worker type without how it happens to be written: ``Scan_Worker`` is ``scan``."""
    return worker_type.strip().lower().replace("_", "-").removesuffix("-worker")


@lru_cache(maxsize=1024)
def default_time_limit(worker_type: str) -> tuple[float, str]:
    """Return the minutes that the fleet's launcher gives a type, and in words that it is a default."""
    name = bare_type(worker_type)
    if name in DEFAULT_TIME_LIMITS:
        return float(DEFAULT_TIME_LIMITS[name]), f"default for {name}"
    return float(TIME_LIMIT_OTHERWISE), "default"


def _pid(look: _Lookup) -> int | None:
    number, name = look.number(PID, 1, MAX_PID)
    if number is not None and number != int(number):
        look.oddities.append(f"“{name}” is no whole number")
        return None
    return None if number is None else int(number)


def _checkins(look: _Lookup, path: str) -> tuple[Sign, ...]:
    signs = []
    for key in CHECKINS:
        at, name = look.time((key,))
        if at:
            signs.append(Sign(at, f"{path}#{name}"))
    return tuple(sorted(signs, key=lambda sign: sign.at, reverse=True)) if len(signs) > 1 else tuple(signs)


# --- other files ------------------------------------------------------------------------------------------------------

_PM_SECTIONS = _keys("pm_daemon", "monitored_workers", "configuration")


def load_object(data: bytes) -> Document | Problem:
    """Parse a file that has to hold one JSON object, redacted."""
    document = load(data)
    if isinstance(document, Problem):
        return document
    if not isinstance(document, dict):
        return Problem(f"JSON, but {kind_of(document)} and no object")
    redacted: Document = redact(document) if may_hold_secret(data) else document
    return redacted


def parse_pm_state(data: bytes) -> PmState | Problem:
    """Read ``coordination/pm-state.json``."""
    document = load_object(data)
    if isinstance(document, Problem):
        return document
    look = _Lookup(document, _PM_SECTIONS)
    entries = {}
    for worker_id, entry in look.sections["monitored_workers"].items():
        if type(entry) is not dict:
            look.wrong(f"monitored_workers.{clip(worker_id, 80)}", entry, "an object")
        elif not worker_id or len(worker_id) > ID_LENGTH:
            look.oddities.append(f"A key of “monitored_workers” is empty or longer than {ID_LENGTH} characters")
        else:
            entries[worker_id] = _pm_entry(worker_id, entry, look)
    configuration = {
        key: float(value)
        for key, value in look.sections["configuration"].items()
        if type(value) in (int, float) and abs(value) <= MAX_COUNT
    }
    settings = tuple(
        (clip(storable(key), WORD_LENGTH), clip(storable(orjson.dumps(value).decode()), SETTING_LENGTH))
        for key, value in list(look.sections["configuration"].items())[:MOST_SETTINGS]
    )
    return PmState(_pm_daemon(look), entries, configuration, settings, tuple(look.oddities))


_REGISTERED = _keys("registered_at")
_ENTRY_STARTED = _keys("started_at")
_LAST_CHECKIN = _keys("last_checkin")
_CHECKIN_COUNT = _keys("checkin_count")
_HEALTH_STATE = _keys("health_state")
_PROGRESS_PCT = _keys("progress_pct")


def _pm_entry(worker_id: str, document: Document, state: _Lookup) -> PmEntry:
    look = _Lookup(document)
    entry = PmEntry(
        worker_id=worker_id,
        task_id=look.text(_TASK, ID_LENGTH),
        registered_at=look.time(_REGISTERED)[0],
        started_at=look.time(_ENTRY_STARTED)[0],
        last_checkin=look.time(_LAST_CHECKIN)[0],
        checkin_count=look.count(_CHECKIN_COUNT, 2**31 - 1),
        health_state=look.text(_HEALTH_STATE, 50),
        progress_pct=look.progress(_PROGRESS_PCT),
        document=document,
    )
    state.oddities += [f"{clip(worker_id, 80)}: {oddity}" for oddity in look.oddities]
    return entry


def _pm_daemon(look: _Lookup) -> PmDaemon:
    return PmDaemon(
        pid=look.count(_keys("pm_daemon.pid"), MAX_PID) or None,
        last_loop=look.time(_keys("pm_daemon.last_loop"))[0],
        started_at=look.time(_keys("pm_daemon.started_at"))[0],
        loops_completed=look.count(_keys("pm_daemon.loops_completed"), 2**31 - 1),
        note=look.text(_keys("pm_daemon.note"), TEXT_LENGTH),
    )


def parse_pm_heartbeat(data: bytes) -> PmDaemon | Problem:
    """Read ``coordination/pm-daemon-heartbeat.json``, in which a daemon that was stopped says so."""
    document = load_object(data)
    if isinstance(document, Problem):
        return document
    look = _Lookup(document)
    return PmDaemon(
        pid=look.count(PID[1:], MAX_PID) or None,
        last_loop=look.time(_keys("timestamp"))[0],
        loops_completed=look.count(_keys("loop_count"), 2**31 - 1),
        status=look.text(_STATUS, WORD_LENGTH),
    )


_FILE_STAMP = re.compile(r"-\d{8}T\d{6}Z?\Z")
_STEP = _keys("current_step", "next_step")


def parse_checkin(data: bytes, source: str, mtime: datetime) -> CheckIn | Problem:
    """Read a check-in file; without a usable time of its own it is as old as its last write (``mtime``)."""
    document = load_object(data)
    if isinstance(document, Problem):
        return document
    look = _Lookup(document)
    worker_id = look.text(_ID, ID_LENGTH + 1)
    if not worker_id or len(worker_id) > ID_LENGTH:
        worker_id = storable(_FILE_STAMP.sub("", source.rpartition("/")[2].removesuffix(".json")))
    if not worker_id:
        return Problem("A check-in that names no worker")
    return _as_checkin(look, worker_id, source, mtime, look.text(_STEP, TEXT_LENGTH))


def parse_heartbeat(data: bytes, source: str, mtime: datetime, worker_id: str) -> CheckIn | Problem:
    """Read ``agents/workers/<id>/heartbeat.json``, which the worker writes itself; ``progress`` is free text there."""
    document = load_object(data)
    if isinstance(document, Problem):
        return document
    look = _Lookup(document)
    progress = document.get("progress")
    step = clip(progress, TEXT_LENGTH) if isinstance(progress, str) else look.text(_STEP, TEXT_LENGTH)
    return _as_checkin(look, worker_id, source, mtime, step)


def _as_checkin(look: _Lookup, worker_id: str, source: str, mtime: datetime, step: str) -> CheckIn:
    document = look.sections[""]
    progress = next((document[key] for key in ("progress_pct", "progress") if _is_number(document.get(key))), None)
    return CheckIn(
        worker_id=worker_id,
        at=_checkin_time(document.get("timestamp"), mtime),
        source=source,
        status=look.text(_STATUS, WORD_LENGTH),
        progress_pct=None if progress is None else min(max(float(progress), 0.0), 100.0),
        step=step,
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _checkin_time(value: object, mtime: datetime) -> datetime:
    """Take the file's own time unless it cannot be right.

    A time after the file's last write is no time of a check-in. The fleet's worker-checkin.sh writes the local time
    with a literal ``Z``: off by exactly this host's offset from UTC, it is local time.
    """
    at = parse_time(value)
    if at is None or at > mtime + timedelta(minutes=1):
        return mtime
    offset = mtime.astimezone().utcoffset()
    if offset and str(value).endswith("Z") and abs(mtime - at + offset) < timedelta(minutes=2):
        return mtime
    return at


def parse_status(data: bytes, source: str, mtime: datetime) -> StatusFile | Problem:
    """Read ``agents/workers/<id>/status.json``, the worker's own word on how it ended.

    ``mtime`` is when, where the file itself does not say.
    """
    document = load_object(data)
    if isinstance(document, Problem):
        return document
    look = _Lookup(document)
    exit_code = document.get("exit_code")
    return StatusFile(
        status=look.text(_STATUS, WORD_LENGTH),
        at=look.time(_keys("timestamp", "completed_at", "failed_at"))[0] or mtime,
        source=source,
        exit_code=exit_code if type(exit_code) is int and abs(exit_code) < 2**31 else None,
        error=look.text(_keys("error"), TEXT_LENGTH),
    )


def parse_pid(data: bytes) -> int | Problem:
    """Read a pid file: one positive number within the range of pids, blanks around it, and nothing else."""
    text = data.strip()
    if not text:
        return Problem("The pid file is empty")
    if not text.isdigit() or len(text) > 10:
        excerpt = redact_text(text[:80].decode(errors="replace"))
        return Problem("Not a pid: anything but one number is in the file", 1, 1, excerpt)
    pid = int(text)
    return pid if 0 < pid <= MAX_PID else Problem(f"Not a pid: {pid} is not between 1 and {MAX_PID}")
