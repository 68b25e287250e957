"""Which processes live on this host, and what they use. The only module that knows psutil.

:class:`LivingProcesses` remembers what it has seen, so that a look at an unchanged host costs a list of pids, and finds
processes by what they say of themselves; whose they are is for :mod:`workers.ownership` to tell. Reads that fail (the
process has ended, it may not be read) are ordinary and never raise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from .coordination.commands import Command, Kind, read_command
from .coordination.files import printable
from .coordination.records import Process, ProcessKey, ProcessSample
from .coordination.redaction import MARK, Secrecy, key_secrecy, redact_text

YOUNG = 10.0  # seconds in which a process is likely to exec or to change its directory
SWEEP_EVERY = 10.0  # seconds between two looks at all names and directories
VERIFY_EVERY = 1.0  # seconds between two looks at whether workers' processes are still the same
SHORTEST_SAMPLE = timedelta(seconds=0.5)  # CPU time comes in ticks of 10 ms; over less than this it would be noise
LONGEST_ARGUMENT, MOST_ARGUMENTS = 500, 60  # characters and arguments that are kept to show; prompts are long
MOST_OPEN_FILES = 40
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
LINUX = sys.platform == "linux"
OUR_SETTINGS = "relay_web/settings.py"  # beside the manage.py of any checkout
OUR_WEB = "relay_web.asgi:application"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Refresh:
    """Pids that ended, and pids that are new or have become something else, since the refresh before."""

    gone: set[int]
    changed: set[int]


class Stat(NamedTuple):
    """The few numbers that one cheap read gives of a living process."""

    name: str
    ppid: int
    start_ticks: int
    cpu: float  # seconds
    waited: float  # seconds that its ended children used
    rss: int  # bytes


@dataclass(slots=True)
class Entry:
    """One process as it was opened."""

    process: Process
    command: Command
    cwd: str  # as the system names it, to be compared; that of the process is printable
    worker_id: str  # WORKER_ID in its environment
    inner_pid: int  # its pid in a PID namespace below ours, 0 where it is in ours
    barren: bool = False  # it was left behind by something whose children do no work
    seen_at: float = 0.0
    read_at: float = 0.0

    def differs(self, other: Entry) -> bool:
        mine = (self.process, self.command, self.cwd, self.worker_id)
        return mine != (other.process, other.command, other.cwd, other.worker_id)


#: Seconds of CPU time of each member: its own, and its ended children's, None where that is not all its own.
Members = dict[ProcessKey, tuple[float, float | None]]


@dataclass(slots=True)
class Usage:
    """The CPU time of a tree at its last sample."""

    key: ProcessKey
    at: datetime
    members: Members
    percent: float | None
    parts: dict[int, tuple[float | None, int]]


# -- one process


def boot_id() -> str:
    """Name this boot of the host; start ticks mean nothing without it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"boot-{psutil.boot_time():.0f}"


def own_key() -> ProcessKey:
    """The identity of this very process."""
    stat = _stat(os.getpid())
    return ProcessKey(os.getpid(), stat.start_ticks if stat else 0, boot_id())


def _stat(pid: int) -> Stat | None:
    """Read the numbers of a process; None where it has ended, even if nobody has waited for it (state Z)."""
    if not LINUX:
        return _portable_stat(pid)
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        text = os.read(handle, 4096)
    except OSError:
        return None
    finally:
        os.close(handle)
    head, _, tail = text.rpartition(b")")
    values = tail.split()
    if len(values) < 22 or values[0] in (b"Z", b"X", b"x"):
        return None
    own, waited = int(values[11]) + int(values[12]), int(values[13]) + int(values[14])
    return Stat(
        name=printable(os.fsdecode(head.partition(b"(")[2])),
        ppid=int(values[1]),
        start_ticks=int(values[19]),
        cpu=own / TICKS_PER_SECOND,
        waited=waited / TICKS_PER_SECOND,
        rss=int(values[21]) * PAGE_SIZE,
    )


def _portable_stat(pid: int) -> Stat | None:
    """Read the same by psutil alone, for systems without ``/proc``."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            times = process.cpu_times()
            return Stat(
                name=printable(process.name()),
                ppid=process.ppid() or 0,
                start_ticks=round(process.create_time() * TICKS_PER_SECOND),
                cpu=times.user + times.system,
                waited=getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0),
                rss=process.memory_info().rss,
            )
    except (psutil.Error, OSError):
        return None


def _allowed(read: Callable[[], Value], default: Value) -> Value:
    """Read what may be refused for processes of others."""
    try:
        return read()
    except psutil.AccessDenied:
        return default


def _inner_pid(pid: int) -> int:
    """Return the pid by which a process knows itself, if that is in another PID namespace than ours, else 0."""
    try:
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"NSpid:"):
                pids = line.split()[1:]
                return int(pids[-1]) if len(pids) > 1 else 0
    except OSError:
        pass
    return 0


def _shown(argv: list[str]) -> tuple[str, ...]:
    """Prepare a command line for people: redacted, and cut where somebody put a whole prompt into it."""
    shown, secret = [], False
    for arg in argv[:MOST_ARGUMENTS]:
        text = MARK if secret else redact_text(arg[: 4 * LONGEST_ARGUMENT])
        shown.append(text if len(text) <= LONGEST_ARGUMENT else f"{text[:LONGEST_ARGUMENT]}…")
        secret = arg.startswith("-") and "=" not in arg and key_secrecy(arg.lstrip("-")) is not Secrecy.NONE
    return tuple(shown)


# -- one process, to be stopped or described


def send_signal(key: ProcessKey, number: int) -> str:
    """Signal exactly this process and no other that may have its pid by now. Return why it was refused, else "".

    A process that is gone has nothing to refuse. Where the kernel has handles on processes, the identity is compared
    while the handle is held, so that the pid cannot change hands in between.
    """
    if key.boot_id != boot_id():
        return ""
    handle = None
    try:
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(NotImplementedError):
                handle = os.pidfd_open(key.pid)
        stat = _stat(key.pid)
        if stat is None or stat.start_ticks != key.start_ticks:
            return ""
        if handle is None:
            os.kill(key.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return f"the user of this poller may not signal process {key.pid}"
    except OSError as error:
        return f"process {key.pid} cannot be signalled: {(error.strerror or 'unknown error').lower()}"
    finally:
        if handle is not None:
            os.close(handle)
    return ""


def state_of(pid: int) -> str:
    """Name the state that a process is in, as psutil does: ``disk-sleep`` for one that nothing can end."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.Error:
        return "gone"


def descendants(pid: int) -> list[int]:
    """List the living children of a process and theirs."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def describe(process: Process) -> dict[str, Any]:
    """Describe a process for the record: what it is, what it has used, which files it has open.

    What may not be read is left out. ``cpu_seconds`` is its own time since its start, ``rss_bytes`` its memory now.
    """
    found: dict[str, Any] = {
        "pid": process.pid,
        "ppid": process.ppid,
        "command": redact_text(" ".join(process.argv) or process.name),
        "cwd": process.cwd,
        "user": process.user,
        "started_at": process.started_at.isoformat(),
    }
    try:
        known = psutil.Process(process.pid)
        with known.oneshot():
            found["state"] = known.status()
            found["cpu_seconds"] = round(sum(known.cpu_times()[:2]), 2)
            found["rss_bytes"] = known.memory_info().rss
            found["threads"] = known.num_threads()
        found["open_files"] = sorted({redact_text(file.path) for file in known.open_files()})[:MOST_OPEN_FILES]
    except (psutil.Error, OSError):
        pass  # it has ended meanwhile, or is another user's: what was read so far stays
    return found


def _own_percent(before: Usage | None, key: ProcessKey, cpu: float, now: datetime) -> float | None:
    """What one process of a tree used by itself since the sample before; None where it was not in that."""
    old = before.members.get(key) if before else None
    if before is None or old is None:
        return None
    return max(0.0, cpu - old[0]) / (now - before.at).total_seconds() * 100


# -- all processes


class LivingProcesses:
    """The processes of this host, remembered from look to look and found by what they say of themselves."""

    def __init__(self, home: Path) -> None:
        self.hidden = ""  # why other users' processes cannot be seen, "" where they can
        self.owner: dict[int, Hashable] = {}  # pid -> the run that it was found to belong to
        self.touched: set[int] = set()  # pids that ended or changed since somebody emptied this
        self.ours: set[int] = set()  # pids that are never a worker's
        self.entries: dict[int, Entry] = {}
        self.by_cwd: defaultdict[str, set[int]] = defaultdict(set)
        self.by_environment: defaultdict[str, set[int]] = defaultdict(set)
        self.by_word: defaultdict[str, set[int]] = defaultdict(set)
        self.by_inner_pid: defaultdict[int, set[int]] = defaultdict(set)
        self.children: defaultdict[int, set[int]] = defaultdict(set)
        self.home = os.path.abspath(home)  # noqa: PTH100 - its symlinks are followed below
        self._boot_id = boot_id()
        self._ended: set[int] = set()  # pids in state Z: still listed, but gone
        self._young: set[int] = set()
        self._now = 0.0
        self._verified_at = self._swept_at = float("-inf")
        self._usage: dict[int, Usage] = {}
        self._resolve_home()

    def refresh(self, now: float) -> Refresh:
        """Look at what lives. ``now`` in seconds since the epoch.

        With nothing new it costs a list of pids. New processes are opened in full, and again while young, since
        ``exec`` keeps the pid; all names and directories are compared every :data:`SWEEP_EVERY` seconds, and every
        :data:`VERIFY_EVERY` seconds it is made sure that workers' processes are still what they were.
        """
        self._now, listed = now, set(psutil.pids())
        gone, changed = self.entries.keys() - listed, set[int]()
        for pid in gone:
            changed |= self._lose(pid)
        self._ended &= listed
        self._again(self._due(now), now, gone, changed)
        for pid in sorted(listed - self.entries.keys() - self._ended):  # parents mostly before their children
            if self._open(pid, now):
                changed.add(pid)
        if abs(now - self._verified_at) >= VERIFY_EVERY:  # a clock may be set back
            self._verified_at = now
            self._again([pid for pid in self.owner if self._differs(pid)], now, gone, changed)
        if abs(now - self._swept_at) >= SWEEP_EVERY:
            self._swept_at = now
            self._sweep(listed, now, gone, changed)
        changed -= gone
        if gone or changed:
            self.touched |= gone | changed
            self.ours = self._our_processes()
        return Refresh(gone, changed)

    def _sweep(self, listed: Set[int], now: float, gone: set[int], changed: set[int]) -> None:
        self._resolve_home()
        self.hidden = self._look_for_hiding(listed)
        self._again([pid for pid in self.entries if self._differs(pid, thoroughly=True)], now, gone, changed)
        for pid in [pid for pid in self._ended if _stat(pid)]:  # the number has been given to another process
            self._ended.discard(pid)
            if self._open(pid, now):
                changed.add(pid)

    def _again(self, pids: Iterable[int], now: float, gone: set[int], changed: set[int]) -> None:
        """Read processes once more, and note which have gone or have become something else."""
        for pid in pids:
            before = self.entries.get(pid)
            if before is None:
                continue
            after = self._read(pid, before.process.started_at)
            if after is None or after.process.key != before.process.key:
                changed |= self._lose(pid)
                (changed if self._open(pid, now) else gone).add(pid)
            elif before.differs(after):
                self._unlist(pid)
                self._enlist(replace(after, seen_at=before.seen_at, barren=before.barren), now)
                changed.add(pid)
            else:
                before.read_at = now

    def _due(self, now: float) -> list[int]:
        """The young processes that are read again: at twice the age of the last time."""
        due = []
        for pid in list(self._young):
            entry = self.entries[pid]
            age, read = now - entry.seen_at, entry.read_at - entry.seen_at
            if age >= max(0.1, min(2 * read, YOUNG)):
                due.append(pid)
            if age >= YOUNG:
                self._young.discard(pid)
        return due

    def _differs(self, pid: int, *, thoroughly: bool = False) -> bool:
        """Whether a process is no longer the one that was opened, by its identity or, thoroughly, by what it does."""
        entry, stat = self.entries.get(pid), _stat(pid)
        if entry is None or stat is None or stat.start_ticks != entry.process.key.start_ticks:
            return entry is not None
        if not thoroughly:
            return False
        if stat.ppid != entry.process.ppid or not entry.process.name.startswith(stat.name):
            return True
        try:
            return LINUX and entry.cwd != os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - hot
        except OSError:
            return entry.cwd != ""

    def _open(self, pid: int, now: float) -> Entry | None:
        entry = self._read(pid)
        if entry is None:
            self._ended.add(pid)
            return None
        entry.seen_at = min(now, entry.process.started_at.timestamp())
        self._enlist(entry, now)
        return entry

    def _read(self, pid: int, started_at: datetime | None = None) -> Entry | None:
        """Open a process in full; None where it has ended. Its start is kept, since the boot time may be corrected."""
        stat = _stat(pid)
        if stat is None:
            return None
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                argv = _allowed(process.cmdline, list[str]())
                environment = _allowed(process.environ, dict[str, str]())
                cwd = _allowed(process.cwd, "")
                seen = Process(
                    key=ProcessKey(pid, stat.start_ticks, self._boot_id),
                    ppid=stat.ppid,
                    name=printable(process.name()),
                    argv=_shown(argv),
                    cwd=printable(cwd),
                    user=printable(_allowed(process.username, "")),
                    ours=process.uids().real == os.geteuid(),
                    started_at=started_at or datetime.fromtimestamp(process.create_time(), UTC),
                )
        except (psutil.Error, OSError, ValueError):
            return None
        inner = _inner_pid(pid) if LINUX else 0
        command = read_command(argv, (self.home, self.real_home))
        return Entry(seen, command, cwd, environment.get("WORKER_ID", ""), inner)

    def _enlist(self, entry: Entry, now: float) -> None:
        pid = entry.process.pid
        entry.read_at = now
        self.entries[pid] = entry
        if now - entry.seen_at < YOUNG:
            self._young.add(pid)
        for index, value in self._places(entry):
            index[value].add(pid)

    def _unlist(self, pid: int) -> None:
        entry = self.entries.pop(pid)
        self._young.discard(pid)
        for index, value in self._places(entry):
            index[value].discard(pid)
            if not index[value]:
                del index[value]

    def _places(self, entry: Entry) -> Iterator[tuple[defaultdict[Any, set[int]], object]]:
        """Yield where a process is entered in the indexes."""
        yield self.children, entry.process.ppid
        if entry.cwd:
            yield self.by_cwd, entry.cwd
        if entry.worker_id:
            yield self.by_environment, entry.worker_id
        if entry.inner_pid:
            yield self.by_inner_pid, entry.inner_pid
        for word in entry.command.words:
            yield self.by_word, word

    def _lose(self, pid: int) -> set[int]:
        """Strike out a process that has ended. Return its children, who have another parent now."""
        barren = self.is_barren(self.entries[pid])
        self._unlist(pid)
        self._usage.pop(pid, None)
        orphans = set()
        for child in list(self.children.get(pid, ())):
            entry, stat = self.entries[child], _stat(child)
            if stat is None or stat.start_ticks != entry.process.key.start_ticks:
                continue
            self._unlist(child)
            entry.process = replace(entry.process, ppid=stat.ppid)
            entry.barren = entry.barren or barren  # the sleep of a killed emitter is no more work than before
            self._enlist(entry, entry.read_at)
            orphans.add(child)
        return orphans

    def ancestors(self, entry: Entry) -> Iterator[Entry]:
        """Yield parent, grandparent and so on."""
        seen = {entry.process.pid}
        while (parent := self.entries.get(entry.process.ppid)) and parent.process.pid not in seen:
            seen.add(parent.process.pid)
            yield parent
            entry = parent

    def is_barren(self, entry: Entry) -> bool:
        return any(one.barren or one.command.barren for one in (entry, *self.ancestors(entry)))

    def living(self, pid: int) -> Entry | None:
        """Return the process of this pid if it lives at this very moment, opening it where it is not known yet."""
        entry, stat = self.entries.get(pid), _stat(pid) if pid > 0 else None
        if stat is None:
            return None
        if entry is None:
            entry = self._open(pid, self._now)
            self.touched |= {pid} if entry else set()
        return entry if entry and entry.process.key.start_ticks == stat.start_ticks else None

    def _resolve_home(self) -> None:
        """Follow the symlinks of the home: a working directory is always given without any."""
        self.real_home = os.path.realpath(self.home)
        self.real_workers = os.path.realpath(f"{self.home}/agents/workers")

    def _look_for_hiding(self, listed: Set[int]) -> str:
        """Say why processes of others cannot be seen: process 1 lives as long as the host does."""
        if not LINUX:
            return ""
        if 1 in listed and os.access("/proc/1/stat", os.R_OK):
            return ""
        return "/proc hides the processes of other users (hidepid) from the user of this poller"

    def below(self, entry: Entry) -> list[Entry]:
        """Return all living descendants."""
        found: dict[int, Entry] = {}
        queue = [entry.process.pid]
        for pid in queue:
            for child in sorted(self.children.get(pid, set()) - found.keys() - {entry.process.pid}):
                if one := self.living(child):
                    found[child] = one
                    queue.append(child)
        return list(found.values())

    def _our_processes(self) -> set[int]:
        """Return this process, its ancestors, and every other process of Relay Web: they are never a worker's."""
        ours = {os.getpid(), 1}
        if this := self.entries.get(os.getpid()):
            ours |= {entry.process.pid for entry in self.ancestors(this)}
        for pid in self.by_word.get(OUR_WEB, set()) | self.by_word.get("manage.py", set()):
            argv, cwd = self.entries[pid].process.argv, self.entries[pid].cwd
            scripts = [Path(cwd, arg) for arg in argv if arg.endswith("manage.py")]
            if OUR_WEB in argv or any(os.access(script.parent / OUR_SETTINGS, os.F_OK) for script in scripts):
                ours.add(pid)
        return ours

    # -- how they are

    def sample(self, keys: Iterable[ProcessKey], now: datetime) -> ProcessSample:
        """Measure a process tree, main first: CPU in percent of one core since its sample before, and memory.

        Counted are the members that live, those that were born since, and what their children used that came and went
        in between. Never negative; None at the first sample of a main process.
        """
        stats = {key: stat for key in keys if (stat := _stat(key.pid)) and stat.start_ticks == key.start_ticks}
        rss = sum(stat.rss for stat in stats.values())
        if not stats:
            return ProcessSample(None, 0, now)
        main = next(iter(stats))
        before = self._usage.get(main.pid)
        if before and before.key != main:
            before = None
        if before and now - before.at < SHORTEST_SAMPLE:
            return ProcessSample(before.percent, rss, now, before.parts)
        members = {key: (stat.cpu, stat.waited if self._all_its_own(key.pid) else None) for key, stat in stats.items()}
        percent = self._percent(before, members, now) if before else None
        parts = {key.pid: (_own_percent(before, key, stat.cpu, now), stat.rss) for key, stat in stats.items()}
        self._usage[main.pid] = Usage(main, now, members, percent, parts)
        return ProcessSample(percent, rss, now, parts)

    def _percent(self, before: Usage, members: Members, now: datetime) -> float:
        own = total = 0.0
        for key, (cpu, waited) in members.items():
            old = before.members.get(key)
            if old is None and (key.pid not in self.entries or self.entries[key.pid].process.started_at < before.at):
                continue  # it was not born since, but has joined the tree: most of its time is of before
            old_cpu, old_waited = old or (0.0, 0.0)
            own += max(0.0, cpu - old_cpu)
            total += cpu - old_cpu
            if waited is not None and old_waited is not None:
                total += waited - old_waited
        # The time of a member that ended is in its parent's waited time now, if that has waited for it.
        total -= sum(cpu + (waited or 0.0) for key, (cpu, waited) in before.members.items() if key not in members)
        return max(own, total) / (now - before.at).total_seconds() * 100

    def _all_its_own(self, pid: int) -> bool:
        """Whether a process will wait for no child of another run, nor for an emitter, whose time is no work."""
        run = self.owner.get(pid)
        for child in self.children.get(pid, ()):
            if self.entries[child].command.kind is Kind.COMPANION or self.owner.get(child, run) != run:
                return False
        return True

    def alive(self, key: ProcessKey) -> bool:
        """Look at this very moment whether a process lives and is still the same."""
        stat = _stat(key.pid)
        return stat is not None and stat.start_ticks == key.start_ticks and self._boot_id == key.boot_id

    def exists(self, pid: int) -> bool:
        """Look at this very moment whether any process of this pid lives."""
        return pid > 0 and _stat(pid) is not None
