"""How the fleet is set up to prevent failures, put together for the poller's row; and the disk that it lies on."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from .coordination.layout import Layout
from .coordination.prevention import PreventionReader
from .coordination.records import DaemonTrace, FleetAlert, HealthAlerts, PmState, Process

LOOK_EVERY = timedelta(seconds=10)
DISK_EVERY = timedelta(minutes=1)
#: A process that started this much later than its pid was written down is another one that was given the number.
SAME_PROCESS = timedelta(seconds=2)
COMMAND = 300  # characters of a command line

Document = dict[str, Any]


def _zombie_threshold(alerts: HealthAlerts) -> float | None:
    """The number of zombies at which the fleet itself raises an alert; rules of ours take it as their own."""
    told = [each.threshold for each in alerts.alerts if each.type == "zombie_threshold" and each.threshold]
    return min(told, default=None)


class Rounds:
    """Looks now and then at what is no part of a verdict, and remembers when it did."""

    def __init__(self, layout: Layout, living: Callable[[int], Process | None]) -> None:
        self.reader = PreventionReader(layout)
        self.living = living
        self._home = layout.home
        self._looked_at: datetime | None = None
        self._disk_at: datetime | None = None

    def look(self, now: datetime, pm: PmState, alerts: HealthAlerts) -> Document | None:
        """Say all that there is to say, as JSON, at most once in :data:`LOOK_EVERY`; None in between."""
        if self._looked_at and timedelta() <= now - self._looked_at < LOOK_EVERY:
            return None
        self._looked_at = now
        found = self.reader.look(now.timestamp())
        return {
            "types": [
                {
                    "type": each.worker_type,
                    "minutes": each.time_limit_minutes,
                    "source": each.source,
                    "description": each.description,
                }
                for each in found.types
            ],
            "looked": [list(each) for each in found.looked],
            "notes": [[note.path, note.text] for note in found.notes],
            "settings": [list(each) for each in pm.settings],
            "numbers": pm.configuration,
            "daemons": [self._daemon(each) for each in found.daemons],
            "pm_command": self._command(pm.daemon.pid),
            "pm_status": pm.daemon.status,
            "alerts": [_alert(each) for each in alerts.alerts],
            "alerts_there": alerts.there,
            "zombie_threshold": _zombie_threshold(alerts),
            "alert_notes": list(alerts.notes),
        }

    def disk(self, now: datetime) -> tuple[int, int] | None:
        """Measure the bytes that are free, and all, where the home lies; once a minute, else None."""
        if self._disk_at and timedelta() <= now - self._disk_at < DISK_EVERY:
            return None
        try:
            disk = os.statvfs(self._home)
        except OSError:
            return None
        self._disk_at = now
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def _daemon(self, trace: DaemonTrace) -> Document:
        """Describe a daemon, with what has become of the process that its file names."""
        process = self.living(trace.pid) if trace.pid else None
        state = ""
        if trace.pid:
            state = "gone" if process is None else "alive"
        if process and process.started_at > trace.written_at + SAME_PROCESS:
            state = "another"
        return {
            "name": trace.name,
            "path": trace.path,
            "pid": trace.pid,
            "state": state,
            "command": " ".join(process.argv)[:COMMAND] if process else "",
            "started_at": process.started_at.isoformat() if process else None,
            "written_at": trace.written_at.isoformat(),
            "beat_at": trace.beat_at.isoformat() if trace.beat_at else None,
            "status": trace.status,
            "loops": trace.loops,
        }

    def _command(self, pid: int | None) -> str:
        process = self.living(pid) if pid else None
        return " ".join(process.argv)[:COMMAND] if process else ""


def _alert(alert: FleetAlert) -> Document:
    return {
        "id": alert.id,
        "type": alert.type,
        "severity": alert.severity,
        "status": alert.status,
        "message": alert.message,
        "created_at": alert.created_at.isoformat() if alert.created_at else None,
        "threshold": alert.threshold,
        "metric_value": alert.metric_value,
        "workers": list(alert.workers),
    }
