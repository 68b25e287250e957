"""The life of an alert, from the first look at which its rule holds to its end, and when people are told. Pure.

An alert is *pending* until it has held at so many looks in a row, then it is *firing*, and *resolved* after as many
looks in a row without. So what flaps is one alert, of which people are told once.

Being told is owed until it is done: what fires in quiet hours, under a mute, in maintenance or as part of a mass death
is told when that is past, if it still lasts. What ends before anybody was told of it is told to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from workers.health import Health

from .rules import LOST, Kind, Rule


class State(StrEnum):
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Telling(StrEnum):
    """What people are told now."""

    FIRED = "fired"
    AGAIN = "again"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Standing:
    """How an alert stands."""

    began: datetime
    state: State = State.PENDING
    looks: int = 1  # in a row at which it held; negative: at which it did not
    fired: datetime | None = None
    resolved: datetime | None = None
    told: datetime | None = None
    times_told: int = 0
    acknowledged: bool = False
    held_back: str = ""  # why people have not been told

    @property
    def settled(self) -> bool:
        """Whether nothing is to be decided until the facts change or a time comes."""
        owed = self.told is None and not self.acknowledged and not self.held_back
        return self.state is State.FIRING and self.looks > 0 and not owed


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why nobody is told now, and until when where that is known."""

    why: str = ""
    until: datetime | None = None


NONE = Hindrance()


@dataclass(frozen=True, slots=True)
class Step:
    """Where an alert stands after a look, None where it was nothing, and what is told because of it."""

    standing: Standing | None
    telling: Telling | None = None


def step(standing: Standing | None, held: bool | None, rule: Rule, now: datetime, hindrance: Hindrance = NONE) -> Step:
    """Take one look. ``held`` is None where nobody can say: then nothing begins and nothing ends."""
    if held is None:
        return Step(standing)
    after = _held(standing, rule, now) if held else _not_held(standing, rule, now)
    if after is None or after.state is State.PENDING:
        return Step(after)
    if after.state is State.RESOLVED:
        tell = after.told is not None and rule.resolve_notice
        return Step(replace(after, held_back=""), Telling.OVER if tell else None)
    telling = _due(after, rule, now) if held else None
    if telling is None or hindrance.why:
        owed = after.told is None and not after.acknowledged
        return Step(replace(after, held_back=hindrance.why[:100] if owed and hindrance.why else ""))
    return Step(replace(after, told=now, times_told=after.times_told + 1, held_back=""), telling)


def _held(standing: Standing | None, rule: Rule, now: datetime) -> Standing:
    if standing is None:
        after = Standing(began=now)
    else:  # counted no further than it matters, so that an alert which lasts is not written at every look
        after = replace(standing, looks=min(max(standing.looks, 0) + 1, max(rule.cycles, 1)))
    if after.state is State.PENDING and after.looks >= rule.cycles:
        after = replace(after, state=State.FIRING, fired=now)
    return after


def _not_held(standing: Standing | None, rule: Rule, now: datetime) -> Standing | None:
    if standing is None or standing.state is State.PENDING:
        return None
    after = replace(standing, looks=min(standing.looks, 0) - 1)
    return replace(after, state=State.RESOLVED, resolved=now) if -after.looks >= rule.cycles else after


def _due(standing: Standing, rule: Rule, now: datetime) -> Telling | None:
    if standing.acknowledged:
        return None
    if standing.told is None:
        return Telling.FIRED
    again = next_repeat(standing, rule)
    return Telling.AGAIN if again is not None and now >= again else None


def next_repeat(standing: Standing, rule: Rule) -> datetime | None:
    """When people are to be told again; None where they are not."""
    if standing.told is None or standing.acknowledged or not rule.repeat_minutes:
        return None
    return standing.told + timedelta(minutes=rule.repeat_minutes)


def hindrance(rule: Rule, now: datetime, maintenance_until: datetime | None, mass: Iterable[Rule] = ()) -> Hindrance:
    """Say why nobody is told by a rule now. ``mass`` are the rules of mass death that hold at this look."""
    if maintenance_until and now < maintenance_until:
        return Hindrance("maintenance", maintenance_until)
    if (silence := silent(rule, now)).why:
        return silence
    if any(supersedes(other, rule, now) for other in mass):
        return Hindrance("part of a mass death")
    return NONE


def silent(rule: Rule, now: datetime) -> Hindrance:
    """Say why a rule itself tells nobody now: it is muted, or has its quiet hours."""
    if rule.muted_until and now < rule.muted_until:
        return Hindrance("muted", rule.muted_until)
    if rule.quiet and (until := rule.quiet.end(now)):
        return Hindrance("quiet hours", until)
    return NONE


def supersedes(mass: Rule, rule: Rule, now: datetime) -> bool:
    """Whether the message of a mass death says it all: it is sent now, and reaches everybody whom the rule reaches."""
    about_lost = rule.kind is Kind.ZOMBIES or (rule.kind is Kind.HEALTH and Health(rule.health) in LOST)
    wide = mass.worker_type in ("", rule.worker_type) and mass.master in ("", rule.master)
    return about_lost and wide and not silent(mass, now).why and rule.channels <= mass.channels
