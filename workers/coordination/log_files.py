"""Which files are a worker's logs, and how one is opened: only what lies in the home, and nothing but plain files.

Found are those in its own directory, everything below a directory of its very name under ``agents/logs``, and the
system's logs, of which only the lines that name it are its own.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .files import printable
from .layout import AGENTS_WORKERS, Layout, is_path_part
from .records import Problem

LOGS = "agents/logs"
SYSTEM_LOGS = f"{LOGS}/system"
#: Directories that are looked into, files that are listed, and how deep: nobody's tree may hold a page up.
MOST_FOLDERS, MOST_FILES, DEEPEST = 4_000, 500, 8
_COMPANIONS = ("heartbeat-emitter.log",)  # written whether the worker lives or not


@dataclass(frozen=True, slots=True)
class WorkerLog:
    """One file. ``shared``: it is everybody's, and only the lines that name the worker are shown."""

    path: str  # relative to the home, as it may be shown; what people choose it by
    size: int = 0
    mtime: float = 0.0  # seconds since 1970
    shared: bool = False
    problem: str = ""  # why it is not read

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def companion(self) -> bool:
        return self.name in _COMPANIONS


@dataclass(frozen=True, slots=True)
class Listing:
    """All that were found: the worker's own, newest first, then the shared ones by name."""

    logs: tuple[WorkerLog, ...]
    complete: bool = True  # False: there are more directories or files than are looked at
    on_disk: Mapping[str, str] = field(default_factory=dict)  # their paths as the system knows them, by those shown

    def get(self, path: str) -> WorkerLog | None:
        return next((log for log in self.logs if log.path == path), None)


class OpenLog:
    """A log that is open; it stays this very file, whatever is put under its name."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path  # absolute
        self._descriptor = descriptor
        self.identity = _identity(os.fstat(descriptor))

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset) if length > 0 else b""

    def replaced(self) -> bool | None:
        """Whether another file stands under its name now; None: none does."""
        try:
            return _identity(os.stat(self.path)) != self.identity  # noqa: PTH116 - any bytes
        except OSError:
            return None

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:  # of a download that was left before it began
        self.close()

    def __enter__(self) -> OpenLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev:x}-{status.st_ino:x}"


def open_log(layout: Layout, path: str) -> OpenLog | Problem:
    """Open a file by its path on disk, relative to the home. Waits for no pipe and follows no link out of the home."""
    absolute = f"{layout.home}/{path}"
    try:
        if problem := _objection(layout, absolute, os.stat(absolute)):  # noqa: PTH116 - any bytes
            return Problem(problem)
        descriptor = os.open(absolute, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return Problem(refusal(error))
    log = OpenLog(descriptor, absolute)
    # Looked at once more when it is open: between the look and the opening a link may have been put there
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _inside(layout, descriptor, absolute):
        log.close()
        return Problem("it has become something else while it was opened")
    return log


def _inside(layout: Layout, descriptor: int, absolute: str) -> bool:
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - any bytes
    except OSError:
        return layout.inside(absolute)
    real = real.removesuffix(" (deleted)")
    return real.startswith(layout.real_home.rstrip("/") + "/")


def refusal(error: OSError) -> str:
    """Why the system refuses a file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "it is gone"
    if isinstance(error, PermissionError):
        return "the user that Relay Web runs as may not read it"
    return f"it cannot be read: {(error.strerror or 'unknown error').lower()}"


def _objection(layout: Layout, absolute: str, status: os.stat_result) -> str:
    """Why a file is not opened, "" where it may be."""
    if not layout.inside(absolute):
        return f"a link out of the home, to {printable(os.path.realpath(absolute))}: not followed"
    if stat.S_ISREG(status.st_mode):
        return ""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return f"{kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, no file"


# --- finding ----------------------------------------------------------------------------------------------------------


def find_logs(layout: Layout, worker_id: str) -> Listing:
    """List a worker's logs."""
    if not is_path_part(worker_id):
        return Listing(())
    own, complete = _own_paths(layout, worker_id)
    shared = [path for path in _names(layout, SYSTEM_LOGS) if path.endswith(".log")]
    logs = [_look_at(layout, path) for path in own[:MOST_FILES]]
    logs.sort(key=lambda log: (bool(log.problem), -log.mtime, log.path))
    return Listing(
        (*logs, *(_look_at(layout, path, shared=True) for path in shared)),
        complete and len(own) <= MOST_FILES,
        {printable(path): path for path in [*own[:MOST_FILES], *shared]},
    )


def _own_paths(layout: Layout, worker_id: str) -> tuple[list[str], bool]:
    directory = f"{AGENTS_WORKERS}/{worker_id}"
    paths = [path for path in _names(layout, directory) if path.endswith(".log")]
    paths += _names(layout, f"{directory}/logs")
    # A directory that is itself a link out of the home is named, so that nobody misses what is in it
    paths += [path for path in (directory, f"{directory}/logs") if _leads_out(layout, path)]
    complete = True
    for folder in _folders_named(layout, worker_id):
        if not folder:
            complete = False
        else:
            paths += _below(layout, folder)
    return list(dict.fromkeys(paths)), complete


def _names(layout: Layout, folder: str) -> list[str]:
    """The paths in a directory of the home, in order; nothing where it is gone, refused or outside."""
    absolute = f"{layout.home}/{folder}"
    if not layout.inside(absolute):
        return []
    try:
        return [f"{folder}/{name}" for name in sorted(os.listdir(absolute))]  # noqa: PTH208 - names only
    except OSError:
        return []


def _leads_out(layout: Layout, path: str) -> bool:
    absolute = f"{layout.home}/{path}"
    return os.path.lexists(absolute) and not layout.inside(absolute)


def _folders_named(layout: Layout, worker_id: str) -> Iterator[str]:
    """Directories of exactly that name below ``agents/logs``, the nearest first; "" where looking was given up."""
    level, seen = [LOGS] if layout.inside(layout.home / LOGS) else [], 0
    for _ in range(DEEPEST):
        deeper: list[str] = []
        for folder in level:
            seen += 1
            if seen > MOST_FOLDERS:
                yield ""
                return
            if os.path.lexists(f"{layout.home}/{folder}/{worker_id}"):
                yield f"{folder}/{worker_id}"
            deeper += _directories(f"{layout.home}/{folder}", folder, worker_id)
        level = deeper


def _directories(absolute: str, folder: str, but: str) -> list[str]:
    try:
        with os.scandir(absolute) as entries:
            names = sorted(each.name for each in entries if each.name != but and each.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [f"{folder}/{name}" for name in names]


def _below(layout: Layout, folder: str) -> list[str]:
    """Everything below a directory of the worker's own; links to directories are named and not gone into."""
    top = Path(f"{layout.home}/{folder}")
    if top.is_symlink() or not top.is_dir():
        return [folder]
    found: list[str] = []
    for place, folders, names in os.walk(top):
        relative = layout.relative(place)
        links = [name for name in folders if os.path.islink(f"{place}/{name}")]  # noqa: PTH114 - any bytes
        found += [f"{relative}/{name}" for name in sorted([*names, *links])]
        if len(found) > MOST_FILES or relative.count("/") - folder.count("/") >= DEEPEST:
            break
    return found


def _look_at(layout: Layout, path: str, *, shared: bool = False) -> WorkerLog:
    absolute = f"{layout.home}/{path}"
    shown = printable(path)
    try:
        problem = _objection(layout, absolute, os.lstat(absolute)) if _leads_out(layout, path) else ""
        status = os.lstat(absolute) if problem else os.stat(absolute)  # noqa: PTH116 - any bytes
        problem = problem or _objection(layout, absolute, status)
        if not problem and not os.access(absolute, os.R_OK):
            problem = refusal(PermissionError())
    except OSError as error:
        return WorkerLog(shown, shared=shared, problem=refusal(error))
    return WorkerLog(shown, status.st_size, status.st_mtime, shared, problem)


def names_exactly(worker_id: str) -> re.Pattern[bytes]:
    """What finds this very id in a line: `worker-1` is not in `worker-10`, but it is in `worker-1.json`."""
    name = re.escape(os.fsencode(worker_id))
    return re.compile(rb"(?<![\w.\x80-\xff-])" + name + rb"(?![\w\x80-\xff-])(?!\.(?!(?:json|log|pid|md|sh)\b)\w)")
