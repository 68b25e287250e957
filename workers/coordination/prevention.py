"""What the fleet's own files say of preventing failures: limits of worker types, alerts, and who is said to run.

Nothing here is needed for a verdict, so it is read apart from the scan and only now and then. All of it is bounded:
these files are written by whoever likes to, and some of them lie in a directory that everybody may write.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from .files import JUST_NOW_SECONDS, TORN_SECONDS, is_younger, leads_out, moment_of, printable, read_whole, stamp_of
from .layout import MASTERS, WORKER_TYPES, Layout
from .parser import (
    MAX_COUNT,
    MAX_PID,
    MAX_TIME_LIMIT,
    WORD_LENGTH,
    clip,
    kind_of,
    load,
    load_object,
    parse_pid,
    parse_time,
)
from .records import DaemonTrace, Document, FileStamp, FleetAlert, HealthAlerts, Note, Precautions, Problem, TypeSetting
from .redaction import may_hold_secret, redact, storable

#: Where daemons leave their pids beside the home.
OUTSIDE = "/tmp"  # noqa: S108 - only read
LARGEST_LIST = 1024 * 1024  # bytes, of a list of worker types
LARGEST_TRACE = 64 * 1024  # bytes, of a pid or heartbeat file
MOST_TYPES, MOST_LISTS, MOST_DAEMONS, MOST_NOTES = 200, 100, 100, 50
MOST_NAMES = 20_000  # looked at in one directory
MOST_ALERTS, MOST_WORKERS = 100, 500  # alerts, and workers that one of them names
MOST_TARGETS = 10  # priorities that have a time
TEXT = 500  # characters of a message or a description

# --- lists of worker types --------------------------------------------------------------------------------------------

#: The key of a type's limit, and what it is to be multiplied by to give minutes. The first that is there holds.
LIMIT_KEYS = {
    "time_limit_minutes": 1.0,
    "timeout_minutes": 1.0,
    "default_time_limit_minutes": 1.0,
    "default_timeout_minutes": 1.0,
    "max_duration_minutes": 1.0,
    "time_limit_seconds": 1 / 60,
    "timeout_seconds": 1 / 60,
}
#: Limits whose unit nobody can know.
_NO_UNIT = ("time_limit", "timeout", "default_timeout", "max_duration")
_NAMES = ("type_id", "worker_type", "type", "id", "name")
#: What such a file says of itself and not of a type.
_OF_THE_FILE = frozenset({"version", "description", "name", "updated_at", "last_updated", "created_at", "$schema"})


def parse_worker_types(data: bytes, path: str) -> tuple[list[TypeSetting], list[str]] | Problem:
    """Read a list of worker types, in either of its shapes, and what of it was not understood.

    ``{"worker_types": [{"type_id": …, "time_limit_minutes": …}]}`` or ``{"<type>": {"time_limit_minutes": …}}``.
    """
    document = load(data)
    if isinstance(document, Problem):
        return document
    document = redact(document) if may_hold_secret(data) else document
    key = ""
    if type(document) is dict:
        key = next((name for name in ("worker_types", "types") if type(document.get(name)) in (dict, list)), "")
        document = document[key] if key else document
    if type(document) not in (dict, list):
        return Problem(f"JSON, but {kind_of(document)} and no list of worker types")
    found: dict[str, TypeSetting] = {}
    notes: list[str] = []
    entries = list(_entries(document, key, notes))
    for place, name, entry in entries[:MOST_TYPES]:
        if name in found:
            notes.append(f"“{place}” is a second entry for {name}; the first one holds")
            continue
        found[name] = _type_setting(path, place, name, entry, notes)
    if len(entries) > MOST_TYPES:
        notes.append(f"It lists {len(entries):,} types; only the first {MOST_TYPES} are read")
    return list(found.values()), notes


def _entries(document: Any, key: str, notes: list[str]) -> Iterator[tuple[str, str, Document]]:
    """Yield place, name and values of each type."""
    if type(document) is list:
        for number, entry in enumerate(document):
            place = f"{key}[{number}]"
            name = next((_word(entry.get(each)) for each in _NAMES if _word(entry.get(each))), "") if _is(entry) else ""
            if name:
                yield place, name, entry
            else:
                said = f"none of {', '.join(_NAMES)}" if _is(entry) else f"{kind_of(entry)} where an object is expected"
                notes.append(f"“{place}” is {said}" if not _is(entry) else f"“{place}” has {said}")
        return
    for name, entry in document.items():
        shown = clip(storable(name), WORD_LENGTH)
        place = f"{key}.{shown}" if key else shown
        if _is(entry) and _word(name):
            yield place, _word(name), entry
        elif key or name not in _OF_THE_FILE:
            notes.append(f"“{place}” is {kind_of(entry)} where an object is expected")


def _type_setting(path: str, place: str, name: str, entry: Document, notes: list[str]) -> TypeSetting:
    description = entry.get("description")
    inner = entry.get("resources")
    places = [(place, entry), *([(f"{place}.resources", inner)] if type(inner) is dict else [])]
    limit, source, told = None, path, None
    for where, values in places:
        for key, factor in LIMIT_KEYS.items():
            value = values.get(key)
            if value is None:
                continue
            minutes = value * factor if type(value) in (int, float) else None
            if minutes is None:
                notes.append(f"“{where}.{key}” is {kind_of(value)} where a number is expected")
            elif not 0 < minutes <= MAX_TIME_LIMIT:
                notes.append(f"“{where}.{key}” is no time limit: it is not between 0 and a year")
            elif limit is None:
                limit, source, told = round(minutes, 3), f"{path}#{where}.{key}", key
            elif round(minutes, 3) != limit:
                notes.append(f"“{where}.{key}” says otherwise than “{told}”, which holds")
        if limit is None:
            notes += [f"“{where}.{key}” has no unit, and is not used" for key in _NO_UNIT if key in values]
    text = clip(storable(description), TEXT) if type(description) is str else ""
    return TypeSetting(name, source, limit, text)


def _is(entry: object) -> bool:
    return type(entry) is dict


def _word(value: object) -> str:
    """A name as a column holds it; "" where it is none."""
    return storable(value).strip() if type(value) is str and 0 < len(value) <= WORD_LENGTH else ""


# --- alerts -----------------------------------------------------------------------------------------------------------


def parse_health_alerts(data: bytes) -> HealthAlerts | Problem:
    """Read ``coordination/health-alerts.json``: its targets (``sla_config``, minutes by priority) and its alerts."""
    document = load_object(data)
    if isinstance(document, Problem):
        return document
    config = document.get("sla_config")
    targets = {
        clip(storable(name), WORD_LENGTH): float(minutes)
        for name, minutes in (config.items() if type(config) is dict else ())
        if type(minutes) in (int, float) and 0 < minutes <= MAX_TIME_LIMIT
    }
    notes: list[str] = []
    listed = document.get("alerts")
    if listed is not None and type(listed) is not list:
        notes.append(f"“alerts” is {kind_of(listed)} where a list is expected")
    listed = listed if type(listed) is list else []
    first = max(0, len(listed) - MOST_ALERTS)
    if first:
        notes.append(f"It holds {len(listed):,} alerts; only the last {MOST_ALERTS} are read")
    alerts = [_alert(entry, f"alerts[{first + n}]", notes) for n, entry in enumerate(listed[first:])]
    return HealthAlerts(
        targets=dict(sorted(targets.items(), key=lambda item: item[1])[:MOST_TARGETS]),
        alerts=tuple(alert for alert in alerts if alert),
        there=True,
        notes=tuple(notes[:MOST_NOTES]),
    )


def _alert(entry: Any, place: str, notes: list[str]) -> FleetAlert | None:
    if type(entry) is not dict:
        notes.append(f"“{place}” is {kind_of(entry)} where an object is expected")
        return None
    listed = entry.get("zombie_workers")
    names = listed.split(",") if type(listed) is str else listed if type(listed) is list else []
    workers = [name.strip() for name in names if type(name) is str and 0 < len(name.strip()) <= 255]
    if len(workers) > MOST_WORKERS:
        notes.append(f"“{place}.zombie_workers” names {len(workers):,} workers; only the first {MOST_WORKERS} are read")
    return FleetAlert(
        **{name: _text(entry.get(name), WORD_LENGTH) for name in ("id", "type", "severity", "status")},
        message=_text(entry.get("message"), TEXT),
        created_at=parse_time(entry.get("created_at")),
        threshold=_number(entry.get("threshold")),
        metric_value=_number(entry.get("metric_value")),
        workers=tuple(dict.fromkeys(storable(name) for name in workers[:MOST_WORKERS])),
    )


def _text(value: object, length: int) -> str:
    if type(value) in (int, float):
        value = f"{value:.15g}"
    return clip(storable(value).strip(), length) if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and type(value) is not bool and abs(value) < 1e15 else None


# --- daemons ----------------------------------------------------------------------------------------------------------

_SUFFIXES = ("-heartbeat.json", ".pid")
_PREFIX = "commit-relay-"


def is_trace(name: str, *, outside: bool) -> bool:
    """Whether a file name is that of a daemon's pid or heartbeat."""
    if outside:
        return name == "pm-daemon.pid" or (name.startswith(_PREFIX) and name.endswith(".pid"))
    return name.endswith(_SUFFIXES)


def daemon_name(path: str) -> str:
    """Call a daemon as its file does."""
    name = path.rpartition("/")[2].removeprefix(_PREFIX)
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return clip(name, WORD_LENGTH) or "unnamed"


def parse_daemon(data: bytes, stamp: FileStamp, path: str) -> DaemonTrace | Problem:
    """Read a pid file, or a heartbeat of the shape ``{"daemon", "pid", "timestamp", "status", "loop_count"}``."""
    written = moment_of(stamp)
    if path.endswith(".pid"):
        number = parse_pid(data)
        if isinstance(number, Problem):
            return Problem(number.reason)  # outside of the home it may be any file's text, which is nobody's business
        return DaemonTrace(daemon_name(path), path, written, number)
    document = load_object(data)
    if isinstance(document, Problem):
        return document
    pid, loops = document.get("pid"), document.get("loop_count")
    times = (parse_time(document.get(key)) for key in ("timestamp", "last_heartbeat", "last_loop", "updated_at"))
    return DaemonTrace(
        name=daemon_name(path),
        path=path,
        written_at=written,
        pid=pid if type(pid) is int and 0 < pid <= MAX_PID else None,
        beat_at=next((at for at in times if at), None),
        status=_text(document.get("status"), WORD_LENGTH),
        loops=loops if type(loops) is int and 0 <= loops <= MAX_COUNT else None,
    )


# --- reading ----------------------------------------------------------------------------------------------------------

_Parsed = TypeVar("_Parsed")


@dataclass(slots=True)
class _Known(Generic[_Parsed]):
    stamp: FileStamp
    content: _Parsed | Problem


class PreventionReader:
    """Reads what the fleet says of preventing failures. A file that has not changed is not opened again."""

    def __init__(self, layout: Layout, outside: str = OUTSIDE) -> None:
        self.layout = layout
        self.outside = outside
        self._known: dict[str, _Known[Any]] = {}
        self._seen: set[str] = set()

    def look(self, now: float | None = None) -> Precautions:
        """Say what is there. What cannot be read is a note; nothing is raised. ``now``: seconds since 1970."""
        now = time.time() if now is None else now
        self._seen = set()
        notes: list[Note] = []
        types: list[TypeSetting] = []
        looked: list[tuple[str, bool]] = []
        for path in self._lists():
            found = self._read(path, LARGEST_LIST, partial(_parse_types, printable(path)), now)
            looked.append((printable(path), found is not None))
            if isinstance(found, Problem):
                notes.append(Note(printable(path), _sentence(found)))
            elif found:
                types += found[0]
                notes += [Note(printable(path), text) for text in found[1]]
        daemons = list(self._daemons(notes, now))
        self._known = {path: known for path, known in self._known.items() if path in self._seen}
        return Precautions(tuple(types), tuple(daemons), tuple(looked), tuple(notes[:MOST_NOTES]))

    def _lists(self) -> list[str]:
        """Where lists of worker types may lie: the one of the whole fleet first."""
        masters = sorted(self._names(MASTERS))[:MOST_LISTS]
        below = [f"{MASTERS}/{name}/knowledge-base/worker-types.json" for name in masters]
        return [WORKER_TYPES, *(path for path in below if os.path.lexists(self.layout.home / path))]

    def _daemons(self, notes: list[Note], now: float) -> Iterator[DaemonTrace]:
        places = [
            (f"{folder}/{name}", False)
            for folder in ("coordination", "agents")
            for name in self._names(folder)
            if is_trace(name, outside=False)
        ]
        outside = [(f"{self.outside}/{name}", True) for name in self._names_outside() if is_trace(name, outside=True)]
        places = [*sorted(places), *sorted(outside)]
        for path, out in places[:MOST_DAEMONS]:
            parse = partial(_parse_daemon, printable(path))
            found = self._read(path, LARGEST_TRACE, parse, now, outside=out)
            if isinstance(found, Problem):
                notes.append(Note(printable(path), _sentence(found)))
            elif found:
                yield found
        if len(places) > MOST_DAEMONS:
            text = f"{len(places):,} pid and heartbeat files were found; only the first {MOST_DAEMONS} are read"
            notes.append(Note("coordination", text))

    def _names(self, folder: str) -> Iterable[str]:
        return _listed(self.layout.home / folder) if self.layout.inside(folder) else ()

    def _names_outside(self) -> Iterable[str]:
        return _listed(self.outside) if self.outside else ()

    def _read(
        self,
        path: str,
        limit: int,
        parse: Callable[[bytes, FileStamp], _Parsed | Problem],
        now: float,
        *,
        outside: bool = False,
    ) -> _Parsed | Problem | None:
        """Read a file if it has changed, else return what it said. None: it is not there."""
        full = path if outside else f"{self.layout.home}/{path}"
        try:
            status = os.lstat(full)
            if stat.S_ISLNK(status.st_mode):
                if outside:
                    return Problem("A link: outside of the home none is followed")
                if not self.layout.inside(full):
                    return leads_out(os.path.realpath(full))
                status = os.stat(full)  # noqa: PTH116 - strings throughout
            elif not outside and not self.layout.inside(full):
                return leads_out(os.path.realpath(full))
        except OSError:
            return None
        self._seen.add(path)
        known: _Known[_Parsed] | None = self._known.get(path)
        if known and known.stamp == stamp_of(status):
            return known.content
        read = read_whole(full, limit, follow=not outside)
        if read is None or isinstance(read, Problem):
            return read
        content, stamp = parse(*read), read[1]
        if isinstance(content, Problem) and known and is_younger(stamp, TORN_SECONDS, now):
            return known.content  # somebody is writing it
        if not is_younger(stamp, JUST_NOW_SECONDS, now):
            self._known[path] = _Known(stamp, content)
        return content


def _parse_types(path: str, data: bytes, _: FileStamp) -> tuple[list[TypeSetting], list[str]] | Problem:
    return parse_worker_types(data, path)


def _parse_daemon(path: str, data: bytes, stamp: FileStamp) -> DaemonTrace | Problem:
    return parse_daemon(data, stamp, path)


def _listed(folder: str | os.PathLike[str]) -> list[str]:
    """List the names in a directory, no more than a bounded number of them; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, MOST_NAMES)]
    except OSError:
        return []


def _sentence(problem: Problem) -> str:
    where = f" at line {problem.line}, column {problem.column}" if problem.line else ""
    return f"{problem.reason}{where}"
