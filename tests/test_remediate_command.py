"""``manage.py remediate`` as a process of its own: the contract of DESIGN, section 3."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Home
from .forked import Forker, forker
from .repairs import ACTIVE, CREATE, EVENTS, FAILED, START, ago, in_home, snapshot
from .running import ROOT, Place, lives, until


class Shell:
    """Types ``manage.py remediate`` on a home with scripts."""

    def __init__(self, place: Place, home: Home, forks: Forker) -> None:
        self.place, self.home, self.forks = place, home, forks
        for name, text in (("start-worker.sh", START), ("create-task.sh", CREATE)):
            home.write(f"scripts/{name}", text).chmod(0o755)

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.forks.run(self.place, "remediate", *words)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command as a process of its own, from its first line on."""
        command = [sys.executable, "manage.py", "remediate", *words]
        return subprocess.Popen(command, cwd=ROOT, env=self.place.environment, stdout=-1, stderr=-1, text=True)

    def json(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        """Type with --json; nothing else may be on stdout."""
        done = self.type(*words, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        assert len(done.stdout.splitlines()) == 1
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def zombie(self, worker_id: str = "w-1", **values: Any) -> Path:
        return self.home.spec(worker_id, **{"execution__started_at": ago(20), **values})

    def rows(self, columns: str = "action, state, actor, via, reason") -> list[tuple[Any, ...]]:
        return self.place.query(f"SELECT {columns} FROM workers_remediation ORDER BY id")

    def events(self) -> list[str]:
        path = self.home.path / EVENTS
        return [json.loads(line)["type"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    with forker(tmp_path_factory.mktemp("forks")) as found:
        yield found


@pytest.fixture
def shell(place: Place, home: Home, forks: Forker) -> Iterator[Shell]:
    yield Shell(place, home, forks)
    for process in in_home(home.path):
        process.kill()


def test_it_prints_one_json_array_as_contracted(shell: Shell) -> None:
    shell.zombie()
    (row,) = shell.json("clean-up", "w-1", "--reason", "Nightly")
    assert set(row) == {"id", "worker_id", "action", "state", "steps", "error"}
    assert (row["worker_id"], row["action"], row["state"], row["error"]) == ("w-1", "clean-up", "done", "")
    assert [step["kind"] for step in row["steps"]] == ["evidence", "move", "event"]
    assert all(set(step) == {"kind", "target", "detail", "state"} for step in row["steps"])
    assert {step["state"] for step in row["steps"]} == {"done"}
    assert (shell.home.path / FAILED / "w-1.json").exists()
    name = pwd.getpwuid(os.getuid()).pw_name
    assert shell.rows() == [("clean-up", "done", name, "command line", "Nightly")]
    assert shell.rows("id") == [(row["id"],)]
    (worker,) = shell.place.json("workers", "--all")  # the database has caught up before it ends
    assert worker["health"] == "failed"


def test_a_dry_run_prints_the_same_plan_touches_nothing_and_leaves_no_row(shell: Shell) -> None:
    shell.zombie(task_data={"description": "Do it"})
    shell.home.pm(w_1={"status": "running"})
    before = snapshot(shell.home.path)
    (planned,) = shell.json("clean-up", "w-1", "--recover", "--dry-run")
    assert (planned["id"], planned["state"]) == (None, "planned")
    assert {step["state"] for step in planned["steps"]} == {"pending"}
    text = shell.type("clean-up", "w-1", "--recover", "--dry-run")
    assert text.returncode == 0
    for step in planned["steps"]:
        assert f"{step['detail']}: {step['target']}" in text.stdout
    assert '+ "status": "failed"' in text.stdout
    assert snapshot(shell.home.path) == before
    assert shell.rows() == []
    (done,) = shell.json("clean-up", "w-1", "--recover")
    assert [step["kind"] for step in done["steps"]] == [step["kind"] for step in planned["steps"]]


def test_without_a_terminal_it_does_not_ask(shell: Shell) -> None:
    """As from cron: even without a standard input."""
    shell.zombie()
    command = f"exec {sys.executable} manage.py remediate clean-up w-1 <&-"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, env=shell.place.environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"w-1: done" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["explode", "w-1"],
        ["clean-up"],
        ["clean-up", "w-1", "--all-zombies"],
        ["archive-failed", "w-1"],
        ["undo", "--all-zombies"],
        ["restart", "w-1", "--recover"],
        ["clean-up", "w-1", "--expect", "many"],
        ["clean-up", "w-1", "w-unknown"],
        ["clean-up", "w-1@2020-01-01T00:00:00Z"],
        ["undo", "77"],
        ["undo", "w-1"],
    ],
    ids=" ".join,
)
def test_bad_usage_and_unknown_ids_are_2_and_nothing_is_done(shell: Shell, words: list[str]) -> None:
    shell.zombie()
    before = snapshot(shell.home.path)
    done = shell.type(*words, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(shell.home.path) == before
    assert shell.rows() == []


def test_a_failure_is_1_even_where_others_are_refused(shell: Shell) -> None:
    shell.zombie()
    shell.home.spec("w-2", directory="failed", status="failed")
    shell.home.write("scripts/start-worker.sh", "#!/bin/sh\necho no tokens\nexit 4\n").chmod(0o755)
    failed, refused = shell.json("restart", "w-1", "w-2", code=1)
    assert (failed["state"], refused["state"]) == ("failed", "refused")
    assert "no tokens" in failed["error"]
    assert [step["state"] for step in failed["steps"]] == ["done", "done", "done", "failed"]
    assert refused["error"] == "w-2: This run is over; only a live one can be acted on"


def test_a_refusal_among_what_is_done_is_3_and_is_kept_in_the_audit(shell: Shell) -> None:
    shell.zombie()
    shell.home.spec("w-2", status="pending", execution__started_at=None)
    done, refused = shell.json("clean-up", "w-1", "w-2", code=3)
    assert (done["state"], refused["state"]) == ("done", "refused")
    assert [row[:2] for row in shell.rows()] in ([("clean-up", "done"), ("clean-up", "refused")],)


def test_all_zombies_beyond_the_guard_need_their_number(shell: Shell) -> None:
    for number in range(3):
        shell.zombie(f"w-{number}")
    shell.home.spec("w-9", status="pending", execution__started_at=None)
    before = snapshot(shell.home.path)
    refused = shell.type("clean-up", "--all-zombies")
    assert refused.returncode == 3
    assert "3 of 3 running workers" in refused.stderr
    assert "--expect 3" in refused.stderr
    assert shell.type("clean-up", "--all-zombies", "--expect", "2").returncode == 3
    assert snapshot(shell.home.path) == before
    rows = shell.json("clean-up", "--all-zombies", "--expect", "3")
    assert [(row["worker_id"], row["state"]) for row in rows] == [(f"w-{number}", "done") for number in range(3)]
    assert shell.json("clean-up", "--all-zombies") == []
    assert (shell.home.path / ACTIVE / "w-9.json").exists()


def test_an_id_is_the_live_run_and_with_a_time_an_earlier_one(shell: Shell) -> None:
    shell.zombie()
    shell.home.spec(
        directory="failed", status="failed", created_at="2025-01-01T00:00:00Z", task_data={"description": "Old"}
    )
    (row,) = shell.json("recover-task", "w-1@2025-01-01T00:00:00Z")
    assert row["state"] == "done"
    assert json.loads((shell.home.path / "created").read_text())[1] == "Old"
    (row,) = shell.json("recover-task", "w-1", code=3)
    assert "Only after it has failed" in row["error"]


def test_undo_goes_by_the_number_of_a_remediation(shell: Shell) -> None:
    path = shell.zombie()
    before = path.read_bytes()
    (done,) = shell.json("clean-up", "w-1")
    (undone,) = shell.json("undo", str(done["id"]))
    assert (undone["worker_id"], undone["action"], undone["state"]) == ("w-1", "undo", "done")
    assert path.read_bytes() == before
    assert shell.events() == ["worker_zombie_cleaned", "remediation_undone"]
    (again,) = shell.json("undo", f"#{done['id']}", code=3)
    assert "is undone already" in again["error"]


def test_archive_failed_takes_no_id(shell: Shell) -> None:
    shell.home.spec(directory="failed", status="failed")
    (row,) = shell.json("archive-failed")
    assert (row["worker_id"], row["state"]) == (None, "done")
    assert list((shell.home.path / FAILED).iterdir()) == []


def test_the_second_retry_of_a_task_needs_a_yes(shell: Shell) -> None:
    shell.home.spec(directory="failed", status="failed", task_data={"description": "Do it"})
    assert shell.json("recover-task", "w-1")[0]["state"] == "done"
    (refused,) = shell.json("recover-task", "w-1", code=3)
    assert "has been retried once already" in refused["error"]
    assert shell.json("recover-task", "w-1", "--yes")[0]["state"] == "done"
    assert len((shell.home.path / "created").read_text().splitlines()) == 2


def test_a_worker_that_was_restarted_outlives_the_command(shell: Shell) -> None:
    path = shell.zombie()
    (row,) = shell.json("restart", "w-1")
    assert row["state"] == "done", row["error"]
    pid = int((shell.home.path / "agents/workers/w-1/worker.pid").read_text())
    assert lives(pid)
    assert os.getsid(pid) == pid
    assert json.loads(path.read_bytes())["status"] == "running"


def test_beside_a_running_poller_it_is_claimed_exactly_once(shell: Shell) -> None:
    names = [f"w-{number}" for number in range(4)]
    for name in names:
        shell.zombie(name)
    shell.place.start("poll")
    until(lambda: len(shell.place.query("SELECT 1 FROM workers_worker WHERE health = 'zombie'")) == 4)
    rows = shell.place.json("remediate", "clean-up", *names, "--expect", "4")
    assert [row["state"] for row in rows] == ["done"] * 4
    assert shell.events() == ["worker_zombie_cleaned"] * 4
    steps = shell.place.query("SELECT COUNT(*) FROM workers_remediationstep GROUP BY remediation_id")
    assert steps == [(3,)] * 4
    until(lambda: len(shell.place.query("SELECT 1 FROM workers_worker WHERE health = 'failed'")) == 4)


def test_two_operators_at_two_terminals_file_it_once(shell: Shell) -> None:
    shell.zombie(task_data={"description": "Do it"})
    shell.type("clean-up", "w-1", "--dry-run")  # the database is there
    both = [shell.start("clean-up", "w-1", "--recover", "--json") for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert sorted(process.returncode for process in both) == [0, 3], answers
    assert shell.events() == ["worker_zombie_cleaned"]
    assert len((shell.home.path / "created").read_text().splitlines()) == 1


def test_a_command_that_is_killed_is_finished_by_the_next_poller(shell: Shell) -> None:
    """A real kill -9 of the real command, in the middle of a script that it runs."""
    shell.zombie(task_data={"description": "Do it"})
    slow = CREATE.replace("import json", "import time\nopen('begun', 'w')\ntime.sleep(1)\nimport json")
    shell.home.write("scripts/create-task.sh", slow)
    process = shell.start("clean-up", "w-1", "--recover")
    until((shell.home.path / "begun").exists)
    process.kill()
    process.communicate()
    shell.place.json("poll", "--once")
    assert [row[:2] for row in shell.rows()] == [("clean-up", "done")]
    assert shell.rows("new_task_id") == [("task-new-0",)]
    assert len((shell.home.path / "created").read_text().splitlines()) == 1


def test_without_a_home_it_says_which_variable_to_set(shell: Shell) -> None:
    del shell.place.environment["COMMIT_RELAY_HOME"]
    done = shell.place.run("remediate", "clean-up", "w-1")
    assert done.returncode == 2
    assert "COMMIT_RELAY_HOME" in done.stderr
