"""The tail of the outbox: notices within milliseconds that the poller has written something, at next to no cost.

Several writers may commit out of order, so an id below the highest one seen may still appear; it is looked for until
it does, or until it is so old that its transaction cannot be running any more.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from django.db import connections

if TYPE_CHECKING:
    import psycopg

#: How often SQLite is asked whether anybody has committed, in seconds.
TICK = 0.015
#: How long PostgreSQL waits for a notification before it looks anyway.
NET = 1.0
#: How long a missing id may still appear.
PATIENCE = 60.0
BATCH = 5000
TABLE = "workers_change"
CHANNEL = "relay_change"


class Entry(NamedTuple):
    """One row of the outbox."""

    id: int
    kind: str
    key: int | None


class Replaced(Exception):  # noqa: N818 - no error, an event
    """The database is not the one it was: what a page knows of positions means nothing any more."""


class Sequence:
    """The ids that were seen, and those below the highest that may still come."""

    def __init__(self, high: int) -> None:
        self.high = high
        self.missing: dict[int, float] = {}  # id -> when to give it up

    @property
    def position(self) -> int:
        """Everything up to here has been seen."""
        return min(self.missing, default=self.high + 1) - 1

    def take(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Keep account of these rows and return those that are new."""
        fresh = []
        for entry in entries:
            if entry.id > self.high:
                gap = range(max(self.high + 1, entry.id - BATCH), entry.id)
                self.missing.update(dict.fromkeys(gap, now + PATIENCE))
                self.high = entry.id
                fresh.append(entry)
            elif self.missing.pop(entry.id, None) is not None:
                fresh.append(entry)
        for late in [number for number, until in self.missing.items() if until < now]:
            del self.missing[late]
        return fresh


class Outbox(Protocol):
    """A tail that is open."""

    sequence: Sequence

    async def wait(self, seconds: float) -> list[Entry]:
        """Return what is new after at most that many seconds. Raises Replaced, and what the database raises."""

    async def close(self) -> None:
        """Give the connection back."""


async def open_outbox(high: int | None) -> Outbox:
    """Open the tail behind a position; None: at the end."""
    if connections["default"].vendor == "postgresql":
        return await PostgresOutbox.open(high)
    return SqliteOutbox(str(connections["default"].settings_dict["NAME"]), high)


def _select(sequence: Sequence) -> str:
    """The question for what is new: all behind the highest id, and those that were missing."""
    late = f" OR id IN ({','.join(map(str, sequence.missing))})" if sequence.missing else ""
    return f"SELECT id, kind, key FROM {TABLE} WHERE id > {sequence.high}{late} ORDER BY id LIMIT {BATCH}"  # noqa: S608


def news() -> Callable[[], bool]:
    """Make a question for a thread: has anybody committed since it was asked last? Where nobody can tell, always."""
    path = str(connections["default"].settings_dict["NAME"])
    if connections["default"].vendor != "sqlite":
        return lambda: True
    seen: list[Any] = [None, -1]  # the connection, made in the thread that asks, and its last answer

    def ask() -> bool:
        seen[0] = seen[0] or sqlite3.connect(path, timeout=0, isolation_level=None, uri=path.startswith("file:"))
        version = seen[0].execute("PRAGMA data_version").fetchone()[0]
        changed, seen[1] = version != seen[1], version
        return bool(changed)

    return ask


class SqliteOutbox:
    """A connection of its own that asks for ``data_version``: a few microseconds while nobody has written."""

    def __init__(self, path: str, high: int | None) -> None:
        self.path = path
        self.file = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False, uri=path.startswith("file:")
        )
        self.file.execute("PRAGMA query_only=1")
        self.inode = self._inode()
        self.looked = time.monotonic()
        self.version = -1
        last = self.file.execute(f"SELECT max(id) FROM {TABLE}").fetchone()[0] or 0  # noqa: S608 - a constant
        if high is not None and last < high and self._highest() < high:
            self.file.close()
            raise Replaced
        self.sequence = Sequence(last if high is None else high)

    def _inode(self) -> int:
        file = Path(self.path)
        return file.stat().st_ino if file.exists() else 0

    def _highest(self) -> int:
        """The highest id ever given, which outlives the rows."""
        row = self.file.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (TABLE,)).fetchone()
        return row[0] if row else 0

    async def wait(self, seconds: float) -> list[Entry]:
        """Return what is new, at once, or nothing when the time has passed.

        The looking is a timer's callback and not a task that sleeps: it takes one turn of the event loop, not two.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Entry]] = loop.create_future()
        end = loop.time() + seconds
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if found.done():  # whoever waited was cancelled in this very turn of the loop
                return
            try:
                entries = self._new()
            except Exception as error:
                found.set_exception(error)
                return
            if entries or loop.time() >= end:
                found.set_result(entries)
            else:
                timer = loop.call_later(min(TICK, max(0.0, end - loop.time())), look)

        timer = loop.call_later(min(TICK, seconds), look)
        try:
            return await found
        finally:
            timer.cancel()

    def _new(self) -> list[Entry]:
        """Look at this moment. Raises Replaced, and what the database raises; that it is locked means: nothing yet."""
        now = time.monotonic()
        if now - self.looked > 1:
            self.looked = now
            if self._inode() != self.inode:
                raise Replaced
        try:
            version = self.file.execute("PRAGMA data_version").fetchone()[0]
            if version == self.version:
                return []
            rows = self.file.execute(_select(self.sequence)).fetchall()
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return []  # the next tick asks again; nothing waits in the event loop
            raise
        if len(rows) < BATCH:
            self.version = version
        return self.sequence.take(map(Entry._make, rows), now)

    async def close(self) -> None:
        self.file.close()


class PostgresOutbox:
    """A connection of its own that listens; a timer is the net under notifications that get lost."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], sequence: Sequence) -> None:
        self.connection = connection
        self.sequence = sequence
        self.looked = 0.0

    @classmethod
    async def open(cls, high: int | None) -> PostgresOutbox:
        import psycopg

        known = connections["default"].get_connection_params()
        wanted = {name: value for name, value in known.items() if name not in ("cursor_factory", "context", "pool")}
        connection = await psycopg.AsyncConnection.connect(**wanted, autocommit=True)
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
            row = await (await connection.execute(f"SELECT last_value FROM {TABLE}_id_seq")).fetchone()  # noqa: S608
            if high is not None and row and row[0] < high:
                raise Replaced
            recent = f"SELECT id, kind, key FROM {TABLE} WHERE at > now() - interval '{PATIENCE:g} s' ORDER BY id"  # noqa: S608
            entries = [Entry._make(entry) for entry in await (await connection.execute(recent)).fetchall()]
            last = await (await connection.execute(f"SELECT max(id) FROM {TABLE}")).fetchone()  # noqa: S608
            start = high if high is not None else (entries[0].id - 1 if entries else (last and last[0]) or 0)
            sequence = Sequence(start)
            if high is None:
                sequence.take(entries, time.monotonic())  # remembers which of the recent ids may still come
            return cls(connection, sequence)
        except BaseException:
            await connection.close()
            raise

    async def wait(self, seconds: float) -> list[Entry]:
        heard = [note async for note in self.connection.notifies(timeout=min(NET, seconds), stop_after=1)]
        now = time.monotonic()
        if not heard and now - self.looked < NET:
            return []
        self.looked = now
        cursor = await self.connection.execute(_select(self.sequence).encode())
        rows = await cursor.fetchall()
        return self.sequence.take(map(Entry._make, rows), now)

    async def close(self) -> None:
        await self.connection.close()
