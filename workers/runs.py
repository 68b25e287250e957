"""Which file is which run, and what the poller remembers of it. Pure: no Django, no disk, no clock.

Ids are reused, so the unit is the run: a worker id and the moment its spec was created. A file that moves between
directories stays the same run; one run in two places is live if one of them is ``active/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from .coordination.files import moment_of, written_by
from .coordination.records import (
    CheckIn,
    Other,
    PmEntry,
    Problem,
    ProcessSample,
    Sign,
    Spec,
    SpecSeen,
    Traces,
    WorkerProcesses,
)
from .health import ENDED, RUN_TOLERANCE, STATUS_RUNNING, Health, Memory, Observation, Verdict, Words

SPECS = "coordination/worker-specs/"
LIVE = f"{SPECS}active/"


class RunKey(NamedTuple):
    """One run on one host: the id, and when it was created, or where it lies if that cannot be read."""

    worker_id: str
    created: str


def directory_of(path: str) -> str:
    """The part of a spec's path below worker-specs, without the file name: ``active``, ``archived/2025-11-16``."""
    return path.rpartition("/")[0].removeprefix(SPECS.rstrip("/")).lstrip("/")


@dataclass(slots=True)
class Run:
    """What the poller keeps of one run between cycles."""

    key: RunKey
    first_seen_at: datetime
    files: dict[str, SpecSeen] = field(default_factory=dict)  # by path
    memory: Memory = field(default_factory=Memory)
    pk: int = 0  # 0: not stored yet
    started_at: datetime | None = None  # as its spec in active/ said last
    told_pid: int | None = None  # the one that its spec named last
    told_pid_at: datetime | None = (
        None  # when the spec had been written that named it first: it is rewritten all the time
    )
    pm: PmEntry | None = None
    checkin: CheckIn | None = None  # the newest check-in file seen; the PM daemon deletes it after reading
    traces: Traces | None = None
    processes: WorkerProcesses = field(default_factory=WorkerProcesses)
    sample: ProcessSample | None = None
    verdict: Verdict | None = None
    health: Health | None = None
    health_since: datetime | None = None
    heard: datetime | None = None  # its last sign of life that this poller was there to see
    missed: int = 0  # full scans in a row that found no file of it
    due: datetime | None = None  # when time alone may change the verdict
    stored: tuple[Any, ...] = ()  # the row as last written

    @property
    def file(self) -> SpecSeen | None:
        """The file that counts: the one in ``active/``, else the one last written."""
        if len(self.files) == 1:
            for seen in self.files.values():
                return seen
        return max(
            self.files.values(),
            key=lambda seen: (directory_of(seen.path).split("/", 1)[0] == "active", seen.stamp.mtime_ns, seen.path),
            default=None,
        )

    @property
    def spec(self) -> Spec | None:
        """What its file says, also where that had to be read with blanks as null."""
        seen = self.file
        if seen is None or isinstance(seen.content, Other):
            return None
        return seen.content.reading if isinstance(seen.content, Problem) else seen.content

    @property
    def live(self) -> bool:
        return any(path.startswith(LIVE) for path in self.files)

    @property
    def watched(self) -> bool:
        """Whether processes and signs of life are looked for."""
        seen = self.file
        return (
            self.live
            and seen is not None
            and isinstance(seen.content, Spec)
            and seen.content.status.strip().lower() in STATUS_RUNNING
        )

    @property
    def born(self) -> datetime | None:
        """When it was created, as its spec says; None where nobody can know: it was seen before that."""
        created = self.spec.created_at if self.spec else None
        return created if created and created <= self.first_seen_at + RUN_TOLERANCE else None

    @property
    def since(self) -> datetime | None:
        """Signs of life from before this moment belong to an earlier run of the id."""
        born = self.born
        return born - RUN_TOLERANCE if born else None

    def own(self, at: datetime | None) -> bool:
        return at is not None and (self.since is None or at >= self.since)

    def of_attempt(self, at: datetime | None) -> bool:
        """Whether a moment belongs to this attempt of this run."""
        began = self.memory.attempt_began
        return self.own(at) and at is not None and (began is None or at >= began - RUN_TOLERANCE)

    def checkins(self) -> tuple[Sign, ...]:
        """Every check-in that is known of this run, from whatever file."""
        spec, traces = self.spec, self.traces
        signs = list(spec.checkins) if spec else []
        if self.pm and self.pm.last_checkin:
            signs.append(Sign(self.pm.last_checkin, "coordination/pm-state.json#last_checkin"))
        if traces and traces.heartbeat:
            signs.append(Sign(traces.heartbeat.at, traces.heartbeat.source))
        if self.checkin:
            signs.append(Sign(self.checkin.at, self.checkin.source))
        since = self.since
        return tuple(sign for sign in signs if since is None or sign.at >= since)

    def progress(self) -> float | None:
        """The newest word on progress, in percent: a check-in's, the PM daemon's, else the spec's."""
        told = [
            (checkin.at, checkin.progress_pct)
            for checkin in (self.checkin, self.traces and self.traces.heartbeat)
            if checkin and self.of_attempt(checkin.at)
        ]
        if self.pm and self.pm.last_checkin and self.of_attempt(self.pm.last_checkin):
            told.append((self.pm.last_checkin, self.pm.progress_pct))
        newest = max(((at, value) for at, value in told if value is not None), default=None)
        if newest:
            return newest[1]
        return self.spec.progress_pct if self.spec else None

    def words(self) -> Words | None:
        """What it said of itself at its last check-in of this attempt."""
        known = (self.checkin, self.traces and self.traces.heartbeat)
        told = [checkin for checkin in known if checkin and self.of_attempt(checkin.at)]
        last = max(told, key=lambda each: each.at, default=None)
        text = ", ".join(part for part in (last.status, last.step) if part) if last else ""
        return Words(text, last.source, last.at) if last and text else None

    def observe(self, pm_last_loop: datetime | None) -> Observation:
        """Put together everything that the verdict depends on."""
        seen = self.file
        if seen is None or isinstance(seen.content, Other):
            empty = Spec(worker_id=self.key.worker_id, created_at=None)
            ended = self.health if self.health in ENDED else None
            return Observation(content=empty, path=SPECS, directory="", here=False, ended=ended, memory=self.memory)
        traces = self.traces
        log = traces.log if traces and traces.log and self.own(traces.log.at) else None
        status = traces.status if traces and traces.status else None
        return Observation(
            content=seen.content,
            path=seen.path,
            directory=directory_of(seen.path),
            processes=self.processes,
            checkins=self.checkins(),
            said=self.words(),
            log=log,
            status_file=status if status and (status.at is None or self.own(status.at)) else None,
            pm=self.pm,
            pm_last_loop=pm_last_loop,
            memory=self.memory,
        )

    def settle(self, verdict: Verdict, now: datetime) -> None:
        """Take a verdict. What had ended before anybody looked is dated to its end, not to the look."""
        if verdict.health != self.health:
            spec, seen, first = self.spec, self.file, self.health is None
            self.health, self.health_since = verdict.health, now
            if first and not self.live and seen:
                self.health_since = min((spec.ended_at if spec else None) or moment_of(seen.stamp), now)
        self.verdict = verdict

    def note_told_pid(self, seen: SpecSeen) -> None:
        """Remember since when its spec names a pid. Rewritten, it proves nothing anew."""
        pid = seen.content.pid if isinstance(seen.content, Spec) else None
        if pid and pid != self.told_pid:
            self.told_pid, self.told_pid_at = pid, written_by(seen.stamp)

    def note_progress(self, now: datetime) -> None:
        """Remember a change of progress: a sign of life. The first figure that is seen is none."""
        progress, before = self.progress(), self.memory.progress_pct
        if progress is not None and progress != before:
            changed = now if before is not None else self.memory.progress_changed_at
            self.memory = replace(self.memory, progress_pct=progress, progress_changed_at=changed)

    def note_processes(self, found: WorkerProcesses, now: datetime) -> None:
        """Remember that a process of its own was seen, or that the one that was seen is gone."""
        self.processes = found
        memory = self.memory
        if found.main is not None:
            self.memory = replace(memory, seen_alive_at=now, process_gone_at=None, pid=found.main.pid)
        elif memory.seen_alive_at and memory.process_gone_at is None and not found.hidden:
            self.memory = replace(memory, process_gone_at=now)


class Roster:
    """All runs of one home, found by key, by path and, where live, by id."""

    def __init__(self) -> None:
        self.runs: dict[RunKey, Run] = {}
        self.by_path: dict[str, RunKey] = {}
        self.live: dict[str, set[RunKey]] = {}
        self.renamed: list[RunKey] = []  # keys that are no more, until somebody has taken note

    def of_id(self, worker_id: str) -> Iterator[Run]:
        """Yield the live runs of an id: one, unless two files in ``active/`` claim it."""
        for key in self.live.get(worker_id, ()):
            yield self.runs[key]

    def restore(self, run: Run, path: str, live: bool) -> None:
        """Take a run from the database; its file is read again, as every file is after a start."""
        self.runs[run.key] = run
        if path:
            self.by_path.setdefault(path, run.key)
        if live:
            self.live.setdefault(run.key.worker_id, set()).add(run.key)

    def place(self, seen: SpecSeen, now: datetime) -> list[Run]:
        """Give a new or changed file to its run. Return the runs that are affected."""
        if isinstance(seen.content, Other):
            return self.remove([seen.path])
        before = self.by_path.get(seen.path)
        key = self._key(seen, before)
        affected = self.remove([seen.path]) if before is not None and before != key else []
        run = self.runs.get(key)
        if run is None:
            run = self._rename(before, key) or Run(key=key, first_seen_at=now, memory=Memory(first_seen_at=now))
            self.runs[key] = run
            affected = [other for other in affected if other is not run]
        self._note_attempt(run, seen, now)
        run.note_told_pid(seen)
        run.files[seen.path] = seen
        run.missed = 0
        self.by_path[seen.path] = key
        self._index(run)
        return [run, *affected]

    def remove(self, paths: Iterable[str]) -> list[Run]:
        """Take files away from their runs. Return the runs that are affected."""
        affected = []
        for path in paths:
            key = self.by_path.pop(path, None)
            if key is None or key not in self.runs:
                continue
            run = self.runs[key]
            run.files.pop(path, None)
            self._index(run)
            affected.append(run)
        return affected

    def _key(self, seen: SpecSeen, before: RunKey | None) -> RunKey:
        content = seen.content
        spec = content if isinstance(content, Spec) else content.reading if isinstance(content, Problem) else None
        if spec and spec.created_at:
            return RunKey(spec.worker_id, spec.created_at.isoformat())
        if before and isinstance(content, Problem):
            return before  # torn or damaged since it was read: still the file of that run
        name = PurePosixPath(seen.path).name.removesuffix(".json")
        return RunKey(spec.worker_id if spec else name[:255], f"at {seen.path}")

    def _rename(self, before: RunKey | None, key: RunKey) -> Run | None:
        """A file that could not be read and now can be: the same run, under its real name."""
        if before is None or not before.created.startswith("at ") or before not in self.runs:
            return None
        if self.runs[before].files:
            return None
        run = self.runs.pop(before)
        self.renamed.append(before)
        self.live.get(before.worker_id, set()).discard(before)
        run.key = key
        return run

    def _note_attempt(self, run: Run, seen: SpecSeen, now: datetime) -> None:
        """A start that was taken back or happened again begins a new attempt, which inherits nothing."""
        if not isinstance(seen.content, Spec) or directory_of(seen.path).split("/", 1)[0] != "active":
            return
        started, known = seen.content.started_at, run.started_at
        if started == known:
            return
        run.started_at = started
        if known is None:
            run.memory = replace(run.memory, attempt_began=started)
            return
        run.memory = Memory(
            attempt=run.memory.attempt + 1,
            attempt_began=started or now,
            first_seen_at=run.memory.first_seen_at,
            progress_pct=run.memory.progress_pct,
        )
        run.checkin = None

    def _index(self, run: Run) -> None:
        keys = self.live.setdefault(run.key.worker_id, set())
        if run.live:
            keys.add(run.key)
        else:
            keys.discard(run.key)
            if not keys:
                del self.live[run.key.worker_id]
