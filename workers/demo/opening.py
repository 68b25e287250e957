"""The demo's opening scene: every state of health within a minute.

The limits of 10 and 15 minutes are real in a demo too. So it opens with workers that have, by their specs and logs,
been silent for up to that long; their processes then wait without a line or a tick of CPU time.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from . import fleet, specs, stand_ins
from .desk import Desk
from .stand_ins import Role, between, local_time, write_json
from .troupe import Troupe

SETTLE_SECONDS = 1.5  # until processes have used the CPU time of their start, which would count as a sign of life
STYLES = ("headless", "headless", "headless", "terminal", "start-worker", "shell")


@dataclass(frozen=True, slots=True)
class Part:
    """One worker of the opening scene. ``started``, ``silent``, ``checkin`` and ``silent_until`` are in minutes."""

    started: float = 0  # ago; 0: at random
    silent: float = 0  # since its last sign of life; 0: at work
    checkin: float = 0  # since its last check-in, where that was not its last sign of life
    silent_until: float = 0  # of silence in all; 0: for ever
    afterwards: str = "wake"
    style: str = "headless"
    kind: str = ""  # "": at random
    signs: tuple[str, ...] = ("checkin", "log")
    seconds: float = 0  # of work still to do; 0: at random
    ending: str = "complete"
    companion: bool = False
    stubborn: bool = False


#: Most telling first, so that a small fleet has them too.
PARTS = (
    Part(),
    Part(started=31, silent=11.2, silent_until=14),  # late, wakes up
    Part(started=44, silent=17, style="terminal", stubborn=True),  # stalled
    Part(style="shell", kind="scan", signs=("log",)),
    Part(style="start-worker"),
    Part(signs=("log", "cpu"), companion=True),
    Part(started=22, seconds=25, ending="crash"),
    Part(started=71, kind="scan", seconds=500, signs=("checkin", "heartbeat", "log")),  # overdue
    Part(started=26, silent=9.6, silent_until=22, afterwards="fail"),  # late within half a minute
    Part(started=38, silent=14.6, silent_until=22, afterwards="crash"),  # stalled within half a minute
    Part(started=29, checkin=12, signs=("log",), seconds=520),  # late: it works, but checks in no more
    Part(started=12, signs=("cpu",), seconds=600),
    Part(started=9, seconds=14),
    Part(started=52, kind="fix", style="terminal", seconds=700, signs=("log",)),  # overdue
    Part(started=33, silent=19.4, silent_until=24, afterwards="fail"),
    Part(started=18, silent=7, silent_until=12.5),
    Part(started=16, silent=4.2, silent_until=22, afterwards="crash", style="terminal"),
    Part(started=11, silent=1.6, silent_until=23, afterwards="fail"),
    Part(signs=("checkin", "heartbeat", "log"), companion=True),
    Part(started=14, seconds=45, ending="fail"),
)


def open_scene(desk: Desk, troupe: Troupe, workers: int, now: datetime, stop: threading.Event) -> None:
    """Start the first ``workers`` workers and write the specs that need no process; ``stop`` cuts the wait short."""
    parts = [*PARTS[:workers], *[Part(style=STYLES[n % len(STYLES)]) for n in range(workers - len(PARTS))]]
    entered = [(part, *_enter(desk, troupe, part, number, now)) for number, part in enumerate(parts)]
    stop.wait(SETTLE_SECONDS)
    monitored: dict[str, Any] = {}
    for part, spec, progress in entered:
        if part.silent:  # opening its logs has made them younger
            _date_logs(desk, spec["worker_id"], now - timedelta(minutes=part.silent))
        write_json(desk.path(spec["worker_id"]), spec)
        if part.companion:
            troupe.accompany(spec["worker_id"])
        minutes = part.checkin or part.silent
        checkin = now - timedelta(minutes=minutes) if minutes else None
        monitored[spec["worker_id"]] = fleet.pm_entry(spec, checkin=checkin, progress=progress if checkin else 0)
    for spec in _lost(desk, troupe, now):
        monitored[spec["worker_id"]] = fleet.pm_entry(spec)
    fleet.write_pm_state(desk.home, monitored, now)
    for _ in range(3):
        desk.spawn(now)
    desk.spawn(now, broken=True)
    desk.spawn(now - timedelta(minutes=50), broken=True)
    desk.spawn(now - timedelta(minutes=35), status="stuck")


def _enter(desk: Desk, troupe: Troupe, part: Part, number: int, now: datetime) -> tuple[dict[str, Any], float]:
    """Start one worker. Return its spec, which says that it runs but is not in ``active/`` yet, and its progress."""
    started = now - timedelta(minutes=part.started or between(1.5, 9))
    last_sign = now - timedelta(minutes=part.silent or between(0.1, 0.9))
    spec = desk.new_spec(part.kind or specs.any_kind(desk.rng), started - timedelta(seconds=20))
    age = (now - started).total_seconds()
    specs.run_since(spec, started, last_sign if part.companion else None, int(age / 30))
    seconds = part.seconds or (40 + 23 * number) * between(0.8, 1.2)
    role = Role(
        spec["worker_id"],
        seconds=seconds,
        progress=round(between(20, 70) if part.silent else 100 * age / (age + seconds)),
        signs=part.signs,
        ending=part.ending,
        stubborn=part.stubborn,
    )
    if part.silent:
        role.seconds, role.ending, role.afterwards = 0, "silent", part.afterwards
        role.quiet = max(0.0, part.silent_until - part.silent) * 60
    write_past_log(desk, spec["worker_id"], started, last_sign)
    troupe.launch(spec, role, part.style)
    return spec, role.progress


def write_past_log(
    desk: Desk, worker_id: str, started: datetime, last: datetime, words: str = "INFO: Bash(pytest -q) running"
) -> None:
    """Write what a worker has logged between its start and its last sign of life, with its last ``words``."""
    logs = desk.home / "agents/workers" / worker_id / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    rng: Random = desk.rng
    moments = sorted(rng.uniform(started.timestamp(), last.timestamp()) for _ in range(14))
    lines = [f"[{local_time(moment)}] {rng.choice(stand_ins.LINES)}" for moment in moments]
    lines.append(f"[{local_time(last.timestamp())}] {words}")
    (logs / "stdout.log").write_text("\n".join(lines) + "\n")


def _date_logs(desk: Desk, worker_id: str, moment: datetime) -> None:
    for log in (desk.home / "agents/workers" / worker_id / "logs").iterdir():
        os.utime(log, (moment.timestamp(), moment.timestamp()))


def _lost(desk: Desk, troupe: Troupe, now: datetime) -> list[dict[str, Any]]:
    """Write two zombies, one of which has an emitter that still beats, and one crash. Return their specs."""
    lost = []
    for minutes, companion, words in ((24, True, ""), (13, False, ""), (9, False, stand_ins.LAST_WORDS[0])):
        started = now - timedelta(minutes=minutes)
        last_line = now - timedelta(minutes=5)
        spec = desk.new_spec("implementation", started - timedelta(seconds=15))
        worker_id = spec["worker_id"]
        specs.run_since(spec, started, last_line if companion else None, 2 * minutes)
        stand_ins.prepare_directory(desk.home, spec, "headless")
        write_past_log(desk, worker_id, started, last_line, words or "INFO: Bash(npm ci) added 412 packages")
        _date_logs(desk, worker_id, last_line)
        write_json(desk.path(worker_id), spec)
        if companion:
            troupe.accompany(worker_id)
        lost.append(spec)
    return lost
