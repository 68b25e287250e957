"""Who watches the watchman: one light for each part of the product that others rely on, and one sentence for each.

Judging is pure: plain values in, a light out, by the limits of one table. Only :func:`lights` reads anything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from django.db import DatabaseError, connection
from django.urls import reverse

from workers.models import Attendant, Change, Channel
from workers.vitals import VITALS, Vitals

from .watch import Watch, Watches


class State(StrEnum):
    """How one part does. ``OFF`` is nobody's fault: it was not set up, or nobody needs it at present."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    OFF = "off"
    UNKNOWN = "unknown"


WORST = (State.BAD, State.WARN, State.UNKNOWN, State.OK, State.OFF)


@dataclass(frozen=True, slots=True)
class Light:
    """One part, how it does, and why, in one short sentence."""

    name: str
    state: State
    says: str
    since: datetime | None = None  # how long it has been so, where that is known
    href: str = ""
    host: str = ""  # whose poller this comes from: without its word nothing of it can be said
    watchman: bool = False  # the light of that poller itself, which is bad when it falls silent

    @property
    def wrong(self) -> bool:
        """Whether somebody should read it without asking."""
        return self.state in (State.WARN, State.BAD)


class Limit(NamedTuple):
    """From where on a measure is a warning, and from where on it is bad: beyond these, not at them."""

    warn: float | None
    bad: float | None
    under: bool = False  # too little is what is wrong, not too much

    def judge(self, value: float | None) -> State:
        if value is None:
            return State.OK
        for limit, state in ((self.bad, State.BAD), (self.warn, State.WARN)):
            if limit is not None and (value < limit if self.under else value > limit):
                return state
        return State.OK


LIMITS: dict[str, Limit] = {
    # Intervals that a full cycle takes. Beyond the first, verdicts that only time changes come late.
    "cycle": Limit(1.0, 5.0),
    # Seconds from a file's change to its row. It goes by the clock of the file system, which on a network is not this
    # host's: never bad by itself.
    "lag": Limit(5.0, None),
    # Seconds that the event loop of the web process was held up, which all its browsers wait.
    "loop": Limit(0.25, 1.0),
    # Seconds from storing a change to handing it to browsers.
    "push": Limit(1.0, 10.0),
    # Bytes of SQLite's journal. It is cut at 64 MB, unless somebody reads for so long that it cannot be.
    "journal": Limit(256e6, 1e9),
    # Share of a disk that is free, and the bytes below which the share does not matter.
    "share": Limit(0.10, 0.03, under=True),
    "room": Limit(None, 500e6, under=True),
    # Seconds since rules and messages were minded last.
    "round": Limit(60.0, 300.0),
    # Seconds for which the lease of their attendant may have run out before another one takes over.
    "lease": Limit(5.0, 30.0),
}
#: The lights of so many hosts are shown one by one; of more, daemons and disks are summed up.
MOST_HOSTS = 3


def worst(states: Iterable[State]) -> State:
    return min(states, key=WORST.index, default=State.OK)


# Words


def size(count: float) -> str:
    """Bytes in two digits, so that what hardly changes reads the same."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = next((power for power in range(len(units)) if count < 999.5 * 1000**power), len(units) - 1)
    number = count / 1000**power
    return f"{number:.0f} {units[power]}" if number >= 10 or power == 0 else f"{number:.1f} {units[power]}"


def length(seconds: float) -> str:
    """A length of time in one digit of its unit, as far as it matters: `under 10 ms`, `40 ms`, `3.2 s`, `12 s`."""
    if seconds < 0.01:
        return "under 10 ms"
    if seconds < 0.095:
        return f"{seconds * 100:.0f}0 ms"
    if seconds < 0.95:
        return f"{seconds * 10:.0f}00 ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


# What each part says. Pure.


def poller_light(watch: Watch) -> Light:
    """The watchman of one host. Silence is judged as everywhere else, by :class:`Watch`."""
    poller = watch.poller
    light = Light("Poller", State.OK, "", href=reverse("processes"), host=poller.host, watchman=True)
    if watch.silent:
        never = "It has not finished a cycle yet" if poller.last_cycle_at is None else "No word from it"
        return replace(light, state=State.BAD, says=never, since=poller.last_cycle_at)
    if poller.error:
        return replace(light, state=State.BAD, says="It cannot read everything", since=poller.error_since)
    took = None if poller.cycle_ms is None else poller.cycle_ms / 1000
    lag = None if poller.lag_ms is None else poller.lag_ms / 1000
    slow = LIMITS["cycle"].judge(took and took / poller.interval_seconds)
    behind = LIMITS["lag"].judge(lag)
    if slow is not State.OK and took:
        every = f"though one is due every {poller.interval_seconds:g} s"
        return replace(light, state=slow, says=f"A cycle takes {length(took)}, {every}")
    if behind is not State.OK and lag:
        return replace(light, state=behind, says=f"The last change was stored {length(lag)} after it was on disk")
    parts = [f"A cycle every {poller.interval_seconds:g} s" + (f" takes {length(took)}" if took is not None else "")]
    parts += [f"{length(lag)} behind the disk"] if lag is not None else []
    return replace(light, says=", ".join(parts))


def daemon_light(watch: Watch) -> Light:
    """The fleet's own PM daemon, as the poller of its host saw it."""
    poller = watch.poller
    light = Light("PM daemon", State.OK, "It runs", href=reverse("processes"), host=poller.host)
    last = poller.pm_last_loop
    if watch.silent:
        return replace(light, state=State.UNKNOWN, says="Its poller is silent, so nobody knows")
    if not poller.pm_seen:
        return replace(light, state=State.OFF, says="There is no pm-state.json that can be read")
    if poller.pm_alive is False:
        return replace(light, state=State.BAD, says="It is not running: no loop", since=last)
    if watch.pm_silent:
        says = "It runs, but has not looped" if poller.pm_alive else "It has not looped"
        return replace(light, state=State.BAD, says=says, since=last)
    return light if poller.pm_alive else replace(light, says="It loops; whether its process lives cannot be seen")


def disk_state(free: float | None, total: float | None) -> State:
    """How full a disk is; unknown where nobody has looked."""
    if free is None or not total:
        return State.UNKNOWN
    return worst((LIMITS["share"].judge(free / total), LIMITS["room"].judge(free)))


def disk_light(name: str, free: float | None, total: float | None, host: str = "", *, silent: bool = False) -> Light:
    """The room on a disk."""
    state = State.UNKNOWN if silent else disk_state(free, total)
    if state is State.UNKNOWN or free is None or not total:
        says = "Its poller is silent, so nobody knows" if silent else "Nobody has looked how much is free"
        return Light(name, State.UNKNOWN, says, host=host)
    percent = "under 1" if free / total < 0.01 else f"{int(free / total * 100)}"
    return Light(name, state, f"{size(free)} free, {percent} % of the disk", host=host)


def web_light(vitals: Vitals) -> Light:
    """The process that made this page."""
    delay = vitals.loop_delay
    state = LIMITS["loop"].judge(delay)
    light = Light("Web", state, f"{_sockets(vitals.sockets)}, up", since=vitals.started)
    if state is not State.OK and delay is not None:
        return replace(light, says=f"It was held up for {length(delay)}, and all its pages with it", since=None)
    return light


def _sockets(number: int) -> str:
    return f"{number} live connection{'' if number == 1 else 's'}" if number else "No live connection"


def push_light(vitals: Vitals) -> Light:
    """From the outbox to the browsers, as the hub of this process measures it."""
    if vitals.tail is None:
        return Light("Push", State.OFF, "Nobody listens, so nothing is handed out")
    waiting, took = vitals.waiting_seconds or 0.0, vitals.push_seconds
    state = worst((LIMITS["push"].judge(waiting), LIMITS["push"].judge(took)))
    if LIMITS["push"].judge(waiting) is state and state is not State.OK:
        return Light("Push", state, f"A change has waited for {length(waiting)}")
    if took is None:
        return Light("Push", state, "Nothing has changed since somebody listens")
    return Light("Push", state, f"The last change reached browsers {length(took)} after it was stored")


class Database(NamedTuple):
    """What can be seen of the database from outside its tables. Bytes; None where that does not apply."""

    size: int | None = None  # its journal included
    journal: int | None = None
    writable: bool = True
    free: int | None = None  # on the disk that it lies on
    total: int | None = None


def database_light(found: Database) -> Light:
    if not found.writable:
        return Light("Database", State.BAD, "It cannot be written, so nothing new is stored")
    if found.size is None:
        return Light("Database", State.BAD, "It cannot be asked for its size")
    state = LIMITS["journal"].judge(found.journal)
    if state is not State.OK and found.journal is not None:
        return Light("Database", state, f"Its journal has grown to {size(found.journal)}: somebody reads for very long")
    return Light("Database", state, size(found.size))


def channels_light(names: Sequence[tuple[str, datetime | None]]) -> Light:
    """Where people are told: name of each enabled channel, and since when it fails. Why it fails, only admins see."""
    failing = [(since, name) for name, since in names if since]
    if not names:
        return Light("Channels", State.OFF, "None is set up: alerts show in the browser alone")
    if failing:
        first = min(failing)
        more = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
        verb = "fail" if more else "fails"
        return Light("Channels", State.BAD, f"“{first[1]}”{more} {verb}: alerts do not get through", first[0])
    return Light("Channels", State.OK, f"{len(names)} channel{'' if len(names) == 1 else 's'}, none fails")


def attendant_light(attendant: Attendant | None, now: datetime) -> Light:
    """Whether anybody minds rules and messages."""
    if attendant is None:
        return Light("Alerts", State.OFF, "Nobody has minded rules and messages yet")
    last = attendant.last_round_at
    left = LIMITS["lease"].judge((now - attendant.until).total_seconds())
    if left is not State.OK:
        return Light("Alerts", left, "Nobody minds rules and messages", since=last or attendant.until)
    late = LIMITS["round"].judge((now - last).total_seconds() if last else None)
    if late is not State.OK:
        return Light("Alerts", late, "Rules and messages were not minded", since=last)
    if attendant.error:
        return Light("Alerts", State.WARN, "The last round over rules and messages failed", since=last)
    return Light("Alerts", State.OK, "Rules and messages are minded")


# The row


def row(
    watches: Watches,
    vitals: Vitals,
    database: Database,
    channels: Sequence[tuple[str, datetime | None]],
    attendant: Attendant | None,
    now: datetime,
) -> tuple[Light, ...]:
    """All lights in their fixed order, so that a light is always where one looks for it. Pure."""
    pollers = [poller_light(watch) for watch in watches.every] or [_no_poller()]
    daemons = [daemon_light(watch) for watch in watches.every]
    homes = [
        disk_light("Home disk", it.disk_free_bytes, it.disk_total_bytes, it.host, silent=watch.silent)
        for watch in watches.every
        for it in (watch.poller,)
    ]
    several = len(watches.every) > 1
    return (
        *_named(pollers, several),
        *_named(_summed(daemons), several),
        web_light(vitals),
        push_light(vitals),
        database_light(database),
        *([disk_light("Disk", database.free, database.total)] if database.total else []),
        *_named(_summed(homes), several),
        channels_light(channels),
        attendant_light(attendant, now),
    )


def _no_poller() -> Light:
    return Light("Poller", State.BAD, "None has ever reported: start one with manage.py poll")


def _named(lights: Sequence[Light], several: bool) -> list[Light]:
    """Give lights the name of their host where there are several hosts."""
    return [replace(it, name=f"{it.name} {it.host}") if several and it.host else it for it in lights]


def _summed(lights: list[Light]) -> list[Light]:
    """One light for many hosts: what is wrong stays by itself, the others become one."""
    if len(lights) <= MOST_HOSTS:
        return lights
    wrong = [light for light in lights if light.wrong]
    rest = [light for light in lights if not light.wrong]
    if not rest:
        return wrong
    fine = sum(light.state is State.OK for light in rest)
    return [
        *wrong,
        replace(rest[0], state=worst(it.state for it in rest), says=f"{fine} of {len(lights)} fine", host=""),
    ]


def lights(watches: Watches, now: datetime, vitals: Vitals = VITALS) -> tuple[Light, ...]:
    """Read what the lights go by, and judge it. Three small queries at most, and some looks at files."""
    channels = list(Channel.objects.filter(enabled=True).order_by("name").values_list("name", "failing_since"))
    return row(watches, vitals, database(now), channels, attendant(), now)


def attendant() -> Attendant | None:
    """The process that minds rules and messages: of several rows, the one that did so last."""
    return Attendant.objects.order_by("-until").first()


def measure_push(vitals: Vitals, now: datetime) -> None:
    """Look up when that was stored which was handed out last, and what still waits. One query, by the hub's thread."""
    if vitals.tail is None:
        return
    handed, at = vitals.handed or (vitals.tail, None)
    found = dict(Change.objects.filter(pk__gte=min(handed, vitals.tail)).order_by("pk").values_list("pk", "at")[:1000])
    if at and handed in found:
        vitals.push_seconds = max(0.0, (at - found[handed]).total_seconds())
    waiting = [moment for key, moment in found.items() if key > vitals.tail]
    vitals.waiting_seconds = max(0.0, (now - min(waiting)).total_seconds()) if waiting else 0.0


# The database, from outside its tables

#: PostgreSQL looks at every file for its size, so it is asked this seldom.
_ASK_AGAIN = timedelta(minutes=1)
_asked: list[tuple[datetime, Database]] = []


def database(now: datetime) -> Database:
    """Look at the database's size, and whether it can be written."""
    if connection.vendor == "sqlite":
        return _files(Path(str(connection.settings_dict["NAME"]).removeprefix("file:").partition("?")[0]))
    if not _asked or not timedelta(0) <= now - _asked[0][0] < _ASK_AGAIN:
        _asked[:] = [(now, _server())]
    return _asked[0][1]


def _files(path: Path) -> Database:
    """A SQLite database and its journal. That the account may write says nothing on a disk that is read-only."""
    journal = path.with_name(path.name + "-wal")
    try:
        writable = not os.statvfs(path).f_flag & os.ST_RDONLY and os.access(path, os.W_OK)
        writable = writable and os.access(path.parent, os.W_OK)
        disk = shutil.disk_usage(path)
        waits = _size_of(journal)
        return Database(path.stat().st_size + waits, waits, writable, disk.free, disk.total)
    except OSError:
        return Database(writable=False)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _server() -> Database:
    """PostgreSQL's own word. A replica, or one that was set to read only, cannot be written."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_database_size(current_database()), "
                "NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'"
            )
            found: Any = cursor.fetchone()
    except DatabaseError:
        return Database(writable=True)
    return Database(size=found[0], writable=found[1])
