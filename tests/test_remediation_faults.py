"""What can go wrong while a worker is repaired: sudden death at any moment, full disks, scripts and neighbours."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workers.coordination.layout import PM_STATE
from workers.models import Remediation, RemediationStep, Worker
from workers.remediation import ask
from workers.remediation.ground import Refusal, Stopped
from workers.remediation.steps import command, start
from workers.remediation.work import StepFailed, Work

from .conftest import Home, replace_file
from .repairs import ACTIVE, COMMANDS, FAILED, PATIENCE, Workshop, detail, in_home, snapshot, steps
from .running import ROOT, Place, lives, until

#: A clean-up alone is the beginning of one with recovery, and the two that file a spec are undone by the same steps.
KILLED_IN = ("restart", "clean-up --recover", "force-fail", "recover-task", "archive-failed")
KILLED_IN += ("undo of clean-up", "undo of archive-failed")
KILLED_IN += ("repair-spec", "quarantine", "undo of repair-spec", "undo of quarantine")


# -- sudden death


@pytest.mark.parametrize("action", KILLED_IN)
def test_killed_after_any_single_thing_it_is_finished_by_the_next_poller(
    place: Place, tmp_path: Path, action: str
) -> None:
    """See tests/killed.py: kill -9 after each commit, rename, write, signal and start; then ``poll --once``."""
    program = "import sys, django; django.setup(); from tests.killed import main; main(*sys.argv[1:])"
    root = tmp_path / "killed"
    root.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, action, str(root)],
        cwd=ROOT,
        env={**place.environment, "DJANGO_SETTINGS_MODULE": "relay_web.settings"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 10
    assert rows[-1]["step"] == ""  # it has come to its end once, unharmed
    assert [row for row in rows if row["trouble"]] == []
    assert {row["outcome"] for row in rows} == {"done"}


def test_a_step_that_was_found_failing_is_not_done_again_after_a_crash(workshop: Workshop) -> None:
    """A start that has failed is not tried once more because its executor was killed right after noting it."""
    workshop.zombie()
    workshop.fleet.script("scripts/start-worker.sh", "#!/bin/sh\necho tried >> started\nexit 3\n")
    failed = workshop.repair("restart")
    assert failed.state == "failed"
    Remediation.objects.filter(pk=failed.pk).update(state="running", finished_at=None, error="")
    again = workshop.attend(failed)
    assert (again.state, workshop.calls("started")) == ("failed", ["tried"])
    assert "exit code 3" in again.error


def test_a_quiet_create_task_that_was_interrupted_after_its_work_makes_no_second_task(workshop: Workshop) -> None:
    """It prints nothing and stores no retry_of; the new entry with the same words is the one."""
    workshop.zombie(directory="failed", status="failed", task_data={"description": "Do it"})
    asked = workshop.preview("recover-task")
    workshop.fleet.script("scripts/create-task.sh", "#!/bin/sh\nexit 0\n")
    assert workshop.confirm(asked).state == "failed"
    workshop.home.write("coordination/task-queue.json", json.dumps({"tasks": [{"id": "n-1", "description": "Do it"}]}))
    asked.steps.update(state="running", finished_at=None)
    Remediation.objects.filter(pk=asked.pk).update(state="running", finished_at=None, error="")
    again = workshop.attend(asked)
    assert (again.state, again.new_task_id) == ("done", "n-1")


def test_a_script_that_outlives_its_executor_is_waited_for_and_not_run_twice(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.zombie(directory="failed", status="failed", task_data={"description": "Do it"})
    script = workshop.path / "scripts/create-task.sh"
    slow = script.read_text().replace("import json", "import time\ntime.sleep(0.6)\nimport json")
    workshop.fleet.script("scripts/create-task.sh", slow)
    asked = workshop.preview("recover-task")
    ask.confirm(asked, workshop.person)
    workshop.executor.ground.stopping.set()  # the poller is told to end while the script runs,
    with monkeypatch.context() as patch:
        patch.setattr(command, "kill", lambda process: None)  # and is killed before it has ended the script
        with pytest.raises(Stopped):
            workshop.executor.attend(asked.pk)
    workshop.executor.ground.stopping.clear()
    again = workshop.attend(asked)
    assert (again.state, len(workshop.calls("created"))) == ("done", 1)


# -- disks


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Leave no room on a disk."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("action", ["clean-up", "force-fail", "restart", "archive-failed"])
def test_a_full_disk_leaves_everything_as_it_was(workshop: Workshop, action: str) -> None:
    with mounted(workshop.home.specs, "size=64k"):
        (workshop.home.specs / "active").mkdir()
        workshop.zombie()
        workshop.home.spec(directory="failed", created_at="2025-01-01T00:00:00Z", status="failed")
        fill(workshop.home.specs / "ballast")
        before = snapshot(workshop.home.specs)
        failed = workshop.repair(action)
        assert failed.state == "failed"
        assert "the disk is full" in failed.error
        assert snapshot(workshop.home.specs) == before
        assert not workshop.calls("started")
        assert not workshop.events()
        (workshop.home.specs / "ballast").unlink()
        assert workshop.repair(action).state == "done"


def test_a_directory_that_cannot_be_written_leaves_everything_as_it_was(workshop: Workshop) -> None:
    failed = workshop.home.specs / "failed"
    if os.geteuid():
        failed.mkdir(mode=0o555)
        _cannot_be_written(workshop)
    else:
        with mounted(failed, "ro"):
            _cannot_be_written(workshop)


def _cannot_be_written(workshop: Workshop) -> None:
    workshop.zombie()
    before = snapshot(workshop.path)
    failed = workshop.repair("clean-up")
    assert failed.state == "failed"
    assert "read-only" in failed.error or "permission" in failed.error
    assert snapshot(workshop.path) == before
    assert steps(failed)["event"] == "skipped"


# -- scripts


@pytest.mark.parametrize(
    ("action", "script", "variable"),
    [
        ("restart", "start-worker.sh", "RELAY_START_WORKER"),
        ("clean-up", "create-task.sh", "RELAY_CREATE_TASK"),
        ("force-fail", "create-task.sh", "RELAY_CREATE_TASK"),
    ],
)
def test_a_script_that_is_missing_is_told_before_anything_is_touched(
    workshop: Workshop, action: str, script: str, variable: str
) -> None:
    workshop.zombie(task_data={"description": "Do it"})
    planned = workshop.preview(action, recover=True)
    (workshop.path / "scripts" / script).chmod(0o644)
    before = snapshot(workshop.path)
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert script in refused.error
    assert variable in refused.error
    assert workshop.preview(action, recover=True).state == "refused"
    assert snapshot(workshop.path) == before


def test_a_missing_command_for_events_is_told_before_anything_is_touched(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.executor = workshop.new_executor(commands={**COMMANDS, "RELAY_EMIT_EVENT": ("scripts/emit.sh", "{type}")})
    assert "RELAY_EMIT_EVENT" in workshop.preview("clean-up").error
    assert workshop.exists(f"{ACTIVE}/w-1.json")


HANGS = "#!/bin/bash\nsleep 600 &\nsetsid sleep 601 &\nsleep 602\n"


def test_a_create_task_that_hangs_is_ended_with_everything_it_started(workshop: Workshop) -> None:
    workshop.zombie(task_data={"description": "Do it"})
    workshop.fleet.script("scripts/create-task.sh", HANGS)
    workshop.executor = workshop.new_executor(patience=replace(PATIENCE, command=0.5))
    failed = workshop.repair("clean-up", recover=True)
    assert failed.state == "failed"
    assert "did not return within 0.5 s" in failed.error
    assert steps(failed)["move"] == "done"
    until(lambda: not in_home(workshop.path))


def test_a_start_that_hangs_without_a_worker_is_ended_with_everything_it_started(workshop: Workshop) -> None:
    path = workshop.zombie()
    workshop.fleet.script("scripts/start-worker.sh", HANGS)
    workshop.executor = workshop.new_executor(patience=replace(PATIENCE, start=0.5))
    failed = workshop.repair("restart")
    assert failed.state == "failed"
    assert "did not make it run within 0.5 s" in failed.error
    assert json.loads(path.read_bytes())["status"] == "pending"
    until(lambda: not in_home(workshop.path))


@pytest.mark.parametrize("ending", ["exit 0", "exit 9"])
def test_a_script_that_writes_100_mb_costs_neither_memory_nor_disk(workshop: Workshop, ending: str) -> None:
    workshop.zombie(directory="failed", status="failed", task_data={"description": "Do it"})
    text = "#!/bin/bash\necho first words\nyes 'some long line' | head -c 100000000\necho last words\n"
    workshop.fleet.script("scripts/create-task.sh", f"{text}{ending}\n")
    planned = workshop.preview("recover-task")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failed = workshop.confirm(planned)
    assert failed.state == "failed"
    assert "last words" in failed.error
    assert "first words" in failed.output
    assert "last words" in failed.output
    assert len(failed.output) < 3 * command.KEPT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    kept = sum(path.stat().st_blocks * 512 for path in workshop.state.rglob("*"))
    assert kept <= command.MOST_OUTPUT


def test_an_output_keeps_its_last_words_where_the_disk_makes_no_holes(tmp_path: Path, monkeypatch: Any) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(command, "_punch", unsupported)
    output = tmp_path / "1-2.log"
    output.write_bytes(b"x" * (command.MOST_OUTPUT + 4096) + b"last words")
    command.trim(output)
    assert output.read_bytes().endswith(b"xlast words")
    assert output.stat().st_size == command.KEPT // 2


# -- a PM daemon that takes no lock


@contextmanager
def daemon(home: Home, change: Callable[[dict[str, Any], int], None], pace: float = 0.1) -> Iterator[None]:
    """Rewrite pm-state.json as the PM daemon does: read, change, write the one temporary name, rename."""
    stop = threading.Event()
    path = home.path / PM_STATE

    def beat() -> None:
        number = 0
        while not stop.wait(pace):
            number += 1
            state = json.loads(path.read_bytes())
            state["beats"] = number
            change(state["monitored_workers"], number)
            replace_file(path, json.dumps(state))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


ENTRY = {"status": "running", "last_checkin": None}


def test_a_daemon_that_rewrites_its_state_ten_times_a_second_loses_nothing(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.home.pm(w_1=ENTRY, w_10={"x": 1})

    def count(entries: dict[str, Any], number: int) -> None:
        entries["w-10"]["x"] = number

    with daemon(workshop.home, count):
        done = workshop.repair("clean-up")
        assert done.state == "done"
        seen = workshop.read(PM_STATE)["beats"]
        until(lambda: workshop.read(PM_STATE)["beats"] > seen)
    state = workshop.read(PM_STATE)
    assert set(state["monitored_workers"]) == {"w-10"}
    assert state["beats"] == state["monitored_workers"]["w-10"]["x"]
    assert "pm_daemon" in state


def test_an_entry_that_the_daemon_puts_back_is_taken_out_again(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.home.pm(w_1=ENTRY)
    put_back: list[int] = []

    def once(entries: dict[str, Any], number: int) -> None:
        if "w-1" not in entries and not put_back:
            put_back.append(number)
            entries["w-1"] = ENTRY

    with daemon(workshop.home, once, pace=0.04):
        done = workshop.repair("clean-up")
    assert put_back
    assert done.state == "done"
    # Twice where the daemon had also read the file before the entry was taken out and wrote it afterwards
    assert re.search("had put it back (once|2 times)", detail(done, "forget"))
    assert "w-1" not in workshop.read(PM_STATE)["monitored_workers"]


def test_a_daemon_that_puts_the_entry_back_for_ever_is_said_so(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.home.pm(w_1=ENTRY)
    with daemon(workshop.home, lambda entries, _: entries.setdefault("w-1", ENTRY), pace=0.04):  # type: ignore[arg-type]
        done = workshop.repair("clean-up")
    assert done.state == "done"
    assert "keeps putting w-1 back" in detail(done, "forget")
    assert steps(done)["event"] == "done"


def test_a_state_of_the_daemon_that_is_left_empty_is_left_alone_and_said_so(workshop: Workshop) -> None:
    """Two writers of one temporary name leave an empty file (trap 10); the spec is filed all the same."""
    workshop.zombie()
    workshop.home.write(PM_STATE, b"")
    failed = workshop.repair("clean-up")
    assert failed.state == "failed"
    assert "cannot be parsed" in failed.error
    assert workshop.exists(f"{FAILED}/w-1.json")
    assert steps(failed) | {"evidence": ""} == {"evidence": "", "move": "done", "forget": "failed", "event": "done"}
    assert (workshop.path / PM_STATE).read_bytes() == b""


# -- a worker that beats at the same moment

BEAT = """while [ -e beating ]; do
  jq ".heartbeat = $((++n))" {spec} > {spec}.tmp && mv {spec}.tmp {spec}
  echo $n > beats
done"""


@contextmanager
def heartbeat(workshop: Workshop, spec: Path) -> Iterator[None]:
    """Rewrite a spec without a pause, as the fleet's heartbeat does: jq, and mv over it."""
    beating = workshop.path / "beating"
    beating.touch()
    process = workshop.fleet.start("/bin/bash", "-c", BEAT.format(spec=spec))
    until((workshop.path / "beats").exists)
    try:
        yield
    finally:
        beating.unlink(missing_ok=True)
        process.wait(10)


@pytest.mark.parametrize("action", ["clean-up", "force-fail"])
def test_a_spec_that_is_rewritten_at_the_same_moment_is_filed_once_and_whole(workshop: Workshop, action: str) -> None:
    path = workshop.zombie()
    with heartbeat(workshop, path):
        done = workshop.repair(action)
        assert done.state == "done", done.error
    spec = workshop.read(f"{FAILED}/w-1.json")
    assert (spec["status"], spec["task_id"]) == ("failed", "task-w-1")
    assert spec["heartbeat"] > 0
    assert not path.exists()
    assert not workshop.left_behind()


def test_a_worker_whose_spec_is_rewritten_at_the_same_moment_is_restarted(workshop: Workshop) -> None:
    path = workshop.zombie()
    script = (workshop.path / "scripts/start-worker.sh").read_text()
    quiet = "rm -f beating; while pgrep -f 'beatin[g]' > /dev/null; do sleep 0.02; done\n"
    workshop.fleet.script("scripts/start-worker.sh", script.replace("printf", f"{quiet}printf", 1))
    with heartbeat(workshop, path):
        done = workshop.repair("restart")
    assert done.state == "done", done.error
    assert json.loads(path.read_bytes())["status"] == "running"
    assert json.loads(path.read_bytes())["heartbeat"] > 0
    assert not workshop.left_behind()


# -- two at once


@pytest.mark.django_db(transaction=True)
def test_of_two_operators_at_once_exactly_one_wins(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "home", tmp_path / "state")
    workshop.zombie()
    previews = [workshop.preview("clean-up"), workshop.preview("force-fail")]
    together = threading.Barrier(2)

    def click(number: int) -> str:
        from django.db import connection

        together.wait()
        try:
            ask.confirm(previews[number], workshop.somebody(f"person {number}"))
        except Refusal as refusal:
            return str(refusal)
        finally:
            connection.close()
        return ""

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(click, range(2)))
    assert sorted(map(bool, answers)) == [False, True]
    assert "has just begun to" in "".join(answers)
    executors = [workshop.new_executor(), workshop.new_executor()]
    for executor in executors:  # and whoever else looks for work finds it taken
        executor.look()
    for executor in executors:
        executor.finish()
        executor.close()
    states = sorted(Remediation.objects.values_list("state", flat=True))
    assert states == ["done", "planned"]
    assert len(workshop.events()) == 1
    workshop.close()


@pytest.mark.django_db(transaction=True)
def test_two_executors_that_look_at_once_do_it_once(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "home", tmp_path / "state")
    workshop.zombie(task_data={"description": "Do it"})
    planned = workshop.preview("clean-up", recover=True)
    ask.confirm(planned, workshop.person)
    executors = [workshop.new_executor() for _ in range(3)]
    for number, executor in enumerate(executors):
        executor.name += str(number)  # as if each were a process of its own
    together = threading.Barrier(3)

    def look(executor: Any) -> None:
        together.wait()
        executor._in_thread(planned.pk)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(look, executors))
    planned.refresh_from_db()
    assert planned.state == "done"
    assert len(workshop.events()) == len(workshop.calls("created")) == 1
    workshop.close()


def test_a_start_that_another_repair_has_collected_still_says_how_it_ended(workshop: Workshop) -> None:
    """The executor's threads share the scripts that they have started, and each start collects those that ended."""
    workshop.home.spec(status="pending", execution__started_at=None)
    workshop.fleet.script("scripts/start-worker.sh", "#!/bin/sh\necho No tokens left\nexit 7\n")
    launched, watched = steps_by_hand(workshop.preview("restart"), workshop, "start", "watch")
    start.start(launched)
    until(lambda: not lives(launched.data["pid"]))
    start.children.reap()
    began = time.monotonic()
    with pytest.raises(StepFailed, match=r"ended with exit code 7.*No tokens left"):
        start.watch(watched)
    assert time.monotonic() - began < PATIENCE.start / 2


def steps_by_hand(remediation: Remediation, workshop: Workshop, *kinds: str) -> list[Work]:
    """Write the journal of a remediation, to carry out some of its steps one by one."""
    Remediation.objects.filter(pk=remediation.pk).update(state="running")
    names = ("kind", "target", "detail", "data")
    for number, step in enumerate(remediation.plan["steps"]):
        values = {name: step[name] for name in names}
        RemediationStep.objects.create(remediation=remediation, number=number, **values)
    ground = workshop.ground()
    return [Work(remediation, remediation.steps.get(kind=kind), ground) for kind in kinds]


def test_scripts_are_collected_by_all_threads_at_once() -> None:
    """While some start further scripts and others stop waiting for theirs."""
    children = command.Children()
    together = threading.Barrier(4)

    def start_and_collect(_: int) -> None:
        together.wait()
        for _ in range(25):
            process = subprocess.Popen(["/bin/true"])
            children.add(process)
            children.reap()
            assert children.get(process.pid) is process
            children.leave(process)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(start_and_collect, range(4)))
    finally:
        sys.setswitchinterval(interval)
    until(lambda: (children.reap(), not children)[1], what="all have been collected")


# -- names and words that somebody may have chosen badly

NASTY = {
    "quotes": """it's "quoted" `touch {trap}`""",
    "newlines": "one\ntwo\r\nthree",
    "a command": "$(touch {trap}); touch {trap} && touch {trap}",
    "a way out": "../../../{trap}",
    "an option": "--help",
    "long": "x" * 10_000,
    "nul": "a\0b",
    "half a letter": "a\ud800b",
    "braces": "{{spec}} {{description}} {{nothing}}",
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_no_name_or_description_reaches_a_shell_or_leaves_the_home(workshop: Workshop, text: str) -> None:
    trap = Path(tempfile.gettempdir(), f"trap-{workshop.path.parent.name[-40:]}")  # an id has room for 255 characters
    text = text.format(trap=trap)
    values = {"task_id": text, "worker_type": text, "error": text, "task_data": {"description": text}}
    workshop.zombie(text, name="w-1", **values)
    workshop.home.pm(**{text.replace("_", "-"): ENTRY})
    workshop.cycle()
    around = {path.name for path in workshop.path.parent.iterdir()}
    worker_id = Worker.objects.get().worker_id
    done = workshop.repair("clean-up", worker_id, recover=True, reason=text)
    assert done.state == "done", done.error
    spec = workshop.read(f"{FAILED}/w-1.json")
    assert (spec["worker_id"], spec["task_data"]["description"]) == (text, text)
    options = json.loads(workshop.calls("created")[0])
    said = options[options.index("--description") + 1]
    assert said == text.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert json.loads(options[options.index("--metadata") + 1].replace("\ufffd", "")) is not None
    assert len(options) == 8
    assert workshop.undo(done).state == "done"
    assert json.loads((workshop.path / ACTIVE / "w-1.json").read_bytes())["status"] == "running"
    assert not trap.exists()
    assert {path.name for path in workshop.path.parent.iterdir()} == around | {"state"}
    assert not workshop.left_behind()


@pytest.mark.parametrize("text", [NASTY["quotes"], NASTY["a command"], NASTY["a way out"], NASTY["an option"]])
def test_a_worker_with_such_a_name_is_started_by_the_path_of_its_spec(workshop: Workshop, text: str) -> None:
    trap = Path(tempfile.gettempdir(), f"trap-{workshop.path.parent.name[-40:]}")  # an id has room for 255 characters
    path = workshop.zombie(text.format(trap=trap), name="w-1")
    workshop.executor = workshop.new_executor(patience=replace(PATIENCE, start=0.3))
    failed = workshop.repair("restart", text.format(trap=trap))  # this fleet's script knows it by its file's name
    assert workshop.calls("started") == [f"--spec {path}"]
    assert failed.state == "failed"
    assert not trap.exists()


def test_a_spec_that_is_a_link_out_of_the_home_is_not_followed(workshop: Workshop) -> None:
    path = workshop.zombie()
    outside = workshop.path.parent / "outside.json"
    workshop.cycle()
    path.rename(outside)
    path.symlink_to(outside)
    before = outside.read_bytes()
    worker = workshop.worker()
    refused = workshop.attend(ask.request(ask.ACTIONS["clean-up"], workshop.person, worker))
    assert refused.state == "refused"
    assert outside.read_bytes() == before


def test_a_failed_directory_that_leads_out_of_the_home_takes_nothing(workshop: Workshop) -> None:
    path = workshop.zombie()
    outside = workshop.path.parent / "outside"
    outside.mkdir()
    (workshop.home.specs / "failed").symlink_to(outside)
    failed = workshop.repair("clean-up")
    assert failed.state == "failed"
    assert path.exists()
    assert list(outside.iterdir()) == []


def test_an_error_that_nobody_foresaw_ends_it_with_a_reason(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again and again it would never end, and the page would say "running" for ever."""
    from workers.remediation import execute

    def breaks(work: Any) -> str:
        raise KeyError("surprise")

    workshop.zombie()
    monkeypatch.setitem(execute.CARRY_OUT, "move", breaks)
    failed = workshop.repair("clean-up")
    assert (failed.state, failed.error) == ("failed", "KeyError: 'surprise'")
    assert workshop.exists(f"{ACTIVE}/w-1.json")
