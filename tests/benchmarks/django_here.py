"""Django in this very process, on a database of the benchmark's own."""

from __future__ import annotations

import os
from pathlib import Path


def set_up(directory: Path) -> None:
    """Configure Django once, or point it at another database, and migrate."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    database = directory / "bench.sqlite3"
    os.environ["DATABASE_URL"] = f"sqlite:///{database}"
    os.environ["XDG_STATE_HOME"] = str(directory / "state")
    os.environ["DJANGO_SETTINGS_MODULE"] = "relay_web.settings"
    if settings.configured:
        connections["default"].close()
        connections["default"].settings_dict["NAME"] = str(database)
    django.setup()
    connections["default"].settings_dict["NAME"] = str(database)
    call_command("migrate", verbosity=0)
