"""What wakes the poller before its timer does: changed files, a signal, the death of its parent."""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from watchfiles import Change, watch

logger = logging.getLogger(__name__)
Identity = tuple[int, int]  # device and inode
#: Each step wakes a thread: a shorter one costs an idle fleet processor time, a longer one delays what changed by two.
STEP_MS = 9
DEBOUNCE_MS = 20
#: How often it is asked whether the directories are still the same.
LOOK_MS = 500
#: How long a poller may take to end after its parent died.
LAST_WORDS_SECONDS = 5.0


class Alarm:
    """Wakes one waiting thread. Safe to use from a signal handler, which Condition and Event are not."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[frozenset[str]] = SimpleQueue()
        self.stopped = threading.Event()

    def stop(self, *_: object) -> None:
        """Ask the loop to end. A signal handler, too."""
        self.stopped.set()
        self._queue.put(frozenset())

    def report(self, paths: Iterable[str]) -> None:
        self._queue.put(frozenset(paths))

    def wait(self, seconds: float) -> set[str]:
        """Wait for changed paths or for the time to pass; return the paths, none after the full time."""
        if self.stopped.is_set():
            return set()
        try:
            paths = set(self._queue.get(timeout=max(seconds, 0)))
        except Empty:
            return set()
        with suppress(Empty):
            while True:
                paths |= self._queue.get_nowait()
        return paths

    def pause(self, seconds: float) -> None:
        """Let the time pass unless stopped; what changes meanwhile does not matter."""
        end = time.monotonic() + seconds
        while not self.stopped.is_set() and (left := end - time.monotonic()) > 0:
            self.wait(left)


def on_signals(alarm: Alarm) -> None:
    """Let SIGTERM and SIGINT end the loop between two cycles."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, alarm.stop)


def on_orphaned(alarm: Alarm) -> None:
    """End when the other end of stdin closes, which the kernel does however the parent dies."""

    def listen() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        alarm.stop()
        time.sleep(LAST_WORDS_SECONDS)  # a cycle that hangs must not outlive its parent
        os._exit(1)

    threading.Thread(target=listen, name="orphan watch", daemon=True).start()


class FileWatch:
    """Reports changed paths of the directories to the alarm until it is stopped.

    A directory may be missing, and come later: a fresh fleet has none for its workers yet, and a home may be mounted
    late or anew. The kernel watches what was there, so then the watch is built again.
    """

    def __init__(self, alarm: Alarm, directories: Iterable[Path]) -> None:
        self._alarm = alarm
        self._directories = list(directories)
        self._stop = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="file watch", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        there = self._there()
        came: set[str] = set()  # since the last watch was built
        try:
            while not self._stop.is_set():
                self._watch(there, came)
                before, there = there, self._there()
                came = {str(path) for path in there if there[path] != before.get(path)}
        except OSError as error:
            # Most often the kernel's number of watches. The timer sees the same changes, only later.
            logger.warning("Files cannot be watched, so changes show after the timer: %s", error)

    def _watch(self, there: dict[Path, Identity], came: set[str]) -> None:
        """Watch these directories for as long as they are the ones that are there, or until stopped.

        What has come is reported once the watch stands: whatever was written into it before is seen then.
        """
        if not there:
            self._stop.wait(LOOK_MS / 1000)
            return
        try:
            for changes in watch(
                *there,
                watch_filter=_wanted,
                step=STEP_MS,
                debounce=DEBOUNCE_MS,
                rust_timeout=LOOK_MS,
                yield_on_timeout=True,
                stop_event=self._stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                if paths := came | {path for _, path in changes}:
                    self._alarm.report(paths)
                came = set()
                if self._there() != there:
                    return
        except FileNotFoundError:  # it has gone at this very moment
            self._stop.wait(LOOK_MS / 1000)

    def _there(self) -> dict[Path, Identity]:
        """Which of the directories are there, and which they are: another one may have come under the same name."""
        found = {}
        for path in self._directories:
            with suppress(OSError):
                status = path.stat()
                if stat.S_ISDIR(status.st_mode):
                    found[path] = (status.st_dev, status.st_ino)
        return found


def _wanted(change: Change, path: str) -> bool:
    """Leave out what is only written on the way to something else, and logs, which the timer reads."""
    return not path.endswith((".tmp", ".log", ".swp", "~"))
