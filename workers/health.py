"""The verdict on one run: a pure function of what was observed, the time and the limits.

The first rule that fits wins. Every verdict carries its reasons as plain sentences, the deciding one first; pages and
commands show them unchanged. Ages are not spelt out in them, since an age ticks: a reason carries the moment instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from .coordination.records import NO_PROCESSES, LogActivity, PmEntry, Problem, Sign, Spec, StatusFile, WorkerProcesses
from .coordination.stuck import recognise


class Health(StrEnum):
    """Every state a run can be in, worst first: the order of pages."""

    CRASHED = "crashed"
    ZOMBIE = "zombie"
    STALLED = "stalled"
    UNREADABLE = "unreadable"
    LATE = "late"
    UNKNOWN = "unknown"
    FAILED = "failed"
    GONE = "gone"
    PENDING = "pending"
    HEALTHY = "healthy"
    CANCELLED = "cancelled"
    COMPLETED = "completed"

    @property
    def label(self) -> str:
        return self.value.capitalize()

    @property
    def severity(self) -> int:
        """0 is worst."""
        return _SEVERITY[self]

    @property
    def running(self) -> bool:
        """Whether the spec claims that it runs."""
        return self in RUNNING


_SEVERITY = {health: position for position, health in enumerate(Health)}
RUNNING = frozenset({Health.HEALTHY, Health.LATE, Health.STALLED, Health.ZOMBIE, Health.CRASHED})
ENDED = frozenset({Health.FAILED, Health.COMPLETED, Health.CANCELLED})
#: After which a run takes no time any more: it has ended, or nobody can say how.
OVER = ENDED | {Health.GONE}
TROUBLED = frozenset({Health.CRASHED, Health.ZOMBIE, Health.STALLED, Health.LATE, Health.UNREADABLE, Health.UNKNOWN})

#: The spec's words, which are an open set: a word that is not here makes a live run unknown.
STATUS_RUNNING = frozenset({"running", "active", "in_progress"})
STATUS_OUTCOME = {
    "completed": Health.COMPLETED,
    "complete": Health.COMPLETED,
    "success": Health.COMPLETED,
    "failed": Health.FAILED,
    "zombie": Health.FAILED,
    "timeout": Health.FAILED,
    "cancelled": Health.CANCELLED,
    "canceled": Health.CANCELLED,
}
DIRECTORY_OUTCOME = {
    "completed": Health.COMPLETED,
    "failed": Health.FAILED,
    "zombie": Health.FAILED,
    "cancelled": Health.CANCELLED,
}

#: A spec, sign or process from longer than this before ``created_at`` belongs to an earlier run of the id.
RUN_TOLERANCE = timedelta(minutes=1)
#: Clocks of two hosts may differ by this much; what is later than that from now is not believed.
CLOCK_TOLERANCE = timedelta(minutes=1)
#: How long a worker may be running before a process is asked for.
START_GRACE = timedelta(minutes=1)
#: A single line that asks or complains is believed when nothing has followed it for so long.
STUCK_AFTER = timedelta(minutes=1)
#: A PM daemon that has not finished a loop for this long says nothing about now.
PM_SILENT_AFTER = timedelta(minutes=10)


def poller_silent_after(interval_seconds: float) -> timedelta:
    """How long after its last cycle a poller is silent: three cycles that were missed, though never sooner than 6 s."""
    return max(3 * timedelta(seconds=interval_seconds), timedelta(seconds=6))


#: What our verdicts are called by a PM daemon, which knows only healthy, late and stalled.
PM_WORDS = {
    Health.HEALTHY: {"healthy"},
    Health.LATE: {"late"},
    Health.STALLED: {"stalled"},
    Health.ZOMBIE: {"stalled", "zombie"},
    Health.CRASHED: {"stalled", "zombie", "crashed"},
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force, and where each comes from."""

    late_after: timedelta = timedelta(minutes=10)
    stalled_after: timedelta = timedelta(minutes=15)
    sources: Mapping[str, str] = field(default_factory=dict)


#: name -> (meaning, keys under which a PM's `.configuration` may give it, in minutes)
LIMITS = {
    "late_after": (
        "no sign of life for longer than this: late",
        ("late_after_minutes", "late_threshold_minutes", "checkin_late_minutes"),
    ),
    "stalled_after": (
        "no sign of life of any kind for longer than this: stalled",
        ("stalled_after_minutes", "stall_threshold_minutes", "stalled_threshold_minutes", "checkin_stalled_minutes"),
    ),
}


def effective_limits(admin: Mapping[str, float], configuration: Mapping[str, float]) -> Limits:
    """Take each limit from the admin (seconds), else the PM's configuration (minutes), else the default.

    ``late_after`` is never over ``stalled_after``: a pair that says so is read as both being the smaller.
    """
    found: dict[str, timedelta] = {}
    sources: dict[str, str] = {}
    for name, (_, pm_keys) in LIMITS.items():
        pm_key = next((key for key in pm_keys if configuration.get(key, 0) > 0), None)
        if admin.get(name, 0) > 0:
            found[name], sources[name] = timedelta(seconds=admin[name]), "set by an admin"
        elif pm_key:
            found[name] = timedelta(minutes=min(configuration[pm_key], 60 * 24 * 365))
            sources[name] = f"coordination/pm-state.json#configuration.{pm_key}"
        else:
            sources[name] = "default"
    defaults = Limits()
    late = found.get("late_after", defaults.late_after)
    stalled = found.get("stalled_after", defaults.stalled_after)
    return Limits(late_after=min(late, stalled), stalled_after=stalled, sources=sources)


def changes_between(before: Limits, after: Limits) -> list[str]:
    """Say which limits differ: `late after 10 min → 12 min`."""
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in LIMITS]
    return [
        f"{name.replace('_', ' ')} {was.total_seconds() / 60:g} min → {value.total_seconds() / 60:g} min"
        for name, was, value in pairs
        if was != value
    ]


@dataclass(frozen=True, slots=True)
class Memory:
    """What was seen before in this attempt."""

    attempt: int = 1
    attempt_began: datetime | None = None
    first_seen_at: datetime | None = None
    seen_alive_at: datetime | None = None
    process_gone_at: datetime | None = None
    pid: int | None = None
    progress_pct: float | None = None
    progress_changed_at: datetime | None = None
    last_cpu_at: datetime | None = None


NO_MEMORY = Memory()


@dataclass(frozen=True, slots=True)
class Words:
    """What a worker said of itself when it checked in."""

    text: str
    source: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that is known of one run at one moment."""

    content: Spec | Problem
    path: str  # relative to the home
    directory: str  # below worker-specs
    here: bool = True  # False: its file vanished
    ended: Health | None = None  # how it had ended, where its file vanished after that
    processes: WorkerProcesses = NO_PROCESSES
    checkins: tuple[Sign, ...] = ()  # from PM, check-in and heartbeat files, and the spec
    said: Words | None = None  # its own words at its last check-in
    log: LogActivity | None = None
    status_file: StatusFile | None = None
    pm: PmEntry | None = None  # None also where the entry describes an earlier run
    pm_last_loop: datetime | None = None
    memory: Memory = NO_MEMORY

    @property
    def live(self) -> bool:
        return self.here and self.directory.split("/", 1)[0] == "active"


Side = Literal["for", "against", "note"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One plain sentence, the file or probe that it came from, and whether it speaks for the verdict."""

    text: str
    source: str
    side: Side = "for"
    at: datetime | None = None  # the moment that it is about; pages let its age tick
    lines: tuple[str, ...] = ()  # what stands there word for word, as evidence

    def as_json(self) -> dict[str, Any]:
        said = {"text": self.text, "source": self.source, "side": self.side, "at": self.at}
        return said | {"lines": list(self.lines)} if self.lines else said


@dataclass(frozen=True, slots=True)
class Verdict:
    """What we say of one run, why, and when time alone could change it."""

    health: Health
    reasons: tuple[Reason, ...]
    remedy: str = ""  # what would turn it healthy
    overdue: bool = False
    not_checking_in: bool = False
    pm_disagrees: bool = False
    stuck: str = ""  # a mark: in what way it is not getting on, though it lives
    last_checkin: Sign | None = None
    last_sign: Sign | None = None
    recheck_at: datetime | None = None


def judge(seen: Observation, now: datetime, limits: Limits) -> Verdict:
    """Form the verdict on one run. Source of the rules: DESIGN, section 3, "Health"."""
    if isinstance(seen.content, Problem):
        return _unreadable(seen, seen.content)
    spec = seen.content
    if not seen.here and seen.ended:
        return Verdict(seen.ended, (Reason(f"It was {seen.ended}; its file has left worker-specs since", seen.path),))
    if not seen.here:
        return Verdict(Health.GONE, (Reason("Its file vanished from worker-specs", seen.path),), "its spec comes back")
    outcome = _outcome(spec, seen)
    if outcome:
        return outcome
    status = spec.status.strip().lower()
    if status == "pending":
        reason = Reason("Spec says pending: nobody has started it yet", f"{seen.path}#status", at=spec.created_at)
        return Verdict(Health.PENDING, (reason,), "a launcher starts it and the spec says running")
    if status not in STATUS_RUNNING:
        word = f"“{spec.status}”" if spec.status else "nothing"
        reason = Reason(f"Spec says {word}, which is no status we know", f"{seen.path}#status")
        return Verdict(Health.UNKNOWN, (reason,), "the spec says running and a process of its own lives")
    return _running(spec, seen, now, limits)


def _unreadable(seen: Observation, problem: Problem) -> Verdict:
    where = f" at line {problem.line}, column {problem.column}" if problem.line else ""
    reasons = [Reason(f"{problem.reason}{where}", seen.path)]
    if problem.reading:
        says = problem.reading.status or "nothing"
        reasons.append(Reason(f"Read with its blanks as null it would say {says}", seen.path, "note"))
    return Verdict(Health.UNREADABLE, tuple(reasons), "the file is repaired")


def _outcome(spec: Spec, seen: Observation) -> Verdict | None:
    """The verdict on a run that has ended: by its spec's word, else by the directory it lies in."""
    outcome = STATUS_OUTCOME.get(spec.status.strip().lower())
    where = f"{seen.path}#status"
    if outcome:
        said = f"Spec says {spec.status}"
    elif seen.live:
        return None
    else:
        names = [part.split("-", 1)[0] for part in seen.directory.split("/")]
        name = next((name for name in names if name in DIRECTORY_OUTCOME), None)
        if name is None:
            text = f"It lies in {seen.directory}/ without an outcome; its spec still says {spec.status or 'nothing'}"
            return Verdict(Health.GONE, (Reason(text, where),))
        outcome, said, where = DIRECTORY_OUTCOME[name], f"It lies in {seen.directory}/", seen.path
    if outcome is Health.FAILED:
        cause = spec.error or (
            "it was a zombie" if "zombie" in (spec.status.lower(), *seen.directory.split("/")) else ""
        )
        said += f": {cause}" if cause else ", without a cause"
    return Verdict(outcome, (Reason(said, where, at=spec.ended_at),))


def _running(spec: Spec, seen: Observation, now: datetime, limits: Limits) -> Verdict:
    """The verdict on a run whose spec says running."""
    start = min(attempt_start(spec, seen, now) or now, now)
    signs = sorted(_signs(seen, start, now), key=lambda sign: sign.at)
    checkin = max((sign for sign in seen.checkins if start <= sign.at), key=lambda sign: sign.at, default=None)
    baseline = max(start, signs[-1].at) if signs else start
    limit = timedelta(minutes=spec.time_limit_minutes) if spec.time_limit_minutes else None
    overdue = limit is not None and now - start > limit
    checkin_due = (min(checkin.at, now) if checkin else start) + limits.late_after
    ticks = [baseline + limits.late_after, baseline + limits.stalled_after, checkin_due, start + START_GRACE]
    if limit is not None:
        ticks.append(start + limit)
    if seen.pm_last_loop:
        ticks.append(seen.pm_last_loop + PM_SILENT_AFTER)
    if seen.log:
        ticks += [seen.log.at + limits.late_after, seen.log.at + STUCK_AFTER]

    claim = Reason(
        f"Spec says {spec.status} since {clock(start, now)}", f"{seen.path}#execution.started_at", "note", start
    )
    if seen.processes.hidden:
        health, reasons = (
            Health.UNKNOWN,
            [Reason(f"Its processes cannot be seen: {seen.processes.hidden}", "processes")],
        )
    elif seen.processes.main is None:
        health, reasons = _without_process(seen, start, now)
    else:
        health, reasons = _with_process(seen, baseline, checkin, now, limits)
    reasons.append(claim)
    reasons += _circumstances(seen, start, checkin, now, limits, alive=health in (Health.HEALTHY, Health.LATE))
    if overdue and spec.time_limit_minutes:
        text = f"Over its time limit of {spec.time_limit_minutes:g} min ({spec.time_limit_source})"
        reasons.append(Reason(text, seen.path, "note", start + (limit or timedelta())))
    stuck = _stuck(seen, start, health, now)
    reasons += [stuck[1]] if stuck else []
    disagreement = _pm(seen, health, now)
    return Verdict(
        health=health,
        reasons=(*reasons, *([disagreement] if disagreement else [])),
        remedy=REMEDY.get(health, ""),
        overdue=overdue,
        not_checking_in=now > checkin_due,
        pm_disagrees=bool(disagreement and disagreement.side == "against"),
        stuck=stuck[0] if stuck else "",
        last_checkin=checkin,
        last_sign=signs[-1] if signs else None,
        recheck_at=min((tick for tick in ticks if tick >= now), default=None),
    )


REMEDY = {
    Health.LATE: "a check-in; where it never checked in, any sign of life: progress, a log line or work on a core",
    Health.STALLED: "any sign of life: a check-in, progress, a log line or more than 1 % of a core",
    Health.ZOMBIE: "a process of its own on its host; otherwise clean it up or restart it",
    Health.CRASHED: "a restart; the process that was there does not come back",
    Health.UNKNOWN: "its processes can be seen, by a poller on its own host with the right to look",
}


def attempt_start(spec: Spec, seen: Observation, now: datetime) -> datetime | None:
    """When this attempt began: what the spec says, else the best that is known in its stead.

    ``created_at`` comes late, since a start came over an hour after it in one of eight real specs. A start that is yet
    to come is none: it would make every look the first one.
    """
    main, memory = seen.processes.main, seen.memory
    latest = now + CLOCK_TOLERANCE
    known = (spec.started_at, memory.attempt_began, main and main.started_at, spec.created_at, memory.first_seen_at)
    for moment in known:
        if moment and moment <= latest:
            return moment
    return None


def _signs(seen: Observation, start: datetime, now: datetime) -> Iterator[Sign]:
    """Yield the signs of life of this attempt; a heartbeat without a process is its companion's, not its own."""
    if seen.processes.main is not None or seen.processes.hidden:
        yield from (Sign(min(sign.at, now), sign.source) for sign in seen.checkins if sign.at >= start)
    memory = seen.memory
    if seen.log and seen.log.at >= start:
        yield Sign(min(seen.log.at, now), seen.log.source)
    if memory.progress_changed_at and memory.progress_changed_at >= start:
        yield Sign(memory.progress_changed_at, f"{seen.path}#progress")
    if memory.last_cpu_at and memory.last_cpu_at >= start:
        yield Sign(memory.last_cpu_at, "processes")


def _without_process(seen: Observation, start: datetime, now: datetime) -> tuple[Health, list[Reason]]:
    status, log, memory = seen.status_file, seen.log, seen.memory
    if status and status.at and status.at < start:
        status = None  # of an earlier attempt
    if status and STATUS_OUTCOME.get(status.status.lower()) is Health.COMPLETED:
        text = "Its status file says completed and its process has ended; the spec has not followed yet"
        return Health.COMPLETED, [Reason(text, status.source, at=status.at)]
    if status and STATUS_OUTCOME.get(status.status.lower()) is Health.FAILED:
        code = "" if status.exit_code is None else f" with exit code {status.exit_code}"
        text = f"Its process is gone; its status file says {status.status}{code}" + (
            f": {status.error}" if status.error else ""
        )
        return Health.CRASHED, [Reason(text, status.source, at=status.at)]
    error = log.error if log and log.at >= start else ""
    said = [Reason(f"Its log ends with an error: {error}", log.source, at=log.at)] if log and error else []
    if memory.seen_alive_at and memory.seen_alive_at >= start:
        gone = memory.process_gone_at or now
        text = f"Process {memory.pid} disappeared at {gone:%H:%M:%S} UTC" if memory.pid else "Its process disappeared"
        return Health.CRASHED, [Reason(text, "seen by the poller", at=gone), *said]
    if said:
        return Health.CRASHED, [
            Reason("Its process is gone and its log ends with an error", "processes", at=log.at if log else None),
            *said,
        ]
    if now - start <= START_GRACE:
        return Health.HEALTHY, [
            Reason("It started less than a minute ago; no process is needed yet", seen.path, at=start)
        ]
    looked = "No pid file, directory, environment or argument of any process is its own, and nothing says how it ended"
    return Health.ZOMBIE, [
        Reason("Spec says running, but it has no process", "processes"),
        Reason(looked, "processes", "note"),
    ]


def _with_process(
    seen: Observation, baseline: datetime, checkin: Sign | None, now: datetime, limits: Limits
) -> tuple[Health, list[Reason]]:
    main = seen.processes.main
    assert main is not None  # noqa: S101 - for the type checker; the caller has looked
    life = f"Process {main.pid} is alive, found by {seen.processes.found_by}, started {clock(main.started_at, now)}"
    silent = now - baseline
    if silent > limits.stalled_after:
        text = f"No sign of life since {clock(baseline, now)}, limit {span(limits.stalled_after)}"
        return Health.STALLED, [
            Reason(text, "check-ins, progress, logs, processes", at=baseline),
            Reason(f"{life}, so it is no zombie", seen.processes.source, "against", main.started_at),
        ]
    if silent > limits.late_after:
        text = f"No sign of life since {clock(baseline, now)}, limit {span(limits.late_after)}"
        return Health.LATE, [
            Reason(text, "check-ins, progress, logs, processes", at=baseline),
            Reason(
                f"{life}; it is stalled after {span(limits.stalled_after)}",
                seen.processes.source,
                "against",
                main.started_at,
            ),
        ]
    if checkin and now - checkin.at > limits.late_after:
        text = f"No check-in since {clock(checkin.at, now)}, limit {span(limits.late_after)}"
        return Health.LATE, [
            Reason(text, checkin.source, at=checkin.at),
            Reason(f"{life} and shows other signs of life", seen.processes.source, "against", main.started_at),
        ]
    return Health.HEALTHY, [
        _latest_life(seen, checkin, now, limits),
        Reason(life, seen.processes.source, at=main.started_at),
    ]


def _latest_life(seen: Observation, checkin: Sign | None, now: datetime, limits: Limits) -> Reason:
    """Say by which sign it is healthy. One that comes every few seconds goes without its moment, which would tick."""
    memory, since = seen.memory, now - limits.late_after
    if checkin and checkin.at >= since:
        return Reason("It checked in", checkin.source, at=checkin.at)
    if seen.log and seen.log.at >= since:
        return Reason("Its log is active", seen.log.source)
    if memory.progress_changed_at and memory.progress_changed_at >= since:
        return Reason("It makes progress", f"{seen.path}#progress", at=memory.progress_changed_at)
    if memory.last_cpu_at and memory.last_cpu_at >= since:
        return Reason("Its processes are at work", "processes")
    return Reason("It has just started; no sign of life is due yet", seen.path)


def _circumstances(
    seen: Observation, start: datetime, checkin: Sign | None, now: datetime, limits: Limits, *, alive: bool
) -> Iterator[Reason]:
    """Yield what else bears on the verdict: each kind of sign, present or missing."""
    yield from (Reason(text, "processes", "note") for text in seen.processes.rejected)
    silence: Side = "against" if alive else "for"
    life: Side = "for" if alive else "against"
    if checkin:
        recent = now - checkin.at <= limits.late_after
        yield Reason(
            f"Last check-in at {clock(checkin.at, now)}", checkin.source, life if recent else silence, checkin.at
        )
    else:
        yield Reason("It has not checked in during this attempt", "check-ins", silence, start)
    if seen.log and seen.log.at >= start:
        if now - seen.log.at > limits.late_after:
            yield Reason(f"Last log line at {clock(seen.log.at, now)}", seen.log.source, silence, seen.log.at)
        elif not alive:
            yield Reason("Its log was active lately", seen.log.source, life)
    changed = seen.memory.progress_changed_at
    if seen.memory.progress_pct is not None:
        text = f"Progress {seen.memory.progress_pct:g} %" + (
            f", unchanged since {clock(changed, now)}" if changed else ""
        )
        yield Reason(text, f"{seen.path}#progress", "note", changed)


def _stuck(seen: Observation, start: datetime, health: Health, now: datetime) -> tuple[str, Reason] | None:
    """Say that a worker which lives is not getting on, where its own words say so."""
    if seen.processes.main is None or health not in RUNNING:
        return None
    side: Side = "against" if health is Health.HEALTHY else "for"
    log = seen.log
    if log and log.stuck and log.at >= start and (log.stuck.certain or now - log.at > STUCK_AFTER):
        return log.stuck.kind.value, Reason(log.stuck.text, log.source, side, log.at, log.stuck.lines)
    found = recognise([seen.said.text]) if seen.said else None
    if seen.said and found:
        return found.kind.value, Reason(found.text, seen.said.source, side, seen.said.at, found.lines)
    return None


def _pm(seen: Observation, health: Health, now: datetime) -> Reason | None:
    """Compare with the PM daemon's word; one that has been silent for long is quoted but does not disagree."""
    if seen.pm is None or not seen.pm.health_state or health not in PM_WORDS:
        return None
    said = f"The PM daemon says {seen.pm.health_state}"
    source = "coordination/pm-state.json#health_state"
    if seen.pm_last_loop is None or now - seen.pm_last_loop > PM_SILENT_AFTER:
        return Reason(f"{said}, but it has been silent since then", source, "note", seen.pm_last_loop)
    if seen.pm.health_state.lower() in PM_WORDS[health]:
        return Reason(f"{said} too", source, "note")
    return Reason(f"{said}, we say {health}", source, "against")


def clock(moment: datetime, now: datetime) -> str:
    """Write a moment as people read it, in UTC: the date only where it is not today's."""
    moment = moment.astimezone(UTC)
    pattern = "%H:%M UTC" if moment.date() == now.astimezone(UTC).date() else "%Y-%m-%d %H:%M UTC"
    return moment.strftime(pattern)


def span(duration: timedelta) -> str:
    """Write a limit as people say it: ``10 min``, ``90 s``."""
    seconds = duration.total_seconds()
    return f"{seconds / 60:g} min" if seconds >= 120 or seconds % 60 == 0 else f"{seconds:g} s"
