"""The only module that writes into a coordination home. Paths are relative to the home, with ``/``.

A file exists at every instant, whole, in at least one place: a new one is written beside the old under a name of its
own, reaches the disk, and only then takes the name. The fleet's scripts all use ``<file>.tmp`` and empty each other's
files (coordination-format.md, traps 8, 10 and 12); our temporary names are hidden, end in no ``.json``, and carry a
token of the caller, so that whoever finishes a killed writer's work finds what it left (:func:`clear`).

Nothing is written outside the home. The directory of a path is opened step by step without following a link, and all
that is done there is done relative to it: what happens to its name meanwhile leads no write astray.

Every function raises :class:`WriteError` where the system refuses, and says what to do about it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import PurePath
from typing import NamedTuple

from .files import megabytes, printable
from .layout import Layout, is_path_part

#: More is neither read nor compared, in bytes.
LARGEST = 64 * 1024 * 1024
_CHUNK = 1024 * 1024
_ENDING = "relay-tmp"
_LONGEST_NAME = 255
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")  # without a dot: one token is never the end of another
#: What a file system answers that has no hard links, or that keeps a user from linking another user's file.
_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_CAUSES = {
    errno.ENOSPC: "the disk is full; make room and try again",
    errno.EDQUOT: "the disk quota of this user is used up; make room and try again",
    errno.EFBIG: "it is larger than this process may write; raise the limit (ulimit -f) and try again",
    errno.EROFS: "its file system is read-only; mount it writable and try again",
    errno.EACCES: "this user lacks the permission; give it the right to read and write there, or use the fleet's user",
    errno.EPERM: "the system does not permit it to this user; use the fleet's user, and look for an immutable flag",
    errno.ELOOP: "it is a symbolic link, and none is followed; put the file itself in its place",
    errno.ENOTDIR: "what should be its directory is none; move that out of the way",
    errno.EISDIR: "a directory stands in its place; move that out of the way",
    errno.ENAMETOOLONG: "its name is too long; shorten it",
    errno.EXDEV: "the two directories are on different file systems; move the file by hand",
    errno.EIO: "the disk reports an error; look at the system's log",
}


class ChangedError(Exception):
    """A file is not what the caller expected: somebody else was there. One plain sentence."""


class WriteError(Exception):
    """Why the system, or our own caution, refuses to write: one plain sentence with the path and what to do."""


def read(layout: Layout, path: str) -> bytes | None:
    """Read a file whole. None: it is gone. WriteError for a link, no regular file, and more than :data:`LARGEST`."""
    with _spot(layout, path) as spot:
        found = _read(spot) if spot else None
    return found.data if found else None


def replace(layout: Layout, path: str, data: bytes, *, expected: bytes, token: str) -> None:
    """Give a file new content, with the mode and, where permitted, the owner that it has.

    ChangedError where it does not say ``expected``, at first or once the new file is complete. What somebody renames
    onto it between that last look and our own rename, some ten microseconds later, is lost: nobody here takes a lock.
    """
    with _spot(layout, path) as spot:
        if spot is None:
            raise _changed(path, gone=True)
        status = _expect(spot, expected)
        temporary = _write_beside(spot, data, token, status)
        with _removed_on_failure(temporary):
            _expect(spot, expected)
            os.rename(temporary.name, spot.name, src_dir_fd=spot.folder, dst_dir_fd=spot.folder)
        _sync(spot.folder)


def place(layout: Layout, path: str, data: bytes, *, token: str, like: str = "") -> None:
    """Make a file that is not there yet, and the directories that lead to it.

    ``like`` is the path of a file whose mode and owner it takes, where there is such a file. ChangedError where
    something stands at the path already, whatever it is.
    """
    model = _status_at(layout, like) if like else None
    with _made_spot(layout, path) as spot:
        temporary = _write_beside(spot, data, token, model)
        with _removed_on_failure(temporary):
            _move(temporary, spot)


def set_aside(layout: Layout, path: str, *, announce: Callable[[str], None] | None = None) -> str:
    """Give a file another, free name in its directory (``<stem>-earlier-<n>.json``), and return that path.

    It is linked to the new name before the old one goes, and overwrites nothing. "" where there is nothing at the path.
    ``announce`` hears the path before each try, so that it can be noted by who may be killed before the answer.
    """
    with _spot(layout, path) as spot:
        if spot and _status(spot):
            name = PurePath(spot.name)
            for number in count(1):
                free = spot.beside(f"{name.stem}-earlier-{number}{name.suffix}")
                if announce:
                    announce(free.path)
                try:
                    _move(spot, free)
                except _TakenError:
                    continue
                return free.path
    return ""


def remove(layout: Layout, path: str, *, expected: bytes) -> bool:
    """Remove a file if it says ``expected``; False where it is gone already, ChangedError where it says something else.

    It is compared and removed at once. What somebody renames onto it in these microseconds is removed instead; to move
    it away first and look at leisure would leave readers without a file, for ever if we died there.
    """
    with _spot(layout, path) as spot:
        found = _read(spot) if spot else None
        if spot is None or found is None:
            return False
        if found.data != expected:
            raise _changed(path)
        try:
            os.unlink(spot.name, dir_fd=spot.folder)
        except FileNotFoundError:
            return False
        _sync(spot.folder)
    return True


def rename(layout: Layout, source: str, target: str) -> None:
    """Move a file, and make the directories that lead to its new place.

    It has both names for a moment and is never without one; a rename that was killed there is finished by the next.
    ChangedError where something else stands at the target, where the source is gone, and where somebody wrote a newer
    one under its old name meanwhile (which then stays, alone); what comes there in the microseconds between that look
    and the end is lost.
    """
    with _spot(layout, source) as old:
        if old is None or _status(old) is None:
            raise _changed(source, gone=True)
        with _made_spot(layout, target) as new:
            _move(old, new)


def append_line(layout: Layout, path: str, line: bytes) -> int:
    """Append one line in one write, on a line of its own even where the last one was never finished.

    Makes the file, and the directories that lead to it. Returns the size that the file had before. WriteError where
    the line did not fit: what is left of it is then an unfinished line, which the next one ends.
    """
    line = line.removesuffix(b"\n")
    if b"\n" in line:
        raise ValueError("A line has no line break within")
    with _made_spot(layout, path) as spot:
        with _closed(_open(spot, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)) as descriptor:
            before = _append(path, descriptor, line)
        if before == 0:
            _sync(spot.folder)
    return before


def clear(layout: Layout, folder: str, token: str) -> None:
    """Remove the temporary files that a writer with this token left in a directory, and nothing else."""
    ending = f".{_checked(token)}.{_ENDING}"
    with _spot(layout, f"{folder}/{ending}" if folder else ending) as spot:
        for name in os.listdir(spot.folder) if spot else ():  # noqa: PTH208 - pathlib cannot list an open directory
            if spot and name.startswith(".") and name.endswith(ending):
                _remove_temporary(spot.beside(name))


# --- where ------------------------------------------------------------------------------------------------------------


class _Spot(NamedTuple):
    """A name in an open directory."""

    path: str  # relative to the home
    folder: int  # the descriptor of the directory
    name: str

    def beside(self, name: str) -> _Spot:
        return self._replace(path=f"{self.path.rpartition('/')[0]}/{name}".lstrip("/"), name=name)


@contextmanager
def _spot(layout: Layout, path: str) -> Iterator[_Spot | None]:
    """Open the directory of a path. None: there is none. What the system refuses meanwhile becomes a WriteError."""
    with _plainly(path):
        try:
            descriptor = _open_directory(layout, _folder_of(path))
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        with _closed(descriptor):
            yield _Spot(path, descriptor, path.rpartition("/")[2])


@contextmanager
def _made_spot(layout: Layout, path: str) -> Iterator[_Spot]:
    """Make and open the directory of a path."""
    with _plainly(path), _closed(_open_directory(layout, _folder_of(path), make=True)) as descriptor:
        yield _Spot(path, descriptor, path.rpartition("/")[2])


@contextmanager
def _closed(descriptor: int) -> Iterator[int]:
    """Close a descriptor in the end, whatever happens."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _folder_of(path: str) -> str:
    folder, _, name = path.rpartition("/")
    if not is_path_part(name):
        raise _no_path(path)
    return folder


def _open_directory(layout: Layout, folder: str, *, make: bool = False) -> int:
    if folder and not all(is_path_part(part) for part in folder.split("/")):
        raise _no_path(folder)
    real = os.path.realpath(layout.home / folder)  # a link within the home may lead to another place of the home
    if not layout.inside(real):
        raise WriteError(f"{printable(folder)}: it leads out of the home, to {printable(real)}; nothing is done there")
    return _walk(layout.real_home, os.path.relpath(real, layout.real_home).split("/"), make)


def _walk(start: str, parts: list[str], make: bool) -> int:
    """Open a directory step by step; a part that has become a link since it was resolved is not followed."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(start, flags)
    for part in parts:
        outer = descriptor
        try:
            if make:
                _make(outer, part)
            descriptor = os.open(part, flags, dir_fd=outer)
        finally:
            os.close(outer)
    return descriptor


def _make(folder: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder)
        _sync(folder)


# --- what stands there ------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    data: bytes
    status: os.stat_result


def _status(spot: _Spot) -> os.stat_result | None:
    """Look at a file. None: it is gone. WriteError where it is a link or no regular file."""
    status = _lstat(spot)
    if status:
        _refuse_irregular(spot.path, status)
    return status


def _lstat(spot: _Spot) -> os.stat_result | None:
    try:
        return os.stat(spot.name, dir_fd=spot.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _status_at(layout: Layout, path: str) -> os.stat_result | None:
    with _spot(layout, path) as spot:
        return _status(spot) if spot else None


def _refuse_irregular(path: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _refusal(path, errno.ELOOP)
    if not stat.S_ISREG(status.st_mode):
        raise WriteError(f"{printable(path)}: it is no regular file; move it out of the way")


def _open(spot: _Spot, flags: int, mode: int = 0) -> int:
    """Open a regular file, without following a link or waiting for a pipe."""
    descriptor = os.open(spot.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=spot.folder)
    try:
        _refuse_irregular(spot.path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(spot: _Spot) -> _Found | None:
    try:
        descriptor = _open(spot, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with _closed(descriptor):
        data = bytearray()
        while part := os.read(descriptor, _CHUNK):
            data += part
            if len(data) > LARGEST:
                raise WriteError(f"{printable(spot.path)}: it is larger than {megabytes(LARGEST)}; look what is in it")
        return _Found(bytes(data), os.fstat(descriptor))


def _expect(spot: _Spot, expected: bytes) -> os.stat_result:
    """ChangedError where a file does not say what is expected."""
    found = _read(spot)
    if found is None or found.data != expected:
        raise _changed(spot.path, gone=found is None)
    return found.status


# --- writing ----------------------------------------------------------------------------------------------------------


def _checked(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{token!r} cannot be a token: up to 64 letters, digits, - and _ can")
    return token


def _write_beside(spot: _Spot, data: bytes, token: str, model: os.stat_result | None) -> _Spot:
    """Write a temporary file and wait until it is on the disk; on failure there is none."""
    end = f".{_checked(token)}.{_ENDING}"
    name = os.fsdecode(os.fsencode(spot.name)[: _LONGEST_NAME - 1 - len(end)])
    temporary = spot.beside(f".{name}{end}")
    _remove_temporary(temporary)  # what an earlier try with this token left
    flags, mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if model else 0o644
    with _removed_on_failure(temporary), _closed(_open(temporary, flags, mode)) as descriptor:
        if model:
            _make_like(descriptor, model)  # before anything is in it that not everybody may read
        _write_all(descriptor, data)
        os.fsync(descriptor)
    return temporary


def _make_like(descriptor: int, model: os.stat_result) -> None:
    os.fchmod(descriptor, stat.S_IMODE(model.st_mode))
    mine = os.fstat(descriptor)
    with suppress(PermissionError):  # only root gives files away, and others only to a group of theirs
        if mine.st_gid != model.st_gid:
            os.fchown(descriptor, -1, model.st_gid)
        if mine.st_uid != model.st_uid:
            os.fchown(descriptor, model.st_uid, -1)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _append(path: str, descriptor: int, line: bytes) -> int:
    size = os.fstat(descriptor).st_size
    unfinished = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    whole = b"\n" * unfinished + line + b"\n"
    written = os.write(descriptor, whole)
    if written < len(whole):  # the rest could land behind somebody else's line, and nobody's line may be cut off
        raise WriteError(f"{printable(path)}: only a part of the line fitted; make room and try again")
    os.fsync(descriptor)
    return os.lseek(descriptor, 0, os.SEEK_CUR) - written  # others may have appended since we looked


class _TakenError(ChangedError):
    """Another file has the name."""


def _move(source: _Spot, target: _Spot) -> None:
    """Give a file another name that is free; where a killed process gave it that name already, finish its work."""
    try:
        os.link(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder, follow_symlinks=False)
    except FileExistsError as error:
        if not _is_half_moved(source, target):
            raise _taken(target) from error
    except OSError as error:
        if error.errno == errno.ENOENT and not _lstat(source):
            raise _changed(source.path, gone=True) from error
        if error.errno not in _NO_LINKS:
            raise
        _move_without_link(source, target)
        return
    else:
        _refuse_newer(source, target)
    _sync(target.folder)
    with suppress(FileNotFoundError):
        os.unlink(source.name, dir_fd=source.folder)
    _sync(source.folder)


def _refuse_newer(source: _Spot, target: _Spot) -> None:
    """Take a link back where somebody has renamed a newer file onto the source since: its content must not be lost."""
    if _lstat(source) and not _are_one_file(source, target):
        os.unlink(target.name, dir_fd=target.folder)
        raise _changed(source.path)


def _move_without_link(source: _Spot, target: _Spot) -> None:
    """Take the name with an empty file that only one can make, and rename onto that.

    Killed in between, the empty file stays: the price of a file system without hard links.
    """
    try:
        os.close(os.open(target.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=target.folder))
    except FileExistsError as error:
        raise _taken(target) from error
    try:
        os.rename(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)
    except BaseException:
        os.unlink(target.name, dir_fd=target.folder)
        raise
    _sync(target.folder)
    _sync(source.folder)


def _are_one_file(source: _Spot, target: _Spot) -> bool:
    first, second = _lstat(source), _lstat(target)
    return first is not None and second is not None and os.path.samestat(first, second)


def _is_half_moved(source: _Spot, target: _Spot) -> bool:
    """Whether one file has both names. Two ways to write one name (a link on the way, other case) are not that."""
    status = _lstat(source)
    if status is None or status.st_nlink < 2 or not _are_one_file(source, target):
        return False
    return source.name != target.name or not os.path.samestat(os.fstat(source.folder), os.fstat(target.folder))


@contextmanager
def _removed_on_failure(temporary: _Spot) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the failure itself is what the caller has to know
            _remove_temporary(temporary)
        raise


def _remove_temporary(temporary: _Spot) -> None:
    status = _lstat(temporary)
    if status and stat.S_ISREG(status.st_mode):
        with suppress(FileNotFoundError):
            os.unlink(temporary.name, dir_fd=temporary.folder)


def _sync(folder: int) -> None:
    """Let a directory reach the disk, where its file system knows such a thing."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise


# --- in plain words ---------------------------------------------------------------------------------------------------


@contextmanager
def _plainly(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refusal(path, error.errno or 0) from error


def _refusal(path: str, number: int) -> WriteError:
    cause = _CAUSES.get(number, f"the system refuses ({os.strerror(number).lower()}); see whether it still is there")
    return WriteError(f"{printable(path) or 'The home'}: {cause}")


def _no_path(path: str) -> WriteError:
    return WriteError(f"{printable(path) or 'An empty path'}: this is no path inside the home; nothing is done there")


def _changed(path: str, *, gone: bool = False) -> ChangedError:
    what = "it is gone" if gone else "somebody has changed it since it was read"
    return ChangedError(f"{printable(path)}: {what}")


def _taken(spot: _Spot) -> _TakenError:
    return _TakenError(f"{printable(spot.path)}: something stands there already, and nothing is overwritten")
