"""Which causes hold: a pure function of a rule, the present facts and now. No clock, no database.

Causes are grouped, so that forty zombies are one alert and not forty:

- zombies, mass, failure rate and damaged files: one cause for the whole rule (its type and master narrow it);
- a worker in a state for too long: one for each type of worker;
- a silent PM daemon or poller: one for each host;
- a policy of the autopilot that stopped itself: one for each policy.

What is known of a host whose poller is silent is old. It makes nothing hold, and nothing that held is over for lack of
it: :class:`Found` says so by ``blind``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from types import MappingProxyType

from workers.health import Health
from workers.quiet import Quiet

#: Names that an alert keeps; the fleet page shows the others.
FIRST = 8
#: Zombies at which the fleet's own PM script speaks of too many.
ZOMBIE_THRESHOLD = 10
#: No process of its own any more: what a mass death is made of.
LOST = (Health.CRASHED, Health.ZOMBIE)


class Kind(StrEnum):
    """What a rule looks at; `AlertRule.Kind` has the same."""

    ZOMBIES = "zombies"
    MASS = "mass"
    HEALTH = "health"
    FAILURE_RATE = "failure-rate"
    PM_SILENT = "pm-silent"
    POLLER_SILENT = "poller-silent"
    DAMAGED = "damaged"
    AUTOPILOT = "autopilot"


class Severity(IntEnum):
    """How grave; `models.Severity` has the same."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, as an admin set it."""

    key: int
    name: str
    kind: Kind
    severity: Severity = Severity.WARNING
    threshold: float | None = None
    at_least: int | None = None  # of a share: counted ones below which it says nothing
    health: str = ""
    minutes: float | None = None
    worker_type: str = ""
    master: str = ""
    cycles: int = 1
    resolve_notice: bool = True
    repeat_minutes: float | None = None
    quiet: Quiet | None = None
    muted_until: datetime | None = None
    channels: frozenset[int] = frozenset()  # keys of those that its messages reach

    @property
    def span(self) -> timedelta:
        return timedelta(minutes=self.minutes or 0)

    def of(self, worker_type: str, master: str) -> bool:
        """Whether it is about workers of this type and master."""
        return self.worker_type in ("", worker_type) and self.master in ("", master)


@dataclass(frozen=True, slots=True)
class Seen:
    """One live run in a state that a rule asks for."""

    key: int
    worker_id: str
    host: str
    health: str
    worker_type: str
    master: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Group:
    """How many live runs are alike."""

    host: str
    health: str
    worker_type: str
    master: str
    count: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How many runs of a type and master failed and completed in the last so many minutes."""

    minutes: float
    worker_type: str
    master: str
    failed: int
    completed: int


@dataclass(frozen=True, slots=True)
class Watcher:
    """The poller of one host and what it says of the PM daemon there."""

    host: str
    last: datetime | None  # the last whole cycle, or its start
    silent: bool  # missed cycles: its host's verdicts are old
    pm_seen: bool = False
    pm_last: datetime | None = None
    unreadable: int = 0
    zombie_threshold: float | None = None  # as the fleet's health-alerts.json says


@dataclass(frozen=True, slots=True)
class Stopped:
    """A policy of the autopilot that stopped itself, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known now."""

    watchers: tuple[Watcher, ...] = ()
    workers: tuple[Seen, ...] = ()
    groups: tuple[Group, ...] = ()  # the running fleet
    ended: tuple[Ended, ...] = ()
    stopped: tuple[Stopped, ...] = ()

    @property
    def blind(self) -> frozenset[str]:
        """Hosts of which nothing is known about now."""
        return frozenset(watcher.host for watcher in self.watchers if watcher.silent)


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that holds now and that one alert is about."""

    cause: str
    summary: str
    count: int
    severity: Severity
    workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found, and whether what it did not find may only be out of sight."""

    causes: Mapping[str, Cause] = field(default_factory=lambda: MappingProxyType({}))
    blind: bool = False


def find(rule: Rule, facts: Facts, now: datetime) -> Found:
    """Say which causes of a rule hold. Pure."""
    causes = _FINDERS[rule.kind](rule, facts, now)
    by_the_poller = rule.kind not in (Kind.POLLER_SILENT, Kind.AUTOPILOT) and bool(facts.blind)
    return Found(MappingProxyType({cause.cause: cause for cause in causes}), by_the_poller)


def becoming(rules: Iterable[Rule], facts: Facts) -> Iterator[datetime]:
    """When workers have been in a state for long enough; also moments that are past."""
    for rule in rules:
        if rule.kind is Kind.HEALTH:
            yield from (seen.since + rule.span for seen in _of(rule, facts, (rule.health,)))


# -- one function for each kind


def _zombies(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    found = _of(rule, facts, (Health.ZOMBIE,))
    told = [each.zombie_threshold for each in facts.watchers if each.zombie_threshold]
    least = rule.threshold if rule.threshold is not None else min(told, default=ZOMBIE_THRESHOLD)
    if not found or len(found) < least:
        return []
    return [_cause(rule, "", f"{_count(found, 'zombie')}{_about(rule)}", found)]


def _mass(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    seen = [group for group in facts.groups if group.host not in facts.blind and rule.of(*_like(group))]
    running = sum(group.count for group in seen)
    lost = sum(group.count for group in seen if group.health in LOST)
    if not lost or lost < (rule.at_least or 1) or 100 * lost <= (rule.threshold or 0) * running:
        return []
    hosts = sorted({group.host for group in seen if group.health in LOST})
    where = f" on {_list(hosts, 3)}"
    summary = (
        f"{lost} of {running} running workers are lost{_about(rule)}{where}: most often a host, a container or a "
        "deployment went down, or the poller cannot see the processes"
    )
    return [_cause(rule, "", summary, _of(rule, facts, LOST), lost)]


def _health(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    by_type: dict[str, list[Seen]] = defaultdict(list)
    for seen in _of(rule, facts, (rule.health,)):
        if now - seen.since >= rule.span:
            by_type[seen.worker_type].append(seen)
    word = Health(rule.health).label.lower()
    longer = f" for {minutes_in_words(rule.minutes)} or longer" if rule.minutes else ""
    return [
        _cause(rule, kind, f"{_named(found)} {'is' if len(found) == 1 else 'are'} {word}{longer}{_typed(kind)}", found)
        for kind, found in sorted(by_type.items())
    ]


def _failure_rate(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    """Count failed and completed runs; what was cancelled or is gone is neither."""
    found = [each for each in facts.ended if each.minutes == rule.minutes and rule.of(each.worker_type, each.master)]
    failed, ended = sum(each.failed for each in found), sum(each.failed + each.completed for each in found)
    if not failed or ended < (rule.at_least or 1) or 100 * failed <= (rule.threshold or 0) * ended:
        return []
    summary = f"{failed} of {ended} runs failed in the last {minutes_in_words(rule.minutes)}{_about(rule)}"
    return [_cause(rule, "", summary, (), failed)]


def _pm_silent(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    silent = [each for each in facts.watchers if each.pm_seen and not each.silent and _older(each.pm_last, rule, now)]
    return [
        _cause(rule, each.host, f"The PM daemon of {each.host} has said nothing since {_clock(each.pm_last)}", ())
        for each in silent
    ]


def _poller_silent(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    return [
        _cause(
            rule,
            each.host,
            f"The poller of {each.host} is silent since {_clock(each.last)}: nobody looks at its workers",
            (),
        )
        for each in facts.watchers
        if _older(each.last, rule, now)
    ]


def _damaged(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    found = [each for each in facts.watchers if each.unreadable and not each.silent]
    files = sum(each.unreadable for each in found)
    if not files or files < (rule.threshold or 1):
        return []
    hosts = _list([each.host for each in found], 3)
    return [_cause(rule, "", f"{files} spec file{'' if files == 1 else 's'} cannot be read on {hosts}", (), files)]


def _autopilot(rule: Rule, facts: Facts, now: datetime) -> list[Cause]:
    return [
        _cause(rule, each.name, f"The policy “{each.name}” has stopped itself: {each.why}", ())
        for each in facts.stopped
    ]


_FINDERS: dict[Kind, Callable[[Rule, Facts, datetime], list[Cause]]] = {
    Kind.ZOMBIES: _zombies,
    Kind.MASS: _mass,
    Kind.HEALTH: _health,
    Kind.FAILURE_RATE: _failure_rate,
    Kind.PM_SILENT: _pm_silent,
    Kind.POLLER_SILENT: _poller_silent,
    Kind.DAMAGED: _damaged,
    Kind.AUTOPILOT: _autopilot,
}


# -- words and parts


def _of(rule: Rule, facts: Facts, states: Sequence[str]) -> list[Seen]:
    """The workers in these states that a rule is about, those in it for longest first."""
    blind = facts.blind
    found = [
        each
        for each in facts.workers
        if each.health in states and each.host not in blind and rule.of(each.worker_type, each.master)
    ]
    return sorted(found, key=lambda each: (each.since, each.worker_id, each.key))


def _cause(rule: Rule, cause: str, summary: str, found: Sequence[Seen], count: int | None = None) -> Cause:
    names = tuple(each.worker_id for each in found[:FIRST])
    return Cause(cause[:255], _clip(summary), len(found) or 1 if count is None else count, rule.severity, names)


def _like(group: Group) -> tuple[str, str]:
    return group.worker_type, group.master


def _older(last: datetime | None, rule: Rule, now: datetime) -> bool:
    return last is not None and now - last >= rule.span


def _about(rule: Rule) -> str:
    parts = [f"of type {rule.worker_type}"] if rule.worker_type else []
    parts += [f"of {rule.master}"] if rule.master else []
    return f" {' '.join(parts)}" if parts else ""


def _typed(kind: str) -> str:
    return f", of type {kind}" if kind else ""


def _count(found: Sequence[Seen], word: str) -> str:
    return f"{len(found)} {word}{'' if len(found) == 1 else 's'}: {_list([each.worker_id for each in found], 3)}"


def _named(found: Sequence[Seen]) -> str:
    return found[0].worker_id if len(found) == 1 else f"{len(found)} workers"


def _list(names: Sequence[str], most: int) -> str:
    shown = ", ".join(name[:60] for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _clip(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}…"


def _clock(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "its start"


def minutes_in_words(minutes: float | None) -> str:
    """A length of time as people say it: `30 s`, `45 min`, `2 h`, `1.5 h`, `3 d`."""
    minutes = minutes or 0
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= size * 2 or minutes == size:
            return f"{round(minutes / size, 1):g} {unit}"
    return f"{round(minutes, 1):g} min" if minutes >= 1 else f"{round(minutes * 60):g} s"
