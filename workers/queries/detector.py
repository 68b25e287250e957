"""How well the detector did in a stretch of the past, and which limits would suit the silences that there were."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Sum

from workers.detection import (
    ENOUGH,
    Became,
    Change,
    Effect,
    Histogram,
    Lengths,
    Stall,
    Tally,
    became,
    effect,
    late_calls,
    lengths,
    suggest,
    tally,
)
from workers.health import Health, Limits, effective_limits
from workers.incidents import How, Kind
from workers.models import HealthChange, Incident, Limit, Remediation, Silence

from .period import GROUPS, Period

#: What is measured, worst first. A failure is no call: its spec says so.
CALLED = (Health.CRASHED, Health.ZOMBIE, Health.STALLED, Health.LATE)
_KINDS = [Kind.CRASHED, Kind.ZOMBIE, Kind.STALLED]
_CARRIED_OUT = (Remediation.State.RUNNING, Remediation.State.DONE)
#: What silences are counted by; of other filters they know nothing.
_SILENCES_BY = ("worker_type", "host")


@dataclass(frozen=True, slots=True)
class Group:
    """The calls of one verdict, or of one worker type."""

    name: str  # a health, or a worker type: "" where specs say none
    tally: Tally


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The silences of one worker type, and what limit they suggest."""

    worker_type: str
    silences: Lengths | None
    suggested: timedelta | None  # None: too few silences to say
    effect: Effect | None  # what it would have changed


@dataclass(frozen=True, slots=True)
class Detector:
    """The card: everything that it shows, from a constant number of queries."""

    period: Period
    total: Tally
    kinds: tuple[Group, ...]  # all of CALLED, worst first
    types: tuple[Group, ...]  # most calls first
    limits: Limits
    suggestions: tuple[Suggestion, ...]  # most silences first
    all_types: Suggestion  # what one limit for all would be
    silences_of_all: tuple[str, ...]  # what the period is narrowed to, but silences cannot be

    @property
    def enough(self) -> int:
        """How many silences a suggestion needs."""
        return ENOUGH


@dataclass(frozen=True, slots=True)
class _Called:
    """One call, of any kind."""

    health: Health
    worker_type: str
    became: Became
    stall: Stall | None = None  # of a stall of which it is known when it began


def detector(period: Period) -> Detector:
    """Measure the calls of a stretch and suggest limits from its silences, in five queries.

    What became of a call is what is known now, also where that came after the stretch.
    """
    calls = [*_incidents(period), *_late(period)]
    by_kind, by_type = defaultdict[str, list[Became]](list), defaultdict[str, list[Became]](list)
    stalls = defaultdict[str, list[Stall]](list)
    for call in calls:
        by_kind[call.health].append(call.became)
        by_type[call.worker_type].append(call.became)
        stalls[call.worker_type] += [call.stall] if call.stall else []
    limits = effective_limits(dict(Limit.objects.values_list("name", "seconds")), {})
    silences = silences_by_type(period)
    all_silences = sum((Counter(each) for each in silences.values()), Counter[int]())
    found = [_suggestion(name, silences[name], stalls[name], limits) for name in silences]
    types = [Group(name, tally(of_type)) for name, of_type in by_type.items()]
    return Detector(
        period=period,
        total=tally(call.became for call in calls),
        kinds=tuple(Group(health, tally(by_kind[health])) for health in CALLED),
        types=tuple(sorted(types, key=lambda group: (-group.tally.calls, group.name))),
        limits=limits,
        suggestions=tuple(
            sorted(found, key=lambda each: (-(each.silences.silences if each.silences else 0), each.worker_type))
        ),
        all_types=_suggestion("", all_silences, [stall for of_type in stalls.values() for stall in of_type], limits),
        silences_of_all=tuple(GROUPS[name] for name in period.filters if name not in _SILENCES_BY),
    )


def _suggestion(name: str, silences: Histogram, stalls: list[Stall], limits: Limits) -> Suggestion:
    found = lengths(silences)
    suggested = suggest(found)
    changed = effect(stalls, silences, limits.stalled_after, suggested) if suggested else None
    return Suggestion(name, found, suggested, changed)


def _incidents(period: Period) -> Iterator[_Called]:
    """Yield what was called stalled, zombie or crashed; what only a fleet's logs say is no call of ours."""
    run = {f"run__{name}": value for name, value in period.filters.items() if name != "host"}
    found = Incident.objects.filter(
        kind__in=_KINDS, from_log=False, detected__gte=period.since, detected__lt=period.until, **run
    )
    if period.host:
        found = found.filter(host=period.host)
    columns = ("kind", "run__worker_type", "began", "began_known", "detected", "resolved", "how")
    for kind, worker_type, began, known, detected, resolved, how in found.values_list(*columns):
        ended = became(How(how) if how else None) if resolved else Became.LASTS
        stall = Stall(began, detected, resolved, ended is Became.BACK) if kind == Kind.STALLED and known else None
        yield _Called(Health(kind), worker_type or "", ended, stall)


def _late(period: Period) -> Iterator[_Called]:
    """Yield what was called late. Read are all changes, up to now, of the runs that were called so in the stretch."""
    where = {f"worker__{name}": value for name, value in period.filters.items()}
    called = HealthChange.objects.filter(new=Health.LATE, at__gte=period.since, at__lt=period.until, **where)
    runs = called.values("worker_id")
    repairs = defaultdict[int, list[datetime]](list)
    begun = Remediation.objects.filter(worker__in=runs, state__in=_CARRIED_OUT, started_at__gte=period.since)
    for repaired, began in begun.values_list("worker_id", "started_at"):
        if repaired and began:
            repairs[repaired].append(began)
    changes = defaultdict[tuple[int, str], list[Change]](list)
    after = HealthChange.objects.filter(worker__in=runs, at__gte=period.since).order_by("worker_id", "at", "pk")
    columns = ("worker_id", "worker__worker_type", "at", "new", "attempt")
    for run, worker_type, at, new, attempt in after.values_list(*columns):
        changes[run, worker_type].append(Change(at, Health(new), attempt))
    for (run, worker_type), of_run in changes.items():
        for call in late_calls(of_run, repairs[run]):
            if call.at < period.until:
                yield _Called(Health.LATE, worker_type, call.became)


def silences_by_type(period: Period) -> dict[str, dict[int, int]]:
    """Silences that ended by themselves, by worker type, of the days in UTC that the stretch touches."""
    where = {name: value for name, value in period.filters.items() if name in _SILENCES_BY}
    last = period.until - timedelta(microseconds=1)
    days = (period.since.astimezone(UTC).date(), last.astimezone(UTC).date())
    counted = Silence.objects.filter(day__range=days, count__gt=0, minutes__gte=0, **where)
    by_type = defaultdict[str, dict[int, int]](dict)
    for worker_type, minutes, number in (
        counted.values_list("worker_type", "minutes").annotate(n=Sum("count")).order_by()
    ):
        by_type[worker_type][minutes] = number
    return dict(by_type)


CALLS_HEADER = (
    *("group", "name", "calls", "came_back_by_itself", "repaired_or_started_anew", "ended"),
    *("turned_into_another_trouble", "still_so", "false_alarms"),
)
LIMITS_HEADER = (
    *("worker_type", "silences", "p50_minutes", "p95_minutes", "p99_minutes", "stalled_after_minutes"),
    *("suggested_minutes", "false_alarms_spared", "noticed_later", "noticed_earlier", "by_minutes"),
    *("over_before_noticed", "silences_called_stalled", "silences_called_stalled_now"),
)


def calls_table(found: Detector) -> Iterator[tuple[Any, ...]]:
    """Yield the rows for a file, under CALLS_HEADER: all, then by verdict, then by worker type."""
    groups = [("all", "", found.total)]
    groups += [("verdict", group.name, group.tally) for group in found.kinds]
    groups += [("worker_type", group.name, group.tally) for group in found.types]
    for group, name, it in groups:
        share = it.false_alarms
        rounded = None if share is None else round(share, 4)
        yield group, name, it.calls, it.back, it.repaired, it.ended, it.turned, it.lasts, rounded


def limits_table(found: Detector) -> Iterator[tuple[Any, ...]]:
    """Yield the rows for a file, under LIMITS_HEADER; what nobody can say is empty."""
    for each in found.suggestions:
        it, now = each.silences, _minutes(found.limits.stalled_after)
        sizes = (it.silences, _minutes(it.p50), _minutes(it.p95), _minutes(it.p99)) if it else (0, None, None, None)
        change = each.effect
        changed: tuple[Any, ...] = (None,) * 8
        if change:
            changed = (
                *(_minutes(change.suggested), change.spared, change.later, change.earlier, _minutes(change.by)),
                *(change.missed, change.called, change.called_now),
            )
        yield (each.worker_type, *sizes, now, *changed)


def _minutes(duration: timedelta) -> float:
    return round(duration / timedelta(minutes=1), 2)
