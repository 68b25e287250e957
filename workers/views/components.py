"""Every component in every state, for those who work on the look."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers import queries
from workers.health import Health
from workers.models import Poller, Worker
from workers.queries import Counts, FleetQuery, News, Row, Tile, Watch, Watches

from .page import for_viewers, frame

EMPTY = ("no home", "no poller", "empty fleet", "no match")
LIVE_STATES = ("page", "live", "reconnecting", "stale", "out", "forbidden")


@require_GET
@for_viewers
@staff_member_required
def components(request: HttpRequest) -> HttpResponse:
    """Show badges, tiles, rows, headers, banners, pills and empty states of a fleet that exists only on this page."""
    now = timezone.now()
    awake, silent = _watch("sample-a", now, 0.5), _watch("sample-b", now, 300, "worker-specs is missing")
    every = [_sample(state, number, now) for number, state in enumerate(Health, 1)]
    none = Counts(FleetQuery(), (), (), 0, 53, 0)
    context: dict[str, Any] = {
        "states": list(Health),
        "tiles": _counts(0),
        "chosen_tiles": _counts(12),
        "rows": [Row(worker, awake, now) for worker in every],
        "stale_rows": [Row(worker, silent, now) for worker in every],
        "sample": Watches((awake, silent)),
        "live_states": LIVE_STATES,
        "empties": [{"empty": name} for name in EMPTY],
        "counts": none,
        "news": [News(3, 1, False), News(12, 0, False), News(0, 2, False), News(0, 0, True)],
    }
    around = frame(queries.watches(now), queries.outbox_position(), now, "view=none")
    return render(request, "workers/components.html", {**around, **context})


def _watch(host: str, now: datetime, silence: float, error: str = "") -> Watch:
    """A poller that has been silent for so many seconds."""
    last = now - timedelta(seconds=silence)
    poller = Poller(host=host, last_cycle_at=last, lag_ms=46, error=error, unreadable=15, error_since=last)
    poller.pm_seen, poller.pm_alive, poller.pm_pid, poller.pm_last_loop = True, True, 36883, now - timedelta(minutes=2)
    return Watch(poller, now)


def _counts(number: int) -> Counts:
    tiles = tuple(Tile(state, number, number > 0, "", state in queries.ENDED) for state in Health)
    return Counts(FleetQuery(), tiles, (), 0, 53, 0)


def _sample(state: Health, number: int, now: datetime) -> Worker:
    """A run in that state, with everything that a row can show."""
    began = now - timedelta(minutes=19)
    live = state in (Health.HEALTHY, Health.LATE, Health.STALLED)
    worker = Worker(id=number, host="sample-a", worker_id=f"worker-sample-{number:03}", directory="active", live=True)
    worker.worker_type, worker.task_id, worker.description = "scan-worker", "task-1762553466", "A description"
    worker.health, worker.severity, worker.health_since, worker.as_of = state, state.severity, began, now
    worker.started_at, worker.time_limit_minutes, worker.progress_pct = began, 15 if live else 45, 8 * number
    worker.last_checkin_at, worker.overdue, worker.not_checking_in = began, live, state is Health.STALLED
    worker.pm_health, worker.pm_disagrees = ("", False) if number % 3 == 0 else ("healthy", number % 2 == 0)
    worker.reasons = [{"text": "Why it is so, in a plain sentence", "side": "for", "at": began.isoformat()}]
    if live:
        worker.pid, worker.process_count, worker.cpu_percent, worker.rss_bytes = 41207, 3, 38.4, 512_000_000
    elif state is Health.CRASHED:
        worker.process_gone_at = began
    return worker
