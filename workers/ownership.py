"""Whose the processes of this host are: a process table with the runs that they belong to.

Source of the rules: DESIGN, section 3, "Which process is the worker's"; the traps behind them: coordination-format.md,
section 9. What one process says of itself is looked up in the indexes of :class:`~workers.processes.LivingProcesses`,
so that a look at one run costs the same however many others and however many processes there are.
"""

from __future__ import annotations

import os
import re
import socket
from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from .coordination.commands import Kind
from .coordination.layout import Layout
from .coordination.records import PidFile, Process, Spec, Traces, WorkerProcesses
from .processes import LINUX, Entry, LivingProcesses

#: A pid file or process from longer than this before ``created_at`` belongs to an earlier run of the id.
RUN_TOLERANCE = timedelta(minutes=1)
#: What this host is called beside the name that it has in the pages.
THIS_HOST = (socket.gethostname(), "localhost", "127.0.0.1", "::1")
#: Boot time is known to whole seconds, and so is the time of a file on some file systems.
CLOCK_TOLERANCE = timedelta(seconds=2)
ROUNDS = 4  # how often in one assignment a process that changed hands may concern further runs

#: What an id may stand in: a path, a pattern, a sentence.
_WORD = re.compile(r"[\w.-]+")
Run = TypeVar("Run", bound=Hashable)
#: Whether the process of this pid is the main process of another run by better right than this evidence gives.
Taken = Callable[[int, "Evidence"], bool]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known of a run's processes before anybody looks."""

    worker_id: str
    created_at: datetime | None
    worker_dir: str  # absolute, "" where the id is no safe path component
    pid_file: PidFile | None
    spec_pid: int | None
    spec_pid_written_at: datetime | None  # when the spec that named it first had been written
    companion: PidFile | None = None
    host: str = ""  # the one its spec names, "" if none


def make_claim(
    layout: Layout,
    worker_id: str,
    spec: Spec | None,
    born: datetime | None,
    written_at: datetime | None,
    traces: Traces | None,
) -> Claim:
    """Put together what the coordination directory says of a run's processes.

    ``born`` is when it was created if that can be believed, ``written_at`` when the spec had been written that named
    its pid first: it was true then, and has not become true again by every heartbeat that rewrites the spec.
    """
    return Claim(
        worker_id=worker_id,
        created_at=born,
        worker_dir=layout.worker_dir(worker_id),
        pid_file=traces.pid_file if traces else None,
        spec_pid=spec.pid if spec else None,
        spec_pid_written_at=written_at if spec and spec.pid else None,
        companion=traces.companion if traces else None,
        host=spec.host if spec else "",
    )


class Evidence(IntEnum):
    """Why a process is a worker's, strongest first."""

    PID = 1
    DIRECTORY = 2
    ENVIRONMENT = 3
    ARGUMENT = 4


FOUND_BY = {
    Evidence.DIRECTORY: ("its working directory", "cwd"),
    Evidence.ENVIRONMENT: ("WORKER_ID in its environment", "environ"),
    Evidence.ARGUMENT: ("its id in the command", "cmdline"),
}


@dataclass(slots=True)
class _Look:
    """What has been found for one run."""

    main: Entry | None = None
    evidence: Evidence = Evidence.PID
    found_by: str = ""
    source: str = ""
    rejected: list[str] = field(default_factory=list)


class Sighting(NamedTuple):
    """A process that has to do with workers, or looks like it."""

    process: Process
    run: Hashable | None  # whose it is
    part: str  # worker, child, emitter; of nobody: "looks like a worker" or "mentions one"
    mentions: tuple[str, ...]  # ids of workers that its command line names, its own apart


class ProcessTable(LivingProcesses):
    """The processes of this host, and the runs that they belong to.

    The way of a cycle: :meth:`refresh`, then :meth:`assign` with the claims of the runs of which anything changed. For
    a single look: :meth:`refresh` and :meth:`match`. For signals: :meth:`alive` just before. Not safe for threads,
    but for :meth:`alive` and :meth:`exists`, which remember nothing.
    """

    def __init__(self, home: Path, host: str) -> None:
        super().__init__(home)
        self.host = host
        self._claims: dict[Hashable, Claim] = {}
        self._looks: dict[Hashable, _Look] = {}
        self._found: dict[Hashable, WorkerProcesses] = {}
        self._runs: defaultdict[str, set[Hashable]] = defaultdict(set)  # worker id -> runs
        self._ids: Container[str] = self._runs  # the workers that a command may name
        self._claimants: defaultdict[int, set[Hashable]] = defaultdict(set)  # pid that is written down -> runs
        self._mains: defaultdict[int, set[Hashable]] = defaultdict(set)  # pid of a main process -> runs

    def ids_touched(self, pids: Iterable[int], known_ids: Container[str]) -> set[str]:
        """Return the worker ids, out of the known ones, that these processes may concern by what they say."""
        ids: set[str] = set()
        for pid in pids:
            if entry := self.entries.get(pid):
                named = {entry.cwd.rpartition("/")[2], entry.worker_id, *entry.command.words}
                ids |= {name for name in named if name and name in known_ids}
        return ids

    def assign(self, claims: Mapping[Run, Claim]) -> dict[Run, WorkerProcesses]:
        """Find the processes of these runs, and of remembered ones whose processes changed since.

        Claims are remembered until :meth:`release`. The answer holds every run of ``claims``, and other remembered
        runs that had to be looked at again: their process ended or forked, or belongs to a run of ``claims`` now.
        """
        todo: set[Hashable] = set()
        for run, claim in claims.items():
            if self._claims.get(run) != claim:
                self._remember(run, claim)
                todo.add(run)
        moved, self.touched = self.touched, set()
        todo |= self._concerned(moved)
        looked = {*claims, *todo}
        for _ in range(ROUNDS):
            moved = self._settle(todo)
            todo = self._concerned(moved) - todo
            looked |= todo
            if not todo:
                break
        else:
            self.touched |= moved
        return {cast(Run, run): self._found[run] for run in looked}

    def survey(self) -> list[Sighting]:
        """Every process that is a worker's, looks like one's or names one: what the runbook greps for by hand."""
        found = []
        for pid, entry in self.entries.items():
            if pid in self.ours:
                continue
            run = self.owner.get(pid)
            own = self._claims[run].worker_id if run in self._claims else ""
            mentions = tuple(sorted(_ids_in(entry, self._runs) - {own}))
            part = self._part(entry, run) if run is not None else self._likeness(entry, bool(mentions))
            if part:
                found.append(Sighting(entry.process, run, part, mentions))
        return found

    def _part(self, entry: Entry, run: Hashable) -> str:
        found = self._found.get(run)
        if found and any(process.pid == entry.process.pid for process in found.companions):
            return "emitter"
        return "worker" if found and found.main and found.main.pid == entry.process.pid else "child"

    def _likeness(self, entry: Entry, mentions: bool) -> str:
        programs = (entry.command.name, entry.command.path.rpartition("/")[2], entry.process.name)
        below = entry.cwd.startswith(f"{self.real_workers}/")
        told = bool(entry.worker_id) and self._at_home(entry.cwd)
        working = entry.command.kind is Kind.COMPANION or (below and entry.command.kind is Kind.WORK)
        if told or working or any(name.startswith("claude") for name in programs):
            return "looks like a worker"
        return "mentions one" if mentions else ""

    def release(self, run: Hashable) -> None:
        """Forget a run that is watched no more; what was its own may be another's now."""
        claim = self._claims.pop(run, None)
        if claim is None:
            return
        self.touched |= self._let_go(run)
        for index, value in self._written_down(claim):
            index[value].discard(run)
            if not index[value]:
                del index[value]
        del self._found[run]

    def match(
        self, claim: Claim, others: Container[int] = frozenset(), ids: Container[str] = frozenset()
    ) -> WorkerProcesses:
        """Find the processes of one run and remember nothing.

        ``others`` are the pids of other runs' main processes: this run's tree ends there, and only a pid that is
        written down for it can make one of them this run's own. ``ids`` are those of all live runs: a command that
        names several of them has started them, and is none of them.
        """
        look, self._ids = _Look(), ids
        try:
            self._search(look, claim, Evidence, lambda pid, evidence: pid in others and evidence > Evidence.PID)
            return self._describe(look, claim, lambda pid: pid in others)
        finally:
            self._ids = self._runs

    def _remember(self, run: Hashable, claim: Claim) -> None:
        if run in self._claims:
            self.release(run)
        self._claims[run], self._found[run] = claim, WorkerProcesses()
        for index, value in self._written_down(claim):
            index[value].add(run)

    def _written_down(self, claim: Claim) -> Iterator[tuple[defaultdict[Any, set[Hashable]], object]]:
        """Yield where a claim is entered in the indexes."""
        yield self._runs, claim.worker_id
        for pid in {claim.spec_pid, *(file.pid for file in (claim.pid_file, claim.companion) if file)} - {None}:
            yield self._claimants, pid

    def _concerned(self, pids: Set[int]) -> set[Hashable]:
        """Return the remembered runs that processes may belong to, as a main process or as part of a tree."""
        runs: set[Hashable] = set()
        for pid in pids:
            runs |= self._claimants.get(pid, set())
            parent = self.entries[pid].process.ppid if pid in self.entries else 0
            runs |= self._mains.get(pid, set())
            runs |= {self.owner[one] for one in (pid, parent) if one in self.owner}
        for worker_id in self.ids_touched(pids, self._runs):
            runs |= self._runs[worker_id]
        return runs

    def _settle(self, runs: set[Hashable]) -> set[int]:
        """Look for the main process of each, then for the trees. Return the pids that changed hands."""
        before = {run: self._looks[run].main for run in runs if run in self._looks}
        for run in runs:
            self._let_go(run)
            self._looks[run] = _Look()
        # Strong evidence of one run comes before the weak evidence of another, a later run of an id before an earlier.
        newest_first = sorted(runs, key=lambda run: _created(self._claims[run]), reverse=True)
        for evidence in Evidence:
            for run in newest_first:
                look = self._looks[run]
                if look.main is None:
                    self._search(look, self._claims[run], (evidence,), self._taken_from(run))
                    if look.main:
                        self._mains[look.main.process.pid].add(run)
        for run in newest_first:
            self._found[run] = found = self._describe(self._looks[run], self._claims[run], self._end_of(run))
            self.owner.update({process.pid: run for process in (*found.tree, *found.companions)})
        moved = set[int]()
        for run in runs:
            old, new = before.get(run), self._looks[run].main
            if (old and old.process.key) != (new and new.process.key):
                moved |= {entry.process.pid for entry in (old, new) if entry}
        return moved

    def _let_go(self, run: Hashable) -> set[int]:
        """Take a run's processes from it. Return their pids."""
        look, found = self._looks.pop(run, None), self._found.get(run)
        if look is None or found is None:
            return set()
        pids = {process.pid for process in (*found.tree, *found.companions)}
        for pid in pids:
            if self.owner.get(pid) == run:
                del self.owner[pid]
        if look.main:
            self._mains[look.main.process.pid].discard(run)
            if not self._mains[look.main.process.pid]:
                del self._mains[look.main.process.pid]
        return pids

    def _taken_from(self, run: Hashable) -> Taken:
        claim = self._claims[run]

        def taken(pid: int, evidence: Evidence) -> bool:
            for other in self._mains.get(pid, set()) - {run}:
                rival = self._claims[other]
                if rival.worker_id == claim.worker_id:
                    if _created(rival) > _created(claim):
                        return True
                elif self._looks[other].evidence < evidence:
                    return True
            return False

        return taken

    def _end_of(self, run: Hashable) -> Callable[[int], bool]:
        """Tell where another run's own process begins."""
        return lambda pid: pid in self._mains and run not in self._mains[pid]

    # -- one run

    def _search(self, look: _Look, claim: Claim, by: Iterable[Evidence], taken: Taken) -> None:
        """Look for the main process of a run by these kinds of evidence, strongest first."""
        if self._elsewhere(claim):
            return
        for evidence in by:
            if evidence is Evidence.PID:
                self._search_by_pid(look, claim, taken)
            elif pool := self._pool(claim, evidence, taken, look.rejected):
                self._choose(look, claim, evidence, pool, taken)
            if look.main:
                return

    def _search_by_pid(self, look: _Look, claim: Claim, taken: Taken) -> None:
        written = [(claim.pid_file, "its pid file")]
        said_before = claim.pid_file is not None and claim.pid_file.pid == claim.spec_pid
        if claim.spec_pid and claim.spec_pid_written_at and not said_before:
            written.append((PidFile(claim.spec_pid, claim.spec_pid_written_at, "its spec"), "the pid in its spec"))
        for file, found_by in written:
            if file is None or look.main:
                continue
            entry = self.living(file.pid)
            if objection := self._objection(file, entry, claim, taken):
                look.rejected.append(objection)
            else:
                look.main, look.evidence, look.found_by, look.source = entry, Evidence.PID, found_by, file.source

    def _objection(self, file: PidFile, entry: Entry | None, claim: Claim, taken: Taken) -> str:
        """Say why a pid that is written down is not the worker's, or "" where it is."""
        pid = f"Pid {file.pid} of {file.source}"
        if _is_earlier(file.written_at, claim):
            return f"{pid} is of an earlier run: the file was written at {_clock(file.written_at)}, before this one"
        if entry is None:
            return f"{pid} is no process any more"
        started = entry.process.started_at
        if started > file.written_at + CLOCK_TOLERANCE:
            return (
                f"{pid} is another program now, {entry.command.name or entry.process.name}: it started at "
                f"{_clock(started)}, after the file was written at {_clock(file.written_at)}"
            )
        if _is_earlier(started, claim):
            return f"{pid} is of an earlier run: it started at {_clock(started)}, before this one"
        if file.pid in self.ours:
            return f"{pid} is Relay Web itself or what started it"
        if entry.command.kind in (Kind.COMPANION, Kind.MULTIPLEXER):
            return f"{pid} is {entry.command.kind}, not the worker"
        return f"{pid} is of another run" if taken(file.pid, Evidence.PID) else ""

    def _pool(self, claim: Claim, evidence: Evidence, taken: Taken, rejected: list[str] | None = None) -> list[Entry]:
        """Return the living processes that are the run's own by this kind of evidence; say which are too old."""
        pool = []
        for pid in self._candidates(claim, evidence):
            entry = self.entries[pid]
            if entry.command.kind is not Kind.WORK or pid in self.ours or claim.worker_id in entry.command.script:
                continue
            if self._is_companion(entry, claim) or self._inherited(entry, claim, evidence, taken):
                continue
            if evidence is Evidence.ARGUMENT and (
                self._names_several(entry) or self._of_another_home(entry, claim.worker_id)
            ):
                continue
            if self.living(pid) is not entry:
                continue
            started = entry.process.started_at
            if not _is_earlier(started, claim):
                pool.append(entry)
            elif rejected is not None:
                rejected.append(f"Process {pid} is of an earlier run: it started at {_clock(started)}, before this one")
        return pool

    def _candidates(self, claim: Claim, evidence: Evidence) -> list[int]:
        if evidence is Evidence.DIRECTORY:
            return sorted(self.by_cwd.get(self._directory(claim), ()))
        if evidence is Evidence.ENVIRONMENT:
            pids = self.by_environment.get(claim.worker_id, ())
            return sorted(pid for pid in pids if self._at_home(self.entries[pid].cwd))
        return sorted(self.by_word.get(claim.worker_id, ()))

    def _choose(self, look: _Look, claim: Claim, evidence: Evidence, pool: list[Entry], taken: Taken) -> None:
        """Take the oldest, and from there the topmost ancestor for which anything speaks."""
        main = min(
            pool, key=lambda entry: (self._names_several(entry), entry.process.key.start_ticks, entry.process.pid)
        )
        proofs = {entry.process.pid: evidence for entry in pool}
        for weaker in (kind for kind in Evidence if kind > evidence):
            for entry in self._pool(claim, weaker, taken):
                if not self._names_several(entry):
                    proofs.setdefault(entry.process.pid, weaker)
        for ancestor in self.ancestors(main):
            if ancestor.process.pid in proofs and not self._names_several(ancestor):
                main = ancestor
        proof, probe = FOUND_BY[proofs[main.process.pid]]
        look.main, look.evidence, look.found_by = main, evidence, proof
        look.source = f"/proc/{main.process.pid}/{probe}" if LINUX else f"process {main.process.pid}"

    def _names_several(self, entry: Entry) -> bool:
        """Whether a command names several workers: it has started them, and is none of them."""
        return sum(word in self._ids for word in entry.command.words) > 1

    def _inherited(self, entry: Entry, claim: Claim, evidence: Evidence, taken: Taken) -> bool:
        """Whether the evidence is only passed on from a process that is another run's own.

        A working directory and an environment go from parent to child; an argument does not.
        """
        if taken(entry.process.pid, evidence):
            return True
        if evidence is Evidence.ARGUMENT:
            return False
        for ancestor in self.ancestors(entry):
            if evidence is Evidence.DIRECTORY and ancestor.cwd != entry.cwd:
                return False
            if evidence is Evidence.ENVIRONMENT and ancestor.worker_id != claim.worker_id:
                return False
            if taken(ancestor.process.pid, evidence):
                return True
        return False

    def _describe(self, look: _Look, claim: Claim, end: Callable[[int], bool]) -> WorkerProcesses:
        if reason := self._elsewhere(claim):
            return WorkerProcesses(hidden=reason)
        companions = self._companions(claim, look.main, end)
        tree: dict[int, Entry] = {}
        if look.main:
            roots = [look.main, *self._orphans(look, claim, end)]
            tree = self._tree(roots, companions.keys(), end, but=(Kind.COMPANION, Kind.MULTIPLEXER))
        return WorkerProcesses(
            main=look.main.process if look.main else None,
            found_by=look.found_by,
            source=look.source,
            tree=tuple(entry.process for entry in tree.values()),
            companions=tuple(entry.process for pid, entry in companions.items() if pid not in tree),
            rejected=tuple(dict.fromkeys(look.rejected)),
            hidden="" if look.main else self._why_hidden(claim),
        )

    def _tree(
        self, roots: list[Entry], apart: Container[int], end: Callable[[int], bool], but: Container[Kind]
    ) -> dict[int, Entry]:
        """Collect processes and their descendants, breadth first, main first; but for kinds that are no part of it."""
        found = {root.process.pid: root for root in roots}
        queue = list(found)
        for pid in queue:
            for child in sorted(self.children.get(pid, ())):
                if child in found or child in apart or child in self.ours or end(child):
                    continue
                entry = self.living(child)
                if entry and entry.command.kind not in but:
                    found[child] = entry
                    queue.append(child)
        return found

    def _orphans(self, look: _Look, claim: Claim, end: Callable[[int], bool]) -> list[Entry]:
        """Return what else is the worker's own and was left behind when the process between them ended.

        What somebody started by hand in the worker's directory has a shell prompt or an editor above it.
        """
        own = []
        for evidence in (Evidence.DIRECTORY, Evidence.ENVIRONMENT):
            for entry in self._pool(claim, evidence, lambda pid, _: end(pid)):
                above = list(self.ancestors(entry))
                by_hand = any(one.command.kind is not Kind.WORK for one in above)
                if not (by_hand or look.main in above or any(end(one.process.pid) for one in above)):
                    own.append(entry)
        return own

    def _companions(self, claim: Claim, main: Entry | None, end: Callable[[int], bool]) -> dict[int, Entry]:
        """Find the heartbeat emitters of an id, whichever run they were started for, with what they started.

        An emitter that outlived its worker writes into the spec of the next run of that id.
        """
        pids = {pid for evidence in FOUND_BY for pid in self._candidates(claim, evidence)}
        roots = [
            self._emitter(claim),
            *(self.entries[pid] for pid in sorted(pids) if self._emits(pid, claim.worker_id)),
        ]
        if main:
            below = [entry for entry in self.below(main) if self._emits(entry.process.pid, claim.worker_id)]
            roots += [entry for entry in below if not any(word in self._ids for word in _others(entry, claim))]
        apart = {main.process.pid} if main else set()
        own = [root for root in roots if root and self._may_be_stopped(root, apart, end)]
        return self._tree(own, apart, end, but=(Kind.MULTIPLEXER,))

    def _may_be_stopped(self, entry: Entry, apart: Container[int], end: Callable[[int], bool]) -> bool:
        pid = entry.process.pid
        return pid not in apart and pid not in self.ours and not end(pid) and entry.command.kind is not Kind.MULTIPLEXER

    def _emits(self, pid: int, worker_id: str) -> bool:
        entry = self.entries[pid]
        emitter = entry.command.kind is Kind.COMPANION and self.living(pid) is entry
        return emitter and not self._of_another_home(entry, worker_id)

    def _emitter(self, claim: Claim) -> Entry | None:
        """Return the process that heartbeat.pid names, whatever its command: it may be a part of the wrapper.

        The number alone proves nothing: it may be another program's by now, or have been nonsense from the start.
        """
        file = claim.companion
        if file is None or (claim.pid_file and claim.pid_file.pid == file.pid):
            return None
        entry = self.living(file.pid)
        if entry is None or entry.process.started_at > file.written_at + CLOCK_TOLERANCE:
            return None
        return entry if self._speaks_for(entry, claim) else None

    def _speaks_for(self, entry: Entry, claim: Claim) -> bool:
        """Whether anything but a number ties a process to a run: its place, its words, or what started it."""
        if f"{entry.cwd}/".startswith(f"{self._directory(claim)}/"):
            return True
        if entry.worker_id == claim.worker_id and self._at_home(entry.cwd):
            return True
        if claim.worker_id in entry.command.words and not self._of_another_home(entry, claim.worker_id):
            return True
        wrapper = {claim.pid_file.pid if claim.pid_file else None, claim.spec_pid} - {None}
        return any(one.process.pid in wrapper for one in self.ancestors(entry))

    def _is_companion(self, entry: Entry, claim: Claim) -> bool:
        """Whether a process is an emitter or was started by one."""
        emitter = self._emitter(claim)
        return self.is_barren(entry) or (emitter is not None and emitter in (entry, *self.ancestors(entry)))

    def _directory(self, claim: Claim) -> str:
        """Return the worker's directory as the system writes working directories: without symlinks."""
        parent, _, name = claim.worker_dir.rpartition("/")
        return f"{self.real_workers}/{name}" if parent.endswith("/agents/workers") and name else claim.worker_dir

    def _at_home(self, path: str) -> bool:
        homes = (self.real_home, self.home, self.real_workers)
        return any(path == home or path.startswith(f"{home}/") for home in homes)

    def _of_another_home(self, entry: Entry, worker_id: str) -> bool:
        """Whether all arguments that name the id mean another fleet's worker: ids are not unique on a host."""
        cwd = Path(entry.cwd)
        naming = [arg for arg in entry.process.argv if worker_id in arg.split("/")]
        for arg in naming:
            places = [cwd / arg] if "/" in arg else [cwd / entry.command.path, cwd]
            homes = (self._home_of(place) for place in places)
            if next((home for home in homes if home), self.real_home) == self.real_home:
                return False
        return bool(naming)

    def _home_of(self, place: Path) -> str:
        """Return the coordination home that a path lies in, "" for none."""
        if self._at_home(str(place)):
            return self.real_home
        found = (up for up in (place, *place.parents) if os.access(up / "coordination/worker-specs", os.F_OK))
        return next((str(home) for home in found if home.is_absolute()), "")

    # -- what cannot be seen

    def _elsewhere(self, claim: Claim) -> str:
        """Say that a run's processes are on another host, or "" where they are on this one."""
        if not claim.host or any(_same_host(claim.host, name) for name in (self.host, *THIS_HOST)):
            return ""
        return f"it runs on host {claim.host}, this is {self.host}"

    def _why_hidden(self, claim: Claim) -> str:
        """Say why a process that was not found may live all the same, or "" where it would have been seen."""
        file = claim.pid_file
        if self.hidden:
            # A launcher of our own user started a process of our own user, and that one would be seen.
            owned = file is not None and _owner(f"{self.home}/{file.source}") == os.geteuid()
            return "" if owned else self.hidden
        for pid in self.by_inner_pid.get(file.pid, ()) if file else ():
            started = self.entries[pid].process.started_at
            if file and started <= file.written_at + CLOCK_TOLERANCE and not _is_earlier(started, claim):
                return f"pid {file.pid} of {file.source} may be process {pid} here, in a PID namespace of its own"
        return ""


def _ids_in(entry: Entry, known: Container[str]) -> set[str]:
    """The ids of watched workers that a command line names, anywhere in its text but only in full."""
    words = {word.removesuffix(".json") for arg in entry.process.argv for word in _WORD.findall(arg)}
    return {word for word in (*words, entry.cwd.rpartition("/")[2]) if word in known}


def _others(entry: Entry, claim: Claim) -> Set[str]:
    """What a command names beside this worker."""
    return entry.command.words - {claim.worker_id}


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _created(claim: Claim) -> datetime:
    return claim.created_at or datetime.min.replace(tzinfo=UTC)


def _is_earlier(moment: datetime, claim: Claim) -> bool:
    """Whether a moment belongs to an earlier run of the id."""
    return claim.created_at is not None and moment < claim.created_at - RUN_TOLERANCE


def _same_host(one: str, other: str) -> bool:
    """Compare host names; a short one stands for a full one."""
    one, other = one.lower().rstrip("."), other.lower().rstrip(".")
    if "." in one and "." in other:
        return one == other
    return one.partition(".")[0] == other.partition(".")[0]


def _owner(path: str) -> int | None:
    try:
        return Path(path).stat().st_uid
    except OSError:
        return None
