"""What happened in a period and in the one before: light rows by plain SQL, in a constant number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import connection

from workers.health import ENDED, Health
from workers.measures import SPANS, Gaps
from workers.models import Mark, Poller, PollerGap
from workers.queries.period import GROUPS, Period
from workers.queries.watch import Watch

#: Verdicts after which a run takes no time any more.
OVER = ENDED | {Health.GONE}
#: How much of a text is read: enough to tell what it is about.
TEXT = 400

Row = tuple[Any, ...]
Turns = list[tuple[datetime, Health]]


class Trouble(NamedTuple):
    """An incident with its run, as :mod:`workers.measures` takes it."""

    pk: int
    run: int | None
    worker_id: str
    kind: str
    attempt: int
    began: datetime
    began_known: bool
    detected: datetime
    resolved: datetime | None
    acknowledged: datetime | None
    how: str
    from_log: bool
    text: str  # what is said of a failure or a crash; "" of other kinds
    label: int | None  # its root cause
    label_name: str
    host: str
    worker_type: str
    master: str
    task_type: str
    task_id: str


class Outcome(NamedTuple):
    """A run that completed or failed."""

    run: int
    worker_id: str
    attempt: int
    at: datetime
    health: str
    error: str
    host: str
    worker_type: str
    master: str
    task_type: str
    task_id: str


class Lived(NamedTuple):
    """One run's changes of verdict in a period, the one that held when it began first."""

    group: str
    host: str
    turns: Turns


@dataclass(frozen=True, slots=True, repr=False)  # its repr would be megabytes
class Facts:
    """All that the figures are made of. Troubles and outcomes are those of this period, of the one before, and lately:
    within the longest span that is counted back from now."""

    period: Period
    troubles: list[Trouble]
    outcomes: list[Outcome]
    lived: list[Lived]
    gaps: Mapping[str, Gaps]  # by host
    marks: list[Mark]
    targets: Mapping[str, float]  # minutes until a repair, by priority
    retry_of: Mapping[str, str]  # of tasks
    choices: Mapping[str, list[str]]  # what can be chosen of each of GROUPS
    watched_since: datetime | None
    newest: datetime | None  # when something was last detected, or ended


def load(period: Period) -> Facts:
    """Read the facts. ``period.now`` is the moment of reading."""
    watches = [Watch(poller, period.now) for poller in Poller.objects.all()]
    if period.host:
        watches = [watch for watch in watches if watch.poller.host == period.host]
    choices, since = _choices()
    starts = [watch.poller.started_at for watch in watches if watch.poller.started_at]
    return Facts(
        period=period,
        troubles=list(_troubles(period)),
        outcomes=list(_outcomes(period)),
        lived=_lived(period),
        gaps=_gaps(period, watches),
        marks=list(_marks(period)),
        targets=_targets(watch.poller for watch in watches),
        retry_of=dict(_rows("SELECT task_id, retry_of FROM workers_worker WHERE retry_of <> ''", [])),
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


def _read(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _adapt(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def _where(period: Period, host: str = "w.host") -> tuple[str, list[str]]:
    """The conditions that narrow a period, each with an AND before it, and their values."""
    columns = {name: host if name == "host" else f"w.{name}" for name in period.filters}
    return "".join(f" AND {column} = %s" for column in columns.values()), list(period.filters.values())


_GROUPED = "i.host, COALESCE(w.worker_type, ''), COALESCE(w.master, ''), COALESCE(w.task_type, '')"


def _troubles(period: Period) -> Iterator[Trouble]:
    lately = period.now - max(SPANS.values())
    narrowed, values = _where(period, "i.host")
    # two stretches, each found by the index; they are one where they touch
    stretches = [(period.before.since, period.until), (lately, period.now)]
    if stretches[1][0] <= stretches[0][1]:
        stretches = [(min(period.before.since, lately), period.now)]
    asked = " OR ".join(["i.detected >= %s AND i.detected <= %s"] * len(stretches))
    text = f"CASE WHEN i.kind IN ('failed', 'crashed') THEN SUBSTR(i.cause, 1, {TEXT}) ELSE '' END"
    sql = (
        f"SELECT i.id, i.run_id, i.worker_id, i.kind, i.attempt, {_at('i.began')}, i.began_known, {_at('i.detected')}, "  # noqa: S608
        f"{_at('i.resolved')}, {_at('i.acknowledged')}, i.how, i.from_log, {text}, i.root_cause_id, "
        f"COALESCE(c.name, ''), {_GROUPED}, COALESCE(w.task_id, '') "
        "FROM workers_incident i LEFT JOIN workers_worker w ON w.id = i.run_id "
        f"LEFT JOIN workers_rootcause c ON c.id = i.root_cause_id WHERE ({asked}){narrowed} ORDER BY i.detected, i.id"
    )
    ends = [_adapt(end) for stretch in stretches for end in stretch]
    rows = _rows(sql, [*ends, *values])
    if connection.vendor != "sqlite":
        return map(Trouble._make, rows)
    read = datetime.fromisoformat
    return (
        Trouble._make(
            (
                *row[:5],
                read(row[5]),
                row[6],
                read(row[7]),
                row[8] and read(row[8]),
                row[9] and read(row[9]),
                *row[10:],
            )
        )
        for row in rows
    )


def _outcomes(period: Period) -> Iterator[Outcome]:
    """The runs that ended in the period or the one before; one that does not say when ended as it was seen."""
    narrowed, values = _where(period)
    ended = "COALESCE(w.ended_at, w.health_since)"
    # both values of `live`, so that the index ended_by_health finds them
    sql = (
        f"SELECT w.id, w.worker_id, w.attempt, {_at(ended)}, w.health, "  # noqa: S608
        f"CASE WHEN w.health = 'failed' THEN SUBSTR(w.error, 1, {TEXT}) ELSE '' END, "
        "w.host, w.worker_type, w.master, w.task_type, w.task_id FROM workers_worker w "
        f"WHERE w.live IN (%s, %s) AND w.health IN ('completed', 'failed') AND {ended} >= %s AND {ended} < %s{narrowed}"
    )
    for row in _rows(sql, [True, False, _adapt(period.before.since), _adapt(period.until), *values]):
        yield Outcome._make((*row[:3], _read(row[3]), *row[4:]))


def _lived(period: Period) -> list[Lived]:
    """What each run's verdicts were. What held when the period began, the first change after that says."""
    since, until = _adapt(period.since), _adapt(period.until)
    narrowed, values = _where(period)
    group = f"w.{period.group}" if period.group else "''"
    states = {health.value: health for health in Health}
    runs: dict[int, Lived] = {}
    changes = _rows(
        f"SELECT h.worker_id, {_at('h.at')}, h.old, h.new, {group}, w.host FROM workers_healthchange h "  # noqa: S608
        "JOIN workers_worker w ON w.id = h.worker_id "
        f"WHERE h.at >= %s AND h.at < %s{narrowed} ORDER BY h.at, h.id",
        [since, until, *values],
    )
    for run, at, old, new, of, host in changes:
        lived = runs.get(run)
        if lived is None:
            before = states.get(old)
            lived = runs[run] = Lived(of, host, [(period.since, before)] if before else [])
        lived.turns.append((_read(at), states[new]))
    found = list(runs.values())
    for run, state, of, host in [*_unchanged(period, group), *_changed_later(period, group)]:
        if run not in runs and state in states:
            found.append(Lived(of, host, [(period.since, states[state])]))
    return found


def _unchanged(period: Period, group: str) -> list[Row]:
    """The runs whose verdict of now held already when the period began."""
    narrowed, values = _where(period)
    places = ", ".join(["%s"] * len(OVER))
    return _rows(
        f"SELECT w.id, w.health, {group}, w.host FROM workers_worker w "  # noqa: S608
        f"WHERE w.health NOT IN ({places}) AND w.health_since < %s{narrowed}",
        [*(health.value for health in OVER), _adapt(period.since), *values],
    )


def _changed_later(period: Period, group: str) -> list[Row]:
    """The runs that the period knew, with what they were before they first changed after it."""
    narrowed, values = _where(period)
    until = _adapt(period.until)
    return _rows(
        f"SELECT h.worker_id, h.old, {group}, w.host FROM workers_healthchange h "  # noqa: S608
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
