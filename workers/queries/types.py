"""How each type of worker did in a stretch of the past: outcomes, durations, and what it used of its limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from workers.health import ENDED, Health
from workers.measures import Spread, Use, spread, success_rate, use

from .period import Period

_HEALTH = {health.value: health for health in Health}
_OUTCOMES = tuple(sorted(health.value for health in ENDED))
_ENDED_AT = "COALESCE(ended_at, health_since)"
#: A run belongs to a stretch in which it began or ended; it counts as over only where it ended in it. Where its spec
#: gives no end, it ended when its verdict became so. The times are no bare columns, since Django would parse those at
#: twice the price.
_IS_OVER = f"health IN ({', '.join(['%s'] * len(_OUTCOMES))}) AND {_ENDED_AT} >= %s AND {_ENDED_AT} < %s"
_RUNS = f"""
SELECT worker_type, health, {_IS_OVER} AS is_over,
  COALESCE(started_at, NULL), COALESCE(ended_at, NULL), time_limit_minutes, token_budget, tokens_used
FROM workers_worker
WHERE (started_at >= %s AND started_at < %s
  OR {_IS_OVER})
"""  # noqa: S608 - only names and places


@dataclass(frozen=True, slots=True)
class TypeRow:
    """What became of the runs of one type. Durations and use are of those that ended in the stretch."""

    worker_type: str  # "" where their specs say none
    runs: int  # began or ended in the stretch
    completed: int
    failed: int
    cancelled: int
    success: float | None  # as measures.success_rate; None where none completed or failed
    durations: Spread | None
    untimed: int  # ended, but without times that can be used
    time: Use | None  # of the time limit
    tokens: Use | None  # of the token budget; None where no spec says both

    @property
    def over(self) -> int:
        """How many ended in the stretch."""
        return self.completed + self.failed + self.cancelled

    @property
    def lasting(self) -> int:
        """How many began in the stretch and did not end in it."""
        return self.runs - self.over


@dataclass(frozen=True, slots=True)
class Types:
    """All types of a stretch, those with most runs first."""

    period: Period
    rows: tuple[TypeRow, ...]
    total: TypeRow


def worker_types(period: Period) -> Types:
    """Read the runs of a stretch by worker type, in one query. Its grouping says nothing here."""
    by_type = defaultdict[str, _Gathered](_Gathered)
    total = _Gathered()
    for name, *run in _read(period):
        by_type[name].add(*run)
    for gathered in by_type.values():
        total.merge(gathered)
    rows = [gathered.row(name) for name, gathered in by_type.items()]
    return Types(
        period=period,
        rows=tuple(sorted(rows, key=lambda row: (-row.runs, row.worker_type))),
        total=total.row(""),
    )


def minutes_taken(period: Period) -> dict[str, list[float]]:
    """How many minutes each run took that ended in a stretch, by worker type, where its times can be used."""
    taken = defaultdict[str, list[float]](list)
    for name, _, is_over, began, ended, *_ in _read(period):
        duration = _duration(began, ended) if is_over else None
        if duration is not None:
            taken[name].append(duration.total_seconds() / 60)
    return dict(taken)


def _read(period: Period) -> list[tuple[Any, ...]]:
    since, until = (connection.ops.adapt_datetimefield_value(at) for at in (period.since, period.until))
    filters = period.filters
    sql = _RUNS + "".join(f" AND {connection.ops.quote_name(name)} = %s" for name in filters)
    is_over = [*_OUTCOMES, since, until]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*is_over, since, until, *is_over, *filters.values()])
        return cursor.fetchall()


class _Gathered:
    """What counts of the runs of one type. A run is looked at once: there are many."""

    def __init__(self) -> None:
        self.runs = self.untimed = 0
        self.outcomes: list[Health] = []
        self.durations: list[timedelta] = []
        self.time: list[tuple[float, float]] = []  # minutes used, and allowed
        self.tokens: list[tuple[float, float]] = []

    def add(
        self,
        health: str,
        is_over: Any,
        began: Any,
        ended: Any,
        limit: float | None,
        budget: int | None,
        tokens: int | None,
    ) -> None:
        self.runs += 1
        if not is_over:
            return
        self.outcomes.append(_HEALTH[health])
        duration = _duration(began, ended)
        if duration is None:
            self.untimed += 1
        else:
            self.durations.append(duration)
            if limit is not None:
                self.time.append((duration.total_seconds() / 60, limit))
        if budget is not None and tokens is not None:
            self.tokens.append((tokens, budget))

    def merge(self, other: _Gathered) -> None:
        self.runs += other.runs
        self.untimed += other.untimed
        self.outcomes += other.outcomes
        self.durations += other.durations
        self.time += other.time
        self.tokens += other.tokens

    def row(self, worker_type: str) -> TypeRow:
        return TypeRow(
            worker_type=worker_type,
            runs=self.runs,
            completed=self.outcomes.count(Health.COMPLETED),
            failed=self.outcomes.count(Health.FAILED),
            cancelled=self.outcomes.count(Health.CANCELLED),
            success=success_rate(self.outcomes),
            durations=spread(self.durations),
            untimed=self.untimed,
            time=use(self.time),
            tokens=use(self.tokens),
        )


def _duration(began: Any, ended: Any) -> timedelta | None:
    """From a start to an end; None where one of them is missing, or they run backwards."""
    if not (began and ended):
        return None
    if isinstance(began, str):  # SQLite's, in UTC without saying so
        began, ended = datetime.fromisoformat(began), datetime.fromisoformat(ended)
    took: timedelta = ended - began
    return took if took >= timedelta() else None


HEADER = (
    *("worker_type", "runs", "completed", "failed", "cancelled", "not_over", "success_rate"),
    *("timed_runs", "no_usable_times", "duration_median_seconds", "duration_p90_seconds"),
    *("runs_with_time_limit", "time_use_median", "time_use_p95", "over_time_limit"),
    *("runs_with_tokens", "token_use_median", "over_token_budget"),
)


def table(types: Types) -> Iterator[tuple[Any, ...]]:
    """Yield the rows for a file, under HEADER: a line a type. Shares are from 0 to 1; what nobody knows is empty."""
    for row in types.rows:
        timed, time, tokens = row.durations, row.time, row.tokens
        yield (
            *(row.worker_type, row.runs, row.completed, row.failed, row.cancelled, row.lasting, _rounded(row.success)),
            *(timed.cases if timed else 0, row.untimed),
            *((_seconds(timed.median), _seconds(timed.p90)) if timed else (None, None)),
            *((time.cases, _rounded(time.median), _rounded(time.p95), time.over) if time else (0, None, None, None)),
            *((tokens.cases, _rounded(tokens.median), tokens.over) if tokens else (0, None, None)),
        )


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _seconds(duration: timedelta) -> int:
    return round(duration.total_seconds())
