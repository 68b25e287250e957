"""What is new in the coordination directory since the last look. Only files whose stamps have changed are opened.

Paths are strings relative to the home: with ten thousand files the looking itself is the cost, and it stays close to a
bare ``scandir`` with one ``stat`` for each file.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from .files import (
    JUST_NOW_SECONDS,
    NEVER,
    TORN_SECONDS,
    cannot_read,
    is_younger,
    leads_out,
    moment_of,
    printable,
    read_whole,
    stamp_of,
)
from .layout import (
    ACTIVE,
    AGENTS_WORKER_LOGS,
    AGENTS_WORKERS,
    CHECKINS,
    EVENTS,
    HEALTH_ALERTS,
    PM_HEARTBEAT,
    PM_STATE,
    SPECS,
    Layout,
)
from .parser import parse_checkin, parse_pm_heartbeat, parse_pm_state, parse_spec
from .prevention import parse_health_alerts
from .records import CheckIn, FileStamp, HealthAlerts, Other, PmDaemon, PmState, Problem, Scan, Spec, SpecSeen
from .traces import TraceReader

LARGEST_SPEC = 4 * 1024 * 1024  # bytes
LARGEST_STATE = 64 * 1024 * 1024  # bytes; the PM daemon keeps some 500 for each worker that it ever saw
DEEPEST_LINK = 32  # parts of a path, beyond which a link to a directory leads in circles
_Parsed = TypeVar("_Parsed")


class _Gone:
    """A file that was there at the last look."""


GONE: Final = _Gone()


class DirectoryReader:
    """Reads one coordination home and remembers what it has seen, so that each scan returns only what changed."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.specs: dict[str, FileStamp] = {}  # the files under worker-specs that were reported and not yet removed
        self._home = f"{layout.home}/"
        self._folders: set[str] = set()  # the directories under worker-specs
        self._live: dict[str, str] = {}  # spec path in active/ -> worker id
        self._live_ids: set[str] = set()
        self._stamps: dict[str, FileStamp] = {}  # PM files, check-ins and logs
        self._sound: set[str] = set()  # files that could be parsed the last time
        self._fresh: dict[str, int] = {}  # files whose stamps are too young to be trusted -> hash of what was read
        self._troubled: dict[str, Problem] = {}  # problems of other paths than specs, as they were reported
        self._traces = TraceReader(layout)
        self._pm = PmState()
        self._pm_heartbeat = PmDaemon()

    def scan(self, paths: Collection[str] | None = None, now: float | None = None) -> Scan:
        """Return what changed: everywhere, or at ``paths`` alone (absolute or relative, files or directories, or gone).

        ``now``: seconds since 1970, to know a file that is being written at this moment. What cannot be read is in the
        scan as a problem; nothing is raised.
        """
        now = time.time() if now is None else now
        scan = Scan(error=self._home_error())
        if scan.error:
            return scan
        relative = None if paths is None else {self.layout.relative(path) for path in paths}
        if relative is None or any(path == "." or f"{SPECS}/".startswith(f"{path}/") for path in relative):
            self._scan_everything(scan, now)
        else:
            self._scan_paths(relative, scan, now)
        return scan

    def forget(self, path: str) -> None:
        """Let a path, or its removal, be reported again: for a caller that could not keep what it was told."""
        path = self.layout.relative(path)
        if worker_id := _worker_of(path):
            self._traces.forget(worker_id)
        elif path.startswith(f"{SPECS}/"):
            self.specs[path] = NEVER
        else:
            self._stamps[path] = NEVER
        self._fresh.pop(path, None)

    def _home_error(self) -> str:
        specs, home = self.layout.specs, self.layout.home
        try:
            os.scandir(specs).close()
        except FileNotFoundError:
            if not home.is_dir():
                return f"{home} does not exist: mount it, or set COMMIT_RELAY_HOME to the fleet's home"
            return f"{home} holds no coordination/worker-specs: set COMMIT_RELAY_HOME to the directory that does"
        except NotADirectoryError:
            return f"{specs} is no directory: put it back, or set COMMIT_RELAY_HOME to another home"
        except OSError as error:
            return f"{specs} cannot be read ({os.strerror(error.errno or 0)}): let the poller's user read it"
        if not self.layout.inside(specs):
            return f"{specs} leads out of the home: set COMMIT_RELAY_HOME to the directory that really holds it"
        return ""

    def _scan_everything(self, scan: Scan, now: float) -> None:
        for path in [path for path in self._fresh if path.startswith(f"{SPECS}/")]:
            self._scan_spec_path(path, scan, now)
        self._folders = {SPECS}
        here = self._walk(SPECS, scan, now)
        if len(here) != len(self.specs):
            self._remove(self.specs.keys() - set(here), scan)
        self._scan_pm(scan, now)
        self._scan_alerts(scan, now)
        self._scan_checkins(scan, now)
        outside = not self.layout.inside(EVENTS)
        self._note(EVENTS, leads_out(os.path.realpath(self.layout.events)) if outside else None, scan)
        self._scan_logs([*self.layout.log_paths(), *filter(self.layout.is_log, self._stamps)], scan)
        self._scan_traces(None, scan, now)

    def _scan_paths(self, paths: set[str], scan: Scan, now: float) -> None:
        for path in sorted(paths):
            if path.startswith(f"{SPECS}/"):
                self._scan_spec_path(path, scan, now)
        if paths & {PM_STATE, PM_HEARTBEAT}:
            self._scan_pm(scan, now)
        if HEALTH_ALERTS in paths:
            self._scan_alerts(scan, now)
        if any(path == CHECKINS or path.startswith(f"{CHECKINS}/") for path in paths):
            self._scan_checkins(scan, now)
        self._scan_logs(filter(self.layout.is_log, paths), scan)
        if any(f"{AGENTS_WORKERS}/".startswith(f"{path}/") for path in paths):
            self._scan_traces(None, scan, now)
        else:
            self._scan_traces({_worker_of(path) for path in paths} - {""}, scan, now)

    # -- worker-specs

    def _walk(self, folder: str, scan: Scan, now: float) -> list[str]:
        """Look at a directory and everything below it. Return the paths that are there."""
        here: list[str] = []
        pending = [folder]
        while pending:
            current = pending.pop()
            try:
                below = self._look_into(current, here, scan, now)
            except (FileNotFoundError, NotADirectoryError):
                below = []
            except OSError as error:
                self._note(current, cannot_read(error), scan)
                unseen = {path for path in self.specs if path.startswith(f"{current}/")}.difference(here)
                here += unseen  # not seen is not gone
                continue
            self._note(current, None, scan)
            self._folders.update(below)
            pending += below
        return here

    def _look_into(self, folder: str, here: list[str], scan: Scan, now: float) -> list[str]:
        """Look at the files of one directory, adding those that are there to ``here``. Return the directories in it."""
        below: list[str] = []
        prefix, known, add = f"{folder}/", self.specs.get, here.append
        with os.scandir(self._home + folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                stamp = known(path)
                if stamp is None and not path.endswith(".json") and not entry.is_symlink():
                    if entry.is_dir(follow_symlinks=False):
                        below.append(path)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone meanwhile
                if (
                    stamp is not None
                    and stamp[3] == status.st_ctime_ns
                    and stamp[2] == status.st_mtime_ns
                    and stamp[1] == status.st_size
                    and stamp[0] == status.st_ino
                ):
                    add(path)
                else:
                    below += self._look_at(path, status, here, scan, now)
        return below

    def _look_at(self, path: str, status: os.stat_result, here: list[str], scan: Scan, now: float) -> list[str]:
        """Look at something new, changed or unusual; ``status`` is its own, not that of what a link leads to.

        Adds it to ``here`` if it is there. Returns it if it is a directory to be looked into.
        """
        try:
            followed = self._follow(path, status)
        except FileNotFoundError:
            name = path.rpartition("/")[2]
            if not name.endswith(".json") or name.startswith("."):  # an editor's lock is such a link
                return []
            followed = Problem("A link that leads to nothing")
        except OSError as error:
            followed = cannot_read(error)
        if isinstance(followed, Problem):
            stamp, problem = stamp_of(status), followed
        elif stat.S_ISDIR(followed.st_mode):
            return [path] if not stat.S_ISLNK(status.st_mode) or self._leads_elsewhere(path) else []
        elif path.endswith(".json"):
            stamp, problem = stamp_of(followed), None
        else:
            return []
        if self._read_spec(path, stamp, problem, scan, now):
            here.append(path)
        return []

    def _follow(self, path: str, status: os.stat_result) -> os.stat_result | Problem:
        """Return the status of what a path leads to, or why it is not followed. Raises OSError."""
        if not stat.S_ISLNK(status.st_mode):
            return status
        target = os.path.realpath(self._home + path)
        if not self.layout.inside(target):
            return leads_out(target)
        return os.stat(target)  # noqa: PTH116 - strings throughout

    def _leads_elsewhere(self, path: str) -> bool:
        """Whether a link to a directory of the home shows files that are not seen anyway; and never in circles."""
        target = os.path.realpath(self._home + path) + "/"
        specs = os.path.realpath(self.layout.specs) + "/"
        return not target.startswith(specs) and not specs.startswith(target) and path.count("/") < DEEPEST_LINK

    def _read_spec(self, path: str, stamp: FileStamp, problem: Problem | None, scan: Scan, now: float) -> bool:
        """Read one file and report it if it has changed. Return whether it is there."""
        if self.specs.get(path) == stamp and path not in self._fresh:
            return True
        name = printable(path)
        if problem is None and name != path:
            problem = Problem("Its name is not UTF-8, and so it is not read")
        content: Spec | Problem | Other | None = problem
        if content is None:
            read = read_whole(self._home + path, LARGEST_SPEC)
            if read is None:
                return False
            if isinstance(read, Problem):
                content = read
            else:
                content, stamp = self._understand(path, *read, lambda data, _: parse_spec(data, path), now)
        self.specs[path] = stamp
        if content is not None:
            self._note_live(path, content)
            scan.specs.append(SpecSeen(name, stamp, content))
        return True

    def _understand(
        self,
        path: str,
        data: bytes,
        stamp: FileStamp,
        parse: Callable[[bytes, FileStamp], _Parsed | Problem],
        now: float,
    ) -> tuple[_Parsed | Problem | None, FileStamp]:
        """Parse what was read, and say which stamp to remember. None: it is as it was before, or is half written."""
        young = is_younger(stamp, JUST_NOW_SECONDS, now)
        before = self._fresh.pop(path, None)
        digest = hash(data) if young or before is not None else None
        if young and digest is not None:
            self._fresh[path] = digest
        if before is not None and before == digest:
            return None, stamp
        content = parse(data, stamp)
        if not isinstance(content, Problem):
            self._sound.add(path)
        elif path in self._sound and is_younger(stamp, TORN_SECONDS, now):
            self._fresh.pop(path, None)
            return None, NEVER
        else:
            self._sound.discard(path)
        return content, stamp

    def _note_live(self, path: str, content: Spec | Problem | Other) -> None:
        """Remember which worker ids are live: their traces are read."""
        if not path.startswith(f"{ACTIVE}/"):
            return
        spec = content.reading if isinstance(content, Problem) else content
        if isinstance(spec, Spec):
            self._live[path] = spec.worker_id
        elif isinstance(content, Problem):
            self._live[path] = printable(path.rpartition("/")[2].removesuffix(".json"))
        else:
            self._live.pop(path, None)

    def _remove(self, paths: Iterable[str], scan: Scan) -> None:
        for path in sorted(paths):
            self.specs.pop(path, None)
            self._live.pop(path, None)
            self._fresh.pop(path, None)
            self._sound.discard(path)
            scan.removed.append(printable(path))

    def _scan_spec_path(self, path: str, scan: Scan, now: float) -> None:
        """Look at one path under worker-specs: a file or a directory, or what is left of it."""
        parts = path.split("/")
        ancestors = ["/".join(parts[:length]) for length in range(len(SPECS.split("/")) + 1, len(parts))]
        path = next((ancestor for ancestor in ancestors if ancestor not in self._folders), path)
        here: list[str] = []
        try:
            status = os.lstat(self._home + path)
            name_counts = path.endswith(".json") or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)
            below = self._look_at(path, status, here, scan, now) if name_counts else []
        except (FileNotFoundError, NotADirectoryError):
            below = []
        except OSError:
            return  # the next look at everything says why
        for folder in below:
            self._folders.add(folder)
            here += self._walk(folder, scan, now)
        known = {path} & self.specs.keys()
        if path in self._folders:
            known.update(known_path for known_path in self.specs if known_path.startswith(f"{path}/"))
            if not below:
                self._folders.discard(path)
        self._remove(known.difference(here), scan)

    # -- other files

    def _take(
        self, path: str, limit: int, parse: Callable[[bytes, FileStamp], _Parsed | Problem], now: float
    ) -> _Parsed | Problem | _Gone | None:
        """Read a file apart from the specs if it has changed. None: it has not, or it was never there."""
        try:
            status = os.lstat(self._home + path)
            followed = self._follow(path, status)
        except (FileNotFoundError, NotADirectoryError):
            self._fresh.pop(path, None)
            self._sound.discard(path)
            return GONE if self._stamps.pop(path, None) else None
        except OSError as error:
            return cannot_read(error)
        stamp = stamp_of(status if isinstance(followed, Problem) else followed)
        if self._stamps.get(path) == stamp and path not in self._fresh:
            return None
        read = followed if isinstance(followed, Problem) else read_whole(self._home + path, limit)
        if read is None:
            return None  # gone meanwhile: the next look says so
        if isinstance(read, Problem):
            self._stamps[path] = stamp
            return read
        content, self._stamps[path] = self._understand(path, *read, parse, now)
        return content

    def _note(self, path: str, problem: Problem | None, scan: Scan) -> None:
        """Report a problem of a path that is no spec, or that it is mended."""
        if problem != self._troubled.get(path):
            scan.problems[printable(path)] = problem
        if problem:
            self._troubled[path] = problem
        else:
            self._troubled.pop(path, None)

    def _scan_pm(self, scan: Scan, now: float) -> None:
        """Read the PM daemon's two files; its heartbeat is told as part of its state."""
        before = self._daemon()
        beat = self._take(PM_HEARTBEAT, LARGEST_STATE, lambda data, _: parse_pm_heartbeat(data), now)
        if beat is not None:
            self._pm_heartbeat = beat if isinstance(beat, PmDaemon) else PmDaemon()
            self._note(PM_HEARTBEAT, beat if isinstance(beat, Problem) else None, scan)
        state = self._take(PM_STATE, LARGEST_STATE, lambda data, _: parse_pm_state(data), now)
        if isinstance(state, Problem):
            scan.pm = state
            return
        if isinstance(state, _Gone):
            self._pm, scan.pm_gone = PmState(), True
        elif state is not None:
            self._pm = state
        if isinstance(state, PmState) or (PM_STATE in self._sound and self._daemon() != before):
            scan.pm = replace(self._pm, daemon=self._daemon())

    def _daemon(self) -> PmDaemon:
        """Put together what the PM daemon says of itself in its two files."""
        daemon, beat = self._pm.daemon, self._pm_heartbeat
        if beat.last_loop and (daemon.last_loop is None or beat.last_loop > daemon.last_loop):
            daemon = replace(daemon, last_loop=beat.last_loop, pid=beat.pid or daemon.pid)
        return replace(daemon, status=beat.status)

    def _scan_alerts(self, scan: Scan, now: float) -> None:
        alerts = self._take(HEALTH_ALERTS, LARGEST_STATE, lambda data, _: parse_health_alerts(data), now)
        if alerts is not None:
            self._note(HEALTH_ALERTS, alerts if isinstance(alerts, Problem) else None, scan)
            if not isinstance(alerts, Problem):  # of a file that cannot be read, what it said last still holds
                scan.alerts = alerts if isinstance(alerts, HealthAlerts) else HealthAlerts()

    def _scan_checkins(self, scan: Scan, now: float) -> None:
        """Read the check-in files that are new: the PM daemon deletes them once it has read them."""
        known = [path for path in self._stamps if path.startswith(f"{CHECKINS}/")]
        try:
            names = [name for name in os.listdir(self._home + CHECKINS) if name.endswith(".json")]  # noqa: PTH208
        except FileNotFoundError:
            names = []
        except OSError as error:
            return self._note(CHECKINS, cannot_read(error), scan)
        if names and not self.layout.inside(CHECKINS):
            return self._note(CHECKINS, leads_out(os.path.realpath(self.layout.checkins)), scan)
        self._note(CHECKINS, None, scan)
        for path in sorted({*known, *(f"{CHECKINS}/{name}" for name in names)}):
            checkin = self._take(path, LARGEST_SPEC, partial(_parse_checkin, printable(path)), now)
            if checkin is None:
                continue
            self._note(path, checkin if isinstance(checkin, Problem) else None, scan)
            if isinstance(checkin, CheckIn):
                scan.checkins.append(checkin)
        return None

    def _scan_logs(self, paths: Iterable[str], scan: Scan) -> None:
        """Find the JSON logs that grew, shrank, were replaced or are gone."""
        for path in sorted(set(paths)):
            try:
                status = os.lstat(self._home + path)
                followed = self._follow(path, status)
            except (FileNotFoundError, NotADirectoryError):
                if self._stamps.pop(path, None):
                    self._note(path, None, scan)
                    scan.logs.append(path)
                continue
            except OSError as error:
                self._note(path, cannot_read(error), scan)
                continue
            stamp = stamp_of(status if isinstance(followed, Problem) else followed)
            if self._stamps.get(path) != stamp:
                self._stamps[path] = stamp
                problem = self._why_no_log(path, followed)
                self._note(path, problem, scan)
                if problem is None:
                    scan.logs.append(path)

    def _why_no_log(self, path: str, followed: os.stat_result | Problem) -> Problem | None:
        if isinstance(followed, Problem):
            return followed
        if not stat.S_ISREG(followed.st_mode):
            return Problem("No regular file, and so not read")
        if printable(path) != path:
            return Problem("Its name is not UTF-8, and so it is not read")
        if not self.layout.inside(path):
            return leads_out(os.path.realpath(self._home + path))
        if not os.access(self._home + path, os.R_OK):
            return cannot_read(PermissionError())
        return None

    def _scan_traces(self, only: Collection[str] | None, scan: Scan, now: float) -> None:
        """Look at the traces of live workers: of all, or of ``only`` these and those whose specs just changed."""
        if scan.specs or scan.removed:
            self._live_ids = set(self._live.values())
        if only is not None:
            only = {*only, *(self._live[seen.path] for seen in scan.specs if seen.path in self._live)}
        if only is None or only:
            scan.traces = self._traces.look(self._live_ids, now, only)


def _parse_checkin(source: str, data: bytes, stamp: FileStamp) -> CheckIn | Problem:
    return parse_checkin(data, source, moment_of(stamp))


def _worker_of(path: str) -> str:
    """Return the id of the worker under whose own directory a path lies, else ""."""
    parts = path.split("/")
    if path.startswith(f"{AGENTS_WORKERS}/"):
        return parts[2]
    if path.startswith(f"{AGENTS_WORKER_LOGS}/") and len(parts) > 4:
        return parts[4]
    return ""
