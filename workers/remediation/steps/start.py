"""Starting a worker again, and watching until it runs: a script that returned has proved nothing."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from datetime import datetime

from workers.coordination import edits, writer
from workers.coordination.parser import parse_spec
from workers.coordination.records import Spec
from workers.coordination.redaction import redact_text
from workers.health import STATUS_OUTCOME
from workers.models import Worker
from workers.remediation.ground import Ground, Refusal, now
from workers.remediation.spec_file import STARTED, STATUS, SpecFile
from workers.remediation.work import Step, StepFailed, Work

from . import command

PACE = 0.1  # seconds between two looks
STEADY = 0.5  # seconds for which its process has to live
UNSAID = 5.0  # seconds after which a process is enough, though the spec does not say running
LAST_WORDS = 1.0  # seconds in which a start script that has done its work may return
LAST_LOOK = 1.0  # seconds before the end in which a start script that still runs is taken for the worker
ABOUT_TO_APPEAR = 3.0  # seconds in which what was launched before a crash should show
#: Start scripts. One that stays in the foreground still runs when its worker does.
children = command.Children()


def plan(file: SpecFile, ground: Ground) -> list[Step]:
    """Plan to start a worker and to watch it. Raises Refusal where the fleet's command is not there."""
    words = ground.command("RELAY_START_WORKER", values(file, ground))
    shown = [redact_text(word) for word in words]
    detail = "Look once more that nobody else has started it, then run"
    data = {"path": file.path}
    return [
        Step("start", shlex.join(shown)[:2000], detail, {"command": shown}, data),
        Step("watch", file.spec.worker_id, f"Watch until it runs, for at most {ground.patience.start:g} s", {}, data),
    ]


def values(file: SpecFile, ground: Ground) -> dict[str, str]:
    return {
        "spec": str(ground.layout.home / file.path),
        "worker_id": file.spec.worker_id,
        "task_id": file.spec.task_id,
        "worker_type": file.spec.worker_type,
    }


def start(work: Work) -> str:
    """Run the fleet's command, unless somebody has started the worker meanwhile."""
    children.reap()
    file = _file(work)
    if work.data.get("launching"):  # this process's predecessor was killed here: has its command done anything?
        end = time.monotonic() + ABOUT_TO_APPEAR
        while time.monotonic() < end:
            if _runs(work) or _file(work).status != "pending" or command.still_runs(work):
                return "The start was on its way before the interruption"
            work.ground.wait(PACE)
    elif file.status != "pending" or _runs(work):
        work.note(unneeded=True)
        return "Somebody else has started it meanwhile, so it was not started again"
    try:
        words = work.ground.command("RELAY_START_WORKER", values(file, work.ground))
    except Refusal as error:
        raise StepFailed(str(error)) from None
    work.note(launching=True, began=now().isoformat())
    process = command.launch(work, words)
    children.add(process)
    work.note(pid=process.pid)
    return f"Started {os.path.basename(words[0])} as process {process.pid}"  # noqa: PTH119 - a command's name


def watch(work: Work) -> str:
    """Wait until the worker runs. If it does not, its spec is left pending, and the script's words are kept."""
    launched = work.remediation.steps.get(kind="start")
    source = Work(work.remediation, launched, work.ground)
    process = children.get(launched.data.get("pid", 0))
    try:
        said = _watch(work, source, process)
    except StepFailed:
        _leave(process)
        raise
    _leave(process)  # not where it was interrupted: it is watched once more then
    return said


def _leave(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        children.leave(process)


def _watch(work: Work, source: Work, process: subprocess.Popen[bytes] | None) -> str:
    began = time.monotonic()
    end, alive_since = began + work.ground.patience.start, None
    outcome = ""
    while time.monotonic() < end:
        command.trim(command.output_path(source))
        file, main = _state(work)
        if file is None or STATUS_OUTCOME.get(file.status):
            command.keep_output(source)
            return f"It ran and is {file.status if file else 'over'} already"
        alive_since = (alive_since or time.monotonic()) if main else None
        if alive_since is not None and time.monotonic() - alive_since >= _enough(file, main, process, end):
            _hear_out(process, work.ground)
            command.keep_output(source)
            said = "" if file.running else f"; its spec still says {file.status or 'nothing'}"
            return f"It runs as process {main}{said}"
        ended = process.poll() if process else None
        if ended and not main:
            outcome = f"ended with exit code {ended}"
            break
        work.ground.wait(PACE)
    _give_up(work, process)
    words = command.Done(None, command.keep_output(source)).last_words
    if not outcome:
        outcome = f"did not make it run within {work.ground.patience.start:g} s"
    raise StepFailed(f"The start {outcome}; the spec is left pending. It printed: {words}")


def _hear_out(process: subprocess.Popen[bytes] | None, ground: Ground) -> None:
    """Let a script that is about to return say what it has to say. One that stays in the foreground may go on."""
    end = time.monotonic() + LAST_WORDS
    while process is not None and process.poll() is None and time.monotonic() < end:
        ground.wait(PACE)


def _enough(file: SpecFile, main: int | None, process: subprocess.Popen[bytes] | None, end: float) -> float:
    """How long its process has to live to be believed, in seconds.

    Where the start script itself has the id in its arguments, it looks like the worker while it still prepares one.
    As long as the spec does not say running it is believed only if it stays until the end.
    """
    if file.running:
        return STEADY
    if process is None or main != process.pid:
        return UNSAID
    return STEADY if end - time.monotonic() < LAST_LOOK else float("inf")


def _file(work: Work) -> SpecFile:
    worker = work.remediation.worker
    assert worker is not None  # noqa: S101 - for the type checker; planned with one
    try:
        return SpecFile.of(worker, work.ground)
    except Refusal as error:
        raise StepFailed(str(error)) from None


def _state(work: Work) -> tuple[SpecFile | None, int | None]:
    """What the spec says by now, None where it has left ``active/``, and the pid of the worker's own process."""
    worker, ground = work.remediation.worker, work.ground
    assert worker is not None  # noqa: S101 - for the type checker; planned with one
    path = work.data["path"]
    try:
        data = writer.read(ground.layout, path)
    except writer.WriteError:
        data = b""
    if data is None:
        return None, None
    content = parse_spec(data, path)
    if not isinstance(content, Spec):  # half written: the next look sees it whole
        return SpecFile(path, data, Spec(worker.worker_id, worker.created_at)), None
    return SpecFile(path, data, content), _main(worker, content, ground)


def _main(worker: Worker, spec: Spec, ground: Ground) -> int | None:
    found = ground.look(worker, spec, datetime.now().astimezone())
    return found.main.pid if found.main else None


def _runs(work: Work) -> bool:
    return _state(work)[1] is not None


def _give_up(work: Work, process: subprocess.Popen[bytes] | None) -> None:
    """End the script if it still runs, and let the spec say pending where it claims to run without a process."""
    if process is not None and process.poll() is None:
        command.kill(process)
    file, main = _state(work)
    if file is None or main or not file.running:
        return
    with contextlib.suppress(writer.WriteError, writer.ChangedError, edits.EditError):
        changed, _ = edits.edit(file.data, {STATUS: "pending", STARTED: None})
        writer.replace(work.ground.layout, file.path, changed, expected=file.data, token=work.token)
