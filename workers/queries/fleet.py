"""The fleet page: rows, tiles, facets, and what is new since a page was rendered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Count, QuerySet

from workers.health import OVER, TROUBLED, Health
from workers.models import Worker
from workers.remediation.actions import Action, first_aid

from .paging import Pager, on_a_page, pager, pages_of
from .view import FACETS, LIVE, FleetQuery, ended_runs
from .watch import Watch, Watches, outbox_position, watches

TILES = (
    Health.HEALTHY,
    Health.LATE,
    Health.STALLED,
    Health.ZOMBIE,
    Health.CRASHED,
    Health.PENDING,
    Health.UNREADABLE,
    Health.FAILED,
    Health.COMPLETED,
)
TILES_IF_ANY = (Health.UNKNOWN, Health.GONE)
#: Columns that no list shows.
HEAVY = ("processes", "problem_excerpt", "remedy", "path", "last_checkin_source", "last_log_path")


@dataclass(frozen=True, slots=True)
class Row:
    """One run as lists show it."""

    worker: Worker
    watch: Watch | None
    now: datetime

    @property
    def health(self) -> Health:
        return Health(self.worker.health)

    @property
    def stale(self) -> bool:
        """Nobody watches its host now, so the verdict is the last one that was formed."""
        return self.watch is None or self.watch.silent

    @property
    def as_of(self) -> datetime:
        """The last moment for which the verdict is known to hold."""
        seen = self.watch.poller.last_cycle_at if self.watch else None
        return max(seen, self.worker.as_of) if seen else self.worker.as_of

    @property
    def main_reason(self) -> dict[str, Any]:
        reasons = self.worker.reasons
        return reasons[0] if reasons else {}

    @property
    def lost(self) -> bool:
        """It should have a process and has none."""
        return self.health in (Health.ZOMBIE, Health.CRASHED)

    @property
    def has_process(self) -> bool:
        """Whether the pid that is stored is that of a process which still lived at the last look."""
        return bool(self.worker.live and self.worker.pid and self.worker.process_gone_at is None)

    @property
    def pm_silent(self) -> bool:
        return self.watch is None or self.watch.pm_silent

    @property
    def first_aid(self) -> Action | None:
        """What is usually done about it: the button of the row."""
        return first_aid(self.health) if self.worker.live else None


@dataclass(frozen=True, slots=True)
class Tile:
    state: Health
    count: int
    on: bool
    href: str
    recent: bool  # counts only the last days


@dataclass(frozen=True, slots=True)
class Facet:
    """One column to filter by: its values with how many rows each would show."""

    name: str
    every: str  # what it is called when nothing is chosen
    value: str
    choices: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """The tiles and facets of one view, and what is shown of how much."""

    query: FleetQuery
    tiles: tuple[Tile, ...]
    facets: tuple[Facet, ...]
    matching: int
    live: int  # live runs without any filter
    troubled: int  # of those that the other filters leave

    @property
    def pages(self) -> int:
        return pages_of(self.matching, self.query.size)

    @property
    def worst(self) -> Health | None:
        """The worst state that is counted, for the tab's icon."""
        states = [tile.state for tile in self.tiles if tile.count and tile.state in TROUBLED]
        return min(states, key=lambda state: state.severity, default=None)

    @property
    def title(self) -> str:
        return f"({self.troubled}) Fleet" if self.troubled else "Fleet"

    @property
    def problems_href(self) -> str:
        """Problems only, or everything again."""
        wanted = () if self.query.problems_only else tuple(state for state in Health if state in TROUBLED)
        return self.query.with_changes(health=wanted).string

    @property
    def shown(self) -> str:
        """How much of the fleet the list shows: `6 of 53 workers shown`."""
        first, last = (self.query.page - 1) * self.query.size + 1, min(self.query.page * self.query.size, self.matching)
        of = f"{self.matching:,} that match" if self.query.filtered else f"{self.live:,} workers"
        if last - first + 1 < self.matching:
            return f"{first:,}–{last:,} of {of} shown"
        if not self.query.filtered:
            return f"{self.matching:,} of {self.live:,} workers shown"
        return f"{self.matching:,} that match shown; {self.live:,} live workers"

    @property
    def sentence(self) -> str:
        """The fleet in one sentence, for those who listen to the page."""
        bad = [f"{tile.count} {tile.state}" for tile in self.tiles if tile.count and tile.state in TROUBLED]
        return f"{', '.join(bad) or 'none in trouble'}; {self.live} live workers"


class Group(NamedTuple):
    """How many runs share these values."""

    live: bool
    health: str
    worker_type: str
    master: str
    host: str
    number: int


def count_fleet(query: FleetQuery, now: datetime) -> Counts:
    """Count the fleet once by all columns that can be filtered, and add up from that what each tile and facet shows."""
    groups = _groups(query, now)
    by_state: Counter[str] = Counter()
    for group in groups:
        if _passes(group, query, without="health"):
            by_state[group.health] += group.number
    states = [*TILES, *(state for state in TILES_IF_ANY if by_state[state] or state in query.health)]
    return Counts(
        query=query,
        tiles=tuple(_tile(query, state, by_state[state]) for state in states),
        facets=tuple(_facet(query, name, every, groups) for name, every in FACET_NAMES.items()),
        matching=sum(group.number for group in groups if _passes(group, query)),
        live=Worker.objects.filter(LIVE).count(),
        troubled=sum(by_state[state] for state in TROUBLED),
    )


FACET_NAMES = {"worker_type": "All types", "master": "All masters", "host": "All hosts"}


def _groups(query: FleetQuery, now: datetime) -> list[Group]:
    columns = ("live", "health", *FACETS)
    ended = ended_runs(OVER, now) if query.runs != "all" else Worker.objects.filter(live__in=(False,))
    parts = [Worker.objects.filter(LIVE), Worker.objects.filter(pk__in=ended.values("pk"))]
    if query.runs == "all":
        parts[1] = ended
    return [
        Group(*values)
        for part in parts
        for values in part.filter(query.search.condition).values_list(*columns).annotate(count=Count("pk")).order_by()
    ]


def _passes(group: Group, query: FleetQuery, without: str = "") -> bool:
    """Whether a view shows this group, one of its filters apart."""
    if any(name != without and (value := getattr(query, name)) and getattr(group, name) != value for name in FACETS):
        return False
    if without == "health":
        return True
    if query.chosen is None:
        return group.live or query.runs == "all"
    return group.health in query.chosen


def _tile(query: FleetQuery, state: Health, count: int) -> Tile:
    recent = state in OVER and query.runs != "all"
    return Tile(state, count, state in query.health, query.toggled(state).string, recent)


def _facet(query: FleetQuery, name: str, every: str, groups: list[Group]) -> Facet:
    counted: Counter[str] = Counter()
    for group in groups:
        if _passes(group, query, without=name):
            counted[getattr(group, name)] += group.number
    value = getattr(query, name)
    if value:
        counted.setdefault(value, 0)
    counted.pop("", None)
    return Facet(name, every, value, tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:100]))


@dataclass(frozen=True, slots=True)
class Fleet:
    """The fleet page: everything that it shows, from a constant number of queries."""

    query: FleetQuery
    counts: Counts
    rows: tuple[Row, ...]
    watches: Watches
    position: int
    now: datetime
    ignored: tuple[str, ...]

    @property
    def pager(self) -> Pager:
        return pager(self.query, self.counts.pages)

    @property
    def empty(self) -> str:
        """Which of the four empty states this is, else ""."""
        if self.rows:
            return ""
        if self.query.filtered:
            return "no match"
        if not self.watches.every:
            return "no poller" if settings.RELAY_HOME else "no home"
        return "no poller" if len(self.watches.silent) == len(self.watches.every) else "empty fleet"


def fleet(query: FleetQuery, now: datetime) -> Fleet:
    """Read one page of the fleet."""
    position = outbox_position()
    watching = watches(now)
    counts = count_fleet(query, now)
    query = on_a_page(query, counts.pages)
    counts = replace(counts, query=query)
    rows = tuple(Row(worker, watching.of(worker.host), now) for worker in page_of(query, now))
    return Fleet(query, counts, rows, watching, position, now, query.ignored)


def all_of(query: FleetQuery, now: datetime) -> QuerySet[Worker]:
    """Every run of a view, on whichever page."""
    return Worker.objects.filter(query.condition(now)).order_by(*query.order).defer(*HEAVY)


def page_keys(query: FleetQuery, now: datetime) -> QuerySet[Worker, int]:
    """The primary keys of the runs on one page of a view, in its order."""
    start = (query.page - 1) * query.size
    runs = Worker.objects.filter(query.condition(now)).order_by(*query.order)
    return runs.values_list("pk", flat=True)[start : start + query.size]


def page_of(query: FleetQuery, now: datetime) -> QuerySet[Worker]:
    """The runs on one page of a view, in its order.

    Found by key first: a database that sorts ten thousand whole rows to give out fifty of them copies them all.
    """
    return Worker.objects.filter(pk__in=page_keys(query, now)).order_by(*query.order).defer(*HEAVY)


def rows(keys: Iterable[int], watching: Watches, now: datetime) -> list[Row]:
    """The runs with these primary keys, as lists show them."""
    found = Worker.objects.filter(pk__in=list(keys)).defer(*HEAVY)
    return [Row(worker, watching.of(worker.host), now) for worker in found]


@dataclass(frozen=True, slots=True)
class News:
    """What a page that is open does not show, or still shows, or shows in an order that no longer holds."""

    new: int
    gone: int
    moved: bool

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.moved)


def news(query: FleetQuery, keys: Iterable[int], now: datetime) -> Callable[[tuple[int, ...]], News]:
    """Look at a view once, for all pages that show it; what is returned compares it with what one of them shows."""
    present = tuple(page_keys(query, now))
    left = set(keys) - set(present)
    matching = (
        set(Worker.objects.filter(query.condition(now), pk__in=left).values_list("pk", flat=True)) if left else set()
    )

    def compare(shown: tuple[int, ...]) -> News:
        kept = set(shown) & set(present)
        order = [key for key in shown if key in kept] != [key for key in present if key in kept]
        gone = sum(key not in kept and key not in matching for key in shown)
        return News(len(set(present) - set(shown)), gone, order and not query.sort)

    return compare
