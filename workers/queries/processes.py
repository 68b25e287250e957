"""The processes of the hosts that have to do with workers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workers.models import HostProcesses, Worker


@dataclass(frozen=True, slots=True)
class HostView:
    """What one host runs: processes of workers, those of nobody that look like it, and those that only name one."""

    host: str
    at: datetime
    owned: tuple[dict[str, Any], ...]
    stray: tuple[dict[str, Any], ...]
    mentioning: tuple[dict[str, Any], ...]

    @property
    def total(self) -> int:
        return len(self.owned) + len(self.stray) + len(self.mentioning)


def host_processes() -> list[HostView]:
    return [_view(each) for each in HostProcesses.objects.order_by("host")]


def _view(found: HostProcesses) -> HostView:
    by_part: dict[str, list[dict[str, Any]]] = {"owned": [], "looks like a worker": [], "mentions one": []}
    for process in found.processes:
        by_part.get(process["part"], by_part["owned"]).append(process)
    by_part["owned"].sort(key=lambda process: (process["worker_id"], process["part"] != "worker", process["pid"]))
    return HostView(
        host=found.host,
        at=found.at,
        owned=tuple(by_part["owned"]),
        stray=tuple(by_part["looks like a worker"]),
        mentioning=tuple(by_part["mentions one"]),
    )


def mentioning(worker: Worker) -> list[dict[str, Any]]:
    """Other processes on its host whose command line or directory names a worker: viewers, editors, strangers."""
    found = HostProcesses.objects.filter(host=worker.host).first()
    if found is None:
        return []
    return [each for each in found.processes if worker.worker_id in each["mentions"] and each["worker"] != worker.pk]


@dataclass(frozen=True, slots=True)
class Branch:
    """A process of a worker's tree, and how deep in it."""

    process: dict[str, Any]
    depth: int


def tree(processes: list[dict[str, Any]]) -> list[Branch]:
    """Lay a worker's processes out as a tree, each below its parent."""
    pids = {process["pid"] for process in processes}
    below: dict[int, list[dict[str, Any]]] = {}
    for process in processes:
        below.setdefault(process["ppid"] if process["ppid"] in pids else 0, []).append(process)
    laid: list[Branch] = []
    pending = [Branch(process, 0) for process in reversed(below.get(0, []))]
    while pending:
        branch = pending.pop()
        laid.append(branch)
        children = below.pop(branch.process["pid"], [])
        pending += [Branch(child, branch.depth + 1) for child in reversed(children)]
    return laid
