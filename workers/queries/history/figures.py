"""The figures of a period, worked out of its facts: what charts, tables, the export and the report are made of."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple, TypeVar

from workers.health import Health
from workers.incidents import How, Kind
from workers.measures import (
    Failure,
    Offender,
    Shape,
    Spread,
    by_shape,
    failure_matrix,
    first_task,
    repeat_offenders,
    success_rate,
    time_to_acknowledge,
    time_to_detect,
    time_to_resolve,
)
from workers.queries.period import Period

from .load import Facts, Outcome, Trouble

T = TypeVar("T", Trouble, Outcome)
#: The kinds that are a failure of a task. One that stalls or takes too long may still get there.
DEADLY = frozenset({Kind.FAILED, Kind.CRASHED, Kind.ZOMBIE})
NOT_KNOWN = "not known"


class Cause(NamedTuple):
    """Why an incident happened: the label it was given, else its kind."""

    label: int | None  # a root cause
    name: str


class Share(NamedTuple):
    """The time that the runs of one group spent in each health."""

    name: str
    spent: Mapping[Health, timedelta]


class Unseen(NamedTuple):
    """How long nobody watched a host in the period."""

    host: str
    time: timedelta


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of some incidents and some runs that ended. None is a figure that there is no case for."""

    incidents: int
    completed: int
    failed: int
    success: float | None
    detect: Spread | None
    acknowledge: Spread | None
    resolve: Spread | None

    @property
    def ended(self) -> int:
        return self.completed + self.failed

    @property
    def nothing(self) -> bool:
        return not self.incidents and not self.ended


def summary(troubles: Sequence[Trouble], outcomes: Sequence[Outcome]) -> Summary:
    healths = [each.health for each in outcomes]
    return Summary(
        incidents=len(troubles),
        completed=healths.count(Health.COMPLETED),
        failed=healths.count(Health.FAILED),
        success=success_rate(healths),
        detect=time_to_detect(troubles),
        acknowledge=time_to_acknowledge(troubles),
        resolve=time_to_resolve(troubles),
    )


class Slot(NamedTuple):
    """A day, or an hour, in the zone of the period."""

    began: datetime
    ended: datetime
    watched: bool  # whether anybody watched at all


@dataclass(frozen=True)
class Figures:
    """Everything that is shown of a period. What counts: incidents that were detected in it and did not turn into
    another kind, which then is the one that counts; runs that completed or failed in it."""

    facts: Facts

    @property
    def period(self) -> Period:
        return self.facts.period

    @cached_property
    def troubles(self) -> list[Trouble]:
        """What counts to this period, by the moment of detection."""
        since, until = self.period.since, self.period.until
        return [each for each in self.facts.troubles if since <= each.detected < until and each.how != How.SUPERSEDED]

    @cached_property
    def turned(self) -> int:
        """How many incidents of the period turned into another kind, and are not counted for it."""
        since, until = self.period.since, self.period.until
        return sum(since <= each.detected < until for each in self.facts.troubles) - len(self.troubles)

    @cached_property
    def outcomes(self) -> list[Outcome]:
        return [each for each in self.facts.outcomes if each.at >= self.period.since]

    @cached_property
    def whole(self) -> Summary:
        return summary(self.troubles, self.outcomes)

    @cached_property
    def before(self) -> Summary | None:
        """The stretch before, to compare with; None where nothing is known of it, or not of all of it."""
        before = self.period.before
        troubles = [
            each
            for each in self.facts.troubles
            if before.since <= each.detected < before.until and each.how != How.SUPERSEDED
        ]
        found = summary(troubles, [each for each in self.facts.outcomes if each.at < before.until])
        watched = self.facts.watched_since
        return None if found.nothing and not (watched and watched <= before.since) else found

    @cached_property
    def slots(self) -> list[Slot]:
        starts = [start.astimezone(UTC) for start in self.period.slots()]
        ends = [*starts[1:], self.period.until]
        return [
            Slot(start.astimezone(self.period.tz), end, self._watched(max(start, self.period.since), end))
            for start, end in zip(starts, ends, strict=True)
        ]

    @cached_property
    def troubles_by_slot(self) -> list[list[Trouble]]:
        return self._by_slot(self.troubles, lambda each: each.detected)

    @cached_property
    def kinds_by_slot(self) -> list[Counter[str]]:
        """How many of each kind there were."""
        return [Counter([each.kind for each in troubles]) for troubles in self.troubles_by_slot]

    @cached_property
    def outcomes_by_slot(self) -> list[list[Outcome]]:
        return self._by_slot(self.outcomes, lambda each: each.at)

    @cached_property
    def by_slot(self) -> list[Summary | None]:
        """The figures of each day or hour; None of one that nobody watched and of which nothing is known."""
        found: list[Summary | None] = []
        for slot, troubles, outcomes in zip(self.slots, self.troubles_by_slot, self.outcomes_by_slot, strict=True):
            each = summary(troubles, outcomes)
            found.append(None if each.nothing and not slot.watched else each)
        return found

    @cached_property
    def groups(self) -> list[tuple[str, Summary]]:
        """The figures of each value of what is grouped by, most incidents first; what is not known comes last."""
        if not self.period.group:
            return []
        troubles, outcomes = _grouped(self.troubles), _grouped(self.outcomes)
        found = [(each, summary(troubles.get(each, []), outcomes.get(each, []))) for each in {*troubles, *outcomes}]
        found.sort(key=lambda item: (not item[0], -item[1].incidents, -item[1].failed, item[0]))
        return [(each or NOT_KNOWN, figures) for each, figures in found]

    @cached_property
    def matrix(self) -> dict[Cause, dict[str, int]]:
        """Incidents by cause and by how lately they were detected. Each counts that the list behind a number shows."""
        found = failure_matrix(self.facts.troubles, self.period.now, _cause_key)
        return {
            Cause(int(key), self.facts.labels.get(int(key), NOT_KNOWN)) if key.isdigit() else Cause(None, key): row
            for key, row in found.items()
        }

    @cached_property
    def causes(self) -> list[tuple[Cause, int, int]]:
        """What counts to this period by cause, most frequent first, with how often it was in the one before."""
        before = self.period.before
        counts: dict[Cause, list[int]] = defaultdict(lambda: [0, 0])
        for each in self.facts.troubles:
            if each.how != How.SUPERSEDED and before.since <= each.detected < self.period.until:
                cause = Cause(each.label, self.facts.labels.get(each.label, NOT_KNOWN) if each.label else each.kind)
                counts[cause][each.detected < self.period.since] += 1
        found = [(cause, now, then) for cause, (now, then) in counts.items()]
        return sorted(found, key=lambda item: (-item[1], -item[2], item[0].name))

    @cached_property
    def heat(self) -> list[list[int | None]]:
        """Incidents by weekday, from Monday, and hour of day; None for an hour that the period did not hold watched."""
        counts: list[list[int | None]] = [[None] * 24 for _ in range(7)]
        zone = self.period.tz
        for moment in self._hours():
            local = moment.astimezone(zone)
            counts[local.weekday()][local.hour] = 0
        for each in self.troubles:
            local = each.detected.astimezone(zone)
            counts[local.weekday()][local.hour] = (counts[local.weekday()][local.hour] or 0) + 1
        return counts

    @cached_property
    def offenders(self) -> list[Offender]:
        """The tasks that failed at least twice in the period, their retries included. An attempt fails once."""
        seen: dict[tuple[int, int], Trouble | Outcome] = {
            (each.run, each.attempt): each for each in self.troubles if each.run and each.kind in DEADLY
        }
        for one in self.outcomes:
            if one.health == Health.FAILED:
                seen.setdefault((one.run, one.attempt), one)

        # most tasks fail once and are no offender: only of the others a failure is made
        def before(task: str) -> str:
            return self.facts.retry_of.get(task, "")

        task_of = {key: self.facts.tasks[key[0]] for key in seen if key[0] in self.facts.tasks}
        first = {task: first_task(task, before) for task in set(task_of.values())}
        times = Counter(first[task] for task in task_of.values())
        errors = {each.run: each.error for each in self.outcomes if each.error}
        failures = [_failure(task, seen[key], errors) for key, task in task_of.items() if times[first[task]] > 1]
        return repeat_offenders(failures, before)

    @cached_property
    def shapes(self) -> list[Shape]:
        """What failures and crashes say, texts of one shape together, most frequent first."""
        return by_shape(each.text for each in self.troubles)

    @cached_property
    def health(self) -> list[Share]:
        """The time of the runs that had not ended, in each health: of each group, or of all."""
        grouped = bool(self.period.group)
        named = {(group or NOT_KNOWN) if grouped else "All runs": spent for group, spent in self.facts.spent.items()}
        return sorted(
            (Share(name, spent) for name, spent in named.items() if spent),
            key=lambda each: (each.name == NOT_KNOWN, -sum(each.spent.values(), timedelta()), each.name),
        )

    @cached_property
    def unseen(self) -> list[Unseen]:
        """The hosts that nobody watched for a part of the period, as far as that is known, longest first."""
        times = {host: gaps.within(self.period.since, self.period.until) for host, gaps in self.facts.gaps.items()}
        found = [Unseen(host, time) for host, time in times.items() if time >= timedelta(seconds=1)]
        return sorted(found, key=lambda each: (-each.time, each.host))

    @property
    def watched_late(self) -> datetime | None:
        """When the watching began, where that was within the period."""
        since = self.facts.watched_since
        return since if since and since > self.period.since else None

    def _watched(self, since: datetime, until: datetime) -> bool:
        began, gaps = self.facts.watched_since, self.facts.gaps
        if began is None or began >= until:
            return False
        hosts = [self.period.host] if self.period.host else list(self.facts.choices["host"]) or list(gaps)
        return not hosts or any(host not in gaps or gaps[host].within(since, until) < until - since for host in hosts)

    def _hours(self) -> Iterable[datetime]:
        """The hours that the period holds and somebody watched. Where nothing was missed, a week has all there are."""
        hour, began = self.period.since.replace(minute=0, second=0, microsecond=0), self.facts.watched_since
        missed = began is None or began > self.period.since or any(gaps.stretches for gaps in self.facts.gaps.values())
        until = self.period.until if missed else min(self.period.until, hour + timedelta(days=7))
        while hour < until:
            if not missed or self._watched(hour, hour + timedelta(hours=1)):
                yield hour
            hour += timedelta(hours=1)

    def _by_slot(self, items: Sequence[T], moment: Callable[[T], datetime]) -> list[list[T]]:
        starts = [slot.began.astimezone(UTC) for slot in self.slots]
        found: list[list[T]] = [[] for _ in starts]
        for each in items:
            found[max(0, bisect_right(starts, moment(each)) - 1)].append(each)
        return found


def _failure(task: str, each: Trouble | Outcome, errors: Mapping[int, str]) -> Failure:
    """One failed attempt, in the words of its spec, else of the verdict."""
    if isinstance(each, Outcome):
        return Failure(task, each.worker_id, each.at, each.error, each.run)
    run = each.run or 0
    said = errors.get(run) or each.text or f"It became a {each.kind}"
    return Failure(task, each.worker_id, each.detected, said, run)


def _grouped(items: Iterable[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for each in items:
        found[each.group].append(each)
    return found


def _cause_key(each: Trouble) -> str:
    return str(each.label) if each.label else each.kind
