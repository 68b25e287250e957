"""Figures over incidents and runs. Pure: no Django, no I/O, no clock. A division by nothing is None, never 0."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar

from .health import Health
from .incidents import How

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
_NO_TIME = timedelta()


class Moments(Protocol):
    """What of an incident is measured: :class:`workers.incidents.Incident`, or a row of it."""

    @property
    def kind(self) -> str: ...
    @property
    def began(self) -> datetime: ...
    @property
    def began_known(self) -> bool: ...
    @property
    def detected(self) -> datetime: ...
    @property
    def acknowledged(self) -> datetime | None: ...
    @property
    def resolved(self) -> datetime | None: ...
    @property
    def how(self) -> str | None: ...


M = TypeVar("M", bound=Moments)


class Spread(NamedTuple):
    """How long something took: in how many cases, in the middle one, and in nine of ten at most."""

    cases: int
    median: timedelta
    p90: timedelta  # by nearest rank: a duration that did occur


def spread(durations: Iterable[timedelta]) -> Spread | None:
    """None where there is no case. What would be negative, since clocks jumped, counts as no time at all."""
    sizes = sorted([each if each > _NO_TIME else _NO_TIME for each in durations])
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


def repaired(how: str | None) -> bool:
    """Whether an end is a repair, and not only another name for the trouble, or its going out of sight."""
    return how not in _NO_REPAIR


def time_to_detect(incidents: Iterable[Moments]) -> Spread | None:
    """MTTD, from began to detected, of the incidents of which it is known when they began."""
    return spread([each.detected - each.began for each in incidents if each.began_known])


def time_to_acknowledge(incidents: Iterable[Moments]) -> Spread | None:
    """MTTA, from detected to acknowledged, of the incidents that somebody acknowledged."""
    return spread([each.acknowledged - each.detected for each in incidents if each.acknowledged])


def time_to_resolve(incidents: Iterable[Moments]) -> Spread | None:
    """MTTR, from began to resolved, of the incidents that ended; not of those that only changed name or sight."""
    return spread([each.resolved - each.began for each in incidents if each.resolved and repaired(each.how)])


def success_rate(outcomes: Iterable[str]) -> float | None:
    """The share of completed runs among those that completed or failed, from 0 to 1; others are no outcome."""
    counted = [outcome for outcome in outcomes if outcome in (Health.COMPLETED, Health.FAILED)]
    return counted.count(Health.COMPLETED) / len(counted) if counted else None


def failure_matrix(
    incidents: Iterable[M], now: datetime, cause: Callable[[M], str] = lambda each: str(each.kind)
) -> dict[str, dict[str, int]]:
    """Count incidents by cause and by how lately they were detected: ``{cause: {"1 h": n, …}}``, most frequent first.

    Each span holds the shorter ones. It ends now and includes now, but not the moment just as long ago as it is.
    """
    matrix: dict[str, dict[str, int]] = {}
    oldest = now - max(SPANS.values())
    lately = [each for each in incidents if oldest < each.detected <= now]
    for name, span in sorted(SPANS.items(), key=lambda item: -item[1]):
        since = now - span
        lately = [each for each in lately if each.detected > since]
        for each, number in Counter(map(cause, lately)).items():
            matrix.setdefault(each, dict.fromkeys(SPANS, 0))[name] = number
    return dict(sorted(matrix.items(), key=lambda item: (*(-count for count in reversed(item[1].values())), item[0])))


class Failure(NamedTuple):
    """One failed run of a task."""

    task_id: str
    worker_id: str
    at: datetime
    error: str = ""
    run: int = 0  # its row, to lead to its page


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
    first: dict[str, str] = {}
    for each in failures:
        if task := each.task_id:
            if task not in first:
                first[task] = first_task(task, retry_of)
            by_task[first[task]].add(each)
    found = [
        Offender(task, tuple(sorted(each, key=lambda failure: (failure.at, failure.worker_id))))
        for task, each in by_task.items()
        if len(each) >= 2
    ]
    return sorted(found, key=lambda each: (-len(each.failures), -each.last.timestamp(), each.task_id))


def first_task(task_id: str, retry_of: Callable[[str], str]) -> str:
    """The task that a chain of retries began with. In a ring none did, and the first by name stands for it."""
    passed = [task_id]
    while before := retry_of(passed[-1]):
        if before in passed:
            return min(passed[passed.index(before) :])
        passed.append(before)
    return passed[-1]


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


@lru_cache(maxsize=16_384)
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
    times = Counter[str]()
    for text, number in Counter(texts).items():  # in the order in which they were first met
        if text.strip():
            name = shape(text)
            found[name].append(text)
            times[name] += number
    shapes = [Shape(name, times[name], each[0]) for name, each in found.items()]
    return sorted(shapes, key=lambda each: (-each.times, each.shape))


# --- time in each health ----------------------------------------------------------------------------------------------


class Gaps:
    """Stretches without a poller, made ready to be asked often. They may overlap each other, and may run backwards."""

    def __init__(self, gaps: Iterable[tuple[datetime, datetime]] = ()) -> None:
        merged: list[tuple[datetime, datetime]] = []
        for began, ended in sorted(gaps):
            if merged and began <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(ended, merged[-1][1]))
            elif ended > began:
                merged.append((began, ended))
        self.stretches = tuple(merged)
        self._begins = [began for began, _ in merged]
        self._before = [_NO_TIME]  # how much lies before each begins
        for began, ended in merged:
            self._before.append(self._before[-1] + (ended - began))

    def within(self, since: datetime, until: datetime) -> timedelta:
        """How much of a stretch lies in gaps."""
        if not self._begins or until <= since:
            return _NO_TIME
        return self._until(until) - self._until(since)

    def _until(self, moment: datetime) -> timedelta:
        number = bisect_right(self._begins, moment)
        if not number:
            return _NO_TIME
        began, ended = self.stretches[number - 1]
        return self._before[number - 1] + (min(moment, ended) - began)


def time_in_health(
    changes: Sequence[tuple[datetime, Health]],
    since: datetime,
    until: datetime,
    gaps: Gaps | Collection[tuple[datetime, datetime]] = (),
    over: Collection[Health] = (),
) -> dict[Health, timedelta]:
    """How long one run was in each health between two moments. Times in gaps, without a poller, count as unknown.

    ``changes`` are its changes of verdict, in any order; before the first of them it was in none. Time in one of
    ``over`` counts for nothing, watched or not. A range that runs backwards holds no time.
    """
    spent: dict[Health, timedelta] = {}
    if not isinstance(gaps, Gaps):
        gaps = Gaps(gaps)
    ordered = sorted(changes, key=_when)
    ended = until
    for at, health in reversed(ordered):
        begin, end = at if at > since else since, ended if ended < until else until
        ended = at
        if end > begin and health not in over:
            blind = gaps.within(begin, end)
            spent[health] = spent.get(health, _NO_TIME) + (end - begin - blind)
            if blind:
                spent[UNKNOWN] = spent.get(UNKNOWN, _NO_TIME) + blind
        if at <= since:
            break
    return {health: time for health, time in spent.items() if time}


def _when(change: tuple[datetime, Health]) -> datetime:
    return change[0]


class TimeInHealth:
    """What :func:`time_in_health` says, summed over many runs in one pass over all their changes.

    A run that is in a state from one moment to the next took the later less the earlier: so each change adds its
    moment to the state that it ends and takes it from the one that it begins. Moments are seconds since the range
    began; ``gaps`` do not overlap, and ascend.
    """

    def __init__(self, length: float, gaps: Iterable[tuple[float, float]] = ()) -> None:
        self.length = length  # of the range
        self._gaps = [(max(began, 0.0), min(ended, length)) for began, ended in gaps if ended > 0 and began < length]
        self._seconds: dict[str, float] = defaultdict(float)
        self._unseen: dict[str, float] = defaultdict(float)

    def follow(self, changes: Sequence[tuple[int, str, str, float]], held: Iterable[tuple[int, str]] = ()) -> None:
        """Take all changes, oldest first: of which run, from what, to what, when. ``held`` are states of runs that
        did not change. A run is in its first ``old`` from the beginning of the range; "" is in none."""
        seconds, unseen = self._seconds, self._unseen
        blind, all_blind = self._blind([change[3] for change in changes])
        state: dict[int, str] = {}
        for (run, old, new, at), gone in zip(changes, blind, strict=True):
            if before := state.get(run, old):
                seconds[before] += at
                unseen[before] += gone
            seconds[new] -= at
            unseen[new] -= gone
            state[run] = new
        for run, health in held:
            state.setdefault(run, health)
        for health, runs in Counter(state.values()).items():
            seconds[health] += self.length * runs
            unseen[health] += all_blind * runs

    def _blind(self, moments: list[float]) -> tuple[list[float], float]:
        """How much of the time before each moment lay in gaps, and how much of the whole range."""
        found: list[float] = []
        total = 0.0
        for began, ended in self._gaps:
            found += [total] * (bisect_right(moments, began) - len(found))
            found += [total + at - began for at in moments[len(found) : bisect_right(moments, ended)]]
            total += ended - began
        return found + [total] * (len(moments) - len(found)), total

    def spent(self, over: Collection[Health] = ()) -> dict[Health, timedelta]:
        """The sums, without those that count for nothing."""
        seconds: dict[Health, float] = defaultdict(float)
        for health in Health:
            if health not in over and health.value in self._seconds:
                seconds[health] += self._seconds[health.value] - self._unseen[health.value]
                seconds[UNKNOWN] += self._unseen[health.value]
        # what is less than a millisecond is what sums of many moments leave over
        return {health: timedelta(seconds=round(each, 3)) for health, each in seconds.items() if each > 1e-3}


def share_of_time(spent: dict[Health, timedelta]) -> dict[Health, float] | None:
    """The shares of a whole, from 0 to 1; None where there is no time to share."""
    total = sum(spent.values(), timedelta())
    return {health: time / total for health, time in spent.items()} if total else None
