"""What the coordination directory says, as typed values.

A parser turns bytes into one of these records or into a :class:`Problem`; nothing further in ever sees a raw
dict, except the redacted ``document`` that pages show. All times are aware and in UTC. No Django, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from .stuck import Stuck

Document = dict[str, Any]


class FileStamp(NamedTuple):
    """What tells one version of a file from another without opening it."""

    inode: int
    size: int  # bytes
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Sign:
    """One moment at which the worker showed that it is alive, and where that was read.

    ``source`` is a path relative to the home, with the key behind a ``#`` where one file holds many facts
    (``coordination/pm-state.json#last_checkin``).
    """

    at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Spec:
    """One worker spec: what somebody wanted from one run of one worker, and what is said to have become of it."""

    worker_id: str
    created_at: datetime | None
    worker_type: str = ""
    task_id: str = ""
    task_type: str = ""
    master: str = ""
    status: str = ""
    priority: str = ""
    description: str = ""
    retry_of: str = ""  # the task that this one is to do again
    started_at: datetime | None = None
    ended_at: datetime | None = None
    time_limit_minutes: float | None = None
    time_limit_source: str = ""  # "resources.timeout_minutes", "default for scan", …
    token_budget: int | None = None
    tokens_used: int | None = None
    progress_pct: float | None = None
    pid: int | None = None
    host: str = ""  # the host it was started on, where a fleet of several hosts says so
    error: str = ""
    checkins: tuple[Sign, ...] = ()  # the heartbeat fields, newest first
    document: Document = field(default_factory=dict)  # redacted
    oddities: tuple[str, ...] = ()  # plain sentences: wrong types, absurd times, a name that is not the id


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file cannot be used as what it should be. Never an exception: a bad file is an ordinary thing to see."""

    reason: str  # one plain sentence
    line: int | None = None  # from 1
    column: int | None = None  # from 1, in characters
    excerpt: str = ""  # the text around it, redacted
    reading: Spec | None = None  # what it would say with blank values read as null; only to show


@dataclass(frozen=True, slots=True)
class Other:
    """JSON under worker-specs that is no spec: a manifest, a template, a report."""

    what: str


@dataclass(frozen=True, slots=True)
class PmEntry:
    """What the PM daemon remembers of one worker id; it may describe an earlier run of that id."""

    worker_id: str
    task_id: str = ""
    registered_at: datetime | None = None
    started_at: datetime | None = None
    last_checkin: datetime | None = None
    checkin_count: int | None = None
    health_state: str = ""
    progress_pct: float | None = None
    document: Document = field(default_factory=dict)  # redacted


@dataclass(frozen=True, slots=True)
class PmDaemon:
    """The PM daemon as it describes itself."""

    pid: int | None = None
    last_loop: datetime | None = None
    started_at: datetime | None = None
    loops_completed: int | None = None
    note: str = ""
    status: str = ""  # its heartbeat file's word: "running", "stopped"


@dataclass(frozen=True, slots=True)
class PmState:
    """``coordination/pm-state.json``."""

    daemon: PmDaemon = PmDaemon()
    entries: dict[str, PmEntry] = field(default_factory=dict)
    configuration: dict[str, float] = field(default_factory=dict)  # the numbers of `.configuration`; often absent
    settings: tuple[tuple[str, str], ...] = ()  # all of `.configuration`: key and value as redacted JSON, cut
    oddities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetAlert:
    """One alert that the fleet's own daemons raised in ``coordination/health-alerts.json``."""

    id: str = ""
    type: str = ""
    severity: str = ""
    status: str = ""
    message: str = ""  # redacted, cut
    created_at: datetime | None = None
    threshold: float | None = None
    metric_value: float | None = None
    workers: tuple[str, ...] = ()  # the ids that it lists


@dataclass(frozen=True, slots=True)
class HealthAlerts:
    """``coordination/health-alerts.json``: alerts that somebody raised, and the little of it that is configuration."""

    targets: dict[str, float] = field(default_factory=dict)  # priority -> minutes until it is dealt with
    alerts: tuple[FleetAlert, ...] = ()  # as in the file, the last of them where there are many
    there: bool = False  # whether there is such a file
    notes: tuple[str, ...] = ()  # plain sentences: what in it was not understood


@dataclass(frozen=True, slots=True)
class TypeSetting:
    """What one list of worker types says of one type."""

    worker_type: str
    source: str  # the file, and behind a ``#`` the key that the limit was read from
    time_limit_minutes: float | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class DaemonTrace:
    """A file that speaks for a daemon: a pid that somebody wrote down, or a heartbeat. A claim, not a process."""

    name: str  # as its file is called: `worker-daemon`
    path: str  # relative to the home, or absolute where it lies outside
    written_at: datetime
    pid: int | None = None
    beat_at: datetime | None = None  # as its heartbeat says
    status: str = ""
    loops: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What could not be understood of a file that says how the fleet is set up."""

    path: str
    text: str  # one plain sentence


@dataclass(frozen=True, slots=True)
class Precautions:
    """How a fleet is set up to prevent failures, as far as its files say."""

    types: tuple[TypeSetting, ...] = ()
    daemons: tuple[DaemonTrace, ...] = ()
    looked: tuple[tuple[str, bool], ...] = ()  # where worker types were looked for, and whether there was a file
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckIn:
    """A check-in file (``coordination/worker-checkins/``) or the heartbeat file that a worker writes itself."""

    worker_id: str
    at: datetime
    source: str
    status: str = ""
    progress_pct: float | None = None
    step: str = ""


@dataclass(frozen=True, slots=True)
class StatusFile:
    """``agents/workers/<id>/status.json``: the worker's own word on how it ended."""

    status: str
    at: datetime | None
    source: str
    exit_code: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class PidFile:
    """A pid somebody wrote down, and when. A claim, not a process."""

    pid: int
    written_at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class LogActivity:
    """The newest of a worker's own log files (never its heartbeat emitter's)."""

    at: datetime  # mtime
    source: str
    size: int  # bytes, all its log files together
    last_line: str = ""  # redacted
    error: str = ""  # the last line where it reads like an error, else ""
    stuck: Stuck | None = None  # in what way its last lines say that it is not getting on


@dataclass(frozen=True, slots=True)
class Traces:
    """What a worker leaves under ``agents/``. Each part is None where there is no such file."""

    worker_id: str
    pid_file: PidFile | None = None
    companion: PidFile | None = None  # the heartbeat emitter
    heartbeat: CheckIn | None = None
    status: StatusFile | None = None
    log: LogActivity | None = None
    problems: tuple[tuple[str, Problem], ...] = ()  # (path, problem)


class ProcessKey(NamedTuple):
    """One process, and no other that ever had or will have its pid."""

    pid: int
    start_ticks: int  # clock ticks from boot to its start: unlike a wall-clock time it never moves
    boot_id: str


@dataclass(frozen=True, slots=True)
class Process:
    """A living process as the probe saw it. Never one in state Z, which is gone.

    Its texts are to be stored and shown, whatever bytes a directory or a program is named with; what is compared with
    names on disk is for the probe to keep.
    """

    key: ProcessKey
    ppid: int
    name: str
    argv: tuple[str, ...]  # redacted
    cwd: str  # "" where it may not be read
    user: str
    ours: bool  # whether we may signal it
    started_at: datetime

    @property
    def pid(self) -> int:
        return self.key.pid


@dataclass(frozen=True, slots=True)
class WorkerProcesses:
    """The processes of one run on this host, and how they were told from all others."""

    main: Process | None = None  # None: it has no process of its own
    found_by: str = ""  # a phrase: "its pid file", "its working directory", …
    source: str = ""  # the path or probe behind it
    tree: tuple[Process, ...] = ()  # main first, then its descendants
    companions: tuple[Process, ...] = ()  # heartbeat emitters: no life, but to be stopped before the spec moves
    rejected: tuple[str, ...] = ()  # plain sentences: "pid 4711 of worker.pid is another program now, …"
    hidden: str = ""  # why its processes cannot be seen from here, else ""


#: Nothing was found, or nothing was looked for.
NO_PROCESSES = WorkerProcesses()


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What a process tree used between two observations."""

    cpu_percent: float | None  # of one core; None at the first observation
    rss_bytes: int
    at: datetime
    parts: Mapping[int, tuple[float | None, int]] = field(default_factory=dict)  # by pid: its own CPU and memory


class LogRecord(NamedTuple):
    """One JSON record of a coordination log. A tuple, since a cold start makes tens of thousands."""

    offset: int  # bytes from the start of the file to the record's first byte
    at: datetime | None
    type: str
    worker_id: str
    data: str  # the whole record as redacted JSON text


class Damage(NamedTuple):
    """A stretch of a log out of which no record can be read."""

    offset: int
    length: int  # bytes
    reason: str
    excerpt: str  # redacted


@dataclass(frozen=True, slots=True)
class LogCursor:
    """How far a log has been read. ``generation`` counts the files that have stood under this path."""

    path: str
    inode: int = 0
    generation: int = 0
    offset: int = 0
    head: str = ""  # digests of the first bytes and of the last before the offset, by which the file is known again
    head_length: int = 0  # bytes, of each


@dataclass(frozen=True, slots=True)
class LogBatch:
    """What one read of a log gave. ``more`` is true where the file holds further whole records."""

    cursor: LogCursor
    records: list[LogRecord]
    damages: list[Damage]
    more: bool
    replaced: str = ""  # "rotated" or "truncated" where the file is not the one the cursor knew


@dataclass(frozen=True, slots=True)
class SpecSeen:
    """A file under worker-specs that is new or has changed."""

    path: str  # relative to the home
    stamp: FileStamp
    content: Spec | Problem | Other


@dataclass(slots=True)
class Scan:
    """What changed on disk since the scan before. Empty fields mean: nothing changed there."""

    specs: list[SpecSeen] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)  # spec paths that are gone
    pm: PmState | Problem | None = None
    pm_gone: bool = False
    alerts: HealthAlerts | None = None
    checkins: list[CheckIn] = field(default_factory=list)
    traces: dict[str, Traces] = field(default_factory=dict)  # by worker id
    logs: list[str] = field(default_factory=list)  # paths of logs that grew, shrank or were replaced
    problems: dict[str, Problem | None] = field(default_factory=dict)  # other files by path; None: mended
    error: str = ""  # why the directory as a whole cannot be read, and what to do

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__dataclass_fields__)
