"""Incidents: one continuous trouble of one run, of one kind. Pure: no Django, no I/O, no clock.

What is seen live comes in as changes of verdict (:func:`follow`). What happened before anybody looked is folded out of
the fleet's logs by :mod:`workers.folding`. Both make the same :class:`Incident`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from .health import Health


class Kind(StrEnum):
    """What can be wrong with a run, worst first."""

    CRASHED = "crashed"
    ZOMBIE = "zombie"
    STALLED = "stalled"
    FAILED = "failed"
    OVERDUE = "overdue"


class How(StrEnum):
    """How an incident ended."""

    RECOVERED = "recovered by itself"
    REMEDIATION = "remediation"
    RESTARTED = "started anew"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    GONE = "gone"
    REPLACED = "another run took its id"
    SUPERSEDED = "turned into another kind"
    UNREPORTED = "no longer reported"
    ARCHIVED = "archived"


class Meaning(NamedTuple):
    """What the moments of an incident of one kind mean, in the words of the page's help."""

    trouble: str
    began: str
    detected: str
    resolved: str


KINDS: dict[Kind, Meaning] = {
    Kind.STALLED: Meaning(
        "It runs, but shows no sign of life.",
        "Its last sign of life; where it never gave one, its start.",
        "The verdict became stalled. From a log: the first record that says so.",
        "It gave a sign of life, ended, was repaired, or turned into another kind. From a log that stops saying it: "
        "the last record that did.",
    ),
    Kind.ZOMBIE: Meaning(
        "Its spec says running, but it has no process, and nothing says how it ended.",
        "Its process was found gone; where none was ever seen, its last sign of life, else its start.",
        "The verdict became zombie. From a log: the first record that calls it a zombie or presumes it dead.",
        "A process of its own appeared, it was cleaned up or started anew, or its spec says how it ended. From a log "
        "that stops saying it: the last record that did.",
    ),
    Kind.CRASHED: Meaning(
        "Its process is gone, and we know how it ended. No log of a fleet says this, so it is always seen live.",
        "Its process was found gone, or its status file or log says when.",
        "The verdict became crashed.",
        "It was cleaned up or started anew, or its spec says how it ended.",
    ),
    Kind.FAILED: Meaning(
        "Its spec, or the directory it lies in, says that it failed.",
        "The end that its spec gives; else the moment it was seen.",
        "The verdict became failed. From a log: the record worker_failed.",
        "Its task was recovered, or completed by a later run; it was started anew or put back, showed life after all, "
        "was archived, or its file left. What a person ended by force-fail or clean-up is no failure of its own.",
    ),
    Kind.OVERDUE: Meaning(
        "It has used more time than its limit.",
        "Its start plus its time limit.",
        "The mark was first set on it. From a log: the first record timeout_exceeded.",
        "It ended, was started anew, or its limit was raised. From a log that stops saying it: the last record that "
        "did.",
    ),
}

#: While the verdict is one of these nobody knows whether the trouble lasts: an incident stays open.
_BLIND = frozenset({Health.UNKNOWN, Health.UNREADABLE})
_KIND_OF = {
    Health.STALLED: Kind.STALLED,
    Health.ZOMBIE: Kind.ZOMBIE,
    Health.CRASHED: Kind.CRASHED,
    Health.FAILED: Kind.FAILED,
}
_ENDED_BY = {Health.COMPLETED: How.COMPLETED, Health.CANCELLED: How.CANCELLED, Health.GONE: How.GONE}


@dataclass(frozen=True, slots=True)
class Incident:
    """One continuous trouble of one run, of one kind. Its moments never run backwards."""

    worker_id: str
    run: str  # when the run was created, as `RunKey.created`; "" where a log names an id that no spec is known of
    kind: Kind
    began: datetime
    detected: datetime
    began_known: bool = True  # False: nobody knows when it began, and `began` is when it was detected
    acknowledged: datetime | None = None
    resolved: datetime | None = None  # None: it lasts
    how: How | None = None  # how it was resolved
    cause: str = ""
    host: str = ""
    attempt: int = 1
    from_log: bool = False
    seen: int = 1  # how often it was reported: live once, from a log at so many different moments
    unwatched: timedelta = timedelta()  # how much of its duration nobody watched; never to be counted as healthy
    number: int = 0  # tells the incidents of one host apart that were folded from logs

    def close(self, at: datetime, how: How) -> Incident:
        """End it, never before it was detected."""
        return replace(self, resolved=max(at, self.detected), how=how)

    def duration(self, now: datetime) -> timedelta:
        """How long it lasted, or has lasted by now; never negative."""
        return max((self.resolved or now) - self.began, timedelta())


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of the verdict on one run, or of its overdue mark."""

    worker_id: str
    run: str
    at: datetime
    new: Health
    old: Health | None = None  # None: the first verdict that was ever formed on it
    overdue: bool = False
    reason: str = ""
    host: str = ""
    attempt: int = 1
    remediated: bool = False  # a remediation brought this about
    put_away: bool = False  # its spec lies in an archive: nobody waits for it any more
    last_sign: datetime | None = None  # its last sign of life, else its start
    process_gone_at: datetime | None = None
    ended_at: datetime | None = None  # as its spec says
    overdue_since: datetime | None = None  # its start plus its limit


class Followed(NamedTuple):
    """What a change of verdict did to a run's incidents."""

    closed: list[Incident]
    opened: list[Incident]


def follow(lasting: Sequence[Incident], turn: Turn) -> Followed:
    """Close and open incidents of one run after its verdict changed. ``lasting`` are those of it that are open.

    The same turn given twice does nothing the second time. A verdict that says nobody can see it closes nothing. A
    failure that nobody saw before it was archived is opened closed.
    """
    if turn.new in _BLIND:
        return Followed([], [])
    kinds = _kinds(turn)
    if turn.put_away and turn.old is None and kinds == [Kind.FAILED]:
        failure = _open(Kind.FAILED, turn, None)
        return Followed([], [] if lasting else [failure.close(failure.detected, How.ARCHIVED)])
    kept = {each.kind for each in lasting if each.kind in kinds and each.attempt == turn.attempt}
    closed = [
        each.close(turn.at, _how(each, turn))
        for each in lasting
        if each.kind not in kept or each.attempt != turn.attempt
    ]
    earliest = max((each.detected for each in closed if each.how is How.SUPERSEDED), default=None)
    return Followed(closed, [_open(kind, turn, earliest) for kind in kinds if kind not in kept])


def _kinds(turn: Turn) -> list[Kind]:
    kinds = [_KIND_OF[turn.new]] if turn.new in _KIND_OF else []
    if turn.new is Health.FAILED and ((turn.put_away and turn.old is not None) or turn.remediated):
        kinds = []
    return [*kinds, Kind.OVERDUE] if turn.overdue and turn.new.running else kinds


def _how(incident: Incident, turn: Turn) -> How:
    if turn.remediated:
        return How.REMEDIATION
    if turn.attempt != incident.attempt or turn.new is Health.PENDING:
        return How.RESTARTED
    if turn.new in _ENDED_BY:
        return _ENDED_BY[turn.new]
    if turn.put_away and incident.kind is Kind.FAILED:
        return How.ARCHIVED
    turned = turn.new is Health.FAILED if incident.kind is Kind.OVERDUE else turn.new in _KIND_OF
    return How.SUPERSEDED if turned else How.RECOVERED


def _open(kind: Kind, turn: Turn, earliest: datetime | None) -> Incident:
    """Open an incident. One that follows on another begins no earlier than that was detected."""
    known = {
        Kind.STALLED: turn.last_sign,
        Kind.ZOMBIE: turn.process_gone_at or turn.last_sign,
        Kind.CRASHED: turn.process_gone_at or turn.ended_at or turn.last_sign,
        Kind.FAILED: turn.ended_at,
        Kind.OVERDUE: turn.overdue_since,
    }[kind]
    detected = turn.at
    if turn.old is None and kind is Kind.FAILED and known:
        detected = min(known, turn.at)  # it had failed before anybody looked; how fast that was noticed is not known
    began = min(known or detected, detected)
    if earliest and kind is not Kind.OVERDUE:
        began = min(max(began, earliest), detected)
    return Incident(
        worker_id=turn.worker_id,
        run=turn.run,
        host=turn.host,
        kind=kind,
        began=began,
        detected=detected,
        began_known=known is not None and (turn.old is not None or kind is not Kind.FAILED),
        cause=turn.reason,
        attempt=turn.attempt,
    )


def overlap(since: datetime, until: datetime, gaps: Iterable[tuple[datetime, datetime]]) -> timedelta:
    """How much of a stretch lies in gaps. Gaps may overlap each other, and may run backwards."""
    total, reached = timedelta(), since
    for began, ended in sorted(gaps):
        began, ended = max(began, reached), min(ended, until)
        if ended > began:
            total, reached = total + (ended - began), ended
    return total
