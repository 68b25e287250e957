"""The admin at 100,000 runs and 1,000,000 events: every list of what was observed, and one search in each big one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .django_here import set_up
from .figures import Figure, timed

WORKERS, EVENTS, CHANGES, REPAIRS = 100_000, 1_000_000, 400_000, 20_000
TYPES = ("worker_stalled", "timeout_exceeded", "zombie_detected", "pm_loop_completed")
PAGES = (
    "worker/",
    "worker/?p=200",
    "worker/?q=worker-scan-0501",
    "worker/?q=nothing-like-it",
    "worker/?health=zombie&host=bench",
    "worker/?health=crashed",
    "worker/?live=0",
    "worker/?host=nowhere",
    "event/",
    "event/?p=200",
    "event/?q=worker-scan-050123",
    "event/?q=zombie_detected",
    "event/?q=nothing-like-it",
    "event/?type=worker_stalled&within=7d",
    "event/?log__id__exact=2",
    "healthchange/",
    "healthchange/?q=worker-scan-050123",
    "healthchange/?worker__id__exact=50123",
    "remediation/",
    "remediation/?state=done&within=7d",
    "remediation/?q=worker-scan-000123",
    "logfile/",
    "eventcount/",
    "pollergap/",
    "finding/",
    "installation/database/",
    "worker/50123/change/",
    "event/500123/change/",
)


def run(directory: Path) -> Iterator[Figure]:
    set_up(directory)
    _fill(directory / "bench.sqlite3")
    from django.contrib.auth.models import Group, User
    from django.test import Client

    user = User.objects.create_user("bench", is_staff=True)
    user.groups.set([Group.objects.get(name="admin")])
    client = Client(SERVER_NAME="localhost")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    for page in PAGES:
        address = f"/admin/workers/{page}"
        if (status := client.get(address).status_code) != 200:
            raise RuntimeError(f"{address} answers {status}")
        seconds = timed(lambda address=address: client.get(address), rounds=5)
        yield Figure(f"admin {page}, {WORKERS:,} runs, {EVENTS:,} events", seconds * 1000, "ms", reach=300)


def _fill(database: Path) -> None:
    """Store it all as a poller would have, but in one go."""
    from tests import factories
    from workers.health import Health
    from workers.models import EventCount, Finding, LogFile, PollerGap, Remediation, Worker

    factories.poller("bench")
    states = (Health.COMPLETED, Health.FAILED, Health.HEALTHY, Health.ZOMBIE)
    now = datetime.now(UTC)
    Worker.objects.bulk_create(
        (
            factories.build(states[number % 4], number, now, host="bench", worker_id=f"worker-scan-{number:06}")
            for number in range(WORKERS)
        ),
        batch_size=500,
    )
    paths = ("coordination/pm-activity.jsonl", "coordination/events/heartbeat-events.jsonl")
    logs = [LogFile.objects.create(host="bench", path=path, records=EVENTS // 2).pk for path in paths]
    first = Worker.objects.order_by("pk").values_list("pk", flat=True)[0]
    began = now - timedelta(seconds=EVENTS * 2)
    moments = [(began + timedelta(seconds=number * 2)).isoformat(" ")[:-6] for number in range(EVENTS)]
    with closing(sqlite3.connect(database)) as raw:
        raw.executemany(
            "INSERT INTO workers_event (log_id, generation, offset, at, stored_at, type, worker_id, data) "
            "VALUES (?, 0, ?, ?, ?, ?, ?, ?)",
            (
                (
                    logs[number % 10 == 0],
                    number * 200,
                    moments[number],
                    moments[number],
                    TYPES[number % 4],
                    "" if number % 4 == 3 else f"worker-scan-{number % WORKERS:06}",
                    '{"event":"x","data":{"minutes_since_checkin":25,"age_minutes":61,"process_found":false}}',
                )
                for number in range(EVENTS)
            ),
        )
        raw.executemany(
            "INSERT INTO workers_healthchange (worker_id, at, attempt, old, new, reason) VALUES (?, ?, 1, ?, ?, ?)",
            (
                (first + number % WORKERS, moments[number * 2], "healthy", "zombie", "no process of its own was found")
                for number in range(CHANGES)
            ),
        )
        raw.commit()
    Remediation.objects.bulk_create(
        (
            Remediation(
                host="bench",
                action="clean-up",
                worker_id=first + number,
                state=Remediation.State.DONE,
                actor="operator",
                via="browser",
                requested_at=began + timedelta(minutes=number),
            )
            for number in range(REPAIRS)
        ),
        batch_size=500,
    )
    days = [(began + timedelta(days=day)).date() for day in range(EVENTS * 2 // 86400 + 1)]
    EventCount.objects.bulk_create(
        EventCount(log_id=log, day=day, type=kind, count=10_000) for log in logs for day in days for kind in TYPES
    )
    PollerGap.objects.bulk_create(
        PollerGap(host="bench", began=began + timedelta(hours=hour), ended=began + timedelta(hours=hour, minutes=5))
        for hour in range(500)
    )
    Finding.objects.bulk_create(
        Finding(host="bench", kind=Finding.Kind.UNREADABLE, path=f"active/{number}.json", detail="not JSON", since=now)
        for number in range(2_000)
    )
