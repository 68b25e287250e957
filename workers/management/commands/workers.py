"""``manage.py workers``: the runs with their last stored verdict."""

from __future__ import annotations

from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandParser

from workers.checks import HOME
from workers.database import ensure_migrated
from workers.health import Health
from workers.models import Poller, Worker


class Command(BaseCommand):
    requires_system_checks = [HOME]
    help = "List the live runs with the last stored verdict, worst first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--health", choices=[health.value for health in Health], help="only runs of this health")
        parser.add_argument("--all", action="store_true", help="every run, not only the live ones")
        parser.add_argument("--json", action="store_true", help="one JSON array as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_migrated()
        runs = Worker.objects.order_by("severity", "health_since", "worker_id")
        if not options["all"]:
            runs = runs.filter(live=True)
        if options["health"]:
            runs = runs.filter(health=options["health"])
        confirmed = dict(Poller.objects.values_list("host", "last_cycle_at"))
        if options["json"]:
            rows = [_row(run, confirmed.get(run.host)) for run in runs.iterator(chunk_size=2000)]
            self.stdout.write(orjson.dumps(rows, option=orjson.OPT_UTC_Z).decode())
            return
        count = 0
        for run in runs.iterator(chunk_size=2000):
            count += 1
            self.stdout.write(f"{run.health:<11} {run.worker_id:<36} {run.main_reason}")
        self.stdout.write(f"{count} run{'' if count == 1 else 's'}")


def _row(run: Worker, confirmed: Any) -> dict[str, object]:
    """One run as contracted in DESIGN, section 3."""
    return {
        "worker_id": run.worker_id,
        "created_at": run.created_at,
        "path": run.path,
        "host": run.host,
        "worker_type": run.worker_type,
        "task_id": run.task_id,
        "status": run.status,
        "health": run.health,
        "reasons": run.reasons,
        "pid": run.pid,
        "started_at": run.started_at,
        "last_checkin_at": run.last_checkin_at,
        "progress_pct": run.progress_pct,
        "time_limit_minutes": run.time_limit_minutes,
        "overdue": run.overdue,
        "pm_health": run.pm_health,
        "as_of": confirmed or run.as_of,
    }
