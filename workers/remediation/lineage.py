"""A task and its retries: which task is whose second try."""

from __future__ import annotations

from workers.models import Remediation, Worker

LONGEST = 50


def lineage(task_id: str) -> list[str]:
    """The tasks that this one is a retry of, the first one first; this one is the last."""
    chain = [task_id]
    while task_id and len(chain) < LONGEST:
        made = Remediation.objects.filter(new_task_id=chain[0]).exclude(task_id="").values_list("task_id", flat=True)
        said = Worker.objects.filter(task_id=chain[0]).exclude(retry_of="").values_list("retry_of", flat=True)
        before = made.first() or said.first()
        if not before or before in chain:
            break
        chain.insert(0, before)
    return chain


def retries_of(task_id: str) -> list[str]:
    """The tasks that were made to do this one again, in no order."""
    made = Remediation.objects.filter(task_id=task_id).exclude(new_task_id="").values_list("new_task_id", flat=True)
    said = Worker.objects.filter(retry_of=task_id).exclude(task_id="").values_list("task_id", flat=True)
    return sorted({*made, *said} - {task_id})


def count_retries(task_id: str) -> int:
    """How many retries there were already: those that led to this task, and those of this very task."""
    return len(lineage(task_id)) - 1 + len(retries_of(task_id)) if task_id else 0
