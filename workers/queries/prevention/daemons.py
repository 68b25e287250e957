"""The PM daemon and the others: who runs, who only says so, and how the PM daemon is set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from workers.health import LIMITS, PM_SILENT_AFTER
from workers.models import Event, Mark, Poller

from .said import BACK, ENOUGH, Said, Tone, be, joined, moment

MOST_LOOPS, MOST_STARTS = 50, 20
#: Without a word of its own, a PM daemon loops this often.
LOOP_OTHERWISE = timedelta(seconds=180)
#: Keys of a PM daemon's configuration that give the time from loop to loop, and their unit in seconds.
LOOP_KEYS = {
    "loop_interval_seconds": 1,
    "check_interval_seconds": 1,
    "monitoring_interval_seconds": 1,
    "poll_interval_seconds": 1,
    "loop_interval": 1,
    "check_interval": 1,
    "loop_interval_minutes": 60,
    "check_interval_minutes": 60,
}
DISK_LOW = 0.1
PM = "pm-daemon"  # what its files are called


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of the PM daemon's configuration, and what it means to us."""

    key: str
    value: str
    meaning: str
    used: bool


@dataclass(frozen=True, slots=True)
class Daemon:
    """What one file says of a daemon, and whether that is so."""

    name: str
    path: str
    pid: int | None
    state: str  # "alive", "gone", "another" program has its pid now, or "": it names no pid
    command: str
    status: str
    heartbeat: datetime | None
    written_at: datetime | None
    loops: int | None

    @property
    def said(self) -> Said:
        if self.state == "alive":
            return Said(Tone.FINE, f"Process {self.pid} lives")
        if self.state == "gone":
            return Said(Tone.BAD, f"Its process {self.pid} is gone")
        if self.state == "another":
            return Said(Tone.BAD, f"Its process is gone; {self.pid} is another program's now, which started later")
        if self.status:
            return Said(Tone.LOOK, f"It says “{self.status}” and names no process")
        return Said(Tone.UNKNOWN, "It names no process")


@dataclass(frozen=True, slots=True)
class Pm:
    """The PM daemon: whether it runs, how late it is, and how it is set."""

    seen: bool
    pid: int | None
    alive: bool | None
    command: str
    last_loop: datetime | None
    loops: int | None
    started_at: datetime | None
    interval: timedelta
    interval_from: str
    behind: timedelta | None  # how much longer ago its last loop is than it should be, where it has missed one
    settings: tuple[Setting, ...]
    starts: tuple[datetime, ...]  # newest first
    more_starts: int
    files: tuple[Daemon, ...]
    said: Said


@dataclass(frozen=True, slots=True)
class Disk:
    """The room on the file system of the home."""

    free: int  # bytes
    total: int

    @property
    def share(self) -> float | None:
        return self.free / self.total if self.total else None

    @property
    def said(self) -> Said:
        if self.share is not None and self.share < DISK_LOW:
            return Said(Tone.BAD, "Nearly full: where no file can be written, workers and daemons leave empty ones")
        return Said(Tone.FINE, "Room enough")


def pm_daemon(poller: Poller, said: Mapping[str, Any], daemons: list[Daemon], now: datetime) -> Pm:
    interval, source = _interval(poller.host, said.get("numbers", {}))
    last = poller.pm_last_loop
    late = now - last - interval if last else None
    starts = Mark.objects.filter(host=poller.host, kind=Mark.Kind.PM_START, at__gte=now - BACK)
    moments = list(starts.order_by("-at").values_list("at", flat=True))
    return Pm(
        seen=poller.pm_seen,
        pid=poller.pm_pid,
        alive=poller.pm_alive,
        command=said.get("pm_command", ""),
        last_loop=last,
        loops=poller.pm_loops,
        started_at=poller.pm_started_at,
        interval=interval,
        interval_from=source,
        behind=late if late and late > interval else None,
        settings=tuple(_setting(key, value) for key, value in said.get("settings", ())),
        starts=tuple(moments[:MOST_STARTS]),
        more_starts=max(0, len(moments) - MOST_STARTS),
        files=tuple(each for each in daemons if each.name == PM),
        said=_answer_pm(poller, said.get("pm_status", ""), late, interval, now),
    )


def _answer_pm(poller: Poller, status: str, late: timedelta | None, interval: timedelta, now: datetime) -> Said:
    last = poller.pm_last_loop
    if not poller.pm_seen:
        return Said(Tone.LOOK, "There is no pm-state.json: no PM daemon watches this fleet")
    if poller.pm_alive is False:
        return Said(Tone.BAD, f"The PM daemon is not running: its process {poller.pm_pid} is gone")
    if status == "stopped":
        return Said(Tone.BAD, "The PM daemon says that it was stopped")
    if last is None:
        return Said(Tone.UNKNOWN, "The PM daemon does not say when it looked last")
    if now - last > PM_SILENT_AFTER:
        return Said(Tone.BAD, "The PM daemon is silent: its last loop is too long ago for it to say anything about now")
    if late and late > interval:
        return Said(Tone.LOOK, "The PM daemon is behind: it has missed a loop")
    return Said(Tone.FINE, "The PM daemon runs and watches")


def _interval(host: str, numbers: Mapping[str, float]) -> tuple[timedelta, str]:
    """The time from loop to loop: as configured, else as measured, else as its script has it."""
    for key, unit in LOOP_KEYS.items():
        seconds = numbers.get(key, 0) * unit
        if 0 < seconds <= 86400:
            return timedelta(seconds=seconds), f"its configuration, {key}"
    loops = Event.objects.filter(log__host=host, type="pm_loop_completed", at__isnull=False)
    times = [at for at in loops.order_by("-at").values_list("at", flat=True)[:MOST_LOOPS] if at]
    gaps = [(after - before).total_seconds() for after, before in pairwise(times)]
    if len(gaps) >= ENOUGH and (middle := median(gaps)) > 0:
        return timedelta(seconds=middle), f"measured: the middle one of its last {len(gaps)} loops"
    return LOOP_OTHERWISE, "assumed, as its script has it; neither its configuration nor its log says"


def _setting(key: str, value: str) -> Setting:
    for name, (_, keys) in LIMITS.items():
        if key in keys:
            return Setting(key, value, f"our “{name.replace('_', ' ')}”, unless an admin sets another", used=True)
    if key in LOOP_KEYS:
        return Setting(key, value, "how often it should loop, by which this page says that it is behind", used=True)
    return Setting(key, value, "not used by us", used=False)


def daemon(entry: Mapping[str, Any]) -> Daemon:
    return Daemon(
        name=entry["name"],
        path=entry["path"],
        pid=entry["pid"],
        state=entry["state"],
        command=entry["command"],
        status=entry["status"],
        heartbeat=moment(entry["beat_at"]),
        written_at=moment(entry["written_at"]),
        loops=entry["loops"],
    )


def answer_daemons(daemons: Iterable[Daemon], disk: Disk | None) -> Said:
    if disk and disk.said.tone is Tone.BAD:
        return Said(Tone.BAD, "The disk of the home is nearly full")
    by_name: dict[str, Daemon] = {}
    for each in daemons:  # of several files of one daemon, one that names a living process decides
        if each.name not in by_name or each.said.tone is Tone.FINE:
            by_name[each.name] = each
    if not by_name:
        return Said(Tone.UNKNOWN, "No other daemon has left a pid or heartbeat file")
    gone = sorted(name for name, each in by_name.items() if each.said.tone is Tone.BAD)
    if gone:
        text = f"{len(gone)} of {len(by_name)} daemons {be(len(gone))} gone: {joined(gone[:3])}"
        return Said(Tone.BAD, text + (", …" if len(gone) > 3 else ""))
    living = sum(each.said.tone is Tone.FINE for each in by_name.values())
    tone = Tone.FINE if living == len(by_name) else Tone.LOOK
    return Said(tone, f"{living} of {len(by_name)} daemon{'s' if len(by_name) > 1 else ''} live")
