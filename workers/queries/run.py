"""One run: everything that its page shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Q

from workers.coordination.layout import SPECS
from workers.coordination.parser import parse_time
from workers.models import HealthChange, PollerGap, Worker, WorkerDocument
from workers.params import whole

from .fleet import HEAVY, Row
from .processes import Branch, mentioning, tree
from .watch import outbox_position, watches


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time in one state, on the strip of a worker's page."""

    state: str  # a health, or "unwatched"
    began: datetime
    ended: datetime
    share: float  # of the strip, in percent


@dataclass(frozen=True, slots=True)
class WorkerPage:
    """One run with everything that is known of it."""

    row: Row
    documents: WorkerDocument | None
    changes: tuple[HealthChange, ...]  # newest first
    gaps: tuple[PollerGap, ...]
    runs: tuple[Worker, ...]  # the other runs of this id, newest first
    position: int
    mentioning: tuple[dict[str, Any], ...] = ()  # other processes that name it
    same_task: tuple[Worker, ...] = ()  # runs of other ids that did the same task, newest first

    @property
    def tree(self) -> list[Branch]:
        return tree(self.worker.processes)

    @property
    def worker(self) -> Worker:
        return self.row.worker

    @property
    def strip(self) -> list[Stretch]:
        return strip(self.changes, self.gaps, self.row.as_of)


CHANGES_SHOWN = 100
RUNS_SHOWN = 50


def find_run(worker_id: str, run: str, now: datetime) -> WorkerPage | None:
    """The page of a worker: of the run that is asked for by key, else of its live run, else of the newest one."""
    position = outbox_position()
    columns = (
        "pk",
        "host",
        "worker_id",
        "created_at",
        "live",
        "health",
        "severity",
        "directory",
        "task_id",
        "health_since",
    )
    known = Worker.objects.only(*columns).order_by("-live", F("created_at").desc(nulls_last=True), "-pk")
    asked = whole(run)
    if not worker_id and asked:
        worker_id = Worker.objects.filter(pk=asked).values_list("worker_id", flat=True).first() or ""
    runs = list(known.filter(worker_id=worker_id)[: RUNS_SHOWN + 1]) if worker_id else []
    wanted = asked if run else (runs[0].pk if runs else None)
    worker = Worker.objects.filter(pk=wanted, worker_id=worker_id).first() if wanted else None
    return worker_page(worker, runs, position, now) if worker else None


def worker_page(worker: Worker, runs: Iterable[Worker], position: int, now: datetime) -> WorkerPage:
    """Read what belongs to a run."""
    documents = WorkerDocument.objects.filter(pk=worker.pk).first()
    changes = tuple(worker.health_changes.order_by("-at", "-pk")[:CHANGES_SHOWN])
    since = changes[-1].at if changes else worker.health_since
    gaps = tuple(PollerGap.objects.filter(host=worker.host, ended__gt=since).order_by("began")[:CHANGES_SHOWN])
    others = tuple(run for run in runs if run.pk != worker.pk)[:RUNS_SHOWN]
    task = Worker.objects.filter(task_id=worker.task_id).exclude(worker_id=worker.worker_id) if worker.task_id else None
    same = task.defer(*HEAVY, "reasons").order_by("-live", F("created_at").desc(nulls_last=True)) if task else ()
    return WorkerPage(
        row=Row(worker, watches(now).of(worker.host), now),
        documents=documents,
        changes=changes,
        gaps=gaps,
        runs=others,
        position=position,
        mentioning=tuple(mentioning(worker)),
        same_task=tuple(same[:RUNS_SHOWN]),
    )


def run_by_name(name: str, host: str = "") -> Worker | None:
    """The live run of an id, else its newest: what the command line says.

    ``ID@CREATED_AT`` is that very run, and so is the path of its spec, relative to the home.
    """
    runs = Worker.objects.filter(host=host) if host else Worker.objects.all()
    newest = runs.order_by("-live", F("created_at").desc(nulls_last=True), "-pk")
    if worker := newest.filter(worker_id=name).first():
        return worker
    if name.startswith(f"{SPECS}/"):
        return newest.filter(path=name).first()
    worker_id, _, created = name.rpartition("@")
    moment = parse_time(created) if worker_id else None
    return newest.filter(worker_id=worker_id, created_at=moment).first() if moment else None


def similar_ids(worker_id: str) -> list[str]:
    """Ids that somebody may have meant who asked for one that does not exist."""
    part = worker_id.strip().removesuffix(".json")[:40]
    if len(part) < 3:
        return []
    stem = part.rstrip("0123456789") or part
    near = Worker.objects.filter(Q(worker_id__icontains=part) | Q(worker_id__istartswith=stem))
    return list(dict.fromkeys(near.order_by("-live", "worker_id").values_list("worker_id", flat=True)[:50]))[:10]


def strip(changes: Iterable[HealthChange], gaps: Iterable[PollerGap], until: datetime) -> list[Stretch]:
    """Lay changes of verdict out over time; where no poller ran, nobody knows."""
    states: list[tuple[datetime, str]] = [
        (change.at, change.new) for change in sorted(changes, key=lambda c: (c.at, c.pk))
    ]
    if not states:
        return []
    began, until = states[0][0], max(until, states[-1][0] + timedelta(seconds=1))
    edges = {moment for moment, _ in states} | {until}
    silent = [(max(gap.began, began), min(gap.ended, until)) for gap in gaps if gap.ended > began and gap.began < until]
    edges |= {edge for gap in silent for edge in gap}
    stretches: list[Stretch] = []
    for start, end in zip(sorted(edges), sorted(edges)[1:], strict=False):
        state = next(state for moment, state in reversed(states) if moment <= start)
        if any(first <= start and end <= last for first, last in silent):
            state = "unwatched"
        share = 100 * (end - start) / (until - began)
        if stretches and stretches[-1].state == state:
            before = stretches.pop()
            start, share = before.began, before.share + share
        stretches.append(Stretch(state, start, end, share))
    return stretches
