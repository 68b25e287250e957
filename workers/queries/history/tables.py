"""The tables of the export: whatever the page draws or lists, in plain columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from workers.health import Health
from workers.incidents import Kind
from workers.measures import SPANS, Spread, share_of_time

from .charts import DAYS
from .figures import Figures, Summary
from .load import INCIDENT, incidents

SUMMARY = (
    *("incidents", "runs_completed", "runs_failed", "success_rate"),
    *("mttd_median_s", "mttd_p90_s", "mttd_cases", "mtta_median_s", "mtta_p90_s", "mtta_cases"),
    *("mttr_median_s", "mttr_p90_s", "mttr_cases"),
)


class Table(NamedTuple):
    """One table: its columns, and its rows as they are asked for."""

    header: Sequence[str]
    rows: Callable[[Figures], Iterable[Sequence[Any]]]


def _summary(each: Summary | None) -> tuple[Any, ...]:
    if each is None:
        return ("",) * len(SUMMARY)
    spreads = [value for spread in (each.detect, each.acknowledge, each.resolve) for value in _spread(spread)]
    return (each.incidents, each.completed, each.failed, each.success, *spreads)


def _spread(spread: Spread | None) -> tuple[Any, ...]:
    return (spread.median.total_seconds(), spread.p90.total_seconds(), spread.cases) if spread else ("", "", 0)


def _slots(figures: Figures) -> Iterable[Sequence[Any]]:
    for slot, each, kinds in zip(figures.slots, figures.by_slot, figures.kinds_by_slot, strict=True):
        yield (slot.began, *_summary(each), *(kinds[kind] if each else "" for kind in Kind))


def _compared(figures: Figures) -> Iterable[Sequence[Any]]:
    before = figures.period.before
    yield ("this period", figures.period.since, figures.period.until, *_summary(figures.whole))
    yield ("the one before", before.since, before.until, *_summary(figures.before))


def _groups(figures: Figures) -> Iterable[Sequence[Any]]:
    return ((name, *_summary(each)) for name, each in figures.groups)


def _matrix(figures: Figures) -> Iterable[Sequence[Any]]:
    return ((cause.name, *row.values()) for cause, row in figures.matrix.items())


def _when(figures: Figures) -> Iterable[Sequence[Any]]:
    return ((day, *row) for day, row in zip(DAYS, figures.heat, strict=True))


def _offenders(figures: Figures) -> Iterable[Sequence[Any]]:
    for each in figures.offenders:
        for one in each.failures:
            yield (each.task_id, len(each.failures), one.task_id, one.worker_id, one.at, one.error)


def _errors(figures: Figures) -> Iterable[Sequence[Any]]:
    return ((each.shape, each.times, each.example) for each in figures.shapes)


def _health(figures: Figures) -> Iterable[Sequence[Any]]:
    for each in figures.health:
        shares = share_of_time(dict(each.spent)) or {}
        for health in Health:
            if health in each.spent:
                yield (each.name, health.value, each.spent[health].total_seconds(), shares[health])


def _incidents(figures: Figures) -> Iterable[Sequence[Any]]:
    return incidents(figures.period)


def _marks(figures: Figures) -> Iterable[Sequence[Any]]:
    return ((mark.at, mark.host, mark.kind, mark.text) for mark in figures.facts.marks)


def _unseen(figures: Figures) -> Iterable[Sequence[Any]]:
    for host, gaps in sorted(figures.facts.gaps.items()):
        for began, ended in gaps.stretches:
            begin, end = max(began, figures.period.since), min(ended, figures.period.until)
            if end > begin:
                yield (host, begin, end, (end - begin) / timedelta(seconds=1))


TABLES: dict[str, Table] = {
    "comparison": Table(("period", "since", "until", *SUMMARY), _compared),
    "slots": Table(("began", *SUMMARY, *(kind.value for kind in Kind)), _slots),
    "groups": Table(("group", *SUMMARY), _groups),
    "matrix": Table(("cause", *(f"last {span}" for span in SPANS)), _matrix),
    "when": Table(("weekday", *(f"{hour:02}:00" for hour in range(24))), _when),
    "health": Table(("of", "health", "seconds", "share"), _health),
    "offenders": Table(("first_task", "failures", "task", "worker_id", "failed_at", "error"), _offenders),
    "errors": Table(("shape", "times", "example"), _errors),
    "incidents": Table(INCIDENT, _incidents),
    "marks": Table(("at", "host", "kind", "text"), _marks),
    "unwatched": Table(("host", "since", "until", "seconds"), _unseen),
}
