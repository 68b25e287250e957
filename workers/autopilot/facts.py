"""What the policies need to know, read from the database in a constant number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Q, QuerySet

from workers.health import RUNNING
from workers.incidents import overlap
from workers.models import Decision, Installation, Policy, PollerGap, Remediation, Worker
from workers.queries import Watches, watches
from workers.queries.view import LIVE
from workers.quiet import Quiet
from workers.remediation.actions import ACTIONS, RESTART, objection
from workers.remediation.rights import AUTOPILOT

from .policy import DAY, Bounds, Case, Outcome, Situation, Try

State = Remediation.State
TRIES = (Decision.Verdict.WOULD, Decision.Verdict.DOES)


def bounds_of(policy: Policy) -> Bounds:
    """A policy's row in plain values."""
    return Bounds(
        deed=ACTIONS[policy.action].label.lower(),
        health=policy.health,
        worker_type=policy.worker_type,
        after=policy.after,
        most_tries=policy.most_tries,
        delay_factor=policy.delay_factor,
        most_an_hour=policy.most_an_hour,
        most_percent=policy.most_percent,
        breaker_failures=policy.breaker_failures,
        quiet=Quiet.between(policy.quiet_from, policy.quiet_until, policy.quiet_zone),
    )


def outcome_of(decision: Decision) -> Outcome:
    """What became of a try."""
    if decision.verdict == Decision.Verdict.WOULD:
        return Outcome.ASSUMED
    remediation = decision.remediation
    if remediation is None or remediation.state == State.WITHDRAWN:
        return Outcome.DROPPED
    if remediation.open:
        return Outcome.UNDER_WAY
    if remediation.state == State.DONE:
        return Outcome.DONE
    # Refused once it was to be carried out: something had changed. Refused before that: it could not be planned
    changed = remediation.state == State.REFUSED and remediation.started_at is not None
    return Outcome.DROPPED if changed else Outcome.FAILED


@dataclass(frozen=True)
class Facts:
    """What is known at one moment, for several policies."""

    now: datetime
    situations: dict[int, Situation]  # by policy
    workers: dict[int, Worker]
    #: (policy, run) -> the bound that held it back last, and before which try
    held: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)


def read(policies: Sequence[Policy], now: datetime) -> Facts:
    """Read the situations of these policies."""
    found = _runs(policies)
    cases = list(found.only("host", "worker_id", "worker_type", "health", "health_since", "live", "attempt"))
    watching = watches(now)
    running = Worker.objects.filter(LIVE, health__in=sorted(RUNNING)).values("host").annotate(n=Count("pk"))
    fleet = {row["host"]: row["n"] for row in running.order_by()} if cases else {}
    watched = {watch.poller.host for watch in watching.every if not watch.silent}
    until = Installation.objects.filter(maintenance_until__gt=now).values_list("maintenance_until", flat=True).first()
    about = _about(cases, found, watching, policies, now) if cases else _About()
    decisions = _decisions(policies, found, now)
    situations = {}
    for policy in policies:
        mine = [worker for worker in cases if _is_case(policy, worker)]
        tries = _tries(policy, decisions[policy.pk])
        situations[policy.pk] = Situation(
            now=now,
            cases=tuple(_case(policy, worker, about, tries[worker.pk], now) for worker in mine),
            fleet=sum(number for host, number in fleet.items() if host in watched),
            recent=tuple(each.at for several in tries.values() for each in several),
            outcomes=_outcomes(policy, decisions[policy.pk]),
            maintenance_until=until,
        )
    held = {}
    for policy in policies:
        for each in decisions[policy.pk]:  # the newest comes last
            held[policy.pk, each.worker_id] = (each.rule, each.number)
    return Facts(now, situations, {worker.pk: worker for worker in cases}, held)


def _runs(policies: Iterable[Policy]) -> QuerySet[Worker]:
    """The live runs that are in the state of any of these policies."""
    return Worker.objects.filter(LIVE, health__in=sorted({policy.health for policy in policies}))


def _is_case(policy: Policy, worker: Worker) -> bool:
    return worker.health == policy.health and policy.worker_type in ("", worker.worker_type)


def _decisions(policies: Sequence[Policy], runs: QuerySet[Worker], now: datetime) -> dict[int, list[Decision]]:
    """By policy, all about these runs and all of the last day, oldest first."""
    about = Q(worker__in=runs.values("pk")) | Q(at__gt=now - DAY)
    rows = Decision.objects.filter(about, policy__in=[policy.pk for policy in policies]).select_related("remediation")
    plans = ("plan", "evidence", "output")
    found: dict[int, list[Decision]] = defaultdict(list)
    for each in rows.order_by("at", "pk").defer(*(f"remediation__{name}" for name in plans)):
        found[each.policy_id].append(each)
    return found


def _tries(policy: Policy, decisions: Iterable[Decision]) -> dict[int, tuple[Try, ...]]:
    """By run. What was only noted in shadow is no try of a policy that is active."""
    counted = (Decision.Verdict.DOES,) if policy.mode == Policy.Mode.ACTIVE else TRIES
    tries: dict[int, tuple[Try, ...]] = defaultdict(tuple)
    for each in decisions:
        if each.verdict in counted:
            tries[each.worker_id] += (Try(each.at, outcome_of(each)),)
    return tries


def _outcomes(policy: Policy, decisions: Iterable[Decision]) -> tuple[Outcome, ...]:
    """How its last deeds went, newest first, since somebody let it go on."""
    since = max((at for at in (policy.promoted_at, policy.reset_at) if at), default=None)
    tried = [each for each in decisions if each.verdict == Decision.Verdict.DOES and (not since or each.at > since)]
    ended = (outcome_of(each) for each in reversed(tried))
    return tuple(outcome for outcome in ended if outcome in (Outcome.DONE, Outcome.FAILED))


# -- what is known about the runs


@dataclass
class _About:
    """By run or host, what holds a policy back."""

    gaps: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=lambda: defaultdict(list))
    silent: dict[str, datetime] = field(default_factory=dict)
    busy: dict[int, str] = field(default_factory=dict)
    never: dict[int, str] = field(default_factory=dict)
    restarted: dict[int, tuple[datetime, str]] = field(default_factory=dict)


def _about(
    cases: Sequence[Worker], runs: QuerySet[Worker], watching: Watches, policies: Sequence[Policy], now: datetime
) -> _About:
    about = _About()
    since = min(worker.health_since for worker in cases)
    for host, began, ended in PollerGap.objects.filter(ended__gt=since).values_list("host", "began", "ended"):
        about.gaps[host].append((began, ended))
    for host in {worker.host for worker in cases}:
        watch = watching.of(host)
        if watch is None or watch.silent:
            about.silent[host] = (watch.poller.last_cycle_at if watch else None) or since
    longest = max(policy.after for policy in policies)
    for each in _repairs(runs, now - longest):
        _note(about, each)
    return about


def _repairs(runs: QuerySet[Worker], since: datetime) -> Iterable[dict[str, Any]]:
    """What people and policies have asked for about these runs, as far as it matters, oldest first."""
    keys = runs.values("pk")
    matters = (
        Q(state__in=Remediation.OPEN)
        | Q(state=State.WITHDRAWN, policy__isnull=False) & ~Q(error=Remediation.LAPSED)
        | Q(state=State.DONE, action=RESTART.name, finished_at__gt=since)
    )
    of_run = Remediation.objects.filter(matters, worker__in=keys)
    undone = Remediation.objects.filter(
        undoes__worker__in=keys, undoes__policy__isnull=False, state__in=(*Remediation.OPEN, State.DONE)
    )
    names = ("pk", "state", "action", "actor", "via", "policy", "error", "finished_at", "worker", "undoes__worker")
    found = [*of_run.order_by("pk").values(*names), *undone.order_by("pk").values(*names)]
    withdrawn = [each["pk"] for each in found if each["state"] == State.WITHDRAWN]
    its_own = Decision.objects.filter(remediation__in=withdrawn, verdict=Decision.Verdict.HELD_BACK)
    let_go = set(its_own.values_list("remediation", flat=True)) if withdrawn else set()
    return [each for each in found if each["pk"] not in let_go]


def _note(about: _About, each: dict[str, Any]) -> None:
    run = each["worker"] or each["undoes__worker"]
    if each["undoes__worker"]:
        about.never[run] = f"{each['actor']} has undone what the autopilot did to it (#{each['pk']})"
    elif each["state"] == State.WITHDRAWN:
        about.never[run] = f"{each['error'] or 'Withdrawn'} (#{each['pk']})"
    elif each["state"] in Remediation.OPEN:
        about.busy[run] = f"{each['actor']} has asked for a {each['action']} of it (#{each['pk']})"
    elif each["via"] != AUTOPILOT:
        about.restarted[run] = (each["finished_at"], each["actor"])


def _case(policy: Policy, worker: Worker, about: _About, tries: tuple[Try, ...], now: datetime) -> Case:
    silent = about.silent.get(worker.host)
    restarted_at, restarted_by = about.restarted.get(worker.pk, (None, ""))
    return Case(
        run=worker.pk,
        worker_id=worker.worker_id,
        since=worker.health_since,
        unwatched=overlap(worker.health_since, silent or now, about.gaps[worker.host]),
        silent_since=silent,
        no_case=objection(ACTIONS[policy.action], worker),
        busy=about.busy.get(worker.pk, ""),
        never=about.never.get(worker.pk, ""),
        restarted_at=restarted_at,
        restarted_by=restarted_by,
        tries=tries,
    )
