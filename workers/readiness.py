"""Whether this process is of use to somebody: what a load balancer asks before it sends visitors.

Reasons are for strangers: no path, no name, no words of a database's error. Three small queries at most.
"""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from .models import Poller
from .queries.lights import State, database, disk_state
from .queries.watch import Watch


def checks() -> dict[str, str]:
    """Run all checks: name -> why it fails, in one short sentence; "" where it is well. Raises nothing."""
    try:
        unapplied = _unapplied()
    except DatabaseError:
        return {"database": "It cannot be read", "migrations": "Nobody can tell", "poller": "Nobody can tell"}
    found = {"database": "", "migrations": unapplied, "poller": "", "disk": ""}
    watch = None
    if not unapplied:
        try:
            watch = _watch()
            found["poller"] = _poller(watch)
        except DatabaseError:
            found["poller"] = "Nobody can tell"
    else:
        found["poller"] = "Nobody can tell"
    found["disk"] = _disk(watch)
    return found


@cache
def _newest() -> frozenset[tuple[str, str]]:
    """The last migration of each app, as this version of the code has it. Reading them all takes a moment, once."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def _unapplied() -> str:
    """Read the database, and compare its schema with what the code expects."""
    applied = MigrationRecorder(connection).applied_migrations()
    return "" if _newest() <= set(applied) else "The database is not up to date with this version"


def _watch() -> Watch | None:
    poller = Poller.objects.filter(host=settings.RELAY_HOST).first()
    return Watch(poller, timezone.now()) if poller else None


def _poller(watch: Watch | None) -> str:
    """The poller of the host that was configured; a web process that has no home of its own may do without."""
    if watch is None:
        return "It has never reported" if settings.RELAY_HOME else ""
    if not watch.silent:
        return ""
    last = watch.poller.last_cycle_at
    return f"Silent for {(watch.now - last).total_seconds():.0f} s" if last else "It has not finished a cycle yet"


def _disk(watch: Watch | None) -> str:
    """The database's own disk, and the home's as the poller saw it last."""
    found = database(timezone.now())
    if not found.writable:
        return "The database cannot be written"
    if disk_state(found.free, found.total) is State.BAD:
        return "The database's disk is full"
    if watch and disk_state(watch.poller.disk_free_bytes, watch.poller.disk_total_bytes) is State.BAD:
        return "The home's disk is full"
    return ""
