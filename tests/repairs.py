"""A workshop for the tests of remediations: a home, real workers in it, and an executor with little patience."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from workers.coordination.layout import Layout
from workers.cycle import Cycle
from workers.models import Remediation, Worker
from workers.remediation import ask
from workers.remediation.actions import ACTIONS
from workers.remediation.execute import Executor
from workers.remediation.ground import Ground, Patience

from .conftest import Home, iso
from .launchers import Fleet

PATIENCE = Patience(grace=0.5, death=1, start=5, command=5, settle=1)
COMMANDS = {
    "RELAY_START_WORKER": ("scripts/start-worker.sh", "--spec", "{spec}"),
    "RELAY_CREATE_TASK": (
        *("scripts/create-task.sh", "--description", "{description}", "--priority", "high"),
        *("--worker-type", "{worker_type}", "--metadata", "{metadata}"),
    ),
    "RELAY_EMIT_EVENT": (),
}
#: A start script that does its work and returns. It notes how it was called, and leaves what its worker needs.
START = """#!/bin/bash
printf '%s\\n' "$*" >> started
spec=$2; id=$(basename "$spec" .json); directory=$PWD/agents/workers/$id
mkdir -p "$directory"; cd "$directory"
setsid /bin/bash -c 'echo $$ > worker.pid; exec sleep 600' > /dev/null 2>&1 < /dev/null &
sed 's/"status": "pending"/"status": "running"/' "$spec" > "$spec.tmp" && mv "$spec.tmp" "$spec"
echo "worker $id launched"
"""
#: A script that queues a task, and notes how it was called.
CREATE = f"""#!{sys.executable} -IS
import json, os, sys
with open("created", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
path = "coordination/task-queue.json"
queue = json.load(open(path)) if os.path.exists(path) else {{"tasks": []}}
name = f"task-new-{{len(queue['tasks'])}}"
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
queue["tasks"].append({{"id": name, "description": options["--description"], "priority": options["--priority"]}})
json.dump(queue, open(path + ".part", "w"))
os.rename(path + ".part", path)
print(f"Created {{name}}")
"""
ACTIVE, FAILED = "coordination/worker-specs/active", "coordination/worker-specs/failed"
EVENTS = "coordination/dashboard-events.jsonl"


def ago(minutes: float) -> str:
    return iso(datetime.now(UTC) - timedelta(minutes=minutes))


class Workshop:
    """Ask for repairs and have them done here, in this very thread, without a poller."""

    def __init__(self, path: Path, state: Path) -> None:
        self.home, self.fleet = Home(path), Fleet(path)
        self.path, self.state = path, state
        self.fleet.script("scripts/start-worker.sh", START)
        self.fleet.script("scripts/create-task.sh", CREATE)
        self.started: list[int] = []
        self.person = self.somebody()
        self.executor = self.new_executor()

    @staticmethod
    def somebody(name: str = "kim", reason: str = "") -> ask.Person:
        return ask.Person(name, "command line", reason=reason)

    def ground(self, **values: Any) -> Ground:
        given = {"host": "host-a", "commands": COMMANDS, "state": self.state, "patience": PATIENCE, **values}
        return Ground(Layout(self.path), **given)

    def new_executor(self, **values: Any) -> Any:

        return Executor(self.ground(**values))

    def close(self) -> None:
        """End everything that was started here, also by scripts."""
        self.fleet.close()
        for process in in_home(self.path):
            process.kill()

    # -- the fleet

    def zombie(self, worker_id: str = "w-1", **values: Any) -> Path:
        return self.home.spec(worker_id, **{"execution__started_at": ago(20), **values})

    def stalled(self, worker_id: str = "w-1", **values: Any) -> Path:
        """A spec that says running, of a worker whose process is started by the caller."""
        return self.zombie(worker_id, **values)

    def cycle(self) -> None:
        """Let a poller look once, as one that has just been started does."""

        cycle = Cycle(self.path, "host-a", 2.0)
        cycle.start(datetime.now(UTC))
        cycle.run_once(datetime.now(UTC))

    def worker(self, worker_id: str = "w-1") -> Worker:

        return Worker.objects.filter(worker_id=worker_id).order_by("-live", "-created_at").first()  # type: ignore

    def worker_after_cycle(self, worker_id: str = "w-1") -> Worker:
        self.cycle()
        return self.worker(worker_id)

    # -- repairs

    def preview(self, action: str, worker_id: str = "w-1", *, recover: bool = False, reason: str = "") -> Remediation:
        """Look, then ask for a preview. Return it planned or refused."""

        self.cycle()
        person = self.somebody(reason=reason)
        if ACTIONS[action].runs:
            asked = ask.request(ACTIONS[action], person, self.worker(worker_id), recover=recover)
        else:
            asked = ask.place(ask.draft_for_host(ACTIONS[action], person, "host-a"))
        return self.attend(asked)

    def preview_undo(self, undone: Remediation) -> Remediation:

        return self.attend(ask.place(ask.draft_undo(self.person, undone)))

    def attend(self, remediation: Remediation) -> Remediation:
        self.executor.attend(remediation.pk)
        remediation.refresh_from_db()
        return remediation

    def confirm(self, remediation: Remediation, *, answered: bool = False, reason: str = "") -> Remediation:
        """Click: confirm it and have it done."""

        assert remediation.state == "planned", f"{remediation.state}: {remediation.error}"
        ask.confirm(remediation, self.somebody(reason=reason or remediation.reason), answered=answered)
        return self.attend(remediation)

    def repair(self, action: str, worker_id: str = "w-1", **values: Any) -> Remediation:
        """Preview and click."""
        return self.confirm(self.preview(action, worker_id, **values))

    def undo(self, undone: Remediation) -> Remediation:
        return self.confirm(self.preview_undo(undone))

    # -- what is there

    def read(self, relative: str) -> Any:
        return json.loads((self.path / relative).read_bytes())

    def exists(self, relative: str) -> bool:
        return (self.path / relative).exists()

    def events(self) -> list[dict[str, Any]]:
        path = self.path / EVENTS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self, name: str) -> list[str]:
        """How a script was called, line by line."""
        path = self.path / name
        return path.read_text().splitlines() if path.exists() else []

    def left_behind(self) -> list[str]:
        return sorted(path.name for path in self.path.rglob("*relay-tmp*"))


def steps(remediation: Remediation) -> dict[str, str]:
    return {step.kind: step.state for step in remediation.steps.order_by("number")}


def detail(remediation: Remediation, kind: str) -> str:
    return str(remediation.steps.get(kind=kind).detail)


def in_home(home: Path) -> list[Any]:
    """All processes that work in a home, but for this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and f"{process.cwd()}/".startswith(f"{os.path.realpath(home)}/"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def snapshot(home: Path, *, but: Iterable[str] = ()) -> dict[str, bytes]:
    """The content of every file of a home."""
    files = {str(path.relative_to(home)): path for path in home.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in set(but)}
