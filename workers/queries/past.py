"""The fleet at a past moment, out of the history of verdicts.

Progress, CPU and check-ins of the past are not kept, so nothing here speaks of them. Where nobody watched, the verdict
is the last one that was known, and counts as unwatched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db import connection
from django.db.models import OuterRef, Subquery
from django.http import QueryDict

from workers.coordination.parser import parse_time
from workers.health import OVER, TROUBLED, Health
from workers.models import HealthChange, Worker
from workers.params import positive, text_of

from .events import stamp
from .fleet import FACET_NAMES, HEAVY, TILES, TILES_IF_ANY, Facet
from .paging import Pager, on_a_page, pager, pages_of
from .view import FACETS, RECENT, SIZES
from .vigil import Vigil, Vigils, vigils

#: The state of a run that had not ended and whose host nobody watched.
UNWATCHED = "unwatched"
#: In a comparison, the state before a run was there.
NEW = "new"
STATES = (*Health, UNWATCHED)
STEPS = (
    ("−1 d", timedelta(days=-1)),
    ("−1 h", timedelta(hours=-1)),
    ("−10 min", timedelta(minutes=-10)),
    ("+10 min", timedelta(minutes=10)),
    ("+1 h", timedelta(hours=1)),
    ("+1 d", timedelta(days=1)),
)
EXAMPLE = "write one like 2025-11-20T14:00"


@dataclass(frozen=True)
class PastQuery:
    """One view of a past moment, or of two that are compared. Equal queries show the same."""

    at: datetime
    with_: datetime | None = None  # the later of two moments
    health: tuple[str, ...] = ()  # of STATES
    worker_type: str = ""
    master: str = ""
    host: str = ""
    q: str = ""
    move: tuple[str, str] | None = None  # of a comparison: only what went from one state to another
    page: int = 1
    size: int = SIZES[0]
    present: bool = False  # no moment was given that could be used: the fleet as it is now is what is left
    ignored: tuple[str, ...] = field(default=(), compare=False)  # sentences: what could not be used

    @classmethod
    def parse(cls, params: QueryDict, now: datetime) -> PastQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises.

        A moment that lies ahead is taken as now. Where none is left that is over, the query is ``present``.
        """
        ignored: list[str] = []
        at, with_ = _moment(params, "at", now, ignored), _moment(params, "with", now, ignored)
        if at and with_ and with_ < at:
            at, with_ = with_, at
        if at is None or at >= now:
            ignored += ["the comparison, which needs a moment that is over"] if with_ else []
            ignored += ["so this is the fleet as it is now"] if ignored else []
            return cls(now, present=True, ignored=tuple(ignored))
        if with_ == at:
            ignored.append("the comparison of a moment with itself")
            with_ = None
        return cls(
            at=at,
            with_=with_,
            health=_states(params, ignored, compared=with_ is not None),
            worker_type=text_of(params, "worker_type"),
            master=text_of(params, "master"),
            host=text_of(params, "host"),
            q=text_of(params, "q"),
            move=_move(params, ignored, compared=with_ is not None),
            page=positive(params, "page", ignored) or 1,
            size=positive(params, "size", ignored, among=SIZES) or SIZES[0],
            ignored=tuple(ignored),
        )

    def with_changes(self, **changes: Any) -> PastQuery:
        """The same view with something else; every change but of the page leads to the first page."""
        return replace(self, **{"page": 1, "ignored": (), **changes})

    @property
    def string(self) -> str:
        """The shortest query string that says this, with its question mark."""
        given: dict[str, Any] = {"at": stamp(self.at), "with": self.with_ and stamp(self.with_)}
        given |= {"health": ",".join(self.health)} | {name: getattr(self, name) for name in (*FACETS, "q")}
        given |= {"move": self.move and "-".join(self.move)}
        given |= {"page": self.page if self.page > 1 else "", "size": self.size if self.size != SIZES[0] else ""}
        return f"?{urlencode({name: value for name, value in given.items() if value}, safe=',:')}"

    @property
    def filtered(self) -> bool:
        return bool(self.health or self.worker_type or self.master or self.host or self.q or self.move)

    @cached_property
    def narrowed(self) -> tuple[tuple[str, str], ...]:
        """The columns that have to hold a certain value, with that value."""
        return tuple((name, value) for name in FACETS if (value := getattr(self, name)))

    @property
    def cleared(self) -> PastQuery:
        """The same moments without any filter."""
        return PastQuery(self.at, self.with_, size=self.size)

    @property
    def problems_only(self) -> bool:
        return set(self.health) == TROUBLED

    def toggled(self, state: str) -> PastQuery:
        """The view with one state more, or one less."""
        chosen = {*self.health} ^ {state}
        return self.with_changes(health=tuple(other for other in STATES if other in chosen))


def _moment(params: QueryDict, name: str, now: datetime, ignored: list[str]) -> datetime | None:
    text = params.get(name, "").strip()
    if not text or text == "now":
        return now if text else None
    moment = parse_time(text) or parse_time(text.replace(" ", "+"))  # a plus that stands for itself reaches us as blank
    if moment is None:
        ignored.append(f"{name} “{text[:40]}”, which is no time between 2000 and 2100 ({EXAMPLE})")
    elif moment > now:
        ignored.append(f"{name} “{text[:40]}”, which lies ahead; now was taken in its place")
        return now
    return moment


def _states(params: QueryDict, ignored: list[str], *, compared: bool) -> tuple[str, ...]:
    asked = {part.strip() for value in params.getlist("health") for part in value.split(",") if part.strip()}
    if compared:
        ignored += ["health, which narrows no comparison; choose a change in its table"] if asked else []
        return ()
    ignored += [f"health “{part[:40]}”, no such state" for part in sorted(asked) if part not in STATES]
    return tuple(state for state in STATES if state in asked)


def _move(params: QueryDict, ignored: list[str], *, compared: bool) -> tuple[str, str] | None:
    text = params.get("move", "")
    came, _, went = text.partition("-")
    if text and compared and came in (*STATES, NEW) and went in STATES:
        return came, went
    if text:
        ignored.append(f"move “{text[:40]}”, " + ("which is none" if compared else "as nothing is compared"))
    return None


# -- out of the history


class Known(NamedTuple):
    """What was known of a run at a moment, as the database gives it."""

    worker: int  # primary keys
    change: int
    verdict: str
    worker_type: str
    master: str
    host: str


#: Of a Known, what is the same for many runs and therefore looked at once: the verdict and the columns to filter by.
GROUP = itemgetter(slice(2, None))


class Group(NamedTuple):
    """How many runs share a verdict and the columns to filter by, and the state that this makes."""

    state: str
    of: tuple[str, str, str, str]
    number: int


SQL_OVER = f"({', '.join(repr(str(state)) for state in sorted(OVER))})"


def last_change(alias: str, how: str = "JOIN") -> str:
    """Join the last change of each run `w` at or before a moment, the one value: by the index on both, so that a long
    history costs no more. PostgreSQL would read all of it for the plain join; SQLite has no lateral one.
    """
    last = "FROM workers_healthchange c WHERE c.worker_id = w.id AND c.at <= %s ORDER BY c.at DESC, c.id DESC LIMIT 1"
    if connection.vendor == "postgresql":
        return f"{how} LATERAL (SELECT c.id, c.new, c.at, c.reason {last}) {alias} ON TRUE"
    return f"{how} workers_healthchange {alias} ON {alias}.id = (SELECT c.id {last})"


def searched(query: PastQuery, reason: str) -> tuple[str, list[str]]:
    """The condition that a search puts to runs `w`, and its values: each word somewhere, whatever its case."""
    columns = ("w.worker_id", "w.task_id", "w.worker_type", "w.description", reason)
    somewhere = " OR ".join(f"UPPER({column}) LIKE UPPER(%s) ESCAPE '\\'" for column in columns)
    words = query.q.split()
    for_like = [f"%{word.translate({ord(sign): chr(92) + sign for sign in chr(92) + '%_'})}%" for word in words]
    return "".join(f" AND ({somewhere})" for _ in words), [word for word in for_like for _ in columns]


def known(query: PastQuery) -> list[tuple[Any, ...]]:
    """Read a Known, as a plain tuple, of every run that a search finds, with its last verdict at that moment; what had
    ended for longer apart.

    The longest in its state comes first. Written out, since the mapper takes several times as long over ten thousand
    runs as the database does.
    """
    adapt = connection.ops.adapt_datetimefield_value
    where, words = searched(query, "h.reason")
    sql = f"""SELECT w.id, h.id, h.new, w.worker_type, w.master, w.host
        FROM workers_worker w {last_change("h")}
        WHERE (h.new NOT IN {SQL_OVER} OR h.at >= %s){where} ORDER BY h.at, w.id"""  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [adapt(query.at), adapt(query.at - RECENT), *words])
        return cursor.fetchall()


#: Where a state stands in lists: what nobody watched, with what nobody knows.
SEVERITY = {**{state.value: state.severity for state in Health}, UNWATCHED: Health.UNKNOWN.severity}


@dataclass(frozen=True, slots=True)
class PastRow:
    """One run as it was known at a past moment."""

    worker: Worker  # of today: only what its spec says may be shown of it
    change: HealthChange  # to the verdict that held
    state: str
    at: datetime
    looked: datetime | None  # the last look at its host by then
    following: HealthChange | None

    @property
    def age(self) -> float:
        """For how many seconds the verdict had held."""
        return (self.at - self.change.at).total_seconds()

    @property
    def until(self) -> float | None:
        """In how many seconds the next one came; None where none has."""
        return (self.following.at - self.at).total_seconds() if self.following else None


@dataclass(frozen=True, slots=True)
class PastTile:
    state: str
    count: int
    on: bool
    href: str
    recent: bool  # counts only what ended in the last days before that moment


@dataclass(frozen=True, slots=True)
class Past:
    """The fleet at one moment: everything that its page shows, from a constant number of queries."""

    query: PastQuery
    now: datetime
    rows: tuple[PastRow, ...]
    tiles: tuple[PastTile, ...]
    facets: tuple[Facet, ...]
    matching: int
    running: int  # runs that had not ended, without any filter but the search
    troubled: int  # of those that the other filters leave
    vigils: Vigils
    before: datetime | None  # the nearest change of any verdict, on either side
    after: datetime | None
    ignored: tuple[str, ...]

    @property
    def pager(self) -> Pager:
        return pager(self.query, pages_of(self.matching, self.query.size))

    @property
    def unwatched(self) -> tuple[tuple[Vigil, datetime | None, datetime | None], ...]:
        """The hosts that nobody watched at that moment, each with the last look before and the first one after."""
        at = self.query.at
        return tuple((each, each.last_look(at), each.next_look(at)) for each in self.vigils.unwatched(at))

    @property
    def too_early(self) -> bool:
        """Nobody watched any host yet."""
        return self.vigils.since is None or self.query.at < self.vigils.since

    @property
    def problems_href(self) -> str:
        wanted = () if self.query.problems_only else tuple(state for state in Health if state in TROUBLED)
        return self.query.with_changes(health=wanted).string

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Where one can go from here, "" where that lies ahead."""
        return [(label, self._at(self.query.at + step)) for label, step in STEPS]

    @property
    def before_href(self) -> str:
        return self._at(self.before)

    @property
    def after_href(self) -> str:
        return self._at(self.after)

    def _at(self, moment: datetime | None) -> str:
        return self.query.with_changes(at=moment).string if moment and moment < self.now else ""


def past_fleet(query: PastQuery, now: datetime) -> Past:
    """Read one page of the fleet as it was."""
    watch = vigils(query.at, query.at, now)
    blind = {vigil.host for vigil in watch.unwatched(query.at)}
    runs = known(query)
    grouped = list(map(GROUP, runs))
    groups = [
        Group(UNWATCHED if of[3] in blind and of[0] not in OVER else of[0], of, n) for of, n in Counter(grouped).items()
    ]
    by_state: Counter[str] = Counter()
    for group in groups:
        if passes(group.of[1:], query):
            by_state[group.state] += group.number
    shown = {group.of: group.state for group in groups if shows(group.state, query) and passes(group.of[1:], query)}
    listed = [(shown[of], run) for of, run in zip(grouped, runs, strict=True) if of in shown]
    listed.sort(key=lambda pair: SEVERITY[pair[0]])
    query = on_a_page(query, pages_of(len(listed), query.size))
    start = (query.page - 1) * query.size
    changes = HealthChange.objects.order_by().values_list("at", flat=True)
    return Past(
        query=query,
        now=now,
        rows=_rows(listed[start : start + query.size], query.at, watch),
        tiles=tuple(_tile(query, state, by_state[state]) for state in _tiles(query, by_state)),
        facets=facets(query, [(group.of[1:], group.number) for group in groups if shows(group.state, query)]),
        matching=len(listed),
        running=sum(group.number for group in groups if group.state not in OVER),
        troubled=sum(by_state[state] for state in TROUBLED),
        vigils=watch,
        before=changes.filter(at__lt=query.at).order_by("-at").first(),
        after=changes.filter(at__gt=query.at, at__lte=now).order_by("at").first(),
        ignored=query.ignored,
    )


def shows(state: str, query: PastQuery) -> bool:
    return state in query.health if query.health else state not in OVER


def passes(values: tuple[str, ...], query: PastQuery, without: str = "") -> bool:
    """Whether a run with these values of FACETS passes the filters, one apart."""
    return all(values[FACETS.index(name)] == wanted for name, wanted in query.narrowed if name != without)


def facets(query: PastQuery, groups: list[tuple[tuple[str, ...], int]]) -> tuple[Facet, ...]:
    """The columns to filter by: each value with how many rows it would show, the most first."""
    found = []
    for place, name in enumerate(FACETS):
        counted: Counter[str] = Counter()
        for values, number in groups:
            if passes(values, query, without=name):
                counted[values[place]] += number
        value = getattr(query, name)
        if value:
            counted.setdefault(value, 0)
        counted.pop("", None)
        choices = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:100]
        found.append(Facet(name, FACET_NAMES[name], value, tuple(choices)))
    return tuple(found)


def _tiles(query: PastQuery, by_state: Counter[str]) -> Iterable[str]:
    extra = (*TILES_IF_ANY, Health.CANCELLED, UNWATCHED)
    return [*TILES, *(state for state in extra if by_state[state] or state in query.health)]


def _tile(query: PastQuery, state: str, count: int) -> PastTile:
    return PastTile(state, count, state in query.health, query.toggled(state).string, state in OVER)


def _rows(found: list[tuple[str, tuple[Any, ...]]], at: datetime, watch: Vigils) -> tuple[PastRow, ...]:
    listed = [(state, Known._make(run)) for state, run in found]
    keys = [run.worker for _, run in listed]
    workers = Worker.objects.defer(*HEAVY, "reasons").in_bulk(keys)
    changes = HealthChange.objects.in_bulk([run.change for _, run in listed])
    following = next_changes(keys, at)
    return tuple(
        PastRow(
            workers[run.worker],
            changes[run.change],
            state,
            at,
            watch.of(run.host).last_look(at),
            following.get(run.worker),
        )
        for state, run in listed
        if run.worker in workers and run.change in changes  # both may have been removed this moment
    )


def next_changes(keys: list[int], at: datetime) -> dict[int, HealthChange]:
    """The first change of each of these runs after a moment, by run."""
    later = HealthChange.objects.filter(worker=OuterRef("pk"), at__gt=at).order_by("at", "pk").values("pk")[:1]
    firsts = Worker.objects.filter(pk__in=keys).order_by().values(first=Subquery(later))
    return {change.worker_id: change for change in HealthChange.objects.filter(pk__in=firsts)}
