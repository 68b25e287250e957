"""The demo's processes, as far as the director has started them itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from . import stand_ins
from .stand_ins import STAGE, Role

END_SECONDS = 1.5  # for all of them together, before what is left is killed
RESTART_PM_SECONDS = 20.0


class Troupe:
    """Starts and reaps workers, their companions and the PM daemon. Signals only what it has started itself.

    It holds the write end of the lifeline, on which every process of the demo waits, so they end with :meth:`close`
    and also when the process of this object dies in any other way.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.companions: dict[str, subprocess.Popen[bytes]] = {}
        self.pm: subprocess.Popen[bytes] | None = None
        self.pm_ended = 0.0
        alive = home / STAGE / "alive"
        # A new one each time: who still waits on the one before must not take this demo for its own.
        alive.unlink(missing_ok=True)
        os.mkfifo(alive, 0o600)
        self.lifeline = os.open(alive, os.O_RDWR | os.O_NONBLOCK)

    def launch(self, spec: dict[str, Any], role: Role, style: str) -> None:
        """Start a worker; see :func:`stand_ins.launch`."""
        self.workers[role.worker_id] = stand_ins.launch(self.home, spec, role, style)

    def accompany(self, worker_id: str) -> None:
        """Start a heartbeat emitter for a worker whose spec is in ``active/`` and has room for heartbeats."""
        wrapper = self.workers.get(worker_id)
        wrapper_pid = wrapper.pid if wrapper is not None else 2**22  # of one that is long gone
        self.companions[worker_id] = stand_ins.launch_emitter(self.home, worker_id, wrapper_pid)

    def launched(self, worker_id: str) -> bool:
        """Whether the worker ever had a process in this attempt or an earlier one."""
        return worker_id in self.workers or (self.home / "agents/workers" / worker_id / "worker.pid").exists()

    def lives(self, worker_id: str) -> bool:
        """Whether the worker has a process, be it from here or from ``start-worker.sh``."""
        wrapper = self.workers.get(worker_id)
        if wrapper is not None and wrapper.poll() is None:
            return True
        try:
            pid = int((self.home / "agents/workers" / worker_id / "worker.pid").read_text())
            return f"/{worker_id}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return False

    def dismiss_companion(self, worker_id: str) -> None:
        """End a worker's emitter, which could write its spec back after it has been moved."""
        companion = self.companions.pop(worker_id, None)
        if companion is not None and companion.poll() is None:
            companion.terminate()
            companion.wait()

    def reap(self, live: set[str]) -> None:
        """Collect who has ended, so that nobody stays a zombie in the other sense."""
        ended = {name for name, process in self.workers.items() if process.poll() is not None}
        for name in ended - live:
            del self.workers[name]
        for name in [name for name, process in self.companions.items() if process.poll() is not None]:
            del self.companions[name]

    def start_pm(self) -> None:
        log = self.home / "agents/logs/system/pm-daemon.out"
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        self.pm = stand_ins.start(["/bin/bash", f"{self.home}/scripts/pm-daemon.sh"], self.home, environment, log)
        self.pm_ended = 0.0

    def watch_pm(self, now: float) -> bool:
        """Start the PM daemon again some time after somebody has stopped it. Return whether that was now."""
        if self.pm is None or self.pm.poll() is None:
            return False
        self.pm_ended = self.pm_ended or now
        if now - self.pm_ended < RESTART_PM_SECONDS:
            return False
        self.start_pm()
        return True

    def close(self) -> None:
        """Let go of the lifeline, which ends everybody, and wait for those who were started here."""
        os.close(self.lifeline)
        mine = [*self.workers.values(), *self.companions.values(), *([self.pm] if self.pm else [])]
        deadline = time.monotonic() + END_SECONDS
        for process in mine:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in mine:
            if process.poll() is None:
                process.kill()
                process.wait()
