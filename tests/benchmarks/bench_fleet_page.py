"""The fleet page at 10,000 live workers: time in the server and number of queries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from workers.demo.fleet import write_fleet

from .django_here import set_up
from .figures import Figure, timed

PAGES = ("/", "/?health=zombie", "/?q=fix", "/?sort=worker&page=50")


def run(directory: Path) -> Iterator[Figure]:
    home = directory / "home"
    write_fleet(home, workers=10_000, events=1_000, seed=1, now=datetime.now(UTC))
    set_up(directory)
    from django.contrib.auth.models import Group, User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from workers.cycle import Cycle

    cycle = Cycle(home, "bench", 2.0)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    user = User.objects.create_user("bench")
    user.groups.set([Group.objects.get(name="viewer")])
    client = Client(SERVER_NAME="localhost")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    for page in PAGES:
        with CaptureQueriesContext(connection) as queries:
            if client.get(page).status_code != 200:
                raise RuntimeError(f"{page} does not answer")
            count = len(queries)  # before the next request empties the list
        seconds = timed(lambda page=page: client.get(page), rounds=7)
        yield Figure(f"fleet page {page}, 10,000 workers ({count} queries)", seconds * 1000, "ms", reach=80)
