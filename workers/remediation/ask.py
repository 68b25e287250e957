"""Asking for a remediation: browser, admin or command line. Who may not is refused here, and again when it is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q

from workers.coordination.redaction import redact_text
from workers.health import RUNNING
from workers.models import Policy, Remediation, RemediationBatch, Worker

from .actions import ACTIONS, UNDO, Action, objection
from .execute import tell
from .ground import NotAllowed, Refusal, now
from .rights import COMMAND_LINE, why_policy_may_not

State = Remediation.State
#: How many runs one act may be about.
MOST_AT_ONCE = 5_000
#: How many requests are written in one transaction: nobody else can write meanwhile, and none may wait for long.
CHUNK = 250
#: Of those for which an act on many has not asked yet. It stays where the asking was broken off.
NOT_ASKED = "It was not asked for: the request was broken off before its turn"


@dataclass(frozen=True)
class Person:
    """Who asks, from where and why."""

    name: str
    via: str  # browser, admin, command line or autopilot
    user: Any = None  # None for the command line: the system has let them in
    address: str = ""
    reason: str = ""
    policy: Policy | None = None  # of the autopilot, which is nobody's account

    def may(self, action: Action) -> bool:
        return not self._why_not(action)

    def check(self, action: Action) -> None:
        """Raise Refusal where this person may not do that."""
        if why := self._why_not(action):
            raise NotAllowed(f"{self.name} may not {action.label.lower()}: {why}")

    def _why_not(self, action: Action) -> str:
        if self.policy is not None:
            return why_policy_may_not(self.policy.pk, action, now())
        if self.via == COMMAND_LINE or (self.user is not None and self.user.has_perm(action.full_permission)):
            return ""
        return "that takes the role operator or admin"

    def signed(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "actor": self.name[:150],
            "via": self.via,
            "address": self.address[:64],
            "reason": redact_text(self.reason)[:2000],
        }


@dataclass
class Case:
    """One run, and why it is none for the action; "" where it is one."""

    worker: Worker
    objection: str = ""
    remediation: Remediation | None = None


@dataclass
class Selection:
    """The runs that an act on many is about."""

    action: Action
    cases: list[Case] = field(default_factory=list)
    running: int = 0

    @property
    def eligible(self) -> list[Case]:
        return [case for case in self.cases if not case.objection]

    @property
    def ineligible(self) -> list[Case]:
        return [case for case in self.cases if case.objection]

    @property
    def guard(self) -> str:
        """Why the number has to be given: more than half of the running fleet is to go. "" where it has not."""
        return guard(self.action, len(self.eligible), self.running)


def guard(action: Action, many: int, running: int) -> str:
    if many < 2 or 2 * many <= running or action.of_file:  # which stops nobody
        return ""
    return (
        f"This is {many} of {running} running workers. So many at once usually means that the poller cannot see the "
        "workers' processes (another host, another user, a container), not that they are dead"
    )


def select(action: Action, workers: Iterable[Worker]) -> Selection:
    """Sort runs into those that are a case for the action and those that are not."""
    busy = set(
        Remediation.objects.filter(state__in=Remediation.COMMITTED, worker__isnull=False).values_list(
            "worker", flat=True
        )
    )
    cases = [
        Case(worker, "It is being repaired already" if worker.pk in busy else objection(action, worker))
        for worker in workers
    ]
    running = Worker.objects.filter(live=True, health__in=sorted(RUNNING)).count()
    return Selection(action, cases, running)


def request(action: Action, person: Person, worker: Worker, *, recover: bool = False, **values: Any) -> Remediation:
    """Ask for the preview of one action on one run. Raises Refusal."""
    return place(draft(action, person, worker, recover=recover, **values))


def draft(action: Action, person: Person, worker: Worker, *, recover: bool = False, **values: Any) -> Remediation:
    """Make what asks for one action on one run, unsaved. Raises Refusal."""
    person.check(action)
    if no_case := objection(action, worker):
        raise Refusal(f"{worker.worker_id}: {no_case}")
    # The preview says what the reason will be, so it has to be there from the start; the command line may leave it out
    reason = person.reason or ("" if person.via == COMMAND_LINE else f"{action.label} by {person.name}")
    return Remediation(
        host=worker.host,
        action=action.name,
        worker=worker,
        recover=recover and action.may_recover,
        requested_at=now(),
        policy=person.policy,
        **replace(person, reason=reason).signed(),
        **values,
    )


def draft_undo(person: Person, undone: Remediation, **values: Any) -> Remediation:
    """Make what asks for an undo, unsaved. Raises Refusal."""
    person.check(UNDO)
    if not ACTIONS[undone.action].undoable:
        raise Refusal(f"A {undone.action} cannot be undone")
    if undone.undoings.filter(state__in=(*Remediation.COMMITTED, State.DONE)).exists():
        raise Refusal(f"#{undone.pk} is undone already")
    return Remediation(
        host=undone.host, action=UNDO.name, undoes=undone, requested_at=now(), **person.signed(), **values
    )


def draft_for_host(action: Action, person: Person, host: str, **values: Any) -> Remediation:
    """Make what asks for an action on a host as a whole, unsaved. Raises Refusal."""
    person.check(action)
    return Remediation(host=host, action=action.name, requested_at=now(), **person.signed(), **values)


def request_many(selection: Selection, person: Person, asked: str, *, recover: bool = False) -> RemediationBatch:
    """Ask for the previews of one action on many runs, a few at a time. Raises Refusal.

    At any moment the batch says of each run that it is asked for or why it is not: if the asking is broken off
    half-way, those that have come are a batch like any other, and the rest is listed as not asked for.
    """
    action = selection.action
    person.check(action)
    if len(selection.cases) > MOST_AT_ONCE:
        raise Refusal(f"More than {MOST_AT_ONCE:,} are selected; select fewer at once")
    batch = RemediationBatch(
        action=action.name,
        asked=asked,
        running=selection.running,
        user=person.user,
        actor=person.name[:150],
        requested_at=now(),
    )
    cases = selection.eligible
    left_out = [{"worker_id": case.worker.worker_id, "reason": case.objection} for case in selection.ineligible]
    drafts = [draft(action, person, case.worker, recover=recover, batch=batch) for case in cases]
    for begin in range(0, max(1, len(drafts)), CHUNK):
        rest = [{"worker_id": case.worker.worker_id, "reason": NOT_ASKED} for case in cases[begin + CHUNK :]]
        batch.ineligible = left_out + rest
        with transaction.atomic():
            batch.save()
            tell(Remediation.objects.bulk_create(drafts[begin : begin + CHUNK]))
    return batch


def place(remediation: Remediation) -> Remediation:
    """Store a draft: the poller of its host plans it."""
    with transaction.atomic():
        remediation.save()
        tell([remediation])
    return remediation


def confirm(remediation: Remediation, person: Person, *, answered: bool = False, executor: str = "") -> None:
    """Let the preview be carried out. Raises Refusal where that cannot be, or where a question was not answered.

    What is confirmed is the plan that the caller has read: one that came after that may ask what nobody has answered.
    """
    person.check(ACTIONS[remediation.action])
    asks = (remediation.plan or {}).get("asks", "")
    if asks and not answered:
        raise Refusal(f"{asks} Say yes to that first")
    signed = person.signed()
    values = {name: signed[name] for name in ("user", "actor", "via", "address", "reason")}
    where = Remediation.objects.filter(pk=remediation.pk, state=State.PLANNED, planned_at=remediation.planned_at)
    try:
        with transaction.atomic():
            changed = where.update(state=State.CONFIRMED, confirmed_at=now(), executor=executor, **values)
            if changed:
                tell([remediation])
    except IntegrityError:
        same = Q(undoes=remediation.undoes_id) if remediation.undoes_id else Q(worker=remediation.worker_id)
        other = Remediation.objects.filter(same, state__in=Remediation.COMMITTED).exclude(pk=remediation.pk)
        who = other.values_list("actor", "action").first() or ("somebody", "repair")
        raise Refusal(
            f"{who[0]} has just begun to {ACTIONS[who[1]].label.lower() if who[1] in ACTIONS else who[1]} it"
        ) from None
    if not changed:
        remediation.refresh_from_db()
        if remediation.lapsed:
            _ask_again(remediation, person)
            raise Refusal(f"{remediation.error}, so nothing was done; there is a new preview")
        if remediation.state == State.PLANNED:
            raise Refusal("Its preview has only just come; look at it first")
        raise Refusal(f"It is {remediation.state} by now")
    remediation.refresh_from_db()


def _ask_again(lapsed: Remediation, person: Person) -> None:
    """Ask for a new preview in the place of one that has lapsed, unless somebody has. Raises Refusal."""
    if Remediation.objects.filter(instead_of=lapsed, state__in=Remediation.OPEN).exists():
        return
    action, values = ACTIONS[lapsed.action], {"instead_of": lapsed, "batch": lapsed.batch}
    if lapsed.undoes:
        place(draft_undo(person, lapsed.undoes, **values))
    elif lapsed.worker:
        place(draft(action, person, lapsed.worker, recover=lapsed.recover, **values))
    else:
        place(draft_for_host(action, person, lapsed.host, **values))


def confirm_many(batch: RemediationBatch, person: Person, *, expect: int | None, answered: bool = False) -> list[str]:
    """Let all previews of a batch be carried out. Return why some are not. Raises Refusal where the guard holds."""
    person.check(ACTIONS[batch.action])
    planned = list(batch.remediations.filter(state=State.PLANNED))
    many = len(planned) + batch.remediations.filter(state=State.PLANNING).count()  # not in instalments either
    if not many and batch.remediations.filter(state=State.WITHDRAWN, error=Remediation.LAPSED).exists():
        raise Refusal("Nobody confirmed them within an hour, so nothing was done; select the workers anew")
    if (why := guard(ACTIONS[batch.action], many, batch.running)) and expect != many:
        raise Refusal(f"{why}. Give the number {many} to go on all the same")
    refused = []
    for remediation in planned:
        try:
            confirm(remediation, person, answered=answered)
        except Refusal as refusal:
            name = remediation.worker.worker_id if remediation.worker else remediation.host
            refused.append(f"{name}: {refusal}")
    return refused


def withdraw(remediation: Remediation, person: Person) -> None:
    """Take a request back that has not begun. Raises Refusal."""
    person.check(ACTIONS[remediation.action])
    where = Remediation.objects.filter(pk=remediation.pk, state__in=(State.PLANNING, State.PLANNED, State.CONFIRMED))
    with transaction.atomic():
        changed = where.update(state=State.WITHDRAWN, finished_at=now(), error=f"Withdrawn by {person.name}")
        if changed:
            tell([remediation])
    remediation.refresh_from_db()
    if not changed:
        raise Refusal(f"It is {remediation.state} by now, so it cannot be withdrawn")


def let_go(remediation: Remediation, why: str) -> bool:
    """Let go of what the autopilot has asked for and nobody has confirmed. False where it is further by now."""
    where = Remediation.objects.filter(pk=remediation.pk, state__in=(State.PLANNING, State.PLANNED))
    with transaction.atomic():
        changed = where.update(state=State.WITHDRAWN, finished_at=now(), error=f"The autopilot has let go of it: {why}")
        if changed:
            tell([remediation])
    return bool(changed)
