"""What the demo's workers are about, and their specs in the two layouts that real fleets write.

Source of the layouts: coordination-format, section 2. Family A is ``worker-<type>-NNN``, family B
``dev|sec|inv-worker-HEX8``. Everything here is a pure function of its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

FLEET_ZONE = timezone(timedelta(hours=-6))

TITLES = {
    "implementation": (
        "Add cursor pagination to the invoices endpoint",
        "Implement webhook signature validation",
        "Move session storage from memory to Redis",
        "Add an idempotency key to the payment API",
        "Support partial refunds in the billing service",
        "Cache the feature flags for one minute",
    ),
    "scan": (
        "Scan dependencies of the API gateway for known CVEs",
        "Look for committed secrets in the last 500 commits",
        "Audit the container images of the staging cluster",
        "Check TLS settings of all public endpoints",
    ),
    "fix": (
        "Fix the race between retry and cancel in the job runner",
        "Repair time zone handling in the monthly report",
        "Stop the memory leak in the websocket proxy",
        "Handle 429 answers of the mail provider",
    ),
    "test": (
        "Cover the refund path with integration tests",
        "Write property tests for the pricing rules",
        "Make the checkout tests independent of the clock",
        "Raise coverage of the auth module above 90 %",
    ),
    "documentation": (
        "Document the events of the public API",
        "Bring the runbook for database failover up to date",
        "Write a getting-started guide for plug-in authors",
    ),
    "review": (
        "Review the migration to asynchronous workers",
        "Review error handling in the import pipeline",
        "Review the new permission model",
    ),
    "analysis": (
        "Analyse slow queries of the last seven days",
        "Find unused feature flags and their owners",
        "Explain the growth of the event table",
    ),
    "pr": (
        "Open a pull request for the dependency updates",
        "Rebase and split the search refactoring",
    ),
    "inventory": (
        "Catalogue the repositories without an owner",
        "Map services to the databases that they write",
        "List repositories that miss a licence file",
    ),
}
MASTERS = {"scan": "security-master", "fix": "security-master", "inventory": "inventory-master"}
TIME_LIMITS = {"scan": 15, "fix": 20, "analysis": 15, "implementation": 45, "test": 20, "review": 15, "pr": 10}
PRIORITIES = ("critical", "high", "high", "medium", "medium", "medium", "low")
FAMILY_A = (
    "implementation",
    "implementation",
    "implementation",
    "scan",
    "scan",
    "fix",
    "test",
    "documentation",
    "review",
    "analysis",
    "pr",
)
FAMILY_B = {"dev": ("development", "implementation"), "sec": ("security", "scan"), "inv": ("inventory", "inventory")}
TOOLS = '["Read","Write","Edit","Glob","Grep","Bash(git:*)","Bash"]'


@dataclass(frozen=True, slots=True)
class Task:
    """What somebody wants done."""

    task_id: str
    title: str
    kind: str  # a key of TITLES
    priority: str = "medium"
    metadata: dict[str, Any] = field(default_factory=dict)


def local(moment: datetime) -> str:
    """Write a moment as the fleet's shell scripts do: ``2025-11-16T17:28:45-0600``."""
    return f"{moment.astimezone(FLEET_ZONE):%Y-%m-%dT%H:%M:%S}-0600"


def utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def make_task(rng: Random, kind: str) -> Task:
    title = rng.choice(TITLES[kind])
    return Task(
        f"task-{rng.randrange(1_762_000_000, 1_764_900_000)}-{rng.randrange(4096):03x}",
        title,
        kind,
        rng.choice(PRIORITIES),
    )


def next_id(rng: Random, numbers: dict[str, int], kind: str) -> str:
    """Return a fresh id for a kind of work and count ``numbers`` on. A third of the fleet is of family B."""
    prefix = next((prefix for prefix, (_, does) in FAMILY_B.items() if does == kind), None)
    if prefix and (kind == "inventory" or rng.random() < 0.45):
        return f"{prefix}-worker-{rng.getrandbits(32):08X}"
    numbers[kind] = numbers.get(kind, 0) + 1
    return f"worker-{kind}-{numbers[kind]:03d}"


def any_kind(rng: Random) -> str:
    return "inventory" if rng.random() < 0.06 else rng.choice(FAMILY_A)


def make_spec(rng: Random, worker_id: str, task: Task, created: datetime) -> dict[str, Any]:
    """Return a pending spec as its family's spawner writes it, 1.5 to 2.5 kB as indented JSON."""
    if worker_id.startswith("worker-"):
        return _family_a(rng, worker_id, task, created)
    return _family_b(rng, worker_id, task, created)


def _family_a(rng: Random, worker_id: str, task: Task, created: datetime) -> dict[str, Any]:
    worker_type = f"{task.kind}-worker"
    spec: dict[str, Any] = {
        "worker_id": worker_id,
        "worker_type": worker_type,
        "created_by": MASTERS.get(task.kind, "development-master"),
        "execution_manager": None,
        "created_at": local(created),
        "task_id": task.task_id,
        "status": "pending",
    }
    if rng.random() < 0.25:
        spec["identity"] = _identity(rng, worker_id)
    spec |= {
        "scope": {"description": task.title, "repository": "example/shop", "branch": f"relay/{task.task_id}"},
        "context": {"parent_task": task.task_id, "priority": task.priority, "deadline": None} | task.metadata,
        "goal_based_planning": {
            "enabled": True,
            "strategy": "direct",
            "goal_type": "analysis" if task.kind in ("scan", "analysis", "review") else "feature-development",
            "complexity": rng.choice(("low", "medium", "high")),
            "strategy_plan_location": f"coordination/knowledge-base/strategy-plans/{worker_id}-plan.json",
        },
        "resources": {
            "token_budget": rng.choice((8000, 10000, 15000, 25000)),
            "timeout_minutes": TIME_LIMITS.get(task.kind, 20),
            "max_retries": 1,
        },
        "tool_assignment": {
            "worker_type": worker_type,
            "essential_tools": TOOLS,
            "optional_tools": "[]",
            "total_tools": 7,
        },
        "deliverables": [],
        "prompt_template": f"coordination/prompts/workers/{worker_type}.md",
    }
    return spec | _nothing_done_yet()


def _identity(rng: Random, worker_id: str) -> dict[str, Any]:
    """Return an identity with a token that is clearly made up, and there to be redacted."""
    token = f"not-a-real-token-{rng.getrandbits(128):032x}"
    return {"spiffe_id": f"spiffe://demo/workers/{worker_id}", "token": token, "trust_level": 50}


def _nothing_done_yet() -> dict[str, Any]:
    return {
        "execution": {
            "started_at": None,
            "completed_at": None,
            "tokens_used": 0,
            "duration_minutes": 0,
            "session_id": None,
        },
        "results": {"status": None, "output_location": None, "summary": None, "artifacts": []},
        "review": {"enabled": True, "min_cycles": 1, "auto_approve_threshold": 0.95, "history": []},
    }


def _family_b(rng: Random, worker_id: str, task: Task, created: datetime) -> dict[str, Any]:
    master = FAMILY_B[worker_id.split("-", 1)[0]][0]
    worker_type = "catalog-worker" if task.kind == "inventory" else f"{task.kind}-worker"
    knowledge = f"/home/relay/fleet/coordination/masters/{master}/knowledge-base"
    return {
        "worker_id": worker_id,
        "worker_type": worker_type,
        "prompt_template": f"agents/prompts/workers/{worker_type}.md",
        "parent_master": master,
        "task_id": task.task_id,
        "task_data": _task_data(rng, task, master, created),
        "context": {
            "master_session": f"{rng.getrandbits(32):08X}-39A6-495F-AC3E-{rng.getrandbits(48):012X}",
            "expertise_area": "feature_development",
            "skills_required": ["design", "implementation", "testing"],
            "knowledge_base_refs": {
                "implementation_patterns": f"{knowledge}/implementation-patterns.jsonl",
                "architecture_docs": f"{knowledge}/codebase-architecture.json",
            },
        },
        "resources": {"token_allocation": rng.choice((10000, 15000, 30000)), "time_limit_minutes": 60},
        "status": "pending",
        "created_at": utc(created),
        "created_by": master,
    }


def _task_data(rng: Random, task: Task, master: str, created: datetime) -> dict[str, Any]:
    context = {
        "repository": "example/shop",
        "branch": "main",
        "description": f"{task.title}. Keep the public interface as it is and add tests for what changes.",
        "requirements": ["All existing tests pass", "One commit for each idea"],
    }
    return {
        "id": task.task_id,
        "title": task.title,
        "type": {"scan": "security"}.get(task.kind, "development"),
        "priority": task.priority,
        "status": "assigned",
        "assigned_to": master,
        "created_at": utc(created - timedelta(minutes=1)),
        "created_by": "create-task-cli",
        "context": context | task.metadata,
        "assigned_by": "coordinator",
        "routing_confidence": rng.choice(("0.95", "0.80", "N/A")),
    }


def run_since(spec: dict[str, Any], started: datetime, beat: datetime | None = None, sequence: int = 0) -> None:
    """Let a pending spec run since ``started``, with a last heartbeat of its emitter if it has one."""
    spec["status"] = "running"
    # Family B writes UTC throughout; a reader has to cope with both in one directory.
    write = local if spec["worker_id"].startswith("worker-") else utc
    spec.setdefault("execution", {})["started_at"] = write(started)
    if beat:
        spec["heartbeat"] = {
            "last_heartbeat": local(beat),
            "heartbeat_sequence": sequence,
            "health": {"status": "healthy", "tokens_used": 420 * sequence, "last_activity": "working"},
            "missed_count": 0,
        }


def end(spec: dict[str, Any], ended: datetime, status: str, error: str = "") -> None:
    """Let a spec end, as the worker daemon (or the zombie clean-up) writes it."""
    spec["status"] = status
    execution = spec.setdefault("execution", {})
    execution["completed_at"] = utc(ended)
    if error:
        execution["error"] = error
    elif status == "completed" and "results" in spec:
        spec["results"] |= {
            "status": "success",
            "summary": "Done; see the pull request.",
            "output_location": "agents/logs",
        }
    if status == "zombie":
        spec["zombie_detected_at"] = local(ended)
        spec["cleanup"] = {"cleaned_at": local(ended), "reason": "no process found", "automated": True}


def with_blanks(text: str) -> str:
    """Break a spec as the real spawner does where a shell variable was not set: ``"skills_required": ,``."""
    lines = []
    for line in text.splitlines():
        key, colon, _ = line.partition(": ")
        unset = key.strip() in ('"token_allocation"', '"token_budget"', '"expertise_area"')
        lines.append(f"{key}{colon}," if unset else line)
    return "\n".join(lines) + "\n"
