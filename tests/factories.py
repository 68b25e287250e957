"""Rows as the poller would store them, for tests and benchmarks that need a fleet but no disk."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max

from workers.health import Health
from workers.models import Change, HealthChange, Incident, Poller, Remediation, Worker, WorkerDocument

HOST = "host-a"
TYPES = ("implementation", "scan", "fix", "test", "review", "documentation", "analysis")
MASTERS = ("development-master", "security-master", "inventory-master", "cicd-master")
LIMITS = {"implementation": 45, "scan": 15, "fix": 20, "test": 20, "review": 15, "documentation": 20, "analysis": 15}
TITLES = (
    "Harden the token refresh of the gateway",
    "Scan the dependency tree for known advisories",
    "Write the operator's guide for nightly backups",
    "Split the ingest service and keep its public interface",
    "Review the change that replaces the retry loop",
)
#: Shares of a fleet that has seen better days.
MIX = {
    Health.HEALTHY: 62,
    Health.PENDING: 12,
    Health.LATE: 5,
    Health.STALLED: 6,
    Health.ZOMBIE: 6,
    Health.CRASHED: 3,
    Health.UNREADABLE: 4,
    Health.UNKNOWN: 1,
    Health.COMPLETED: 1,
}
#: health -> (minutes since start, since the last check-in, since the verdict)
AGES = {
    Health.HEALTHY: (21, 1, 20),
    Health.LATE: (14, 11, 1),
    Health.STALLED: (19, 16, 2),
    Health.ZOMBIE: (52, 47, 8),
    Health.CRASHED: (12, 4, 3),
    Health.UNKNOWN: (30, 6, 29),
}


def poller(host: str = HOST, **fields: Any) -> Poller:
    """Store a poller that has just finished a cycle, and a PM daemon that runs."""
    now = datetime.now(UTC)
    defaults = {
        "home": "/srv/relay",
        "pid": 4242,
        "started_at": now - timedelta(hours=3),
        "last_cycle_at": now,
        "interval_seconds": 2.0,
        "cycle_ms": 31.0,
        "lag_ms": 46.0,
        "specs": 53,
        "unreadable": 1,
        "pm_seen": True,
        "pm_pid": 36883,
        "pm_alive": True,
        "pm_last_loop": now - timedelta(minutes=2),
    }
    return Poller.objects.update_or_create(host=host, defaults={**defaults, **fields})[0]


def build(health: Health, number: int = 1, now: datetime | None = None, **fields: Any) -> Worker:
    """Build one run, unsaved, as its poller would describe it in that state."""
    now = now or datetime.now(UTC)
    kind = TYPES[number % len(TYPES)]
    used, silent, since = (timedelta(minutes=minutes) for minutes in AGES.get(health, (0, 0, 15)))
    started = now - used if health in AGES else None
    created = (started or now - timedelta(minutes=16)) - timedelta(seconds=20)
    name = f"worker-{kind}-{number:03}"
    values: dict[str, Any] = {
        "host": HOST,
        "worker_id": name,
        "created_at": created,
        "path": f"coordination/worker-specs/active/{name}.json",
        "directory": "active",
        "live": True,
        "worker_type": f"{kind}-worker",
        "task_id": f"task-{1762553000 + number}",
        "master": MASTERS[number % len(MASTERS)],
        "status": "running" if health in AGES else health.value,
        "priority": "high",
        "description": TITLES[number % len(TITLES)],
        "started_at": started,
        "attempt_began": started,
        "time_limit_minutes": LIMITS[kind],
        "time_limit_source": "resources.time_limit_minutes",
        "token_budget": 10000,
        "tokens_used": 3100 + number,
        "first_seen_at": created,
        "health": health.value,
        "severity": health.severity,
        "health_since": now - since,
        "as_of": now,
        "overdue": bool(started and used > timedelta(minutes=LIMITS[kind])),
        "not_checking_in": health in (Health.LATE, Health.STALLED),
        "reasons": reasons(health, number, now, silent),
        "remedy": "any sign of life: a check-in, progress, a log line or more than 1 % of a core",
    }
    if started:
        values |= _running(health, number, now, now - silent)
    if health in (Health.FAILED, Health.COMPLETED):
        values |= {"started_at": created, "ended_at": now - since, "directory": health.value, "live": False}
        values["path"] = f"coordination/worker-specs/{health.value}/{name}.json"
    if health is Health.GONE:
        values |= {"live": False, "directory": ""}
    if health is Health.FAILED:
        values["error"] = "Connection reset by peer after 5 retries"
    if health is Health.UNREADABLE:
        values |= {"worker_id": name + ".json", "worker_type": "", "task_id": "", "master": "", "status": ""}
        values |= {"time_limit_minutes": None, "problem_line": 29, "problem_column": 24, "created_at": None}
        values["problem_excerpt"] = '    "skills_required": ,\n    "token_allocation": ,'
    values |= fields
    values.setdefault("run_key", str(values["created_at"] or values["path"]))
    return Worker(**values)


def _running(health: Health, number: int, now: datetime, checkin: datetime) -> dict[str, Any]:
    """Build what is known of a run that has, or had, a process."""
    values: dict[str, Any] = {
        "last_checkin_at": checkin,
        "last_checkin_source": "coordination/pm-state.json#last_checkin",
        "progress_pct": 30 + number % 60,
        "progress_changed_at": checkin,
        "pm_health": "stalled" if health is Health.ZOMBIE else "healthy",
        "pm_disagrees": health is Health.STALLED,
        "seen_alive_at": now,
    }
    if health in (Health.ZOMBIE, Health.CRASHED):
        return values | {"process_gone_at": now - timedelta(minutes=3)}
    pid = 41000 + number
    began, shared = checkin.isoformat(), {"user": "relay", "ours": True, "cwd": "/srv/relay"}
    tree = [
        {"pid": pid, "ppid": 1, "started_at": began, "command": "/bin/bash execute.sh", **shared},
        {"pid": pid + 1, "ppid": pid, "started_at": began, "command": "claude -p", **shared},
    ]
    busy = health is Health.HEALTHY
    return values | {
        "pid": pid,
        "pid_found_by": "its pid file",
        "process_count": 2,
        "processes": tree,
        "cpu_percent": 38.4 if busy else 0.0,
        "rss_bytes": (212 + number % 300) * 1_000_000,
        "sampled_at": now,
    }


def reasons(health: Health, number: int, now: datetime, silent: timedelta) -> list[dict[str, Any]]:
    """Build reasons of the shape that ``health.judge`` gives."""
    since = (now - silent).isoformat()
    alive = reason(
        f"Process {41000 + number} is alive, found by its pid file", "agents/workers/x/worker.pid", "for", since
    )
    claim = reason("Spec says running", "coordination/worker-specs/active/x.json#status", "note", since)
    texts = {
        Health.HEALTHY: [
            reason("It checked in", "coordination/pm-state.json#last_checkin", "for", since),
            alive,
            claim,
        ],
        Health.LATE: [reason("No sign of life for longer than 10 min", "check-ins, logs", "for", since), claim],
        Health.STALLED: [
            reason("No sign of life of any kind for longer than 15 min", "check-ins, progress, logs", "for", since),
            reason(f"Process {41000 + number} is alive, so it is no zombie", "processes", "against", since),
            claim,
            reason("The PM daemon says healthy, we say stalled", "coordination/pm-state.json", "against", since),
        ],
        Health.ZOMBIE: [
            reason("Spec says running, but no process of its own was found, nor how it ended", "processes"),
            claim,
        ],
        Health.CRASHED: [reason(f"Process {41000 + number} disappeared", "seen by the poller", "for", since), claim],
        Health.UNREADABLE: [reason("Not JSON: a value is missing at line 29, column 24", "worker-specs/active/x.json")],
        Health.UNKNOWN: [reason("Its processes cannot be seen: they run on another host", "processes"), claim],
        Health.PENDING: [reason("Spec says pending: nobody has started it yet", "worker-specs/active/x.json#status")],
        Health.FAILED: [
            reason("Spec says failed: Connection reset by peer after 5 retries", "worker-specs/failed/x.json")
        ],
    }
    return texts.get(health, [reason(f"Spec says {health}", "worker-specs/x.json#status")])


def reason(text: str, source: str, side: str = "for", at: str | None = None) -> dict[str, Any]:
    return {"text": text, "source": source, "side": side, "at": at}


def add(health: Health, number: int = 1, **fields: Any) -> Worker:
    """Store one run with its documents and say so in the outbox."""
    worker = build(health, number, **fields)
    with transaction.atomic():
        worker.save()
        WorkerDocument.objects.create(worker=worker, spec={"worker_id": worker.worker_id, "status": worker.status})
        HealthChange.objects.create(worker=worker, at=worker.health_since, new=worker.health, reason=worker.main_reason)
        tell([worker])
    return worker


def incident(worker: Worker | None, kind: str = "stalled", **fields: Any) -> Incident:
    """Store an incident as a poller does that has just seen it, and say so in the outbox."""
    now = datetime.now(UTC)
    detected = fields.get("detected", now)
    values: dict[str, Any] = {
        "host": worker.host if worker else HOST,
        "worker_id": worker.worker_id if worker else "worker-of-old",
        "began": detected - timedelta(minutes=15),
        "detected": detected,
        "cause": worker.main_reason if worker else "the log says so",
        **fields,
    }
    with transaction.atomic():
        found = Incident.objects.create(run=worker, kind=kind, **values)
        tell([found], Change.Kind.INCIDENT)
    return found


def change_incident(incident: Incident, **fields: Any) -> None:
    """Change an incident the way the poller does: its row and the outbox in one transaction."""
    with transaction.atomic():
        Incident.objects.filter(pk=incident.pk).update(**fields)
        tell([incident], Change.Kind.INCIDENT)


#: A step as a plan has it.
STEP: dict[str, Any] = {
    "kind": "move",
    "target": "coordination/worker-specs/failed/x.json",
    "detail": "Move the spec, with these changes, to",
    "shown": {"path": "x.json", "diff": [["-", '"status": "running"'], ["+", '"status": "failed"']]},
    "data": {},
}


def repair(worker: Worker | None, state: str = Remediation.State.PLANNED, **fields: Any) -> Remediation:
    """Store a remediation as a poller leaves it in that state."""
    values: dict[str, Any] = {
        "host": HOST,
        "action": "clean-up",
        "actor": "operator",
        "via": "browser",
        "requested_at": datetime.now(UTC),
        "plan": {"steps": [STEP], "relies_on": {}, "warnings": [], "asks": ""},
        **fields,
    }
    return Remediation.objects.create(worker=worker, state=state, **values)


def change(worker: Worker, **fields: Any) -> None:
    """Change a run the way the poller does: its row and the outbox in one transaction."""
    if "health" in fields:
        fields.setdefault("severity", Health(fields["health"]).severity)
    with transaction.atomic():
        Worker.objects.filter(pk=worker.pk).update(**fields)
        tell([worker])


def tell(changed: Iterable[Worker | Remediation | Incident], kind: Change.Kind = Change.Kind.WORKER) -> int:
    """Write the outbox rows of these and return the position that they lead to."""
    now = datetime.now(UTC)
    Change.objects.bulk_create([Change(kind=kind, key=each.pk, at=now) for each in changed])
    return Change.objects.aggregate(last=Max("id"))["last"] or 0


def add_fleet(count: int, *, host: str = HOST, seed: int = 1, now: datetime | None = None) -> list[Worker]:
    """Store a fleet of that many live runs in all states, with its poller."""
    now = now or datetime.now(UTC)
    dice = random.Random(seed)
    states = dice.choices(list(MIX), weights=list(MIX.values()), k=count)
    workers = [build(state, number, now, host=host) for number, state in enumerate(states, 1)]
    for worker in workers:
        worker.health_since -= timedelta(seconds=dice.uniform(0, 3600))
    poller(host, last_cycle_at=now, specs=count)
    return Worker.objects.bulk_create(workers, batch_size=500)
