"""What is being folded out of the logs about one run: its spells of trouble. Pure: no Django, no I/O, no clock.

A spell is an incident in the making. All of this is small, and can be written as JSON and read again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .incidents import How, Incident, Kind

#: Within one loop of the PM daemon (3 min, of which it works up to 8 s) everything is said at the same time.
SAME_LOOP = timedelta(minutes=5)


@dataclass(slots=True)
class Spell:
    """An incident in the making: the first and last time it was reported, and how it ended."""

    kind: Kind
    number: int
    first: datetime
    last: datetime
    counted: datetime  # the last report that was counted; word of a stall prolongs a zombie uncounted
    began: datetime
    began_known: bool
    cause: str
    watch: str
    awake: float  # what the watcher's clock showed at the last report
    seen: int = 1
    asleep: float = 0.0  # seconds between its reports in which the watcher slept
    resolved: datetime | None = None
    how: How | None = None


@dataclass(slots=True)
class Subject:
    """What is known of one run of one id."""

    created_at: datetime | None = None
    started_at: datetime | None = None
    limit: float | None = None  # seconds
    alive: datetime | None = None  # its last sign of life
    warned: datetime | None = None  # the first warning since then
    spells: list[Spell] = field(default_factory=list)


def covering(subject: Subject, kind: Kind, at: datetime) -> Spell | None:
    """Find the spell that a complaint belongs to: it had begun, and was not over."""
    return next(
        (
            spell
            for spell in reversed(subject.spells)
            if spell.kind is kind and spell.first <= at and (spell.resolved is None or at <= spell.resolved)
        ),
        None,
    )


def is_echo(subject: Subject, at: datetime, kind: Kind) -> bool:
    """Whether a complaint only repeats, in the same loop, what has been cleaned up a moment ago."""
    return kind is not Kind.FAILED and any(
        spell.kind is kind
        and spell.how is How.REMEDIATION
        and spell.resolved is not None
        and spell.resolved < at <= spell.resolved + SAME_LOOP
        for spell in subject.spells
    )


def began_at(subject: Subject, kind: Kind, at: datetime) -> datetime | None:
    """When a trouble that was reported at that moment began, as far as anybody can know."""
    if kind is Kind.FAILED:
        return None
    if kind is Kind.OVERDUE:
        due = subject.started_at + timedelta(seconds=subject.limit) if subject.started_at and subject.limit else None
        return due if due and due <= at else None
    signs = [moment for moment in (subject.alive, subject.started_at) if moment and moment <= at]
    if signs:
        return max(signs)
    return subject.warned if subject.warned and subject.warned <= at else None


def absorb_stall(subject: Subject, zombie: Spell, at: datetime) -> None:
    """A stall that turns zombie ends; one that was told of in the same loop was the same trouble."""
    for stall in list(subject.spells):
        if stall.kind is not Kind.STALLED or stall.resolved is not None or stall.first > at:
            continue
        if at - stall.first > SAME_LOOP:
            stall.resolved, stall.how = max(at, stall.last), How.SUPERSEDED
        else:
            subject.spells.remove(stall)
            zombie.first, zombie.began = min(zombie.first, stall.first), min(zombie.began, stall.began)


#: What a sign of life does not mend, and what is settled by no clean-up.
_SPARES = {
    How.RECOVERED: {Kind.OVERDUE},
    How.REMEDIATION: {Kind.FAILED},
    How.SUPERSEDED: {Kind.FAILED},
}


def end(subject: Subject, at: datetime, how: How, *, strictly: bool) -> None:
    """End what lasts at that moment. What was reported later still did go on; ``strictly``: or at the same moment."""
    for spell in subject.spells:
        told = spell.last < at if strictly else spell.last <= at
        if told and (spell.resolved is None or at < spell.resolved) and spell.kind not in _SPARES.get(how, ()):
            spell.resolved, spell.how = at, how


def live(subject: Subject, at: datetime) -> None:
    """Note a sign of life; warnings from before it are settled."""
    if subject.alive is None or at > subject.alive:
        subject.alive = at
        subject.warned = None if subject.warned and subject.warned <= at else subject.warned


def warn(subject: Subject, at: datetime) -> None:
    """Note the first warning since the last sign of life."""
    if subject.alive is None or at > subject.alive:
        subject.warned = min(subject.warned or at, at)


def is_over(subject: Subject, before: datetime) -> bool:
    ends = [spell.resolved for spell in subject.spells]
    moments = [subject.alive, subject.warned, *ends]
    return None not in ends and all(moment < before for moment in moments if moment)


def as_incident(worker_id: str, run: str, spell: Spell, born: Sequence[datetime]) -> Incident:
    """``born``: when each run of the id was created, in order; a later one ends what lasts."""
    resolved, how = spell.resolved, spell.how
    if resolved is None and born and born[-1] > spell.first:
        resolved, how = max(born[bisect_right(born, spell.first)], spell.last), How.REPLACED
    return Incident(
        worker_id=worker_id,
        run=run,
        kind=spell.kind,
        began=spell.began,
        detected=spell.first,
        began_known=spell.began_known,
        resolved=resolved,
        how=how,
        cause=spell.cause,
        from_log=True,
        seen=spell.seen,
        unwatched=timedelta(seconds=round(spell.asleep, 6)),
        number=spell.number,
    )


# --- as JSON ----------------------------------------------------------------------------------------------------------

_MOMENTS = frozenset({"created_at", "started_at", "alive", "warned", "first", "last", "counted", "began", "resolved"})


def as_moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def as_subject(stored: Mapping[str, Any]) -> Subject:
    """The inverse of writing one as JSON."""
    values = _read(stored)
    spells = [_read(spell) for spell in values.pop("spells")]
    return Subject(
        **values,
        spells=[
            Spell(**spell | {"kind": Kind(spell["kind"]), "how": How(spell["how"]) if spell["how"] else None})
            for spell in spells
        ],
    )


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: as_moment(value) if name in _MOMENTS else value for name, value in values.items()}
