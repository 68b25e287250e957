"""Telling the fleet's own dashboard: one record, appended once however often the process is killed."""

from __future__ import annotations

import json
import shlex

from workers.coordination import writer
from workers.coordination.layout import DASHBOARD_EVENTS
from workers.coordination.redaction import redact_text
from workers.remediation.ground import Ground, Refusal, now
from workers.remediation.work import Step, StepFailed, Work

from . import command

LOOK_BACK = 4 * 1024 * 1024  # bytes in which a record of ours is looked for after a crash


def plan(ground: Ground, kind: str, worker_id: str, message: str) -> Step:
    """Plan to append a record, or to run the fleet's own command for that. Raises Refusal where it is not there."""
    data = {"type": kind, "worker_id": worker_id, "message": redact_text(message)}
    if not ground.commands["RELAY_EMIT_EVENT"]:
        return Step("event", DASHBOARD_EVENTS, f"Append the event {kind} to", {"record": data}, data)
    words = ground.command("RELAY_EMIT_EVENT", data)
    return Step("emit", shlex.join(words), f"For the event {kind}, run", {"command": words}, data)


def append(work: Work) -> str:
    layout, data = work.ground.layout, work.data
    name = f"evt-relay-web-{work.remediation.pk}-{work.step.number}"
    path = layout.home / DASHBOARD_EVENTS
    if "size" in data and _has(work, name, data["size"]):
        return f"Appended {data['type']}"
    work.note(size=path.stat().st_size if path.exists() else 0)
    record = {
        "id": name,
        "timestamp": f"{now():%Y-%m-%dT%H:%M:%SZ}",
        "type": data["type"],
        "data": {
            "worker_id": data["worker_id"],
            "message": data["message"],
            "actor": work.remediation.actor,
            "remediation": work.remediation.pk,
        },
        "source": "relay-web",
    }
    try:
        writer.append_line(layout, DASHBOARD_EVENTS, json.dumps(record, ensure_ascii=True).encode())
    except writer.WriteError as error:
        raise StepFailed(str(error)) from None
    return f"Appended {data['type']}"


def _has(work: Work, name: str, size: int) -> bool:
    """Whether the record was appended before this process was killed."""
    path = work.ground.layout.home / DASHBOARD_EVENTS
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - 1))
            return f'"id": "{name}"'.encode() in file.read(LOOK_BACK)
    except OSError:
        return False


def emit(work: Work) -> str:
    """Run the fleet's command, and believe it only if the dashboard's log has grown."""
    path, data = work.ground.layout.home / DASHBOARD_EVENTS, work.data
    if "size" in data:  # a process was killed in this step
        command.outlast(work)
    before = data["size"] if "size" in data else (path.stat().st_size if path.exists() else 0)
    if path.exists() and path.stat().st_size > before:
        return f"The event {data['type']} is there"
    work.note(size=before)
    try:
        words = work.ground.command("RELAY_EMIT_EVENT", data)
    except Refusal as error:
        raise StepFailed(str(error)) from None
    done = command.run(work, words)
    if done.code != 0:
        raise StepFailed(f"{words[0]} ended with exit code {done.code}: {done.last_words}")
    if not path.exists() or path.stat().st_size <= before:
        raise StepFailed(f"{words[0]} ended with exit code 0, but {DASHBOARD_EVENTS} has not grown: {done.last_words}")
    return f"The event {data['type']} is there"
