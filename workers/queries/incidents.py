"""Incidents as the page, its pushes and its export show them: rows, counts that end at a ceiling, one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db import connection
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.urls import reverse

from workers.incidents import Kind, overlap
from workers.models import Incident, Poller, PollerGap, RootCause, Worker
from workers.remediation.actions import ACTIONS

from .events import stamp
from .incident_query import STATE_HINTS, STATES, IncidentQuery
from .paging import Pager, on_a_page, pager, pages_of

PAGE = 50
#: Incidents are counted up to here; then it is "more than".
COUNTED = 10_000
#: New ones are counted up to here.
MOST_WAITING = 1_000
#: Other incidents of the same run or task that are listed.
OTHERS = 10
#: Columns of the run and the remediation that no row shows.
_UNSEEN = (
    *(f"run__{name}" for name in ("processes", "reasons", "problem_excerpt", "remedy", "description", "error")),
    *(f"remediation__{name}" for name in ("plan", "evidence", "output")),
)


# -- rows


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One incident, and how long its parts took. A length that nobody can know is None."""

    incident: Incident
    unwatched: timedelta  # how much of it nobody watched
    now: datetime

    @property
    def kind(self) -> Kind:
        return Kind(self.incident.kind)

    @property
    def lasts(self) -> bool:
        return self.incident.resolved is None

    @property
    def state(self) -> str:
        if not self.lasts:
            return "resolved"
        return "acknowledged" if self.incident.acknowledged else "new"

    @property
    def ended(self) -> datetime:
        """Its end, or now."""
        return self.incident.resolved or self.now

    @property
    def duration(self) -> timedelta:
        return max(self.ended - self.incident.began, timedelta())

    @property
    def time_to_detect(self) -> timedelta | None:
        """From its beginning until somebody could have known; None where nobody knows when it began."""
        it = self.incident
        return max(it.detected - it.began, timedelta()) if it.began_known else None

    @property
    def time_to_acknowledge(self) -> timedelta | None:
        it = self.incident
        return max(it.acknowledged - it.detected, timedelta()) if it.acknowledged else None

    @property
    def time_to_resolve(self) -> timedelta | None:
        """From detected to resolved."""
        it = self.incident
        return max(it.resolved - it.detected, timedelta()) if it.resolved else None

    @property
    def repair(self) -> str:
        """What ended it, if that was one of ours: `clean up`."""
        action = ACTIONS.get(self.incident.remediation.action) if self.incident.remediation else None
        return action.label.lower() if action else ""

    @property
    def events_address(self) -> str:
        """The stream of events about its worker, from a little before it to a little after."""
        around = timedelta(minutes=2)
        times = {"since": stamp(self.incident.began - around), "until": stamp(self.ended + around)}
        return f"{reverse('events')}?{urlencode({'worker': self.incident.worker_id, **times})}"


def _with_relations(incidents: QuerySet[Incident]) -> QuerySet[Incident]:
    return incidents.select_related("run", "remediation", "root_cause").defer(*_UNSEEN)


def rows_of(incidents: Iterable[Incident], now: datetime) -> list[IncidentRow]:
    """Say of each how much nobody watched: of those that last, out of the gaps of their hosts, in one query."""
    incidents = list(incidents)
    lasting = [each for each in incidents if each.resolved is None]
    gaps: dict[str, list[tuple[datetime, datetime]]] = {each.host: [] for each in lasting}
    if lasting:
        since = min(each.began for each in lasting)
        found = PollerGap.objects.filter(host__in=gaps, ended__gt=since)
        for host, began, ended in found.values_list("host", "began", "ended"):
            gaps[host].append((began, ended))
    return [
        IncidentRow(
            each,
            timedelta(seconds=each.unwatched_seconds) if each.resolved else overlap(each.began, now, gaps[each.host]),
            now,
        )
        for each in incidents
    ]


def rows(keys: Iterable[int], now: datetime) -> list[IncidentRow]:
    """The rows of these incidents; those that are not there any more are left out."""
    return rows_of(_with_relations(Incident.objects.filter(pk__in=list(keys))), now)


def every_row(query: IncidentQuery, now: datetime) -> Iterator[IncidentRow]:
    """All rows of a view in its order, a few at a time: for the export."""
    few: list[Incident] = []
    for incident in _with_relations(query.found(now)).iterator(chunk_size=500):
        few.append(incident)
        if len(few) == 500:
            yield from rows_of(few, now)
            few = []
    yield from rows_of(few, now)


# -- the page


class Count(NamedTuple):
    """A number that may be more than what was counted."""

    number: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.number:,}+" if self.more else f"{self.number:,}"


@dataclass(frozen=True, slots=True)
class Tab:
    """One state or one kind: how many there are, and where a click on it leads."""

    name: str
    label: str
    count: Count | None  # None: not counted
    on: bool
    href: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many incidents a view has, by state and by kind."""

    query: IncidentQuery
    states: tuple[Tab, ...]
    kinds: tuple[Tab, ...]
    matching: Count
    new: Count  # of those that last nobody has acknowledged, with the rest of the filter


@dataclass(frozen=True, slots=True)
class Incidents:
    """One page of incidents: everything that it shows, from a constant number of queries."""

    query: IncidentQuery
    rows: tuple[IncidentRow, ...]
    counts: Counts
    pager: Pager
    newest: int  # the highest key that was stored when it was read: what is new comes behind it
    types: tuple[str, ...]
    masters: tuple[str, ...]
    hosts: tuple[str, ...]
    causes: tuple[RootCause, ...]
    any: bool  # whatever the filter
    now: datetime


def incidents(query: IncidentQuery, now: datetime) -> Incidents:
    """Read one page of incidents."""
    newest = Incident.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    counts = count_incidents(query, now)
    pages = None if counts.matching.more else pages_of(counts.matching.number, PAGE)
    query = on_a_page(query, pages) if pages else query
    # The keys alone first: rows that are skipped are then not joined with anything
    begin = (query.page - 1) * PAGE
    keys = list(query.found(now).values_list("pk", flat=True)[begin : begin + PAGE + 1])
    found = {row.incident.pk: row for row in rows(keys[:PAGE], now)}
    groups = list(Worker.objects.order_by().values_list("worker_type", "master").distinct())
    hosts = Poller.objects.order_by("host").values_list("host", flat=True)
    return Incidents(
        query=query,
        rows=tuple(found[key] for key in keys[:PAGE] if key in found),
        counts=replace(counts, query=query),
        pager=pager(query, pages, more=len(keys) > PAGE),
        newest=newest,
        types=_choices((each for each, _ in groups), query.worker_type),
        masters=_choices((each for _, each in groups), query.master),
        hosts=_choices(hosts, query.host),
        causes=tuple(RootCause.objects.all()),
        any=bool(newest),
        now=now,
    )


def count_incidents(query: IncidentQuery, now: datetime) -> Counts:
    """Count one view by kind, and what lasts by whether somebody acknowledged it, up to a ceiling."""
    by_kind, more = _counted(query.condition(now, kind=False), F("kind"))
    untouched = Case(When(acknowledged=None, then=Value("new")), default=Value("acknowledged"))
    by_state, more_open = _counted(query.condition(now, state=False) & Q(resolved=None), untouched)
    by_state["open"] = sum(by_state.values())
    matching = Count(sum(by_kind.get(kind, 0) for kind in query.kind or Kind), more)
    if more and query.kind:  # the ceiling was reached before all of these kinds were counted
        chosen, more_chosen = _counted(query.condition(now), Value(""))
        matching = Count(sum(chosen.values()), more_chosen)
    return Counts(
        query=query,
        states=tuple(
            Tab(
                name,
                label,
                Count(by_state.get(name, 0), more_open) if name in ("open", "new", "acknowledged") else None,
                query.state == name,
                query.with_changes(state=name).string or "?",
                STATE_HINTS[name],
            )
            for name, label in STATES.items()
        ),
        kinds=tuple(
            Tab(
                kind.value,
                kind.value.capitalize(),
                Count(by_kind.get(kind, 0), more),
                kind in query.kind,
                query.toggled(kind).string or "?",
            )
            for kind in Kind
        ),
        matching=matching,
        new=Count(by_state.get("new", 0), more_open),
    )


def _counted(condition: Q, group: Any) -> tuple[dict[str, int], bool]:
    """Count groups of at most COUNTED incidents, and say whether there are more."""
    few = Incident.objects.filter(condition).order_by().annotate(counted_by=group).values("counted_by")[: COUNTED + 1]
    sql, values = few.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT counted_by, COUNT(*) FROM ({sql}) AS few GROUP BY counted_by", values)  # noqa: S608
        counts = {str(name): int(number) for name, number in cursor.fetchall()}
    if (total := sum(counts.values())) <= COUNTED:
        return counts, False
    largest = max(counts, key=lambda name: counts[name])
    return counts | {largest: counts[largest] - (total - COUNTED)}, True


def _choices(values: Iterable[str], chosen: str) -> tuple[str, ...]:
    return tuple(sorted({value for value in (*values, chosen) if value}))


def waiting_incidents(query: IncidentQuery, newest: int, now: datetime) -> int:
    """How many incidents of this view came since a page was read, up to MOST_WAITING."""
    new = Incident.objects.filter(query.condition(now), pk__gt=newest)
    return len(new.order_by().values_list("pk")[:MOST_WAITING])


# -- one of them


class Moment(NamedTuple):
    """One moment of an incident, in order of time."""

    name: str
    at: datetime
    after: timedelta | None  # since the moment before; None where that cannot be known
    hint: str = ""


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """One incident with what belongs to it."""

    row: IncidentRow
    others: tuple[IncidentRow, ...]  # of the same run or task, newest first
    causes: tuple[RootCause, ...]

    @property
    def moments(self) -> list[Moment]:
        """What happened to it: began, detected, acknowledged, resolved; by their times."""
        it = self.row.incident
        began = "" if it.began_known else "not known: it began, for all we know, when it was seen"
        given = [("began", it.began, began), ("detected", it.detected, "")]
        given += [("acknowledged", it.acknowledged, f"by {it.acknowledged_by}")] if it.acknowledged else []
        given += [("resolved", it.resolved, it.how)] if it.resolved else []
        given.sort(key=lambda each: each[1])
        lasts = [None, *(after[1] - before[1] for before, after in pairwise(given))]
        if not it.began_known:
            lasts[1] = None
        return [Moment(name, at, last, hint) for (name, at, hint), last in zip(given, lasts, strict=True)]

    @property
    def strip(self) -> list[tuple[str, float, str]]:
        """Its stretches as parts of a bar: what it was in, its share in percent, what that means."""
        names = {
            "began": ("unseen", "before it was detected"),
            "detected": ("open", "detected, and nobody had acknowledged it"),
            "acknowledged": ("tended", "acknowledged"),
        }
        moments = self.moments
        ends = [*(each.at for each in moments[1:]), self.row.ended]
        whole = max(self.row.duration.total_seconds(), 1.0)
        return [
            (*names[each.name][:1], max((end - each.at).total_seconds(), 0.0) * 100 / whole, names[each.name][1])
            for each, end in zip(moments, ends, strict=True)
            if each.name in names
        ]


def incident_page(key: int, now: datetime) -> IncidentPage | None:
    """Read one incident; None where there is none of that key."""
    found = rows([key], now)
    if not found:
        return None
    return IncidentPage(found[0], tuple(_others(found[0].incident, now)), tuple(RootCause.objects.all()))


def _others(incident: Incident, now: datetime) -> list[IncidentRow]:
    run = incident.run
    if run is None:
        same = Q(run=None, host=incident.host, worker_id=incident.worker_id)
    else:
        same = Q(run__task_id=run.task_id) if run.task_id else Q(run=run)
    return _newest(Incident.objects.filter(same).exclude(pk=incident.pk), now)


def incidents_of_run(run: Worker, now: datetime) -> list[IncidentRow]:
    """The last incidents of one run, newest first."""
    return _newest(Incident.objects.filter(run=run), now)


def _newest(found: QuerySet[Incident], now: datetime) -> list[IncidentRow]:
    return rows_of(_with_relations(found).order_by("-detected", "-pk")[:OTHERS], now)


def runs_of(keys: Iterable[int], among: Iterable[int]) -> set[int]:
    """Which of these runs the incidents are about."""
    found = Incident.objects.filter(run__in=list(among)).filter(pk__in=list(keys))
    return set(found.values_list("run", flat=True).distinct())
