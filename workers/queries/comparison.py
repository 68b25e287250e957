"""Two past moments compared: which runs were in another state, and how they got there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count

from workers.health import OVER
from workers.models import HealthChange, Worker

from .fleet import HEAVY, Facet
from .paging import Pager, on_a_page, pager, pages_of
from .past import (
    NEW,
    SEVERITY,
    SQL_OVER,
    STATES,
    UNWATCHED,
    PastQuery,
    facets,
    last_change,
    passes,
    searched,
)
from .vigil import Blind, Vigils, vigils


class Kind(NamedTuple):
    """What is the same for many runs and therefore looked at once, as the database gives it."""

    first: str | None  # the verdicts, as far as they were known
    second: str
    changed: Any  # whether there was a change in between, also one that was taken back
    created_between: Any
    worker_type: str
    master: str
    host: str


class Group(NamedTuple):
    """How many runs are of a kind, and the way from state to state that this makes."""

    way: tuple[str, str]
    kind: Kind
    number: int


#: Of a run with its keys in front, its Kind.
KIND = itemgetter(slice(3, None))


@dataclass(frozen=True, slots=True)
class Moved:
    """One run that was in another state at the second moment."""

    worker: Worker  # of today: only what its spec says may be shown of it
    came: str  # a state, or NEW
    went: str
    first: HealthChange | None  # to the verdicts that held, or were the last that was known
    second: HealthChange
    changes: int  # how often its verdict changed in between


@dataclass(frozen=True, slots=True)
class Cell:
    """How many runs went from one state to another."""

    came: str
    went: str
    count: int
    on: bool
    href: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two moments: everything that their page shows, from a constant number of queries."""

    query: PastQuery
    now: datetime
    rows: tuple[Moved, ...]
    table: tuple[tuple[str, tuple[Cell, ...]], ...]  # a row for each state that runs came from
    went: tuple[str, ...]  # its columns
    facets: tuple[Facet, ...]
    matching: int
    moved: int  # as the filters leave it, but for that of the table
    new: int
    ended: int
    unchanged: int  # had not ended, and were in the same state
    back: int  # of those: changed, and changed back
    unseen: int  # watched at neither moment
    vigils: Vigils
    ignored: tuple[str, ...]

    @property
    def first(self) -> datetime:
        return self.query.at

    @property
    def second(self) -> datetime:
        return self.query.with_ or self.now

    @property
    def seconds(self) -> float:
        return (self.second - self.first).total_seconds()

    @property
    def pager(self) -> Pager:
        return pager(self.query, pages_of(self.matching, self.query.size))

    @property
    def blind(self) -> tuple[tuple[str, tuple[Blind, ...], float], ...]:
        """The hosts that were not watched all the time: each with where, and for how many seconds."""
        found = [(vigil.host, vigil.blind(self.first, self.second)) for vigil in self.vigils.every]
        return tuple(
            (host, gaps, sum((gap.length for gap in gaps), timedelta()).total_seconds()) for host, gaps in found if gaps
        )


def compare(query: PastQuery, now: datetime) -> Comparison:
    """Read what differs between two moments."""
    first, second = query.at, query.with_ or now
    watch = vigils(first, second, now)
    blind = [{vigil.host for vigil in watch.unwatched(moment)} for moment in (first, second)]
    runs = _runs(query, first, second)
    kinds = list(map(KIND, runs))
    every = [_group(Kind._make(kind), number, *blind) for kind, number in Counter(kinds).items()]
    narrowed = [group for group in every if passes(group.kind[4:], query)]
    differing = [group for group in narrowed if group.way[0] != group.way[1]]
    same = [group for group in narrowed if group.way[0] == group.way[1] != UNWATCHED]
    counts: Counter[tuple[str, str]] = Counter()
    for group in differing:
        counts[group.way] += group.number
    ways = {group.kind: group.way for group in differing if query.move in (None, group.way)}
    listed = [(ways[kind], run) for kind, run in zip(kinds, runs, strict=True) if kind in ways]
    order = {way: (SEVERITY[way[1]], SEVERITY.get(way[0], len(SEVERITY))) for way in ways.values()}
    listed.sort(key=lambda each: order[each[0]])
    query = on_a_page(query, pages_of(len(listed), query.size))
    start = (query.page - 1) * query.size
    table, columns = _table(query, counts)
    return Comparison(
        query=query,
        now=now,
        rows=_rows(listed[start : start + query.size], first, second),
        table=table,
        went=columns,
        facets=facets(
            query,
            [
                (group.kind[4:], group.number)
                for group in every
                if group.way[0] != group.way[1] and query.move in (None, group.way)
            ],
        ),
        matching=len(listed),
        moved=counts.total(),
        new=sum(number for (came, _), number in counts.items() if came == NEW),
        ended=sum(number for (_, went), number in counts.items() if went in OVER),
        unchanged=sum(group.number for group in same),
        back=sum(group.number for group in same if group.kind.changed),
        unseen=sum(group.number for group in narrowed if group.way == (UNWATCHED, UNWATCHED)),
        vigils=watch,
        ignored=query.ignored,
    )


def _runs(query: PastQuery, first: datetime, second: datetime) -> list[tuple[Any, ...]]:
    """Read the key, the keys of both changes and the Kind of every run that a search finds and that had a verdict by
    the second moment; what ended before the first apart.
    """
    adapt = connection.ops.adapt_datetimefield_value
    where, words = searched(query, "b.reason")
    sql = f"""SELECT w.id, a.id, b.id, a.new, b.new, a.id <> b.id, w.created_at > %s, w.worker_type, w.master, w.host
        FROM workers_worker w {last_change("b")} {last_change("a", "LEFT JOIN")}
        WHERE (b.new NOT IN {SQL_OVER} OR b.at > %s){where} ORDER BY w.id"""  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [adapt(first), adapt(second), adapt(first), adapt(first), *words])
        return cursor.fetchall()


def _group(kind: Kind, number: int, blind_first: set[str], blind_second: set[str]) -> Group:
    """Say from what to what that is: what had not ended and nobody watched is unwatched."""
    came, went = kind.first or NEW, kind.second
    if kind.host in blind_first and came not in OVER and not (came == NEW and kind.created_between):
        came = UNWATCHED  # what its spec dates later was not there, whoever watched
    if kind.host in blind_second and went not in OVER:
        went = UNWATCHED
    return Group((came, went), kind, number)


def _table(
    query: PastQuery, counts: Counter[tuple[str, str]]
) -> tuple[tuple[tuple[str, tuple[Cell, ...]], ...], tuple[str, ...]]:
    """Lay the counts out: a row for each state that runs came from, a column for each that they went to."""
    if query.move:
        counts.setdefault(query.move, 0)
    order = (*STATES, NEW)
    rows = [state for state in order if any(came == state for came, _ in counts)]
    columns = tuple(state for state in order if any(went == state for _, went in counts))

    def cell(came: str, went: str) -> Cell:
        on = query.move == (came, went)
        return Cell(came, went, counts[came, went], on, query.with_changes(move=None if on else (came, went)).string)

    return tuple((came, tuple(cell(came, went) for went in columns)) for came in rows), columns


def _rows(
    listed: list[tuple[tuple[str, str], tuple[Any, ...]]], first: datetime, second: datetime
) -> tuple[Moved, ...]:
    keys = [run[0] for _, run in listed]
    workers = Worker.objects.defer(*HEAVY, "reasons").in_bulk(keys)
    changes = HealthChange.objects.in_bulk({key for _, run in listed for key in run[1:3] if key})
    between = HealthChange.objects.filter(worker__in=keys, at__gt=first, at__lte=second)
    numbers = dict(between.order_by().values_list("worker").annotate(n=Count("pk")))
    return tuple(
        Moved(workers[key], came, went, changes.get(before), changes[after], numbers.get(key, 0))
        for (came, went), (key, before, after, *_) in listed
        if key in workers and after in changes  # both may have been removed this moment
    )
