"""Fold the records of the fleet's logs into incidents. Pure: no Django, no I/O, no clock.

A PM daemon repeats its complaint about every dead worker every three minutes, for days: tens of thousands of lines are
a few incidents. The ages in those lines are wrong in known ways (coordination-format.md, section 4), so nothing is
taken from them but who, what and when.

Records are to come roughly in order of time, those of all logs merged. What is out of order by less than ``LATENESS``
makes no difference; what comes later still is never lost, but cannot split an incident any more. The same record a
second time makes no difference either.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson

from .coordination.records import LogRecord
from .health import CLOCK_TOLERANCE, RUN_TOLERANCE
from .incidents import How, Incident, Kind
from .spells import (
    SAME_LOOP,
    Spell,
    Subject,
    absorb_stall,
    as_incident,
    as_moment,
    as_subject,
    began_at,
    covering,
    end,
    is_echo,
    is_over,
    live,
    warn,
)

#: Complaints with more than this of their watcher's waking time in between are two incidents. Longer than the 20 to
#: 35 min between the loops of a PM daemon on a laptop that dozes at night; of its usual loops of 3 min it is fifteen.
REPEATED_WITHIN = timedelta(minutes=45)
#: Logs with no loop records are silent when all is well, too. The longest sleep seen was 24.6 h; a weekend is 65 h.
LONGEST_SLEEP = timedelta(days=3)
#: How far out of order records may come.
LATENESS = timedelta(minutes=1)

PM_LOG = "coordination/pm-activity.jsonl"
_LIFE, _TROUBLE, _FAILURE, _END, _BEAT = range(5)  # in this order at the same moment
_PM, _HOST = "pm", "host"
_LOOP = SAME_LOOP.total_seconds()


class Meaning(NamedTuple):
    """What a type of record says of its worker."""

    rank: int
    kind: Kind | None = None  # the trouble it tells of
    how: How | None = None  # how it ends the trouble before it
    cause: str = ""


RECORDS: dict[str, Meaning] = {
    "worker_registered": Meaning(_LIFE, how=How.RESTARTED),
    "worker_started": Meaning(_LIFE, how=How.RESTARTED),
    "worker_restarted": Meaning(_LIFE, how=How.RESTARTED),
    "checkin_received": Meaning(_LIFE, how=How.RECOVERED),
    "worker_stalled": Meaning(_TROUBLE, Kind.STALLED, cause="The PM daemon saw no check-in"),
    "zombie_detected": Meaning(_TROUBLE, Kind.ZOMBIE, cause="The fleet found no process of it"),
    "worker_presumed_dead": Meaning(_TROUBLE, Kind.ZOMBIE, cause="The heartbeat monitor presumed it dead"),
    "zombie_process_terminated": Meaning(_TROUBLE, Kind.ZOMBIE, cause="The fleet's clean-up took it for a zombie"),
    "timeout_exceeded": Meaning(_TROUBLE, Kind.OVERDUE, cause="The PM daemon saw it over its time limit"),
    "worker_failed": Meaning(_FAILURE, Kind.FAILED, How.SUPERSEDED, "It failed, and no cause was written down"),
    "worker_completed": Meaning(_END, how=How.COMPLETED),
    "worker_force_failed": Meaning(_END, how=How.REMEDIATION),
    # A clean-up is often all that is left of a zombie: the shell lost the records before it.
    "zombie_cleanup_completed": Meaning(
        _END, Kind.ZOMBIE, How.REMEDIATION, "The fleet's clean-up took it for a zombie"
    ),
    "worker_zombie_cleaned": Meaning(_END, Kind.ZOMBIE, How.REMEDIATION, "It was cleaned up as a zombie"),
    # Warnings are no incidents, but tell when the silence began.
    "missed_checkin": Meaning(_BEAT),
    "heartbeat_warning": Meaning(_BEAT),
    "heartbeat_critical": Meaning(_BEAT),
}


class RunFacts(NamedTuple):
    """What is known of the run that a record belongs to."""

    run: str  # `RunKey.created`
    created_at: datetime | None = None
    started_at: datetime | None = None
    limit: timedelta | None = None


Lookup = Callable[[str, datetime], RunFacts | None]


def newest_before(runs: Mapping[str, Sequence[RunFacts]]) -> Lookup:
    """Make a lookup: a record belongs to the run of its id with the newest ``created_at`` before it."""
    dated = {
        worker_id: sorted(
            ((each.created_at - RUN_TOLERANCE, each) for each in facts if each.created_at), key=lambda pair: pair[0]
        )
        for worker_id, facts in runs.items()
    }
    moments = {worker_id: [moment for moment, _ in facts] for worker_id, facts in dated.items()}

    def look(worker_id: str, at: datetime) -> RunFacts | None:
        position = bisect_right(moments.get(worker_id, ()), at)
        return dated[worker_id][position - 1][1] if position else None

    return look


class _Waiting(NamedTuple):
    """A record whose turn has not come. The order of the fields is the order of turns."""

    at: datetime
    rank: int
    type: str
    worker_id: str
    run: str
    watch: str
    cause: str


@dataclass(slots=True)
class _Clock:
    """How long a watcher has been awake. Between two of its records that is one loop at most; the rest it slept."""

    awake: float = 0.0  # seconds
    last: datetime | None = None

    def beat(self, at: datetime) -> None:
        last = self.last
        if last is None:
            self.last = at
        elif at > last:
            self.awake += min((at - last).total_seconds(), _LOOP)
            self.last = at


class Past:
    """What the logs have told so far. Bounded by the number of runs and incidents, not of records."""

    def __init__(self) -> None:
        self.newest: datetime | None = None
        self.floor: datetime | None = None  # what is older has been forgotten; records of then are ancient
        self.clocks = {_PM: _Clock(), _HOST: _Clock()}
        self.numbers = 0  # of the incidents that have begun so far
        self.subjects: dict[str, dict[str, Subject]] = {}  # by id, by run
        self.waiting: list[_Waiting] = []  # a heap
        self.ancient: list[tuple[str, LogRecord]] = []  # troubles of before the floor, for the caller to take care of
        self.touched: set[str] = set()  # ids whose incidents may have changed; for the caller to read and clear

    # -- taking records

    def take(self, log: str, record: LogRecord, lookup: Lookup, now: datetime | None = None) -> None:
        """Take the next record of a log (its path, relative to the home). A time after ``now`` is not believed."""
        meaning = RECORDS.get(record.type)
        watch = _PM if log.endswith(PM_LOG) else _HOST
        worker_id = record.worker_id if meaning else ""
        at = record.at
        if at is None or (now and at > now + CLOCK_TOLERANCE):
            moment = self.newest or now
            if meaning and worker_id and moment:
                self._undated(meaning, record._replace(at=moment), watch, lookup)
            return
        if self.floor and at < self.floor:
            if meaning and meaning.kind and worker_id:
                self.ancient.append((log, record))
            return
        facts = lookup(worker_id, at) if worker_id else None
        if meaning and worker_id:
            self._note(worker_id, facts)
        rank, kind = (meaning.rank, record.type) if meaning and worker_id else (_BEAT, "")
        cause = _error(record.data) if kind == "worker_failed" else ""
        item = _Waiting(at, rank, kind, worker_id, facts.run if facts else "", watch, cause)
        if self.newest is None or at > self.newest:
            self.newest = at
        if at <= self.newest - LATENESS:
            self._apply(item)
        else:
            heapq.heappush(self.waiting, item)
        while self.waiting and self.waiting[0].at <= self.newest - LATENESS:
            self._apply(heapq.heappop(self.waiting))

    def _note(self, worker_id: str, facts: RunFacts | None) -> Subject:
        runs = self.subjects.setdefault(worker_id, {})
        subject = runs.get(facts.run if facts else "")
        if subject is None:
            subject = runs[facts.run if facts else ""] = Subject()
        if facts:
            subject.created_at, subject.started_at = facts.created_at, facts.started_at
            subject.limit = facts.limit.total_seconds() if facts.limit else None
        return subject

    def _undated(self, meaning: Meaning, record: LogRecord, watch: str, lookup: Lookup) -> None:
        """Take a complaint without a time that can be believed: it counts where nothing else tells of that trouble."""
        if meaning.kind is None or record.at is None:
            return
        facts = lookup(record.worker_id, record.at)
        subject, run = self._note(record.worker_id, facts), facts.run if facts else ""
        waiting = {(each.worker_id, each.run, RECORDS[each.type].kind) for each in self.waiting if each.type}
        known = any(spell.kind is meaning.kind for spell in subject.spells)
        if not known and (record.worker_id, run, meaning.kind) not in waiting:
            cause = _error(record.data)
            self._apply(_Waiting(record.at, meaning.rank, record.type, record.worker_id, run, watch, cause))

    def _apply(self, item: _Waiting) -> None:
        self.clocks[_HOST].beat(item.at)
        if item.watch == _PM:
            self.clocks[_PM].beat(item.at)
        if item.worker_id not in self.subjects:
            return
        meaning, subject = RECORDS[item.type], self.subjects[item.worker_id][item.run]
        if meaning.kind or subject.spells:
            self.touched.add(item.worker_id)
        self._expire(subject, item.at)
        if meaning.rank in (_LIFE, _BEAT):
            (live if meaning.rank == _LIFE else warn)(subject, item.at)
        if meaning.kind and not is_echo(subject, item.at, meaning.kind):
            self._complain(subject, item, meaning)
        if meaning.how:
            end(subject, item.at, meaning.how, strictly=meaning.rank == _LIFE)

    def _expire(self, subject: Subject, now: datetime) -> None:
        """End what has not been repeated for long, though its watcher was awake to repeat it."""
        for spell in subject.spells:
            if spell.resolved is None and self._silent(spell, now):
                spell.resolved, spell.how = spell.last, How.UNREPORTED

    def _silent(self, spell: Spell, now: datetime) -> bool:
        if spell.kind is Kind.FAILED:
            return False  # said once, for good
        awake = self.clocks[spell.watch].awake - spell.awake
        return awake > REPEATED_WITHIN.total_seconds() or (spell.watch == _HOST and now - spell.last > LONGEST_SLEEP)

    # -- complaints

    def _complain(self, subject: Subject, item: _Waiting, meaning: Meaning) -> None:
        kind = meaning.kind
        assert kind is not None  # noqa: S101 - for the type checker; the caller has looked
        spell = covering(subject, kind, item.at)
        # No process is graver than no sign of life: while it is a zombie, word of a stall is word of that.
        zombie = covering(subject, Kind.ZOMBIE, item.at) if kind is Kind.STALLED else None
        if spell is None and zombie:
            self._repeat(zombie, item, counts=False)
            return
        if spell is None:
            spell = self._begin(subject, item, kind, item.cause or meaning.cause)
        else:
            self._repeat(spell, item)
        if kind is Kind.ZOMBIE:
            absorb_stall(subject, spell, item.at)

    def _begin(self, subject: Subject, item: _Waiting, kind: Kind, cause: str) -> Spell:
        later = [each for each in subject.spells if each.kind is kind and item.at < each.first]
        neighbour = min(later, key=lambda each: each.first, default=None)
        if neighbour and neighbour.first - item.at <= SAME_LOOP:  # it came late, and is the beginning of that one
            neighbour.first = item.at
            neighbour.began = min(neighbour.began, item.at)
            neighbour.seen += 1
            return neighbour
        began, at = began_at(subject, kind, item.at), item.at
        self.numbers += 1
        awake = self.clocks[item.watch].awake
        spell = Spell(kind, self.numbers, at, at, at, began or at, began is not None, cause, item.watch, awake)
        subject.spells.append(spell)
        return spell

    def _repeat(self, spell: Spell, item: _Waiting, *, counts: bool = True) -> None:
        if counts and item.at > spell.counted:
            spell.counted, spell.seen = item.at, spell.seen + 1
        if item.at > spell.last:
            clock = self.clocks[item.watch]
            if item.watch == spell.watch:
                spell.asleep += max((item.at - spell.last).total_seconds() - (clock.awake - spell.awake), 0.0)
            spell.last, spell.watch, spell.awake = item.at, item.watch, clock.awake

    # -- what comes of it

    def settle(self, now: datetime | None = None) -> None:
        """Take the turns of records that nothing older can overtake any more: by ``now``, or of all that wait."""
        while self.waiting and (now is None or self.waiting[0].at <= now - LATENESS):
            self._apply(heapq.heappop(self.waiting))

    def incidents(self, ids: Iterable[str] | None = None) -> list[Incident]:
        """Return the incidents of some ids, or of all, as of the newest record; of records whose turn has come."""
        found = []
        for worker_id in self.subjects if ids is None else ids:
            runs = self.subjects.get(worker_id, {})
            born = sorted(each.created_at for each in runs.values() if each.created_at)
            for run, subject in runs.items():
                found += [as_incident(worker_id, run, self._by_now(spell), born) for spell in subject.spells]
        return sorted(found, key=lambda each: (each.detected, each.worker_id, each.run, each.number))

    def _by_now(self, spell: Spell) -> Spell:
        """The spell, ended where it has not been repeated for long; a later record may still say otherwise."""
        if spell.resolved is None and self.newest and self._silent(spell, self.newest):
            return replace(spell, resolved=spell.last, how=How.UNREPORTED)
        return spell

    def troubled(self) -> list[str]:
        """Ids with an incident that lasts; that it is no longer reported shows in no record of its own."""
        return [
            worker_id
            for worker_id, runs in self.subjects.items()
            if any(spell.resolved is None for subject in runs.values() for spell in subject.spells)
        ]

    def forget(self, before: datetime) -> None:
        """Let go of all that was over by then. Older records are not looked at again; their incidents are stored."""
        if self.newest is None:
            return
        self.floor = before = min(before, self.newest - LATENESS)
        waiting = {(item.worker_id, item.run) for item in self.waiting}
        for worker_id, runs in list(self.subjects.items()):
            for run, subject in list(runs.items()):
                self._expire(subject, self.newest)
                if (worker_id, run) not in waiting and is_over(subject, before):
                    del runs[run]
            if not runs:
                del self.subjects[worker_id]

    # -- keeping it

    def as_json(self) -> bytes:
        """Return all of it, to be stored beside how far the logs have been taken."""
        return orjson.dumps(
            {
                "newest": self.newest,
                "floor": self.floor,
                "numbers": self.numbers,
                "clocks": {name: [clock.awake, clock.last] for name, clock in self.clocks.items()},
                "waiting": [list(item) for item in sorted(self.waiting)],
                "subjects": self.subjects,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Past:
        stored = orjson.loads(text)
        past = cls()
        past.newest, past.floor = as_moment(stored["newest"]), as_moment(stored["floor"])
        past.numbers = stored["numbers"]
        past.clocks = {name: _Clock(awake, as_moment(last)) for name, (awake, last) in stored["clocks"].items()}
        past.waiting = [_Waiting(datetime.fromisoformat(at), *rest) for at, *rest in stored["waiting"]]
        past.subjects = {
            worker_id: {run: as_subject(each) for run, each in runs.items()}
            for worker_id, runs in stored["subjects"].items()
        }
        return past


def fold(
    records: Iterable[tuple[str, LogRecord]], lookup: Lookup, past: Past | None = None, now: datetime | None = None
) -> Past:
    """Fold records (each with the path of its log) into what is known of the past already, and return that.

    Records are best merged in order of time over all logs, as the table of events gives them by ``(at, id)``.
    """
    past = past or Past()
    for log, record in records:
        past.take(log, record, lookup, now)
    return past


# --- words and JSON ---------------------------------------------------------------------------------------------------

_CAUSES = ("error", "failure_reason", "reason", "message")
_LONGEST_CAUSE = 500  # characters


def _error(data: str) -> str:
    """Find what a record, or the object inside it, says of the cause; "" if nothing."""
    try:
        record = json.loads(data)
        inner = record.get("data") if isinstance(record, dict) else None
        inner = json.loads(inner) if isinstance(inner, str) and inner.startswith("{") else inner
    except (ValueError, RecursionError):
        return ""
    for each in (inner, record):
        found = [each[key] for key in _CAUSES if isinstance(each.get(key), str)] if isinstance(each, dict) else []
        if text := next((text.strip() for text in found if text.strip()), ""):
            return text[:_LONGEST_CAUSE]
    return ""
