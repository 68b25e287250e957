"""Every process of the demo fleet except its director: worker, PM daemon and the programs behind `scripts/*.sh`.

It runs as ``python -I -S .demo-fleet/stand_in.py PROGRAM HOME …`` and is imported by the director. It uses nothing but
the standard library, and little of that: two dozen copies are resident. A worker's role travels in ``DEMO_ROLE``.

Nobody outlives the demo. Only the director holds the write end of the FIFO ``.demo-fleet/alive``; everybody else has
its read end, waits on it instead of sleeping, and is woken by its end of file, however the director died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subprocess import Popen

STAGE = ".demo-fleet"  # what belongs to the demo and not to the fleet that it shows
ACTIVE = "coordination/worker-specs/active"
QUEUE = "coordination/task-queue.json"
PM_ACTIVITY = "coordination/pm-activity.jsonl"
HEARTBEATS = "coordination/events/heartbeat-events.jsonl"
DASHBOARD = "coordination/dashboard-events.jsonl"

DONE, FAILED, OVER, CRASHED = 0, 1, 130, 134  # exit codes of a worker; the wrapper writes status.json for the first two
ROTATE_BYTES = 4_000_000
QUEUE_LENGTH = 200
PM_LOOP_SECONDS = 5.0
PM_LATE_MINUTES, PM_STALLED_MINUTES = 15, 20  # the real daemon's defaults
PM_FORGETS_AFTER = 600.0  # seconds


class DemoEndedError(Exception):
    """The director has gone, so there is no demo to take part in."""


# --- files -----------------------------------------------------------------------------------------------------------


def local_time(epoch: float | None = None) -> str:
    """Write a moment as the fleet's shell scripts do: its own zone, no colon in the offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S-0600", time.gmtime((time.time() if epoch is None else epoch) - 6 * 3600))


def utc_time(epoch: float | None = None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def epoch_of(text: object) -> float | None:
    """Read a time that the demo itself has written; None for anything else."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file, or None where there is no such file or it is no object."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace a file whole, so that a reader sees the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    temporary.replace(path)


def append(path: Path, text: str) -> None:
    """Add one line; a log that has grown large makes room by one rotation, so that a night stays small."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > ROTATE_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    with path.open("a") as log:
        log.write(text + "\n")


def append_record(path: Path, record: dict[str, Any]) -> None:
    append(path, json.dumps(record, separators=(",", ":")))


@contextlib.contextmanager
def task_queue(home: Path) -> Iterator[list[dict[str, Any]]]:
    """Lend the list of tasks for change; the director and create-task.sh take turns."""
    with (home / STAGE / "queue.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = read_json(home / QUEUE) or {"tasks": []}
        yield document["tasks"]
        document["tasks"] = document["tasks"][-QUEUE_LENGTH:]
        write_json(home / QUEUE, document)


# --- how long the demo lives -----------------------------------------------------------------------------------------


def join(home: Path) -> int:
    """Open the read end of the demo's lifeline. Raise :class:`DemoEndedError` where nobody holds its other end."""
    try:
        lifeline = os.open(home / STAGE / "alive", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise DemoEndedError from error
    try:
        over = os.read(lifeline, 1) == b""
    except BlockingIOError:
        over = False
    if over:
        os.close(lifeline)
        raise DemoEndedError
    return lifeline


def wait(lifeline: int, seconds: float | None) -> None:
    """Sleep, for ever if ``seconds`` is None, or raise :class:`DemoEndedError` at once when the demo ends."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if poll.poll(None if seconds is None else max(0.0, seconds * 1000)):
        raise DemoEndedError


def rename_process(title: bytes) -> None:
    """Write ``title`` over this process's own argument vector, which its starter has made just as long.

    A headless claude has no worker id in its arguments and is called claude, not python; a finder of processes has to
    cope with that, so the stand-in must look it. Where the system does not allow this, the process keeps its name.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        begin, end = int(fields[45]), int(fields[46])
        if end - begin != len(title):
            return
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            memory.write(title)
        Path("/proc/self/comm").write_bytes(title.split(b"\0", 1)[0][:15])


# --- a worker --------------------------------------------------------------------------------------------------------

STEPS = (
    "Reading the task and its context",
    "Searching the code base",
    "Planning the change",
    "Editing files",
    "Writing tests",
    "Running the test suite",
    "Fixing what the tests found",
    "Reviewing the diff",
    "Writing the summary",
)
LINES = (
    "INFO: Read(src/api/users.py) 212 lines",
    "INFO: Grep(pattern: 'session_token', glob: '**/*.py') 14 matches in 6 files",
    "INFO: Edit(src/auth/session.py) +18 -7",
    "INFO: Bash(pytest -q tests/auth) 86 passed in 4.12s",
    "INFO: Bash(npm test -- --runInBand) Tests: 1 failed, 211 passed, 212 total",
    "INFO: Edit(src/components/InvoiceTable.tsx) +41 -12",
    "INFO: TodoWrite 5 items, 3 done",
    "INFO: Bash(git diff --stat) 7 files changed, 164 insertions(+), 58 deletions(-)",
    "INFO: Read(docs/architecture/payments.md) 148 lines",
    "INFO: Bash(npm audit --json) 3 moderate, 0 high",
    "INFO: Write(tests/test_rate_limit.py) 64 lines",
    "INFO: Bash(ruff check .) All checks passed!",
    "INFO: Glob(**/migrations/*.sql) 23 files",
    "INFO: Bash(git commit -m 'Validate webhook signatures') 1 file changed",
    "WARN: Bash(make integration) took 38 s, limit is 60 s",
    "WARN: Edit(src/billing/invoice.py) string to replace not found, reading the file again",
    "ERROR: API returned 529 overloaded_error, retry 1 of 5 in 2 s",
    "INFO: Retry succeeded after 2 s",
    "INFO: Bash(pytest -q tests/billing/test_refunds.py) 1 failed, 23 passed",
    "INFO: Read(tests/billing/test_refunds.py) lines 118-164",
)
LAST_WORDS = (
    "FATAL: Reached heap limit Allocation failed - JavaScript heap out of memory",
    "ERROR: Unhandled promise rejection: read ECONNRESET at TLSWrap.onStreamRead",
    "ERROR: panic in tool Bash: fork: Cannot allocate memory",
)
GIVING_UP = (
    "ERROR: Tests still fail after 5 attempts, giving up: 3 failed, 209 passed",
    "ERROR: Merge conflict in src/billing/invoice.py could not be resolved",
    "ERROR: Token budget of 15000 is used up before the task was done",
)


def chance() -> float:
    """Return a number from 0 to below 1. (The random module brings 3 MB of libraries into every process.)"""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def between(low: float, high: float) -> float:
    return low + (high - low) * chance()


def pick(choices: tuple[str, ...]) -> str:
    return choices[int(chance() * len(choices))]


class Role:
    """What one worker is to do on the stage.

    It works for ``seconds`` from ``progress`` per cent on, showing the ``signs`` "checkin", "heartbeat", "log" and
    "cpu", the first two only for ``checks_in_for`` seconds. Then comes its ``ending``: "complete", "fail", "crash", or
    "silent", after which it gives no sign for ``quiet`` seconds (0: ever) and then does ``afterwards``: "wake" or an
    ending. A ``stubborn`` one ignores SIGTERM.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        seconds: float = 300.0,
        progress: float = 2.0,
        signs: tuple[str, ...] = ("checkin", "log"),
        checks_in_for: float = 1e9,
        ending: str = "complete",
        quiet: float = 0.0,
        afterwards: str = "wake",
        stubborn: bool = False,
    ) -> None:
        self.worker_id = worker_id
        self.seconds = seconds
        self.progress = progress
        self.signs = tuple(signs)
        self.checks_in_for = checks_in_for
        self.ending = ending
        self.quiet = quiet
        self.afterwards = afterwards
        self.stubborn = stubborn

    def as_json(self) -> str:
        return json.dumps(vars(self))


class Worker:
    """The stand-in for ``claude``: shows the signs of life that its role asks for, and nothing else."""

    def __init__(self, home: Path, role: Role, lifeline: int) -> None:
        self.home, self.role, self.lifeline = home, role, lifeline
        self.directory = home / "agents/workers" / role.worker_id
        self.progress = role.progress

    def perform(self) -> int:
        """Play the role and return the exit code."""
        role = self.role
        if role.stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.work(role.seconds, to=70.0 if role.ending == "silent" else 100.0)
        ending = role.ending
        if ending == "silent":
            wait(self.lifeline, role.quiet or None)
            ending = role.afterwards
            if ending == "wake":
                self.work(between(120, 240), to=100.0)
                ending = "complete"
        return self.end(ending)

    def work(self, seconds: float, to: float) -> None:
        """Raise progress evenly and show each sign when it is due."""
        began, at_first = time.monotonic(), self.progress
        rest = {"checkin": (15, 40), "heartbeat": (20, 45), "log": (5, 14), "cpu": (40, 70)}
        due = {sign: began + between(0, rest[sign][0]) for sign in self.role.signs}
        while (now := time.monotonic()) < began + seconds:
            wait(self.lifeline, min([*due.values(), began + seconds]) - now)
            elapsed = time.monotonic() - began
            self.progress = max(self.progress, round(at_first + (to - at_first) * min(1.0, elapsed / seconds)))
            for sign in [sign for sign, moment in due.items() if moment <= time.monotonic()]:
                due[sign] = time.monotonic() + between(*rest[sign])
                if sign in ("log", "cpu") or elapsed < self.role.checks_in_for:
                    self.show(sign)

    def show(self, sign: str) -> None:
        if sign == "log":
            self.say(pick(LINES))
        elif sign == "cpu":
            burst = time.process_time() + between(0.15, 0.3)
            while time.process_time() < burst:
                pass
        elif sign == "checkin":
            self.check_in("in_progress")
        else:
            step = self.step()
            beat = {"timestamp": utc_time(), "status": "working", "progress": step, "worker_id": self.role.worker_id}
            write_json(self.directory / "heartbeat.json", beat)

    def say(self, line: str) -> None:
        os.write(1, f"[{local_time()}] {line}\n".encode())

    def step(self) -> str:
        return STEPS[min(len(STEPS) - 1, int(self.progress * len(STEPS) / 100))]

    def check_in(self, status: str) -> None:
        """Leave a check-in file for the PM daemon, named as the real ones: its Z is a letter, the time is local."""
        name = f"{self.role.worker_id}-{local_time()[:19].replace('-', '').replace(':', '')}Z.json"
        record = {
            "worker_id": self.role.worker_id,
            "timestamp": local_time(),
            "status": status,
            "progress_pct": self.progress,
            "current_step": self.step(),
        }
        write_json(self.home / "coordination/worker-checkins" / name, record)

    def end(self, ending: str) -> int:
        if ending == "crash":
            self.say(pick(LAST_WORDS))
            return CRASHED
        if ending == "fail":
            self.say(pick(GIVING_UP))
            return FAILED
        self.progress = 100
        if "checkin" in self.role.signs:
            self.check_in("completed")
        self.say("INFO: Task completed, summary written")
        return DONE


def run_worker() -> int:
    """Be the worker that the environment describes."""
    title = os.environ.get("DEMO_TITLE", "")
    rename_process(title.replace("\x1f", "\0").encode() + b"\0")
    for inherited in (8, 9):  # through which the interpreter and this file came in
        with contextlib.suppress(OSError):
            os.close(inherited)
    home = Path(os.environ["DEMO_HOME"])
    return Worker(home, Role(**json.loads(os.environ["DEMO_ROLE"])), join(home)).perform()


# --- starting a worker -----------------------------------------------------------------------------------------------


def launch(home: Path, spec: dict[str, Any], role: Role, style: str = "headless") -> Popen[bytes]:
    """Start a worker detached, in one of the ways in which real fleets do. Source: coordination-format, section 1.

    ``style`` is "headless" (with a pid file), "terminal" (a relative wrapper and the prompt as an argument),
    "start-worker" (the id as an argument, in the home) or "shell" (``WORKER_ID`` in the environment, in the home).
    Return the wrapper.
    """
    worker_id, root = role.worker_id, str(home)
    directory = home / "agents/workers" / worker_id
    prepare_directory(home, spec, style)
    command, cwd = [f"{root}/agents/workers/{worker_id}/execute.sh"], directory
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "HOME")}
    environment |= {"DEMO_HOME": root, "DEMO_ROLE": role.as_json()}
    if style == "terminal":
        command = ["./execute.sh"]
    elif style == "start-worker":
        command, cwd = [f"{root}/scripts/start-worker.sh", worker_id], home
    elif style == "shell":
        task = ["--task-id", str(spec.get("task_id", "")), "--description", "Nightly scan of the repositories"]
        command, cwd = [f"{root}/agents/workers/shell-worker.sh", *task], home
        environment["WORKER_ID"] = worker_id
    wrapper = start(["/bin/bash", *command], cwd, environment, directory / "logs/launcher-output.log")
    if style == "headless":
        (directory / "worker.pid").write_text(f"{wrapper.pid}\n")
    return wrapper


def launch_emitter(home: Path, worker_id: str, wrapper_pid: int) -> Popen[bytes]:
    """Start the companion that beats for a worker every 30 s, and goes on when the worker is gone."""
    directory = home / "agents/workers" / worker_id
    lifeline = join(home)
    os.set_blocking(lifeline, True)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "DEMO_LIFELINE": str(lifeline)}
    command = ["/bin/bash", f"{home}/scripts/worker-heartbeat-emitter.sh", worker_id, str(wrapper_pid)]
    emitter = start(command, home, environment, directory / "logs/heartbeat-emitter.log", lifeline)
    os.close(lifeline)
    (directory / "heartbeat.pid").write_text(f"{emitter.pid}\n")
    return emitter


def start(command: list[str], cwd: Path, environment: dict[str, str], log: Path, *keep: int) -> Popen[bytes]:
    """Start a process in a session of its own, its output in ``log``."""
    import subprocess

    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=keep,
        )


def prepare_directory(home: Path, spec: dict[str, Any], style: str) -> None:
    """Write a worker's own directory, and remove what an earlier run or attempt left that would speak for this one."""
    import shlex

    worker_id = spec["worker_id"]
    directory = home / "agents/workers" / worker_id
    (directory / "logs").mkdir(parents=True, exist_ok=True)
    for stale in ("status.json", "heartbeat.json", "worker.pid", "heartbeat.pid"):
        (directory / stale).unlink(missing_ok=True)
    task = spec.get("task_id", "")
    prompt = (
        f"You are {worker_id}. Do task {task} as its spec says. Leave the files of worker-implementation-001 alone."
    )
    (directory / "prompt.md").write_text(prompt + "\n")
    for log in ("stdout.log", "stderr.log"):
        (directory / "logs" / log).touch()
    arguments = shlex.quote(prompt) if style == "terminal" else "-p --dangerously-skip-permissions"
    execute = directory / "execute.sh"
    execute.write_text(
        "#!/bin/bash\n"
        f"# Worker {worker_id}, written by claude-worker-launcher-v2.sh\n"
        f"cd {shlex.quote(str(directory))} || exit 1\n"
        f"source {shlex.quote(str(home / 'scripts/lib/run-claude.sh'))}\n"
        f"run_claude . {arguments}\n"
    )
    execute.chmod(0o755)


def mark_running(path: Path, spec: dict[str, Any], started: float | None = None) -> None:
    """Let the spec say that it runs, from now on or from ``started`` (epoch seconds)."""
    spec["status"] = "running"
    spec.setdefault("execution", {})["started_at"] = local_time(started)
    write_json(path, spec)


def start_worker(home: Path, spec_file: str) -> int:
    """Be ``start-worker.sh --spec FILE``: start a pending worker detached. A running one is left alone."""
    path = (home / spec_file).resolve()
    spec = read_json(path)
    if path.parent != (home / ACTIVE).resolve() or spec is None or "worker_id" not in spec:
        print(f"start-worker.sh: {spec_file} is no worker spec in {ACTIVE}", file=sys.stderr)
        return 1
    worker_id = spec["worker_id"]
    if spec.get("status") == "running":
        print(f"Worker {worker_id} is already running")
        return 0
    os.close(join(home))
    mark_running(path, spec)
    signs = ("checkin", "heartbeat", "log")
    wrapper = launch(home, spec, Role(worker_id, seconds=between(240, 540), signs=signs))
    print(f"Started worker {worker_id} (pid {wrapper.pid})")
    wrapper.returncode = 0  # it is init's child from now on; nobody here waits for it
    return 0


# --- the fleet's other programs --------------------------------------------------------------------------------------


def options(arguments: list[str], known: tuple[str, ...]) -> dict[str, str]:
    """Read ``--name value`` pairs. Raise ValueError with a usage line for anything else."""
    usage = "usage: " + " ".join(f"[--{name} VALUE]" for name in known)
    if len(arguments) % 2:
        raise ValueError(usage)
    pairs = dict(zip(arguments[::2], arguments[1::2], strict=True))
    if not set(pairs) <= {f"--{name}" for name in known}:
        raise ValueError(usage)
    return {name[2:]: value for name, value in pairs.items()}


def create_task(home: Path, arguments: list[str]) -> int:
    """Be ``create-task.sh``: queue a task, which the director soon gives to a new worker, and print its id."""
    given = options(arguments, ("description", "priority", "worker-type", "metadata"))
    if not given.get("description"):
        raise ValueError("create-task.sh: --description is required")
    task = {
        "id": f"task-{int(time.time())}-{os.urandom(3).hex()}",
        "title": given["description"],
        "description": given["description"],
        "worker_type": given.get("worker-type", "implementation-worker"),
        "priority": given.get("priority", "medium"),
        "status": "queued",
        "created_at": utc_time(),
        "created_by": "create-task-cli",
        "metadata": json.loads(given.get("metadata") or "{}"),
    }
    with task_queue(home) as tasks:
        tasks.append(task)
    print(f"Created task {task['id']}")
    return 0


def emit_event(home: Path, arguments: list[str]) -> int:
    """Be ``emit-event.sh``: append one record to the dashboard's events."""
    given = options(arguments, ("type", "worker-id", "message"))
    if not given.get("type"):
        raise ValueError("emit-event.sh: --type is required")
    data = {"worker_id": given.get("worker-id"), "message": given.get("message", "")}
    event_id = f"evt-{int(time.time())}-{os.getpid()}"
    record = {"id": event_id, "timestamp": local_time(), "type": given["type"], "data": data, "source": "emit-event"}
    append_record(home / DASHBOARD, record)
    return 0


# --- the PM daemon ---------------------------------------------------------------------------------------------------


class PmDaemon:
    """Watches the workers' check-ins, by the real daemon's rules and into the real daemon's files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.began = time.time()
        self.loops = 0
        self.said: dict[str, tuple[str, float]] = {}  # worker id -> (what was last said of it, when)
        self.specs: dict[str, tuple[int, dict[str, Any]]] = {}  # file name -> (mtime, its content)

    def run(self) -> None:
        """Loop until the demo ends."""
        lifeline = join(self.home)
        self.event("pm_started", data={"pid": os.getpid()})
        try:
            while True:
                began = time.monotonic()
                self.loop()
                wait(lifeline, PM_LOOP_SECONDS - (time.monotonic() - began))
        finally:
            self.event("pm_stopped", data={"uptime_hours": round((time.time() - self.began) / 3600, 2)})

    def loop(self) -> None:
        path = self.home / "coordination/pm-state.json"
        state = read_json(path) or {}
        entries: dict[str, dict[str, Any]] = state.get("monitored_workers", {})
        running = {spec["worker_id"]: spec for spec in self.read_specs() if spec.get("status") == "running"}
        for worker_id, spec in running.items():
            self.register(entries, worker_id, spec)
        self.read_checkins(entries)
        for worker_id, spec in running.items():
            self.assess(entries[worker_id], spec)
        self.forget(entries, running)
        self.loops += 1
        if self.loops % 12 == 0:
            self.event("pm_loop_completed", data={"loop_number": self.loops, "duration_seconds": 0})
        state["pm_daemon"] = {
            "pid": os.getpid(),
            "last_loop": local_time(),
            "loops_completed": self.loops,
            "uptime_seconds": int(time.time() - self.began),
            "started_at": local_time(self.began),
        }
        state["monitored_workers"] = entries
        state["metrics"] = {"active": len(self.specs), "monitored": len(entries)}
        write_json(path, state)

    def read_specs(self) -> list[dict[str, Any]]:
        """Return the specs in ``active/``, opening only what has changed."""
        seen: dict[str, tuple[int, dict[str, Any]]] = {}
        for entry in os.scandir(self.home / ACTIVE):
            if not entry.name.endswith(".json") or entry.name.startswith("."):
                continue
            with contextlib.suppress(OSError):
                stamp = entry.stat().st_mtime_ns
                known = self.specs.get(entry.name)
                spec = known[1] if known and known[0] == stamp else read_json(Path(entry.path)) or {}
                seen[entry.name] = (stamp, spec)
        self.specs = seen
        return [spec for _, spec in seen.values() if isinstance(spec.get("worker_id"), str)]

    def register(self, entries: dict[str, dict[str, Any]], worker_id: str, spec: dict[str, Any]) -> None:
        """Take up a worker that is new here, or has been started again."""
        started = (spec.get("execution") or {}).get("started_at")
        entry = entries.get(worker_id)
        if entry and entry.get("started_at") == started:
            return
        entries[worker_id] = {
            "worker_id": worker_id,
            "task_id": spec.get("task_id"),
            "worker_type": spec.get("worker_type"),
            "registered_at": local_time(),
            "started_at": started,
            "last_checkin": None,
            "checkin_count": 0,
            "health_state": "healthy",
            "progress_pct": 0,
            "warnings_sent": 0,
            "interventions": [],
            "legacy_worker": False,
        }
        self.event("worker_registered", worker_id, {"task_id": spec.get("task_id"), "type": spec.get("worker_type")})

    def read_checkins(self, entries: dict[str, dict[str, Any]]) -> None:
        """Take every check-in file in and delete it."""
        for path in sorted((self.home / "coordination/worker-checkins").glob("[!.]*.json")):
            checkin = read_json(path)
            path.unlink(missing_ok=True)
            entry = entries.get(str(checkin.get("worker_id"))) if checkin else None
            if not checkin or not entry:
                continue
            entry["last_checkin"] = checkin.get("timestamp")
            entry["checkin_count"] += 1
            entry["progress_pct"] = checkin.get("progress_pct")
            data = {"status": checkin.get("status"), "progress_pct": checkin.get("progress_pct")}
            self.event("checkin_received", entry["worker_id"], data)

    def assess(self, entry: dict[str, Any], spec: dict[str, Any]) -> None:
        """Say how a worker is, by its check-ins alone, and report what has changed or is still bad a minute later."""
        now = time.time()
        last = epoch_of(entry["last_checkin"]) or epoch_of(entry["started_at"]) or now
        minutes = int((now - last) / 60)
        entry["health_state"] = (
            "stalled" if minutes >= PM_STALLED_MINUTES else "late" if minutes >= PM_LATE_MINUTES else "healthy"
        )
        state, repeated = self.said.get(entry["worker_id"], ("healthy", now))
        if entry["health_state"] == state and (state == "healthy" or now - repeated < 60):
            return
        self.said[entry["worker_id"]] = (entry["health_state"], now)
        if entry["health_state"] == "healthy":
            return
        entry["warnings_sent"] += entry["health_state"] != state
        event = "worker_stalled" if entry["health_state"] == "stalled" else "missed_checkin"
        self.event(event, entry["worker_id"], {"minutes_since_checkin": minutes})
        self.log(f"WARN: Worker {entry['worker_id']} {entry['health_state']} (no check-in for {minutes} min)")
        if entry["health_state"] != state:
            self.heartbeat_event(entry, minutes)
        self.exceeded(entry, spec, now)

    def heartbeat_event(self, entry: dict[str, Any], minutes: int) -> None:
        """Write what the fleet's heartbeat monitor would."""
        stalled = entry["health_state"] == "stalled"
        record = {
            "event_type": "heartbeat_critical" if stalled else "heartbeat_warning",
            "worker_id": entry["worker_id"],
            "task_id": entry["task_id"],
            "time_since_heartbeat_seconds": minutes * 60,
            "health_status": "unresponsive" if stalled else "warning",
            "timestamp": local_time(),
            "detected_by": "heartbeat-monitor",
        }
        append_record(self.home / HEARTBEATS, record)

    def exceeded(self, entry: dict[str, Any], spec: dict[str, Any], now: float) -> None:
        """Report a worker over its limit; the real daemon looks at one of the two keys only, and so does this one."""
        limit = (spec.get("resources") or {}).get("time_limit_minutes", 60)
        started = epoch_of(entry["started_at"])
        if started and now - started > 66 * limit:
            data = {"age_minutes": int((now - started) / 60), "limit_minutes": limit}
            self.event("timeout_exceeded", entry["worker_id"], data)

    def forget(self, entries: dict[str, dict[str, Any]], running: dict[str, dict[str, Any]]) -> None:
        """Report who has left, and drop the entry some minutes later. (The real daemon never does.)"""
        now = time.time()
        for worker_id in [worker_id for worker_id in entries if worker_id not in running]:
            state, since = self.said.get(worker_id, ("", now))
            if state != "left":
                self.said[worker_id] = ("left", now)
                outcome = next((name for name in ("completed", "failed") if self.lies_in(name, worker_id)), None)
                if outcome:
                    self.event(f"worker_{outcome}", worker_id, {"progress_pct": entries[worker_id]["progress_pct"]})
            elif now - since > PM_FORGETS_AFTER:
                del entries[worker_id], self.said[worker_id]
        for worker_id in running:
            if self.said.get(worker_id, ("",))[0] == "left":
                del self.said[worker_id]

    def lies_in(self, directory: str, worker_id: str) -> bool:
        return (self.home / f"coordination/worker-specs/{directory}/{worker_id}.json").exists()

    def event(self, name: str, worker_id: str = "", data: dict[str, Any] | None = None) -> None:
        record: dict[str, Any] = {"timestamp": local_time(), "pm_id": f"pm-daemon-{os.getpid()}", "event": name}
        if worker_id:
            record["worker_id"] = worker_id
        append_record(self.home / PM_ACTIVITY, record | {"data": data or {}})

    def log(self, line: str) -> None:
        append(self.home / "agents/logs/system/pm-daemon.log", f"[{local_time()}] [PM] {line}")


def run_pm(home: Path) -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("pm-daemon.sh")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    PmDaemon(home).run()
    return 0


PROGRAMS: dict[str, Callable[[Path, list[str]], int]] = {
    "pm-daemon": lambda home, _: run_pm(home),
    "start-worker": lambda home, rest: start_worker(home, rest[0]),
    "create-task": create_task,
    "emit-event": emit_event,
}


def main(arguments: list[str]) -> int:
    """Be the program that the first argument names, or a worker where the environment asks for one."""
    try:
        if "DEMO_TITLE" in os.environ:
            return run_worker()
        program, home, *rest = arguments
        return PROGRAMS[program](Path(home), rest)
    except DemoEndedError:
        if "DEMO_TITLE" not in os.environ:
            print("The demo fleet of this directory is not running.", file=sys.stderr)
        return OVER
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
