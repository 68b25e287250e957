"""Queueing a task once more. A script that ends with 0 proves nothing: there has to be a new task."""

from __future__ import annotations

import json
import shlex
from typing import Any

from workers.coordination.parser import description_of
from workers.coordination.redaction import redact_text
from workers.coordination.tasks import TASK_ID, describe_task, describes, queued_tasks
from workers.remediation.ground import Ground, Refusal
from workers.remediation.spec_file import SpecFile
from workers.remediation.work import Step, StepFailed, Work

from . import command


def plan(file: SpecFile, ground: Ground) -> Step:
    """Plan to queue a spec's task again. Raises Refusal where nothing says what it is about."""
    text, source = _description(file, ground)
    words = ground.command("RELAY_CREATE_TASK", _values(file, text))
    shown = [redact_text(word)[:1000] for word in words]
    detail = f"Queue task {file.spec.task_id} once more, as {source} describes it, with priority high:"
    data = {"task_id": file.spec.task_id, "worker_type": file.spec.worker_type}
    return Step("create-task", shlex.join(shown)[:2000], detail, {"command": shown}, data)


def _description(file: SpecFile, ground: Ground) -> tuple[str, str]:
    if not file.spec.task_id:
        raise Refusal(f"{file.path} names no task, so there is nothing to recover")
    text, source = description_of(file.data), file.path
    if not text:
        text, source = describe_task(ground.layout, file.spec.task_id)
    if not text:
        raise Refusal(
            f"Nothing says what task {file.spec.task_id} is about: "
            "neither its spec nor task-queue.json, tasks/ or a handoff"
        )
    return text, source


def _values(file: SpecFile, text: str) -> dict[str, str]:
    return {
        "description": text,
        "worker_type": file.spec.worker_type,
        "metadata": json.dumps({"retry_of": file.spec.task_id}),
        "task_id": file.spec.task_id,
        "worker_id": file.spec.worker_id,
    }


def create(work: Work) -> str:
    """Run the fleet's command and find the task that it made."""
    layout, data = work.ground.layout, work.data
    file = _moved(work)
    try:
        text, _ = _description(file, work.ground)
        if "known" in data:  # a process was killed in this step: has the command that it may have run done it?
            command.outlast(work)
            if made := _made(work, "", text):
                return _note(work, made)
        words = work.ground.command("RELAY_CREATE_TASK", _values(file, text))
    except Refusal as error:
        raise StepFailed(str(error)) from None
    work.note(known=sorted(queued_tasks(layout)))
    done = command.run(work, words)
    if done.code != 0:
        raise StepFailed(f"{words[0]} ended with exit code {done.code}: {done.last_words}")
    made = _made(work, done.output, text)
    if not made:
        raise StepFailed(f"{words[0]} ended with exit code 0 and made no task: {done.last_words}")
    return _note(work, made)


def _moved(work: Work) -> SpecFile:
    """The spec where it lies by now: an earlier step may have moved it."""
    worker = work.remediation.worker
    assert worker is not None  # noqa: S101 - for the type checker; planned with one
    move = work.remediation.steps.filter(kind="move").first()
    if move:
        worker.path = move.data["target"]
    try:
        return SpecFile.of(worker, work.ground)
    except Refusal as error:
        raise StepFailed(str(error)) from None


def _made(work: Work, output: str, text: str) -> str:
    """The id of the new task: a new entry of the queue that says whose retry it is, a printed one, or one that is
    described in the words that were passed. Any other new entry may be somebody else's, queued at the same moment."""
    task_id, known = work.data["task_id"], set(work.data["known"])
    new = {name: entry for name, entry in queued_tasks(work.ground.layout).items() if name not in known}
    retries = [name for name, entry in new.items() if _retries(entry, task_id)]
    printed = TASK_ID.findall(output or command.read_output(command.output_path(work)))
    said = [name for name in printed if name != task_id and name not in known]
    alike = [name for name, entry in new.items() if describes(entry) == text]
    return next(iter([*retries, *(name for name in said if name in new), *said, *alike]), "")


def _retries(entry: dict[str, Any], task_id: str) -> bool:
    places = (entry, *(inner for key in ("metadata", "context") if isinstance(inner := entry.get(key), dict)))
    return any(place.get("retry_of") == task_id for place in places)


def _note(work: Work, made: str) -> str:
    work.note(made=made)
    work.remediation.task_id, work.remediation.new_task_id = work.data["task_id"], made[:255]
    work.remediation.save(update_fields=["task_id", "new_task_id"])
    return f"Queued as {made}"
