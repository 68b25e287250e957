"""External commands: detached, without a shell, their output in a file that cannot fill the disk."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from workers.coordination.redaction import redact_text
from workers.processes import descendants
from workers.remediation.ground import Ground
from workers.remediation.work import StepFailed, Work

PACE = 0.05  # seconds between two looks
KEPT = 20_000  # characters of output that are kept, its beginning and its end
MOST_OUTPUT = 8 * 1024 * 1024  # bytes on the disk, after which all but beginning and end are given back
NOT_THEIRS = ("RELAY_", "DJANGO_", "DATABASE_URL", "SECRET_KEY")  # of our environment


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int | None  # None: it did not within its time, and was killed
    output: str

    @property
    def last_words(self) -> str:
        """The end of what it printed, on one line."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return " / ".join(lines[-3:])[-500:] or "it printed nothing"


class Children:
    """Commands of this process that may outlive the step that has launched them. Safe for the executor's threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._awaited: dict[int, subprocess.Popen[bytes]] = {}  # by pid; some step is going to ask how it ended
        self._left: list[subprocess.Popen[bytes]] = []  # nobody asks any more

    def __len__(self) -> int:
        with self._lock:
            return len(self._awaited) + len(self._left)

    def add(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._awaited[process.pid] = process

    def get(self, pid: int) -> subprocess.Popen[bytes] | None:
        """The process that a step waits for, also if it has ended meanwhile; None where this process has none."""
        with self._lock:
            return self._awaited.get(pid)

    def leave(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for it no longer: it may go on, and is collected whenever it ends."""
        with self._lock:
            if self._awaited.get(process.pid) is process:  # the pid of one that has ended may be another's by now
                del self._awaited[process.pid]
            self._left.append(process)

    def reap(self) -> None:
        """Collect those that have ended, so that none stays a zombie of ours. How it ended stays with its waiter."""
        with self._lock:
            for process in self._awaited.values():
                process.poll()
            self._left = [process for process in self._left if process.poll() is None]


def launch(work: Work, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, in the home, so that it outlives this process. Raises StepFailed."""
    path = output_path(work)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THEIRS)}
    home = str(work.ground.layout.home)
    try:
        with path.open("ab") as output:
            # It is held by whatever has this output, also when this process is dead: see still_runs.
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(output.fileno(), 0)
            return subprocess.Popen(
                list(words),
                cwd=home,
                env={**environment, "COMMIT_RELAY_HOME": home, "CORTEX_HOME": home},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        raise StepFailed(f"{words[0]} cannot be run: {error}") from None


def run(work: Work, words: Sequence[str]) -> Done:
    """Run a command that is to return; one that does not is killed with all that it started."""
    process = launch(work, words)
    work.note(pid=process.pid)
    end = time.monotonic() + work.ground.patience.command
    try:
        while process.poll() is None and time.monotonic() < end:
            trim(output_path(work))
            work.ground.wait(PACE)
    finally:
        if process.poll() is None:
            kill(process)
    code = process.returncode if time.monotonic() < end or process.returncode == 0 else None
    output = keep_output(work)
    trim(output_path(work))
    if code is None:
        raise StepFailed(f"{words[0]} did not return within {work.ground.patience.command:g} s and was ended")
    return Done(code, output)


def still_runs(work: Work) -> bool:
    """Whether a command that was launched for this step, or what it has started, still runs, whoever launched it."""
    try:
        with output_path(work).open("rb") as output:
            fcntl.flock(output, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def outlast(work: Work) -> None:
    """Wait for a command that a killed process has left behind. Raises StepFailed."""
    end = time.monotonic() + work.ground.patience.command
    while still_runs(work):
        if time.monotonic() > end:
            raise StepFailed("The command from before the interruption still runs; look what it is doing")
        work.ground.wait(PACE)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a command of ours with all that it has started, also in groups and sessions of their own."""
    for pid in (process.pid, *descendants(process.pid)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def output_path(work: Work) -> Path:
    return work.ground.state / f"{work.remediation.pk}-{work.step.number}.log"


def trim(path: Path) -> None:
    """Give the middle of an output that grows without end back to the disk. Writing goes on meanwhile."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        found = os.fstat(file.fileno())
        if found.st_blocks * 512 <= MOST_OUTPUT:
            return
        try:
            _punch(file.fileno(), KEPT // 2, found.st_size - KEPT)
        except OSError:  # not on this file system: what comes between the next two lines is lost
            file.seek(-(KEPT // 2), os.SEEK_END)
            last = file.read()
            file.truncate(0)
            with path.open("ab") as end:
                end.write(last)


def _punch(descriptor: int, start: int, length: int) -> None:
    """Make a hole of a stretch of a file, which keeps its size. Raises OSError. Source: fallocate(2), Linux."""
    keep_size, punch_hole = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if libc.fallocate(descriptor, keep_size | punch_hole, start, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def keep_output(work: Work) -> str:
    """Store what a command has printed so far, redacted, with the record."""
    text = read_output(output_path(work))
    other = work.remediation.output
    work.remediation.output = text if not other or other in text else f"{other}\n{text}"[-2 * KEPT :]
    work.remediation.save(update_fields=["output"])
    return text


def read_output(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size <= KEPT:
                data = file.read(KEPT)
            else:
                head = file.read(KEPT // 2)
                file.seek(size - KEPT // 2)
                data = head + f"\n… {size - KEPT:,} bytes left out …\n".encode() + file.read(KEPT // 2)
    except OSError:
        return ""
    return redact_text(data.decode(errors="replace"))


def tidy(ground: Ground, keep: set[str]) -> None:
    """Keep the directory of outputs small: empty what has grown, remove what nobody asks for any more."""
    if not ground.state.is_dir():
        return
    for path in ground.state.glob("*.log"):
        trim(path)
        if path.stem.split("-")[0] not in keep and time.time() - path.stat().st_mtime > 86_400:
            path.unlink(missing_ok=True)
