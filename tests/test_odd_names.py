"""Names that are not UTF-8, of files, directories and processes: they are shown, and stop nobody."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse

from workers.cycle import Cycle
from workers.models import HostProcesses, Remediation, Worker
from workers.remediation import ask
from workers.remediation.actions import ACTIONS, Action
from workers.remediation.ground import Refusal

from .conftest import Home, iso
from .repairs import Workshop, ago
from .running import until

pytestmark = pytest.mark.django_db
ODD = os.fsdecode(b"\xff\xc3")  # half a character behind what is none


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def poll(home: Home, times: int = 1) -> None:
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    for _ in range(times):
        cycle.run_once(datetime.now(UTC))


def assert_that_any_database_takes_it() -> None:
    """PostgreSQL takes neither half a surrogate pair nor NUL; SQLite takes both in JSON."""
    for model in apps.get_app_config("workers").get_models():
        for row in model.objects.values():
            for name, value in row.items():
                for text in texts(value):
                    assert "\0" not in text, f"{model.__name__}.{name}"
                    text.encode()


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def test_a_process_in_a_directory_of_an_odd_name_is_shown(
    home: Home, started: list[subprocess.Popen[bytes]], as_viewer: Client
) -> None:
    home.spec("w-1", execution__started_at=iso(datetime.now(UTC)))
    own = home.path / "agents/workers/w-1"
    inside, beside = own / ODD, home.path / "agents/workers" / f"w-2{ODD}"
    inside.mkdir(parents=True)
    beside.mkdir()
    program = own / f"prog{ODD}"
    program.symlink_to("/bin/sleep")
    started += [
        subprocess.Popen(["/bin/bash", "-c", f"cd {ODD}; exec {program} 611"], cwd=own),
        subprocess.Popen([program, "612"], cwd=beside),
    ]
    (own / "worker.pid").write_text(f"{started[0].pid}\n")
    until(lambda: Path(f"/proc/{started[0].pid}/cwd").readlink() == inside)
    poll(home, times=2)
    worker = Worker.objects.get()
    assert [process["cwd"] for process in worker.processes if process["pid"] == started[0].pid] == [f"{own}/\\xff\\xc3"]
    seen = {each["pid"]: each for each in HostProcesses.objects.get().processes}
    assert seen[started[1].pid]["cwd"].endswith("/w-2\\xff\\xc3")
    assert seen[started[1].pid]["worker_id"] == ""
    assert as_viewer.get(reverse("processes")).status_code == 200
    assert as_viewer.get(worker.get_absolute_url()).status_code == 200
    assert_that_any_database_takes_it()


def test_a_directory_that_only_looks_like_the_worker_s_is_not_its_own(
    home: Home, started: list[subprocess.Popen[bytes]]
) -> None:
    """What is shown of the one is exactly what the other is named."""
    home.spec("w-\\xff", execution__started_at=iso(datetime.now(UTC)))
    for name in ("w-\\xff", os.fsdecode(b"w-\xff")):
        (home.path / "agents/workers" / name).mkdir(parents=True)
        started.append(subprocess.Popen(["sleep", "613"], cwd=home.path / "agents/workers" / name))
    poll(home)
    assert [each["pid"] for each in Worker.objects.get().processes] == [started[0].pid]


def test_files_of_odd_names_everywhere_are_read_and_shown(home: Home, as_viewer: Client) -> None:
    home.spec("w-1", execution__started_at=iso(datetime.now(UTC)))
    home.spec(f"x{ODD}".encode("utf-8", "replace").decode(), name=f"x{ODD}")
    for place in ("worker-specs/active", f"worker-specs/{ODD}", "worker-specs/failed", "worker-checkins"):
        home.write(f"coordination/{place}/damaged{ODD}.json", '{"worker_id": "w-5", "x": ,}')
        home.write(f"coordination/{place}/no-json{ODD}.json", b"\xff")
    home.write(f"coordination/events/odd{ODD}.jsonl", f'{{"event":"a","worker_id":"w-1","timestamp":"{ago(1)}"}}\nx\n')
    home.write(f"coordination/masters/{ODD}/knowledge-base/worker-types.json", '{"worker_types": {"a": {}}}')
    home.write(f"coordination/{ODD}-heartbeat.json", "{}")
    home.write(f"agents/workers/w-1/logs/{ODD}.log", "ERROR: it broke\n")
    home.write(f"agents/workers/w-1/{ODD}.log", "a line\n")
    home.write(f"agents/workers/{ODD}/worker.pid", "1\n")
    home.write(f"agents/logs/workers/{ODD}/w-1/stdout.log", "a line\n")
    poll(home, times=2)
    assert_that_any_database_takes_it()
    for name in ("fleet", "events", "integrity", "prevention", "history", "incidents"):
        assert as_viewer.get(reverse(name)).status_code == 200, name
    for worker in Worker.objects.all():
        page = worker.get_absolute_url()
        assert as_viewer.get(page).status_code == 200, page


def test_a_repair_keeps_the_logs_of_odd_names_as_evidence(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.home.write(f"agents/workers/w-1/logs/{ODD}.log", "its last words\n")
    workshop.home.write(f"agents/logs/workers/{ODD}/w-1/more.log", "more of them\n")
    done = workshop.repair("clean-up")
    assert done.state == "done", done.error
    paths = {log["path"] for log in done.evidence["logs"]}
    assert paths == {"agents/workers/w-1/logs/\\xff\\xc3.log", "agents/logs/workers/\\xff\\xc3/w-1/more.log"}
    assert_that_any_database_takes_it()


def outcome(workshop: Workshop, action: Action, worker: Worker) -> str:
    try:
        return workshop.attend(ask.request(action, workshop.person, worker)).state
    except Refusal:
        return "refused"


def test_a_spec_of_an_odd_name_is_shown_as_unreadable_and_no_repair_touches_it(workshop: Workshop) -> None:
    path = workshop.home.spec("w-1", name=f"w-1{ODD}", execution__started_at=ago(20))
    workshop.cycle()
    worker = Worker.objects.get()
    assert (worker.health, worker.worker_id) == ("unreadable", "w-1\\xff\\xc3")
    for action in ACTIONS.values():
        assert outcome(workshop, action, worker) == "refused", action.name
    assert path.exists()
    assert_that_any_database_takes_it()


def test_failed_specs_of_odd_names_are_archived_or_left(workshop: Workshop) -> None:
    workshop.home.spec("w-1", "failed", name=f"w-1{ODD}", status="failed")
    workshop.home.spec("w-2", "failed", status="failed")
    planned = workshop.preview("archive-failed")
    done = workshop.confirm(planned, answered=True) if planned.state == "planned" else planned
    assert done.state in ("done", "refused"), done.error
    assert Remediation.objects.count() == 1
    assert_that_any_database_takes_it()
