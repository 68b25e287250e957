"""What pages and pushes ask of the database. Reading only; a page's query string becomes a :class:`FleetQuery`.

The same objects answer the page, the htmx reply and the push, so that the three can never differ.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Count, F, Max, Q, QuerySet
from django.db.models.expressions import OrderBy
from django.db.models.functions import Coalesce
from django.http import QueryDict

from .health import PM_SILENT_AFTER, TROUBLED, Health
from .models import Change, HealthChange, Poller, PollerGap, Worker, WorkerDocument
from .remediation.actions import Action, first_aid

SIZES = (50, 100, 200)
#: How far back the tiles of runs that have ended look.
RECENT = timedelta(days=7)
ENDED = frozenset({Health.FAILED, Health.COMPLETED, Health.CANCELLED, Health.GONE})
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
#: A poller is silent when it has missed three cycles, though never sooner than this.
SILENT_CYCLES = 3
SILENT_AT_LEAST = timedelta(seconds=6)
#: `live = 1` can use an index; the bare boolean that Django writes for `live=True` cannot, on SQLite.
LIVE = Q(live__in=(True,))
HEAVY = ("processes", "problem_excerpt", "remedy", "path", "last_checkin_source", "last_log_path")


# The query string


class Sort(NamedTuple):
    """An order of the list: the columns, whether the first click shows the largest first, and what it is called."""

    columns: tuple[str, ...]
    descending_first: bool
    label: str


SORTS = {
    "worker": Sort(("worker_id",), False, "Worker"),
    "health": Sort(("severity", "-overdue", "-not_checking_in", "health_since"), False, "Health"),
    "since": Sort(("health_since",), True, "Why"),
    "checkin": Sort(("last_checkin_at",), False, "Last check-in"),
    "progress": Sort(("progress_pct",), False, "Progress"),
    "time": Sort(("started_at",), False, "Time used"),
    "process": Sort(("cpu_percent",), True, "Process"),
    "pm": Sort(("pm_disagrees", "pm_health"), True, "PM daemon says"),
}
QUALIFIERS = {
    "type": "worker_type__icontains",
    "task": "task_id__icontains",
    "master": "master__icontains",
    "host": "host__icontains",
    "status": "status__icontains",
}
MARKS = {
    "overdue": Q(overdue=True),
    "disagreeing": Q(pm_disagrees=True),
    "not-checking-in": Q(not_checking_in=True),
}
FREE_TEXT = ("worker_id", "task_id", "worker_type", "description", "error", "reasons__0__text")


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody typed into the search box, taken apart."""

    words: tuple[str, ...] = ()
    qualified: tuple[tuple[str, str], ...] = ()
    health: frozenset[Health] | None = None
    ignored: tuple[str, ...] = ()

    @property
    def condition(self) -> Q:
        """The rows that it asks for, its `health:` apart."""
        condition = Q()
        for name, value in self.qualified:
            condition &= MARKS[value] if name == "is" else Q(**{QUALIFIERS[name]: value})
        for word in self.words:
            anywhere = Q()
            for column in FREE_TEXT:
                anywhere |= Q(**{f"{column}__icontains": word})
            condition &= anywhere
        return condition


@lru_cache(maxsize=256)
def parse_search(text: str) -> Search:
    """Take a search apart: `type:scan is:overdue "two words"`. What cannot be used is named in ``ignored``."""
    words: list[str] = []
    qualified: list[tuple[str, str]] = []
    health: frozenset[Health] | None = None
    ignored: list[str] = []
    for token in _tokens(text):
        name, _, value = token.partition(":")
        name = name.lower()
        if name == "health":
            known = {state for part in value.split(",") if (state := _health(part))}
            ignored += [f"health:{part}, no such state" for part in value.split(",") if not _health(part)]
            if known:
                health = frozenset(known) if health is None else health & known
        elif name == "is" and value.lower() in MARKS:
            qualified.append((name, value.lower()))
        elif name == "is" or (name in QUALIFIERS and not value):
            ignored.append(f"{token}, which asks for nothing")
        elif name in QUALIFIERS:
            qualified.append((name, value))
        else:
            words.append(token)
    return Search(tuple(words), tuple(qualified), health, tuple(ignored))


def _tokens(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.quotes, lexer.escape = True, "", '"', ""
    try:
        return [token for token in lexer if token]
    except ValueError:  # a quote that is not closed, as while typing
        return text.replace('"', " ").split()


def _health(word: str) -> Health | None:
    try:
        return Health(word.strip().lower())
    except ValueError:
        return None


@dataclass(frozen=True)
class FleetQuery:
    """One view of the fleet, as a query string says it. Equal queries show the same."""

    health: tuple[Health, ...] = ()
    worker_type: str = ""
    master: str = ""
    host: str = ""
    q: str = ""
    runs: str = ""  # "all": also runs that ended longer ago than RECENT
    sort: str = ""
    page: int = 1
    size: int = SIZES[0]
    ignored: tuple[str, ...] = field(default=(), compare=False)  # sentences: what could not be used

    @classmethod
    def parse(cls, params: QueryDict) -> FleetQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        ignored: list[str] = []
        states = {part for value in params.getlist("health") for part in value.split(",") if part}
        ignored += [f"health “{part[:40]}”, no such state" for part in sorted(states) if not _health(part)]
        text = params.get("q", "").replace("\0", "").strip()[:500]
        sort = params.get("sort", "")
        if sort.removeprefix("-") not in SORTS:
            ignored += [f"sort “{sort[:40]}”, no such column"] if sort else []
            sort = ""
        return cls(
            health=tuple(state for state in Health if state in {_health(part) for part in states}),
            worker_type=_plain(params, "worker_type"),
            master=_plain(params, "master"),
            host=_plain(params, "host"),
            q=text,
            runs="all" if params.get("runs") == "all" else "",
            sort="" if sort == "health" else sort,
            page=_number(params, "page", 1, ignored),
            size=_number(params, "size", SIZES[0], ignored, among=SIZES),
            ignored=(*ignored, *parse_search(text).ignored),
        )

    def with_changes(self, **changes: Any) -> FleetQuery:
        """The same view with something else; every change but of the page leads to the first page."""
        return replace(self, **{"page": 1, "ignored": (), **changes})

    @property
    def string(self) -> str:
        """The shortest query string that says this, with its question mark; "" for the default view."""
        default = FleetQuery()
        given = {
            "health": ",".join(self.health),
            **{
                name: getattr(self, name)
                for name in ("worker_type", "master", "host", "q", "runs", "sort", "page", "size")
            },
        }
        kept = {name: value for name, value in given.items() if value and value != getattr(default, name)}
        return f"?{urlencode(kept, safe=',')}" if kept else ""

    @property
    def search(self) -> Search:
        return parse_search(self.q)

    @property
    def chosen(self) -> frozenset[Health] | None:
        """The states asked for by tiles and search together; None where nobody asked."""
        asked = frozenset(self.health) or None
        if self.search.health is None:
            return asked
        return self.search.health if asked is None else asked & self.search.health

    @property
    def filtered(self) -> bool:
        return bool(self.health or self.worker_type or self.master or self.host or self.q or self.runs)

    @property
    def problems_only(self) -> bool:
        return set(self.health) == TROUBLED

    def toggled(self, state: Health) -> FleetQuery:
        """The view with one state more, or one less."""
        chosen = {*self.health} ^ {state}
        return self.with_changes(health=tuple(other for other in Health if other in chosen))

    def sorted_by(self, column: str) -> FleetQuery:
        """The view in the order of a column; the other way round where it is in that order already."""
        first, second = (column, f"-{column}") if not SORTS[column].descending_first else (f"-{column}", column)
        wanted = second if (self.sort or "health") == first else first
        return self.with_changes(sort="" if wanted == "health" else wanted)

    def condition(self, now: datetime) -> Q:
        """The rows of this view."""
        condition = self._states(now) & self.search.condition
        for name in FACETS:
            if value := getattr(self, name):
                condition &= Q(**{name: value})
        return condition

    @property
    def words(self) -> str:
        """The filter spelt out, "" for the default view."""
        said = [" or ".join(self.health)] if self.health else []
        said += [f"{FACET_WORDS[name]} {value}" for name in FACETS if (value := getattr(self, name))]
        said += [f"search “{self.q}”"] if self.q else []
        return ", ".join([*said, *(["earlier runs too"] if self.runs else [])])

    def _states(self, now: datetime) -> Q:
        """Live runs; runs that have ended only where somebody asks for them, and then the recent ones."""
        chosen = self.chosen
        within = Q(health__in=sorted(chosen)) if chosen is not None else Q()
        if self.runs == "all":
            return within
        ended = (chosen or frozenset()) & ENDED
        if not ended:
            return LIVE & within
        return (LIVE & within) | Q(pk__in=_ended(ended, now).values("pk"))

    @property
    def order(self) -> list[OrderBy]:
        """The columns to sort by, values that are missing last, always ending in a unique one."""
        name = self.sort or "health"
        reverse = name.startswith("-")
        columns = SORTS[name.removeprefix("-")].columns
        order = []
        for column in columns:
            plain = F(column.removeprefix("-"))
            descending = column.startswith("-") != reverse
            # "nulls last" would keep the default order off its index, and its columns have no nulls
            nulls = {} if len(columns) > 1 or columns[0] in ("worker_id", "health_since") else {"nulls_last": True}
            order.append(plain.desc(**nulls) if descending else plain.asc(**nulls))
        return [*order, F("id").asc()]


#: Columns of equal name in the query, the row and the list of groups.
FACETS = ("worker_type", "master", "host")
FACET_WORDS = {"worker_type": "type", "master": "master", "host": "host"}


def _plain(params: QueryDict, name: str) -> str:
    return params.get(name, "").replace("\0", "").strip()[:255]


def _number(params: QueryDict, name: str, default: int, ignored: list[str], among: tuple[int, ...] = ()) -> int:
    text = params.get(name, "")
    if text.isascii() and text.isdigit() and int(text[:9]) > 0 and (not among or int(text[:9]) in among):
        return int(text[:9])
    if text:
        ignored.append(f"{name} “{text[:40]}”" + (f", which is none of {', '.join(map(str, among))}" if among else ""))
    return default


def _ended(states: Iterable[Health], now: datetime | None) -> QuerySet[Worker]:
    """Runs that are over, by how they ended; since RECENT where a time is given. Uses the index on that expression."""
    runs = Worker.objects.filter(live__in=(False,), health__in=sorted(states))
    return runs.alias(over=Coalesce("ended_at", "health_since")).filter(over__gte=now - RECENT) if now else runs


# How far what is stored can be trusted


@dataclass(frozen=True, slots=True)
class Watch:
    """The poller of one host, and whether it still says anything about now."""

    poller: Poller
    now: datetime

    @property
    def silent_after(self) -> timedelta:
        """How long after its last cycle it counts as silent."""
        return max(SILENT_CYCLES * timedelta(seconds=self.poller.interval_seconds), SILENT_AT_LEAST)

    @property
    def silent(self) -> bool:
        last = self.poller.last_cycle_at
        return last is None or self.now - last > self.silent_after

    @property
    def pm_silent(self) -> bool:
        """Whether the PM daemon's words are too old to say anything about now."""
        last = self.poller.pm_last_loop
        return last is None or self.now - last > PM_SILENT_AFTER


@dataclass(frozen=True, slots=True)
class Watches:
    """Every host's poller, in order of name."""

    every: tuple[Watch, ...] = ()

    def of(self, host: str) -> Watch | None:
        return next((watch for watch in self.every if watch.poller.host == host), None)

    @property
    def silent(self) -> tuple[Watch, ...]:
        return tuple(watch for watch in self.every if watch.silent)

    @property
    def silent_since(self) -> datetime | None:
        """The last cycle of the poller that has been silent for longest."""
        return min((last for watch in self.silent if (last := watch.poller.last_cycle_at)), default=None)

    @property
    def unreadable(self) -> int:
        """Files under worker-specs that cannot be parsed, of all hosts."""
        return sum(watch.poller.unreadable for watch in self.every)


def watches(now: datetime) -> Watches:
    return Watches(tuple(Watch(poller, now) for poller in Poller.objects.order_by("host")))


def outbox_position() -> int:
    """The last change of the outbox. Taken before a page's rows are read, it never claims too much."""
    return Change.objects.aggregate(last=Max("id"))["last"] or 0


# The list


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
        return max(1, -(-self.matching // self.query.size))

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
    ended = _ended(ENDED, now) if query.runs != "all" else Worker.objects.filter(live__in=(False,))
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
    recent = state in ENDED and query.runs != "all"
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
    ignored = query.ignored
    if query.page > counts.pages:
        ignored = (*ignored, f"page {query.page}, as there are only {counts.pages}")
        query = replace(query, page=counts.pages)
        counts = replace(counts, query=query)
    rows = tuple(Row(worker, watching.of(worker.host), now) for worker in page_of(query, now))
    return Fleet(query, counts, rows, watching, position, now, ignored)


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


# One run


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time in one state, on the strip of a worker's page."""

    state: str  # a health, or "unwatched"
    began: datetime
    ended: datetime
    share: float  # of the strip, in percent


@dataclass(frozen=True, slots=True)
class WorkerPage:
    """One run with everything that is known of it."""

    row: Row
    documents: WorkerDocument | None
    changes: tuple[HealthChange, ...]  # newest first
    gaps: tuple[PollerGap, ...]
    runs: tuple[Worker, ...]  # the other runs of this id, newest first
    position: int

    @property
    def worker(self) -> Worker:
        return self.row.worker

    @property
    def strip(self) -> list[Stretch]:
        return strip(self.changes, self.gaps, self.row.as_of)


CHANGES_SHOWN = 100
RUNS_SHOWN = 50


def find_run(worker_id: str, run: str, now: datetime) -> WorkerPage | None:
    """The page of a worker: of the run that is asked for by key, else of its live run, else of the newest one."""
    position = outbox_position()
    columns = (
        "pk",
        "host",
        "worker_id",
        "created_at",
        "live",
        "health",
        "severity",
        "directory",
        "task_id",
        "health_since",
    )
    known = Worker.objects.only(*columns).order_by("-live", F("created_at").desc(nulls_last=True), "-pk")
    asked = int(run) if run.isascii() and run.isdigit() and len(run) < 19 else None
    if not worker_id and asked:
        worker_id = Worker.objects.filter(pk=asked).values_list("worker_id", flat=True).first() or ""
    runs = list(known.filter(worker_id=worker_id)[: RUNS_SHOWN + 1]) if worker_id else []
    wanted = asked if run else (runs[0].pk if runs else None)
    worker = Worker.objects.filter(pk=wanted, worker_id=worker_id).first() if wanted else None
    return worker_page(worker, runs, position, now) if worker else None


def worker_page(worker: Worker, runs: Iterable[Worker], position: int, now: datetime) -> WorkerPage:
    """Read what belongs to a run."""
    documents = WorkerDocument.objects.filter(pk=worker.pk).first()
    changes = tuple(worker.health_changes.order_by("-at", "-pk")[:CHANGES_SHOWN])
    since = changes[-1].at if changes else worker.health_since
    gaps = tuple(PollerGap.objects.filter(host=worker.host, ended__gt=since).order_by("began")[:CHANGES_SHOWN])
    others = tuple(run for run in runs if run.pk != worker.pk)[:RUNS_SHOWN]
    return WorkerPage(Row(worker, watches(now).of(worker.host), now), documents, changes, gaps, others, position)


def similar_ids(worker_id: str) -> list[str]:
    """Ids that somebody may have meant who asked for one that does not exist."""
    part = worker_id.strip().removesuffix(".json")[:40]
    if len(part) < 3:
        return []
    stem = part.rstrip("0123456789") or part
    near = Worker.objects.filter(Q(worker_id__icontains=part) | Q(worker_id__istartswith=stem))
    return list(dict.fromkeys(near.order_by("-live", "worker_id").values_list("worker_id", flat=True)[:50]))[:10]


def strip(changes: Iterable[HealthChange], gaps: Iterable[PollerGap], until: datetime) -> list[Stretch]:
    """Lay changes of verdict out over time; where no poller ran, nobody knows."""
    states: list[tuple[datetime, str]] = [
        (change.at, change.new) for change in sorted(changes, key=lambda c: (c.at, c.pk))
    ]
    if not states:
        return []
    began, until = states[0][0], max(until, states[-1][0] + timedelta(seconds=1))
    edges = {moment for moment, _ in states} | {until}
    silent = [(max(gap.began, began), min(gap.ended, until)) for gap in gaps if gap.ended > began and gap.began < until]
    edges |= {edge for gap in silent for edge in gap}
    stretches: list[Stretch] = []
    for start, end in zip(sorted(edges), sorted(edges)[1:], strict=False):
        state = next(state for moment, state in reversed(states) if moment <= start)
        if any(first <= start and end <= last for first, last in silent):
            state = "unwatched"
        share = 100 * (end - start) / (until - began)
        if stretches and stretches[-1].state == state:
            before = stretches.pop()
            start, share = before.began, before.share + share
        stretches.append(Stretch(state, start, end, share))
    return stretches
