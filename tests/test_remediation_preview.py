"""A preview is the plan that is carried out. Where the world has moved on it is refused, and nothing is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from workers.coordination.layout import PM_STATE
from workers.coordination.records import ProcessKey
from workers.models import Remediation
from workers.remediation import ask, execute
from workers.remediation.actions import ACTIONS
from workers.remediation.ground import Refusal
from workers.remediation.steps import stop

from .conftest import person, replace_file
from .repairs import ACTIVE, FAILED, Workshop, ago, detail, snapshot, steps
from .running import children, lives, until


def rewrite(path: Path, **values: Any) -> None:
    """Rewrite a spec as somebody else of the fleet does."""
    spec = json.loads(path.read_bytes())
    for key, value in values.items():
        inner, _, last = key.rpartition("__")
        (spec[inner] if inner else spec)[last] = value
    replace_file(path, json.dumps(spec))


def shown(remediation: Remediation) -> list[tuple[str, str]]:
    return [(step["kind"], step["target"]) for step in (remediation.plan or {})["steps"]]


# -- what it shows


def test_what_was_shown_is_what_is_done(workshop: Workshop) -> None:
    workshop.stalled(task_data={"description": "Harden it"})
    workshop.home.pm(w_1={"status": "running"})
    workshop.fleet.headless("w-1", emitter=True)
    planned = workshop.preview("force-fail", recover=True)
    before = shown(planned)
    assert [kind for kind, _ in before] == ["evidence", "stop", "move", "forget", "event", "create-task"]
    done = workshop.confirm(planned)
    assert done.state == "done", done.error
    assert [(step.kind, step.target) for step in done.steps.order_by("number")] == before


def test_it_names_processes_files_with_their_lines_and_commands(workshop: Workshop) -> None:
    workshop.stalled()
    workshop.home.pm(w_1={"status": "running"})
    wrapper = workshop.fleet.headless("w-1", emitter=True)
    restart = {step["kind"]: step for step in workshop.preview("restart").plan["steps"]}
    processes = restart["stop"]["shown"]["processes"]
    assert {process["pid"] for process in processes} == {wrapper.pid, *children(wrapper.pid)}
    assert {process["part"] for process in processes} == {"emitter", "worker", "child"}
    assert restart["rewrite"]["shown"]["diff"][:2] == [["-", '"status": "running"'], ["+", '"status": "pending"']]
    command = [str(workshop.path / "scripts/start-worker.sh"), "--spec", str(workshop.path / ACTIVE / "w-1.json")]
    assert restart["start"]["shown"]["command"] == command
    assert str(restart["stop"]["detail"]).startswith(f"SIGTERM to its heartbeat emitter ({processes[0]['pid']},")
    filed = {step["kind"]: step for step in workshop.preview("force-fail").plan["steps"]}
    assert ["+", '"error": "Manual termination"'] in filed["move"]["shown"]["diff"]
    assert filed["move"]["target"] == f"{FAILED}/w-1.json"
    assert filed["forget"]["shown"]["path"] == PM_STATE


def test_a_preview_touches_nothing(workshop: Workshop) -> None:
    workshop.stalled(task_data={"description": "Harden it"})
    workshop.home.pm(w_1={"status": "running"})
    wrapper = workshop.fleet.headless("w-1")
    before = snapshot(workshop.path)
    for action in ("restart", "force-fail"):
        assert workshop.preview(action, recover=True).state == "planned"
    assert snapshot(workshop.path) == before
    assert lives(wrapper.pid)


# -- what it relies on

CHANGES: dict[str, tuple[Callable[[Workshop], object], str]] = {
    "its status": (lambda shop: rewrite(shop.path / ACTIVE / "w-1.json", status="in_progress"), "What its spec says"),
    "its attempt": (lambda shop: rewrite(shop.path / ACTIVE / "w-1.json", execution__started_at=ago(1)), "Its start"),
    "a field to be changed": (lambda shop: rewrite(shop.path / ACTIVE / "w-1.json", error="Aha"), "A field"),
    "a process that is new": (lambda shop: shop.fleet.terminal("w-1"), "Its process"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_between_preview_and_click_refuses_and_offers_a_new_preview(
    workshop: Workshop, change: str
) -> None:
    workshop.zombie()
    planned = workshop.preview("force-fail", reason="It hangs")
    make, named = CHANGES[change]
    make(workshop)
    before = snapshot(workshop.path)
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert refused.error.startswith(f"{named} ")
    assert "there is a new preview" in refused.error
    assert snapshot(workshop.path) == before
    again = Remediation.objects.get(instead_of=refused)
    assert (again.state, again.reason, again.actor) == ("planned", "It hangs", "kim")
    done = workshop.confirm(again)
    assert done.state == "done", done.error


def test_a_process_that_has_gone_since_the_preview_refuses_and_offers_a_new_one(workshop: Workshop) -> None:
    workshop.stalled()
    wrapper = workshop.fleet.headless("w-1")
    planned = workshop.preview("force-fail")
    os.killpg(wrapper.pid, signal.SIGKILL)
    wrapper.wait()
    refused = workshop.confirm(planned)
    assert (refused.state, refused.error.split(" has")[0]) == ("refused", "Its process")
    assert shown(Remediation.objects.get(instead_of=refused))[1][0] == "move"


@pytest.mark.parametrize("where", ["failed", "completed", "archived/2025-11"])
def test_a_spec_that_has_moved_on_is_left_alone(workshop: Workshop, where: str) -> None:
    path = workshop.zombie()
    planned = workshop.preview("clean-up")
    target = workshop.home.specs / where / "w-1.json"
    target.parent.mkdir(parents=True)
    path.rename(target)
    before = snapshot(workshop.path)
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert "is gone" in refused.error
    assert snapshot(workshop.path) == before
    with pytest.raises(Refusal):
        workshop.preview("clean-up")


def test_another_run_of_the_same_id_is_left_alone(workshop: Workshop) -> None:
    workshop.zombie()
    planned = workshop.preview("clean-up")
    workshop.zombie(created_at=ago(2), execution__started_at=ago(2))
    before = snapshot(workshop.path)
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert "belongs to another run by now" in refused.error
    assert snapshot(workshop.path) == before


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_worker_that_finished_between_check_and_click_is_left_alone(workshop: Workshop, status: str) -> None:
    """It was done in the very moment in which somebody decided that it hangs."""
    path = workshop.zombie()
    planned = workshop.preview("clean-up")
    rewrite(path, status=status, execution__completed_at=ago(0))
    before = snapshot(workshop.path)
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert f"says {status} by now" in refused.error
    assert snapshot(workshop.path) == before


def test_a_spec_that_is_broken_by_now_is_left_alone(workshop: Workshop) -> None:
    """Traps 6 to 8: jq would have moved it and left it empty."""
    path = workshop.zombie()
    planned = workshop.preview("clean-up")
    path.write_bytes(b'{"worker_id": "w-1", "status": ,')
    before = snapshot(workshop.path)
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert "must be repaired first" in refused.error
    assert snapshot(workshop.path) == before


def test_a_heartbeat_that_rewrites_the_spec_every_50_ms_refuses_nothing(workshop: Workshop) -> None:
    path = workshop.stalled()
    workshop.fleet.headless("w-1")
    stop_it = threading.Event()

    def beat() -> None:
        number = 0
        while not stop_it.wait(0.05) and json.loads(path.read_bytes())["status"] == "running":
            rewrite(path, heartbeat={"sequence": (number := number + 1)}, tokens_used=number)

    thread = threading.Thread(target=beat)
    planned = workshop.preview("restart")
    thread.start()
    until(lambda: "heartbeat" in json.loads(path.read_bytes()))
    try:
        done = workshop.confirm(planned)
    finally:
        stop_it.set()
        thread.join()
    assert done.state == "done", done.error
    assert json.loads(path.read_bytes())["heartbeat"]["sequence"] >= 1


def test_children_that_come_and_go_refuse_nothing(workshop: Workshop) -> None:
    workshop.stalled()
    wrapper = workshop.fleet.headless("w-1")
    planned = workshop.preview("force-fail")
    claude = next(iter(children(wrapper.pid)))
    os.kill(claude, signal.SIGSTOP)
    helper = workshop.fleet.start("sleep", "600", cwd=workshop.fleet.directory("w-1"))
    done = workshop.confirm(planned)
    assert done.state == "done", done.error
    assert not lives(claude)
    assert not lives(helper.pid)


def test_an_operator_who_has_lost_the_role_by_now_is_refused(workshop: Workshop) -> None:

    workshop.zombie()
    workshop.cycle()
    kim = person("kim", "operator")
    asks = ask.Person("kim", "browser", user=kim)
    planned = workshop.attend(ask.request(ask.ACTIONS["clean-up"], asks, workshop.worker()))
    ask.confirm(planned, asks)
    kim.groups.clear()
    refused = workshop.attend(planned)
    assert refused.state == "refused"
    assert "may not clean up any more" in refused.error
    assert workshop.exists(f"{ACTIVE}/w-1.json")


def test_a_viewer_is_refused_where_the_request_is_made(workshop: Workshop) -> None:

    workshop.zombie()
    workshop.cycle()
    with pytest.raises(Refusal, match="may not clean up"):
        ask.request(ask.ACTIONS["clean-up"], ask.Person("v", "browser", user=person("v", "viewer")), workshop.worker())
    assert not Remediation.objects.exists()


# -- which process


def test_a_pid_that_was_given_to_another_program_is_not_signalled(workshop: Workshop) -> None:
    """The pid file is older than the process that has its number by now."""
    workshop.stalled()
    bystander = workshop.fleet.start("sleep", "600")
    workshop.fleet.write_pid("w-1", bystander.pid, datetime.now(UTC) - timedelta(minutes=10))
    done = workshop.repair("force-fail")
    assert done.state == "done", done.error
    assert "stop" not in steps(done)
    assert lives(bystander.pid)


def test_a_pid_that_changes_hands_between_the_look_and_the_signal_is_not_signalled(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.stalled()
    workshop.fleet.headless("w-1")
    bystander = workshop.fleet.start("sleep", "600")
    real = stop.send_signal

    def in_other_hands(key: ProcessKey, number: int) -> str:
        return real(key, number) or real(ProcessKey(bystander.pid, key.start_ticks, key.boot_id), number)

    monkeypatch.setattr(stop, "send_signal", in_other_hands)
    done = workshop.repair("force-fail")
    assert done.state == "done", done.error
    assert lives(bystander.pid)


STUBBORN = (
    f"#!{sys.executable} -IS\nimport signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('stubborn', 'w')\n"
)


def test_a_process_that_ignores_sigterm_gets_sigkill(workshop: Workshop) -> None:
    workshop.stalled()
    claude = workshop.fleet.script("bin/stubborn/claude", f"{STUBBORN}while True: signal.pause()\n")
    wrapper = workshop.fleet.headless("w-1", claude=claude)
    until((workshop.fleet.directory("w-1") / "stubborn").exists)
    (child,) = children(wrapper.pid)
    done = workshop.repair("force-fail")
    assert done.state == "done", done.error
    assert f"{child} (SIGKILL)" in detail(done, "stop")
    assert not lives(child)


@pytest.mark.parametrize("action", ["restart", "force-fail"])
def test_a_process_that_does_not_go_at_all_ends_it_with_the_reason_and_nothing_else_is_done(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """State D cannot be made at will, so the signals get lost here; "sent" is not "ended"."""
    workshop.stalled()
    wrapper = workshop.fleet.headless("w-1")
    monkeypatch.setattr(stop, "send_signal", lambda key, number: "")
    before = snapshot(workshop.path)
    failed = workshop.repair(action)
    assert failed.state == "failed"
    assert "does not go, not even on SIGKILL: it is in state sleeping" in failed.error
    assert snapshot(workshop.path) == before
    assert set(list(steps(failed).values())[2:]) == {"skipped"}
    assert not failed.holds
    assert lives(wrapper.pid)


def test_a_signal_that_the_system_refuses_ends_it_with_the_reason(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.stalled()
    workshop.fleet.headless("w-1")
    monkeypatch.setattr(stop, "send_signal", lambda key, number: "the user of this poller may not signal it")
    before = snapshot(workshop.path)
    failed = workshop.repair("force-fail")
    assert (failed.state, snapshot(workshop.path)) == ("failed", before)
    assert "may not signal it; nothing else was done" in failed.error


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_a_worker_of_another_user_is_refused_and_both_users_are_told(workshop: Workshop) -> None:
    workshop.stalled()
    for folder in (workshop.path, *workshop.path.parents):
        if folder.stat().st_mode & 0o5 != 0o5:
            folder.chmod(folder.stat().st_mode | 0o5)
    directory = workshop.fleet.directory("w-1")
    worker = workshop.fleet.start("sleep", "600", cwd=directory, user="nobody")
    refused = workshop.preview("force-fail")
    assert refused.state == "refused"
    assert f"Process {worker.pid} belongs to nobody" in refused.error
    assert lives(worker.pid)


def test_processes_that_keep_appearing_are_given_up_with_a_reason(workshop: Workshop) -> None:
    """A supervisor of its own starts it again and again."""
    workshop.stalled()
    directory = workshop.fleet.directory("w-1")
    text = f"cd {directory}; while :; do sleep 600; done"
    supervisor = workshop.fleet.start("/bin/bash", "-c", f"while :; do ( {text} ); done")
    until(lambda: [pid for pid in children(supervisor.pid) if _cwd(pid) == str(directory)])
    before = snapshot(workshop.path)
    failed = workshop.repair("force-fail")
    assert failed.state == "failed"
    assert "keep appearing" in failed.error
    assert snapshot(workshop.path) == before


def _cwd(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def test_processes_that_cannot_be_seen_from_here_refuse_it(workshop: Workshop) -> None:
    workshop.zombie()
    planned = workshop.preview("clean-up")
    rewrite(workshop.path / ACTIVE / "w-1.json", execution__host="elsewhere")
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert "cannot be seen" in refused.error


# -- requests


def test_a_preview_that_comes_while_somebody_clicks_is_not_confirmed_unseen(workshop: Workshop) -> None:
    """What the view has read is still being planned, and so asks nothing; the plan that comes meanwhile does."""
    workshop.home.spec(directory="failed", status="failed", task_data={"description": "Harden it"})
    assert workshop.repair("recover-task").state == "done"
    asked = ask.request(ACTIONS["recover-task"], workshop.person, workshop.worker())
    seen = Remediation.objects.get(pk=asked.pk)
    assert "has been retried once already" in workshop.attend(asked).plan["asks"]
    with pytest.raises(Refusal, match="look at it first"):
        ask.confirm(seen, workshop.person)
    asked.refresh_from_db()
    assert asked.state == "planned"
    with pytest.raises(Refusal, match="Say yes to that first"):  # and now it knows the question
        ask.confirm(seen, workshop.person)


def test_a_request_that_was_withdrawn_is_not_carried_out(workshop: Workshop) -> None:

    workshop.zombie()
    planned = workshop.preview("clean-up")
    ask.confirm(planned, workshop.person)
    ask.withdraw(planned, workshop.person)
    assert workshop.attend(planned).state == "withdrawn"
    assert workshop.exists(f"{ACTIVE}/w-1.json")
    with pytest.raises(Refusal, match="It is withdrawn by now"):
        ask.confirm(planned, workshop.person)


def test_a_plan_that_nobody_foresaw_to_fail_is_refused_with_a_reason(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("surprise")

    workshop.zombie()
    monkeypatch.setattr(execute, "make_plan", breaks)
    refused = workshop.preview("clean-up")
    assert (refused.state, refused.error) == ("refused", "It could not be planned: KeyError: 'surprise'")


def test_copying_the_command_gives_what_the_button_does(workshop: Workshop) -> None:
    from workers.remediation.queries import card

    workshop.zombie(task_data={"description": "x"})
    planned = workshop.preview("clean-up", recover=True, reason="it's stuck")
    shown = card(planned.pk, datetime.now(UTC))
    assert shown is not None
    words = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {shown.command}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words == ["manage.py", "remediate", "clean-up", "w-1", "--recover", "--reason", "it's stuck"]
