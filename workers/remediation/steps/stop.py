"""Stopping a worker: first what beats for it, then its own tree; and being sure that all of it is gone."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from workers.coordination.records import Process, WorkerProcesses
from workers.coordination.redaction import redact_text
from workers.processes import send_signal, state_of
from workers.remediation.ground import Ground
from workers.remediation.spec_file import SpecFile
from workers.remediation.work import Step, StepFailed, Work, first, listed

PACE = 0.02  # seconds between two looks while something is dying
AGAIN = 0.2  # seconds in which a supervisor would start again what was stopped
ROUNDS = 5  # how often something new may appear in the tree before it is given up


def plan(found: WorkerProcesses, ground: Ground) -> list[Step]:
    """Plan to stop what was found; nothing to do where there is nothing."""
    parts = []
    if found.companions:
        pids = ", ".join(str(process.pid) for process in found.companions)
        parts.append(f"its heartbeat emitter ({pids})")
    if found.main:
        children = len(found.tree) - 1
        below = f" and its {listed(children, 'child', 'children')}" if children else ""
        parts.append(f"process {found.main.pid}{below}")
    if not parts:
        return []
    detail = (
        f"SIGTERM to {', then to '.join(parts)}; SIGKILL after {ground.patience.grace:g} s; make sure they are gone"
    )
    shown = [_shown(process, "emitter") for process in found.companions]
    shown += [_shown(process, "worker" if process is found.main else "child") for process in found.tree]
    target = f"process {(found.main or found.companions[0]).pid}"
    return [Step("stop", target, detail, {"processes": first(shown)})]


def _shown(process: Process, part: str) -> dict[str, object]:
    command = redact_text(" ".join(process.argv) or process.name)[:500]
    return {"pid": process.pid, "part": part, "command": command, "user": process.user}


def stop(work: Work) -> str:
    """Stop everything that is the worker's at this moment. Done only when a new look finds nothing."""
    worker, ground = work.remediation.worker, work.ground
    assert worker is not None  # noqa: S101 - for the type checker; planned with one
    stopped: dict[int, str] = {}
    for _ in range(ROUNDS):
        found = ground.look(worker, SpecFile.spec_of(worker, ground), worker.file_mtime)
        if not found.tree and not found.companions:
            return f"Stopped {_names(stopped)}" if stopped else "Nothing was left to be stopped"
        work.note(
            signalled=sorted({*work.data.get("signalled", ()), *(p.pid for p in (*found.companions, *found.tree))})
        )
        for group in (found.companions, found.tree):
            stopped |= _end(group, ground)
        ground.wait(AGAIN)
    raise StepFailed(f"New processes of it keep appearing after {ROUNDS} rounds; somebody starts it again and again")


def _names(stopped: dict[int, str]) -> str:
    return ", ".join(f"{pid} ({how})" for pid, how in stopped.items())


def _end(group: Sequence[Process], ground: Ground) -> dict[int, str]:
    """End these processes, the deepest first. Return how each ended. Raises StepFailed where one does not go."""
    if not group:
        return {}
    ends: dict[int, str] = {}
    alive = list(reversed(group))
    for number, how, patience in (
        (signal.SIGTERM, "SIGTERM", ground.patience.grace),
        (signal.SIGKILL, "SIGKILL", ground.patience.death),
    ):
        for process in alive:
            if refused := send_signal(process.key, number):
                raise StepFailed(f"{refused[0].upper()}{refused[1:]}; nothing else was done")
        left = _wait_for(alive, patience, ground)
        ends |= {process.pid: how for process in alive if process not in left}
        alive = left
        if not alive:
            return ends
    pid = alive[0].pid
    raise StepFailed(f"Process {pid} does not go, not even on SIGKILL: it is in state {state_of(pid)}")


def _wait_for(processes: Sequence[Process], seconds: float, ground: Ground) -> list[Process]:
    """Look again and again until none lives or the time is over; return what is left."""
    end = time.monotonic() + seconds
    while (left := [process for process in processes if ground.alive(process.key)]) and time.monotonic() < end:
        ground.wait(PACE)
    return left
