"""How each type of worker did in a stretch of the past: outcomes, durations, and what it used of its limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection

from workers.health import ENDED, Health
from workers.measures import Spread, Use, spread, success_rate, use

from .period import Period

_OUTCOMES = tuple(sorted(health.value for health in ENDED))
_ENDED_AT = "COALESCE(ended_at, health_since)"
#: A run belongs to a stretch in which it began or ended; it counts as over only where it ended in it. Where its spec
#: gives no end, it ended when its verdict became so.
_RUNS = f"""
SELECT worker_type, health, started_at, ended_at, time_limit_minutes, token_budget, tokens_used,
  health IN ({", ".join(["%s"] * len(_OUTCOMES))}) AND {_ENDED_AT} >= %s AND {_ENDED_AT} < %s AS is_over
FROM workers_worker
WHERE (started_at >= %s AND started_at < %s
  OR health IN ({", ".join(["%s"] * len(_OUTCOMES))}) AND {_ENDED_AT} >= %s AND {_ENDED_AT} < %s)
"""  # noqa: S608 - only names and places


class _Run(NamedTuple):
    """A run as the database gives it."""

    worker_type: str
    health: str
    started_at: Any
    ended_at: Any
    limit: float | None  # minutes
    budget: int | None
    tokens: int | None
    over: Any  # whether it ended in the stretch

    @property
    def duration(self) -> timedelta | None:
        """From its start to its end; None where one of them is missing, or they run backwards."""
        if not (self.started_at and self.ended_at):
            return None
        began, ended = _moment(self.started_at), _moment(self.ended_at)
        return ended - began if ended >= began else None


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
    by_type: dict[str, list[_Run]] = defaultdict(list)
    runs = _read(period)
    for run in runs:
        by_type[run.worker_type].append(run)
    rows = (_row(name, of_type) for name, of_type in by_type.items())
    return Types(
        period=period,
        rows=tuple(sorted(rows, key=lambda row: (-row.runs, row.worker_type))),
        total=_row("", runs),
    )


def _read(period: Period) -> list[_Run]:
    since, until = (connection.ops.adapt_datetimefield_value(at) for at in (period.since, period.until))
    filters = period.filters
    sql = _RUNS + "".join(f" AND {connection.ops.quote_name(name)} = %s" for name in filters)
    ended = [*_OUTCOMES, since, until]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*ended, since, until, *ended, *filters.values()])
        return [_Run._make(row) for row in cursor.fetchall()]


def _row(worker_type: str, runs: list[_Run]) -> TypeRow:
    over = [run for run in runs if run.over]
    outcomes = [Health(run.health) for run in over]
    timed = [(duration, run) for run in over if (duration := run.duration) is not None]
    return TypeRow(
        worker_type=worker_type,
        runs=len(runs),
        completed=outcomes.count(Health.COMPLETED),
        failed=outcomes.count(Health.FAILED),
        cancelled=outcomes.count(Health.CANCELLED),
        success=success_rate(outcomes),
        durations=spread(duration for duration, _ in timed),
        untimed=len(over) - len(timed),
        time=use((duration.total_seconds() / 60, run.limit) for duration, run in timed if run.limit is not None),
        tokens=use((run.tokens, run.budget) for run in over if run.tokens is not None and run.budget is not None),
    )


def _moment(value: Any) -> datetime:
    """A time out of a plain cursor; SQLite may give it as text. All are in UTC, so only differences are right."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


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
