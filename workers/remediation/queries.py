"""What pages and pushes ask about remediations. Reading only."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Prefetch, Q, QuerySet

from workers.health import Health
from workers.models import Remediation, RemediationBatch, RemediationStep, Worker
from workers.queries import Watch, watches
from workers.queries.integrity import damage_of, why_no_repair

from .actions import ACTIONS, OF_A_FILE, OF_A_RUN, QUARANTINE, REPAIR_SPEC, Action, first_aid, objection
from .ask import guard
from .lineage import lineage

State = Remediation.State
HISTORY_SHOWN = 20
#: What has been done where an undo has something to put back.
UNDOABLE_STEPS = ("move", "archive", "mend", "quarantine")


@dataclass(frozen=True, slots=True)
class StepView:
    """One step as a card shows it: planned, or as far as it has been done."""

    kind: str
    target: str
    detail: str
    state: str
    shown: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Card:
    """One remediation with everything that its card, its row and its page show."""

    remediation: Remediation
    watch: Watch | None
    now: datetime

    @property
    def pk(self) -> int:
        return self.remediation.pk

    @property
    def state(self) -> str:
        return self.remediation.state

    @property
    def action(self) -> Action:
        return ACTIONS[self.remediation.action]

    @property
    def worker(self) -> Worker | None:
        """The run that it is about, also through what is undone."""
        undone = self.remediation.undoes
        return self.remediation.worker or (undone.worker if undone else None)

    @property
    def subject(self) -> str:
        worker, undone = self.worker, self.remediation.undoes
        name = worker.worker_id if worker else self.remediation.host
        return f"{undone.action} of {name}" if undone else name

    @property
    def title(self) -> str:
        """What it is called at this moment: a preview, or a deed."""
        action = self.action.label
        if self.remediation.state in (State.PLANNING, State.PLANNED):
            return f"Preview: {action.lower()}"
        return action

    @property
    def unwatched(self) -> bool:
        """Nobody is there who could carry it out."""
        return self.remediation.open and (self.watch is None or self.watch.silent)

    @property
    def steps(self) -> list[StepView]:
        planned = (self.remediation.plan or {}).get("steps", [])
        journal = list(self.remediation.steps.all())
        if not journal:
            return [_planned(step) for step in planned]
        shown = {number: step["shown"] for number, step in enumerate(planned)}
        return [StepView(s.kind, s.target, s.detail, s.state, shown.get(s.number, {})) for s in journal]

    @property
    def warnings(self) -> list[str]:
        return list((self.remediation.plan or {}).get("warnings", []))

    @property
    def asks(self) -> str:
        return str((self.remediation.plan or {}).get("asks", ""))

    @property
    def suggested_reason(self) -> str:
        return self.remediation.reason or f"{self.action.label} by {self.remediation.actor}"

    @property
    def command(self) -> str:
        """The same as a command line, to be copied."""
        words = ["manage.py", "remediate", self.action.name]
        worker, undone = self.remediation.worker, self.remediation.undoes
        if undone:
            words.append(str(undone.pk))
        elif worker and self.action.of_file:
            words.append(worker.path)  # its id may be another's too, and when it was created cannot be read
        elif worker:
            created = f"@{worker.created_at:%Y-%m-%dT%H:%M:%SZ}" if worker.created_at and not worker.live else ""
            words.append(f"{worker.worker_id}{created}")
        words += ["--recover"] if self.remediation.recover else []
        words += ["--reason", self.suggested_reason]
        return shlex.join([*words, *(["--yes"] if self.asks else [])])

    @property
    def undoable(self) -> bool:
        """Whether an undo may be asked for: it has moved something, and nobody has undone it yet."""
        if not self.action.undoable or self.remediation.state not in (State.DONE, State.FAILED):
            return False
        moved = any(step.kind in UNDOABLE_STEPS and step.state == "done" for step in self.remediation.steps.all())
        return moved and self.undone_by is None

    @property
    def undone_by(self) -> Remediation | None:
        done = (State.DONE, State.CONFIRMED, State.RUNNING)
        return next((each for each in self.remediation.undoings.all() if each.state in done), None)

    @property
    def next_preview(self) -> Remediation | None:
        """The preview that stands in the place of this one, which had become wrong or was left for too long."""
        if self.remediation.state != State.REFUSED and not self.remediation.lapsed:
            return None
        return Remediation.objects.filter(instead_of=self.remediation).order_by("-pk").first()

    @property
    def lineage(self) -> list[str]:
        """The task that was recovered with those before it, and the one that was made."""
        remediation = self.remediation
        if not remediation.new_task_id:
            return []
        return [*lineage(remediation.task_id), remediation.new_task_id]

    @property
    def new_worker(self) -> Worker | None:
        """The worker that does the recovered task, as soon as there is one."""
        task = self.remediation.new_task_id
        return Worker.objects.filter(task_id=task).order_by("-live", "-pk").first() if task else None


def _planned(step: dict[str, Any]) -> StepView:
    return StepView(step["kind"], step["target"], step["detail"], "pending", step["shown"])


def _whole(remediations: QuerySet[Remediation]) -> QuerySet[Remediation]:
    steps = Prefetch("steps", RemediationStep.objects.order_by("number"))
    return remediations.select_related("worker", "undoes__worker", "batch", "instead_of", "policy").prefetch_related(
        steps, "undoings"
    )


def cards(remediations: QuerySet[Remediation], now: datetime) -> list[Card]:
    """Read these remediations as pages show them, in a constant number of queries."""
    watching = watches(now)
    return [Card(each, watching.of(each.host), now) for each in _whole(remediations)]


def card(pk: int, now: datetime) -> Card | None:
    return next(iter(cards(Remediation.objects.filter(pk=pk), now)), None)


def cards_of(keys: Iterable[int], now: datetime) -> list[Card]:
    return cards(Remediation.objects.filter(pk__in=list(keys)).order_by("pk"), now)


# -- one worker


@dataclass(frozen=True, slots=True)
class Button:
    """An action beside a run: pressed or, with a reason, not."""

    action: Action
    objection: str
    first: bool  # what is usually done about this state


@dataclass(frozen=True, slots=True)
class WorkerRepairs:
    """What can be done about a run, and what was."""

    worker: Worker
    buttons: tuple[Button, ...]
    history: tuple[Card, ...]
    current: Card | None  # the one that is under way or waits for an answer
    lineage: tuple[str, ...]
    now: datetime


def worker_repairs(worker: Worker, now: datetime) -> WorkerRepairs:
    """Read what a worker's page shows of remediations."""
    about = Remediation.objects.filter(Q(worker=worker) | Q(undoes__worker=worker))
    history = tuple(cards(about.order_by("-pk")[:HISTORY_SHOWN], now))
    current = next((each for each in history if each.state in Remediation.COMMITTED), None)
    tasks = lineage(worker.task_id) if worker.task_id else []
    if worker.retry_of and worker.retry_of not in tasks:
        tasks.insert(0, worker.retry_of)
    return WorkerRepairs(worker, _buttons(worker), history, current, tuple(tasks if len(tasks) > 1 else ()), now)


def _buttons(worker: Worker) -> tuple[Button, ...]:
    usual = first_aid(Health(worker.health))
    of_file: list[Button] = []
    if worker.health == Health.UNREADABLE:
        damage = damage_of(worker)
        usual = QUARANTINE if why_no_repair(REPAIR_SPEC, damage) else REPAIR_SPEC
        of_file = [Button(action, why_no_repair(action, damage), action is usual) for action in OF_A_FILE]
    return (*of_file, *(Button(action, objection(action, worker), action is usual) for action in OF_A_RUN))


# -- many


@dataclass(frozen=True, slots=True)
class BatchView:
    """One act on many runs, as far as it has come."""

    batch: RemediationBatch
    cards: tuple[Card, ...] = ()
    states: Counter[str] = field(default_factory=Counter)

    @property
    def action(self) -> Action:
        return ACTIONS[self.batch.action]

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def finished(self) -> int:
        ended = (State.DONE, State.FAILED, State.REFUSED, State.WITHDRAWN)
        return sum(self.states[state] for state in ended)

    @property
    def guard(self) -> str:
        return guard(self.action, self.total - self.finished, self.batch.running)

    @property
    def asks(self) -> bool:
        waits = self.states[State.PLANNING] and any(card.remediation.recover for card in self.cards)
        return bool(waits) or any(card.asks for card in self.cards)

    @property
    def said(self) -> str:
        """How far it is, in a sentence."""
        parts = [f"{count} {state}" for state, count in sorted(self.states.items()) if count]
        return f"{self.finished} of {self.total} finished: {', '.join(parts)}" if parts else "Nothing was eligible"


def batch_view(batch: RemediationBatch, now: datetime, *, whole: bool = True) -> BatchView:
    replaced = batch.remediations.exclude(instead_of=None).values("instead_of")  # their successors are counted
    states = Counter(batch.remediations.exclude(pk__in=replaced).values_list("state", flat=True))
    shown = tuple(cards(batch.remediations.order_by("pk"), now)) if whole else ()
    return BatchView(batch, shown, states)
