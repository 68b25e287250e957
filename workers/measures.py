"""Figures over incidents and runs. Pure: no Django, no I/O, no clock. A division by nothing is None, never 0."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from .health import Health
from .incidents import How, Incident, overlap

SPANS = {
    "1 h": timedelta(hours=1),
    "24 h": timedelta(hours=24),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
}
#: What a run is called while no poller watched it, or its verdict could not be formed.
UNKNOWN = Health.UNKNOWN
#: Ends that are no repair: the trouble only got another name, or went out of sight.
_NO_REPAIR = frozenset({How.SUPERSEDED, How.UNREPORTED, How.REPLACED, How.ARCHIVED})


class Spread(NamedTuple):
    """How long something took: in how many cases, in the middle one, and in nine of ten at most."""

    cases: int
    median: timedelta
    p90: timedelta  # by nearest rank: a duration that did occur


def spread(durations: Iterable[timedelta]) -> Spread | None:
    """None where there is no case. What would be negative, since clocks jumped, counts as no time at all."""
    nothing = timedelta()
    sizes = sorted([each if each > nothing else nothing for each in durations])
    if not sizes:
        return None
    count = len(sizes)
    middle = (sizes[(count - 1) // 2] + sizes[count // 2]) / 2
    return Spread(count, middle, sizes[math.ceil(0.9 * count) - 1])


class Use(NamedTuple):
    """How much of what they were allowed things used, as shares: 1 is all of it, and more is over."""

    cases: int
    median: float
    p95: float  # by nearest rank: a share that did occur
    over: int  # how many used more than they were allowed

    @property
    def share_over(self) -> float:
        return self.over / self.cases


def use(pairs: Iterable[tuple[float, float]]) -> Use | None:
    """Compare what was used with what was allowed. Who was allowed nothing, or used less than nothing, is no case."""
    shares = sorted([used / allowed for used, allowed in pairs if allowed > 0 and used >= 0])
    if not shares:
        return None
    count = len(shares)
    middle = (shares[(count - 1) // 2] + shares[count // 2]) / 2
    return Use(count, middle, shares[math.ceil(0.95 * count) - 1], count - bisect_right(shares, 1.0))


def time_to_detect(incidents: Iterable[Incident]) -> Spread | None:
    """MTTD, from began to detected, of the incidents of which it is known when they began."""
    return spread(each.detected - each.began for each in incidents if each.began_known)


def time_to_acknowledge(incidents: Iterable[Incident]) -> Spread | None:
    """MTTA, from detected to acknowledged, of the incidents that somebody acknowledged."""
    return spread(each.acknowledged - each.detected for each in incidents if each.acknowledged)


def time_to_resolve(incidents: Iterable[Incident]) -> Spread | None:
    """MTTR, from began to resolved, of the incidents that ended; not of those that only changed name or sight."""
    return spread(each.resolved - each.began for each in incidents if each.resolved and each.how not in _NO_REPAIR)


def success_rate(outcomes: Iterable[Health]) -> float | None:
    """The share of completed runs among those that completed or failed, from 0 to 1; others are no outcome."""
    counted = [outcome for outcome in outcomes if outcome in (Health.COMPLETED, Health.FAILED)]
    return counted.count(Health.COMPLETED) / len(counted) if counted else None


def failure_matrix(
    incidents: Iterable[Incident], now: datetime, cause: Callable[[Incident], str] = lambda each: each.kind.value
) -> dict[str, dict[str, int]]:
    """Count incidents by cause and by how lately they were detected: ``{cause: {"1 h": n, …}}``, most frequent first.

    Each span holds the shorter ones. It ends now and includes now, but not the moment just as long ago as it is.
    """
    matrix: dict[str, dict[str, int]] = {}
    for each in incidents:
        age = now - each.detected
        if timedelta() <= age < max(SPANS.values()):
            row = matrix.setdefault(cause(each), dict.fromkeys(SPANS, 0))
            for name, span in SPANS.items():
                row[name] += age < span
    return dict(sorted(matrix.items(), key=lambda item: (*(-count for count in reversed(item[1].values())), item[0])))


class Failure(NamedTuple):
    """One failed run of a task."""

    task_id: str
    worker_id: str
    at: datetime
    error: str = ""


@dataclass(frozen=True, slots=True)
class Offender:
    """A task that failed at least twice."""

    task_id: str
    failures: tuple[Failure, ...]  # oldest first

    @property
    def last(self) -> datetime:
        return self.failures[-1].at


def repeat_offenders(failures: Iterable[Failure], retry_of: Callable[[str], str] = lambda _: "") -> list[Offender]:
    """Find the tasks that failed twice or more, most failures first. A retry's failures are its first task's.

    ``retry_of`` gives the task that a task is to do again, or "". The same failure counts once.
    """
    by_task: dict[str, set[Failure]] = defaultdict(set)
    for each in failures:
        if each.task_id:
            by_task[_first_task(each.task_id, retry_of)].add(each)
    found = [
        Offender(task, tuple(sorted(each, key=lambda failure: (failure.at, failure.worker_id))))
        for task, each in by_task.items()
        if len(each) >= 2
    ]
    return sorted(found, key=lambda each: (-len(each.failures), -each.last.timestamp(), each.task_id))


def _first_task(task_id: str, retry_of: Callable[[str], str]) -> str:
    passed = {task_id}
    while (before := retry_of(task_id)) and before not in passed:
        passed.add(before)
        task_id = before
    return task_id


# --- error texts ------------------------------------------------------------------------------------------------------

_LONGEST = 2000  # characters of a text that are looked at
_UUID = r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
_HEX = r"(?<!-)\b0x[0-9a-f]+\b|(?<![\w-])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b(?!-)"
#: In this order: what is replaced first is not looked at again.
_SHAPES = (
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\bhttps?://[^\s\"'<>]+", re.IGNORECASE), "<url>"),
    (re.compile(r"(?<![\w<])(?:~|\.{1,2})?/[\w.@%+:=-][^\s\"'`,;()<>]*|\b[\w.-]+(?:/[\w.-]+)+\.\w+"), "<path>"),
    (re.compile(f"{_UUID}|{_HEX}", re.IGNORECASE), "<hex>"),
    (re.compile(r"\b[a-z][a-z_]*(?:-[a-z_]+)*-(?:[0-9a-z]*\d[0-9a-z]*)(?:-\w+)*\b", re.IGNORECASE), "<id>"),
    (re.compile(r"(?<![\w<])[+-]?\d+(?:[.,:]\d+)*"), "<n>"),
)


def shape(text: str) -> str:
    """Write an error text so that texts of one cause become equal: times, paths, ids, hex and numbers replaced."""
    text = " ".join(text[:_LONGEST].split())
    for pattern, word in _SHAPES:
        text = pattern.sub(word, text)
    return text


class Shape(NamedTuple):
    """Error texts of one shape."""

    shape: str
    times: int
    example: str  # the first of them as it was written


def by_shape(texts: Iterable[str]) -> list[Shape]:
    """Group error texts by shape, most frequent first. Empty ones are no error text."""
    found: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        if text.strip():
            found[shape(text)].append(text)
    shapes = [Shape(name, len(each), each[0]) for name, each in found.items()]
    return sorted(shapes, key=lambda each: (-each.times, each.shape))


# --- time in each health ----------------------------------------------------------------------------------------------


def time_in_health(
    changes: Sequence[tuple[datetime, Health]],
    since: datetime,
    until: datetime,
    gaps: Collection[tuple[datetime, datetime]] = (),
) -> dict[Health, timedelta]:
    """How long one run was in each health between two moments. Times in gaps, without a poller, count as unknown.

    ``changes`` are its changes of verdict, in any order; before the first of them it was in none. A range that runs
    backwards holds no time.
    """
    spent: dict[Health, timedelta] = defaultdict(timedelta)
    ordered = sorted(changes, key=lambda change: change[0])
    ends = [at for at, _ in ordered[1:]] + [until]
    for (at, health), ended in zip(ordered, ends, strict=False):  # without changes there is no end either
        begin, end = max(at, since), min(ended, until)
        if end > begin:
            blind = overlap(begin, end, gaps)
            spent[health] += end - begin - blind
            spent[UNKNOWN] += blind
    return {health: time for health, time in spent.items() if time}


def share_of_time(spent: dict[Health, timedelta]) -> dict[Health, float] | None:
    """The shares of a whole, from 0 to 1; None where there is no time to share."""
    total = sum(spent.values(), timedelta())
    return {health: time / total for health, time in spent.items()} if total else None
