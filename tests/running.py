"""Starting the product's own commands as real processes, with an environment that is the test's alone."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


def until(condition: Callable[[], T], seconds: float = 30.0, what: str = "") -> T:
    """Wait until the condition holds; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.02)  # the pace of the question, not a guess at the answer


class Place:
    """A database and an environment for commands that run as processes of their own."""

    def __init__(self, tmp_path: Path, home: Path | None) -> None:
        self.database = tmp_path / "relay.sqlite3"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "COMMIT_RELAY"))},
            "DATABASE_URL": f"sqlite:///{self.database}",
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "RELAY_HOST": "host-a",
            "RELAY_POLL_SECONDS": "0.2",
            "PYTHONUNBUFFERED": "1",
            **({"COMMIT_RELAY_HOME": str(home)} if home else {}),
        }
        self.processes: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *arguments: str) -> Any:
        """Run a command with ``--json`` and return what it printed as its last line."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database from outside; nothing where the table is not there yet."""
        try:
            with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10) as connection:
                return connection.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return []

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()


def read_until(process: subprocess.Popen[str], pattern: str, seconds: float = 60.0) -> re.Match[str]:
    """Read a process' output line by line until one fits."""
    deadline = time.monotonic() + seconds
    lines = []
    assert process.stdout is not None
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        if not line:
            break
        lines.append(line)
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"no line like {pattern!r} in:\n{''.join(lines)}")


def lives(pid: int) -> bool:
    """Whether a process lives; one that is only not waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> set[int]:
    """All living descendants of a process."""
    found: set[int] = set()
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    queue = [pid]
    while queue:
        for child in parents.get(queue.pop(), []):
            found.add(child)
            queue.append(child)
    return found
