"""A query string becomes an :class:`IncidentQuery`: which incidents, in which order. What it asks of the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Case, DateTimeField, F, FloatField, Func, IntegerField, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce
from django.http import QueryDict

from workers.incidents import How, Kind
from workers.models import Incident
from workers.params import positive, text_of, whole

from .events import moment_param, stamp

STATES = {
    "open": "Open",
    "new": "New",
    "acknowledged": "Acknowledged",
    "resolved": "Resolved",
    "all": "All",
}
STATE_HINTS = {
    "open": "they last",
    "new": "they last, and nobody has said yet that somebody saw them",
    "acknowledged": "they last, and somebody is at them",
    "resolved": "they are over",
    "all": "lasting and over",
}
WITHIN = {
    "1h": (timedelta(hours=1), "the last hour"),
    "24h": (timedelta(hours=24), "the last 24 hours"),
    "7d": (timedelta(days=7), "the last 7 days"),
    "30d": (timedelta(days=30), "the last 30 days"),
}
SORTS = {"": "Newest first", "longest": "Longest first", "worst": "Worst kind first"}
SOURCES = {"live": "Seen live", "log": "Read from the log"}
#: What is searched for words.
FREE_TEXT = ("worker_id", "run__task_id", "cause", "note", "acknowledged_reason")


@dataclass(frozen=True)
class IncidentQuery:
    """One view of the incidents, as a query string says it. Equal queries show the same."""

    state: str = "open"
    kind: tuple[Kind, ...] = ()
    worker_type: str = ""
    master: str = ""
    host: str = ""
    cause: str = ""  # primary key of a root cause, or "none"
    how: str = ""
    q: str = ""
    since: datetime | None = None  # detected no earlier
    until: datetime | None = None
    within: str = ""  # one of WITHIN: detected no longer ago
    run: int | None = None
    source: str = ""
    sort: str = ""
    page: int = 1
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict) -> IncidentQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        ignored: list[str] = []
        asked = {part for value in params.getlist("kind") for part in value.split(",") if part}
        ignored += [f"the kind “{part[:40]}”, which is none" for part in sorted(asked - set(Kind))]
        since, until = (moment_param(params, name, ignored) for name in ("since", "until"))
        if since and until and since > until:
            ignored.append("the time from its end to its beginning; both were swapped")
            since, until = until, since
        cause = text_of(params, "cause")
        if cause and cause != "none" and whole(cause) is None:
            ignored.append(f"the root cause “{cause[:40]}”, which is none")
            cause = ""
        state, how = _among(params, "state", STATES, ignored), _among(params, "how", list(How), ignored)
        if how and state not in ("resolved", "all"):
            ignored += [f"the state “{state}”, as what lasts has not ended in any way"] if state else []
            state = "resolved"
        return cls(
            state=state or "open",
            kind=tuple(kind for kind in Kind if kind in asked),
            **{name: text_of(params, name) for name in ("worker_type", "master", "host", "q")},
            cause=cause,
            how=how,
            since=since,
            until=until,
            within=_among(params, "within", WITHIN, ignored),
            run=positive(params, "run", ignored),
            source=_among(params, "source", SOURCES, ignored),
            sort=_among(params, "sort", SORTS, ignored),
            page=positive(params, "page", ignored) or 1,
            ignored=tuple(ignored),
        )

    def with_changes(self, **changes: Any) -> IncidentQuery:
        """The same view with something else; every change but that of the page leads to the first one."""
        return replace(self, **{"page": 1, "ignored": (), **changes})

    @property
    def string(self) -> str:
        """The shortest query string that says this, with its question mark; "" for the default view."""
        default = IncidentQuery()
        names = ("state", "worker_type", "master", "host", "cause", "how", "q", "within", "run", "source")
        values = {name: getattr(self, name) for name in (*names, "sort", "page")}
        given = {name: value for name, value in values.items() if value != getattr(default, name)}
        given |= {"kind": ",".join(self.kind)} if self.kind else {}
        given |= {name: stamp(value) for name in ("since", "until") if (value := getattr(self, name))}
        return f"?{urlencode(given, safe=',')}" if given else ""

    @property
    def filtered(self) -> bool:
        """Whether anything but the state narrows it."""
        names = ("kind", "worker_type", "master", "host", "cause", "how", "q", "since", "until", "within", "run")
        return any(getattr(self, name) for name in (*names, "source"))

    @property
    def unusual(self) -> bool:
        """Whether one of the filters is set that the page folds away."""
        return bool(self.host or self.how or self.since or self.until or self.source)

    def toggled(self, kind: Kind) -> IncidentQuery:
        """The view with one kind more, or one less."""
        chosen = {*self.kind} ^ {kind}
        return self.with_changes(kind=tuple(other for other in Kind if other in chosen))

    def condition(self, now: datetime, *, state: bool = True, kind: bool = True) -> Q:
        """The incidents of this view; without its state or its kinds, to count what else there is."""
        condition = _STATES[self.state] if state else Q()
        if kind and self.kind:
            condition &= Q(kind__in=self.kind)
        for name in ("worker_type", "master"):
            if value := getattr(self, name):
                condition &= Q(**{f"run__{name}": value})
        for name in ("host", "how", "run"):
            if value := getattr(self, name):
                condition &= Q(**{name: value})
        if self.cause:
            condition &= Q(root_cause=None) if self.cause == "none" else Q(root_cause=int(self.cause))
        if self.source:
            condition &= Q(from_log=self.source == "log")
        after = [moment for moment in (self.since, now - WITHIN[self.within][0] if self.within else None) if moment]
        condition &= Q(detected__gte=max(after)) if after else Q()
        condition &= Q(detected__lte=self.until) if self.until else Q()
        for word in self.q.split()[:8]:
            anywhere = Q()
            for column in FREE_TEXT:
                anywhere |= Q(**{f"{column}__icontains": word})
            condition &= anywhere
        return condition

    def found(self, now: datetime) -> QuerySet[Incident]:
        """The incidents of this view in its order, which always ends in a unique column."""
        found = Incident.objects.filter(self.condition(now))
        newest = (F("detected").desc(), F("id").desc())
        if self.sort == "longest":
            ended = Coalesce("resolved", Value(now, output_field=DateTimeField()))
            return found.order_by((_Days(ended) - _Days("began")).desc(), *newest)
        if self.sort == "worst":
            rank = (When(kind=kind.value, then=Value(number)) for number, kind in enumerate(Kind))
            return found.order_by(Case(*rank, default=Value(9), output_field=IntegerField()), *newest)
        return found.order_by(*newest)


_STATES = {
    "open": Q(resolved=None),
    "new": Q(resolved=None, acknowledged=None),
    "acknowledged": Q(resolved=None, acknowledged__isnull=False),
    "resolved": Q(resolved__isnull=False),
    "all": Q(),
}


class _Days(Func):
    """A moment as a number that differences can be sorted by. Django's own difference calls Python for every row."""

    function = "JULIANDAY"
    output_field = FloatField()

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="EXTRACT(EPOCH FROM %(expressions)s)", **extra)


def _among(params: QueryDict, name: str, known: Iterable[str], ignored: list[str]) -> str:
    text = text_of(params, name)
    if text and text not in known:
        ignored.append(f"{name} “{text[:40]}”, which is none of {', '.join(filter(None, known))}")
        return ""
    return text
