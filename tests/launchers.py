"""A coordination home with workers that are real processes, started the ways in which a fleet starts them.

Source: coordination-format.md, "What a running worker looks like to the OS". The work itself is done by a stand-in
called ``claude`` whose arguments name no worker.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from workers.coordination.records import PidFile, WorkerProcesses
from workers.ownership import Claim, ProcessTable

from .running import until

HOST = "relay-1"
CLAUDE = f"#!{sys.executable} -IS\nimport signal\nsignal.pause()\n"
BUSY_CLAUDE = f"#!{sys.executable} -IS\nwhile True:\n    pass\n"


class Fleet:
    """A home in which processes can be started and looked for. Everything started ends with :meth:`close`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.created_at = datetime.now(UTC) - timedelta(seconds=5)
        self.table = ProcessTable(home, HOST)
        self.groups: list[subprocess.Popen[bytes]] = []
        (home / "coordination/worker-specs/active").mkdir(parents=True, exist_ok=True)
        (home / "agents/workers").mkdir(parents=True, exist_ok=True)
        self.claude = self.script("bin/claude", CLAUDE)
        self.emitter = self.script("scripts/worker-heartbeat-emitter.sh", "#!/bin/bash\nwhile :; do sleep 60; done\n")

    def close(self) -> None:
        for process in self.groups:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.groups:
            process.communicate(timeout=10)

    # -- starting

    def script(self, path: str, text: str) -> Path:
        script = self.home / path
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(text)
        script.chmod(0o755)
        return script

    def start(self, *argv: str | Path, cwd: Path | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, in the home unless told otherwise."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(
            [str(arg) for arg in argv], cwd=cwd or self.home, start_new_session=True, **{**pipes, **options}
        )
        self.groups.append(process)
        return process

    def directory(self, worker_id: str) -> Path:
        directory = self.home / "agents/workers" / worker_id
        (directory / "logs").mkdir(parents=True, exist_ok=True)
        return directory

    def execute_sh(self, worker_id: str, *, emitter: bool = False, claude: Path | None = None) -> Path:
        """Write the wrapper that launcher v2.2 writes; it leaves its pid and waits for claude."""
        pulse = f"{self.emitter} {worker_id} $$ &\necho $! > heartbeat.pid\n" if emitter else ""
        work = f"{claude or self.claude} -p --dangerously-skip-permissions"
        text = f"#!/bin/bash\necho $$ > worker.pid.part\n{pulse}mv worker.pid.part worker.pid\n{work}\nexit $?\n"
        return self.script(f"agents/workers/{worker_id}/execute.sh", text)

    def headless(self, worker_id: str, *, emitter: bool = False, claude: Path | None = None) -> subprocess.Popen[bytes]:
        """Launcher v2.2: a wrapper with the id in its path, a pid file, and a claude that names nobody."""
        directory = self.directory(worker_id)
        script = self.execute_sh(worker_id, emitter=emitter, claude=claude)
        wrapper = self.start("/bin/bash", script, cwd=directory)
        until((directory / "worker.pid").exists)
        self.child_of(wrapper.pid, (claude or self.claude).name)
        if emitter:
            self.child_of(int((directory / "heartbeat.pid").read_text()), "sleep")
        return wrapper

    def terminal(self, worker_id: str) -> subprocess.Popen[bytes]:
        """Launcher v2: relative, no pid file, and a prompt as argument that mentions other workers."""
        prompt = f"Do {worker_id}, unlike\nworker-777 before; see agents/workers/worker-778/logs and worker-779 too"
        text = f"#!/bin/bash\n{self.claude} {shlex.quote(prompt)}\nexit $?\n"
        self.script(f"agents/workers/{worker_id}/execute.sh", text)
        wrapper = self.start("/bin/bash", "./execute.sh", cwd=self.directory(worker_id))
        self.child_of(wrapper.pid)
        return wrapper

    def start_worker(self, worker_id: str) -> subprocess.Popen[bytes]:
        """start-worker.sh: the id as an argument, everything in the root."""
        script = self.script("scripts/start-worker.sh", f"#!/bin/bash\n{self.claude} 'Read your spec'\nexit $?\n")
        wrapper = self.start("/bin/bash", script, worker_id)
        self.child_of(wrapper.pid)
        return wrapper

    def shell_worker(self, worker_id: str) -> subprocess.Popen[bytes]:
        """worker-daemon: a shell worker that is told who it is by its environment."""
        script = self.script("agents/workers/scan.sh", f"#!/bin/bash\n{self.claude} -p\nexit $?\n")
        environment = {**os.environ, "WORKER_ID": worker_id}
        worker = self.start("/bin/bash", script, "--task-id", "task-7", env=environment)
        self.child_of(worker.pid)
        return worker

    def emit_heartbeats(self, worker_id: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        emitter = self.start(self.emitter, worker_id, "4194000", cwd=cwd)
        self.child_of(emitter.pid, "sleep")
        return emitter

    @staticmethod
    def child_of(pid: int, command: str = "claude") -> int:
        """Wait until a process has a child that has become this command. Return the child's pid."""
        return Fleet.children_of(pid, command)[0]

    @staticmethod
    def children_of(pid: int, command: str = "claude", count: int = 1) -> list[int]:
        """Wait until a process has so many children of this command. Return their pids."""

        def children() -> list[int]:
            try:
                lines = {child.pid: child.cmdline() for child in psutil.Process(pid).children()}
            except psutil.NoSuchProcess:  # one that a shell forks for a moment
                return []
            found = [child for child, argv in lines.items() if any(Path(arg).name == command for arg in argv)]
            return found if len(found) == count else []

        return until(children)

    # -- looking

    def claim(self, worker_id: str, **known: Any) -> Claim:
        """Say what the directory says of a run, as the reader would."""
        directory = self.directory(worker_id)
        claim = {
            "worker_id": worker_id,
            "created_at": self.created_at,
            "worker_dir": str(directory),
            "pid_file": self.pid_file(directory / "worker.pid"),
            "companion": self.pid_file(directory / "heartbeat.pid"),
            "spec_pid": None,
            "spec_pid_written_at": None,
        }
        return Claim(**{**claim, **known})

    def pid_file(self, path: Path) -> PidFile | None:
        if not path.exists():
            return None
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return PidFile(int(path.read_text()), written, str(path.relative_to(self.home)))

    def write_pid(self, worker_id: str, pid: int, written_at: datetime | None = None) -> None:
        path = self.directory(worker_id) / "worker.pid"
        path.write_text(f"{pid}\n")
        if written_at:
            os.utime(path, (written_at.timestamp(), written_at.timestamp()))

    def find(self, *claims: Claim) -> list[WorkerProcesses]:
        """Look with a table of their own for the processes of these runs."""
        table = ProcessTable(self.home, HOST)
        table.refresh(time.time())
        found = table.assign(dict(enumerate(claims)))
        return [found[number] for number in range(len(claims))]

    def look(self, worker_id: str, **known: Any) -> WorkerProcesses:
        return self.find(self.claim(worker_id, **known))[0]


def pids(found: WorkerProcesses) -> list[int]:
    return [process.pid for process in found.tree]
