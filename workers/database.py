"""The state of the database's schema, as the commands need to know it."""

from __future__ import annotations

from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def ensure_migrated() -> None:
    """Bring an embedded database up to date; raise CommandError where that is the job of a deployment."""
    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return
    if connection.vendor != "sqlite":
        raise CommandError("the database is not up to date with this version; run: manage.py migrate")
    call_command("migrate", verbosity=0, interactive=False)
