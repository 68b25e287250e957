"""A page's query string becomes a :class:`FleetQuery`: filters, search, order, page. What it asks of the database."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import F, Q, QuerySet
from django.db.models.expressions import OrderBy
from django.db.models.functions import Coalesce
from django.http import QueryDict

from workers.health import OVER, TROUBLED, Health
from workers.models import Worker
from workers.params import positive, text_of

SIZES = (50, 100, 200)
#: How far back the tiles of runs that have ended look.
RECENT = timedelta(days=7)
#: `live = 1` can use an index; the bare boolean that Django writes for `live=True` cannot, on SQLite.
LIVE = Q(live__in=(True,))


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
    "stuck": ~Q(stuck=""),
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
        text = text_of(params, "q", 500)
        sort = params.get("sort", "")
        if sort.removeprefix("-") not in SORTS:
            ignored += [f"sort “{sort[:40]}”, no such column"] if sort else []
            sort = ""
        return cls(
            health=tuple(state for state in Health if state in {_health(part) for part in states}),
            worker_type=text_of(params, "worker_type"),
            master=text_of(params, "master"),
            host=text_of(params, "host"),
            q=text,
            runs="all" if params.get("runs") == "all" else "",
            sort="" if sort == "health" else sort,
            page=positive(params, "page", ignored) or 1,
            size=positive(params, "size", ignored, among=SIZES) or SIZES[0],
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
    def kept(self) -> tuple[tuple[str, str], ...]:
        """What narrows this view and a past moment alike, as names and values of a query string."""
        given = {"health": ",".join(self.health)} | {name: getattr(self, name) for name in (*FACETS, "q")}
        return tuple((name, value) for name, value in given.items() if value)

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
        ended = (chosen or frozenset()) & OVER
        if not ended:
            return LIVE & within
        return (LIVE & within) | Q(pk__in=ended_runs(ended, now).values("pk"))

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


def ended_runs(states: Iterable[Health], now: datetime | None) -> QuerySet[Worker]:
    """Runs that are over, by how they ended; since RECENT where a time is given. Uses the index on that expression."""
    runs = Worker.objects.filter(live__in=(False,), health__in=sorted(states))
    return runs.alias(over=Coalesce("ended_at", "health_since")).filter(over__gte=now - RECENT) if now else runs
