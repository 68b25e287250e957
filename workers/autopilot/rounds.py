"""One look of all policies: see to what was asked for, then decide, note it and ask for what is to be done.

Called every few seconds by the one process that minds such things. It reads in a constant number of queries, and writes
only what is new: one row for each try with a run, and one each time that another bound holds it back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from workers.models import Change, Decision, Policy, Remediation
from workers.remediation import ask
from workers.remediation.actions import ACTIONS
from workers.remediation.ask import Person
from workers.remediation.ground import Refusal
from workers.remediation.rights import AUTOPILOT, why_policy_may_not
from workers.sql import announce

from .facts import Facts, bounds_of, read
from .policy import Choice, Rule, Ruling, Verdict, rule

logger = logging.getLogger(__name__)
#: A preview that nobody has planned for so long belongs to a moment that is over.
STALE = timedelta(minutes=10)
WHY_LONGEST = 300
State = Remediation.State


def decide(now: datetime) -> None:
    """Let every policy look once."""
    attend(now)
    policies = list(Policy.objects.exclude(mode=Policy.Mode.OFF).filter(tripped_at=None))
    if not policies:
        return
    facts = read(policies, now)
    failed: Exception | None = None
    for policy in policies:
        try:
            look(policy, facts)
        except Exception as error:
            logger.exception("The policy %s could not look", policy)
            failed = failed or error
    if failed:  # the others have looked; whoever minds the rounds shows that this one could not
        raise failed


def as_person(policy: Policy, reason: str = "") -> Person:
    """Who asks: nobody's account, but this policy, with its rights of this moment."""
    return Person(f"{AUTOPILOT}: {policy.name}", AUTOPILOT, reason=reason, policy=policy)


def look(policy: Policy, facts: Facts) -> None:
    """Decide what a policy does by these facts, and write it down. Another process may do the same at this moment."""
    ruling = rule(bounds_of(policy), facts.situations[policy.pk])
    if ruling.trips:
        trip(policy, ruling, facts.now)
        return
    new = [choice for choice in ruling.choices if _is_news(policy, choice, facts)]
    if not new:
        return
    with transaction.atomic():
        written = [run for choice in new if (run := _write(policy, choice, facts)) is not None]
        announce(Change.Kind.POLICY, [policy.pk] if written else [], facts.now)
        announce(Change.Kind.WORKER, sorted(written), facts.now)


def _is_news(policy: Policy, choice: Choice, facts: Facts) -> bool:
    """Whether it has to be written down: each try once, and a bound when it was another one before."""
    if choice.verdict is Verdict.WAITS:
        return False
    said = facts.held.get((policy.pk, choice.case.run))
    return choice.verdict is Verdict.GO or said != (choice.rule, choice.number)


def _write(policy: Policy, choice: Choice, facts: Facts) -> int | None:
    """Note a choice, and ask for what is to be done. Return the run; None where another was faster."""
    worker = facts.workers[choice.case.run]
    decision = Decision(
        policy=policy,
        worker=worker,
        attempt=worker.attempt,
        at=facts.now,
        verdict=Decision.Verdict.HELD_BACK,
        why=choice.why[:WHY_LONGEST],
        rule=choice.rule,
        number=choice.number,
    )
    try:
        with transaction.atomic():
            if choice.verdict is Verdict.GO:
                acts = policy.mode == Policy.Mode.ACTIVE
                decision.verdict = Decision.Verdict.DOES if acts else Decision.Verdict.WOULD
                if acts:
                    decision.remediation = ask.request(ACTIONS[policy.action], as_person(policy, choice.why), worker)
            decision.save()
    except (IntegrityError, Refusal) as error:  # it was demoted, or another process looked, at this very moment
        logger.info("%s leaves %s alone: %s", policy, worker, error)
        return None
    return worker.pk


def trip(policy: Policy, ruling: Ruling, now: datetime) -> None:
    """Stop a policy until an admin lets it go on. What it has asked for and was not begun is let go."""
    with transaction.atomic():
        free = Policy.objects.filter(pk=policy.pk, tripped_at=None)
        if not free.update(tripped_at=now, tripped_why=ruling.trips):
            return
        announce(Change.Kind.POLICY, [policy.pk], now)
    logger.warning("The autopilot's policy %s has stopped itself: %s", policy, ruling.trips)
    attend(now)


# -- what was asked for


def attend(now: datetime) -> None:
    """Confirm each plan that is as simple as it was meant to be; let go of the others."""
    waiting = Remediation.objects.filter(via=AUTOPILOT, state__in=(State.PLANNING, State.PLANNED))
    found = list(waiting.select_related("policy", "worker").defer("evidence", "output").order_by("pk"))
    if not found:
        return
    others = _others(found)
    for remediation in found:
        why = _why_not(remediation, others, now)
        if why:
            _let_go(remediation, why, now)
        elif remediation.state == State.PLANNED and remediation.policy:
            try:
                ask.confirm(remediation, as_person(remediation.policy, remediation.reason))
            except Refusal as refusal:
                _let_go(remediation, str(refusal), now)


def _others(found: Sequence[Remediation]) -> dict[int, str]:
    """By run, who else has a repair of it open."""
    mine = {remediation.pk for remediation in found}
    keys = [remediation.worker_id for remediation in found if remediation.worker_id]
    rows = Remediation.objects.filter(worker__in=keys, state__in=Remediation.OPEN).values_list("pk", "worker", "actor")
    return {int(run): actor for pk, run, actor in rows if pk not in mine and run}


def _why_not(remediation: Remediation, others: dict[int, str], now: datetime) -> str:
    """Why what was asked for is not to be done; "" where it is."""
    policy, worker = remediation.policy, remediation.worker
    if policy is None or worker is None:
        return "its policy is not there any more"
    if why := why_policy_may_not(policy.pk, ACTIONS[remediation.action], now):
        return why
    bounds, plan = bounds_of(policy), remediation.plan or {}
    reasons: Iterable[object] = (
        remediation.instead_of_id and "something has changed since it was asked for",
        now - remediation.requested_at > STALE and "nobody has planned it in time",
        bounds.quiet and bounds.quiet.holds(now) and f"quiet hours, {bounds.quiet}",
        worker.health != policy.health and f"it is {worker.health} by now",
        worker.pk in others and f"{others.get(worker.pk)} has asked for a repair of it as well",
        plan.get("asks") and f"a person has to answer: {plan.get('asks')}",
        plan.get("warnings") and f"a person has to read its warning: {'; '.join(plan.get('warnings', ()))}",
    )
    return next((str(why) for why in reasons if why), "")


def _let_go(remediation: Remediation, why: str, now: datetime) -> None:
    """Withdraw it, and note that it was the autopilot that did: what a person withdraws is never tried again."""
    with transaction.atomic():
        if not ask.let_go(remediation, why) or not (remediation.policy and remediation.worker):
            return
        tried = Decision.objects.filter(remediation=remediation).values_list("number", flat=True).first()
        Decision.objects.create(
            policy=remediation.policy,
            worker=remediation.worker,
            attempt=remediation.worker.attempt,
            at=now,
            verdict=Decision.Verdict.HELD_BACK,
            why=f"Let go of #{remediation.pk}: {why}"[:WHY_LONGEST],
            rule=Rule.PLAN,
            number=tried or 1,
            remediation=remediation,
        )
        announce(Change.Kind.POLICY, [remediation.policy_id or 0], now)
