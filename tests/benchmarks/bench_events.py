"""The events page at 1,000,000 events: its first page, then page by page, against the same queries in raw SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .django_here import set_up
from .figures import Figure, timed

EVENTS = 1_000_000
DEEP = 200  # pages into the past
TYPES = ("worker_stalled", "timeout_exceeded", "zombie_detected", "pm_loop_completed")
VIEWS = ("", "type=zombie_detected", "worker=worker-scan-017", "source=coordination/pm-activity.jsonl")


def run(directory: Path) -> Iterator[Figure]:
    set_up(directory)
    _fill(directory / "bench.sqlite3")
    from django.http import QueryDict

    from workers.queries.events import EventQuery, events

    for view in VIEWS:
        query = EventQuery.parse(QueryDict(view))
        yield _figure(f"events, first page{f' of {view}' if view else ''}", query, directory)
    query = EventQuery()
    for _ in range(DEEP):
        older = events(query).older
        if older is None:
            raise RuntimeError("the stream ends too early")
        query = older
    yield _figure(f"events, page {DEEP + 1}", query, directory)
    yield _whole_page()


def _figure(name: str, query: Any, directory: Path) -> Figure:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        query.rows()
    statements = [each["sql"] for each in captured.captured_queries]

    def raw() -> None:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                cursor.fetchall()

    seconds, floor = timed(query.rows, rounds=51), timed(raw, rounds=51)
    return Figure(
        name=f"{name} of {EVENTS:,}",
        value=seconds * 1000,
        unit="ms",
        floor=floor * 1000,
        floor_name="the same query in raw SQL",
        reach=3,
    )


def _whole_page() -> Figure:
    from django.contrib.auth.models import Group, User
    from django.test import Client

    user = User.objects.create_user("bench")
    user.groups.set([Group.objects.get(name="viewer")])
    client = Client(SERVER_NAME="localhost")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    if client.get("/events/").status_code != 200:
        raise RuntimeError("/events/ does not answer")
    return Figure("events, whole page in the server", timed(lambda: client.get("/events/")) * 1000, "ms", reach=100)


def _fill(database: Path) -> None:
    """Store the events as a poller would have, but in one go."""
    from workers.models import EventCount, LogFile

    paths = ("coordination/pm-activity.jsonl", "coordination/events/heartbeat-events.jsonl")
    logs = [LogFile.objects.create(host="bench", path=path).pk for path in paths]
    began = datetime(2026, 1, 1, tzinfo=UTC)
    with closing(sqlite3.connect(database)) as raw:
        raw.executemany(
            "INSERT INTO workers_event (log_id, generation, offset, at, stored_at, type, worker_id, data) "
            "VALUES (?, 0, ?, ?, ?, ?, ?, ?)",
            (
                (
                    logs[number % 10 == 0],
                    number * 200,
                    (began + timedelta(seconds=number * 2)).isoformat(" ")[:-6],
                    began.isoformat(" ")[:-6],
                    TYPES[number % 4],
                    "" if number % 4 == 3 else f"worker-scan-{number % 400:03}",
                    '{"event":"x","data":{"minutes_since_checkin":25,"age_minutes":61,"process_found":false}}',
                )
                for number in range(EVENTS)
            ),
        )
        raw.commit()
    days = range(EVENTS * 2 // 86400 + 1)
    EventCount.objects.bulk_create(
        EventCount(log_id=log, day=(began + timedelta(days=day)).date(), type=kind, count=10_000)
        for log in logs
        for day in days
        for kind in TYPES
    )
