"""``manage.py explain ID``: the verdict on one worker with all its reasons."""

from __future__ import annotations

from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from workers import queries
from workers.checks import HOME
from workers.database import ensure_migrated
from workers.models import Poller, Worker

SIGNS = {"for": "+", "against": "-", "note": " "}


class Command(BaseCommand):
    requires_system_checks = [HOME]
    help = "Say why a worker is judged as it is: every reason for and against, and what would turn it healthy."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", metavar="ID", help="worker id; ID@CREATED_AT for an earlier run")
        parser.add_argument("--json", action="store_true", help="one JSON object as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_migrated()
        worker = queries.run_by_name(options["id"])
        if worker is None:
            raise CommandError(f"no worker has the id {options['id']}", returncode=2)
        if options["json"]:
            self.stdout.write(orjson.dumps(_explanation(worker), option=orjson.OPT_UTC_Z).decode())
            return
        self.stdout.write(f"{worker.worker_id} is {worker.health}, since {_clock(worker.health_since)}")
        for reason in worker.reasons:
            at = f" ({reason['at']})" if reason.get("at") else ""
            self.stdout.write(f"  {SIGNS[reason['side']]} {reason['text']}{at}")
            self.stdout.write(f"      {reason['source']}")
        if worker.remedy:
            self.stdout.write(f"What would turn it healthy: {worker.remedy}")
        self.stdout.write(f"As of {_clock(_as_of(worker))}")


def _explanation(worker: Worker) -> dict[str, Any]:
    return {
        "worker_id": worker.worker_id,
        "created_at": worker.created_at,
        "host": worker.host,
        "path": worker.path,
        "health": worker.health,
        "health_since": worker.health_since,
        "reasons": worker.reasons,
        "remedy": worker.remedy,
        "overdue": worker.overdue,
        "not_checking_in": worker.not_checking_in,
        "pm_health": worker.pm_health,
        "pm_disagrees": worker.pm_disagrees,
        "as_of": _as_of(worker),
    }


def _as_of(worker: Worker) -> Any:
    return Poller.objects.filter(host=worker.host).values_list("last_cycle_at", flat=True).first() or worker.as_of


def _clock(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
