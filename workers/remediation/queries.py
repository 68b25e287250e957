"""What pages and pushes ask about remediations. Reading only."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from django.core.paginator import Page, Paginator
from django.db.models import Case, Count, Prefetch, Q, QuerySet, TextField, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce

from workers.health import Health
from workers.models import Remediation, RemediationBatch, RemediationStep, Worker
from workers.queries import Watch, watches
from workers.queries.integrity import damage_of, why_no_repair

from .actions import ACTIONS, OF_A_FILE, OF_A_RUN, QUARANTINE, REPAIR_SPEC, Action, first_aid, objection
from .ask import guard
from .lineage import lineage, lineages

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
    #: What only a card and a page show; a row goes without.
    successor: Remediation | None = None  # the preview in the place of this one
    lineage: tuple[str, ...] = ()  # the task that was recovered with those before it, and the one that was made
    new_worker: Worker | None = None  # that does the recovered task, as soon as there is one

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
        return self.successor if self.remediation.state == State.REFUSED or self.remediation.lapsed else None


def _planned(step: dict[str, Any]) -> StepView:
    return StepView(step["kind"], step["target"], step["detail"], "pending", step["shown"])


#: What is large and shown on a remediation's own card and page alone.
LARGE = ("evidence", "output")


def rows(page: Page[Remediation], now: datetime) -> list[Card]:
    """Read one page of remediations as lists show them, in a constant number of queries."""
    return _rows(cast("QuerySet[Remediation]", page.object_list), now)


def _rows(remediations: QuerySet[Remediation], now: datetime) -> list[Card]:
    return _read(remediations, LARGE, now)


def cards(remediations: QuerySet[Remediation], now: datetime) -> list[Card]:
    """Read these remediations as cards show them: the number of queries grows with the longest lineage alone."""
    found = _read(remediations, (), now)
    tasks = {each.remediation.task_id for each in found if each.remediation.new_task_id}
    made = {each.remediation.new_task_id for each in found if each.remediation.new_task_id}
    instead = Remediation.objects.filter(instead_of__in=[each.pk for each in found]).defer("plan", *LARGE)
    successors = {each.instead_of_id: each for each in instead.order_by("pk")}
    chains = lineages(tasks)
    workers = {each.task_id: each for each in Worker.objects.filter(task_id__in=made).order_by("live", "pk")}
    return [
        replace(
            each,
            successor=successors.get(each.pk),
            lineage=(*chains[it.task_id], it.new_task_id) if it.new_task_id else (),
            new_worker=workers.get(it.new_task_id),
        )
        for each in found
        for it in (each.remediation,)
    ]


def _read(remediations: QuerySet[Remediation], but: Sequence[str], now: datetime) -> list[Card]:
    watching = watches(now)
    others = [f"{name}__{field}" for name in ("undoes", "instead_of") for field in ("plan", *LARGE)]
    steps = Prefetch("steps", RemediationStep.objects.defer("data").order_by("number"))
    undoings = Prefetch("undoings", Remediation.objects.defer("plan", *LARGE))
    whole = remediations.select_related("worker", "undoes__worker", "batch", "instead_of", "policy")
    whole = whole.defer(*but, *others, "batch__ineligible").prefetch_related(steps, undoings)
    return [Card(each, watching.of(each.host), now) for each in whole]


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
    history = tuple(_rows(about.order_by("-pk")[:HISTORY_SHOWN], now))
    committed = next((each.pk for each in history if each.state in Remediation.COMMITTED), None)
    current = card(committed, now) if committed else None
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
    cards: tuple[Card, ...] = ()  # of one page
    states: Counter[str] = field(default_factory=Counter)
    page: Page[Remediation] | None = None
    asks: bool = False  # there is a question that has to be answered first, or may still come

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
    def said(self) -> str:
        """How far it is, in a sentence."""
        parts = [f"{count} {state}" for state, count in sorted(self.states.items()) if count]
        return f"{self.finished} of {self.total} finished: {', '.join(parts)}" if parts else "Nothing was eligible"


#: The rows of an act on many, on one page.
BATCH_PAGE = 100
#: The states in which somebody has to look at it, then what is under way or waits, then what is over.
WORST_FIRST = (
    *(State.FAILED, State.REFUSED, State.RUNNING, State.CONFIRMED),
    *(State.PLANNED, State.PLANNING, State.WITHDRAWN, State.DONE),
)


def batch_sum(batch: RemediationBatch) -> BatchView:
    """Count how far an act on many is."""
    replaced = batch.remediations.exclude(instead_of=None).values("instead_of")  # their successors are counted
    states = batch.remediations.exclude(pk__in=replaced).order_by().values_list("state").annotate(Count("pk"))
    return BatchView(batch, states=Counter(dict(states)))


def batch_view(batch: RemediationBatch, now: datetime, number: str = "") -> BatchView:
    """Read one page of an act on many, the worst first."""
    rank = Case(*(When(state=state, then=Value(rank)) for rank, state in enumerate(WORST_FIRST)))
    page = Paginator(batch.remediations.order_by(rank, "pk"), BATCH_PAGE).get_page(number)
    summed = batch_sum(batch)
    asks = _asks(batch, summed.states)
    return replace(summed, cards=tuple(rows(page, now)), page=page, asks=asks)


def _asks(batch: RemediationBatch, states: Counter[str]) -> bool:
    if states[State.PLANNING] and batch.remediations.filter(recover=True).exists():
        return True
    question = Coalesce(KeyTextTransform("asks", "plan"), Value(""), output_field=TextField())
    return batch.remediations.filter(state=State.PLANNED).annotate(question=question).exclude(question="").exists()
