"""What live workers leave under ``agents/``: pid files, a heartbeat, a status file and logs.

A directory that does not exist costs nothing: ``agents/workers`` is listed once, and again when it changes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from .files import (
    JUST_NOW_SECONDS,
    NEVER,
    TORN_SECONDS,
    Listings,
    cannot_read,
    is_younger,
    leads_out,
    moment_of,
    printable,
    read_whole,
    stamp_of,
    written_by,
)
from .layout import AGENTS_WORKER_LOGS, AGENTS_WORKERS, Layout
from .parser import parse_heartbeat, parse_pid, parse_status
from .records import CheckIn, FileStamp, LogActivity, PidFile, Problem, StatusFile, Traces
from .redaction import redact_text
from .stuck import LINES, Stuck, recognise

LARGEST_TRACE = 1024 * 1024  # bytes; a log may be of any size
_FILES = ("worker.pid", "heartbeat.pid", "heartbeat.json", "status.json")
_EMITTER_LOG = "heartbeat-emitter.log"  # written by the worker's companion, whether the worker lives or not
_TAILS = (4096, 65536)  # bytes from the end in which the last line of a log is looked for
_LINE_LENGTH = 500  # characters
_LAST_MOMENTS = 5_000_000_000  # a log written this many ns before the newest belongs to the same end

# --- what reads like an error -----------------------------------------------------------------------------------------

_LEVELS = frozenset({"ERROR", "FATAL", "PANIC", "CRITICAL", "SEVERE"})
#: How the last line of a log reads if something went wrong: each a habit of one kind of program.
ERROR_LINES: dict[str, re.Pattern[str]] = {
    "a level set off by punctuation": re.compile(
        r"(?:^|[\s\[|(])(?:ERROR|FATAL|PANIC|CRITICAL)(?:\]|\)|:|\s+-|\s*\|)",
    ),
    "a level of a structured log": re.compile(
        r"(?i)\b\"?(?:level|severity|lvl)\"?\s*[=:]\s*\"?(?:error|fatal|panic|critical)\b",
    ),
    "a line that begins with the word": re.compile(
        r"(?i)^\s*(?:\S{1,40}:\s+|\w{1,40} )?(?:fatal error|fatal|panic|error|unhandled \w{1,40})\s*[:!(\[]",
    ),
    "a traceback": re.compile(r"^Traceback \(most recent call last\)"),
    "an exception by its name": re.compile(
        r"^\s*(?:Caused by: |Uncaught |Unhandled )?(?:[A-Za-z_]\w{0,80}\.){0,10}"
        r"[A-Z]\w{0,80}(?:Error|Exception|Interrupt|Exit)(?::|\s*$)",
    ),
    "a frame of a stack": re.compile(r"^\s+at \S.{0,200}:\d+(?::\d+)?\)?$"),
    "Node.js, which names its version only when it crashes": re.compile(r"^Node\.js v\d"),
    "a package manager": re.compile(r"^p?npm (?:ERR!|error)"),
    "an exit code that is not 0": re.compile(
        r"(?i)\b(?:exit(?:ed|s)?\b.{0,20}?\b(?:code|status)|return code)\b[\s:=]*(?:-\d|[1-9])",
    ),
    "the shell or the kernel": re.compile(
        r"(?i)\b(?:segmentation fault|core dumped|out of memory|oom-kill\w*|command not found)\b|^killed$",
    ),
}
_NO_ERROR = re.compile(
    r"(?i)\b(?:0|no|zero|without(?: any)?)\s+(?:errors?|failures?|exceptions?)\b|\berrors?\s*[:=]\s*(?:0|none)\b"
)
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


#: Without one of these a line fits none of the patterns above; a follower asks this of thousands of lines a second.
_HINTS = (
    *("err", "fatal", "panic", "critical", "severe", "unhandled", "exception", "interrupt", "exit", "return code"),
    *("traceback", "node.js v", "segmentation", "core dumped", "out of memory", "oom-kill", "not found", "killed"),
)


def reads_like_error(line: str) -> bool:
    """Whether the last line of a log says that something went wrong; one that only mentions "0 errors" does not."""
    low = line.lower()
    if not any([hint in low for hint in _HINTS]) and not low.lstrip().startswith("at "):  # noqa: C419 - half the time
        return False
    line = _NO_ERROR.sub("", line)
    return _has_error_level(line) or any(pattern.search(line) for pattern in ERROR_LINES.values())


def _has_error_level(line: str) -> bool:
    """Whether the first word is a level, behind nothing but times, numbers and words in brackets."""
    for word in line.split()[:8]:
        bare = word.strip("[](){}<>|:-,\"'")
        if bare in _LEVELS:
            return True
        if bare and word[0] not in "[(" and not any(character.isdigit() for character in bare):
            return False
    return False


# --- reading ----------------------------------------------------------------------------------------------------------


class _LogEnd(NamedTuple):
    """The end of a log: its last line that is not blank, and what its last lines say together. Redacted."""

    line: str
    stuck: Stuck | None = None


_Part = PidFile | CheckIn | StatusFile | _LogEnd | Problem


@dataclass(slots=True)
class _Known:
    """What was read of one worker: the stamp and the meaning of each of its files, by path."""

    stamps: dict[str, FileStamp] = field(default_factory=dict)
    parts: dict[str, _Part] = field(default_factory=dict)
    refused: dict[str, Problem] = field(default_factory=dict)
    traces: Traces | None = None


class TraceReader:
    """Finds and reads the traces of live workers; only what changed is opened again."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._home = f"{layout.home}/"
        self._listings = Listings(layout)
        self._dated_listings = Listings(layout)
        self._dated: dict[str, list[str]] = {}  # worker id -> its directories under agents/logs/workers
        self._dated_version = -1
        self._known: dict[str, _Known] = {}

    def look(self, live: set[str], now: float, only: Collection[str] | None = None) -> dict[str, Traces]:
        """Return the traces that changed, of all live workers or ``only`` of those. ``now``: seconds since 1970."""
        workers = self._listings.names(AGENTS_WORKERS, now)
        self._index_dated(now)
        with_traces = {*workers, *self._dated, *self._known} & (live if only is None else live.intersection(only))
        looked = {worker_id: self._look_at(worker_id, now) for worker_id in with_traces}
        for worker_id in self._known.keys() - live:
            del self._known[worker_id]
        return {worker_id: traces for worker_id, traces in looked.items() if traces}

    def forget(self, worker_id: str) -> None:
        """Let a worker's traces be read and returned again."""
        self._known[worker_id] = _Known()

    def _index_dated(self, now: float) -> None:
        """Learn which workers have a directory under ``agents/logs/workers/<date>/``."""
        listings = self._dated_listings
        dates = [f"{AGENTS_WORKER_LOGS}/{date}" for date in listings.names(AGENTS_WORKER_LOGS, now)]
        found = {date: listings.names(date, now) for date in dates}
        if self._dated_version == listings.version:
            return
        self._dated_version = listings.version
        self._dated = {}
        for date, names in found.items():
            for name in names:
                self._dated.setdefault(name, []).append(f"{date}/{name}")

    def _look_at(self, worker_id: str, now: float) -> Traces | None:
        known = self._known.get(worker_id, _Known())
        refused: dict[str, Problem] = {}
        stamps = self._stamps(worker_id, now, refused)
        if stamps == known.stamps and refused == known.refused and known.traces:
            return None
        trusted: dict[str, FileStamp] = {}
        parts: dict[str, _Part] = {}
        for path, stamp in stamps.items():
            if known.stamps.get(path) == stamp:
                trusted[path], parts[path] = stamp, known.parts[path]
                continue
            part = self._read(worker_id, path, stamp)
            if part is None:
                continue  # gone meanwhile
            before = known.parts.get(path)
            torn = isinstance(part, Problem) and before is not None and not isinstance(before, Problem)
            torn = torn and is_younger(stamp, TORN_SECONDS, now)
            parts[path] = before if torn and before is not None else part
            trusted[path] = NEVER if torn or is_younger(stamp, JUST_NOW_SECONDS, now) else stamp
        traces = _assemble(worker_id, stamps, parts, refused)
        if stamps or refused:
            self._known[worker_id] = _Known(trusted, parts, refused, traces)
        else:
            self._known.pop(worker_id, None)
        return traces if traces != (known.traces or Traces(worker_id)) else None

    def _stamps(self, worker_id: str, now: float, refused: dict[str, Problem]) -> dict[str, FileStamp]:
        """Stat the worker's files, by path; what leads out of the home, or may not be listed, is noted as refused."""
        directory = f"{AGENTS_WORKERS}/{worker_id}"
        names = self._listings.names(directory, now) if worker_id in self._listings.names_of(AGENTS_WORKERS) else {}
        paths = [f"{directory}/{name}" for name in _FILES if name in names]
        folders = [directory, *self._dated.get(worker_id, ())]
        if "logs" in names:
            folders.append(f"{directory}/logs")
        for folder in folders[1:]:
            paths += [
                f"{folder}/{name}"
                for name in self._listings.names(folder, now)
                if name.endswith(".log") and name != _EMITTER_LOG
            ]
        refused.update({path: self._listings.refused[path] for path in folders if path in self._listings.refused})
        stamps = {}
        for path in paths:
            stamp = self._stamp(path)
            if isinstance(stamp, Problem):
                refused[path] = stamp
            elif stamp:
                stamps[path] = stamp
        return stamps

    def _stamp(self, path: str) -> FileStamp | Problem | None:
        absolute = self._home + path
        try:
            status = os.lstat(absolute)
            if stat.S_ISLNK(status.st_mode):
                if not self.layout.inside(absolute):
                    return leads_out(os.path.realpath(absolute))
                status = os.stat(absolute)  # noqa: PTH116 - hot
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return cannot_read(error)
        return stamp_of(status) if stat.S_ISREG(status.st_mode) else None

    def _read(self, worker_id: str, path: str, stamp: FileStamp) -> _Part | None:
        if path.endswith(".log"):
            return _log_end(self._home + path)
        read = read_whole(self._home + path, LARGEST_TRACE)
        if read is None or isinstance(read, Problem):
            return read
        data, written = read[0], moment_of(stamp)
        if path.endswith(".pid"):
            pid = parse_pid(data)
            return pid if isinstance(pid, Problem) else PidFile(pid, written_by(stamp), path)
        if path.endswith("heartbeat.json"):
            return parse_heartbeat(data, path, written, worker_id)
        return parse_status(data, path, written)


def _assemble(
    worker_id: str, stamps: dict[str, FileStamp], parts: dict[str, _Part], refused: dict[str, Problem]
) -> Traces:
    pid_file, companion, heartbeat, status = (parts.get(f"{AGENTS_WORKERS}/{worker_id}/{name}") for name in _FILES)
    problems = refused | {path: part for path, part in parts.items() if isinstance(part, Problem)}
    return Traces(
        worker_id=worker_id,
        pid_file=pid_file if isinstance(pid_file, PidFile) else None,
        companion=companion if isinstance(companion, PidFile) else None,
        heartbeat=heartbeat if isinstance(heartbeat, CheckIn) else None,
        status=status if isinstance(status, StatusFile) else None,
        log=_activity(stamps, parts),
        problems=tuple((printable(path), problems[path]) for path in sorted(problems)),
    )


def _activity(stamps: dict[str, FileStamp], parts: dict[str, _Part]) -> LogActivity | None:
    """Sum the logs up: the newest that holds anything, and an error with which any of them ended at that time."""
    ends = ((path, part) for path, part in parts.items() if isinstance(part, _LogEnd) and stamps[path].size)
    logs = [(stamps[path], path, end) for path, end in ends]
    if not logs:
        return None
    logs.sort(key=lambda log: (log[0].mtime_ns, log[1]), reverse=True)
    newest, source, end = logs[0]
    last_lines = [each.line for stamp, _, each in logs if newest.mtime_ns - stamp.mtime_ns <= _LAST_MOMENTS]
    return LogActivity(
        at=moment_of(newest),
        source=printable(source),
        size=sum(stamp.size for stamp, _, _ in logs),
        last_line=end.line,
        error=next(filter(reads_like_error, last_lines), ""),
        stuck=end.stuck,
    )


def _log_end(path: str) -> _LogEnd | Problem | None:
    """Read the last lines of a log from its end. None: the log is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return cannot_read(error)
    try:
        size = os.fstat(descriptor).st_size
        for length in _TAILS:
            tail = os.pread(descriptor, length, max(0, size - length)).rstrip()
            if b"\n" in tail or length >= size:
                break
    except OSError as error:
        return cannot_read(error)
    finally:
        os.close(descriptor)
    lines = [_clean(line) for line in re.split(rb"[\r\n]+", tail)[-LINES:]]
    return _LogEnd(lines[-1], recognise(lines))


def _clean(line: bytes) -> str:
    text = _COLOUR.sub("", redact_text(line.decode(errors="replace"))).strip()
    return text if len(text) <= _LINE_LENGTH else text[: _LINE_LENGTH - 1] + "…"
