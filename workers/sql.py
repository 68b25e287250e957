"""Rows in bulk by plain SQL, on SQLite and PostgreSQL.

At a cold start, tens of thousands of model instances would cost more than all the reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import orjson
from django.db import connection, models

from .models import Change

T = TypeVar("T")
Row = tuple[Any, ...]


#: Records of one moment come together, and writing a time out takes a microsecond.
_TEXTS: dict[datetime, str] = {}


def moment(value: datetime | None) -> Any:
    """A time as the database takes it without going through a model field."""
    if value is None or not _sqlite():
        return value
    text = _TEXTS.get(value)
    if text is None:
        if len(_TEXTS) >= 32_768:
            _TEXTS.clear()
        text = _TEXTS[value] = value.isoformat(" ")[:-6]  # all times are in UTC, so what is cut off is +00:00
    return text


@cache
def _sqlite() -> bool:
    """Whether times go in as text. Asked for every value, so the connection is only asked once."""
    return connection.vendor == "sqlite"


def as_json(value: object) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode()


def columns_of(model: type[models.Model], names: Iterable[str]) -> list[str]:
    columns = {field.name: field.column for field in model._meta.concrete_fields}
    return [connection.ops.quote_name(columns[name] or name) for name in names]


def insert(model: type[models.Model], names: Sequence[str], rows: Iterable[Row]) -> None:
    """Insert rows of adapted values in the order of the named fields."""
    if not (rows := list(rows)):
        return
    columns = columns_of(model, names)
    places = ", ".join(["%s"] * len(columns))
    sql = f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


def update(model: type[models.Model], names: Sequence[str], rows: Iterable[Row]) -> None:
    """Update rows by primary key, which is the last value of each row."""
    if not (rows := list(rows)):
        return
    columns = ", ".join(f"{column} = %s" for column in columns_of(model, names))
    (key,) = columns_of(model, [model._meta.pk.name])
    sql = f"UPDATE {model._meta.db_table} SET {columns} WHERE {key} = %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


def reserve_ids(model: type[models.Model], count: int) -> list[int]:
    """Reserve primary keys, so that rows which refer to one another can be inserted in bulk."""
    if not count:
        return []
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
            first = (row[0] if (row := cursor.fetchone()) else 0) + 1
            return list(range(first, first + count))
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", [table, count])
        return [row[0] for row in cursor.fetchall()]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most the given size."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def announce(kind: Change.Kind, keys: Sequence[int], now: datetime) -> None:
    """Put rows into the outbox, in the transaction that makes them true; on PostgreSQL wake the tails as well."""
    if not keys:
        return
    insert(Change, ("kind", "key", "at"), [(kind.value, key, moment(now)) for key in keys])
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("NOTIFY relay_change")


def read_moment(value: Any) -> datetime | None:
    """The inverse of ``moment``: SQLite gives times back without the zone, which is always UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
