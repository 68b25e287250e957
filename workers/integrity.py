"""What is odd in a coordination directory. Pure: no database, no disk, no clock.

Some of it shows in one file by itself (:func:`of_spec`), the rest only where files are held against each other
(:func:`across`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .coordination.layout import AGENTS_WORKERS, PM_STATE, QUARANTINE, SPECS, ZOMBIES
from .coordination.parser import NAME_IS_NOT_ID
from .coordination.records import Other, PmEntry, PmState, Problem, Sign, Spec, Traces
from .finding_kinds import Kind
from .health import CLOCK_TOLERANCE
from .runs import Roster, Run

#: The PM daemon looks every three minutes for workers to watch; after two looks it should have found one.
PM_TAKES_UP = timedelta(minutes=6)
#: Moments of one file, each with the key that holds it.
Moments = tuple[tuple[str, datetime], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that is odd. Path, kind and detail are what it is known again by."""

    kind: Kind
    path: str  # relative to the home
    detail: str  # what is wrong, in words
    worker_id: str = ""
    line: int | None = None
    column: int | None = None
    excerpt: str = ""  # the text around it, redacted
    blank_only: bool = False  # all that is wrong are missing values, which can be read as null


# --- one file by itself -----------------------------------------------------------------------------------------------


def of_spec(path: str, content: Spec | Problem | Other, worker_id: str) -> list[Found]:
    """Say what is odd about one file under worker-specs."""
    if isinstance(content, Other):
        return [Found(Kind.OTHER, path, content.what)]
    if isinstance(content, Problem):
        kind = Kind.QUARANTINED if in_quarantine(path) else Kind.UNREADABLE
        return [of_problem(path, content, kind, worker_id)]
    return [
        Found(Kind.NAME, path, text, worker_id, excerpt=f'"worker_id": "{content.worker_id}"')
        if text == NAME_IS_NOT_ID
        else Found(Kind.ODD, path, text, worker_id)
        for text in content.oddities
    ]


def of_problem(path: str, problem: Problem, kind: Kind = Kind.UNREADABLE_FILE, worker_id: str = "") -> Found:
    where = (problem.line, problem.column, problem.excerpt)
    return Found(kind, path, problem.reason, worker_id, *where, blank_only=problem.reading is not None)


def in_quarantine(path: str) -> bool:
    return path.startswith(f"{QUARANTINE}/")


def ahead_of(spec: Spec, now: datetime) -> Moments:
    """The moments of a spec that are yet to come, as they stand in it."""
    latest = now + CLOCK_TOLERANCE
    moments = (spec.created_at, spec.started_at, spec.ended_at, *[sign.at for sign in spec.checkins])
    if not any([moment and moment > latest for moment in moments]):  # noqa: C419 - asked of every spec
        return ()
    names = ("created_at", "execution.started_at", "its end", *(_key_of(sign) for sign in spec.checkins))
    named = zip(names, moments, strict=True)
    return tuple((name, moment) for name, moment in named if moment and moment > latest)


def _key_of(sign: Sign) -> str:
    return sign.source.rpartition("#")[2]


def pm_ahead_of(state: PmState, now: datetime) -> Moments:
    """The moments of ``pm-state.json`` that are yet to come."""
    latest = now + CLOCK_TOLERANCE
    daemon = [("pm_daemon.last_loop", state.daemon.last_loop), ("pm_daemon.started_at", state.daemon.started_at)]
    ahead = [(name, moment) for name, moment in daemon if moment and moment > latest]
    for worker_id, entry in state.entries.items():
        for key in ("registered_at", "started_at", "last_checkin"):
            moment = getattr(entry, key)
            if moment and moment > latest:
                ahead.append((f"monitored_workers.{worker_id[:80]}.{key}", moment))
    return tuple(ahead)


# --- files against each other -----------------------------------------------------------------------------------------

#: The kinds that :func:`across` finds; besides them the unreadable files below ``agents``.
ACROSS = frozenset(
    {
        *(Kind.TWO_RUNS, Kind.REAPPEARED, Kind.DUPLICATE, Kind.UNMONITORED, Kind.NO_SPEC, Kind.FUTURE),
        *(Kind.ORPHAN, Kind.PUT_AWAY),
    }
)


@dataclass(frozen=True, slots=True)
class Sight:
    """All that is held against each other."""

    roster: Roster
    traces: Mapping[str, Traces] = field(default_factory=dict)  # by worker id
    pm_entries: Mapping[str, PmEntry] = field(default_factory=dict)
    pm_watches: bool = False  # pm-state.json is there, and its daemon is not silent
    directories: Collection[str] = ()  # in agents/workers
    put_away: Collection[str] = ()  # in agents/workers/zombies
    handled: Mapping[int, str] = field(default_factory=dict)  # key of a run -> what has moved it to failed/
    ahead: Mapping[str, Moments] = field(default_factory=dict)  # path -> its moments that were yet to come when read


def across(sight: Sight, now: datetime) -> list[Found]:
    """Find what no file shows by itself."""
    ids = {key.worker_id for key, run in sight.roster.runs.items() if run.files}
    return [
        *_two_places(sight.roster),
        *_live(sight, now),
        *_pm_alone(sight, ids),
        *_directories(sight, ids),
        *_yet_to_come(sight, now),
    ]


def _two_places(roster: Roster) -> Iterator[Found]:
    for key, run in roster.runs.items():
        if len(run.files) < 2:
            continue
        for path in run.files:
            others = ", ".join(sorted(other for other in run.files if other != path))
            yield Found(Kind.DUPLICATE, path, f"The same run also lies in {others}", key.worker_id)


def _live(sight: Sight, now: datetime) -> Iterator[Found]:
    for worker_id, keys in sight.roster.live.items():
        runs = [sight.roster.runs[key] for key in keys]
        if len(runs) > 1:
            yield from _two_runs(worker_id, runs)
        for run in runs:
            if run.pk in sight.handled:
                detail = f"{sight.handled[run.pk]} has moved it to failed/, and it lies in active/ again"
                yield Found(Kind.REAPPEARED, _path_of(run), detail, worker_id)
            if sight.pm_watches and run.pm is None and run.watched and now - _began(run) > PM_TAKES_UP:
                detail = "The PM daemon has no entry of it"
                if worker_id in sight.pm_entries:
                    detail = "The PM daemon's entry of this id describes an earlier run"
                yield Found(Kind.UNMONITORED, _path_of(run), detail, worker_id)
        if traces := sight.traces.get(worker_id):
            yield from (of_problem(path, problem, worker_id=worker_id) for path, problem in traces.problems)


def _two_runs(worker_id: str, runs: Sequence[Run]) -> Iterator[Found]:
    paths = {run.key: _path_of(run) for run in runs}
    for key, path in paths.items():
        others = ", ".join(sorted(other for run, other in paths.items() if run != key))
        yield Found(Kind.TWO_RUNS, path, f"Another live run of the id {worker_id} lies in {others}", worker_id)


def _path_of(run: Run) -> str:
    return run.file.path if run.file else ""


def _began(run: Run) -> datetime:
    return (run.spec.started_at if run.spec else None) or run.first_seen_at


def _pm_alone(sight: Sight, ids: Collection[str]) -> Iterator[Found]:
    for worker_id in sight.pm_entries:
        if worker_id not in ids:
            detail = f"The PM daemon watches {worker_id}, of which no spec lies anywhere under {SPECS}"
            yield Found(Kind.NO_SPEC, PM_STATE, detail, worker_id)


def _directories(sight: Sight, ids: Collection[str]) -> Iterator[Found]:
    for name in sight.directories:
        if name not in ids:
            detail = f"No spec of this id lies anywhere under {SPECS}"
            yield Found(Kind.ORPHAN, f"{AGENTS_WORKERS}/{name}", detail, name[:255])
    for name in sight.put_away:
        yield Found(Kind.PUT_AWAY, f"{ZOMBIES}/{name}", "Put away by the fleet's clean-up script", name[:255])


def _yet_to_come(sight: Sight, now: datetime) -> Iterator[Found]:
    for path, moments in sight.ahead.items():
        key = sight.roster.by_path.get(path)
        for name, moment in moments:
            if moment > now + CLOCK_TOLERANCE:
                said = name if name == "its end" else f"“{name}”"
                detail = f"{said[:1].upper()}{said[1:]} is yet to come"
                said_at = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
                yield Found(Kind.FUTURE, path, detail, key.worker_id if key else "", excerpt=said_at)
