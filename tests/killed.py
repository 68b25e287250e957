"""Kill an executor with SIGKILL after each single thing that it does, and let the next poller go on.

A program of its own, since it forks: ``python -m tests.killed ACTION DIRECTORY`` prints one JSON object for each place
where the executor was killed, and a last one for the run that came to its end. What lasts beyond a process counts as
one thing: a commit, a name in a directory, bytes in a file, a signal, a started process. Between two of them nothing
changes on disk, so that "killed before the next" is the same as "killed after this one".
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from workers.coordination.layout import Layout
from workers.management.commands import poll as poll_command
from workers.models import Remediation, Worker
from workers.remediation import ask
from workers.remediation.actions import ACTIONS as TABLE
from workers.remediation.execute import Executor
from workers.remediation.ground import Ground
from workers.remediation.steps import memory, spec, start, stop

from .repairs import COMMANDS, CREATE, PATIENCE, START, ago, snapshot
from .running import until

ACTIONS = {
    "restart": "restart",
    "clean-up": "clean-up",
    "clean-up --recover": "clean-up",
    "force-fail": "force-fail",
    "recover-task": "recover-task",
    "archive-failed": "archive-failed",
    "repair-spec": "repair-spec",
    "quarantine": "quarantine",
    "undo of repair-spec": "repair-spec",
    "undo of quarantine": "quarantine",
    "undo of clean-up": "clean-up",
    "undo of force-fail": "force-fail",
    "undo of archive-failed": "archive-failed",
}
SPEC = """{ "worker_id" : "w-1",  "status":"running","z":1,
\t"created_at": "%s", "task_id": "task-1", "task_data": {"description": "x"}, "status": "running",
  "worker_type": "scan-worker", "execution" : {"started_at":"%s" , "host": null}, "a":[1, 2]}
"""
EARLIER = b'{"worker_id": "w-1", "status": "failed", "created_at": "2025-01-01T00:00:00Z"}\n'
LIVING = ("restart", "force-fail")
#: Of a file that cannot be parsed: a value is missing in it.
OF_FILE = ("repair-spec", "quarantine")
BLANK, FILLED = b'"a": ,', b'"a": null,'
EVENT = {
    "restart": [],
    "recover-task": [],
    "clean-up": ["worker_zombie_cleaned"],
    "clean-up --recover": ["worker_zombie_cleaned"],
    "force-fail": ["worker_force_failed"],
    "archive-failed": ["failed_workers_archived"],
    "repair-spec": ["worker_spec_repaired"],
    "quarantine": ["worker_spec_quarantined"],
}
ACTIVE = "coordination/worker-specs/active/w-1.json"
FAILED = "coordination/worker-specs/failed/w-1.json"
ASIDE = "coordination/worker-specs/failed/w-1-earlier-1.json"


class Killer:
    """Counts what lasts, and ends this process after one of them."""

    def __init__(self, number: int, log: Path) -> None:
        self.number, self.log, self.count = number, log, 0

    def after(self, what: str) -> None:
        self.count += 1
        if self.count == self.number:
            self.log.write_text(f"{step_now()}\t{what}")
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, name: str, what: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            value = original(*args, **options)
            if label := what(*args, **options):
                self.after(label)
            return value

        setattr(owner, name, wrapped)

    def arm(self) -> None:

        self.wrap(os, "open", lambda *args, **_: "create a file" if args[1] & os.O_CREAT else "")
        for name in ("rename", "link", "unlink", "mkdir", "rmdir"):
            self.wrap(os, name, lambda *args, _name=name, **_: f"{_name} {Path(os.fsdecode(args[0])).name}")
        self.wrap(os, "write", lambda *_: "write")
        self.wrap(subprocess, "Popen", lambda words, **_: f"start {Path(words[0]).name}")
        self.wrap(signal, "pidfd_send_signal", lambda _, number: f"signal {int(number)}")
        self.wrap(BaseDatabaseWrapper, "_commit", lambda _: "commit")
        self.wrap(CursorWrapper, "execute", _auto_commits)


def _auto_commits(cursor: Any, sql: str, *_: Any) -> str:
    changes = sql.startswith(("INSERT", "UPDATE", "DELETE")) and not cursor.db.in_atomic_block
    return f"{sql.split()[0].lower()} {sql.split(chr(34))[1].removeprefix('workers_')}" if changes else ""


_current: list[str] = ["claim"]


def step_now() -> str:
    return _current[0]


@dataclass
class Bench:
    """One action, prepared once; each kill gets a copy."""

    name: str
    root: Path

    def prepare(self) -> None:
        """Make the home and the database that all copies start from."""
        place = self.root / "place"  # a database stays with its home, so that all copies lie at one path
        home = place / "home"
        for folder in ("worker-specs/active", "worker-specs/failed"):
            (home / "coordination" / folder).mkdir(parents=True)
        (home / "agents/workers/w-1").mkdir(parents=True)
        scripts = {"start-worker.sh": START, "create-task.sh": CREATE}
        for script, text in scripts.items():
            path = home / "scripts" / script
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        spec = (SPEC % (ago(30), ago(20))).encode()
        failed = spec.replace(b"running", b"failed")
        action = ACTIONS[self.name]
        if action in OF_FILE:
            spec = spec.replace(b'"a":[1, 2]', b'"a": ,"b": 2')
        active = action not in ("recover-task", "archive-failed")
        specs = home / "coordination" / "worker-specs"
        (specs / ("active" if active else "failed") / "w-1.json").write_bytes(spec if active else failed)
        if active:
            (specs / "failed" / "w-1.json").write_bytes(EARLIER)
        else:
            (specs / "failed" / "w-2.json").write_bytes(failed.replace(b"w-1", b"w-2"))
        entries = {"w-1": {"status": "running", "seen": 3}, "w-10": {"status": "running"}}
        pm = {"monitored_workers": entries, "processes": {}}
        (home / "coordination" / "pm-state.json").write_text(json.dumps(pm, indent=2))
        (home / "coordination" / "dashboard-events.jsonl").write_text('{"type": "earlier", "data": {}}\n')
        in_child(lambda: (use(place), poll()))
        self.original = snapshot(home)
        if self.name.startswith("undo"):
            in_child(lambda: repair(place, action))
        place.rename(self.root / "template")

    def copies(self) -> Iterator[dict[str, Any]]:
        number, ended = 0, False
        while not ended:
            number += 1
            place = self.root / "place"
            shutil.copytree(self.root / "template", place, symlinks=True)
            result = self.kill_once(place, number)
            ended = result["step"] == ""
            place.rename(self.root / f"place-{number}") if result["trouble"] else shutil.rmtree(place)
            yield result

    def kill_once(self, place: Path, number: int) -> dict[str, Any]:
        log = place / "killed"
        if self.name in LIVING:
            in_child(lambda: start_worker(place / "home"))
        before = what_is_there(place)
        in_child(lambda: self._do(place, Killer(number, log)), killed=True)
        at_once = None if not log.exists() else self.whole_somewhere(place / "home")
        if log.exists():
            in_child(lambda: (use(place), poll()))
        step, _, after = log.read_text().partition("\t") if log.exists() else ("", "", "")
        after_all = what_is_there(place)
        trouble = [] if at_once in (None, "") else [f"in between: {at_once}"]
        trouble += look_for_trouble(self.name, self.original, before["events"], after_all)
        for process in psutil.process_iter(["cwd"]):
            if (process.info["cwd"] or "").startswith(f"{place}/"):
                process.kill()
        return {"number": number, "step": step, "after": after, "outcome": after_all["state"], "trouble": trouble}

    def whole_somewhere(self, home: Path) -> str:
        if ACTIONS[self.name] not in OF_FILE:
            return whole_somewhere(home)
        damaged = self.original[ACTIVE]
        found = {path.read_bytes() for path in (home / "coordination/worker-specs").rglob("*.json")}
        strange = found - {damaged, damaged.replace(BLANK, FILLED), EARLIER}
        return "a file that nobody wrote" if strange else "" if found - {EARLIER} else "the spec is nowhere"

    def _do(self, place: Path, killer: Killer) -> None:
        use(place)
        undone = None
        if self.name.startswith("undo"):
            from workers.models import Remediation

            undone = Remediation.objects.get()
        action = "undo" if undone else ACTIONS[self.name]
        repair(place, action, undone=undone, killer=killer, recover="--recover" in self.name)


def use(place: Path) -> None:
    """Let this process have its home and database here."""

    database = place / "relay.sqlite3"
    for configured in (settings.DATABASES["default"], connections.settings["default"]):
        configured["NAME"] = str(database)
    connections["default"].settings_dict["NAME"] = str(database)
    settings.RELAY_HOME, settings.RELAY_STATE = place / "home", place / "state"


def ground(place: Path) -> Any:

    return Ground(Layout(place / "home"), "host-a", COMMANDS, place / "state/remediations", PATIENCE)


def poll() -> None:
    """``manage.py poll --once``, with little patience."""

    with Path(os.devnull).open("w") as nothing:
        call_command("poll", "--once", stdout=nothing)


def start_worker(home: Path) -> None:
    """Start what is to be stopped: a wrapper with a child, as a launcher leaves them."""
    folder = home / "agents/workers/w-1"
    script = "echo $$ > worker.pid; sleep 600 & touch ready; exec sleep 601"
    psutil.Popen(["/bin/bash", "-c", script], cwd=folder, start_new_session=True, stdout=-3, stdin=-3)
    until((folder / "ready").exists)


def repair(
    place: Path, action: str, *, undone: Any = None, killer: Killer | None = None, recover: bool = False
) -> None:
    """Ask, confirm and carry out, as an executor does; killed on the way if somebody is to."""
    use(place)

    person = ask.Person("kim", "command line")
    if undone:
        draft = ask.draft_undo(person, undone)
    elif TABLE[action].runs:
        worker = Worker.objects.filter(worker_id="w-1").order_by("-live", "-created_at").first()
        assert worker is not None
        draft = ask.draft(TABLE[action], person, worker, recover=recover)
    else:
        draft = ask.draft_for_host(TABLE[action], person, "host-a")
    remediation = ask.place(draft)
    executor = Executor(ground(place))
    executor.attend(remediation.pk)
    remediation.refresh_from_db()
    assert remediation.state == "planned", remediation.error
    ask.confirm(remediation, person)
    if killer:
        note_steps(executor)
        killer.arm()
    executor.attend(remediation.pk)
    state = Remediation.objects.get(pk=remediation.pk)
    assert state.state == "done", (state.state, state.error)


def note_steps(executor: Any) -> None:
    do = executor._do

    def noted(remediation: Any, step: Any) -> Any:
        _current[0] = step.kind
        return do(remediation, step)

    executor._do = noted


def in_child(act: Callable[[], Any], *, killed: bool = False) -> None:
    """Do something in a forked process, that may be killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and killed and os.WTERMSIG(status) == signal.SIGKILL:
        return
    if status:
        raise SystemExit(f"a child ended with {status}")


# -- looking


def what_is_there(place: Path) -> dict[str, Any]:
    home = place / "home"
    files = snapshot(home)
    with sqlite3.connect(f"file:{place / 'relay.sqlite3'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT state, error, holds FROM workers_remediation ORDER BY id").fetchall()
        asides = connection.execute(
            "SELECT json_extract(data, '$.aside') FROM workers_remediationstep WHERE kind = 'move'"
        ).fetchall()
    state, error, holds = rows[-1] if rows else ("", "", 0)
    queue = json.loads(files.get("coordination/task-queue.json", b'{"tasks": []}'))
    folder = str(home / "agents/workers/w-1")
    workers = [each.info["name"] for each in psutil.process_iter(["name", "cwd"]) if each.info["cwd"] == folder]
    return {
        "files": files,
        "state": f"{state}{f': {error}' if error else ''}",
        "holds": holds,
        "events": [json.loads(line)["type"] for line in files["coordination/dashboard-events.jsonl"].splitlines()],
        "tasks": [task["id"] for task in queue["tasks"]],
        "workers": workers,
        "asides": asides,
        "pm": set(json.loads(files["coordination/pm-state.json"])["monitored_workers"]),
    }


def whole_somewhere(home: Path) -> str:
    """Say what is wrong with the run's spec at this very moment; "" where it is whole in at least one place."""
    found = [path.read_bytes() for path in (home / "coordination/worker-specs").rglob("*.json")]
    try:
        documents = [json.loads(data) for data in found]
    except ValueError as error:
        return f"a broken file: {error}"
    return "" if any(each.get("task_id") == "task-1" for each in documents) else "the spec is nowhere"


def look_for_trouble(name: str, original: dict[str, bytes], events: list[str], after: dict[str, Any]) -> list[str]:
    """Compare with what has to be there once the action is done, wherever its executor was killed."""
    files = after["files"]
    specs = {path: data for path, data in files.items() if "/worker-specs/" in path}
    was = {path: data for path, data in original.items() if "/worker-specs/" in path}
    facts = {
        "it is done": after["state"] == "done",
        "its worker is judged again": not after["holds"],
        "no temporary file is left": not [path for path in files if "relay-tmp" in path or path.endswith(".tmp")],
        "each event is there once": after["events"] == events + EVENT.get(name, ["remediation_undone"]),
        "the task is there once": after["tasks"] == ["task-new-0"] * (name in ("clean-up --recover", "recover-task")),
    }
    if name == "restart":
        facts |= {
            "one worker lives": after["workers"] == ["sleep"],
            "it was started once": files["started"].count(b"\n") == 1,
            "the spec says running": json.loads(specs[ACTIVE]) == without_start(json.loads(was[ACTIVE])),
            "nothing else moved": specs.keys() == was.keys() and specs[FAILED] == EARLIER,
        }
    elif name in ("clean-up", "clean-up --recover", "force-fail"):
        spec = json.loads(specs.get(FAILED, b"{}"))
        facts |= {
            "no process is left": not after["workers"],
            "the spec is in failed/ alone": specs.keys() == {FAILED, ASIDE},
            "it says failed": (spec.get("status"), spec.get("task_id"), spec.get("a")) == ("failed", "task-1", [1, 2]),
            "the earlier one is kept": specs.get(ASIDE) == EARLIER,
            "an undo will know its name": after["asides"] == [(ASIDE,)],
            "the PM has forgotten it alone": after["pm"] == {"w-10"},
        }
    elif name == "archive-failed":
        moved = {path.rpartition("/")[2]: data for path, data in specs.items() if "/archived/failed-" in path}
        manifest = json.loads(moved.pop("MANIFEST.json", b'{"workers": []}'))
        facts |= {
            "all of failed/ is archived": moved == {path.rpartition("/")[2]: data for path, data in was.items()},
            "nothing else is there": len(specs) == 3,
            "the manifest names both": [each["worker_id"] for each in manifest["workers"]] == ["w-1", "w-2"],
        }
    elif name == "repair-spec":
        facts["the value is null and all else as it was"] = specs == was | {ACTIVE: was[ACTIVE].replace(BLANK, FILLED)}
    elif name == "quarantine":
        moved = {path: data for path, data in specs.items() if "/quarantine/w-1-malformed-" in path}
        facts |= {
            "the file is in quarantine, unchanged": list(moved.values()) == [was[ACTIVE]],
            "and nowhere else": specs.keys() == {FAILED, *moved},
        }
    else:
        facts["all is back to the byte" if name.startswith("undo") else "no spec has changed"] = specs == was
        facts["the PM's entry is there"] = after["pm"] == {"w-1", "w-10"}
    return [f"not so: {text}" for text, holds in facts.items() if not holds]


def without_start(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "execution": {**spec["execution"], "started_at": None}}


def main(name: str, root: str) -> None:

    # Nothing here outlives a power cut; what a kill leaves does not depend on it.
    os.fsync = lambda _: None
    memory.QUIET = 0.03
    memory.PACE = start.PACE = 0.01
    stop.PACE = spec.PACE = 0.005
    stop.AGAIN = 0.02
    start.STEADY, start.ABOUT_TO_APPEAR = 0.05, 0.4
    Ground.here = lambda home, *_: ground(Path(home).parent)  # type: ignore[method-assign]
    bench = Bench(name, Path(root))
    bench.prepare()
    poll_command.ensure_migrated = lambda: None
    for result in bench.copies():
        print(json.dumps(result), flush=True)
