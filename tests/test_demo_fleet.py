"""The demo fleet: what newcomers see, and what browser tests and benchmarks run on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers.demo.fleet import DemoError, write_fleet

from .running import until

ROOT = Path(__file__).parent.parent
NOW = datetime(2025, 12, 4, 22, 0, tzinfo=UTC)
LOGS = (
    "pm-activity.jsonl",
    "events/heartbeat-events.jsonl",
    "dashboard-events.jsonl",
    "events/zombie-cleanup-events.jsonl",
)


def load(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def active(home: Path) -> dict[str, dict[str, Any]]:
    paths = (home / "coordination/worker-specs/active").glob("[!.]*.json")
    return {spec["worker_id"]: spec for path in paths if (spec := load(path))}


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def processes_of(home: Path) -> list[psutil.Process]:
    """Every living process of the demo in ``home`` but the command itself."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        mine = any(str(home) in argument for argument in process.info["cmdline"] or []) or environment_of(process).get(
            "DEMO_HOME"
        ) == str(home)
        if mine and process.info["status"] != psutil.STATUS_ZOMBIE and "demo_fleet" not in process.info["cmdline"]:
            found.append(process)
    return found


def claudes(home: Path) -> list[psutil.Process]:
    return [process for process in processes_of(home) if process.cmdline()[:1] == ["claude"]]


@contextmanager
def running_demo(home: Path, *arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "manage.py", "demo_fleet", str(home), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            assert "is up" in demo.stdout.readline()
            yield demo
        finally:
            demo.kill()
            demo.wait()
            assert until(lambda: not processes_of(home), 5)


def run(home: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [f"{home}/scripts/{script}", *arguments]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a living demo fleet of the default size."""
    home = tmp_path_factory.mktemp("demo") / "fleet"
    with running_demo(home):
        yield home


def lost_workers(home: Path) -> list[str]:
    """Return who has no process although the spec says running."""
    roles = [environment_of(process).get("DEMO_ROLE", "") for process in claudes(home)]
    running = [worker_id for worker_id, spec in active(home).items() if spec["status"] == "running"]
    return [worker_id for worker_id in running if not any(f'"{worker_id}"' in role for role in roles)]


def restart(home: Path, worker_id: str) -> subprocess.CompletedProcess[str]:
    path = home / f"coordination/worker-specs/active/{worker_id}.json"
    spec = json.loads(path.read_text())
    spec["status"] = "pending"
    spec["execution"]["started_at"] = None
    path.write_text(json.dumps(spec))
    return run(home, "start-worker.sh", "--spec", str(path))


# --- the living fleet


def test_at_least_24_workers_come_up_as_processes_with_a_wrapper(home: Path) -> None:
    workers = until(lambda: found if len(found := claudes(home)) >= 24 else [])
    assert len(workers) >= 24
    assert {worker.ppid() for worker in workers} <= {process.pid for process in processes_of(home)}


def test_a_headless_worker_has_its_pid_file_and_no_id_in_its_arguments(home: Path) -> None:
    claude = next(c for c in claudes(home) if c.cmdline() == ["claude", "-p", "--dangerously-skip-permissions"])
    directory = Path(claude.cwd())
    wrapper = psutil.Process(int((directory / "worker.pid").read_text()))
    assert directory.parent == home / "agents/workers"
    assert claude.ppid() == wrapper.pid
    assert wrapper.cmdline() == ["/bin/bash", f"{directory}/execute.sh"]
    assert "WORKER_ID" not in environment_of(claude)
    assert claude.name() == "claude"


def test_a_worker_in_a_terminal_has_a_relative_wrapper_and_its_prompt_as_argument(home: Path) -> None:
    wrapper = next(process for process in processes_of(home) if process.cmdline() == ["/bin/bash", "./execute.sh"])
    worker_id = Path(wrapper.cwd()).name
    [claude] = wrapper.children()
    assert claude.cmdline()[0] == "claude"
    assert claude.cmdline()[1].startswith(f"You are {worker_id}. ")
    assert "worker-implementation-001" in claude.cmdline()[1]  # another worker's id
    assert not (home / "agents/workers" / worker_id / "worker.pid").exists()


def test_a_worker_of_start_worker_sh_has_its_id_as_an_argument_in_the_home(home: Path) -> None:
    script = f"{home}/scripts/start-worker.sh"
    wrapper = next(process for process in processes_of(home) if process.cmdline()[:2] == ["/bin/bash", script])
    assert wrapper.cmdline()[2] in active(home)
    assert wrapper.cwd() == str(home)


def test_a_shell_worker_has_its_id_in_the_environment_only(home: Path) -> None:
    wrapper = next(process for process in processes_of(home) if "WORKER_ID" in environment_of(process))
    worker_id = environment_of(wrapper)["WORKER_ID"]
    assert worker_id in active(home)
    assert not any(worker_id in argument for argument in wrapper.cmdline())
    assert wrapper.cwd() == str(home)


def test_a_heartbeat_emitter_beats_for_a_worker_that_is_gone(home: Path) -> None:
    script = f"{home}/scripts/worker-heartbeat-emitter.sh"
    emitters = [process.cmdline() for process in processes_of(home) if script in process.cmdline()]
    orphaned = [arguments[2] for arguments in emitters if not psutil.pid_exists(int(arguments[3]))]
    assert orphaned
    assert active(home)[orphaned[0]]["heartbeat"]["heartbeat_sequence"] > 0


def test_silent_workers_live_but_have_logged_nothing_for_more_than_ten_and_fifteen_minutes(home: Path) -> None:
    ages = []
    for claude in claudes(home):
        logs = Path(f"/proc/{claude.pid}/fd/1").readlink().parent
        ages.append(time.time() - max(log.stat().st_mtime for log in logs.iterdir()))
    assert [age for age in ages if 600 < age < 900]
    assert [age for age in ages if age > 900]


def test_there_is_something_pending_unreadable_and_of_unknown_status(home: Path) -> None:
    directory = home / "coordination/worker-specs/active"
    assert until(lambda: [spec for spec in active(home).values() if spec["status"] == "pending"])
    assert "stuck" in {spec["status"] for spec in active(home).values()}
    blanks = [path for path in directory.glob("[!.]*.json") if re.search(r'": ,', path.read_text())]
    assert blanks
    assert load(blanks[0]) is None
    assert json.loads(blanks[0].read_text().replace(": ,", ": null,"))["status"] == "pending"


def test_the_pm_daemon_takes_check_ins_and_writes_its_state(home: Path) -> None:
    def state() -> dict[str, Any]:
        return load(home / "coordination/pm-state.json") or {}

    def checked_in() -> bool:
        return any(entry["checkin_count"] > 0 for entry in state().get("monitored_workers", {}).values())

    assert until(checked_in, 60)
    daemon = psutil.Process(state()["pm_daemon"]["pid"])
    assert daemon.name() == "pm-daemon.sh"
    before = state()["pm_daemon"]["last_loop"]
    assert until(lambda: state()["pm_daemon"]["last_loop"] != before)


def test_workers_finish_and_new_ones_take_their_place(home: Path) -> None:
    began = datetime.fromtimestamp((home / "scripts/claude").stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def finished() -> list[Path]:
        done = [(path, load(path)) for path in (home / "coordination/worker-specs/completed").glob("[!.]*.json")]
        return [path for path, spec in done if spec and spec["execution"]["completed_at"] > began]

    assert (paths := until(finished, 60))
    assert paths[0].stem not in active(home)
    assert until(lambda: len(claudes(home)) >= 24)


def test_a_worker_has_crashed_with_an_error_at_the_end_of_its_log(home: Path) -> None:
    logs = [home / "agents/workers" / worker_id / "logs/stdout.log" for worker_id in lost_workers(home)]
    last_lines = [log.read_text().splitlines()[-1] for log in logs if log.exists() and log.stat().st_size]
    assert [line for line in last_lines if "FATAL" in line or "ERROR" in line]


def test_something_is_cancelled_and_something_vanishes_within_a_minute(home: Path) -> None:
    root = home / "coordination/worker-specs"

    def cancelled() -> list[str]:
        return [worker_id for worker_id, spec in active(home).items() if spec["status"] == "cancelled"]

    def vanished() -> set[str]:
        told = records(home / "coordination/dashboard-events.jsonl")
        assigned = {event["data"]["worker_id"] for event in told if "worker-daemon" in str(event["data"])}
        return assigned - {path.stem for path in root.rglob("*.json")}

    assert until(lambda: cancelled() or list(root.glob("archive-*/*.json")), 60)
    assert until(vanished, 60)


def test_start_worker_starts_a_lost_worker_again(home: Path) -> None:
    worker_id = lost_workers(home)[0]
    result = restart(home, worker_id)
    assert result.returncode == 0, result.stderr
    spec = active(home)[worker_id]
    assert spec["status"] == "running"
    assert spec["execution"]["started_at"]
    wrapper = psutil.Process(int((home / "agents/workers" / worker_id / "worker.pid").read_text()))
    assert until(lambda: [child.cmdline()[0] for child in wrapper.children()] == ["claude"])
    assert until(lambda: len((home / "agents/workers" / worker_id / "logs/stdout.log").read_text()) > 0)


def test_start_worker_leaves_a_running_worker_alone(home: Path) -> None:
    worker_id = next(worker_id for worker_id, spec in active(home).items() if spec["status"] == "running")
    result = run(home, "start-worker.sh", "--spec", f"coordination/worker-specs/active/{worker_id}.json")
    assert result.returncode == 0
    assert "already running" in result.stdout


def test_create_task_prints_an_id_and_a_worker_gets_the_task(home: Path) -> None:
    arguments = ["--priority", "high", "--worker-type", "scan-worker", "--metadata", '{"retry_of": "task-7"}']
    result = run(home, "create-task.sh", "--description", "Look once more", *arguments)
    task_id = result.stdout.split()[-1]
    assert re.fullmatch(r"task-\d+-[0-9a-f]{6}", task_id)
    queue = load(home / "coordination/task-queue.json") or {}
    assert task_id in [task["id"] for task in queue["tasks"]]
    assert until(lambda: [spec for spec in active(home).values() if spec["task_id"] == task_id])


def test_create_task_refuses_unknown_options(home: Path) -> None:
    result = run(home, "create-task.sh", "--type", "scan")
    assert result.returncode == 2
    assert "usage" in result.stderr


def test_emit_event_appends_one_record(home: Path) -> None:
    result = run(home, "emit-event.sh", "--type", "worker_zombie_cleaned", "--worker-id", "w-1", "--message", "by hand")
    assert result.returncode == 0, result.stderr
    lines = (home / "coordination/dashboard-events.jsonl").read_text().splitlines()
    assert [line for line in lines if '"worker_zombie_cleaned"' in line and '"by hand"' in line]


def test_a_second_demo_in_the_same_directory_is_refused(home: Path) -> None:
    command = [sys.executable, "manage.py", "demo_fleet", str(home), "--no-processes"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode != 0
    assert str(home) in result.stderr
    assert "is running" in result.stderr
    assert claudes(home)


# --- its end


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_every_process_ends_with_the_command_however_it_ends(tmp_path: Path, how: signal.Signals) -> None:
    home = tmp_path / "a fleet's home"
    with running_demo(home, "--workers", "8", "--events", "50") as demo:
        assert restart(home, lost_workers(home)[0]).returncode == 0  # which is no child of the demo
        assert len(until(lambda: found if len(found := claudes(home)) >= 9 else [])) >= 9
        demo.send_signal(how)
        assert until(lambda: not processes_of(home), 2.5)
        assert demo.wait(5) == (0 if how != signal.SIGKILL else -signal.SIGKILL)


def test_it_ends_when_its_standard_input_does_if_asked_to(tmp_path: Path) -> None:
    home = tmp_path / "fleet"
    arguments = ("--workers", "3", "--events", "0", "--until-stdin-closes")
    with running_demo(home, *arguments, stdin=subprocess.PIPE) as demo:
        assert demo.stdin is not None
        demo.stdin.close()
        assert demo.wait(5) == 0
        assert until(lambda: not processes_of(home), 2.5)


def test_a_demo_goes_on_in_its_own_directory_and_keeps_its_past(tmp_path: Path) -> None:
    home = tmp_path / "fleet"
    for _ in range(2):
        with running_demo(home, "--workers", "3", "--events", "40") as demo:
            first = set(active(home))
            past = {path.name for path in (home / "coordination/worker-specs/completed").iterdir()}
            demo.terminate()
            demo.wait(5)
    assert len(past) > 10
    put_away = [load(path) for path in (home / "coordination/worker-specs/archived").rglob("*.json")]
    stopped = [spec for spec in put_away if spec and spec.get("status") == "cancelled"]
    assert len(stopped) >= 3
    assert not {spec["worker_id"] for spec in stopped if spec} & first


# --- a fleet without processes


def test_it_writes_exactly_as_many_workers_and_events_as_asked(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=300, events=1000, seed=3, now=NOW)
    paths = list((tmp_path / "coordination/worker-specs/active").iterdir())
    assert len(paths) == len(active(tmp_path)) == 300
    assert sum(len(records(tmp_path / "coordination" / log)) for log in LOGS) == 1000
    assert len(records(tmp_path / "coordination/pm-activity.jsonl")) >= 600


def records(path: Path) -> list[dict[str, Any]]:
    """Every record of a stream of JSON documents, pretty-printed and blank lines included."""
    text, found, position, decoder = path.read_text(), [], 0, json.JSONDecoder()
    while (start := re.compile(r"\S").search(text, position)) is not None:
        record, position = decoder.raw_decode(text, start.start())
        found.append(record)
    return found


def test_its_workers_are_a_realistic_mix(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=400, events=0, seed=3, now=NOW)
    live = active(tmp_path)
    pending = [spec for spec in live.values() if spec["status"] == "pending"]
    assert 20 < len(pending) < 100
    family_a = [worker_id for worker_id in live if re.fullmatch(r"worker-[a-z]+-\d{3,}", worker_id)]
    family_b = [worker_id for worker_id in live if re.fullmatch(r"(dev|sec|inv)-worker-[0-9A-F]{8}", worker_id)]
    assert len(family_a) + len(family_b) == 400
    assert min(len(family_a), len(family_b)) > 60
    sizes = [path.stat().st_size for path in (tmp_path / "coordination/worker-specs/active").iterdir()]
    assert min(sizes) >= 1500
    assert max(sizes) <= 2500


def test_its_tokens_are_clearly_made_up(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=100, events=0, seed=3, now=NOW)
    tokens = [spec["identity"]["token"] for spec in active(tmp_path).values() if "identity" in spec]
    assert tokens
    assert all(token.startswith("not-a-real-token-") for token in tokens)


def test_its_past_has_every_outcome_and_ids_used_more_than_once(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=50, events=0, seed=3, now=NOW)
    root = tmp_path / "coordination/worker-specs"
    stems = [path.stem for path in root.rglob("*.json") if path.stem != "MANIFEST"]
    assert len(stems) > len(set(stems))
    outcomes = {(load(path) or {}).get("status") for path in root.rglob("*.json") if path.parent.name != "active"}
    assert outcomes >= {"completed", "failed", "zombie", "cancelled", "running"}


def test_its_logs_have_the_faults_of_real_ones(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=50, events=2000, seed=3, now=NOW)
    texts = {log: (tmp_path / "coordination" / log).read_text() for log in LOGS}
    assert "\n\n" in texts["events/zombie-cleanup-events.jsonl"]
    assert '{\n  "timestamp"' in texts["dashboard-events.jsonl"]
    for zone in ('Z"', '-0600"', '-06:00"'):
        assert any(zone in text for text in texts.values())


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("same", 5), ("other", 6)):
        write_fleet(tmp_path / name, workers=40, events=200, seed=seed, now=NOW)
    assert contents(tmp_path / "one") == contents(tmp_path / "same")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def contents(home: Path) -> dict[str, bytes]:
    files = (path for path in (home / "coordination").rglob("*") if path.is_file())
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


def test_writing_again_replaces_the_demo_fleet_that_was_there(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=40, events=10, seed=5, now=NOW)
    write_fleet(tmp_path, workers=7, events=10, seed=6, now=NOW)
    assert len(active(tmp_path)) == 7


def test_the_command_writes_a_fleet_without_processes_and_returns(tmp_path: Path) -> None:
    arguments = ["--no-processes", "--workers", "12", "--events", "30", "--seed", "4"]
    command = [sys.executable, "manage.py", "demo_fleet", str(tmp_path / "fleet"), *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert f"COMMIT_RELAY_HOME={tmp_path / 'fleet'}" in result.stdout
    assert len(active(tmp_path / "fleet")) == 12
    assert processes_of(tmp_path / "fleet") == []


def test_it_refuses_a_directory_with_anything_else_in_it(tmp_path: Path) -> None:
    (tmp_path / "coordination").mkdir()
    with pytest.raises(DemoError, match=re.escape(str(tmp_path))):
        write_fleet(tmp_path, workers=5, events=0, seed=1, now=NOW)
    assert [path.name for path in tmp_path.rglob("*")] == ["coordination"]


def test_the_scripts_that_clean_up_change_nothing(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=20, events=50, seed=3, now=NOW)
    before = contents(tmp_path)
    scripts = (
        "cleanup-zombie-workers.sh",
        "archive-failed-workers.sh",
        "health-check-pm-daemon.sh",
        "dashboards/daemon-monitor.sh",
    )
    for script in scripts:
        assert run(tmp_path, script, "--dry-run").returncode == 0
    assert contents(tmp_path) == before


def test_start_worker_starts_nothing_when_no_demo_is_running(tmp_path: Path) -> None:
    write_fleet(tmp_path, workers=20, events=0, seed=3, now=NOW)
    worker_id = next(worker_id for worker_id, spec in active(tmp_path).items() if spec["status"] == "pending")
    before = contents(tmp_path)
    result = run(tmp_path, "start-worker.sh", "--spec", f"coordination/worker-specs/active/{worker_id}.json")
    assert result.returncode != 0
    assert "not running" in result.stderr
    assert contents(tmp_path) == before
    assert processes_of(tmp_path) == []
