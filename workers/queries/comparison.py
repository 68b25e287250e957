"""Two past moments compared: which runs were in another state, and how they got there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count

from workers.models import HealthChange, Worker

from .fleet import HEAVY, Facet
from .past import (
    NEW,
    OVER,
    SEVERITY,
    STATES,
    UNWATCHED,
    PastQuery,
    facets,
    last_change,
    on_a_page,
    pages,
    passes,
    searched,
)
from .view import ENDED
from .vigil import Blind, Vigils, vigils


class Pair(NamedTuple):
    """What was known of a run at both moments, as the database gives it."""

    worker: int  # primary keys
    first_change: int | None
    first: str | None
    second_change: int
    second: str
    created_between: Any
    worker_type: str
    master: str
    host: str


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
    def pages(self) -> int:
        return pages(self.matching, self.query.size)

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
    pairs = [(_came(pair, blind[0]), _went(pair, blind[1]), pair) for pair in _pairs(query, first, second)]
    passing = {values for values in {pair[6:] for _, _, pair in pairs} if passes(values, query)}
    narrowed = [each for each in pairs if each[2][6:] in passing]
    differing = [each for each in narrowed if each[0] != each[1]]
    same = [each for each in narrowed if each[0] == each[1] and each[0] != UNWATCHED]
    counts = Counter((came, went) for came, went, _ in differing)
    groups = Counter(pair[6:] for came, went, pair in pairs if came != went and query.move in (None, (came, went)))
    listed = [each for each in differing if query.move in (None, each[:2])]
    listed.sort(key=lambda each: (SEVERITY[each[1]], _place(each[0]), each[2].worker))
    query, ignored = on_a_page(query, len(listed))
    start = (query.page - 1) * query.size
    table, columns = _table(query, counts)
    return Comparison(
        query=query,
        now=now,
        rows=_rows(listed[start : start + query.size], first, second),
        table=table,
        went=columns,
        facets=facets(query, list(groups.items())),
        matching=len(listed),
        moved=len(differing),
        new=sum(came == NEW for came, _, _ in differing),
        ended=sum(went in ENDED for _, went, _ in differing),
        unchanged=len(same),
        back=sum(pair.first_change != pair.second_change for _, _, pair in same),
        unseen=sum(came == went == UNWATCHED for came, went, _ in narrowed),
        vigils=watch,
        ignored=ignored,
    )


def _pairs(query: PastQuery, first: datetime, second: datetime) -> list[Pair]:
    """Every run that a search finds and that had a verdict by the second moment; what ended before the first apart."""
    adapt = connection.ops.adapt_datetimefield_value
    where, words = searched(query, "b.reason")
    sql = f"""SELECT w.id, a.id, a.new, b.id, b.new, w.created_at > %s, w.worker_type, w.master, w.host
        FROM workers_worker w {last_change("b")} {last_change("a", "LEFT JOIN")}
        WHERE (b.new NOT IN {OVER} OR b.at > %s){where}"""  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [adapt(first), adapt(second), adapt(first), adapt(first), *words])
        return [Pair._make(row) for row in cursor.fetchall()]


def _came(pair: Pair, blind: set[str]) -> str:
    if pair.first is None:  # what its spec dates later was not there, whoever watched
        return UNWATCHED if pair.host in blind and not pair.created_between else NEW
    return UNWATCHED if pair.host in blind and pair.first not in ENDED else pair.first


def _went(pair: Pair, blind: set[str]) -> str:
    return UNWATCHED if pair.host in blind and pair.second not in ENDED else pair.second


def _place(state: str) -> int:
    return len(STATES) if state == NEW else SEVERITY[state]


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


def _rows(listed: list[tuple[str, str, Pair]], first: datetime, second: datetime) -> tuple[Moved, ...]:
    keys = [pair.worker for _, _, pair in listed]
    workers = Worker.objects.defer(*HEAVY, "reasons").in_bulk(keys)
    wanted = {key for _, _, pair in listed for key in (pair.first_change, pair.second_change) if key}
    changes = HealthChange.objects.in_bulk(wanted)
    between = HealthChange.objects.filter(worker__in=keys, at__gt=first, at__lte=second)
    numbers = dict(between.order_by().values_list("worker").annotate(n=Count("pk")))
    return tuple(
        Moved(
            worker=workers[pair.worker],
            came=came,
            went=went,
            first=changes.get(pair.first_change or 0),
            second=changes[pair.second_change],
            changes=numbers.get(pair.worker, 0),
        )
        for came, went, pair in listed
        if pair.worker in workers and pair.second_change in changes  # both may have been removed this moment
    )
