"""What each repair does to files and processes, to the letter of the runbook: real scripts, real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from workers.coordination.layout import PM_STATE, Layout
from workers.health import Health
from workers.models import Worker
from workers.remediation.actions import ACTIONS, objection
from workers.remediation.ground import Ground
from workers.remediation.steps import CARRY_OUT, evidence, start
from workers.remediation.work import Work

from .conftest import Home, powerless
from .launchers import Fleet
from .repairs import ACTIVE, COMMANDS, FAILED, PATIENCE, START, Workshop, ago, detail, in_home, snapshot, steps
from .running import children, lives, until

NOW = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ODD = (
    b'{"z" :1, "status":"x",\r\n\t"worker_id":"w-1", "task_id" : "task-\\u0031",   "created_at": "%s",\r\n'
    b'  "worker_type": "scan-worker","status" : "running", "e\xc3\xa4": [1,2 ,3], "big": 12345678901234567890.10,'
    b' "error": null, "execution":{ "started_at" : "%s"}}   \r\n\r\n'
)


def odd_spec() -> bytes:
    return ODD % (ago(30).encode(), ago(20).encode())


# -- clean-up


def test_clean_up_files_a_zombie_as_the_runbook_says(workshop: Workshop) -> None:
    workshop.zombie(z={"kept": [1]}, priority="low")
    workshop.home.pm(w_1={"status": "running", "started_at": "2025-11-21T00:00:00Z"}, w_10={"status": "running"})
    before = workshop.read(f"{ACTIVE}/w-1.json")
    done = workshop.repair("clean-up")
    assert done.state == "done", done.error
    after = workshop.read(f"{FAILED}/w-1.json")
    assert after == before | {"status": "failed", "error": "Zombie worker - no process found"}
    assert list(after)[: len(before)] == list(before)
    assert not workshop.exists(f"{ACTIVE}/w-1.json")
    assert set(workshop.read(PM_STATE)["monitored_workers"]) == {"w-10"}
    (event,) = workshop.events()
    assert event["type"] == "worker_zombie_cleaned"
    assert event["data"]["worker_id"] == "w-1"
    assert NOW.fullmatch(event["timestamp"])
    assert list(steps(done)) == ["evidence", "move", "forget", "event"]
    assert not workshop.left_behind()


def test_clean_up_needs_no_pm_and_no_failed_directory(workshop: Workshop) -> None:
    workshop.zombie()
    done = workshop.repair("clean-up")
    assert list(steps(done)) == ["evidence", "move", "event"]
    assert workshop.exists(f"{FAILED}/w-1.json")


def test_an_earlier_failed_spec_of_the_same_id_is_kept_under_another_name(workshop: Workshop) -> None:
    workshop.zombie()
    earlier = workshop.home.spec(directory="failed", created_at="2025-01-01T00:00:00Z", status="failed").read_bytes()
    planned = workshop.preview("clean-up")
    assert any("kept under another" in step["detail"] for step in planned.plan["steps"])
    done = workshop.confirm(planned)
    kept = workshop.path / FAILED / "w-1-earlier-1.json"
    assert kept.read_bytes() == earlier
    assert kept.name in detail(done, "move")
    undone = workshop.undo(done)
    assert undone.state == "done", undone.error
    assert (workshop.path / FAILED / "w-1.json").read_bytes() == earlier
    assert not kept.exists()


def test_a_heartbeat_emitter_that_outlived_its_worker_is_stopped_before_the_spec_is_moved(workshop: Workshop) -> None:
    workshop.zombie()
    emitter = workshop.fleet.emit_heartbeats("w-1")
    other = workshop.fleet.emit_heartbeats("w-10")
    done = workshop.repair("clean-up")
    assert list(steps(done))[:3] == ["evidence", "stop", "move"]
    assert emitter.wait(5)
    assert lives(other.pid)


def test_clean_up_of_a_worker_that_lives_is_refused(workshop: Workshop) -> None:
    workshop.zombie()
    planned = workshop.preview("clean-up")
    workshop.fleet.headless("w-1")
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert "is alive" in refused.error
    assert workshop.exists(f"{ACTIVE}/w-1.json")


# -- stopping: the ways in which a fleet starts its workers

LAUNCHERS: dict[str, Callable[[Fleet], subprocess.Popen[bytes]]] = {
    "headless": lambda fleet: fleet.headless("w-1", emitter=True),
    "terminal": lambda fleet: fleet.terminal("w-1"),
    "start-worker.sh": lambda fleet: fleet.start_worker("w-1"),
    "shell worker": lambda fleet: fleet.shell_worker("w-1"),
}


@pytest.mark.parametrize("way", LAUNCHERS)
def test_force_fail_ends_the_whole_tree_however_it_was_started(workshop: Workshop, way: str) -> None:
    """Trap 4: the pid that is found is the wrapper, and claude would live on."""
    workshop.stalled()
    wrapper = LAUNCHERS[way](workshop.fleet)
    pids = {wrapper.pid, *children(wrapper.pid)}
    assert len(pids) >= (4 if way == "headless" else 2)
    done = workshop.repair("force-fail")
    assert done.state == "done", done.error
    assert not [pid for pid in pids if lives(pid)]
    shown = next(step for step in done.plan["steps"] if step["kind"] == "stop")["shown"]["processes"]
    assert {process["pid"] for process in shown} >= {wrapper.pid}
    assert all(process["command"] for process in shown)


def test_force_fail_writes_what_the_runbook_says(workshop: Workshop) -> None:
    workshop.stalled(tokens_used=7)
    workshop.home.pm(w_1={"status": "running"})
    before = workshop.read(f"{ACTIVE}/w-1.json")
    workshop.fleet.headless("w-1")
    began = datetime.now(UTC).replace(microsecond=0)
    done = workshop.repair("force-fail", reason="It loops")
    after = workshop.read(f"{FAILED}/w-1.json")
    ended = after["execution"].pop("completed_at")
    assert NOW.fullmatch(ended)
    assert began <= datetime.fromisoformat(ended) <= datetime.now(UTC)
    assert after == before | {"status": "failed", "error": "Manual termination: It loops"}
    assert workshop.read(PM_STATE)["monitored_workers"] == {}
    assert [event["type"] for event in workshop.events()] == ["worker_force_failed"]
    assert list(steps(done)) == ["evidence", "stop", "move", "forget", "event"]


def test_force_fail_without_a_reason_says_only_manual_termination(workshop: Workshop) -> None:
    workshop.home.spec(status="pending", execution__started_at=None)
    assert workshop.repair("force-fail").state == "done"
    assert workshop.read(f"{FAILED}/w-1.json")["error"] == "Manual termination"


def test_bystanders_survive(workshop: Workshop, tmp_path: Path) -> None:
    """Traps 2 and 5: ids that begin alike, who reads its log, who edits its spec, the worker of another fleet."""
    fleet = workshop.fleet
    workshop.stalled()
    fleet.headless("w-1", emitter=True)
    other = Fleet(tmp_path / "other")
    log = fleet.directory("w-1") / "logs/stdout.log"
    log.write_text("working\n")
    sleeper = ["-IS", "-c", "import signal; signal.pause()"]
    spec = f"{ACTIVE}/w-1.json"
    try:
        bystanders = [
            fleet.start("tail", "-f", log),
            fleet.start("tail", "-f", log, cwd=fleet.directory("w-1")),
            fleet.start("vim", *sleeper, spec, executable=sys.executable, cwd=fleet.directory("w-1")),
            fleet.start("less", *sleeper, "w-1", executable=sys.executable),
            fleet.start("/bin/sh", "-c", "while :; do sleep 5; done # w-1"),
            fleet.headless("w-10"),
            fleet.headless("w-1-restart-1"),
            fleet.start_worker("w-11"),
            other.headless("w-1"),
            other.start_worker("w-1"),
        ]
        for name in ("w-10", "w-1-restart-1", "w-11"):
            workshop.stalled(name)
        pids = [pid for each in bystanders for pid in (each.pid, *children(each.pid))]
        done = workshop.repair("force-fail")
        assert done.state == "done", done.error
        assert [pid for pid in pids if not lives(pid)] == []
    finally:
        other.close()


def test_a_pid_file_that_names_this_very_process_is_not_believed(workshop: Workshop) -> None:
    workshop.stalled()
    workshop.fleet.write_pid("w-1", os.getpid())
    assert workshop.worker_after_cycle().health == "zombie"
    assert workshop.repair("clean-up").state == "done"


def test_what_only_a_number_names_is_never_signalled(workshop: Workshop, tmp_path: Path) -> None:
    workshop.zombie()
    stranger = workshop.fleet.start("sleep", "600", cwd=tmp_path)
    (workshop.fleet.directory("w-1") / "heartbeat.pid").write_text(f"{stranger.pid}\n")
    done = workshop.repair("clean-up")
    assert done.state == "done", done.error
    assert "stop" not in steps(done)
    assert lives(stranger.pid)


def test_what_started_two_workers_survives_the_restart_of_one(workshop: Workshop) -> None:
    fleet = workshop.fleet
    launch = fleet.script(
        "bin/launch",
        f"#!/bin/bash\nfor id in $1 $2; do setsid {fleet.claude} --worker $id & done; while :; do sleep 5; done\n",
    )
    for name in ("w-1", "w-2"):
        workshop.stalled(name)
    launcher = fleet.start(launch, "w-1", "w-2")
    until(lambda: len(children(launcher.pid)) >= 3)
    done = workshop.repair("force-fail")
    assert done.state == "done", done.error
    assert lives(launcher.pid)
    assert workshop.worker_after_cycle("w-2").health != Health.ZOMBIE


def test_a_pid_that_has_become_another_programs_is_not_believed_because_its_spec_was_rewritten(
    workshop: Workshop, tmp_path: Path
) -> None:
    """A restart writes the spec anew with the old pid in it, and so does every heartbeat of an emitter that is left."""
    stranger = workshop.fleet.start("sleep", "600", cwd=tmp_path)
    path = workshop.stalled(execution__pid=stranger.pid)
    began = datetime.fromtimestamp(psutil.Process(stranger.pid).create_time(), UTC)
    long_ago = (began - timedelta(minutes=1)).timestamp()
    os.utime(path, (long_ago, long_ago))
    assert workshop.worker_after_cycle().health == Health.ZOMBIE
    path.write_bytes(path.read_bytes() + b"\n")
    assert workshop.worker_after_cycle().health == Health.ZOMBIE
    done = workshop.repair("restart")
    assert done.state == "done", done.error
    assert str(stranger.pid) not in detail(done, "watch")
    assert workshop.calls("started")
    workshop.cycle()
    assert workshop.repair("force-fail").state == "done"
    assert lives(stranger.pid)


def test_evidence_is_kept_before_anything_is_touched(workshop: Workshop) -> None:
    workshop.stalled()
    workshop.fleet.headless("w-1")
    log = workshop.fleet.directory("w-1") / "logs/stdout.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)) + "Authorization: Bearer abcdefghijklmnop\n")
    done = workshop.repair("force-fail")
    (kept,) = (each for each in done.evidence["logs"] if each["path"].endswith("stdout.log"))
    assert "line 99" in kept["lines"]
    assert "line 1" not in kept["lines"]
    assert "abcdefghijklmnop" not in json.dumps(done.evidence)
    processes = done.evidence["processes"]
    assert any("claude" in process["command"] for process in processes)
    assert {"cpu_seconds", "rss_bytes", "open_files", "cwd"} <= set(processes[0])


def test_a_directory_of_logs_that_may_not_be_read_stands_in_the_way_of_nothing(open_home: Home, tmp_path: Path) -> None:
    """Nor does a pipe or a link out of the home; the logs that can be read are kept."""
    dated, own = "agents/logs/workers", "agents/workers/w-1/logs"
    for day, name in (("2026-11-22", "before.log"), ("2026-11-23", "secret.log"), ("2026-11-24", "after.log")):
        open_home.write(f"{dated}/{day}/w-1/{name}", f"a line of {name}\n")
    open_home.write(f"{own}/stdout.log", "a line of stdout\n")
    open_home.write(f"{own}/refused.log", "x").chmod(0)
    os.mkfifo(open_home.path / own / "pipe.log")
    (tmp_path / "outside.log").write_text("x")
    (open_home.path / own / "link.log").symlink_to(tmp_path / "outside.log")
    folder = open_home.path / dated / "2026-11-23"
    folder.chmod(0o700 if os.geteuid() == 0 else 0)
    with powerless():
        ends = evidence.log_ends(Ground(Layout(open_home.path), host="host-a", commands={}, state=tmp_path), "w-1")
    folder.chmod(0o700)
    assert sorted(end["lines"][0] for end in ends) == [
        "a line of after.log",
        "a line of before.log",
        "a line of stdout",
    ]


# -- restart


@pytest.mark.parametrize("way", LAUNCHERS)
def test_restart_stops_the_old_worker_and_starts_one_new(workshop: Workshop, way: str) -> None:
    path = workshop.stalled(execution__pid=12)
    wrapper = LAUNCHERS[way](workshop.fleet)
    pids = {wrapper.pid, *children(wrapper.pid)}
    if way == "start-worker.sh":
        workshop.fleet.script("scripts/start-worker.sh", START)
    done = workshop.repair("restart")
    assert done.state == "done", done.error
    assert not [pid for pid in pids if lives(pid)]
    assert workshop.calls("started") == [f"--spec {path}"]
    spec = json.loads(path.read_bytes())
    assert (spec["status"], spec["execution"]["started_at"]) == ("running", None)
    assert list(steps(done)) == ["evidence", "stop", "rewrite", "start", "watch"]
    new = int((workshop.fleet.directory("w-1") / "worker.pid").read_text())
    assert lives(new)
    assert f"It runs as process {new}" in detail(done, "watch")
    assert "launched" in done.output


def test_a_pending_worker_is_started_without_its_spec_being_changed_first(workshop: Workshop) -> None:
    workshop.home.spec(status="pending", execution__started_at=None)
    done = workshop.repair("restart")
    assert done.state == "done", done.error
    assert list(steps(done)) == ["evidence", "start", "watch"]


def test_a_start_script_that_stays_in_the_foreground_is_tolerated(workshop: Workshop) -> None:
    path = workshop.zombie()
    text = START.replace(
        "setsid /bin/bash -c 'echo $$ > worker.pid; exec sleep 600' > /dev/null 2>&1 < /dev/null &", ""
    )
    workshop.fleet.script("scripts/start-worker.sh", text + "echo $$ > worker.pid\nsleep 600\n")
    done = workshop.repair("restart")
    assert done.state == "done", done.error
    pid = int((workshop.fleet.directory("w-1") / "worker.pid").read_text())
    assert lives(pid)
    assert os.getsid(pid) == pid  # it outlives the poller
    assert json.loads(path.read_bytes())["status"] == "running"
    os.kill(pid, signal.SIGKILL)
    until(lambda: not lives(pid))
    start.children.reap()


def test_a_start_script_that_is_the_worker_and_never_says_running_is_believed_in_the_end(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.executor = workshop.new_executor(
        commands={**COMMANDS, "RELAY_START_WORKER": ("scripts/start-worker.sh", "{worker_id}")},
        patience=replace(PATIENCE, start=1.5),
    )
    workshop.fleet.script("scripts/start-worker.sh", "#!/bin/bash\nsleep 600\n")
    done = workshop.repair("restart")
    assert done.state == "done", done.error
    assert "its spec still says pending" in detail(done, "watch")
    assert len([process for process in in_home(workshop.path) if process.name() == "sleep"]) == 1


def test_a_slow_start_script_that_fails_in_the_end_is_not_taken_for_the_worker(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the id in its arguments, as a worker may; it is not believed while the spec says pending."""
    monkeypatch.setattr(start, "UNSAID", 0.2)
    workshop.zombie()
    commands = {**COMMANDS, "RELAY_START_WORKER": ("scripts/start-worker.sh", "{worker_id}")}
    workshop.executor = workshop.new_executor(commands=commands)
    workshop.fleet.script("scripts/start-worker.sh", "#!/bin/bash\nsleep 1\necho no room\nexit 5\n")
    failed = workshop.repair("restart")
    assert failed.state == "failed"
    assert "exit code 5" in failed.error
    assert "no room" in failed.error


def test_a_start_script_that_fails_leaves_the_spec_pending_and_its_words_are_kept(workshop: Workshop) -> None:
    path = workshop.zombie()
    workshop.fleet.script("scripts/start-worker.sh", "#!/bin/sh\necho to stdout\necho No tokens left >&2\nexit 7\n")
    failed = workshop.repair("restart")
    assert failed.state == "failed"
    assert "exit code 7" in failed.error
    assert "No tokens left" in failed.error
    assert failed.output == "to stdout\nNo tokens left\n"
    spec = json.loads(path.read_bytes())
    assert (spec["status"], spec["execution"]["started_at"]) == ("pending", None)
    workshop.cycle()
    assert workshop.worker().health == "pending"


def test_a_start_script_that_says_running_and_starts_nothing_leaves_the_spec_pending(workshop: Workshop) -> None:
    path = workshop.zombie()
    workshop.executor = workshop.new_executor(patience=replace(PATIENCE, start=0.6))
    text = START.replace(
        "setsid /bin/bash -c 'echo $$ > worker.pid; exec sleep 600' > /dev/null 2>&1 < /dev/null &", ""
    )
    workshop.fleet.script("scripts/start-worker.sh", text)
    assert workshop.repair("restart").state == "failed"
    assert json.loads(path.read_bytes())["status"] == "pending"


def test_a_start_script_that_exits_0_and_does_nothing_has_failed(workshop: Workshop) -> None:
    """Trap 18: given a name that it does not know, or a worker that it thinks is running."""
    path = workshop.zombie()
    workshop.executor = workshop.new_executor(patience=replace(PATIENCE, start=0.4))
    workshop.fleet.script("scripts/start-worker.sh", "#!/bin/sh\necho already running\n")
    failed = workshop.repair("restart")
    assert failed.state == "failed"
    assert "did not make it run within 0.4 s" in failed.error
    assert "already running" in failed.error
    assert json.loads(path.read_bytes())["status"] == "pending"


def test_somebody_who_starts_it_meanwhile_is_not_followed_by_a_second_start(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.zombie()
    rewrite = CARRY_OUT["rewrite"]

    def and_then_somebody_starts_it(work: Work) -> str:
        words = rewrite(work)
        workshop.fleet.headless("w-1")
        return words

    monkeypatch.setitem(CARRY_OUT, "rewrite", and_then_somebody_starts_it)
    workshop.executor = workshop.new_executor(patience=replace(PATIENCE, start=0.3))
    done = workshop.repair("restart")
    assert workshop.calls("started") == []
    assert "Somebody else has started it" in detail(done, "start")


def test_what_it_checked_in_before_is_not_inherited_by_the_restarted_worker(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 14: the PM entry describes the attempt before. An hour later this one is judged by its own signs alone."""
    workshop.zombie(status="running", execution__started_at=ago(25))
    workshop.home.pm(w_1={"status": "running", "last_checkin": ago(20), "started_at": ago(25)})
    assert workshop.worker_after_cycle().last_checkin_at is not None
    now = f'"started_at": "{ago(0)}"'
    workshop.fleet.script("scripts/start-worker.sh", START.replace("sed '", f'sed \'s/"started_at": null/{now}/; '))
    done = workshop.repair("restart")
    assert done.state == "done", done.error
    worker = workshop.worker_after_cycle()
    assert worker.last_checkin_at is None
    assert worker.health == "healthy"


def test_a_marker_of_the_worker_daemon_is_told(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 17: that daemon would not start the id again."""
    from workers.remediation import plan

    markers = workshop.path.parent / "markers"
    markers.mkdir()
    (markers / "w-1").touch()
    monkeypatch.setattr(plan, "LAUNCH_MARKERS", str(markers))
    workshop.zombie()
    assert "worker daemon would not start it" in workshop.preview("restart").plan["warnings"][0]


# -- events by the fleet's own command

EMIT = """#!/bin/bash
printf '%s\\n' "$@" > emitted
printf '{"type":"%s"}\\n' "$1" >> coordination/dashboard-events.jsonl
"""


def test_the_fleets_own_command_for_events_is_called_as_it_is_set(workshop: Workshop) -> None:
    """Trap 19: the real script takes its type first."""
    workshop.fleet.script("scripts/emit.sh", EMIT)
    template = ("scripts/emit.sh", "{type}", '{{"worker": "{worker_id}"}}', "{message}")
    workshop.executor = workshop.new_executor(commands={**COMMANDS, "RELAY_EMIT_EVENT": template})
    workshop.zombie()
    done = workshop.repair("clean-up")
    assert done.state == "done", done.error
    assert workshop.calls("emitted")[0] == "worker_zombie_cleaned"
    assert [event["type"] for event in workshop.events()] == ["worker_zombie_cleaned"]


def test_an_event_command_that_exits_0_and_appends_nothing_has_failed(workshop: Workshop) -> None:
    workshop.fleet.script("scripts/emit.sh", "#!/bin/sh\necho denied\n")
    workshop.executor = workshop.new_executor(commands={**COMMANDS, "RELAY_EMIT_EVENT": ("scripts/emit.sh", "{type}")})
    workshop.zombie()
    failed = workshop.repair("clean-up")
    assert failed.state == "failed"
    assert "has not grown" in failed.error
    assert workshop.exists(f"{FAILED}/w-1.json")


# -- recover


def test_recover_hands_on_what_the_task_is(workshop: Workshop) -> None:
    workshop.home.spec(directory="failed", status="failed", task_data={"description": "Harden it"})
    done = workshop.repair("recover-task")
    assert done.state == "done", done.error
    options = json.loads(workshop.calls("created")[0])
    assert options[:4] == ["--description", "Harden it", "--priority", "high"]
    assert options[4:6] == ["--worker-type", "implementation-worker"]
    assert options[6] == "--metadata"
    assert json.loads(options[7]) == {"retry_of": "task-w-1"}
    assert (done.task_id, done.new_task_id) == ("task-w-1", "task-new-0")
    assert workshop.exists(f"{FAILED}/w-1.json")


@pytest.mark.parametrize("action", ["clean-up", "force-fail"])
def test_recovery_ticked_together_with_filing_is_done_last(workshop: Workshop, action: str) -> None:
    workshop.zombie(task_data={"description": "Harden it"})
    done = workshop.repair(action, recover=True)
    assert done.state == "done", done.error
    assert list(steps(done))[-1] == "create-task"
    assert workshop.read("coordination/task-queue.json")["tasks"][0]["description"] == "Harden it"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("coordination/task-queue.json", {"tasks": [{"id": "task-w-1", "description": "From the queue"}]}),
        ("coordination/task-queue.json.bak", {"tasks": [{"id": "task-w-1", "title": "From the queue"}]}),
        ("coordination/task-queue-20251101.json.old", [{"task_id": "task-w-1", "description": "From the queue"}]),
        ("coordination/tasks/task-w-1.json", {"id": "task-w-1", "description": "From the queue"}),
        (
            "coordination/masters/dev/handoffs/h1.json",
            {"task_id": "task-w-1", "context": {"description": "From the queue"}},
        ),
    ],
)
def test_a_description_is_looked_up_where_fleets_keep_it(workshop: Workshop, path: str, content: Any) -> None:
    workshop.home.spec(directory="failed", status="failed")
    workshop.home.write(path, json.dumps(content))
    planned = workshop.preview("recover-task")
    assert path in planned.plan["steps"][0]["detail"]
    assert workshop.confirm(planned).state == "done"
    assert json.loads(workshop.calls("created")[0])[1] == "From the queue"


def test_a_task_that_nothing_describes_is_refused_instead_of_called_null(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.home.write("coordination/task-queue.json", json.dumps([{"id": "task-w-1", "description": "null"}]))
    refused = workshop.preview("clean-up", recover=True)
    assert refused.state == "refused"
    assert "Nothing says what task task-w-1 is about" in refused.error
    assert workshop.exists(f"{ACTIVE}/w-1.json")


def test_a_create_task_that_exits_0_without_a_task_has_failed(workshop: Workshop) -> None:
    """Trap 21: an unknown option prints the usage and exits with 0."""
    workshop.home.spec(directory="failed", status="failed", task_data={"description": "Harden it"})
    workshop.fleet.script("scripts/create-task.sh", "#!/bin/sh\necho Usage: create-task.sh --type T --repo R\n")
    failed = workshop.repair("recover-task")
    assert failed.state == "failed"
    assert "made no task" in failed.error
    assert "Usage" in failed.error
    assert failed.new_task_id == ""


#: Somebody queues another task while the script runs. Then it does, or does not, do what it is there for.
MEANWHILE = f"""#!{sys.executable} -IS
import json
queue = [{{"id": "task-of-robin-1", "description": "Something else", "created_by": "robin"}}, *OWN]
json.dump({{"tasks": queue}}, open("coordination/task-queue.json", "w"))
print("Usage: create-task.sh --type T --repo R --description D")
"""


def test_a_task_that_somebody_else_queues_meanwhile_is_not_taken_for_the_retry(workshop: Workshop) -> None:
    workshop.home.spec(directory="failed", status="failed", task_data={"description": "Harden it"})
    workshop.fleet.script("scripts/create-task.sh", MEANWHILE.replace("*OWN", ""))
    failed = workshop.repair("recover-task")
    assert (failed.state, failed.new_task_id) == ("failed", "")
    assert "made no task" in failed.error


@pytest.mark.parametrize(
    "own",
    [
        {"id": "n-2", "metadata": {"retry_of": "task-w-1"}},
        {"id": "n-2", "description": "Harden it"},
        {"id": "n-2", "title": "Harden it"},
        {"id": "n-2", "context": {"description": "Harden it"}},
    ],
)
def test_a_quiet_create_task_is_known_by_what_it_was_given(workshop: Workshop, own: dict[str, Any]) -> None:
    workshop.home.spec(directory="failed", status="failed", task_data={"description": "Harden it"})
    workshop.fleet.script("scripts/create-task.sh", MEANWHILE.replace("*OWN", json.dumps(own)))
    done = workshop.repair("recover-task")
    assert (done.state, done.new_task_id) == ("done", "n-2"), done.error


def test_a_create_task_that_says_only_the_old_task_has_failed(workshop: Workshop) -> None:
    workshop.home.spec(directory="failed", status="failed", task_id="task-7", task_data={"description": "Harden it"})
    workshop.fleet.script("scripts/create-task.sh", "#!/bin/sh\necho retry of task-7 refused\n")
    assert workshop.repair("recover-task").state == "failed"


def test_the_second_retry_of_a_task_asks_first_and_the_lineage_is_shown(workshop: Workshop) -> None:
    from workers.remediation import ask
    from workers.remediation.lineage import lineage

    workshop.home.spec(directory="failed", status="failed", task_data={"description": "Harden it"})
    assert workshop.repair("recover-task").state == "done"
    asks = workshop.preview("recover-task")
    assert "has been retried once already" in asks.plan["asks"]
    with pytest.raises(ask.Refusal, match="Say yes to that first"):
        ask.confirm(asks, workshop.person)
    workshop.home.spec(
        "w-2", directory="failed", status="failed", task_id="task-new-0", task_data={"description": "Harden it"}
    )
    again = workshop.preview("recover-task", "w-2")
    assert "has been retried once already" in again.plan["asks"]
    done = workshop.confirm(again, answered=True)
    assert done.state == "done", done.error
    assert lineage("task-new-1") == ["task-w-1", "task-new-0", "task-new-1"]


# -- undo


@pytest.mark.parametrize("action", ["clean-up", "force-fail"])
def test_undo_puts_the_exact_bytes_back_however_odd_they_are_written(workshop: Workshop, action: str) -> None:
    odd = odd_spec()
    path = workshop.home.write(f"{ACTIVE}/w-1.json", odd)
    path.chmod(0o640)
    entry = {"status": "running", "nested": {"a": [1, None]}}
    workshop.home.pm(w_1=entry)
    done = workshop.repair(action, reason="It loops")
    assert done.state == "done", done.error
    assert b"big" in (workshop.path / FAILED / "w-1.json").read_bytes()
    undone = workshop.undo(done)
    assert undone.state == "done", undone.error
    assert path.read_bytes() == odd
    assert path.stat().st_mode & 0o777 == 0o640
    assert not workshop.exists(f"{FAILED}/w-1.json")
    assert workshop.read(PM_STATE)["monitored_workers"] == {"w-1": entry}
    assert workshop.events()[-1]["type"] == "remediation_undone"
    assert "starts no process" in undone.plan["warnings"][0]


def test_undo_leaves_an_entry_that_the_daemon_has_made_meanwhile(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.home.pm(w_1={"status": "old"})
    done = workshop.repair("clean-up")
    workshop.home.pm(w_1={"status": "new"})
    assert workshop.undo(done).state == "done"
    assert workshop.read(PM_STATE)["monitored_workers"]["w-1"] == {"status": "new"}


@pytest.mark.parametrize("change", ["edited", "removed", "taken"])
def test_undo_is_refused_with_a_reason_if_somebody_changed_the_spec_since(workshop: Workshop, change: str) -> None:
    workshop.zombie()
    done = workshop.repair("clean-up")
    failed = workshop.path / FAILED / "w-1.json"
    if change == "edited":
        failed.write_bytes(failed.read_bytes() + b"\n")
    elif change == "removed":
        failed.unlink()
    else:
        workshop.home.write(f"{ACTIVE}/w-1.json", "{}")
    before = snapshot(workshop.path)
    refused = workshop.preview_undo(done)
    assert refused.state == "refused"
    assert {"edited": "changed since", "removed": "gone", "taken": "is there again"}[change] in refused.error
    assert snapshot(workshop.path) == before


def test_undo_that_became_wrong_between_preview_and_click_is_refused(workshop: Workshop) -> None:
    workshop.zombie()
    done = workshop.repair("clean-up")
    planned = workshop.preview_undo(done)
    failed = workshop.path / FAILED / "w-1.json"
    failed.write_bytes(failed.read_bytes() + b"\n")
    assert workshop.confirm(planned).state == "refused"


def test_nothing_is_undone_twice(workshop: Workshop) -> None:
    from workers.remediation.ground import Refusal

    workshop.zombie()
    done = workshop.repair("clean-up")
    workshop.undo(done)
    with pytest.raises(Refusal, match="is undone already"):
        workshop.preview_undo(done)


def test_a_restart_cannot_be_undone(workshop: Workshop) -> None:
    from workers.remediation.ground import Refusal

    workshop.zombie()
    with pytest.raises(Refusal, match="cannot be undone"):
        workshop.preview_undo(workshop.repair("restart"))


# -- archive


def test_archive_failed_moves_everything_with_a_manifest_and_undo_brings_it_back(workshop: Workshop) -> None:
    """Trap 22: it is done here, not by a script with somebody's home directory in it."""
    for number in range(3):
        workshop.home.spec(f"w-{number}", directory="failed", status="failed", error=f"e{number}")
    workshop.home.write(f"{FAILED}/broken.json", b"{")
    workshop.home.write(f"{FAILED}/notes.txt", b"kept")
    workshop.home.spec("w-9")
    before = snapshot(workshop.path)
    done = workshop.repair("archive-failed", reason="End of the week")
    assert done.state == "done", done.error
    assert list((workshop.path / FAILED).iterdir()) == []
    (folder,) = (workshop.home.specs / "archived").iterdir()
    assert re.fullmatch(r"failed-\d{8}-\d{6}", folder.name)
    assert {path.name for path in folder.iterdir()} == {
        *("w-0.json", "w-1.json", "w-2.json", "broken.json", "notes.txt", "MANIFEST.json")
    }
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    assert (manifest["total_workers"], manifest["reason"]) == (5, "End of the week")
    assert {"file": "w-1.json", "worker_id": "w-1", "task_id": "task-w-1", "error": "e1"}.items() <= next(
        each for each in manifest["workers"] if each["file"] == "w-1.json"
    ).items()
    assert [event["type"] for event in workshop.events()] == ["failed_workers_archived"]
    undone = workshop.undo(done)
    assert undone.state == "done", undone.error
    assert snapshot(workshop.path, but=["coordination/dashboard-events.jsonl"]) == before
    assert not folder.exists()
    assert workshop.exists(f"{ACTIVE}/w-9.json")


def test_what_came_into_failed_after_the_preview_stays_there(workshop: Workshop) -> None:
    workshop.home.spec(directory="failed", status="failed")
    planned = workshop.preview("archive-failed")
    workshop.home.spec("w-2", directory="failed", status="failed")
    done = workshop.confirm(planned)
    assert done.state == "done", done.error
    assert [path.name for path in (workshop.path / FAILED).iterdir()] == ["w-2.json"]


def test_an_archive_in_which_a_file_was_changed_is_not_undone(workshop: Workshop) -> None:
    workshop.home.spec(directory="failed", status="failed")
    done = workshop.repair("archive-failed")
    (archived,) = (workshop.home.specs / "archived").rglob("w-1.json")
    archived.write_text("{}")
    refused = workshop.preview_undo(done)
    assert refused.state == "refused"
    assert "has been changed" in refused.error


def test_an_empty_failed_directory_is_nothing_to_archive(workshop: Workshop) -> None:
    assert "nothing in failed/" in workshop.preview("archive-failed").error


# -- secrets

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def database_text() -> str:
    """Everything that the database holds, as text."""
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
        rows = []
        for name in names:
            cursor.execute(f'SELECT * FROM "{name}"')
            rows += cursor.fetchall()
    return json.dumps(rows, default=str)


def test_a_secret_of_a_spec_is_stored_nowhere_and_comes_back_by_undo_all_the_same(workshop: Workshop) -> None:
    path = workshop.zombie(
        context={"auth": f"Bearer {TOKEN}"}, api_key=TOKEN, task_data={"description": f"Use {TOKEN} to log in"}
    )
    workshop.home.pm(w_1={"status": "running", "token": TOKEN})
    log = workshop.fleet.directory("w-1") / "logs/stdout.log"
    log.write_text(f"Authorization: Bearer {TOKEN}\n")
    workshop.fleet.start("sleep", "600", cwd=workshop.fleet.directory("w-1"), env={**os.environ, "KEY": TOKEN})
    before = path.read_bytes()
    done = workshop.repair("force-fail", recover=True, reason=f"It used {TOKEN}")
    assert done.state == "done", done.error
    assert TOKEN in workshop.calls("created")[0]  # it is handed on to whom it concerns
    assert TOKEN not in database_text()
    undone = workshop.undo(done)
    assert undone.state == "done", undone.error
    assert path.read_bytes() == before
    assert TOKEN not in database_text()
    assert not [kept for kept in workshop.state.rglob("*") if TOKEN.encode() in kept.read_bytes()]
    assert TOKEN not in (workshop.path / "coordination/dashboard-events.jsonl").read_text()


def test_what_a_field_that_is_overwritten_held_in_secret_cannot_be_put_back_and_that_is_said(
    workshop: Workshop,
) -> None:
    workshop.zombie(error=f"Login with {TOKEN} failed")
    done = workshop.repair("clean-up")
    assert done.state == "done", done.error
    refused = workshop.preview_undo(done)
    assert refused.state == "refused"
    assert "held a secret" in refused.error
    assert TOKEN not in database_text()


# -- the table


@pytest.mark.parametrize(
    ("action", "healths"),
    [
        ("restart", {"pending", "late", "stalled", "zombie", "crashed"}),
        ("clean-up", {"zombie", "crashed"}),
        ("force-fail", {"pending", "healthy", "late", "stalled", "zombie", "crashed"}),
    ],
)
def test_each_action_is_for_the_states_of_the_design(action: str, healths: set[str]) -> None:
    allowed = {health for health in Health if not objection(ACTIONS[action], Worker(live=True, health=health))}
    assert allowed == healths
    assert all(objection(ACTIONS[action], Worker(live=False, health=health)) for health in Health)
