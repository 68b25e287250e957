"""The page of one worker, from a real process to its HTML."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from workers.cycle import Cycle
from workers.health import Health

from . import factories
from .conftest import Home, iso


@pytest.mark.django_db
def test_it_shows_the_command_of_each_process_of_the_worker(home: Home, as_viewer: Client) -> None:
    home.spec("w-1", execution__started_at=iso(datetime.now(UTC) - timedelta(minutes=2)))
    directory = home.path / "agents/workers/w-1"
    directory.mkdir(parents=True)
    with subprocess.Popen(["sleep", "417"], cwd=directory) as process:
        try:
            cycle = Cycle(home.path, "host-a", 2.0)
            cycle.start(datetime.now(UTC))
            cycle.run_once(datetime.now(UTC))
            page = as_viewer.get("/workers/w-1/").content.decode()
        finally:
            process.kill()
    assert f'<span class="num">{process.pid}</span>' in page
    assert "<code>sleep 417</code>" in page


@pytest.mark.django_db
def test_the_lines_that_speak_for_a_reason_stand_below_it(as_viewer: Client) -> None:
    lines = ["12:00:01 429 Too Many Requests", "12:00:31 429 Too <b>Many</b> Requests"]
    reason = {"text": "It is rate limited", "source": "logs/stdout.log", "side": "for", "at": None, "lines": lines}
    worker = factories.add(Health.STALLED, reasons=[reason])
    page = as_viewer.get(worker.get_absolute_url()).content.decode()
    shown = "12:00:01 429 Too Many Requests\n12:00:31 429 Too &lt;b&gt;Many&lt;/b&gt; Requests"
    assert f'<pre class="evidence">{shown}</pre>' in page
