"""How large the database is, how much of what it holds, and what will be pruned next. Cheap at any size.

Nothing large is counted: of a table with more rows than COUNTED, SQLite is asked for the keys at both ends, and
PostgreSQL for what it last knew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.models import Model, Sum

from workers.models import Event, EventCount, LogFile

#: Rows that are counted one by one.
COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of row, and how many of it there are."""

    name: str  # in words, plural
    rows: int
    exact: bool
    word: str  # "", or what kind of a number it is: "about", "at most"
    bytes: int | None = None  # with indexes; None where the database does not say


@dataclass(frozen=True, slots=True)
class Database:
    """The database at one moment."""

    engine: str
    place: str  # the file, or the name of the database and its server
    bytes: int | None  # without its log of writes
    wal_bytes: int | None  # the log of writes that are not in the file yet; None where there is no such file
    tables: tuple[Table, ...]  # most rows first
    oldest_event: datetime | None  # as the records say
    newest_event: datetime | None
    events_read: int  # records of all logs ever, pruned ones included
    events_damaged: int
    events_counted: int  # what the counts by day say, which outlive the events
    kept: timedelta  # for how long an event is kept after it was stored
    oldest_stored: datetime | None  # what is pruned next was stored then …
    pruned_from: datetime | None  # … and goes at this moment
    overdue: bool  # it should be gone already: the poller prunes, and may not run


def database(now: datetime) -> Database:
    kept = timedelta(days=settings.RELAY_EVENT_DAYS)
    # Keys rise with the time of storing, which has no index of its own
    oldest_stored = Event.objects.order_by("pk").values_list("stored_at", flat=True).first()
    timed = Event.objects.filter(at__isnull=False)
    read = LogFile.objects.aggregate(records=Sum("records"), damaged=Sum("damaged"))
    engine, place, size, wal = _storage()
    return Database(
        engine=engine,
        place=place,
        bytes=size,
        wal_bytes=wal,
        tables=_tables(),
        oldest_event=timed.order_by("at", "id").values_list("at", flat=True).first(),
        newest_event=timed.order_by("-at", "-id").values_list("at", flat=True).first(),
        events_read=read["records"] or 0,
        events_damaged=read["damaged"] or 0,
        events_counted=EventCount.objects.aggregate(n=Sum("count"))["n"] or 0,
        kept=kept,
        oldest_stored=oldest_stored,
        pruned_from=oldest_stored + kept if oldest_stored else None,
        overdue=bool(oldest_stored and oldest_stored + kept + timedelta(hours=1) < now),
    )


def _storage() -> tuple[str, str, int | None, int | None]:
    """Engine, place, size and size of the log of writes."""
    if connection.vendor == "sqlite":
        path = Path(str(connection.settings_dict["NAME"]))
        wal = path.with_name(f"{path.name}-wal")
        return "SQLite", str(path), _size(path), _size(wal)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), pg_database_size(current_database()), version()")
        name, size, version = cursor.fetchone()
    host = connection.settings_dict.get("HOST") or "this host"
    return " ".join(version.split()[:2]), f"{name} on {host}", int(size), None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _tables() -> tuple[Table, ...]:
    models = apps.get_app_config("workers").get_models()
    guesses = _guesses() if connection.vendor == "postgresql" else {}
    found = [_table(model, *guesses.get(model._meta.db_table, (None, None))) for model in models]
    return tuple(sorted(found, key=lambda table: (-table.rows, table.name)))


def _table(model: type[Model], guess: int | None, size: int | None) -> Table:
    name = str(model._meta.verbose_name_plural)
    counted = model._default_manager.order_by()[: COUNTED + 1].count()
    if counted <= COUNTED:
        return Table(name, counted, True, "", size)
    if guess is not None and guess > COUNTED:
        return Table(name, guess, False, "about", size)
    # Keys are given once and rows go from the front, so the distance of the ends is never less than the rows
    keys: Any = model._default_manager.order_by("pk").values_list("pk", flat=True)
    first, last = keys.first(), keys.last()
    return Table(name, int(last) - int(first) + 1, False, "at most", size)


def _guesses() -> dict[str, tuple[int, int]]:
    """What PostgreSQL last knew of rows, and its sizes, by table."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, reltuples, pg_total_relation_size(oid) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
        return {name: (int(rows), int(size)) for name, rows, size in cursor.fetchall()}
