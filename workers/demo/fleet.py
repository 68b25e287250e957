"""The demo fleet on disk: its directory, its past, and as many specs and events as a load test wants. No processes."""

from __future__ import annotations

import contextlib
import fcntl
import shlex
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson

from . import specs
from .specs import local, utc
from .stand_ins import ACTIVE, DASHBOARD, HEARTBEATS, PM_ACTIVITY, QUEUE, STAGE

ZOMBIE_EVENTS = "coordination/events/zombie-cleanup-events.jsonl"
SPECS = "coordination/worker-specs"
MARKER = f"{STAGE}/README"
OWN_DIRECTORIES = ("coordination", "agents", "scripts")
#: What share of the events each log gets; pm-activity.jsonl takes the rest.
SHARES = {HEARTBEATS: 0.22, DASHBOARD: 0.09, ZOMBIE_EVENTS: 0.05}
HISTORY = timedelta(days=6)

Cast = list[tuple[str, str, str, str]]  # (created_at in UTC, worker id, task id, worker type) of whom the events tell


class DemoError(Exception):
    """The directory holds something that is not a demo fleet; the message says what to do."""


@contextlib.contextmanager
def claim(home: Path) -> Iterator[bool]:
    """Hold ``home`` as a demo fleet's directory. Yield whether it has been one before.

    Raise :class:`DemoError` where another demo holds it, and for a directory with anything else in it: a real fleet
    must never be overwritten.
    """
    if home.exists() and not home.is_dir():
        raise DemoError(f"{home} is not a directory. Give the demo fleet a new or an empty one.")
    known = (home / MARKER).is_file()
    if not known and home.exists() and any(home.iterdir()):
        raise DemoError(
            f"{home} is not empty and is not a demo fleet, so nothing was written. "
            "Give a new or an empty directory, or one that demo_fleet has made."
        )
    (home / STAGE).mkdir(parents=True, exist_ok=True)
    (home / MARKER).write_text("Made by `manage.py demo_fleet`, which may rewrite or remove anything in this fleet.\n")
    with (home / STAGE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"Another demo_fleet is running in {home}. Stop it, or give another directory."
            raise DemoError(message) from None
        yield known


def write_fleet(home: Path, *, workers: int, events: int, seed: int, now: datetime) -> None:
    """Write a fleet without processes, for load: exactly ``workers`` specs in ``active/`` and ``events`` records.

    A handful of finished ones lies beside them. The same ``seed`` and ``now`` give the same bytes. A demo fleet that
    was there before is replaced. Raise :class:`DemoError` where something else was.
    """
    home = home.absolute()
    with claim(home):
        for name in OWN_DIRECTORIES:
            shutil.rmtree(home / name, ignore_errors=True)
        _write_load(home, workers, events, Random(seed), now)  # noqa: S311 - a demo, not a secret


def _write_load(home: Path, workers: int, events: int, rng: Random, now: datetime) -> None:
    write_skeleton(home, now)
    numbers: dict[str, int] = {}
    cast = write_history(home, rng, now, numbers)
    monitored: dict[str, Any] = {}
    for spec in _active_specs(rng, numbers, workers, now):
        worker_id = spec["worker_id"]
        (home / ACTIVE / f"{worker_id}.json").write_bytes(as_bytes(spec))
        cast.append(_member(spec, now))
        if spec["status"] != "pending" and rng.random() < 0.9:
            monitored[worker_id] = pm_entry(spec, rng.choice(("healthy", "healthy", "healthy", "late", "stalled")))
    write_pm_state(home, monitored, now)
    write_events(home, rng, cast, events, now)


def as_bytes(document: Any) -> bytes:
    """Return a document as a fleet's scripts write it: indented by two, with a newline at the end."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


# --- the directory ---------------------------------------------------------------------------------------------------


def write_skeleton(home: Path, now: datetime) -> None:
    """Make the directories, the scripts and the few files that a fleet has from its first day."""
    for name in ("active", "completed", "failed", "zombie", "archived", "templates"):
        (home / SPECS / name).mkdir(parents=True, exist_ok=True)
    for name in ("coordination/worker-checkins", "coordination/events", "agents/workers", "agents/logs/system"):
        (home / name).mkdir(parents=True, exist_ok=True)
    if not (home / QUEUE).exists():
        (home / QUEUE).write_bytes(as_bytes({"tasks": []}))
    template = {"worker_type": "scan-worker", "resources": {"token_budget": 8000, "timeout_minutes": 15}}
    (home / SPECS / "templates/scan-worker.json").write_bytes(as_bytes(template))
    write_configuration(home, now)
    write_scripts(home)


def write_configuration(home: Path, now: datetime) -> None:
    """Write what a fleet sets, where it has no such file yet: time limits, targets, and an alert that nobody ended."""
    types = [
        {"type_id": f"{name}-worker", "description": does, "time_limit_minutes": specs.TIME_LIMITS[name]}
        for name, does in WORKER_TYPES.items()
    ]
    since = utc(now - HISTORY)
    alert = {
        "id": "alert-zombie-threshold",
        "type": "zombie_threshold",
        "severity": "high",
        "status": "active",
        "message": "12 zombies, threshold 10",
        "created_at": since,
        "metric_value": 12,
        "threshold": 10,
        "zombie_workers": ",".join(f"worker-scan-{number:03}" for number in range(901, 913)),
        "investigation_notes": [],
    }
    targets = {"critical": 15, "high": 30, "medium": 60, "low": 120}
    files = {
        "coordination/config/worker-types.json": {"worker_types": types},
        "coordination/health-alerts.json": {"sla_config": targets, "alerts": [alert]},
    }
    for name, document in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(as_bytes(document))


def write_scripts(home: Path) -> None:
    """Write the fleet's scripts: stand-ins that do, harmlessly, what the runbook calls them for."""
    root, python = shlex.quote(str(home)), shlex.quote(sys.executable)
    (home / STAGE / "stand_in.py").write_text(
        f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\n"
        "import stand_ins\nsys.exit(stand_ins.main(sys.argv[1:]))\n"
    )
    stand_in = f"{python} -I -S {root}/{STAGE}/stand_in.py"
    texts = dict(SCRIPTS)
    for program in ("create-task", "emit-event"):
        texts[f"{program}.sh"] = f'exec {stand_in} {program} {root} "$@"\n'
    for name, does in HARMLESS.items():
        texts[name] = f'echo "$(basename "$0"): {does} In this demo it changes nothing."\n'
    for name, text in texts.items():
        script = home / "scripts" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("@ROOT@", root).replace("@PYTHON@", python).replace("@STAND_IN@", stand_in)
        script.write_text(f"#!/bin/bash\n# Demo stand-in, written by demo_fleet\n{text}")
        script.chmod(0o755)
    shutil.move(home / "scripts/shell-worker.sh", home / "agents/workers/shell-worker.sh")


WORKER_TYPES = {
    "implementation": "Writes code for one task",
    "scan": "Looks for advisories in dependencies",
    "fix": "Mends what a scan or a review found",
    "test": "Writes and runs tests",
    "review": "Reads a change",
    "analysis": "Answers a question about the code",
}
HARMLESS = {
    "cleanup-zombie-workers.sh": "would move zombies to failed/.",
    "archive-failed-workers.sh": "would move failed/ to archived/.",
    "health-check-pm-daemon.sh": "would restart a PM daemon that is silent.",
    "dashboards/daemon-monitor.sh": "would list the daemons.",
}
SCRIPTS = {
    # The interpreter comes in as fd 8 and the program as fd 9, so that the length of the arguments does not depend on
    # where they are installed: it is made that of the wanted arguments, which the program then writes over them.
    "claude": """\
LC_ALL=C
DEMO_TITLE=claude
for argument in "$@"; do DEMO_TITLE+=$'\\x1f'$argument; done
export DEMO_TITLE
printf -v padding '%*s' $(( ${#DEMO_TITLE} - 24 )) ''
exec -a /dev/fd/8 @PYTHON@ -IS /dev/fd/9 "$padding" 8<@PYTHON@ 9<@ROOT@/.demo-fleet/stand_in.py
""",
    "lib/run-claude.sh": """\
# run_claude DIRECTORY ARGUMENT…: run claude for the worker of DIRECTORY and write down how it ended
run_claude() {
    local directory=$1 code outcome
    shift
    @ROOT@/scripts/claude "$@" < "$directory/prompt.md" >> "$directory/logs/stdout.log" 2>> "$directory/logs/stderr.log"
    code=$?
    case $code in
        0) outcome=completed ;;
        1) outcome=failed ;;
        *) exit $code ;;  # killed or out of memory: nobody is left to say so
    esac
    printf '{"status":"%s","timestamp":"%s","exit_code":%d}\\n' \\
        "$outcome" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$code" > "$directory/status.json"
    exit $code
}
""",
    "start-worker.sh": """\
# start-worker.sh --spec FILE starts a pending worker detached; with an id it is that worker's own wrapper
cd @ROOT@ || exit 1
if [ "$1" = --spec ]; then exec @STAND_IN@ start-worker @ROOT@ "$2"; fi
if [ -z "$DEMO_ROLE" ]; then exec @STAND_IN@ start-worker @ROOT@ "coordination/worker-specs/active/$1.json"; fi
source @ROOT@/scripts/lib/run-claude.sh
run_claude "agents/workers/$1" "Read your worker spec, do the task that it describes and report what you did."
""",
    "shell-worker.sh": """\
# Worker without a directory of its own as its cwd; its launcher exports WORKER_ID
cd @ROOT@ || exit 1
source @ROOT@/scripts/lib/run-claude.sh
run_claude "agents/workers/$WORKER_ID" -p "Summarise the findings of the nightly scan"
""",
    "pm-daemon.sh": """\
exec -a pm-daemon.sh @STAND_IN@ pm-daemon @ROOT@
""",
    "worker-heartbeat-emitter.sh": """\
# worker-heartbeat-emitter.sh ID WRAPPER_PID: beats for a worker while its spec is active, even when it is long gone
spec=@ROOT@/coordination/worker-specs/active/$1.json
sequence=0
while [ -f "$spec" ]; do
    sequence=$((sequence + 1))
    now=$(TZ=CST6 date +%Y-%m-%dT%H:%M:%S%z)
    sed -i -E -e "s/(\\"last_heartbeat\\": )\\"[^\\"]*\\"/\\1\\"$now\\"/" \\
        -e "s/(\\"heartbeat_sequence\\": )[0-9]+/\\1$sequence/" "$spec"
    echo "[$now] heartbeat $sequence for $1 (wrapper $2)"
    read -r -t 30 -u "$DEMO_LIFELINE"
    [ $? -gt 128 ] || exit  # not a timeout: the demo has ended
done
""",
}


# --- its past --------------------------------------------------------------------------------------------------------

#: (directory, how many, status, error): what became of the workers of the last days.
PAST = (
    ("completed", 26, "completed", ""),
    ("failed", 5, "failed", "Tests still fail after 5 attempts"),
    ("failed", 3, "failed", "Zombie worker - no process found"),
    ("zombie", 2, "zombie", ""),
    ("zombie/@", 4, "zombie", ""),
    ("archived/@", 5, "completed", ""),
    ("archived", 3, "running", ""),  # moved by hand, the status never updated
    ("archived/failed-@", 4, "failed", "Token budget exceeded"),
    ("archive-@", 3, "cancelled", "No longer needed"),
)


def write_history(home: Path, rng: Random, now: datetime, numbers: dict[str, int]) -> Cast:
    """Write finished workers of the last days, some ids used by several of them; return who they were."""
    cast: Cast = []
    for directory, count, status, error in PAST:
        for _ in range(count):
            created = now - timedelta(minutes=rng.uniform(90, HISTORY.total_seconds() / 60))
            spec = _finished(rng, numbers, cast, created, status, error)
            date = f"{created:%Y%m%d}" if directory.startswith("archive-") else f"{created:%Y-%m-%d}"
            folder = home / SPECS / directory.replace("@", date)
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / f"{spec['worker_id']}.json").exists():
                continue  # the same id twice in one directory: the real fleet would lose one, too
            (folder / f"{spec['worker_id']}.json").write_bytes(as_bytes(spec))
            cast.append(_member(spec, created))
    manifest = {"archived_by": "archive-failed-workers.sh", "worker_count": 4, "reason": "weekly archive"}
    for folder in sorted((home / SPECS / "archived").glob("failed-*")):
        (folder / "MANIFEST.json").write_bytes(as_bytes(manifest))
    return cast


def _member(spec: dict[str, Any], created: datetime) -> tuple[str, str, str, str]:
    return utc(created), spec["worker_id"], spec["task_id"], spec["worker_type"]


def _finished(
    rng: Random, numbers: dict[str, int], cast: Cast, created: datetime, status: str, error: str
) -> dict[str, Any]:
    """Return the spec of a worker that has come to its end; every fourth has the id of an earlier one."""
    task = specs.make_task(rng, specs.any_kind(rng))
    reused = [worker_id for _, worker_id, _, _ in cast if worker_id.startswith(f"worker-{task.kind}-")]
    worker_id = rng.choice(reused) if reused and rng.random() < 0.4 else specs.next_id(rng, numbers, task.kind)
    spec = specs.make_spec(rng, worker_id, task, created)
    started = created + timedelta(seconds=rng.uniform(3, 120))
    specs.run_since(spec, started)
    if status != "running":
        specs.end(spec, started + timedelta(minutes=rng.uniform(2, 40)), status, error)
        spec["execution"]["tokens_used"] = rng.randrange(2_000, 30_000)
    return spec


def _active_specs(rng: Random, numbers: dict[str, int], count: int, now: datetime) -> Iterator[dict[str, Any]]:
    """Yield a load test's live workers: mostly running, some pending, a few in other words for running."""
    for _ in range(count):
        task = specs.make_task(rng, specs.any_kind(rng))
        created = now - timedelta(seconds=rng.uniform(60, 3600))
        spec = specs.make_spec(rng, specs.next_id(rng, numbers, task.kind), task, created)
        if rng.random() < 0.86:
            started = created + timedelta(seconds=rng.uniform(1, 50))
            beats = rng.randrange(1, 100) if rng.random() < 0.5 else 0
            specs.run_since(
                spec, started, max(started, now - timedelta(seconds=rng.uniform(1, 1300))) if beats else None, beats
            )
            if rng.random() < 0.03:
                spec["status"] = rng.choice(("active", "in_progress"))
        yield spec


# --- what the PM daemon remembers ------------------------------------------------------------------------------------


def pm_entry(
    spec: dict[str, Any], health_state: str = "healthy", *, checkin: datetime | None = None, progress: float = 0
) -> dict[str, Any]:
    """Return the PM daemon's entry for a running worker; ``progress`` in per cent."""
    started = spec["execution"]["started_at"]
    return {
        "worker_id": spec["worker_id"],
        "task_id": spec["task_id"],
        "worker_type": spec["worker_type"],
        "registered_at": started,
        "started_at": started,
        "last_checkin": local(checkin) if checkin else None,
        "checkin_count": 3 if checkin else 0,
        "health_state": health_state,
        "progress_pct": progress,
        "warnings_sent": {"healthy": 0, "late": 1}.get(health_state, 3),
        "interventions": [],
        "legacy_worker": False,
    }


def write_pm_state(home: Path, monitored: dict[str, Any], now: datetime) -> None:
    """Write ``pm-state.json`` as a daemon leaves it that has just finished a loop."""
    daemon = {
        "pid": None,
        "last_loop": local(now),
        "loops_completed": 424,
        "uptime_seconds": 76_357,
        "started_at": local(now - timedelta(seconds=76_357)),
    }
    metrics = {"active": len(monitored), "completed": 60, "failed": 8, "success_rate": 88.2}
    state = {"pm_daemon": daemon, "monitored_workers": monitored, "metrics": metrics}
    (home / "coordination/pm-state.json").write_bytes(as_bytes(state))


# --- its events ------------------------------------------------------------------------------------------------------

PM_EVENTS = (
    ["pm_loop_completed"] * 20
    + ["checkin_received"] * 30
    + ["worker_registered"] * 10
    + ["worker_stalled"] * 12
    + ["timeout_exceeded"] * 8
    + ["zombie_detected"] * 8
    + ["missed_checkin"] * 4
    + ["worker_completed"] * 5
    + ["timeout_warning"] * 2
    + ["worker_failed"]
)
HEARTBEAT_EVENTS = ("worker_presumed_dead",) * 16 + ("heartbeat_critical", "heartbeat_warning", "heartbeat_warning")
ZOMBIE_STEPS = ("zombie_detected", "zombie_process_terminated", "zombie_cleanup_completed")


def write_events(home: Path, rng: Random, cast: Cast, count: int, now: datetime) -> None:
    """Write ``count`` events of the last days in all, in time order, with the faults that the real logs have."""
    cast = sorted(cast)
    counts = {path: int(count * share) for path, share in SHARES.items()}
    counts[PM_ACTIVITY] = count - sum(counts.values())
    writers = {
        PM_ACTIVITY: _pm_event,
        HEARTBEATS: _heartbeat_event,
        DASHBOARD: _dashboard_event,
        ZOMBIE_EVENTS: _zombie_event,
    }
    for path, write in writers.items():
        times = enumerate(_times(rng, counts[path], now))
        share = len(cast) / max(1, counts[path])
        # Whoever is created about then: the k-th of n events tells of one of the workers around the k-th of n.
        told = ((moment, old, cast[max(0, int(k * share) - rng.randrange(3))]) for k, (moment, old) in times)
        (home / path).write_bytes(b"".join([write(rng, moment, old, *who[1:]) for moment, old, who in told]))


def _times(rng: Random, count: int, now: datetime) -> Iterator[tuple[str, bool]]:
    """Yield rising moments without their zone, in the fleet's local time, and whether one is of the first third."""
    span = HISTORY.total_seconds()
    last = (now.astimezone(UTC) - timedelta(minutes=1)).timestamp() - 6 * 3600
    for offset in sorted(rng.uniform(0, span) for _ in range(count)):
        yield datetime.fromtimestamp(int(last - span + offset), UTC).isoformat()[:19], offset < span / 3


def _line(record: dict[str, Any]) -> bytes:
    return orjson.dumps(record) + b"\n"


def _pm_event(rng: Random, moment: str, old: bool, worker_id: str, task_id: str, worker_type: str) -> bytes:
    """In its first days the daemon wrote UTC with a Z, later local time; here the clock reading is all that differs."""
    event = rng.choice(PM_EVENTS)
    stamp = f"{moment}Z" if old else f"{moment}-0600"
    minutes = rng.randrange(10, 400)
    if event == "pm_loop_completed":
        data = {"loop_number": rng.randrange(1, 900), "duration_seconds": rng.randrange(9)}
        return _line({"timestamp": stamp, "pm_id": "pm-daemon-36883", "event": event, "data": data})
    details: dict[str, dict[str, Any]] = {
        "checkin_received": {"status": "in_progress", "progress_pct": rng.randrange(1, 100)},
        "worker_registered": {"task_id": task_id, "type": worker_type},
        "timeout_exceeded": {"age_minutes": minutes, "limit_minutes": 60},
        "zombie_detected": {"age_minutes": minutes, "process_found": False},
    }
    data = details.get(event, {"minutes_since_checkin": minutes})
    return _line({"timestamp": stamp, "pm_id": "pm-daemon-36883", "event": event, "worker_id": worker_id, "data": data})


def _heartbeat_event(rng: Random, moment: str, old: bool, worker_id: str, task_id: str, worker_type: str) -> bytes:
    event = rng.choice(HEARTBEAT_EVENTS)
    record = {
        "event_type": event,
        "worker_id": worker_id,
        "task_id": task_id,
        "time_since_heartbeat_seconds": rng.choice((9999, rng.randrange(300, 40_000))),
        "health_status": "warning" if event == "heartbeat_warning" else "unresponsive",
        "timestamp": f"{moment}-0600",
        "detected_by": "heartbeat-monitor",
    }
    return _line(record)


def _zombie_event(rng: Random, moment: str, old: bool, worker_id: str, task_id: str, worker_type: str) -> bytes:
    """One record, and blank lines where the real script lost others."""
    record = {"event_type": rng.choice(ZOMBIE_STEPS), "worker_id": worker_id, "timestamp": f"{moment}-0600", "data": {}}
    return _line(record) + b"\n" * (rng.random() < 0.3)


def _dashboard_event(rng: Random, moment: str, old: bool, worker_id: str, task_id: str, worker_type: str) -> bytes:
    """Of the four writers of this log one pretty-prints and one puts its data in as a string."""
    writer = rng.randrange(10)
    if writer == 0:
        data = {"pool_size": rng.randrange(10, 40), "threshold": 10, "severity": "warning"}
        return as_bytes({"timestamp": f"{moment}-0600", "type": "pool_size_alert", "data": data})
    if writer < 4:
        event_id = f"evt-{rng.randrange(1_764_000_000, 1_764_900_000)}-{rng.randrange(9000, 9999)}"
        step = rng.choice(ZOMBIE_STEPS)
        inner = {"event_type": step, "worker_id": worker_id, "timestamp": f"{moment}-0600", "data": {}}
        text = "" if rng.random() < 0.1 else orjson.dumps(inner).decode()
        return _line(
            {"id": event_id, "timestamp": f"{moment}-06:00", "type": step, "data": text, "source": "automation"}
        )
    if writer < 6:
        return _line(
            {
                "timestamp": f"{moment}Z" if old else f"{moment}-0600",
                "type": "coordinator_started",
                "data": {"pid": rng.randrange(900, 60_000)},
            }
        )
    kind = rng.choice(("task_assigned", "worker_started", "worker_completed"))
    data = {"worker_id": worker_id, "task_id": task_id, "assigned_to": worker_type}
    return _line({"timestamp": f"{moment}-0600", "type": kind, "data": data})
