"""A task and its retries: which task is whose second try."""

from __future__ import annotations

from collections.abc import Iterable

from workers.models import Remediation, Worker

LONGEST = 50


def lineage(task_id: str) -> list[str]:
    """The tasks that this one is a retry of, the first one first; this one is the last."""
    return lineages([task_id])[task_id]


def lineages(task_ids: Iterable[str]) -> dict[str, list[str]]:
    """The lineage of each of these tasks, with as many queries as the longest of them has steps."""
    chains = {task_id: [task_id] for task_id in task_ids}
    growing = {task_id for task_id in chains if task_id}
    for _ in range(LONGEST - 1):
        before = _before({chains[task_id][0] for task_id in growing})
        growing = {
            task_id for task_id in growing if (found := before.get(chains[task_id][0])) and found not in chains[task_id]
        }
        if not growing:
            break
        for task_id in growing:
            chains[task_id].insert(0, before[chains[task_id][0]])
    return chains


def _before(task_ids: set[str]) -> dict[str, str]:
    """Which task each of these is the retry of: what was made from here counts more than what a spec says."""
    made = Remediation.objects.filter(new_task_id__in=task_ids).exclude(task_id="").order_by("-pk")
    said = Worker.objects.filter(task_id__in=task_ids).exclude(retry_of="").order_by("-pk")
    return dict([*said.values_list("task_id", "retry_of"), *made.values_list("new_task_id", "task_id")])


def retries_of(task_id: str) -> list[str]:
    """The tasks that were made to do this one again, in no order."""
    made = Remediation.objects.filter(task_id=task_id).exclude(new_task_id="").values_list("new_task_id", flat=True)
    said = Worker.objects.filter(retry_of=task_id).exclude(task_id="").values_list("task_id", flat=True)
    return sorted({*made, *said} - {task_id})


def count_retries(task_id: str) -> int:
    """How many retries there were already: those that led to this task, and those of this very task."""
    return len(lineage(task_id)) - 1 + len(retries_of(task_id)) if task_id else 0
