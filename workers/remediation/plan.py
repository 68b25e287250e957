"""What would be done, exactly. The preview is this plan, and so is what is carried out: it is made once more then.

A plan says what it relies on: the run, its attempt, the place and status of its spec, the fields that it changes and
the worker's own process. Heartbeats, children that come and go, and shared files may move on meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from workers.coordination.records import WorkerProcesses
from workers.models import Remediation, Worker

from .actions import (
    ACTIONS,
    ARCHIVE_FAILED,
    CLEAN_UP,
    FORCE_FAIL,
    QUARANTINE,
    RECOVER_TASK,
    REPAIR_SPEC,
    RESTART,
    UNDO,
)
from .damaged_file import DamagedFile, what_it_sets_off
from .ground import Ground, Refusal, now
from .lineage import count_retries
from .spec_file import COMPLETED, ERROR, STARTED, STATUS, SpecFile, Values
from .steps import archive, damaged, event, evidence, memory, spec, start, stop, task
from .work import Step

ZOMBIE_ERROR = "Zombie worker - no process found"
MANUAL_ERROR = "Manual termination"
#: Where the fleet's worker daemon notes which workers it has launched; it launches none twice.
LAUNCH_MARKERS = "/tmp/commit-relay-workers"  # noqa: S108 - the fleet's own place, which is only looked at


@dataclass(frozen=True)
class Plan:
    """All steps of one remediation, and what they rely on."""

    steps: list[Step]
    relies_on: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    asks: str = ""  # a question that has to be answered with yes first

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def changed_since(self, relied_on: Mapping[str, Any]) -> str:
        """Say what is not as it was when the preview was made; "" where all of it still holds."""
        present = json.loads(json.dumps(self.relies_on))
        if "files" in relied_on:  # what has come into failed/ since is left there
            gone = set(relied_on["files"]) - set(present.get("files", ()))
            return f"{min(gone)} has left failed/ since the preview" if gone else ""
        changed = next((name for name, value in relied_on.items() if present.get(name) != value), None)
        return f"{_NAMES.get(changed, changed)} has changed since the preview" if changed else ""


_NAMES = {
    "run": "The run",
    "path": "The place of its spec",
    "status": "What its spec says",
    "attempt": "Its start",
    "fields": "A field that is to be changed",
    "process": "Its process",
    "bytes": "The file",
    "retries": "The number of its task's retries",
}


def make_plan(remediation: Remediation, ground: Ground) -> Plan:
    """Plan a remediation. Raises Refusal; touches nothing."""
    return _PLANNERS[remediation.action](remediation, ground)


# -- live workers


def _live(remediation: Remediation, ground: Ground) -> tuple[Worker, SpecFile, WorkerProcesses]:
    """Look at a live run. Raises Refusal where it is over, cannot be seen, or may not be touched."""
    worker = remediation.worker
    assert worker is not None  # noqa: S101 - for the type checker; asked for with one
    file = SpecFile.of(worker, ground)
    if not file.active:
        raise Refusal(f"Its spec lies in {PurePosixPath(file.path).parent} by now, so it is over")
    if file.status != "pending" and not file.running:
        raise Refusal(f"Its spec says {file.spec.status or 'nothing'} by now")
    found = ground.look(worker, file.spec, worker.file_mtime)
    if found.hidden:
        raise Refusal(f"Its processes cannot be seen: {found.hidden}")
    foreign = next((process for process in (*found.tree, *found.companions) if not process.ours), None)
    if foreign:
        raise Refusal(
            f"Process {foreign.pid} belongs to {foreign.user}, and this poller may not signal it; "
            "run the poller as that user, or stop it by hand"
        )
    return worker, file, found


def _relies_on(worker: Worker, file: SpecFile, found: WorkerProcesses, values: Values) -> dict[str, Any]:
    return {
        "run": [worker.worker_id, worker.run_key],
        "path": file.path,
        "status": file.spec.status,
        "attempt": file.digests({STARTED: None}),
        "fields": file.digests(values),
        "process": list(found.main.key) if found.main else None,
    }


def _restart(remediation: Remediation, ground: Ground) -> Plan:
    worker, file, found = _live(remediation, ground)
    values: Values = {STATUS: "pending", STARTED: None}
    rewriting = spec.plan_rewrite(file, values)
    starting = start.plan(file, ground)
    warnings = []
    marker = f"{LAUNCH_MARKERS}/{worker.worker_id}"
    if "/" not in worker.worker_id and PurePosixPath(marker).name and ground.exists(marker):
        warnings.append(
            f"The fleet's worker daemon would not start it again, since {marker} is there; it is started here"
        )
    steps = [evidence.plan(worker), *stop.plan(found, ground), *rewriting, *starting]
    return Plan(steps, _relies_on(worker, file, found, values), warnings)


def _clean_up(remediation: Remediation, ground: Ground) -> Plan:
    worker, file, found = _live(remediation, ground)
    if not file.running:
        raise Refusal(f"Its spec says {file.spec.status} by now, so it is no zombie")
    if found.main:
        raise Refusal(
            f"Process {found.main.pid} is alive, found by {found.found_by}; one that lives is restarted or force-failed"
        )
    return _filed(remediation, ground, (worker, file, found), {STATUS: "failed", ERROR: ZOMBIE_ERROR})


def _force_fail(remediation: Remediation, ground: Ground) -> Plan:
    looked = _live(remediation, ground)
    error = MANUAL_ERROR + (f": {remediation.reason}" if remediation.reason else "")
    ended = f"{now():%Y-%m-%dT%H:%M:%SZ}"
    return _filed(remediation, ground, looked, {STATUS: "failed", ERROR: error, COMPLETED: ended})


def _filed(
    remediation: Remediation, ground: Ground, looked: tuple[Worker, SpecFile, WorkerProcesses], values: Values
) -> Plan:
    """Plan what clean-up and force-fail share: the spec goes to ``failed/``, and its task is queued again if asked."""
    worker, file, found = looked
    action = ACTIONS[remediation.action]
    message = f"Worker {action.done} by {remediation.actor}" + (f": {remediation.reason}" if remediation.reason else "")
    steps = [evidence.plan(worker), *stop.plan(found, ground), spec.plan_move(file, values, ground)]
    steps += memory.plan_forget(worker.worker_id, ground)
    steps.append(event.plan(ground, action.event, worker.worker_id, message))
    relies_on = _relies_on(worker, file, found, values)
    if not remediation.recover:
        return Plan(steps, relies_on)
    retries = count_retries(file.spec.task_id)
    steps.append(task.plan(file, ground))
    return Plan(steps, relies_on | {"retries": retries}, asks=_ask(file.spec.task_id, retries))


# -- what is over


def _recover(remediation: Remediation, ground: Ground) -> Plan:
    worker = remediation.worker
    assert worker is not None  # noqa: S101 - for the type checker; asked for with one
    file = SpecFile.of(worker, ground)
    retries = count_retries(file.spec.task_id)
    relies_on = {"run": [worker.worker_id, worker.run_key], "status": file.spec.status, "retries": retries}
    return Plan([task.plan(file, ground)], relies_on, asks=_ask(file.spec.task_id, retries))


def _ask(task_id: str, retries: int) -> str:
    times = "once" if retries == 1 else f"{retries} times"
    return f"Task {task_id} has been retried {times} already. Retry it again?" if retries else ""


def _archive_failed(remediation: Remediation, ground: Ground) -> Plan:
    previewed = (remediation.plan or {}).get("steps") or [{"data": None}]
    step = archive.plan(ground, previewed[0]["data"])
    message = f"{step.shown['count']} files of failed/ archived to {step.data['target']} by {remediation.actor}"
    told = event.plan(ground, ARCHIVE_FAILED.event, "", message)
    return Plan([step, told], {"files": [name for name, *_ in step.data["files"]]})


# -- files that cannot be parsed


def _repair_spec(remediation: Remediation, ground: Ground) -> Plan:
    worker = remediation.worker
    assert worker is not None  # noqa: S101 - for the type checker; asked for with one
    file = DamagedFile.of(worker, ground)
    splices, content = file.filled()
    told = event.plan(ground, REPAIR_SPEC.event, worker.worker_id, _message("Spec repaired", file, remediation))
    steps = [damaged.plan_mend(file, splices), told]
    return Plan(steps, _relies_on_bytes(worker, file), what_it_sets_off(content, file.path))


def _quarantine(remediation: Remediation, ground: Ground) -> Plan:
    worker = remediation.worker
    assert worker is not None  # noqa: S101 - for the type checker; asked for with one
    file = DamagedFile.of(worker, ground)
    if file.quarantined:
        raise Refusal(f"{file.path} lies in quarantine already")
    target = file.place_in_quarantine(remediation, ground)
    message = _message("Unreadable spec moved to quarantine", file, remediation)
    told = event.plan(ground, QUARANTINE.event, worker.worker_id, message)
    return Plan([damaged.plan_set_aside(file, target), told], _relies_on_bytes(worker, file))


def _relies_on_bytes(worker: Worker, file: DamagedFile) -> dict[str, Any]:
    return {"run": [worker.worker_id, worker.run_key], "path": file.path, "bytes": file.digest}


def _message(deed: str, file: DamagedFile, remediation: Remediation) -> str:
    reason = f": {remediation.reason}" if remediation.reason else ""
    return f"{deed} ({file.path}) by {remediation.actor}{reason}"


# -- back


def _undo(remediation: Remediation, ground: Ground) -> Plan:
    undone = remediation.undoes
    assert undone is not None  # noqa: S101 - for the type checker; asked for with one
    if not ACTIONS[undone.action].undoable:
        can = ", ".join(action.name for action in ACTIONS.values() if action.undoable)
        raise Refusal(f"A {undone.action} cannot be undone; what can is {can}")
    if undone.state not in (Remediation.State.DONE, Remediation.State.FAILED):
        raise Refusal(f"It is {undone.state}; only what is finished can be undone")
    steps, data = [], {step.kind: (step.data, step) for step in undone.steps.all()}
    if "move" in data and data["move"][0].get("written"):
        steps.append(spec.plan_restore(data["move"][0], _planned_diff(undone), ground))
    if "forget" in data and (entry := data["forget"][0].get("entry")):
        steps.append(memory.plan_remember(data["forget"][0]["worker_id"], entry))
    if "archive" in data and data["archive"][0].get("moved"):
        steps.append(archive.plan_unarchive(data["archive"][0], ground))
    if "mend" in data and data["mend"][1].state == "done":
        steps.append(damaged.plan_unmend(data["mend"][0], _planned_diff(undone, "mend"), ground))
    if "quarantine" in data and data["quarantine"][1].state == "done":
        steps.append(damaged.plan_bring_back(data["quarantine"][0], ground))
    if not steps:
        raise Refusal("It has moved no file, so there is nothing to put back")
    worker_id = undone.worker.worker_id if undone.worker else ""
    message = f"{undone.action} #{undone.pk} undone by {remediation.actor}"
    steps.append(event.plan(ground, UNDO.event, worker_id, message))
    stopped = undone.worker and not ACTIONS[undone.action].of_file
    warnings = ["It starts no process: what was stopped stays stopped"] if stopped else []
    return Plan(steps, {"run": [worker_id, undone.pk]}, warnings)


def _planned_diff(undone: Remediation, kind: str = "move") -> list[list[str]]:
    steps = (undone.plan or {}).get("steps", [])
    return next((step["shown"].get("diff", []) for step in steps if step["kind"] == kind), [])


_PLANNERS = {
    RESTART.name: _restart,
    CLEAN_UP.name: _clean_up,
    FORCE_FAIL.name: _force_fail,
    RECOVER_TASK.name: _recover,
    REPAIR_SPEC.name: _repair_spec,
    QUARANTINE.name: _quarantine,
    ARCHIVE_FAILED.name: _archive_failed,
    UNDO.name: _undo,
}
