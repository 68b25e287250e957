"""The stream of events: pages by keyset, so that the millionth row costs what the first does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db import connection
from django.db.models import F, Max, Sum
from django.http import QueryDict

from workers.coordination.parser import parse_time
from workers.health import RUN_TOLERANCE
from workers.models import Event, EventCount, Finding, LogFile, Worker
from workers.params import text_of, whole

PAGE = 100
#: New events are counted up to here; then it is "more than".
MOST_WAITING = 1_000
DAMAGES_SHOWN = 50
SUMMARY = 240  # characters of a record that a row shows
#: Keys of a record that a row shows in columns of their own.
_SAID_ELSEWHERE = frozenset({"timestamp", "event", "event_type", "type", "worker_id", "pm_id", "id"})


@dataclass(frozen=True)
class EventQuery:
    """One view of the stream, as a query string says it. Equal queries show the same."""

    type: str = ""
    source: str = ""  # path of a log
    worker: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, int] | None = None  # the last row of the page before
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict) -> EventQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        ignored: list[str] = []
        since, until = (moment_param(params, name, ignored) for name in ("since", "until"))
        if since and until and since > until:
            ignored.append("the time from its end to its beginning; both were swapped")
            since, until = until, since
        return cls(
            type=text_of(params, "type"),
            source=text_of(params, "source"),
            worker=text_of(params, "worker"),
            since=since,
            until=until,
            before=_cursor(text_of(params, "before"), ignored),
            ignored=tuple(ignored),
        )

    def with_changes(self, **changes: Any) -> EventQuery:
        """The same view with something else; every change leads to the first page."""
        return replace(self, **{"before": None, "ignored": (), **changes})

    @property
    def string(self) -> str:
        """The shortest query string that says this, with its question mark."""
        given = {name: getattr(self, name) for name in ("type", "source", "worker")}
        given |= {name: value and stamp(value) for name in ("since", "until") for value in [getattr(self, name)]}
        given["before"] = self.before and f"{stamp(self.before[0])},{self.before[1]}"
        kept = {name: value for name, value in given.items() if value}
        return f"?{urlencode(kept)}" if kept else ""

    @property
    def filtered(self) -> bool:
        return bool(self.type or self.source or self.worker or self.since or self.until)

    def select(self, columns: str, newer_than: int = 0) -> tuple[str, list[Any]]:
        """The question for the events of this view, without an order, and its parameters.

        Written out, since the mapper takes ten times as long over a hundred rows as the database does. Those without a
        time come under no order and are left out.
        """
        adapt = connection.ops.adapt_datetimefield_value
        asked: list[tuple[str, list[Any]]] = [("at IS NOT NULL", [])]
        asked += [("type = %s", [self.type])] if self.type else []
        asked += [("worker_id = %s", [self.worker])] if self.worker else []
        asked += [("at >= %s", [adapt(self.since)])] if self.since else []
        asked += [("at <= %s", [adapt(self.until)])] if self.until else []
        asked += [("id > %s", [newer_than])] if newer_than else []
        if self.source:
            logs = list(LogFile.objects.filter(path=self.source).values_list("pk", flat=True)) or [0]
            asked.append((f"log_id IN ({', '.join(['%s'] * len(logs))})", logs))
        if self.before:
            at, key = adapt(self.before[0]), self.before[1]
            asked.append(("at <= %s AND (at < %s OR id < %s)", [at, at, key]))
        where = " AND ".join(condition for condition, _ in asked)
        return f"SELECT {columns} FROM workers_event WHERE {where}", [value for _, values in asked for value in values]  # noqa: S608

    def rows(self) -> list[Record]:
        """One page and one row more, newest first. Each page begins where the one before ended, by an index."""
        sql, values = self.select(_COLUMNS)
        with connection.cursor() as cursor:
            cursor.execute(f"{sql} ORDER BY at DESC, id DESC LIMIT {PAGE + 1}", values)
            return [Record._make(row) for row in cursor.fetchall()]


def moment_param(params: QueryDict, name: str, ignored: list[str]) -> datetime | None:
    text = text_of(params, name)
    moment = parse_time(text) if text else None
    if text and moment is None:
        ignored.append(f"{name} “{text[:40]}”, which is no time; write one like 2025-11-20T14:00")
    return moment


def _cursor(text: str, ignored: list[str]) -> tuple[datetime, int] | None:
    if not text:
        return None
    at, _, key = text.rpartition(",")
    moment, number = parse_time(at), whole(key)
    if moment is None or number is None:
        ignored.append("the page, which is no place in the stream")
        return None
    return moment, number


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Record(NamedTuple):
    """A row of events as the database gives it."""

    pk: int
    log_id: int
    generation: int
    offset: int
    at_stored: Any
    stored_at_stored: Any
    type: str
    worker_id: str
    data: str

    @property
    def at(self) -> datetime:
        return _as_moment(self.at_stored)

    @property
    def stored_at(self) -> datetime:
        return _as_moment(self.stored_at_stored)


_COLUMNS = 'id, log_id, generation, "offset", at, stored_at, type, worker_id, data'


def _as_moment(value: Any) -> datetime:
    """A time out of a plain cursor: SQLite keeps it as text in UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One record as lists show it."""

    event: Record | Event
    source: str

    @property
    def record(self) -> Any:
        try:
            return json.loads(self.event.data)
        except ValueError:
            return self.event.data

    @property
    def summary(self) -> str:
        """What it says beside its time, type and worker."""
        record = self.record
        if not isinstance(record, dict):
            return str(record)[:SUMMARY]
        inner = record.get("data")
        said = {**record, **inner} if isinstance(inner, dict) else dict(record)
        parts = [
            f"{key} {value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)}"
            for key, value in said.items()
            if key not in _SAID_ELSEWHERE and value not in ("", None, {}, []) and not (key == "data" and value is inner)
        ]
        if isinstance(inner, str) and inner:
            parts.append(inner)
        text = " · ".join(parts)
        return text if len(text) <= SUMMARY else text[: SUMMARY - 1] + "…"


@dataclass(frozen=True, slots=True)
class Events:
    """One page of the stream."""

    query: EventQuery
    rows: tuple[EventRow, ...]
    older: EventQuery | None
    newest: int  # the highest id that was stored when it was read: what is new comes behind it
    types: tuple[str, ...]
    sources: tuple[LogFile, ...]
    stored: int
    damages: tuple[Finding, ...]


def events(query: EventQuery) -> Events:
    """Read one page of the stream, in a constant number of queries."""
    newest = Event.objects.aggregate(last=Max("id"))["last"] or 0
    found = query.rows()
    shown, more = found[:PAGE], len(found) > PAGE
    sources = tuple(LogFile.objects.order_by("path", "host"))
    last = shown[-1] if shown else None
    older = replace(query, before=(last.at, last.pk), ignored=()) if more and last else None
    counts = EventCount.objects.values_list("type").annotate(n=Sum("count")).order_by("type")
    damages = Finding.objects.filter(kind=Finding.Kind.DAMAGED_LOG)
    if query.source:
        damages = damages.filter(path=query.source)
    types = [(name, number) for name, number in counts if name]
    return Events(
        query=query,
        rows=tuple(rows_of(shown, sources)),
        older=older,
        newest=newest,
        types=tuple(name for name, _ in types),
        sources=sources,
        stored=sum(number for _, number in counts),
        damages=tuple(damages.order_by("-id")[:DAMAGES_SHOWN]),
    )


def rows_of(found: Iterable[Record | Event], sources: Iterable[LogFile]) -> Iterable[EventRow]:
    paths = {log.pk: log.path for log in sources}
    return (EventRow(event, paths.get(event.log_id, "")) for event in found)


def waiting(query: EventQuery, newest: int) -> int:
    """How many events of this view came since a page was read, up to MOST_WAITING."""
    sql, values = query.select("id", newer_than=newest)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM ({sql} LIMIT {MOST_WAITING}) AS waiting", values)  # noqa: S608
        return int(cursor.fetchone()[0])


# -- one worker


@dataclass(frozen=True, slots=True)
class Activity:
    """What all logs say of one worker, newest first, and by what it can be narrowed."""

    worker_id: str
    rows: tuple[EventRow, ...]
    types: tuple[str, ...]
    sources: tuple[str, ...]
    type: str = ""
    source: str = ""

    @property
    def filtered(self) -> bool:
        return bool(self.type or self.source)


ACTIVITY_ROWS, ACTIVITY_LOOKED_AT = 30, 500


def activity_of(worker: Worker, **narrowed: str) -> Activity:
    """Read the last events about one run: those of its id within its time."""
    since = until = None
    if worker.created_at:  # of an unreadable file often nobody knows
        since = worker.created_at - RUN_TOLERANCE
        later = Worker.objects.filter(host=worker.host, worker_id=worker.worker_id, created_at__gt=worker.created_at)
        until = later.order_by("created_at").values_list("created_at", flat=True).first()
    worker_id = worker.worker_id
    about = Event.objects.filter(worker_id=worker_id, at__isnull=False)
    if since:
        about = about.filter(at__gte=since)
    if until:
        about = about.filter(at__lte=until)
    sources = tuple(LogFile.objects.order_by("path"))
    rows = list(rows_of(about.order_by(F("at").desc(), F("id").desc())[:ACTIVITY_LOOKED_AT], sources))
    kind, source = narrowed.get("type", ""), narrowed.get("source", "")
    shown = [row for row in rows if (not kind or row.event.type == kind) and (not source or row.source == source)]
    return Activity(
        worker_id=worker_id,
        rows=tuple(shown[:ACTIVITY_ROWS]),
        types=tuple(sorted({row.event.type for row in rows if row.event.type})),
        sources=tuple(sorted({row.source for row in rows})),
        type=kind,
        source=source,
    )
