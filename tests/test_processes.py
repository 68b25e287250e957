"""What a worker looks like to the operating system, and what only looks like one. Everything here is a real process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from workers.coordination.layout import Layout
from workers.coordination.records import ProcessKey
from workers.coordination.traces import TraceReader
from workers.ownership import ProcessTable
from workers.processes import _portable_stat, _stat

from .launchers import BUSY_CLAUDE, HOST, Fleet, pids
from .running import until

ID = "worker-001"
ROOT = os.geteuid() == 0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "home")
    yield fleet
    fleet.close()


# -- the launchers


def test_a_headless_worker_is_found_by_its_pid_file_and_claude_below_its_wrapper(fleet: Fleet) -> None:
    wrapper = fleet.headless(ID)
    found = fleet.look(ID)
    assert found.main
    assert (found.main.pid, found.found_by, found.source) == (
        wrapper.pid,
        "its pid file",
        f"agents/workers/{ID}/worker.pid",
    )
    assert pids(found) == [wrapper.pid, fleet.child_of(wrapper.pid)]
    claude = found.tree[1]
    assert ID not in " ".join(claude.argv)
    assert claude.cwd == str(fleet.directory(ID))
    assert claude.ours


def test_a_worker_of_the_old_terminal_launcher_is_found_by_its_directory(fleet: Fleet) -> None:
    wrapper = fleet.terminal(ID)
    found = fleet.look(ID)
    assert found.main
    assert (found.main.pid, found.found_by) == (wrapper.pid, "its working directory")
    assert len(found.tree) == 2


def test_a_prompt_that_mentions_other_workers_is_no_life_of_theirs(fleet: Fleet) -> None:
    fleet.terminal(ID)
    others = fleet.find(*(fleet.claim(other) for other in ("worker-777", "worker-778", "worker-779")))
    assert [other.main for other in others] == [None, None, None]


def test_a_worker_of_start_worker_is_found_by_its_exact_id_in_the_arguments(fleet: Fleet) -> None:
    wrapper = fleet.start_worker(ID)
    found = fleet.look(ID)
    assert found.main
    assert (found.main.pid, found.found_by) == (wrapper.pid, "its id in the command")
    assert len(found.tree) == 2


def test_a_shell_worker_of_the_daemon_is_found_by_its_environment(fleet: Fleet) -> None:
    worker = fleet.shell_worker(ID)
    found = fleet.look(ID)
    assert found.main
    assert (found.main.pid, found.found_by) == (worker.pid, "WORKER_ID in its environment")
    assert len(found.tree) == 2


def test_worker_id_in_an_environment_outside_the_home_is_no_life(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start(fleet.claude, cwd=tmp_path, env={**os.environ, "WORKER_ID": ID})
    assert fleet.look(ID).main is None


def test_a_pid_in_the_spec_is_believed_as_a_pid_file_is(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude)
    found = fleet.look(ID, spec_pid=process.pid, spec_pid_written_at=datetime.now(UTC))
    assert found.main
    assert (found.main.pid, found.found_by) == (process.pid, "the pid in its spec")


def test_a_home_behind_a_symlink_is_the_same_home(fleet: Fleet, tmp_path: Path) -> None:
    fleet.terminal(ID)
    (tmp_path / "link").symlink_to(fleet.home)
    table = ProcessTable(tmp_path / "link", HOST)
    table.refresh(time.time())
    claim = replace(fleet.claim(ID), worker_dir=str(tmp_path / "link/agents/workers" / ID))
    assert table.match(claim).found_by == "its working directory"


# -- who only looks on


def bystander(fleet: Fleet, what: str, tmp_path: Path) -> None:
    """Start somebody who has to do with the worker's files and does not do its work."""
    directory = fleet.directory(ID)
    log = directory / "logs/stdout.log"
    log.touch()
    other_home = tmp_path / "other"
    (other_home / "coordination/worker-specs").mkdir(parents=True, exist_ok=True)
    vim = tmp_path / "vim"
    shutil.copy(shutil.which("sleep") or "", vim)
    idle = "import signal; signal.pause()"
    exported = {**os.environ, "WORKER_ID": ID}
    match what:
        case "a tail of its log":
            fleet.start("tail", "-f", log)
        case "a tail in its directory":
            fleet.start("tail", "-f", "logs/stdout.log", cwd=directory)
        case "a tail after export WORKER_ID":
            fleet.start("tail", "-f", "/dev/null", env=exported)
        case "a tail under timeout":
            fleet.start("timeout", "600", "tail", "-f", log)
        case "an editor":
            fleet.start(vim, "600", cwd=directory)
        case "a grep for it":
            fleet.start("grep", ID)
        case "the runbook's zombie loop":
            fleet.start("sh", "-c", f"ps aux | grep {ID}; sleep 600; true", "_", f"{ID}.json")
        case "a shell whose script mentions it in its directory":
            fleet.start("sh", "-c", f"while read line; do : {ID}; done; true", cwd=directory)
        case "a shell with it as an argument of its script":
            fleet.start("sh", "-c", "while read line; do : $1; done; true", "_", ID)
        case "a shell prompt in its directory":
            fleet.start("bash", "--norc", cwd=directory)
        case "a login shell in its directory":
            fleet.start("-bash", cwd=directory, executable="/bin/bash")
        case "watch":
            repeat = fleet.script("bin/watch", "#!/bin/bash\nwhile :; do sleep 600; done\n")
            fleet.child_of(fleet.start(repeat, cwd=directory).pid, "sleep")
        case "worker-0010":
            fleet.start_worker("worker-0010")
        case "worker-001-restart-1":
            fleet.headless("worker-001-restart-1")
        case "a worker of this id in another home":
            fleet.start(sys.executable, "-c", idle, ID, cwd=other_home)
        case "its directory in another home":
            path = other_home / f"agents/workers/{ID}/execute.py"
            path.parent.mkdir(parents=True)
            path.write_text(idle)
            fleet.start(sys.executable, path)
        case "Relay Web itself":
            script = Path(__file__).resolve().parent.parent / "manage.py"
            fleet.start(sys.executable, "-c", idle, script, "remediate", "restart", ID)
        case "Relay Web of another checkout":
            checkout = tmp_path / "checkout"
            (checkout / "relay_web").mkdir(parents=True)
            (checkout / "relay_web/settings.py").touch()
            fleet.start(sys.executable, "-c", idle, "manage.py", "remediate", "restart", ID, cwd=checkout)


BYSTANDERS = [
    *("a tail of its log", "a tail in its directory", "a tail after export WORKER_ID", "a tail under timeout"),
    *("an editor", "a grep for it", "the runbook's zombie loop", "a shell whose script mentions it in its directory"),
    *("a shell with it as an argument of its script", "a shell prompt in its directory"),
    *("a login shell in its directory", "watch", "worker-0010", "worker-001-restart-1"),
    *("a worker of this id in another home", "its directory in another home", "Relay Web itself"),
    "Relay Web of another checkout",
]


@pytest.mark.parametrize("what", BYSTANDERS)
def test_a_bystander_is_no_life(fleet: Fleet, tmp_path: Path, what: str) -> None:
    bystander(fleet, what, tmp_path)
    found = fleet.look(ID)
    assert found.main is None, found.main
    assert found.tree == found.companions == ()


def test_bystanders_do_not_hide_the_worker_among_them(fleet: Fleet, tmp_path: Path) -> None:
    for what in ("a tail in its directory", "a shell prompt in its directory", "the runbook's zombie loop"):
        bystander(fleet, what, tmp_path)
    wrapper = fleet.terminal(ID)
    found = fleet.look(ID)
    assert pids(found) == [wrapper.pid, fleet.child_of(wrapper.pid)]


@pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux here")
def test_a_terminal_multiplexer_is_never_a_worker_nor_part_of_one(fleet: Fleet, tmp_path: Path) -> None:
    directory = fleet.directory(ID)
    fleet.script(f"agents/workers/{ID}/execute.sh", f"#!/bin/bash\n{fleet.claude} -p\nexit $?\n")
    tmux = ["tmux", "-S", tmp_path / "socket"]
    subprocess.run([*tmux, "new-session", "-d", "-s", ID, "-c", directory, "./execute.sh"], check=True, cwd=directory)
    try:
        found = until(lambda: (seen := fleet.look(ID)) and len(seen.tree) == 2 and seen)
        assert found.main
        assert found.main.argv == ("/bin/bash", "./execute.sh")
        server = found.main.ppid
        assert "tmux" in psutil.Process(server).name()
        fleet.write_pid(ID, server)
        assert f"Pid {server} of agents/workers/{ID}/worker.pid is a terminal multiplexer, not the worker" in (
            fleet.look(ID).rejected
        )
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)


# -- heartbeat emitters


def test_a_heartbeat_emitter_that_outlived_its_worker_is_a_companion_and_no_life(fleet: Fleet) -> None:
    emitter = fleet.emit_heartbeats(ID, cwd=fleet.directory(ID))
    found = fleet.look(ID)
    assert found.main is None
    # What it sleeps in is named too: left behind, it would be a process in the worker's own directory.
    assert [process.pid for process in found.companions] == [emitter.pid, fleet.child_of(emitter.pid, "sleep")]


def test_an_emitter_below_the_wrapper_is_not_part_of_the_tree(fleet: Fleet) -> None:
    wrapper = fleet.headless(ID, emitter=True)
    emitter = int((fleet.directory(ID) / "heartbeat.pid").read_text())
    nap = fleet.child_of(emitter, "sleep")
    found = fleet.look(ID)
    assert emitter not in pids(found)
    assert nap not in pids(found)
    assert pids(found)[0] == wrapper.pid
    assert len(pids(found)) == 2
    assert [process.pid for process in found.companions] == [emitter, nap]


def test_what_a_killed_emitter_leaves_behind_is_no_life(fleet: Fleet) -> None:
    emitter = fleet.emit_heartbeats(ID, cwd=fleet.directory(ID))
    nap = fleet.child_of(emitter.pid, "sleep")
    fleet.table.refresh(time.time())
    assert fleet.table.assign({1: fleet.claim(ID)})[1].main is None
    emitter.kill()
    emitter.wait()
    assert emitter.pid in fleet.table.refresh(time.time()).gone
    assert psutil.Process(nap).cwd() == str(fleet.directory(ID))
    assert fleet.table.assign({})[1].main is None


def test_a_part_of_the_wrapper_that_heartbeat_pid_names_is_a_companion(fleet: Fleet) -> None:
    directory = fleet.directory(ID)
    loop = "( while :; do sleep 60; done ) &\necho $! > heartbeat.pid\n"
    fleet.script(f"agents/workers/{ID}/execute.sh", f"#!/bin/bash\n{loop}{fleet.claude} -p\nexit $?\n")
    wrapper = fleet.start("/bin/bash", "./execute.sh", cwd=directory)
    until(lambda: len(psutil.Process(wrapper.pid).children(recursive=True)) == 3)
    found = fleet.look(ID)
    assert found.companions[0].pid == int((directory / "heartbeat.pid").read_text())
    assert found.companions[0].argv == ("/bin/bash", "./execute.sh")
    assert len(found.tree) == 2
    for process in found.tree[::-1]:
        os.kill(process.pid, signal.SIGKILL)
    wrapper.wait()
    left = fleet.look(ID)
    assert left.main is None
    assert {process.pid for process in left.companions} == {process.pid for process in found.companions}


def test_a_process_that_only_a_number_in_heartbeat_pid_ties_to_it_is_no_companion(fleet: Fleet, tmp_path: Path) -> None:
    stranger = fleet.start("sleep", "600", cwd=tmp_path)
    heartbeat = fleet.directory(ID) / "heartbeat.pid"
    heartbeat.write_text(f"{stranger.pid}\n")
    assert fleet.look(ID).companions == ()
    other = fleet.headless("worker-777")
    heartbeat.write_text(f"{other.pid}\n")
    mine, theirs = fleet.find(fleet.claim(ID), fleet.claim("worker-777"))
    assert mine.companions == ()
    assert theirs.main
    assert theirs.main.pid == other.pid


def test_where_another_runs_own_process_begins_an_emitter_ends(fleet: Fleet) -> None:
    """A wrapper that restarts its worker under another id is what heartbeat.pid names, and the new worker is below."""
    directory = fleet.directory(ID)
    other = fleet.directory("worker-777")
    start = f"( cd {other}; exec {fleet.claude} -p ) &\nwhile :; do sleep 60; done\n"
    fleet.script(f"agents/workers/{ID}/emit.sh", f"#!/bin/bash\n{start}")
    emitter = fleet.start("/bin/bash", "./emit.sh", cwd=directory)
    (directory / "heartbeat.pid").write_text(f"{emitter.pid}\n")
    until(lambda: fleet.look("worker-777").main)
    mine, theirs = fleet.find(fleet.claim(ID), fleet.claim("worker-777"))
    assert theirs.main
    assert emitter.pid in {process.pid for process in mine.companions}
    assert not {process.pid for process in mine.companions} & set(pids(theirs))


# -- pids that say something else now


def test_a_single_look_knows_what_names_several_workers_as_their_launcher(fleet: Fleet) -> None:
    launch = fleet.script(
        "bin/launch",
        f"#!/bin/bash\nfor id in $1 $2; do {fleet.claude} --worker $id & done; while :; do sleep 60; done\n",
    )
    launcher = fleet.start(launch, ID, "worker-777")
    until(lambda: len(psutil.Process(launcher.pid).children()) == 3)
    (together, _) = fleet.find(fleet.claim(ID), fleet.claim("worker-777"))
    alone = fleet.table
    alone.refresh(time.time())
    found = alone.match(fleet.claim(ID), ids={ID, "worker-777"})
    assert found.main
    assert together.main
    assert found.main.pid == together.main.pid != launcher.pid
    assert launcher.pid not in pids(found)


def test_a_pid_file_from_the_future_was_written_when_its_inode_says(fleet: Fleet) -> None:
    path = fleet.directory(ID) / "worker.pid"
    path.write_text(f"{os.getpid()}\n")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    later = fleet.start("sleep", "600")
    traces = TraceReader(Layout(fleet.home)).look({ID}, time.time())[ID]
    assert traces.pid_file
    started = datetime.fromtimestamp(psutil.Process(later.pid).create_time(), UTC)
    assert traces.pid_file.written_at <= started + timedelta(seconds=2)


def test_a_reused_pid_another_host_another_programs_name(fleet: Fleet) -> None:
    """Identity is a pid and its start, on its host; what the program is called does not matter."""
    process = fleet.start("sleep", "600")
    fleet.write_pid(ID, process.pid)
    mine = fleet.look(ID)
    assert mine.main
    assert mine.main.argv == ("sleep", "600")

    elsewhere = fleet.look(ID, host="relay-2.example.org")
    assert elsewhere.main is None
    assert elsewhere.hidden == "it runs on host relay-2.example.org, this is relay-1"

    before_it_began = datetime.now(UTC) - timedelta(minutes=2)
    fleet.write_pid(ID, process.pid, before_it_began)
    reused = fleet.look(ID, created_at=before_it_began)
    assert reused.main is None
    assert reused.hidden == ""
    assert f"Pid {process.pid} of agents/workers/{ID}/worker.pid is another program now, sleep" in reused.rejected[0]


def test_a_pid_in_the_spec_does_not_speak_for_a_pid_file_that_was_refused(fleet: Fleet) -> None:
    process = fleet.start("sleep", "600")
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    fleet.write_pid(ID, process.pid, long_ago)
    rewritten = datetime.now(UTC)
    assert fleet.look(ID, created_at=long_ago, spec_pid=process.pid, spec_pid_written_at=rewritten).main is None


@pytest.mark.parametrize(
    ("named", "here", "same"),
    [
        ("relay-1.example.org", "relay-1", True),
        ("RELAY-1", "relay-1.example.org", True),
        ("relay-1.example.org", "relay-1.example.com", False),
        ("relay-10", "relay-1", False),
        ("localhost", "relay-1", True),
        ("127.0.0.1", "relay-1", True),
        (socket.gethostname(), "relay-1", True),
    ],
)
def test_a_short_host_name_stands_for_the_full_one(fleet: Fleet, named: str, here: str, same: bool) -> None:
    table = ProcessTable(fleet.home, here)
    table.refresh(time.time())
    assert (table.match(fleet.claim(ID, host=named)).hidden == "") is same


def test_a_pid_file_of_an_earlier_run_is_not_this_runs(fleet: Fleet) -> None:
    wrapper = fleet.headless(ID)
    later = fleet.look(ID, created_at=datetime.now(UTC) + timedelta(minutes=2))
    assert later.main is None
    assert "is of an earlier run: the file was written at" in later.rejected[0]
    assert f"Process {wrapper.pid} is of an earlier run: it started at" in " ".join(later.rejected)


def test_a_process_from_up_to_a_minute_before_the_spec_is_this_runs(fleet: Fleet) -> None:
    fleet.headless(ID)
    assert fleet.look(ID, created_at=datetime.now(UTC) + timedelta(seconds=50)).main


def test_a_process_of_an_earlier_run_stays_so_when_its_pid_is_written_down_again(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude)
    later = datetime.now(UTC) + timedelta(minutes=2)
    fleet.write_pid(ID, process.pid, later)
    found = fleet.look(ID, created_at=later)
    assert found.main is None
    assert "is of an earlier run: it started at" in found.rejected[0]


def test_a_pid_file_whose_process_has_ended_says_so(fleet: Fleet) -> None:
    process = fleet.start("true")
    process.wait()
    fleet.write_pid(ID, process.pid)
    found = fleet.look(ID)
    assert found.main is None
    assert found.rejected == (f"Pid {process.pid} of agents/workers/{ID}/worker.pid is no process any more",)


def test_a_pid_file_that_names_our_own_process_is_refused(fleet: Fleet) -> None:
    for pid in (os.getpid(), os.getppid()):
        fleet.write_pid(ID, pid)
        found = fleet.look(ID, created_at=None)
        assert found.main is None
        assert "Relay Web itself", "Relay Web of another checkout" in found.rejected[0]


@pytest.mark.parametrize("pid", [0, -1, 2**31 + 5, 10**15])
def test_a_pid_file_with_nonsense_is_no_life(fleet: Fleet, pid: int) -> None:
    fleet.write_pid(ID, pid)
    assert fleet.look(ID).main is None


def test_a_process_that_ended_and_that_nobody_waited_for_is_gone(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude, cwd=fleet.directory(ID))
    fleet.write_pid(ID, process.pid)
    later = time.time() + 3600  # it is no longer looked at again for being young
    fleet.table.refresh(later)
    found = fleet.table.assign({1: fleet.claim(ID)})[1]
    assert found.main
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert not fleet.table.alive(found.main.key)
    assert process.pid in fleet.table.refresh(later + 1).gone
    assert fleet.table.assign({})[1].main is None
    assert fleet.look(ID).main is None


def test_the_wrapper_is_killed_and_claude_works_on(fleet: Fleet) -> None:
    wrapper = fleet.headless(ID)
    claude = fleet.child_of(wrapper.pid)
    fleet.table.refresh(time.time())
    assert fleet.table.assign({1: fleet.claim(ID)})[1].main
    wrapper.kill()
    wrapper.wait()
    fleet.table.refresh(time.time())
    found = fleet.table.assign({})[1]
    assert found.main
    assert (found.main.pid, found.found_by) == (claude, "its working directory")
    assert found.main.ppid != wrapper.pid
    assert pids(found) == [claude]


def test_whatever_a_killed_wrapper_leaves_behind_is_stopped_with_the_worker(fleet: Fleet) -> None:
    directory = fleet.directory(ID)
    fleet.script(f"agents/workers/{ID}/execute.sh", f"#!/bin/bash\n{fleet.claude} a &\n{fleet.claude} b &\nwait\n")
    wrapper = fleet.start("/bin/bash", "./execute.sh", cwd=directory)
    children = set(fleet.children_of(wrapper.pid, count=2))
    wrapper.kill()
    wrapper.wait()
    assert set(pids(fleet.look(ID))) == children


def test_what_somebody_runs_by_hand_beside_the_worker_is_not_in_its_tree(fleet: Fleet) -> None:
    wrapper = fleet.headless(ID)
    prompt = fleet.start("bash", "--norc", cwd=fleet.directory(ID))
    assert prompt.stdin
    prompt.stdin.write(b"sleep 600\n")
    prompt.stdin.flush()
    assert fleet.child_of(prompt.pid, "sleep") not in pids(fleet.look(ID))
    assert wrapper.pid in pids(fleet.look(ID))


# -- whose is it


def nested(fleet: Fleet, outer: str, inner: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a worker whose process starts another worker, as a master would."""
    inside = fleet.execute_sh(inner)
    launch = f"cd {inside.parent} && {inside}"
    text = f"#!/bin/bash\nexport WORKER_ID={outer}\n{fleet.claude} -p &\n( {launch}; exit )\nexit\n"
    fleet.script(f"agents/workers/{outer}/execute.sh", text)
    wrapper = fleet.start("/bin/bash", "./execute.sh", cwd=fleet.directory(outer))
    until((inside.parent / "worker.pid").exists)
    pid = int((inside.parent / "worker.pid").read_text())
    fleet.child_of(pid)
    return wrapper, pid


def test_a_tree_ends_where_another_runs_own_process_begins(fleet: Fleet) -> None:
    wrapper, inner = nested(fleet, ID, "worker-002")
    outer, other = fleet.find(fleet.claim(ID), fleet.claim("worker-002"))
    assert outer.main
    assert outer.main.pid == wrapper.pid
    assert pids(other) == [inner, fleet.child_of(inner)]
    assert not set(pids(outer)) & set(pids(other))
    assert len(outer.tree) >= 2


def test_a_run_that_is_found_later_is_taken_out_of_the_tree_that_held_it(fleet: Fleet) -> None:
    _, inner = nested(fleet, ID, "worker-002")
    fleet.table.refresh(time.time())
    assert inner in pids(fleet.table.assign({"outer": fleet.claim(ID)})["outer"])
    found = fleet.table.assign({"inner": fleet.claim("worker-002")})
    assert found.keys() == {"outer", "inner"}
    assert inner not in pids(found["outer"])
    fleet.table.release("inner")
    assert inner in pids(fleet.table.assign({})["outer"])


def test_a_single_look_knows_where_other_runs_begin(fleet: Fleet) -> None:
    wrapper, inner = nested(fleet, ID, "worker-002")
    fleet.table.refresh(time.time())
    assert inner in pids(fleet.table.match(fleet.claim(ID)))
    outer = fleet.table.match(fleet.claim(ID), {inner})
    assert wrapper.pid in pids(outer)
    assert inner not in pids(outer)


def test_an_environment_that_another_run_inherited_is_no_life_of_the_first(fleet: Fleet) -> None:
    """worker-002 was started out of worker-001, which has died: its processes still carry WORKER_ID=worker-001."""
    wrapper, inner = nested(fleet, ID, "worker-002")
    for process in psutil.Process(wrapper.pid).children():
        if inner not in {process.pid, *(child.pid for child in process.children())}:
            process.kill()
    parent = psutil.Process(inner).parent()
    if parent and parent.pid != wrapper.pid:
        parent.kill()
    wrapper.kill()
    wrapper.wait()
    assert psutil.Process(inner).environ()["WORKER_ID"] == ID
    first, second = fleet.find(fleet.claim(ID), fleet.claim("worker-002"))
    assert first.main is None, first.main
    assert second.main
    assert second.main.pid == inner


def test_of_two_runs_of_one_id_the_later_has_the_process(fleet: Fleet) -> None:
    wrapper = fleet.headless(ID)
    earlier = fleet.claim(ID, created_at=fleet.created_at - timedelta(hours=1))
    first, second = fleet.find(earlier, fleet.claim(ID))
    assert first.main is None
    assert second.main
    assert second.main.pid == wrapper.pid


def test_a_command_that_names_several_workers_is_not_the_one_that_it_started(fleet: Fleet) -> None:
    text = f"#!/bin/bash\nfor id; do {fleet.claude} $id & done\nwait\n"
    runner = fleet.start(fleet.script("scripts/run-all.sh", text), ID, "worker-002")
    fleet.children_of(runner.pid, count=2)
    first, second = fleet.find(fleet.claim(ID), fleet.claim("worker-002"))
    assert first.main
    assert second.main
    assert first.main.ppid == second.main.ppid == runner.pid
    assert first.main.argv[-1] == ID
    assert pids(first) == [first.main.pid]


def test_the_topmost_of_several_is_the_main_process(fleet: Fleet) -> None:
    directory = fleet.directory(ID)
    fleet.script(f"agents/workers/{ID}/execute.sh", f"#!/bin/bash\n{fleet.claude} -p\nexit $?\n")
    launch = f"#!/bin/bash\n( cd {directory}; ./execute.sh; exit )\nexit $?\n"
    launcher = fleet.start(fleet.script("scripts/start-worker.sh", launch), ID)
    fleet.child_of(fleet.child_of(fleet.child_of(launcher.pid, "start-worker.sh"), "execute.sh"))
    found = fleet.look(ID)
    assert found.main
    assert found.main.pid == launcher.pid
    assert len(found.tree) == 4


# -- from look to look


def test_a_look_at_an_unchanged_host_finds_nothing_new(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude)
    first = fleet.table.refresh(time.time())
    assert process.pid in first.changed
    again = fleet.table.refresh(time.time())
    assert process.pid not in again.changed | again.gone
    process.kill()
    process.wait()
    assert process.pid in fleet.table.refresh(time.time()).gone
    assert process.pid not in fleet.table.refresh(time.time()).gone


def test_a_new_child_is_part_of_the_tree_without_being_asked_for(fleet: Fleet) -> None:
    directory = fleet.directory(ID)
    text = f"#!/bin/bash\nread line\ncd /\n{fleet.claude} -p\nexit $?\n"
    fleet.script(f"agents/workers/{ID}/execute.sh", text)
    wrapper = fleet.start("/bin/bash", "./execute.sh", cwd=directory)
    fleet.write_pid(ID, wrapper.pid)
    fleet.table.refresh(time.time())
    assert pids(fleet.table.assign({1: fleet.claim(ID)})[1]) == [wrapper.pid]
    assert fleet.table.assign({}) == {}
    assert wrapper.stdin
    wrapper.stdin.write(b"go\n")
    wrapper.stdin.flush()
    child = fleet.child_of(wrapper.pid)
    fleet.table.refresh(time.time())
    assert pids(fleet.table.assign({})[1]) == [wrapper.pid, child]
    assert fleet.table.owner[child] == 1


def test_exec_changes_the_command_under_the_same_pid(fleet: Fleet) -> None:
    script = fleet.script("scripts/start-worker.sh", "#!/bin/bash\nread line\nexec tail -f /dev/null\n")
    process = fleet.start("/bin/bash", script, ID)
    fleet.table.refresh(time.time())
    assert fleet.table.assign({1: fleet.claim(ID)})[1].main
    assert process.stdin
    process.stdin.write(b"go\n")
    process.stdin.flush()
    until(lambda: psutil.Process(process.pid).name() == "tail")

    def changed() -> bool:
        return process.pid in fleet.table.refresh(time.time()).changed

    until(changed, seconds=5)  # and not only when all are looked at again
    assert fleet.table.assign({})[1].main is None


def test_exec_of_an_old_process_is_noticed_by_its_name(fleet: Fleet) -> None:
    process = fleet.start(
        "/bin/bash", fleet.script("scripts/start-worker.sh", "#!/bin/bash\nread l\nexec tail -f /dev/null\n"), ID
    )
    start = time.time() + 3600  # by then it is no longer looked at again for being young
    fleet.table.refresh(start)
    assert process.stdin
    process.stdin.write(b"go\n")
    process.stdin.flush()
    until(lambda: psutil.Process(process.pid).name() == "tail")
    assert process.pid not in fleet.table.refresh(start + 5).changed
    assert process.pid in fleet.table.refresh(start + 11).changed


def test_a_clock_that_is_set_back_does_not_stop_the_looking(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude, cwd=fleet.directory(ID))
    fleet.table.refresh(time.time() + 86400)
    assert fleet.table.assign({1: fleet.claim(ID)})[1].main
    process.kill()
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert process.pid in fleet.table.refresh(time.time()).gone


def test_the_ids_that_a_new_process_may_concern_are_exact(fleet: Fleet) -> None:
    known = {ID, "worker-0010", "worker-002", "worker-003", "worker-004"}
    argument = fleet.start_worker("worker-0010")
    directory = fleet.terminal("worker-002")
    environment = fleet.shell_worker("worker-003")
    fleet.table.refresh(time.time())
    touched = [fleet.table.ids_touched([process.pid], known) for process in (argument, directory, environment)]
    assert touched == [{"worker-0010"}, {"worker-002"}, {"worker-003"}]


def test_identity_is_pid_start_and_boot(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude, cwd=fleet.directory(ID))
    main = fleet.look(ID).main
    assert main
    assert fleet.table.alive(main.key)
    assert not fleet.table.alive(main.key._replace(start_ticks=main.key.start_ticks - 1))
    assert not fleet.table.alive(main.key._replace(boot_id="another boot"))
    assert fleet.table.exists(process.pid)
    process.kill()
    process.wait()
    assert not fleet.table.alive(main.key)
    assert not fleet.table.exists(process.pid)


def test_what_psutil_reads_anywhere_agrees_with_what_is_read_here(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude)
    fast, portable = _stat(process.pid), _portable_stat(process.pid)
    assert fast
    assert portable
    assert (fast.ppid, fast.name) == (portable.ppid, portable.name) == (os.getpid(), "claude")
    process.kill()
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert _stat(process.pid) is _portable_stat(process.pid) is None


def test_secrets_in_a_command_line_are_not_shown(fleet: Fleet) -> None:
    fleet.start(fleet.claude, "--token", "abc123def", "--limit", "5", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0", "x" * 900, ID)
    main = until(lambda: fleet.look(ID).main)
    shown = " ".join(main.argv)
    assert "abc123def" not in shown
    assert "eyJhbGciOi" not in shown
    assert "--limit 5" in shown
    assert max(len(arg) for arg in main.argv) < 600


# -- what cannot be seen


@pytest.mark.skipif(not ROOT, reason="only root can be somebody else")
def test_a_process_of_another_user_is_life_that_we_may_not_signal(fleet: Fleet) -> None:
    process = fleet.start("sleep", "600", user=65534)
    fleet.write_pid(ID, process.pid)
    main = fleet.look(ID).main
    assert main
    assert not main.ours
    assert main.user == "nobody"


@pytest.mark.skipif(not ROOT, reason="only root can mount /proc anew")
def test_a_proc_that_hides_other_users_is_said_and_never_guessed(fleet: Fleet, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from workers.ownership import *\n"
        "table = ProcessTable(Path('/nowhere'), 'h'); table.refresh(time.time())\n"
        "print(table.match(Claim('w', None, '', None, None, None)).hidden)"
    )
    python = [sys.executable, "-c", program]
    mount = (
        'mount -t proc -o hidepid=2 proc /proc || exit 77; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
    )
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["unshare", "--mount", "sh", "-c", mount, "_", *python]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    if done.returncode == 77:
        pytest.skip("no mounts here")
    assert done.stdout.strip().startswith("/proc hides the processes of other users"), done.stderr
    assert fleet.look(ID).hidden == ""


@pytest.mark.skipif(not ROOT, reason="only root can make a PID namespace")
def test_a_pid_of_a_foreign_namespace_is_said_and_never_guessed(fleet: Fleet) -> None:
    outside = fleet.start("unshare", "--pid", "--fork", "sleep", "600", cwd=Path("/"))
    inside = fleet.child_of(outside.pid, "sleep")
    fleet.write_pid(ID, 1)  # as the worker itself would write it
    found = fleet.look(ID)
    assert found.main is None
    assert f"may be process {inside} here, in a PID namespace of its own" in found.hidden


# -- CPU and memory


def test_a_busy_child_is_measured_and_an_idle_tree_is_not(fleet: Fleet) -> None:
    busy, idle = fleet.headless(ID, claude=fleet.script("bin/busy", BUSY_CLAUDE)), fleet.headless("worker-002")
    fleet.table.refresh(time.time())
    found = fleet.table.assign({1: fleet.claim(ID), 2: fleet.claim("worker-002")})
    trees = [[process.key for process in found[number].tree] for number in (1, 2)]
    assert [tree[0].pid for tree in trees] == [busy.pid, idle.pid]
    first = [fleet.table.sample(tree, datetime.now(UTC)) for tree in trees]
    assert [sample.cpu_percent for sample in first] == [None, None]
    assert all(sample.rss_bytes > 1_000_000 for sample in first)

    # Over half a second, and until then there is no figure.
    working = until(lambda: fleet.table.sample(trees[0], datetime.now(UTC)).cpu_percent)
    assert 1 < working < 150
    until(lambda: fleet.table.sample(trees[1], datetime.now(UTC)).cpu_percent is not None)
    assert (fleet.table.sample(trees[1], datetime.now(UTC)).cpu_percent or 0.0) < 1


def test_work_of_children_that_came_and_went_between_two_samples_counts(fleet: Fleet) -> None:
    burn = f"{sys.executable} -ISc 'import time\nwhile time.process_time() < 0.3: pass'"
    fleet.script(f"agents/workers/{ID}/execute.sh", f"#!/bin/bash\nread l\n{burn}\necho done > done\nread l\n")
    wrapper = fleet.start("/bin/bash", "./execute.sh", cwd=fleet.directory(ID))
    fleet.table.refresh(time.time())
    keys = [process.key for process in fleet.table.assign({1: fleet.claim(ID)})[1].tree]
    began = datetime.now(UTC)
    fleet.table.sample(keys, began)
    assert wrapper.stdin
    wrapper.stdin.write(b"go\n")
    wrapper.stdin.flush()
    until((fleet.directory(ID) / "done").exists)
    percent = fleet.table.sample(keys, began + timedelta(seconds=10)).cpu_percent
    assert percent is not None
    assert 2.5 <= percent < 10


def test_cpu_is_never_negative_nor_inherited_when_members_end_or_join(fleet: Fleet) -> None:
    wrapper = fleet.headless(ID, claude=fleet.script("bin/busy", BUSY_CLAUDE))
    stranger = fleet.start(fleet.script("bin/busy", BUSY_CLAUDE))
    until(lambda: sum(psutil.Process(stranger.pid).cpu_times()[:2]) > 0.2)
    fleet.table.refresh(time.time())
    tree = [process.key for process in fleet.table.assign({1: fleet.claim(ID)})[1].tree]
    joining = fleet.table.entries[stranger.pid].process.key
    until(lambda: sum(psutil.Process(tree[1].pid).cpu_times()[:2]) > 0.2)
    now = datetime.now(UTC)
    fleet.table.sample(tree, now)
    os.kill(tree[1].pid, signal.SIGSTOP)
    ended = fleet.table.sample([tree[0], joining], now + timedelta(seconds=100)).cpu_percent
    assert ended is not None
    assert 0 <= ended < 0.1
    assert wrapper.poll() is None


def test_a_main_process_that_is_another_one_has_no_sample_yet(fleet: Fleet) -> None:
    process = fleet.start(fleet.claude)
    fleet.table.refresh(time.time())
    key = fleet.table.entries[process.pid].process.key
    now = datetime.now(UTC)
    fleet.table.sample([key], now)
    other = ProcessKey(os.getpid(), fleet.table.entries[os.getpid()].process.key.start_ticks, key.boot_id)
    assert fleet.table.sample([other], now + timedelta(seconds=10)).cpu_percent is None
    gone = fleet.table.sample([key._replace(start_ticks=1)], now)
    assert (gone.cpu_percent, gone.rss_bytes) == (None, 0)


def test_the_time_of_an_emitter_that_ended_is_no_work_of_its_worker(fleet: Fleet) -> None:
    burn = "import time\nwhile time.process_time() < 0.4: pass\nopen('burnt', 'w').close()\ntime.sleep(600)"
    emitter = fleet.script("scripts/heartbeat-emitter.py", f"#!{sys.executable} -IS\n{burn}\n")
    text = f"#!/bin/bash\n{emitter} {ID} &\nwait\necho > waited\n{fleet.claude}\nexit\n"
    fleet.script(f"agents/workers/{ID}/execute.sh", text)
    directory = fleet.directory(ID)
    fleet.write_pid(ID, fleet.start("/bin/bash", "./execute.sh", cwd=directory).pid)
    until((directory / "burnt").exists)
    fleet.table.refresh(time.time())
    found = fleet.table.assign({1: fleet.claim(ID)})[1]
    keys, began = [process.key for process in found.tree], datetime.now(UTC)
    fleet.table.sample(keys, began)
    os.kill(found.companions[0].pid, signal.SIGKILL)
    until((directory / "waited").exists)
    percent = fleet.table.sample(keys, began + timedelta(seconds=10)).cpu_percent
    assert percent is not None
    assert percent < 1
