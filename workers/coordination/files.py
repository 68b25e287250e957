"""Files as they are on disk: read whole, and known again by their stamps. Nothing here waits for a pipe."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime

from .layout import Layout
from .records import FileStamp, Problem

#: The stamp of a file that was never read; it differs from every other.
NEVER = FileStamp(0, 0, 0, 0)
_LAST_MOMENT = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
#: Two writes within one tick of the kernel's clock (at most 10 ms) can leave one stamp: one so young proves nothing.
JUST_NOW_SECONDS = 0.05
#: Who writes in place (`cat > file`) is done within this time; what cannot be parsed before may only be half written.
TORN_SECONDS = 1.0


def stamp_of(status: os.stat_result) -> FileStamp:
    return FileStamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def moment_of(stamp: FileStamp) -> datetime:
    """Return the time of the last write. A file system may hold any number: years that no calendar has are cut off."""
    return datetime.fromtimestamp(min(max(stamp.mtime_ns / 1e9, 0.0), _LAST_MOMENT), UTC)


def written_by(stamp: FileStamp) -> datetime:
    """Return the latest moment at which a file can have been written.

    The time of a file can be set to any, one to come as well; that of its inode cannot.
    """
    return min(moment_of(stamp), moment_of(stamp._replace(mtime_ns=stamp.ctime_ns)))


def is_younger(stamp: FileStamp, seconds: float, now: float) -> bool:
    """Whether a file was written less than that long ago; one from the future was not."""
    return -1.0 < now - stamp.mtime_ns / 1e9 < seconds


def read_whole(path: str, limit: int, *, follow: bool = True) -> tuple[bytes, FileStamp] | Problem | None:
    """Read a file of at most ``limit`` bytes, with the stamp that it had before. None: it is gone.

    With ``follow`` false a path that is a link at this very moment is not read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return cannot_read(error)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Problem("No regular file, and so not read")
        if status.st_size > limit:
            return Problem(f"{megabytes(status.st_size)} long: files of more than {megabytes(limit)} are not read")
        data = _read_all(descriptor, status.st_size, limit)
    except OSError as error:
        return cannot_read(error)
    finally:
        os.close(descriptor)
    return data, stamp_of(status)


def _read_all(descriptor: int, size: int, limit: int) -> bytes:
    data = os.read(descriptor, size + 1)
    while size < len(data) <= limit and (more := os.read(descriptor, limit + 1 - len(data))):  # it grows meanwhile
        data += more
    return data


def cannot_read(error: OSError) -> Problem:
    """Say why the system refuses a file or a directory."""
    if isinstance(error, PermissionError):
        return Problem("It cannot be read: the poller's user lacks the permission")
    return Problem(f"It cannot be read: {(error.strerror or 'unknown error').lower()}")


def megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.3g} MiB"


def leads_out(target: str) -> Problem:
    """Say why a link is not followed."""
    return Problem(f"A link out of the home, to {printable(target)}: it is not followed")


def printable(path: str) -> str:
    """Write a path so that it can be stored and shown, also one that is not UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "")


class Listings:
    """The names in directories of the home, listed again only where a directory has changed."""

    def __init__(self, layout: Layout) -> None:
        self.version = 0  # grows with every listing that is not the one from before
        self.refused: dict[str, Problem] = {}  # directories that may not be listed, by path
        self._layout = layout
        self._home = f"{layout.home}/"
        self._known: dict[str, tuple[int, int]] = {}
        self._names: dict[str, Mapping[str, None]] = {}

    def names(self, path: str, now: float) -> Mapping[str, None]:
        """List a directory, ``path`` relative to the home; empty where it is gone, refused or outside of the home."""
        try:
            status = os.stat(self._home + path)  # noqa: PTH116 - hot
            state = (status.st_ino, status.st_mtime_ns)
            if self._known.get(path) != state:
                self._list(path)
                young = is_younger(stamp_of(status), JUST_NOW_SECONDS, now)
                self._known[path] = (0, 0) if young else state
        except (FileNotFoundError, NotADirectoryError):
            self._set(path, {}, None)
            self._known.pop(path, None)
        except OSError as error:
            self._set(path, {}, cannot_read(error))
        return self._names.get(path, {})

    def names_of(self, path: str) -> Mapping[str, None]:
        """Return the names as they were at the last look."""
        return self._names.get(path, {})

    def _list(self, path: str) -> None:
        if self._layout.inside(self._home + path):
            self._set(path, dict.fromkeys(os.listdir(self._home + path)), None)  # noqa: PTH208 - names only
        else:
            self._set(path, {}, leads_out(os.path.realpath(self._home + path)))

    def _set(self, path: str, names: Mapping[str, None], problem: Problem | None) -> None:
        if problem:
            self.refused[path] = problem
        else:
            self.refused.pop(path, None)
        if self._names.get(path, {}) != names:
            self.version += 1
            self._names[path] = names
