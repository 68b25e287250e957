"""What a policy makes of the runs that are in its state: a pure function of what is known and of the time.

It does not know whether the policy is in shadow or active. Both decide by this function, so what a policy would have
done in shadow is what it would have done. The one difference lies in what is known: a shadow's tries are taken to have
worked, since nobody can know better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from workers.quiet import Quiet

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
#: What the delay grows from where a policy acts at once.
SHORTEST_DELAY = timedelta(minutes=1)


class Outcome(StrEnum):
    """What became of one try."""

    ASSUMED = "assumed"  # a shadow's
    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"  # also where it could not even be planned
    DROPPED = "dropped"  # nothing was touched: withdrawn, or something had changed meanwhile


#: After these nothing more is to be done about a run in the stay in its state in which they were.
SETTLES = frozenset({Outcome.ASSUMED, Outcome.UNDER_WAY, Outcome.DONE})


class Rule(StrEnum):
    """The bounds that hold a policy back from one run."""

    PERSON = "person"
    NO_CASE = "no case"
    UNWATCHED = "unwatched"
    BUSY = "busy"
    TRIES = "tries"
    MAINTENANCE = "maintenance"
    QUIET = "quiet"
    RATE = "rate"
    PLAN = "plan"  # said once there was a plan, which then was let go


class Verdict(StrEnum):
    GO = "go"
    WAITS = "waits"
    HELD_BACK = "held back"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a policy does, and how much of it."""

    deed: str  # "clean up": the action's label, in small letters
    health: str
    worker_type: str = ""
    after: timedelta = timedelta(minutes=10)
    most_tries: int = 3
    delay_factor: float = 2
    most_an_hour: int = 10
    most_percent: float = 10
    breaker_failures: int = 3
    quiet: Quiet | None = None

    @property
    def state(self) -> str:
        """What one of its runs is: "a zombie", "crashed"."""
        return f"a {self.health}" if self.health == "zombie" else self.health

    @property
    def cases(self) -> str:
        """What several of its runs are: "zombies"."""
        return self.health + ("s" if self.health == "zombie" else "")

    def delay(self, tries: int) -> timedelta:
        """How long the next try waits after the last, when there were so many in the last day."""
        return max(self.after, SHORTEST_DELAY) * self.delay_factor**tries


@dataclass(frozen=True, slots=True)
class Try:
    """One time that the policy has begun, or would have, with a run."""

    at: datetime
    outcome: Outcome = Outcome.ASSUMED


@dataclass(frozen=True, slots=True)
class Case:
    """One live run in the policy's state, and what is known about it."""

    run: int
    worker_id: str
    since: datetime  # in this state
    unwatched: timedelta = timedelta()  # how much of the time since then nobody watched its host
    silent_since: datetime | None = None  # its host is not watched at present
    no_case: str = ""  # why the table of actions has nothing for it
    busy: str = ""  # who has a repair of it open, in a sentence
    never: str = ""  # who has taken back what was done to it, in a sentence
    restarted_at: datetime | None = None  # by a person, last
    restarted_by: str = ""
    tries: tuple[Try, ...] = ()  # all that this policy has made with it, oldest first

    @property
    def settled(self) -> bool:
        """Whether the last try was in this stay in the state, and there is nothing more to do after it."""
        last = self.tries[-1] if self.tries else None
        return last is not None and last.at >= self.since and last.outcome in SETTLES

    @property
    def counts(self) -> bool:
        """Whether it is one of those that are in the state at once, for the share of the fleet."""
        return not (self.settled or self.silent_since or self.no_case or self.never)

    def watched(self, now: datetime) -> timedelta:
        """For how long it has been seen in its state."""
        return max(timedelta(), (self.silent_since or now) - self.since - self.unwatched)


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that one look needs beside the bounds."""

    now: datetime
    cases: Sequence[Case]
    fleet: int  # running workers of the hosts that are watched
    recent: Sequence[datetime] = ()  # tries with whichever run, at least those of the last hour
    outcomes: Sequence[Outcome] = ()  # of its last tries that are over, newest first
    maintenance_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What is decided about one run, and why."""

    case: Case
    verdict: Verdict
    why: str
    rule: str = ""  # the bound that holds it back
    due: datetime | None = None  # when it waits: until then, if nothing changes

    @property
    def number(self) -> int:
        """Which try with this run it is."""
        return len(self.case.tries) + 1


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is decided at one look: about each run, or that the policy stops itself."""

    choices: tuple[Choice, ...] = ()
    trips: str = ""

    @property
    def go(self) -> list[Choice]:
        return [choice for choice in self.choices if choice.verdict is Verdict.GO]


def rule(bounds: Bounds, situation: Situation) -> Ruling:
    """Decide. Those that have waited longest come first; a run that is settled is not mentioned."""
    if why := _breaks(bounds, situation):
        return Ruling(trips=why)
    now = situation.now
    left = bounds.most_an_hour - sum(1 for at in situation.recent if now - HOUR < at <= now)
    choices = []
    for case in sorted(situation.cases, key=lambda case: (-case.watched(now), case.run)):
        if case.settled:
            continue
        choice = _wait(bounds, case, now) or _hold(bounds, case, situation)
        if choice is None and left <= 0:
            why = f"It has had {_times(bounds.most_an_hour)} in the last hour, which is the most"
            choice = Choice(case, Verdict.HELD_BACK, why, Rule.RATE)
        if choice is None:
            left -= 1
            choice = Choice(case, Verdict.GO, _why(bounds, case, now))
        choices.append(choice)
    return Ruling(tuple(choices))


def _breaks(bounds: Bounds, situation: Situation) -> str:
    """Why the policy has to stop itself; "" where it need not."""
    many = sum(case.counts for case in situation.cases)
    in_maintenance = situation.maintenance_until is not None and situation.maintenance_until > situation.now
    if many > 1 and 100 * many > bounds.most_percent * situation.fleet and not in_maintenance:
        kind = f" of type {bounds.worker_type}" if bounds.worker_type else ""
        share = f"more than {bounds.most_percent:g} %"
        return (
            f"{many} of {situation.fleet} workers are {bounds.cases}{kind} at once, {share}; that usually means that "
            "their host or the poller is in trouble, not that each of them is"
        )
    failed = 0
    for outcome in situation.outcomes:
        if outcome is not Outcome.FAILED:
            break
        failed += 1
    if failed >= bounds.breaker_failures:
        return f"The last {failed} of its repairs have failed" if failed > 1 else "Its last repair has failed"
    return ""


def _wait(bounds: Bounds, case: Case, now: datetime) -> Choice | None:
    """Until when a run has to wait; None where it need not. One that nobody watches waits for no time."""
    if case.never:
        return None
    if case.silent_since:
        long_enough = case.watched(now) >= bounds.after
        return None if long_enough else Choice(case, Verdict.WAITS, _silent(case.silent_since))
    waits = [(now + bounds.after - case.watched(now), f"It has not been {bounds.state} for long enough")]
    if case.restarted_at:
        waits.append((case.restarted_at + bounds.after, f"{case.restarted_by} has restarted it just now"))
    if tries := _of_a_day(case, now):
        waits.append((tries[-1].at + bounds.delay(len(tries)), f"Each try waits longer; there were {len(tries)} today"))
    due, why = max(waits)
    return Choice(case, Verdict.WAITS, why, due=due) if due > now else None


def _hold(bounds: Bounds, case: Case, situation: Situation) -> Choice | None:
    """Which bound holds the policy back from a run; None where none does."""
    now, tries = situation.now, len(_of_a_day(case, situation.now))
    until = situation.maintenance_until
    reasons = {
        Rule.PERSON: case.never,
        Rule.UNWATCHED: case.silent_since and _silent(case.silent_since),
        Rule.NO_CASE: case.no_case,
        Rule.BUSY: case.busy,
        Rule.TRIES: tries >= bounds.most_tries and f"It has had {_times(tries)} in the last day, which is the most",
        Rule.MAINTENANCE: until and until > now and f"Maintenance until {until:%Y-%m-%d %H:%M} UTC",
        Rule.QUIET: bounds.quiet and bounds.quiet.holds(now) and f"Quiet hours, {bounds.quiet}",
    }
    held = next(((name, why) for name, why in reasons.items() if why), None)
    return Choice(case, Verdict.HELD_BACK, str(held[1]), held[0]) if held else None


def _of_a_day(case: Case, now: datetime) -> list[Try]:
    return [each for each in case.tries if each.at > now - DAY]


def _why(bounds: Bounds, case: Case, now: datetime) -> str:
    minutes = int(case.watched(now).total_seconds() // 60)
    before = f"; try {len(case.tries) + 1}" if case.tries else ""
    return f"It has been {bounds.state} for {minutes} min, longer than {bounds.after.total_seconds() / 60:g}{before}"


def _silent(since: datetime) -> str:
    return f"Nobody has watched its host since {since:%H:%M} UTC"


def _times(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"
