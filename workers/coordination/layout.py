"""Where things lie in a coordination home. Source: coordination-format.md, section 1."""

from __future__ import annotations

import os
from pathlib import Path

SPECS = "coordination/worker-specs"
ACTIVE = f"{SPECS}/active"
QUARANTINE = f"{SPECS}/quarantine"
PM_STATE = "coordination/pm-state.json"
PM_HEARTBEAT = "coordination/pm-daemon-heartbeat.json"
HEALTH_ALERTS = "coordination/health-alerts.json"
WORKER_TYPES = "coordination/config/worker-types.json"
MASTERS = "coordination/masters"
CHECKINS = "coordination/worker-checkins"
EVENTS = "coordination/events"
DASHBOARD_EVENTS = "coordination/dashboard-events.jsonl"
AGENTS_WORKERS = "agents/workers"
ZOMBIES = f"{AGENTS_WORKERS}/zombies"  # where the fleet's clean-up script puts directories away
AGENTS_WORKER_LOGS = "agents/logs/workers"
#: The JSON logs with a fixed name; those in ``coordination/events`` are found by their ending.
FIXED_LOGS = (
    "coordination/pm-activity.jsonl",
    DASHBOARD_EVENTS,
    "coordination/worker-health-metrics.jsonl",
)


class Layout:
    """The paths of one coordination home. Inside it a path is written relative to the home, with ``/``."""

    def __init__(self, home: Path) -> None:
        self.home = Path(os.path.abspath(home))  # noqa: PTH100 - a home that is a link keeps its name
        self.real_home = os.path.realpath(home)
        self.coordination = self.home / "coordination"
        self.specs = self.home / SPECS
        self.active = self.home / ACTIVE
        self.completed = self.specs / "completed"
        self.failed = self.specs / "failed"
        self.archived = self.specs / "archived"
        self.pm_state = self.home / PM_STATE
        self.pm_heartbeat = self.home / PM_HEARTBEAT
        self.checkins = self.home / CHECKINS
        self.events = self.home / EVENTS
        self.pm_activity = self.coordination / "pm-activity.jsonl"
        self.dashboard_events = self.coordination / "dashboard-events.jsonl"
        self.health_metrics = self.coordination / "worker-health-metrics.jsonl"
        self.task_queue = self.coordination / "task-queue.json"
        self.agents = self.home / "agents"
        self.agents_workers = self.home / AGENTS_WORKERS
        self.agents_worker_logs = self.home / AGENTS_WORKER_LOGS

    def relative(self, path: str | os.PathLike[str]) -> str:
        """Write a path relative to the home; one that is not below it comes back absolute."""
        absolute = os.path.normpath(os.path.join(self.home, path))  # noqa: PTH118 - links stay as they are written
        for root in (str(self.home), self.real_home):
            if absolute == root:
                return "."
            if absolute.startswith(root.rstrip("/") + "/"):
                return absolute[len(root.rstrip("/")) + 1 :]
        return absolute

    def worker_dir(self, worker_id: str) -> str:
        """Return the path of ``agents/workers/<id>``, or "" for an id that is no safe single part of a path."""
        return f"{self.home}/{AGENTS_WORKERS}/{worker_id}" if is_path_part(worker_id) else ""

    def inside(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path stays inside the home when every link in it is followed."""
        try:
            real = os.path.realpath(os.path.join(self.home, path))  # noqa: PTH118 - hot, and may hold any byte
        except (OSError, ValueError):
            return False
        return real == self.real_home or real.startswith(self.real_home.rstrip("/") + "/")

    def is_log(self, relative: str) -> bool:
        """Whether a path relative to the home is one of the JSON logs that are read as streams."""
        if relative in FIXED_LOGS:
            return True
        folder, _, name = relative.rpartition("/")
        return folder == EVENTS and name.endswith(".jsonl")

    def log_paths(self) -> list[str]:
        """List the JSON logs that are there, relative to the home; not those in ``events/archive``."""
        found = [path for path in FIXED_LOGS if os.path.lexists(self.home / path)]
        try:
            names = sorted(os.listdir(self.events)) if self.inside(self.events) else []  # noqa: PTH208 - names only
        except OSError:
            names = []
        return found + [f"{EVENTS}/{name}" for name in names if name.endswith(".jsonl")]


def is_path_part(name: str) -> bool:
    """Whether a name can be one part of a path and nothing else."""
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        return False
    try:
        return len(os.fsencode(name)) <= 255
    except UnicodeEncodeError:
        return False
