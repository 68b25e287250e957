"""One cycle: read what changed, probe the processes, judge, store. The command around it is only the loop."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from django.db import transaction

from .coordination.files import moment_of
from .coordination.layout import PM_STATE, Layout
from .coordination.reader import DirectoryReader
from .coordination.records import (
    NO_PROCESSES,
    HealthAlerts,
    LogCursor,
    Other,
    PmEntry,
    PmState,
    Problem,
    Process,
    Scan,
    Sign,
    Spec,
    SpecSeen,
    Traces,
)
from .coordination.streams import first_cursor, read_log
from .crosscheck import CrossCheck
from .finding_kinds import Kind
from .finding_store import FindingStore
from .fold_store import FoldStore
from .health import (
    CLOCK_TOLERANCE,
    PM_SILENT_AFTER,
    Health,
    Limits,
    Verdict,
    changes_between,
    effective_limits,
    judge,
)
from .ingest import RUNS_PER_TRANSACTION, Store
from .integrity import Found, Sight, ahead_of, in_quarantine, of_problem, of_spec, pm_ahead_of
from .marks import Moment, pm_start, save_marks
from .models import Mark
from .ownership import Claim, ProcessTable, make_claim
from .precautions import Rounds
from .processes import boot_id
from .runs import Roster, Run, RunKey
from .sql import chunks

SAMPLE_EVERY = timedelta(seconds=10)
PRUNE_EVERY = timedelta(minutes=5)
LIMITS_EVERY = timedelta(seconds=1)
#: A worker's tree that uses more than this share of a core between two observations is at work.
WORKING_PERCENT = 1.0
#: What a run is judged to be whose process is gone.
LOST = frozenset({Health.ZOMBIE, Health.CRASHED})
LONGEST_SILENCE = 60 * 24 * 7  # minutes; longer ones count as this
HELD_FOR = timedelta(seconds=1)
#: Bytes of a log that are read and stored in one transaction.
LOG_STEP = 1024 * 1024
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Report:
    """What one cycle did. Counts are of this cycle, ``specs``, ``unreadable`` and ``other`` of the whole directory."""

    specs: int = 0
    unreadable: int = 0
    other: int = 0
    quarantined: int = 0  # of the unreadable ones
    opened: int = 0  # files under worker-specs
    judged: int = 0
    changed: int = 0  # rows of runs written
    events: int = 0
    damaged: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Unsaved:
    """What a cycle has read and not yet written."""

    specs: dict[RunKey, str] = field(default_factory=dict)
    entries: dict[RunKey, str | None] = field(default_factory=dict)
    findings: dict[str, list[Found]] = field(default_factory=dict)


class Interrupted(Exception):  # noqa: N818 - no error: somebody wants this process to end
    """The cycle was left between two transactions; the next one takes up what this one has not stored."""


class Cycle:
    """The resident state of the poller of one host. After an error it is thrown away and built anew."""

    def __init__(
        self,
        home: Path,
        host: str,
        interval: float,
        stopped: threading.Event | None = None,
        events_kept: timedelta = timedelta(days=90),
    ) -> None:
        self.stopped = stopped or threading.Event()
        self.events_kept = events_kept
        self.layout = Layout(home)
        self.host = host
        self.interval = interval
        self.store = Store(host, str(home))
        self.findings = FindingStore(host)
        self.folds = FoldStore(host)
        self.crosscheck = CrossCheck(self.layout)
        self.reader = DirectoryReader(self.layout)
        self.processes = ProcessTable(home, host)
        self.roster = Roster()
        self.pm = PmState()
        self.pm_seen = False
        self.alerts = HealthAlerts()
        self.rounds = Rounds(self.layout, self._living)
        self.traces: dict[str, Traces] = {}
        self.kinds: dict[str, str] = {}  # path under worker-specs -> spec, unreadable, quarantined or other
        self.limits = Limits()
        self._due: list[tuple[datetime, int, Run]] = []
        self._order = count()
        self._vanished: set[RunKey] = set()
        self._held: set[int] | None = None
        self._limits_at: datetime | None = None
        self._sampled_at: datetime | None = None
        self._pruned_at: datetime | None = None
        self._cycled_at: datetime | None = None
        self._listening_since: datetime | None = None  # since when nothing that this poller could hear was missed
        self._silences: Counter[tuple[date, str, int]] = Counter()
        self._marks: list[Moment] = []
        self._cycle_ms: float | None = None
        self._lag_ms: float | None = None
        self._precautions: dict[str, Any] | None = None  # as found and not yet written

    def start(self, now: datetime) -> None:
        """Register the poller and take up what the one before it knew. Raises ForeignHomeError."""
        self._listening_since = now
        self.store.register(os.getpid(), boot_id(), self.interval, now)
        self.store.load(self.roster)
        self.findings.load()
        self.folds.load()
        self._vanished = {key for key, run in self.roster.runs.items() if run.health is not Health.GONE}

    def run_once(self, now: datetime, paths: Collection[str] | None = None, progress: Progress | None = None) -> Report:
        """Do one cycle over everything, or over the named paths. Raises Interrupted, and what the database raises."""
        began = time.perf_counter()
        report, unsaved, whole = Report(), Unsaved(), paths is None
        self._held = None
        scan = self.reader.scan(paths)
        self._breathe()
        touched = self._take(scan, unsaved, now)
        self._breathe()
        touched |= self._probe(touched, unsaved, now, whole=whole)
        if whole and not scan.error:  # a directory that cannot be seen has lost nothing
            touched |= self._vanish()
        touched |= self._pop_due(now)
        if self._take_limits(now):
            touched |= {key: run for key, run in self.roster.runs.items() if run.watched}
        if whole and not scan.error:
            self._precautions = self.rounds.look(now, self.pm, self.alerts) or self._precautions
        judged = [run for run in touched.values() if self._judge(run, now)]
        report.opened, report.judged, report.error = len(scan.specs), len(judged), scan.error
        self._count(report)
        self._save(judged, unsaved, report, now, whole=whole, progress=progress)
        self._read_logs(scan.logs, report, now, progress)
        self._fold(now, progress)
        report.seconds = time.perf_counter() - began
        self._note_speed(scan, report, whole=whole)
        return report

    def _breathe(self) -> None:
        """Leave here if this process is to end: a cold start takes seconds."""
        if self.stopped.is_set():
            raise Interrupted

    @property
    def uncertain(self) -> bool:
        """Whether the next whole cycle may find runs gone whose files this one missed."""
        return bool(self._vanished)

    # -- read

    def _take(self, scan: Scan, unsaved: Unsaved, now: datetime) -> dict[RunKey, Run]:
        """Give what was read to the runs that it is about. Return the runs that are affected."""
        touched: dict[RunKey, Run] = {}

        def touch(runs: Iterable[Run]) -> None:
            touched.update({run.key: run for run in runs})

        for seen in scan.specs:
            touch(self._place(seen, unsaved, now))
        left = self.roster.remove(scan.removed)
        touch(left)
        self._vanished |= {run.key for run in left if not run.files}
        for path in scan.removed:
            self.kinds.pop(path, None)
            self.crosscheck.note_ahead(path, ())
            if path in self.findings.of_files:
                unsaved.findings[path] = []
        if scan.specs or scan.removed or scan.traces:
            self.crosscheck.changed = True
        if scan.alerts is not None:
            self.alerts = scan.alerts
        if scan.pm is not None or scan.pm_gone:
            touch(self._take_pm(scan, unsaved, now))
        for worker_id, traces in scan.traces.items():
            if (
                traces.log and traces.log.at > now + CLOCK_TOLERANCE
            ):  # touched by a clock that is ahead: it was seen at this moment
                traces = replace(traces, log=replace(traces.log, at=now))
            self.traces[worker_id] = traces
            touch(self.roster.of_id(worker_id))
        for checkin in scan.checkins:
            for run in self.roster.of_id(checkin.worker_id):
                if run.own(checkin.at) and (run.checkin is None or checkin.at >= run.checkin.at):
                    run.checkin = checkin
                    touch([run])
        for path, problem in scan.problems.items():
            unsaved.findings[path] = [of_problem(path, problem)] if problem else []
        for run in touched.values():
            self._attach(run, unsaved)
            run.note_progress(now)
        return touched

    def _place(self, seen: SpecSeen, unsaved: Unsaved, now: datetime) -> list[Run]:
        self.crosscheck.note_ahead(seen.path, ahead_of(seen.content, now) if isinstance(seen.content, Spec) else ())
        seen = _seen_not_ahead(seen, now)
        content = seen.content
        self.kinds[seen.path] = _kind_of(seen)
        spec = content if isinstance(content, Spec) else content.reading if isinstance(content, Problem) else None
        document = orjson.dumps(spec.document).decode() if spec else None
        if isinstance(content, Spec):
            # The document goes to the database alone: ten thousand of them would be most of our memory.
            content.document.clear()
        runs = self.roster.place(seen, now)
        while self.roster.renamed:
            self.processes.release(self.roster.renamed.pop())
        if runs and document is not None and runs[0].file is seen:
            unsaved.specs[runs[0].key] = document
        key = self.roster.by_path.get(seen.path)
        found = of_spec(seen.path, content, key.worker_id if key else "")
        if found or seen.path in self.findings.of_files:
            unsaved.findings[seen.path] = found
        return runs

    def _take_pm(self, scan: Scan, unsaved: Unsaved, now: datetime) -> list[Run]:
        if isinstance(scan.pm, Problem):
            # Another writer may have left it empty for a moment; what it said before is the better guess.
            unsaved.findings[PM_STATE] = [of_problem(PM_STATE, scan.pm)]
            return []
        state = scan.pm or PmState()
        self.crosscheck.note_ahead(PM_STATE, pm_ahead_of(state, now))
        before, self.pm = self.pm, _not_ahead(state, now)
        if (began := self.pm.daemon.started_at) and began != before.daemon.started_at and began <= now:
            self._marks.append(pm_start(began))
        self.pm_seen = scan.pm is not None
        self.crosscheck.changed = True
        unsaved.findings[PM_STATE] = [Found(Kind.ODD, PM_STATE, text) for text in self.pm.oddities]
        if before.configuration != self.pm.configuration:
            self._limits_at = None
        ids = {*before.entries, *self.pm.entries}
        changed = [name for name in ids if before.entries.get(name) != self.pm.entries.get(name)]
        return [run for name in changed for run in self.roster.of_id(name)]

    def _attach(self, run: Run, unsaved: Unsaved) -> None:
        """Give a live run what other files say of its id, as far as that is about this run."""
        if not run.live:
            run.pm = run.traces = None
            return
        run.traces = self.traces.get(run.key.worker_id)
        entry = self.pm.entries.get(run.key.worker_id)
        entry = entry if entry and _describes(entry, run) else None
        if entry != run.pm:
            run.pm = entry
            unsaved.entries[run.key] = orjson.dumps(entry.document).decode() if entry else None

    def _take_limits(self, now: datetime) -> bool:
        """Look up the limits, once a second at most. Return whether they changed."""
        if self._limits_at and now - self._limits_at < LIMITS_EVERY:
            return False
        self._limits_at = now
        before, self.limits = self.limits, effective_limits(self.store.limits(), self.pm.configuration)
        changes = changes_between(before, self.limits)
        if changes and self._cycled_at:  # before the first cycle nobody knows what held
            self._marks.append(Moment(Mark.Kind.LIMIT, now, ", ".join(changes)))  # one mark a moment
        return before != self.limits

    # -- probe

    def _probe(self, touched: dict[RunKey, Run], unsaved: Unsaved, now: datetime, *, whole: bool) -> dict[RunKey, Run]:
        """Look for the processes of the runs whose files or whose processes changed."""
        if not whole and not any(run.watched for run in touched.values()):
            return {}
        refresh = self.processes.refresh(now.timestamp())
        concerned = dict(touched)
        if bereaved := self._bereaved(refresh.gone | refresh.changed):
            # A worker that finishes writes how, and then ends: read that before its silence is judged.
            concerned |= self._take(self.reader.scan(self._paths_of(bereaved.values())), unsaved, now)
        for key, run in concerned.items():
            if not run.watched:
                self.processes.release(key)
                run.processes = NO_PROCESSES
        found = self.processes.assign({key: self._claim(run) for key, run in concerned.items() if run.watched})
        for key, processes in found.items():
            run = self.roster.runs[key]
            before = run.processes
            run.note_processes(processes, now)
            if (before.main, before.hidden) != (processes.main, processes.hidden):
                concerned[key] = run
        return concerned

    def _bereaved(self, pids: Collection[int]) -> dict[RunKey, Run]:
        """The runs one of whose processes is gone or has changed."""
        owners = {self.processes.owner[pid] for pid in pids if pid in self.processes.owner}
        return {key: self.roster.runs[key] for key in owners if key in self.roster.runs}

    def _paths_of(self, runs: Iterable[Run]) -> list[str]:
        """The files and the directories that are about the runs."""
        paths: list[str] = []
        for run in runs:
            paths += run.files
            if directory := self.layout.worker_dir(run.key.worker_id):
                paths.append(directory)
        return paths

    def _claim(self, run: Run) -> Claim:
        return make_claim(self.layout, run.key.worker_id, run.spec, run.born, run.told_pid_at, run.traces)

    def _living(self, pid: int) -> Process | None:
        entry = self.processes.living(pid)
        return entry.process if entry else None

    # -- judge

    def _judge(self, run: Run, now: datetime) -> bool:
        """Form the verdict on one run. Return False where it is too early to say that its file is gone."""
        if not run.files and run.missed < 2:
            return False
        verdict = judge(run.observe(self.pm.daemon.last_loop), now, self.limits)
        if verdict.health in LOST and verdict.health != run.health and run.pk in self._held_now():
            # A remediation stops it; until its spec says what has become of it, that it has no process means nothing.
            self._look_again(run, now + HELD_FOR)
            return False
        run.settle(verdict, now)
        self._listen(run, verdict, now)
        if verdict.recheck_at:
            # A moment later, since a limit is passed when more than it has gone by.
            self._look_again(run, verdict.recheck_at + timedelta(milliseconds=1))
        return True

    def _listen(self, run: Run, verdict: Verdict, now: datetime) -> None:
        """Count the silence that a sign of life has ended, if all of it was listened to."""
        sign = verdict.last_sign.at if verdict.last_sign and verdict.health.running else None
        if sign is None or (run.heard and sign <= run.heard):
            run.heard = run.heard if sign else None
            return
        before, run.heard = run.heard, sign
        if before and self._listening_since and before >= self._listening_since and run.of_attempt(before):
            minutes = int((sign - before).total_seconds() // 60)
            if minutes:
                kind = run.spec.worker_type if run.spec else ""
                self._silences[now.date(), kind[:100], min(minutes, LONGEST_SILENCE)] += 1

    def _held_now(self) -> set[int]:
        """The runs that are being stopped, looked up once in a cycle, behind its look at the processes."""
        if self._held is None:
            self._held = self.store.held()
        return self._held

    def _look_again(self, run: Run, at: datetime) -> None:
        run.due = at
        heapq.heappush(self._due, (at, next(self._order), run))

    def _pop_due(self, now: datetime) -> dict[RunKey, Run]:
        """Take the runs whose verdict time alone may have changed."""
        due = {}
        while self._due and self._due[0][0] <= now:
            moment, _, run = heapq.heappop(self._due)
            if run.due == moment and self.roster.runs.get(run.key) is run:
                due[run.key] = run
        return due

    def _vanish(self) -> dict[RunKey, Run]:
        """Take the runs that two whole scans in a row have not found: a file may be on its way between directories."""
        gone = {}
        for key in list(self._vanished):
            run = self.roster.runs.get(key)
            if run is None or run.files:
                self._vanished.discard(key)
                continue
            run.missed += 1
            if run.missed >= 2:
                self._vanished.discard(key)
                gone[key] = run
        return gone

    # -- store

    def _save(
        self,
        runs: list[Run],
        unsaved: Unsaved,
        report: Report,
        now: datetime,
        *,
        whole: bool,
        progress: Progress | None,
    ) -> None:
        """Write what was read and judged: in one transaction, but for a backlog, which is written in chunks."""
        *backlog, last = list(chunks(runs, RUNS_PER_TRANSACTION)) or [[]]
        for number, chunk in enumerate(backlog, start=1):
            self._breathe()
            with transaction.atomic():
                self._save_chunk(chunk, unsaved, report, now)
            if progress:
                progress("workers", number * RUNS_PER_TRANSACTION, len(runs))
        if not (whole or last or unsaved.findings):
            return
        with transaction.atomic():
            self._save_chunk(last, unsaved, report, now)
            self.store.incidents.settle_tasks(now)
            if whole:
                self._find(unsaved, report, now)
            self.findings.save(unsaved.findings, self.store.poller_id, now)
            if whole:
                self._sample(report, now)
                self._close(report, now)

    def _save_chunk(self, runs: list[Run], unsaved: Unsaved, report: Report, now: datetime) -> None:
        report.changed += self.store.save_runs(runs, self.pm.daemon.last_loop, now)
        self._save_documents(unsaved, runs, now)

    def _save_documents(self, unsaved: Unsaved, runs: list[Run], now: datetime) -> None:
        pks = {run.key: run.pk for run in runs}
        self.store.save_documents(
            {pks[key]: text for key, text in unsaved.specs.items() if key in pks},
            {pks[key]: text for key, text in unsaved.entries.items() if key in pks},
            now,
        )

    def _find(self, unsaved: Unsaved, report: Report, now: datetime) -> None:
        """Look at the directory as a whole for what is odd in it."""
        if report.error:  # a directory that cannot be seen is not mended
            return
        if self._cycled_at is None:  # since the last poller looked, files may have gone and not been reported
            for path in self.findings.of_files:
                unsaved.findings.setdefault(path, [])
        if self.crosscheck.due(now):
            found = self.crosscheck.look(lambda here, away: self._sight(here, away, now), now)
            self.findings.save_across(found, self.store.poller_id, now)

    def _sight(self, directories: list[str], put_away: list[str], now: datetime) -> Sight:
        daemon = self.pm.daemon
        heard = self.pm_seen and daemon.last_loop is not None and now - daemon.last_loop <= PM_SILENT_AFTER
        return Sight(
            roster=self.roster,
            traces=self.traces,
            pm_entries=self.pm.entries,
            pm_watches=heard and daemon.status != "stopped",
            directories=directories,
            put_away=put_away,
            handled=self.findings.handled(now),
            ahead=self.crosscheck.ahead,
        )

    def _sample(self, report: Report, now: datetime) -> None:
        """Measure CPU and memory of the workers' trees. Work on a core is a sign of life."""
        if self._sampled_at and now - self._sampled_at < SAMPLE_EVERY:
            return
        self._sampled_at = now
        alive = [run for run in self.roster.runs.values() if run.processes.main is not None and run.pk]
        woken = []
        for run in alive:
            run.sample = self.processes.sample([process.key for process in run.processes.tree], now)
            run.memory = replace(run.memory, seen_alive_at=now)
            if (run.sample.cpu_percent or 0) > WORKING_PERCENT:
                run.memory = replace(run.memory, last_cpu_at=now)
                woken.append(run)
        report.changed += self.store.save_runs(
            [run for run in woken if self._judge(run, now)], self.pm.daemon.last_loop, now
        )
        self.store.save_samples(alive, now)
        self.store.save_processes(self.processes.survey(), self.roster.runs, now)

    def _read_logs(self, paths: Iterable[str], report: Report, now: datetime, progress: Progress | None) -> None:
        """Read the logs that grew to their ends, in bounded steps, each stored together with its cursor."""
        for path in paths:
            more = True
            while more:
                self._breathe()
                before = self._cursor(path)
                batch = read_log(self.layout, path, before, limit=LOG_STEP)
                if batch.cursor != before:
                    with transaction.atomic():
                        self.store.save_log(batch, now)
                    self.folds.hold(path, batch.records)
                report.events += len(batch.records)
                report.damaged += len(batch.damages)
                more = batch.more
                if progress:
                    progress(path, batch.cursor.offset, 0)
            if not os.path.lexists(self.layout.home / path):
                with transaction.atomic():
                    self.findings.forget_log(path, self.store.poller_id, now)

    def _fold(self, now: datetime, progress: Progress | None) -> None:
        """Fold what the logs say into incidents."""

        def said(done: int, total: int) -> None:
            if progress:
                progress("incidents", done, total)

        self.folds.fold(self.roster, now, self._breathe, said)

    def _cursor(self, path: str) -> LogCursor:
        """Where reading goes on; a log that was only renamed goes on where it was left."""
        known = self.store.cursors.get(path)
        return known or first_cursor(self.layout, path, self.store.cursors.values())

    def _count(self, report: Report) -> None:
        kinds = list(self.kinds.values())
        report.specs, report.other = kinds.count("spec"), kinds.count("other")
        report.quarantined = kinds.count("quarantined")
        report.unreadable = kinds.count("unreadable") + report.quarantined

    def _close(self, report: Report, now: datetime) -> None:
        """Say in the poller's row that the whole directory has been seen."""
        if not report.error:
            if self.store.note_gap(self._cycled_at, now, self.interval):
                self._listening_since = now
            self._cycled_at = now
        if self._silences:
            self.store.save_silences(self._silences)
            self._silences.clear()
        if self._marks:
            save_marks(self.host, self._marks)
            self._marks.clear()
        daemon, disk = self.pm.daemon, self.rounds.disk(now)
        self.store.save_poller(
            **({} if report.error else {"last_cycle_at": now}),  # nobody has seen the directory at this moment
            cycle_ms=self._cycle_ms,
            lag_ms=self._lag_ms,
            specs=report.specs,
            unreadable=report.unreadable - report.quarantined,  # what is set aside asks nobody for anything
            other=report.other,
            error=report.error,
            error_since=now,
            pm_seen=self.pm_seen,
            pm_pid=daemon.pid,
            pm_alive=self.processes.exists(daemon.pid) if daemon.pid else None,
            pm_last_loop=daemon.last_loop,
            pm_started_at=daemon.started_at,
            pm_loops=daemon.loops_completed,
            targets=self.alerts.targets,
            **({"disk_free_bytes": disk[0], "disk_total_bytes": disk[1]} if disk else {}),
        )
        if self._precautions is not None:
            self.store.save_prevention(self._precautions, now)
            self._precautions = None
        if self._pruned_at is None or now - self._pruned_at >= PRUNE_EVERY:
            self._pruned_at = now
            self.store.prune(now, self.events_kept, self._breathe)

    def _note_speed(self, scan: Scan, report: Report, *, whole: bool) -> None:
        """Remember how far pages are behind the disk, for the next time the poller's row is written."""
        if whole:
            self._cycle_ms = report.seconds * 1000
        elif scan.specs:
            # not when it was written: a file that is moved or copied brings that along
            changed = max(seen.stamp.ctime_ns for seen in scan.specs)
            self._lag_ms = max(0.0, (time.time_ns() - changed) / 1e6)


_KINDS = {Spec: "spec", Problem: "unreadable", Other: "other"}


def _kind_of(seen: SpecSeen) -> str:
    kind = _KINDS[type(seen.content)]
    return "quarantined" if kind == "unreadable" and in_quarantine(seen.path) else kind


def _describes(entry: PmEntry, run: Run) -> bool:
    """Whether a PM entry is about this attempt of this run, and not about an earlier one of the same id."""
    moment = entry.started_at or entry.registered_at
    return moment is None or run.of_attempt(moment) or run.of_attempt(entry.last_checkin)


def _seen_not_ahead(seen: SpecSeen, now: datetime) -> SpecSeen:
    """Take heartbeats that are yet to come as made when the file was written."""
    content = seen.content
    if not isinstance(content, Spec) or not any(sign.at > now + CLOCK_TOLERANCE for sign in content.checkins):
        return seen
    written = min(moment_of(seen.stamp), now)
    signs = tuple(Sign(min(sign.at, written), sign.source) for sign in content.checkins)
    return replace(seen, content=replace(content, checkins=signs))


def _not_ahead(state: PmState, now: datetime) -> PmState:
    """Take check-ins that are yet to come as made at this moment, and not anew at each look."""
    ahead = {
        name: replace(entry, last_checkin=now)
        for name, entry in state.entries.items()
        if entry.last_checkin and entry.last_checkin > now + CLOCK_TOLERANCE
    }
    return replace(state, entries=state.entries | ahead) if ahead else state
