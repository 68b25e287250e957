"""The page of history over 30 days: 1,000,000 events, 20,000 incidents, 10,000 runs, 60,000 changes of verdict."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from . import bench_events
from .django_here import set_up
from .figures import Figure, timed

RUNS, INCIDENTS, CHANGES = 10_000, 20_000, 60_000
ADDRESSES = ("?range=30d", "?range=30d&group=worker_type", "?range=30d&zone=Europe/Berlin", "?range=7d")
TEXTS = (
    "Spec says failed: Connection reset by peer after {n} retries",
    "Spec says failed: /srv/relay/work/{n}/build.log: exit status {n}",
    "Spec says failed: rate limited (429), request req-{n}f3a asked to wait {n} s",
    "Process {n} disappeared at 2026-11-20T10:{m}:00Z",
    "Spec says failed: the start script ended with an error",
)


def run(directory: Path) -> Iterator[Figure]:
    set_up(directory)
    bench_events._fill(directory / "bench.sqlite3")
    fill(datetime.now(UTC))
    from django.contrib.auth.models import Group, User
    from django.test import Client

    user = User.objects.create_user("bench")
    user.groups.set([Group.objects.get(name="viewer")])
    client = Client(SERVER_NAME="localhost")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    for address in ADDRESSES:
        if client.get(f"/history/{address}").status_code != 200:
            raise RuntimeError(f"/history/{address} does not answer")
        seconds = timed(lambda address=address: client.get(f"/history/{address}"))  # type: ignore[misc]
        yield Figure(f"history{address}, whole page in the server", seconds * 1000, "ms", reach=300)
    for part in ("more", "measured"):  # what the page asks for by itself, once it is there
        seconds = timed(lambda part=part: client.get(f"/history/{part}/?range=30d"))  # type: ignore[misc]
        yield Figure(f"history/{part}/?range=30d, in the server", seconds * 1000, "ms", reach=600)


def fill(now: datetime) -> None:
    """Store 30 days of a busy fleet: each run changes six times and gets into trouble twice."""
    from workers.health import Health
    from workers.models import HealthChange, Mark, Poller, PollerGap, Worker

    dice = random.Random(7)
    Poller.objects.create(host="bench", home="/", started_at=now - timedelta(days=40), last_cycle_at=now)
    day = timedelta(days=1)
    gaps = [PollerGap(host="bench", began=now - day * at, ended=now - day * at + day / 8) for at in range(1, 30, 3)]
    PollerGap.objects.bulk_create(gaps)
    Mark.objects.bulk_create(
        Mark(host="bench", at=now - day * at, kind=Mark.Kind.PM_START, text="PM daemon started") for at in range(20)
    )
    runs = []
    for number in range(RUNS):
        created = now - day * 30 * dice.random()
        health = dice.choice([Health.COMPLETED, Health.FAILED, Health.HEALTHY, Health.COMPLETED])
        ended = min(created + timedelta(minutes=dice.randrange(4, 300)), now)
        runs.append(_run(number, created, ended, health))
    runs = Worker.objects.bulk_create(runs, batch_size=400)
    changes = []
    words = [Health.PENDING, Health.HEALTHY, Health.LATE, Health.STALLED, Health.HEALTHY]
    for each in runs:
        assert each.created_at
        step, states = (each.health_since - each.created_at) / 6, [*words, Health(each.health)]
        for number, state in enumerate(states):
            old = states[number - 1].value if number else ""
            changes.append(HealthChange(worker=each, at=each.created_at + step * (number + 1), old=old, new=state))
    HealthChange.objects.bulk_create(changes, batch_size=2000)
    _troubles(dice, runs)


def _run(number: int, created: datetime, ended: datetime, health: Any) -> Any:
    from workers.models import Worker

    return Worker(
        host="bench",
        worker_id=f"worker-{number}",
        run_key=str(number),
        created_at=created,
        first_seen_at=created,
        path="x",
        directory="x",
        worker_type=f"type-{number % 7}-worker",
        master=f"master-{number % 4}",
        task_type=f"task-type-{number % 5}",
        task_id=f"task-{number}",
        retry_of=f"task-{number - 1}" if number % 20 == 1 else "",
        health=health,
        severity=health.severity,
        health_since=ended,
        ended_at=None if health == "healthy" else ended,
        error="Connection reset by peer after 5 retries" if health == "failed" else "",
        as_of=ended,
    )


def _troubles(dice: random.Random, runs: list[Any]) -> None:
    from workers.incidents import How, Kind
    from workers.models import Incident, RootCause

    causes = list(RootCause.objects.all()[:5])
    found = []
    for number in range(INCIDENTS):
        run = runs[number % len(runs)]
        kind = (Kind.STALLED, Kind.ZOMBIE, Kind.CRASHED, Kind.FAILED, Kind.OVERDUE)[dice.randrange(5)]
        detected = run.created_at + timedelta(minutes=dice.randrange(1, 60))
        lasts = timedelta(seconds=dice.randrange(10, 20_000))
        text = TEXTS[dice.randrange(5)].format(n=dice.randrange(100_000), m=dice.randrange(10, 60))
        found.append(
            Incident(
                host="bench",
                run=run,
                worker_id=run.worker_id,
                kind=kind,
                attempt=number // len(runs) + 1,
                began=detected - timedelta(seconds=dice.randrange(900)),
                detected=detected,
                resolved=detected + lasts,
                how=dice.choice(list(How)),
                acknowledged=detected + lasts / 3 if number % 3 == 0 else None,
                cause=text,
                root_cause=dice.choice(causes) if causes and number % 4 == 0 else None,
            )
        )
    Incident.objects.bulk_create(found, batch_size=1000)
