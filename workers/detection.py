"""How often a call of trouble was right, and which limit would have called better. Pure: no Django, no I/O, no clock.

A call is a verdict late, stalled, zombie or crashed. One that came back by itself was a false alarm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from .health import Health, span
from .incidents import How

MINUTE = timedelta(minutes=1)
#: So many silences are needed before a limit is suggested from them.
ENOUGH = 20
#: No shorter limit is suggested.
LEAST = 2 * MINUTE


class Became(StrEnum):
    """What became of a call."""

    BACK = "came back by itself"
    REPAIRED = "repaired or started anew"
    ENDED = "ended"
    TURNED = "turned into another trouble"
    LASTS = "is still so"


_BECAME = {
    How.RECOVERED: Became.BACK,
    How.REMEDIATION: Became.REPAIRED,
    How.RESTARTED: Became.REPAIRED,
    How.SUPERSEDED: Became.TURNED,
}


def became(how: How | None) -> Became:
    """What the end of an incident says of the call that opened it; None: it lasts."""
    return Became.LASTS if how is None else _BECAME.get(how, Became.ENDED)


class Change(NamedTuple):
    """One change of the verdict on a run."""

    at: datetime
    health: Health
    attempt: int = 1


class LateCall(NamedTuple):
    """A run was called late, at this moment, and this became of it."""

    at: datetime
    became: Became


#: While a verdict is one of these nobody knows whether the run is still late.
_BLIND = frozenset({Health.UNKNOWN, Health.UNREADABLE})
_TROUBLE = frozenset({Health.STALLED, Health.ZOMBIE, Health.CRASHED, Health.FAILED})
_OVER = frozenset({Health.COMPLETED, Health.CANCELLED, Health.GONE})


def late_calls(changes: Sequence[Change], repairs: Collection[datetime] = ()) -> Iterator[LateCall]:
    """Find the calls of late of one run, of which no incident is kept. ``changes`` are in the order of time.

    ``repairs`` are the moments at which a remediation of it began. A verdict that says nobody can see it ends no call.
    """
    called: Change | None = None
    for each in changes:
        if each.health in _BLIND:
            continue
        if called and (each.health is not Health.LATE or each.attempt != called.attempt):
            yield LateCall(called.at, _after_late(called, each, repairs))
            called = None
        if each.health is Health.LATE and called is None:
            called = each
    if called:
        yield LateCall(called.at, Became.LASTS)


def _after_late(called: Change, then: Change, repairs: Collection[datetime]) -> Became:
    if any(called.at <= began <= then.at for began in repairs):
        return Became.REPAIRED
    if then.attempt != called.attempt or then.health is Health.PENDING:
        return Became.REPAIRED
    if then.health in _OVER:
        return Became.ENDED
    return Became.TURNED if then.health in _TROUBLE else Became.BACK


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of some calls."""

    calls: int
    back: int
    repaired: int
    ended: int
    turned: int
    lasts: int

    @property
    def over(self) -> int:
        return self.calls - self.lasts

    @property
    def false_alarms(self) -> float | None:
        """The share that came back by itself among those that are over; None where none is."""
        return self.back / self.over if self.over else None

    @property
    def sentence(self) -> str:
        if not self.calls:
            return "Nothing was called late, stalled, zombie or crashed."
        if self.calls == 1:
            end = "is not over yet" if self.lasts else f"{'came' if self.back else 'did not come'} back by itself"
            return f"The one call {end}."
        said = f"Of {self.calls:,} calls {_or_no(self.back, 'none')} came back by {_selves(self.back)}"
        if self.lasts:
            said += f"; {self.lasts:,} {'is' if self.lasts == 1 else 'are'} not over yet"
        return f"{said}."


def _selves(number: int) -> str:
    return "itself" if number < 2 else "themselves"


def _or_no(number: int, no: str) -> str:
    return f"{number:,}" if number else no


def tally(found: Iterable[Became]) -> Tally:
    count = Counter(found)
    return Tally(
        calls=sum(count.values()),
        back=count[Became.BACK],
        repaired=count[Became.REPAIRED],
        ended=count[Became.ENDED],
        turned=count[Became.TURNED],
        lasts=count[Became.LASTS],
    )


# --- silences ---------------------------------------------------------------------------------------------------------

#: Whole minutes, rounded down, and how many silences were so long. Each counts as long as its minute's end.
Histogram = Mapping[int, int]


class Lengths(NamedTuple):
    """How long silences were that ended by themselves, by nearest rank."""

    silences: int
    p50: timedelta
    p95: timedelta
    p99: timedelta


def lengths(silences: Histogram) -> Lengths | None:
    """None where there is no silence."""
    count = sum(silences.values())
    if count <= 0:
        return None
    p50, p95, p99 = (_percentile(silences, count, percent) for percent in (50, 95, 99))
    return Lengths(count, p50, p95, p99)


def _percentile(silences: Histogram, count: int, percent: int) -> timedelta:
    rank = math.ceil(count * percent / 100)  # in whole numbers: 0.95 × 20 is a little more than 19
    passed = 0
    for minutes in sorted(silences):
        passed += silences[minutes]
        if passed >= rank:
            return (minutes + 1) * MINUTE
    raise AssertionError("a rank is never over the count")


def suggest(found: Lengths | None) -> timedelta | None:
    """The limit that 99 of 100 silences stay under, and a minute or a twentieth more. None of too few silences."""
    if found is None or found.silences < ENOUGH:
        return None
    whole = math.ceil(found.p99 / MINUTE)
    return max((whole + max(1, whole // 20)) * MINUTE, LEAST)


def longer_than(limit: timedelta, silences: Histogram) -> int:
    """How many silences would be called stalled under this limit."""
    return sum(number for minutes, number in silences.items() if (minutes + 1) * MINUTE > limit)


class Stall(NamedTuple):
    """A run was called stalled."""

    began: datetime  # its last sign of life
    detected: datetime
    resolved: datetime | None
    by_itself: bool  # it came back by itself


@dataclass(frozen=True, slots=True)
class Effect:
    """What another limit would have changed."""

    present: timedelta
    suggested: timedelta
    spared: int  # false alarms that would not have been called
    later: int  # real stalls that would have been noticed later
    earlier: int
    by: timedelta  # how much later or earlier, the middle one of them
    missed: int  # real stalls that would have been over, or another trouble, before they were called
    called: int  # silences that ended by themselves and would be called stalled
    called_now: int  # as many, under the present limit

    @property
    def sentence(self) -> str:
        new, old = span(self.suggested), span(self.present).removesuffix(" min")
        if self.suggested == self.present:
            return f"{new}, as it is now, is what the silences suggest; {self._silences}."
        said = f"{new} instead of {old}"
        if self.suggested > self.present:
            said += f" would have spared {_number(self.spared, 'false alarm')}"
        shifted, word = (self.later, "later") if self.later else (self.earlier, "earlier")
        if shifted:
            by = max(round(self.by / MINUTE), 1)
            parts = [f"{_number(shifted, 'real stall')} would have been noticed {by:,} min {word}"]
        else:
            word = "later" if self.suggested > self.present else "earlier"
            parts = [f"no real stall would have been noticed {word}"]
        if self.missed:
            parts.append(f"{self.missed:,} would never have been called stalled")
        joint = "; " if self.suggested > self.present else ": "
        return f"{said}{joint}{'; '.join([*parts, self._silences])}."

    @property
    def _silences(self) -> str:
        now = f", {_or_no(self.called_now, 'none')} now" if self.called != self.called_now else ""
        which = _number(self.called, "silence")
        return f"{which} that ended by {_selves(self.called)} would be called stalled{now}"


def _number(number: int, word: str) -> str:
    return f"{_or_no(number, 'no')} {word}{'s' if number > 1 else ''}"


def effect(stalls: Iterable[Stall], silences: Histogram, present: timedelta, suggested: timedelta) -> Effect:
    """Work out what the suggested limit would have changed beside the present one.

    Only the change between these two counts: a call that the present limit would not make either is not spared by the
    suggested one, and what was noticed late since nobody watched is noticed no earlier.
    """
    spared = missed = 0
    shifts: list[timedelta] = []
    for each in stalls:
        lasted = each.resolved - each.began if each.resolved else None
        if each.by_itself:
            spared += lasted is not None and present < lasted <= suggested
            continue
        if lasted is not None and present < lasted <= suggested:
            missed += 1
            continue
        shift = each.began + suggested - each.detected
        if suggested > present:
            shifts += [min(shift, suggested - present)] if shift > timedelta() else []
        elif suggested < present:
            shifts += [min(-shift, present - suggested)] if shift < timedelta() else []
    by = timedelta(seconds=median(shift.total_seconds() for shift in shifts)) if shifts else timedelta()
    longer = suggested > present
    return Effect(
        present=present,
        suggested=suggested,
        spared=spared,
        later=len(shifts) if longer else 0,
        earlier=0 if longer else len(shifts),
        by=by,
        missed=missed,
        called=longer_than(suggested, silences),
        called_now=longer_than(present, silences),
    )
