"""One poller for each host and database. The place is free the moment its holder is dead, however it died.

A lock of the kernel (SQLite: on a file beside the database) or of the server (PostgreSQL: an advisory lock of a
session) goes with its holder. A row with a pid in it would not.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from .models import Poller


class PlaceTakenError(Exception):
    """Another process polls for this host and database; the message names it."""


class Lease:
    """Holds the place of a host's poller from ``acquire`` to ``release`` or death."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._file: int | None = None
        self._session: Any = None

    def acquire(self) -> None:
        """Take the place. Raises PlaceTakenError."""
        taken = not (self._lock_file() if connection.vendor == "sqlite" else self._lock_session())
        if not taken:
            return
        holder = Poller.objects.filter(host=self.host).first()
        who = (
            f"process {holder.pid}, since {holder.started_at:%Y-%m-%d %H:%M:%S} UTC"
            if holder and holder.pid and holder.started_at
            else "another process"
        )
        raise PlaceTakenError(
            f"{who} already polls for host “{self.host}” into this database; stop it first, "
            "or give this poller another RELAY_HOST"
        )

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._session is not None:
            with suppress(Exception):  # the session is gone, and the lock with it
                self._session.close()
            self._session = None

    def check(self) -> None:
        """Raise where the lock may have been lost: a session to the server can break, a file lock cannot."""
        if self._session is not None:
            self._session.execute("SELECT 1")

    def _lock_file(self) -> bool:
        database = Path(settings.DATABASES["default"]["NAME"]).resolve()  # one file, whatever it is called
        name = hashlib.sha256(self.host.encode()).hexdigest()[:16]
        path = database.with_name(f"{database.name}.poller-{name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._file = descriptor
        return True

    def _lock_session(self) -> bool:
        import psycopg

        key = int.from_bytes(hashlib.sha256(f"relay poller {self.host}".encode()).digest()[:8], "big", signed=True)
        parameters = {
            name: value
            for name, value in connection.get_connection_params().items()
            if name in ("dbname", "user", "password", "host", "port", "sslmode", "options")
        }
        self._session = psycopg.connect(**parameters, autocommit=True)
        row = self._session.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
        return bool(row and row[0])
