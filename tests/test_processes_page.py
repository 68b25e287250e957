"""Whose the processes of a host are, as a page."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.test import Client

from workers.cycle import Cycle
from workers.models import Change, HostProcesses

from .conftest import Home, iso

pytestmark = pytest.mark.django_db


@pytest.fixture
def start() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def directory(home: Home, worker_id: str) -> Path:
    path = home.path / "agents/workers" / worker_id
    (path / "logs").mkdir(parents=True)
    (path / "logs/stdout.log").touch()
    return path


def poll(home: Home) -> Cycle:
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    return cycle


def test_each_process_is_said_to_be_whose_it_is(
    home: Home, start: list[subprocess.Popen[bytes]], as_viewer: Client
) -> None:
    home.spec("w-1", execution__started_at=iso(datetime.now(UTC) - timedelta(minutes=2)))
    mine, stray = directory(home, "w-1"), directory(home, "w-9")
    start += [
        subprocess.Popen(["sleep", "601"], cwd=mine),
        subprocess.Popen(["sleep", "602"], cwd=stray),
        subprocess.Popen(["tail", "-f", str(mine / "logs/stdout.log")]),
        subprocess.Popen(["sleep", "603"]),
    ]
    poll(home)
    found = {each["pid"]: each for each in HostProcesses.objects.get().processes}
    own, strange, viewer, other = (process.pid for process in start)
    assert (found[own]["worker_id"], found[own]["part"]) == ("w-1", "worker")
    assert (found[strange]["worker_id"], found[strange]["part"]) == ("", "looks like a worker")
    assert (found[viewer]["worker_id"], found[viewer]["mentions"]) == ("", ["w-1"])
    assert other not in found
    page = as_viewer.get("/processes/").content.decode()
    assert page.index("belong to none") < page.index(f'"num">{strange}<') < page.index("Belong to a worker")
    worker_page = as_viewer.get("/workers/w-1/").content.decode()
    assert "Others that mention it" in worker_page
    assert f'<span class="num">{viewer}</span>' in worker_page


def test_it_is_written_only_when_it_has_changed(home: Home, start: list[subprocess.Popen[bytes]]) -> None:
    home.spec("w-1", execution__started_at=iso(datetime.now(UTC) - timedelta(minutes=2)))
    start.append(subprocess.Popen(["sleep", "601"], cwd=directory(home, "w-1")))
    cycle = poll(home)
    sightings, runs = cycle.processes.survey(), cycle.roster.runs
    cycle.store.save_processes(sightings, runs, datetime.now(UTC))
    at, said = HostProcesses.objects.get().at, Change.objects.filter(kind=Change.Kind.PROCESSES).count()
    cycle.store.save_processes(sightings, runs, datetime.now(UTC))
    assert (HostProcesses.objects.get().at, Change.objects.filter(kind=Change.Kind.PROCESSES).count()) == (at, said)
    cycle.store.save_processes(sightings[:-1], runs, datetime.now(UTC))
    assert Change.objects.filter(kind=Change.Kind.PROCESSES).count() == said + 1


def test_an_id_is_mentioned_only_in_full(home: Home, start: list[subprocess.Popen[bytes]]) -> None:
    home.spec("w-1", execution__started_at=iso(datetime.now(UTC) - timedelta(minutes=2)))
    file = directory(home, "w-10") / "logs/stdout.log"
    start.append(subprocess.Popen(["tail", "-f", str(file)]))
    poll(home)
    assert start[0].pid not in [each["pid"] for each in HostProcesses.objects.get().processes]


def test_before_any_poller_the_page_says_what_to_do(as_viewer: Client) -> None:
    assert "manage.py poll" in as_viewer.get("/processes/").content.decode()


def test_strangers_are_sent_to_the_login_and_posts_refused(client: Client, as_viewer: Client) -> None:
    assert client.get("/processes/")["Location"].startswith("/accounts/login/")
    assert as_viewer.post("/processes/").status_code == 405
