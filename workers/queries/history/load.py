"""What happened in a period and in the one before: light rows by plain SQL, in a constant number of queries."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.db import connection

from workers.health import OVER, Health
from workers.incidents import How
from workers.measures import SPANS, Gaps, TimeInHealth
from workers.models import Mark, Poller, PollerGap, RootCause
from workers.queries.period import GROUPS, Period
from workers.queries.watch import Watch

#: How much of a text is read: enough to tell what it is about.
TEXT = 400

Row = tuple[Any, ...]


class Trouble(NamedTuple):
    """An incident as :mod:`workers.measures` takes it."""

    run: int | None
    worker_id: str
    kind: str
    attempt: int
    began_known: bool
    how: str
    text: str  # what is said of a failure or a crash; "" of other kinds
    label: int | None  # its root cause
    group: str  # what it is grouped by
    began: datetime
    detected: datetime
    resolved: datetime | None
    acknowledged: datetime | None


class Outcome(NamedTuple):
    """A run that completed or failed."""

    run: int
    worker_id: str
    attempt: int
    health: str
    error: str
    group: str
    at: datetime


@dataclass(frozen=True, repr=False)  # its repr would be megabytes
class Facts:
    """All that the figures are made of. Troubles and outcomes are those of this period, of the one before, and lately:
    within the longest span that is counted back from now. What costs most is read by who asks for it."""

    period: Period
    troubles: list[Trouble]
    outcomes: list[Outcome]
    labels: Mapping[int, str]  # root causes
    gaps: Mapping[str, Gaps]  # by host
    marks: list[Mark]
    targets: Mapping[str, float]  # minutes until a repair, by priority
    choices: Mapping[str, list[str]]  # what can be chosen of each of GROUPS
    watched_since: datetime | None
    newest: datetime | None  # when something was last detected, or ended

    @cached_property
    def spent(self) -> Mapping[str, Mapping[Health, timedelta]]:
        """The time of the runs that had not ended, by group."""
        return spent(self.period, self.gaps, self.choices["host"])

    @cached_property
    def tasks(self) -> Mapping[int, str]:
        """The task of each run."""
        return dict(_rows("SELECT id, task_id FROM workers_worker WHERE task_id <> ''", []))

    @cached_property
    def retry_of(self) -> Mapping[str, str]:
        """What a task is to do again."""
        return dict(_rows("SELECT task_id, retry_of FROM workers_worker WHERE retry_of <> ''", []))


@contextmanager
def unhurried() -> Iterator[None]:
    """Let nobody look for garbage meanwhile: among a hundred thousand fresh rows that takes longer than the reading."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def load(period: Period) -> Facts:
    """Read the facts. ``period.now`` is the moment of reading."""
    watches = [Watch(poller, period.now) for poller in Poller.objects.on_duty()]
    if period.host:
        watches = [watch for watch in watches if watch.poller.host == period.host]
    choices, since = _choices()
    starts = [watch.poller.started_at for watch in watches if watch.poller.started_at]
    gaps = _gaps(period, watches)
    return Facts(
        period=period,
        troubles=list(_troubles(period)),
        outcomes=list(_outcomes(period)),
        labels=dict(RootCause.objects.values_list("pk", "name")),
        gaps=gaps,
        marks=list(_marks(period)),
        targets=_targets(watch.poller for watch in watches),
        choices=choices,
        watched_since=min([*starts, *([since] if since else [])], default=None),
        newest=_newest(period),
    )


def _rows(sql: str, values: Iterable[Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))
        return cursor.fetchall()


def _at(column: str) -> str:
    """A column of times as it is read fastest: SQLite keeps it as text in UTC, without saying so."""
    return f"{column} || '+00:00'" if connection.vendor == "sqlite" else column


def _seconds(column: str) -> str:
    """A column of times as seconds since 1970."""
    if connection.vendor == "sqlite":
        return f"(julianday({column}) - 2440587.5) * 86400.0"
    return f"EXTRACT(EPOCH FROM {column})::float8"


def _read(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _adapt(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def _where(period: Period, host: str = "w.host") -> tuple[str, list[str]]:
    """The conditions that narrow a period, each with an AND before it, and their values."""
    columns = {name: host if name == "host" else f"w.{name}" for name in period.filters}
    return "".join(f" AND {column} = %s" for column in columns.values()), list(period.filters.values())


def _troubles(period: Period) -> Iterable[Trouble]:
    lately = period.now - max(SPANS.values())
    # two stretches, each found by the index; they are one where they touch
    stretches = [(period.before.since, period.until), (lately, period.now)]
    if lately <= period.until:
        stretches = [(min(period.before.since, lately), period.now)]
    asked = " OR ".join(["i.detected >= %s AND i.detected <= %s"] * len(stretches))
    narrowed, values = _where(period, "i.host")
    group = {"": "''", "host": "i.host"}.get(period.group, f"COALESCE(w.{period.group}, '')")
    join = "LEFT JOIN workers_worker w ON w.id = i.run_id " if "w." in narrowed + group else ""
    text = f"CASE WHEN i.kind IN ('failed', 'crashed') THEN SUBSTR(i.cause, 1, {TEXT}) ELSE '' END"
    sql = (
        f"SELECT i.run_id, i.worker_id, i.kind, i.attempt, i.began_known, i.how, {text}, i.root_cause_id, {group}, "  # noqa: S608
        f"{_at('i.began')}, {_at('i.detected')}, {_at('i.resolved')}, {_at('i.acknowledged')} "
        f"FROM workers_incident i {join}WHERE ({asked}){narrowed} ORDER BY i.detected, i.id"
    )
    ends = [_adapt(end) for stretch in stretches for end in stretch]
    return map(Trouble._make, _with_moments(_rows(sql, [*ends, *values]), 4))


def incidents(period: Period) -> Iterable[Row]:
    """Read every incident that was detected in a period, for the export; the columns are INCIDENT's."""
    narrowed, values = _where(period, "i.host")
    sql = (
        "SELECT i.id, i.worker_id, i.kind, i.attempt, i.how, CASE WHEN i.how = %s THEN 0 ELSE 1 END, "  # noqa: S608
        "COALESCE(c.name, ''), i.cause, i.host, COALESCE(w.worker_type, ''), COALESCE(w.master, ''), "
        "COALESCE(w.task_type, ''), COALESCE(w.task_id, ''), i.from_log, "
        f"CASE WHEN i.began_known THEN {_at('i.began')} END, {_at('i.detected')}, {_at('i.acknowledged')}, "
        f"{_at('i.resolved')} FROM workers_incident i LEFT JOIN workers_worker w ON w.id = i.run_id "
        "LEFT JOIN workers_rootcause c ON c.id = i.root_cause_id "
        f"WHERE i.detected >= %s AND i.detected < %s{narrowed} ORDER BY i.detected, i.id"
    )
    rows = _rows(sql, [How.SUPERSEDED.value, _adapt(period.since), _adapt(period.until), *values])
    return _with_moments(rows, 4)


INCIDENT = (
    *("id", "worker_id", "kind", "attempt", "how", "counts", "root_cause", "cause", "host", "worker_type", "master"),
    *("task_type", "task_id", "from_log", "began", "detected", "acknowledged", "resolved"),
)


def _with_moments(rows: list[Row], number: int) -> Iterable[Row]:
    """Read that many last columns as times, column by column: row by row would take three times as long."""
    if connection.vendor != "sqlite" or not rows:
        return rows
    columns = list(zip(*rows, strict=True))
    read = datetime.fromisoformat
    moments = [[value and read(value) for value in column] for column in columns[-number:]]
    return zip(*columns[:-number], *moments, strict=True)


def _outcomes(period: Period) -> Iterable[Outcome]:
    """The runs that ended in the period or the one before; one that does not say when ended as it was seen."""
    narrowed, values = _where(period)
    ended = "COALESCE(w.ended_at, w.health_since)"
    group = f"w.{period.group}" if period.group else "''"
    # both values of `live`, so that the index ended_by_health finds them
    sql = (
        "SELECT w.id, w.worker_id, w.attempt, w.health, "  # noqa: S608
        f"CASE WHEN w.health = 'failed' THEN SUBSTR(w.error, 1, {TEXT}) ELSE '' END, "
        f"{group}, {_at(ended)} FROM workers_worker w "
        f"WHERE w.live IN (%s, %s) AND w.health IN ('completed', 'failed') AND {ended} >= %s AND {ended} < %s{narrowed}"
    )
    rows = _rows(sql, [True, False, _adapt(period.before.since), _adapt(period.until), *values])
    return map(Outcome._make, _with_moments(rows, 1))


def spent(period: Period, gaps: Mapping[str, Gaps], hosts: Collection[str]) -> dict[str, dict[Health, timedelta]]:
    """How long runs were in each health, by group. What held when the period began, the first change after that says.

    A verdict that ended a run takes no time.
    """
    narrowed, values = _where(period)
    join = "JOIN workers_worker w ON w.id = h.worker_id " if narrowed else ""
    changes = _rows(
        f"SELECT h.worker_id, h.old, h.new, {_seconds('h.at')} - %s FROM workers_healthchange h {join}"  # noqa: S608
        f"WHERE h.at >= %s AND h.at < %s{narrowed} ORDER BY h.at, h.id",
        [period.since.timestamp(), _adapt(period.since), _adapt(period.until), *values],
    )
    held = [*_unchanged(period), *_changed_later(period)]
    parts: dict[tuple[str, str], tuple[list[Row], list[Row]]] = {("", next(iter(hosts), "")): (changes, held)}
    if period.group or len(hosts) > 1:
        whose, parts = _whose(period), defaultdict(lambda: ([], []))
        for number, rows in enumerate((changes, held)):
            for row in rows:
                if row[0] in whose:  # else it is so new that it came between two questions
                    parts[whose[row[0]]][number].append(row)
    found: dict[str, dict[Health, timedelta]] = {}
    for (name, host), (changed, unchanged) in parts.items():
        stretches = gaps[host].stretches if host in gaps else ()
        blind = [
            ((began - period.since).total_seconds(), (ended - period.since).total_seconds())
            for began, ended in stretches
        ]
        time = TimeInHealth(period.length.total_seconds(), blind)
        time.follow(changed, unchanged)
        sums = found.setdefault(name, {})
        for health, each in time.spent(OVER).items():
            sums[health] = sums.get(health, timedelta()) + each
    return found


def _whose(period: Period) -> dict[int, tuple[str, str]]:
    """The group and the host of each run."""
    group = f"w.{period.group}" if period.group else "''"
    return {run: (of, host) for run, of, host in _rows(f"SELECT w.id, {group}, w.host FROM workers_worker w", [])}  # noqa: S608


def _unchanged(period: Period) -> list[Row]:
    """The runs whose verdict of now held already when the period began."""
    narrowed, values = _where(period)
    places = ", ".join(["%s"] * len(OVER))
    return _rows(
        "SELECT w.id, w.health FROM workers_worker w "  # noqa: S608
        f"WHERE w.health NOT IN ({places}) AND w.health_since < %s{narrowed}",
        [*(health.value for health in OVER), _adapt(period.since), *values],
    )


def _changed_later(period: Period) -> list[Row]:
    """The runs that the period knew, with what they were before they first changed after it."""
    narrowed, values = _where(period)
    until = _adapt(period.until)
    return _rows(
        "SELECT h.worker_id, h.old FROM workers_healthchange h "  # noqa: S608
        "JOIN workers_worker w ON w.id = h.worker_id WHERE h.at >= %s AND h.old <> '' AND w.first_seen_at < %s "
        "AND NOT EXISTS (SELECT 1 FROM workers_healthchange e WHERE e.worker_id = h.worker_id AND e.at >= %s "
        f"AND (e.at < h.at OR (e.at = h.at AND e.id < h.id))){narrowed}",
        [until, until, until, *values],
    )


def _gaps(period: Period, watches: Iterable[Watch]) -> dict[str, Gaps]:
    """When nobody watched, by host; a poller that is silent now has left one that is not over."""
    found: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    stored = PollerGap.objects.filter(ended__gt=period.since, began__lt=period.until)
    for host, began, ended in stored.values_list("host", "began", "ended"):
        found[host].append((began, ended))
    for watch in watches:
        last = watch.poller.last_cycle_at
        found[watch.poller.host] += [(last, period.now)] if last and watch.silent else []
    return {host: Gaps(gaps) for host, gaps in found.items() if period.host in ("", host)}


def _marks(period: Period) -> Iterable[Mark]:
    marks = Mark.objects.filter(at__gte=period.since, at__lt=period.until).order_by("at", "pk")
    return marks.filter(host=period.host) if period.host else marks


def _targets(pollers: Iterable[Poller]) -> dict[str, float]:
    """The strictest target of each priority, of all hosts."""
    found: dict[str, float] = {}
    for poller in pollers:
        given = poller.targets if isinstance(poller.targets, dict) else {}
        for priority, minutes in given.items():
            if isinstance(minutes, int | float) and not isinstance(minutes, bool) and 0 < minutes < 1e6:
                found[str(priority)[:40]] = min(float(minutes), found.get(str(priority)[:40], float(minutes)))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _choices() -> tuple[dict[str, list[str]], datetime | None]:
    """What runs can be narrowed to, and since when there are any."""
    names = ", ".join(GROUPS)
    rows = _rows(f"SELECT {names}, {_at('MIN(first_seen_at)')} FROM workers_worker GROUP BY {names}", [])  # noqa: S608
    choices = {name: sorted({row[number] for row in rows} - {""}) for number, name in enumerate(GROUPS)}
    return choices, min((_read(row[-1]) for row in rows), default=None)


def _newest(period: Period) -> datetime | None:
    """When, as the filters narrow it, the last incident was detected or the last run ended; never in time to come."""
    narrowed, values = _where(period, "i.host")
    join = "LEFT JOIN workers_worker w ON w.id = i.run_id " if period.filters else ""
    detected = f"SELECT {_at('MAX(i.detected)')} FROM workers_incident i {join}WHERE i.detected <= %s{narrowed}"  # noqa: S608
    narrowed_runs, _ = _where(period)
    ended = (
        f"SELECT {_at('MAX(COALESCE(w.ended_at, w.health_since))')} FROM workers_worker w WHERE w.live IN (%s, %s) "  # noqa: S608
        f"AND w.health IN ('completed', 'failed') AND COALESCE(w.ended_at, w.health_since) <= %s{narrowed_runs}"
    )
    now = _adapt(period.now)
    rows = _rows(f"{detected} UNION ALL {ended}", [now, *values, True, False, now, *values])
    return max((_read(at).astimezone(UTC) for (at,) in rows if at), default=None)
