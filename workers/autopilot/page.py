"""What pages show of policies: what each does, what it did or would have done, how that turned out. Reading only."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from django.db.models import Count, F, Q, Window
from django.db.models.functions import RowNumber

from workers.health import Health
from workers.models import Decision, HealthChange, Policy, Remediation, Worker
from workers.remediation.actions import ACTIONS, Action
from workers.remediation.rights import AUTOPILOT

from .facts import Facts, bounds_of, read
from .policy import DAY, Bounds, Choice, Ruling, Verdict, rule
from .promotion import needs_word

WEEK = timedelta(days=7)
DECISIONS_SHOWN = 10
VERBS = {"clean-up": "Cleans up", "restart": "Restarts"}
DONE_WORDS = {"clean-up": "cleaned it up", "restart": "restarted it"}
#: A worker of which one of these is said afterwards was not dead.
ALIVE = frozenset({Health.HEALTHY, Health.LATE, Health.STALLED, Health.COMPLETED})


class Hindsight(StrEnum):
    """What became of a run after a shadow had noted that it would act. In order of trust in the policy."""

    PERSON = "a person repaired it"
    STILL = "it is still so"
    OTHERWISE = "it ended in another way"
    CAME_BACK = "it came back by itself"

    @property
    def wrong(self) -> bool:
        return self is Hindsight.CAME_BACK


class Tally(NamedTuple):
    """How many decisions there were in a stretch of time."""

    label: str
    would: int
    does: int
    held: int


@dataclass(frozen=True, slots=True)
class Row:
    """One decision with how it turned out."""

    decision: Decision
    hindsight: Hindsight | None  # of a shadow's try

    @property
    def undone(self) -> bool:
        remediation = self.decision.remediation
        return remediation is not None and any(each.state == "done" for each in remediation.undoings.all())


@dataclass(frozen=True)
class PolicyView:
    """One policy with everything that its card shows."""

    policy: Policy
    bounds: Bounds
    ruling: Ruling  # what it would decide at this moment, in its mode
    tallies: tuple[Tally, ...]
    hindsight: Counter[Hindsight]  # of the shadow's tries of seven days
    rows: tuple[Row, ...]
    now: datetime

    @property
    def action(self) -> Action:
        return ACTIONS[self.policy.action]

    @property
    def sentence(self) -> str:
        """What it does: "Cleans up zombies after 30 min"."""
        cases = self.bounds.cases if self.policy.health == Health.ZOMBIE else f"{self.policy.health} workers"
        kind = f" of type {self.policy.worker_type}" if self.policy.worker_type else ""
        return f"{VERBS[self.policy.action]} {cases}{kind} after {self.policy.after_minutes:g} min"

    @property
    def state(self) -> str:
        """How it is: its mode, or that it has stopped itself."""
        return "stopped" if self.policy.tripped_at and self.policy.mode != Policy.Mode.OFF else self.policy.mode

    @property
    def judged(self) -> int:
        """How many of the shadow's tries can be judged by now."""
        return sum(number for hindsight, number in self.hindsight.items() if hindsight is not Hindsight.STILL)

    @property
    def wrong(self) -> int:
        return self.hindsight[Hindsight.CAME_BACK]

    @property
    def outcomes(self) -> list[tuple[Hindsight, int]]:
        return [(hindsight, self.hindsight[hindsight]) for hindsight in Hindsight if self.hindsight[hindsight]]

    @property
    def needs_word(self) -> bool:
        return needs_word(self.policy, self.now)

    @property
    def go(self) -> list[Choice]:
        return self.ruling.go

    @property
    def waiting(self) -> list[Choice]:
        """Those that are next, the soonest first."""
        waits = [choice for choice in self.ruling.choices if choice.verdict is Verdict.WAITS and choice.due]
        return sorted(waits, key=lambda choice: choice.due or self.now)

    @property
    def held(self) -> list[Choice]:
        return [choice for choice in self.ruling.choices if choice.verdict is Verdict.HELD_BACK]


def policies(now: datetime, *, key: int | None = None, as_active: bool = False) -> list[PolicyView]:
    """Read all policies, or one, in a constant number of queries. ``as_active``: what it would decide if it acted."""
    found = list(Policy.objects.filter(**({"pk": key} if key is not None else {})).order_by("name"))
    if not found:
        return []
    deciding = [_in_mode(policy, Policy.Mode.ACTIVE) if as_active else policy for policy in found]
    facts = read(deciding, now)
    tallies, rows, tried = _tallies(found, now), _rows(found), _tried(found, now)
    after = _Afterwards([*tried, *(each for several in rows.values() for each in several)], now)
    return [
        PolicyView(
            policy=policy,
            bounds=bounds_of(policy),
            ruling=rule(bounds_of(policy), facts.situations[policy.pk]),
            tallies=tallies[policy.pk],
            hindsight=Counter(
                after.hindsight(each) for each in tried if each.policy_id == policy.pk and each.verdict == "would"
            ),
            rows=tuple(
                Row(each, after.hindsight(each) if each.verdict == Decision.Verdict.WOULD else None)
                for each in rows[policy.pk]
            ),
            now=now,
        )
        for policy in found
    ]


def _in_mode(policy: Policy, mode: Policy.Mode) -> Policy:
    policy = copy.copy(policy)
    policy.mode = mode
    return policy


def _tallies(found: Sequence[Policy], now: datetime) -> dict[int, tuple[Tally, ...]]:
    recent = Decision.objects.filter(policy__in=found, at__gt=now - WEEK).values("policy", "verdict").order_by()
    counted = {
        (row["policy"], row["verdict"]): (row["day"], row["week"])
        for row in recent.annotate(week=Count("pk"), day=Count("pk", filter=Q(at__gt=now - DAY)))
    }
    return {
        policy.pk: tuple(
            Tally(label, *(counted.get((policy.pk, verdict.value), (0, 0))[which] for verdict in Decision.Verdict))
            for which, label in enumerate(("24 hours", "7 days"))
        )
        for policy in found
    }


def _rows(found: Sequence[Policy]) -> dict[int, list[Decision]]:
    """By policy, the decisions that its card lists, newest first."""
    newest = Window(RowNumber(), partition_by=F("policy"), order_by=(F("at").desc(), F("pk").desc()))
    shown = Decision.objects.filter(policy__in=found).annotate(place=newest).filter(place__lte=DECISIONS_SHOWN)
    rows: dict[int, list[Decision]] = defaultdict(list)
    fields = ("remediation__plan", "remediation__evidence", "remediation__output")
    whole = shown.select_related("worker", "policy", "remediation").prefetch_related("remediation__undoings")
    for each in whole.defer(*fields).order_by("-at", "-pk"):
        rows[each.policy_id].append(each)
    return rows


def _tried(found: Sequence[Policy], now: datetime) -> list[Decision]:
    tried = Decision.objects.filter(policy__in=found, at__gt=now - WEEK, verdict=Decision.Verdict.WOULD)
    return list(tried.select_related("worker", "policy"))


class _Afterwards:
    """What came after decisions: changes of verdict, and what people did."""

    def __init__(self, decisions: Sequence[Decision], now: datetime) -> None:
        self.changes: dict[int, list[tuple[datetime, str]]] = defaultdict(list)
        self.repairs: dict[int, list[datetime]] = defaultdict(list)
        if not decisions:
            return
        runs = Decision.objects.filter(pk__in=[each.pk for each in decisions]).values("worker")
        first = min(each.at for each in decisions)
        changed = HealthChange.objects.filter(worker__in=runs, at__gt=first).order_by("at", "pk")
        for run, at, health in changed.values_list("worker_id", "at", "new"):
            self.changes[run].append((at, health))
        repaired = Remediation.objects.filter(worker__in=runs, started_at__gt=first).exclude(via=AUTOPILOT)
        for each in repaired.exclude(state=Remediation.State.REFUSED).only("worker", "started_at"):
            if each.worker_id and each.started_at:
                self.repairs[each.worker_id].append(each.started_at)

    def hindsight(self, decision: Decision) -> Hindsight:
        """Judge a shadow's try by the first other verdict after it."""
        run, state = decision.worker, decision.policy.health
        turn = next(
            ((at, new) for at, new in self.changes[run.pk] if at > decision.at and new != state), (None, run.health)
        )
        ended, health = turn
        acted = (at for at in self.repairs[run.pk] if at > decision.at and (ended is None or at <= ended))
        if next(acted, None):
            return Hindsight.PERSON
        if ended is None:
            return Hindsight.STILL if run.live and health == state else Hindsight.OTHERWISE
        return Hindsight.CAME_BACK if health in ALIVE else Hindsight.OTHERWISE


# -- one worker


@dataclass(frozen=True, slots=True)
class Notice:
    """What a policy is about to do with one run, or why it does not, for that worker's page."""

    policy: Policy
    text: str
    due: datetime | None = None  # it follows the text: when
    at: datetime | None = None  # when it was


@dataclass(frozen=True, slots=True)
class Notices:
    """Everything that policies have to say of one run."""

    worker: Worker
    every: tuple[Notice, ...] = field(default=())
    now: datetime | None = None


def notices(worker: Worker, now: datetime) -> Notices:
    """Read what policies say of a run. One query where none is about it."""
    if not worker.live:
        return Notices(worker, (), now)
    on = Policy.objects.exclude(mode=Policy.Mode.OFF).filter(health=worker.health)
    found = [policy for policy in on.order_by("name") if policy.worker_type in ("", worker.worker_type)]
    if not found:
        return Notices(worker, (), now)
    facts = read(found, now)
    return Notices(worker, tuple(_notices(found, worker, facts)), now)


def _notices(found: Iterable[Policy], worker: Worker, facts: Facts) -> Iterable[Notice]:
    for policy in found:
        if policy.tripped_at:
            yield Notice(policy, "does nothing, since it has stopped itself")
            continue
        ruling = rule(bounds_of(policy), facts.situations[policy.pk])
        shadow = policy.mode == Policy.Mode.SHADOW
        done = DONE_WORDS[policy.action]
        label = ACTIONS[policy.action].label.lower()
        choice = next((each for each in ruling.choices if each.case.run == worker.pk), None)
        case = next(each for each in facts.situations[policy.pk].cases if each.run == worker.pk)
        if ruling.trips:
            yield Notice(policy, "is about to stop itself")
        elif choice is None:
            text = f"would have {done}" if shadow else "has asked for its repair"
            yield Notice(policy, text, at=case.tries[-1].at)
        elif choice.verdict is Verdict.HELD_BACK:
            yield Notice(policy, f"is held back: {choice.why}")
        elif choice.verdict is Verdict.WAITS and choice.due is None:
            yield Notice(policy, f"waits: {choice.why}")
        else:
            yield Notice(policy, f"{'would' if shadow else 'will'} {label}", due=choice.due or facts.now)
