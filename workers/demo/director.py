"""The living demo: starts what is pending, files what has ended, and sees to it that something always happens.

The director plays the fleet's worker daemon and the people who now and then cancel, delete or break something. It
learns what is there from the directory alone, like any daemon, so what a remediation moves, restarts or removes stays
as the remediation left it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from . import fleet, specs, stand_ins
from .desk import Desk
from .opening import STYLES, open_scene
from .stand_ins import ACTIVE, Role, append_record, between, epoch_of, local_time, read_json, utc_time
from .troupe import Troupe

TICK_SECONDS = 1.0
USUAL_WORKERS = 26  # for which the gaps below are meant
PENDING = 3  # specs that wait to be started at any time
# How long things last, in seconds
PENDING_SECONDS = 6.0
ADOPT_SECONDS = 90.0  # a pending spec with an attempt behind it is somebody's restart; after this it is left behind
CANCELLED_SECONDS = 30.0
BROKEN_SECONDS = 360.0
LOST_SECONDS = 420.0
ODD_SECONDS = 400.0
#: What happens, on average every so many seconds, for the first time after so many.
GAPS = {
    "silence": (150, 60),
    "crash": (200, 90),
    "fail": (240, 150),
    "overdue": (220, 60),
    "launch without a process": (240, 50),
    "cancel": (150, 12),
    "delete": (200, 22),
    "break": (320, 200),
    "confuse": (360, 240),
    "prune": (60, 60),
}
#: How a silence ends, in turn: minutes in all, what then.
SILENCES = ((22.0, "fail"), (13.0, "wake"), (23.0, "crash"), (21.0, "wake"))


class Timers:
    """Says when the next of each kind of happening is due."""

    def __init__(self, now: float, workers: int) -> None:
        crowd = max(1.0, workers / USUAL_WORKERS)
        self.gaps = {name: gap / crowd for name, (gap, _) in GAPS.items()}
        # A silence lasts about 20 minutes, so a small fleet must have fewer of them, or it would all be silent.
        self.gaps["silence"] = GAPS["silence"][0] * USUAL_WORKERS / workers
        self.next = {name: now + first for name, (_, first) in GAPS.items()}

    def due(self, name: str, now: float) -> bool:
        """Whether it is time; if so, the next one is set."""
        if now < self.next[name]:
            return False
        self.next[name] = now + self.gaps[name] * between(0.8, 1.2)
        return True


@dataclass(slots=True)
class Seen:
    """A file in ``active/`` as it was last read. Times are monotonic."""

    stamp: int  # mtime in ns
    spec: dict[str, Any] | None  # None: it cannot be parsed
    since: float  # when this status was first seen
    lost_since: float = 0.0  # when it was first seen running without a process

    @property
    def status(self) -> str:
        return str(self.spec.get("status")) if self.spec is not None else "unreadable"


class Director:
    """Keeps one demo fleet going."""

    def __init__(self, desk: Desk, troupe: Troupe, workers: int) -> None:
        self.home, self.desk, self.troupe, self.workers = desk.home, desk, troupe, workers
        self.rng = desk.rng
        self.timers = Timers(time.monotonic(), workers)
        self.seen: dict[str, Seen] = {}  # by worker id, which is the name of its file
        self.silences = 0
        self.queue_stamp = 0

    def run(self, stop: threading.Event) -> None:
        """Direct until ``stop`` is set or somebody removes the directory."""
        while not stop.wait(TICK_SECONDS) and (self.home / fleet.MARKER).exists():
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Look at what is there and move it on by one step."""
        self.seen = self._look(now)
        self.troupe.reap(set(self.seen))
        for worker_id, seen in self.seen.items():
            self._move_on(worker_id, seen, now)
        self._take_tasks()
        self._fill_up(now)
        self._mischief(now)
        if self.troupe.watch_pm(now):
            data = {"daemon": "pm-daemon", "critical": True}
            record = {"timestamp": utc_time(), "event": "daemon_restarted", "data": data}
            append_record(self.home / "coordination/events/daemon-supervisor-events.jsonl", record)
        if self.timers.due("prune", now):
            self.desk.prune(self.seen)

    def _look(self, now: float) -> dict[str, Seen]:
        """Read what has changed in ``active/``."""
        found: dict[str, Seen] = {}
        for entry in os.scandir(self.home / ACTIVE):
            if not entry.name.endswith(".json") or entry.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):
                worker_id, stamp = entry.name.removesuffix(".json"), entry.stat().st_mtime_ns
                before = self.seen.get(worker_id)
                if before is not None and before.stamp == stamp:
                    found[worker_id] = before
                    continue
                seen = Seen(stamp, read_json(Path(entry.path)), now)
                if before is not None and before.status == seen.status:
                    seen.since, seen.lost_since = before.since, before.lost_since
                found[worker_id] = seen
        return found

    # --- what becomes of one worker

    def _move_on(self, worker_id: str, seen: Seen, now: float) -> None:
        """Do with one worker what the fleet's daemons and people would have done by now."""
        age = now - seen.since
        if seen.spec is None:
            if age > BROKEN_SECONDS and self.desk.unchanged(worker_id, seen.stamp):
                path = self.desk.path(worker_id)
                path.write_text(path.read_text().replace(": ,", ": null,"))
        elif seen.status == "running":
            if self.troupe.lives(worker_id):
                seen.lost_since = 0.0
            else:
                self._collect(worker_id, seen, seen.spec, now)
        elif seen.status == "cancelled":
            if age > CANCELLED_SECONDS:
                self._leave(worker_id, seen, f"archive-{datetime.now(UTC):%Y%m%d}")
        elif seen.status != "pending" and age > ODD_SECONDS:
            self._leave(worker_id, seen, "stuck")

    def _collect(self, worker_id: str, seen: Seen, spec: dict[str, Any], now: float) -> None:
        """File a worker whose process has ended: at once by its status file, else some minutes later as lost."""
        moment = datetime.now(UTC)
        outcome, error = self._own_word(worker_id, spec), "Tests still fail after 5 attempts"
        if not outcome:
            seen.lost_since = seen.lost_since or now
            if now - seen.lost_since < LOST_SECONDS:
                return
            outcome, error = (
                ("failed", "Worker process disappeared") if self.troupe.launched(worker_id) else ("zombie", "")
            )
        specs.end(spec, moment, outcome, "" if outcome == "completed" else error)
        spec["execution"]["tokens_used"] = int(between(3_000, 24_000))
        self._leave(worker_id, seen, f"zombie/{moment:%Y-%m-%d}" if outcome == "zombie" else outcome)
        if outcome != "zombie":
            self.desk.tell(f"worker_{outcome}", worker_id)
            return
        for step in fleet.ZOMBIE_STEPS:
            record = {"event_type": step, "worker_id": worker_id, "timestamp": local_time(), "data": {}}
            append_record(self.home / fleet.ZOMBIE_EVENTS, record)

    def _own_word(self, worker_id: str, spec: Mapping[str, Any]) -> str:
        """Return what the worker's status file says of this attempt, "" where there is none."""
        said = read_json(self.home / "agents/workers" / worker_id / "status.json") or {}
        written, started = epoch_of(said.get("timestamp")), epoch_of(spec.get("execution", {}).get("started_at"))
        return str(said.get("status", "")) if written and started and written >= started else ""

    def _leave(self, worker_id: str, seen: Seen, directory: str) -> None:
        """Move a worker out of ``active/``, unless somebody else has moved or changed it."""
        if seen.spec is None:
            return
        if worker_id in self.troupe.companions:
            self.troupe.dismiss_companion(worker_id)
            with contextlib.suppress(FileNotFoundError):
                seen.stamp = self.desk.path(worker_id).stat().st_mtime_ns  # of its last beat
        if self.desk.unchanged(worker_id, seen.stamp):
            self.desk.file(seen.spec, directory)

    # --- who comes next

    def _waiting(self, now: float, seconds: float) -> list[str]:
        """Return who has been pending for so long, the longest first."""
        since = [(seen.since, name) for name, seen in self.seen.items() if seen.status == "pending"]
        return [name for moment, name in sorted(since) if now - moment >= seconds]

    def _fill_up(self, now: float) -> None:
        """Start a worker where one is missing; else see that some are waiting."""
        running = [name for name, seen in self.seen.items() if seen.status == "running" and self.troupe.lives(name)]
        adoptable = set(self._waiting(now, ADOPT_SECONDS))
        ready = [
            name
            for name in self._waiting(now, PENDING_SECONDS)
            if name in adoptable or not (self.home / "agents/workers" / name).exists()
        ]
        missing = self.workers - len(running)
        if ready and missing > 0:
            self._begin(ready[0], now)
        elif len(self._waiting(now, 0)) < PENDING + missing:
            self.desk.spawn(datetime.now(UTC))

    def _begin(self, worker_id: str, now: float) -> None:
        """Start a pending worker with the part that is due."""
        seen = self.seen[worker_id]
        if seen.spec is None or not self.desk.unchanged(worker_id, seen.stamp):
            return
        companion = self.rng.random() < 0.1
        if companion:
            specs.run_since(seen.spec, datetime.now(UTC), datetime.now(UTC))
        stand_ins.mark_running(self.desk.path(worker_id), seen.spec)
        if self.timers.due("launch without a process", now):
            return  # its launcher has failed without a word: a zombie to be
        role = self._cast(worker_id, now)
        self.troupe.launch(seen.spec, role, self.rng.choice(STYLES))
        if companion and role.ending != "silent":  # its beats are check-ins
            self.troupe.accompany(worker_id)

    def _cast(self, worker_id: str, now: float) -> Role:
        """Choose what a worker that starts now will do."""
        usual = ("checkin", "log")
        signs = self.rng.choice((usual, usual, ("log",), ("heartbeat", "log"), ("checkin", "log", "cpu")))
        role = Role(worker_id, seconds=between(240, 620), signs=signs)
        if self.timers.due("silence", now):
            minutes, role.afterwards = SILENCES[self.silences % len(SILENCES)]
            self.silences += 1
            role.seconds, role.ending, role.quiet = between(20, 90), "silent", minutes * 60
        elif self.timers.due("crash", now):
            role.seconds, role.ending = between(30, 120), "crash"
        elif self.timers.due("fail", now):
            role.seconds, role.ending = between(60, 200), "fail"
        elif self.timers.due("overdue", now):
            role.seconds, role.checks_in_for = 1500, between(300, 700)
        return role

    def _take_tasks(self) -> None:
        """Give each task that ``create-task.sh`` has queued to a new worker."""
        stamp = (self.home / stand_ins.QUEUE).stat().st_mtime_ns
        if stamp == self.queue_stamp:
            return
        with stand_ins.task_queue(self.home) as tasks:
            for queued in [task for task in tasks if task.get("status") == "queued"]:
                kind = str(queued.get("worker_type", "")).removesuffix("-worker")
                kind = kind if kind in specs.TITLES else "implementation"
                metadata = queued["metadata"] if isinstance(queued.get("metadata"), dict) else {}
                task = specs.Task(queued["id"], queued["description"], kind, queued["priority"], metadata)
                self.desk.spawn(datetime.now(UTC), task=task)
                queued["status"] = "assigned"
        self.queue_stamp = (self.home / stand_ins.QUEUE).stat().st_mtime_ns

    def _mischief(self, now: float) -> None:
        """Cancel, delete, break or confuse something when it is time for that."""
        idle = [name for name in self._waiting(now, 3) if self.desk.unchanged(name, self.seen[name].stamp)]
        if idle and self.timers.due("cancel", now):
            spec = self.seen[idle[-1]].spec or {}
            stand_ins.write_json(self.desk.path(idle.pop()), spec | {"status": "cancelled"})
        if idle and self.timers.due("delete", now):
            self.desk.path(idle.pop()).unlink(missing_ok=True)
        if self.timers.due("break", now):
            self.desk.spawn(datetime.now(UTC), broken=True)
        if self.timers.due("confuse", now):
            odd = self.rng.choice(("stuck", "awaiting_review", "shutting_down"))
            self.desk.spawn(datetime.now(UTC), status=odd)


def run(
    home: Path, *, workers: int, events: int, seed: int, stop: threading.Event, when_up: Callable[[], None]
) -> None:
    """Run a living demo fleet in ``home`` until ``stop`` is set; ``when_up`` is called once all of it is there.

    Where an earlier demo ran in ``home``, its past stays. Raise :class:`fleet.DemoError` where the directory is
    something else, or another demo is running in it.
    """
    home = home.absolute()
    with fleet.claim(home) as known:
        desk = Desk(home, Random(seed))  # noqa: S311 - a demo, not a secret
        now = datetime.now(UTC)
        fleet.write_skeleton(home, now)
        if known:
            desk.resume(now)
        if not (home / stand_ins.PM_ACTIVITY).exists():
            cast = fleet.write_history(home, desk.rng, now, desk.numbers)
            fleet.write_events(home, desk.rng, cast, events, now)
        with contextlib.closing(Troupe(home)) as troupe:
            open_scene(desk, troupe, workers, now, stop)
            troupe.start_pm()
            when_up()
            Director(desk, troupe, workers).run(stop)
