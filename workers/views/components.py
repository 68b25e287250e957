"""Every component in every state, for those who work on the look."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers.health import OVER, Health
from workers.incidents import Kind
from workers.models import Incident, Poller, Remediation, RemediationBatch, RemediationStep, RootCause, Worker
from workers.queries import Counts, FleetQuery, News, Row, Tile, Watch, Watches
from workers.queries.incidents import IncidentRow
from workers.queries.lights import Light, State
from workers.remediation.actions import OF_A_RUN, objection
from workers.remediation.queries import BatchView, Button, Card, WorkerRepairs

from . import alert_samples, chart_samples
from .page import for_viewers, frame

EMPTY = ("no home", "no poller", "empty fleet", "no match")
LIVE_STATES = ("page", "live", "reconnecting", "stale", "out", "forbidden")
NOBODYS = 10**12  # keys that no row has, so that a button pressed here finds nothing


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
        "sample_lights": _lights(now),
        "empties": [{"empty": name} for name in EMPTY],
        "counts": none,
        "charts": chart_samples.GROUPS,
        "alerts": alert_samples.sample(now),
        "news": [News(3, 1, False), News(12, 0, False), News(0, 2, False), News(0, 0, True)],
    }
    context["troubles"] = _troubles(every[0], now)
    context |= _repairs(every[list(Health).index(Health.ZOMBIE)], awake, silent, now)
    return render(request, "workers/components.html", {**frame(now=now), **context})


def _watch(host: str, now: datetime, silence: float, error: str = "") -> Watch:
    """A poller that has been silent for so many seconds."""
    last = now - timedelta(seconds=silence)
    poller = Poller(host=host, last_cycle_at=last, lag_ms=46, error=error, unreadable=15, error_since=last)
    poller.pm_seen, poller.pm_alive, poller.pm_pid, poller.pm_last_loop = True, True, 36883, now - timedelta(minutes=2)
    return Watch(poller, now)


def _lights(now: datetime) -> list[list[Light]]:
    """A light of each state; and those of a host in the moment in which a browser finds its poller silent."""
    says = {
        State.OK: "12 MB",
        State.WARN: "9.1 GB free, 9 % of the disk",
        State.BAD: "“ops mail” fails: alerts do not get through",
        State.OFF: "Nobody has minded rules and messages yet",
        State.UNKNOWN: "Nobody has looked how much is free",
    }
    every = [Light(f"Sample {state}", state, text, now if state is State.BAD else None) for state, text in says.items()]
    old = Light("Sample poller", State.OK, "A cycle every 2 s takes 30 ms", host="sample-b", watchman=True)
    return [every, [old, Light("Sample daemon", State.OK, "It runs", host="sample-b")]]


def _counts(number: int) -> Counts:
    tiles = tuple(Tile(state, number, number > 0, "", state in OVER) for state in Health)
    return Counts(FleetQuery(), tiles, (), 0, 53, 0)


def _sample(state: Health, number: int, now: datetime) -> Worker:
    """A run in that state, with everything that a row can show."""
    began = now - timedelta(minutes=19)
    live = state in (Health.HEALTHY, Health.LATE, Health.STALLED)
    worker = Worker(
        id=NOBODYS + number, host="sample-a", worker_id=f"worker-sample-{number:03}", directory="active", live=True
    )
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


def _troubles(worker: Worker, now: datetime) -> list[IncidentRow]:
    """An incident of every kind, and one of every state that it can be in."""
    detected = now - timedelta(minutes=40)
    acknowledged = {"acknowledged": now - timedelta(minutes=30), "acknowledged_by": "kim"}
    over = {"resolved": now - timedelta(minutes=5), "how": "recovered by itself"}
    states: list[dict[str, Any]] = [
        {"note": "A note", "note_by": "kim"},
        {**acknowledged, "acknowledged_reason": "I look at the host", "root_cause": RootCause(name="A root cause")},
        {**acknowledged, **over},
        {**over, "how": "no longer reported", "from_log": True, "began_known": False},
        {**over, "how": "turned into another kind"},
    ]
    rows = []
    for number, (kind, state) in enumerate(zip(Kind, states, strict=True), 1):
        it = Incident(pk=NOBODYS + number, run=worker, worker_id=worker.worker_id, host=worker.host, kind=kind.value)
        it.began, it.detected, it.cause = detected - timedelta(minutes=20), detected, "Why it is so"
        for name, value in state.items():
            setattr(it, name, value)
        rows.append(IncidentRow(it, timedelta(minutes=7 * (number % 2)), now))
    return rows


# -- repairs


def _card(remediation: Remediation, watch: Watch, now: datetime) -> Card:
    """A card that asks no database."""
    lineage = ("task-1762553466", "task-1762553467") if remediation.new_task_id else ()
    return Card(remediation, watch, now, successor=Remediation(pk=NOBODYS), lineage=lineage)


def _repairs(worker: Worker, awake: Watch, silent: Watch, now: datetime) -> dict[str, Any]:
    """Buttons, cards, rows and sums of repairs of a worker."""
    cards = [
        _card(_repair(worker, state, number, now), awake, now)
        for number, state in enumerate(Remediation.State, NOBODYS + 1)
    ]
    cards.append(_card(_repair(worker, Remediation.State.CONFIRMED, NOBODYS + 90, now), silent, now))
    buttons = tuple(Button(action, objection(action, worker), action.name == "clean-up") for action in OF_A_RUN)
    states = Counter(card.state for card in cards)
    batch = RemediationBatch(pk=NOBODYS, action="clean-up", running=90)
    ended = Counter({Remediation.State.DONE.value: 11, Remediation.State.FAILED.value: 1})
    return {
        "pressing": {"worker": worker, "row": {"now": now}},
        "repairs": WorkerRepairs(worker, buttons, tuple(cards), cards[3], ("task-1", "task-2"), now),
        "cards": cards,
        "batches": [BatchView(batch, (), states), BatchView(batch, (), ended), BatchView(batch)],
    }


def _repair(worker: Worker, state: str, key: int, now: datetime) -> Remediation:
    """A force-fail in that state, with everything that a card can show."""
    ended = state in (Remediation.State.DONE, Remediation.State.FAILED)
    begun = ended or state == Remediation.State.RUNNING
    it = Remediation(id=key, host=worker.host, action="force-fail", worker=worker, state=state, actor="kim")
    it.via, it.address, it.reason, it.requested_at = "browser", "192.0.2.7", "It hung on the network", now
    process = {"pid": 41207, "command": "/bin/bash ./execute.sh", "part": "worker"}
    diff = [["-", '"status": "running"'], ["+", '"status": "failed"']]
    steps = [
        ("evidence", worker.worker_id, "Keep the ends of its logs and its process tree with this record", {}),
        ("stop", "41207", "SIGTERM to process 41207; SIGKILL after 10 s", {"processes": [process]}),
        ("move", "coordination/worker-specs/failed/x.json", "Move the spec, with these changes, to", {"diff": diff}),
    ]
    it.plan = {
        "steps": [dict(zip(("kind", "target", "detail", "shown"), step, strict=True)) for step in steps],
        "warnings": ["The fleet's worker daemon would not start it again"] if state == "planned" else [],
        "asks": "Task task-1762553466 has been retried once already. Retry it again?" if state == "planned" else "",
    }
    if state == Remediation.State.PLANNING:
        it.plan = None
    it.error = {
        "failed": "Process 41207 does not go: it is in state D",
        "refused": "Its process has changed since the preview, so nothing was done; there is a new preview",
        "withdrawn": "Withdrawn by kim",
    }.get(state, "")
    if ended:
        it.confirmed_at = it.finished_at = now
        it.output = "Created task-1762553467"
        it.evidence = {"processes": [process], "logs": [{"path": "stdout.log", "bytes": 4096, "lines": ["Killed"]}]}
    it.new_task_id = "task-1762553467" if state == Remediation.State.DONE else ""
    words = {"done": ("done", "done", "done"), "failed": ("done", "failed", "skipped")}
    reached = words.get(state, ("done", "running", "pending"))
    journal = [
        RemediationStep(number=number, kind=kind, target=target, detail=detail, state=reached[number])
        for number, (kind, target, detail, _) in enumerate(steps)
    ]
    it._prefetched_objects_cache = {"steps": journal if begun else [], "undoings": []}  # type: ignore[attr-defined]
    return it
