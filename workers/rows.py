"""What a run is as a row of the database, and back.

The poller of a host is the only writer of that host's observed rows, so nothing here has to be merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import orjson

from .coordination.files import moment_of
from .coordination.records import CheckIn, Problem, Process, ProcessSample, Spec
from .health import PM_SILENT_AFTER, Health, Memory
from .incidents import Turn
from .runs import Run, RunKey, directory_of
from .sql import Row, as_json, moment, read_moment

KEY_FIELDS = ("id", "host", "worker_id", "run_key", "first_seen_at")
#: A change of one of these is shown in the pages, so it goes to the outbox.
SHOWN_FIELDS = (
    *("created_at", "path", "directory", "live", "worker_type", "task_id", "task_type", "master", "status", "priority"),
    *("description", "retry_of", "started_at", "ended_at", "time_limit_minutes", "time_limit_source", "token_budget"),
    *("tokens_used", "error", "problem_line", "problem_column", "problem_excerpt", "attempt", "attempt_began"),
    *("process_gone_at", "last_checkin_at", "last_checkin_source", "progress_pct", "pid", "pid_found_by"),
    *("pm_health", "pm_disagrees", "health", "severity", "health_since", "reasons", "remedy", "overdue"),
    *("not_checking_in", "stuck"),
)
#: These move all the time; pages ask for what they show of them.
QUIET_FIELDS = (
    *("file_mtime", "seen_alive_at", "progress_changed_at", "last_log_at", "last_log_path", "last_cpu_at"),
    *("pid_start_ticks", "process_count", "processes", "cpu_percent", "rss_bytes", "sampled_at", "as_of"),
    *("told_pid", "told_pid_at"),
)


def shown_values(run: Run, pm_last_loop: datetime | None, now: datetime) -> Row:
    """The values of SHOWN_FIELDS."""
    verdict, seen, memory = run.verdict, run.file, run.memory
    assert verdict is not None  # noqa: S101 - for the type checker; only judged runs are stored
    judged = (
        *(verdict.health.value, verdict.health.severity, moment(run.health_since)),
        *(as_json([reason.as_json() for reason in verdict.reasons]), verdict.remedy),
        *(verdict.overdue, verdict.not_checking_in, verdict.stuck),
    )
    if seen is None and run.stored:  # its file is gone; what it said stays
        return tuple(
            False if name == "live" else value
            for name, value in zip(SHOWN_FIELDS, (*run.stored[: -len(judged)], *judged), strict=True)
        )
    spec = run.spec or Spec(worker_id=run.key.worker_id, created_at=None)
    problem = seen.content if seen and isinstance(seen.content, Problem) else None
    path = seen.path if seen else _last(run, "path", "")
    main = run.processes.main
    checkin = verdict.last_checkin
    if checkin is None and not verdict.health.running:  # while it runs, only those of this attempt count
        checkin = max(run.checkins(), key=lambda sign: sign.at, default=None)
    pm_silent = pm_last_loop is None or now - pm_last_loop > PM_SILENT_AFTER
    return (
        *(moment(spec.created_at), path, directory_of(path)[:1000], bool(seen) and run.live),
        *(spec.worker_type[:100], spec.task_id[:255], spec.task_type[:100], spec.master[:100]),
        *(spec.status[:100], spec.priority[:50]),
        *(spec.description, spec.retry_of[:255], moment(spec.started_at), moment(spec.ended_at)),
        *(spec.time_limit_minutes, spec.time_limit_source[:100], spec.token_budget, spec.tokens_used, spec.error),
        *((problem.line, problem.column, problem.excerpt) if problem else (None, None, "")),
        *(memory.attempt, moment(memory.attempt_began), moment(memory.process_gone_at)),
        *((moment(checkin.at), checkin.source) if checkin else (None, "")),
        *(memory.progress_pct, main.pid if main else memory.pid, run.processes.found_by[:100]),
        *(_pm_health(run, pm_silent), verdict.pm_disagrees),
        *judged,
    )


def _last(run: Run, name: str, default: Any) -> Any:
    """A value as last stored, for a run whose file is gone."""
    return run.stored[SHOWN_FIELDS.index(name)] if run.stored else default


def _pm_health(run: Run, silent: bool) -> str:
    """What the PM daemon says: nothing where it does not know this run, and unknown where it has been silent."""
    if run.pm is None:
        return ""
    return "unknown" if silent else run.pm.health_state[:50]


def quiet_values(run: Run, now: datetime) -> Row:
    """The values of QUIET_FIELDS."""
    seen, memory, sample = run.file, run.memory, run.sample
    log = run.traces.log if run.traces else None
    main = run.processes.main
    return (
        moment(moment_of(seen.stamp)) if seen else None,
        *(moment(memory.seen_alive_at), moment(memory.progress_changed_at)),
        *((moment(log.at), log.source) if log else (None, "")),
        *(moment(memory.last_cpu_at), main.key.start_ticks if main else None, len(run.processes.tree)),
        as_json([process_value(process, sample) for process in run.processes.tree[:200]]),
        *((sample.cpu_percent, sample.rss_bytes, moment(sample.at)) if sample else (None, None, None)),
        moment(now),
        *(run.told_pid, moment(run.told_pid_at)),
    )


def process_value(process: Process, sample: ProcessSample | None = None) -> dict[str, object]:
    cpu, rss = sample.parts.get(process.pid, (None, None)) if sample else (None, None)
    used = {} if sample is None else {"cpu_percent": None if cpu is None else round(cpu, 1), "rss_bytes": rss}
    return used | {
        "pid": process.pid,
        "ppid": process.ppid,
        "command": " ".join(process.argv)[:1000] or process.name,
        "cwd": process.cwd,
        "user": process.user,
        "ours": process.ours,
        "started_at": process.started_at.isoformat(),
    }


def changes_of(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Yield the fields in which two versions of a spec differ. Heartbeats are check-ins and shown as such."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after and path:
            yield {"field": path, "old": before, "new": after}
        return
    for key in {**before, **after}:
        if not path and key == "heartbeat":
            continue
        yield from changes_of(before.get(key), after.get(key), f"{path}.{key}" if path else key)


def restore(row: dict[str, Any]) -> Run:
    """Make the run of a row as the poller before left it. Its file is read anew, as every file is after a start."""
    moments = {name: read_moment(value) for name, value in row.items() if name.endswith(("_at", "_since", "_began"))}
    known = row | {name: moment(value) for name, value in moments.items()} | {"reasons": _canonical(row["reasons"])}
    first_seen = moments["first_seen_at"]
    assert first_seen is not None  # noqa: S101 - the column cannot be null
    return Run(
        key=RunKey(row["worker_id"], row["run_key"]),
        first_seen_at=first_seen,
        pk=row["id"],
        started_at=moments["started_at"],
        told_pid=row["told_pid"],
        told_pid_at=moments["told_pid_at"],
        health=Health(row["health"]),
        health_since=moments["health_since"],
        stored=tuple(known[name] for name in SHOWN_FIELDS),
        checkin=_restored_checkin(row, moments["last_checkin_at"]),
        memory=Memory(
            attempt=row["attempt"],
            attempt_began=moments["attempt_began"],
            first_seen_at=first_seen,
            seen_alive_at=moments["seen_alive_at"],
            process_gone_at=moments["process_gone_at"],
            pid=row["pid"],
            progress_pct=row["progress_pct"],
            progress_changed_at=moments["progress_changed_at"],
            last_cpu_at=moments["last_cpu_at"],
        ),
    )


def _restored_checkin(row: dict[str, Any], at: datetime | None) -> CheckIn | None:
    """The last check-in; the PM daemon may have deleted its file since."""
    return CheckIn(row["worker_id"], at, row["last_checkin_source"]) if at else None


def _canonical(reasons: Any) -> str:
    """Reasons as ``_shown`` writes them: a database may give the keys back in another order."""
    parsed = orjson.loads(reasons) if isinstance(reasons, str) else reasons
    names = ("text", "source", "side", "at")
    return as_json(
        [
            {name: reason.get(name) for name in names} | ({"lines": reason["lines"]} if "lines" in reason else {})
            for reason in parsed
        ]
    )


_IN_TROUBLE = frozenset({Health.STALLED, Health.ZOMBIE, Health.CRASHED, Health.FAILED})


def turn_of(run: Run, now: datetime, *, first: bool) -> Turn | None:
    """What changed about its verdict, where an incident may begin or end with it; before the row is written."""
    verdict, spec, memory = run.verdict, run.spec, run.memory
    assert verdict is not None  # noqa: S101 - for the type checker; only judged runs are stored
    if first and not verdict.overdue and verdict.health not in _IN_TROUBLE and verdict.health is not Health.COMPLETED:
        return None
    put_away = directory_of(run.file.path).startswith("archive") if run.file else False
    if not first:
        before = (_last(run, "health", ""), bool(_last(run, "overdue", False)), _last(run, "attempt", 1))
        away_before = str(_last(run, "directory", "")).startswith("archive")
        if (verdict.health.value, verdict.overdue, memory.attempt, put_away) == (*before, away_before):
            return None
    started = spec.started_at if spec else run.started_at
    limit = spec.time_limit_minutes if spec else None
    failed = verdict.health is Health.FAILED and spec is not None
    return Turn(
        worker_id=run.key.worker_id,
        run=str(run.pk),
        at=(run.health_since or now) if first else now,
        new=verdict.health,
        old=None if first else Health(_last(run, "health", "")),
        overdue=verdict.overdue,
        reason=(spec.error if failed and spec else "") or verdict.reasons[0].text,
        attempt=memory.attempt,
        put_away=put_away,
        last_sign=verdict.last_sign.at if verdict.last_sign else started,
        process_gone_at=memory.process_gone_at,
        ended_at=spec.ended_at if spec else None,
        overdue_since=started + timedelta(minutes=limit) if started and limit else None,
    )


def health_change(run: Run, now: datetime, *, first: bool) -> Row | None:
    """The row of history, where the verdict differs from the stored one."""
    verdict = run.verdict
    assert verdict is not None  # noqa: S101 - for the type checker; only judged runs are stored
    old = _last(run, "health", "")
    if old == verdict.health.value:
        return None
    at = run.health_since if first else now
    return run.pk, moment(at), run.memory.attempt, old, verdict.health.value, verdict.reasons[0].text
