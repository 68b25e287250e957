"""The runbook's four preventions: time limits, check-ins, daemons, alerts. What the fleet says, and what is so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from itertools import pairwise
from statistics import median
from typing import Any

from django.db.models import Count, Q
from django.http import QueryDict
from django.utils.dateparse import parse_datetime

from workers.coordination.layout import HEALTH_ALERTS, WORKER_TYPES
from workers.coordination.parser import bare_type, default_time_limit
from workers.detection import Lengths, lengths
from workers.health import LIMITS, PM_SILENT_AFTER, RUNNING, Health, Limits, effective_limits
from workers.measures import use
from workers.models import Event, Limit, Mark, Poller, Worker

from .detector import silences_by_type
from .period import Period
from .types import minutes_taken
from .watch import Watch, watches

#: The runs and events that are looked back at.
BACK = timedelta(days=30)
#: Fewer runs than this prove nothing of a limit.
ENOUGH = 5
#: Workers should check in every 5 to 10 minutes, as the runbook has it.
CHECKIN_DUE = timedelta(minutes=10)
#: Two check-ins of one id that lie further apart are those of two runs.
LONGEST_PAUSE = timedelta(hours=4)
MOST_CHECKINS, MOST_LOOPS, MOST_STARTS = 20_000, 50, 20
#: Without a word of its own, a PM daemon loops this often, and raises an alert at that many zombies.
LOOP_OTHERWISE, THRESHOLD_OTHERWISE = timedelta(seconds=180), 10
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
#: What the PM daemon takes for a time limit that its key does not give.
PM_READS, PM_OTHERWISE = "resources.time_limit_minutes", 60
DISK_LOW = 0.1
_SETTLED = frozenset({"resolved", "closed", "dismissed"})
_PM = "pm-daemon"


class Tone(Enum):
    """How something stands: the class of its hue, a shape and a word."""

    FINE = ("healthy", "✓", "Fine")
    LOOK = ("late", "▲", "Look")
    BAD = ("crashed", "✕", "Trouble")
    UNKNOWN = ("unknown", "?", "Not known")

    @property
    def hue(self) -> str:
        return self.value[0]

    @property
    def shape(self) -> str:
        return self.value[1]

    @property
    def word(self) -> str:
        return self.value[2]


_WORST = (Tone.BAD, Tone.LOOK, Tone.UNKNOWN, Tone.FINE)


@dataclass(frozen=True, slots=True)
class Said:
    """One plain sentence and how it stands."""

    tone: Tone
    text: str


def worst(said: Iterable[Said]) -> Said:
    """Return the first of the sentences that matter most."""
    return min(said, key=lambda each: _WORST.index(each.tone))


# --- what the page is asked -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PreventionQuery:
    """Which host's fleet is shown: "" for the first."""

    host: str = ""
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict, hosts: Iterable[str]) -> PreventionQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        host = params.get("host", "").replace("\0", "").strip()[:255]
        if host and host not in hosts:
            return cls("", (f"the host “{host[:40]}”, which no poller watches",))
        return cls(host)


# --- 1: time limits ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Took:
    """What the runs of a type really took, and how many of them longer than a limit."""

    runs: int
    p50: timedelta
    p95: timedelta
    over: int

    @property
    def share_over(self) -> float:
        return self.over / self.runs


@dataclass(frozen=True, slots=True)
class TypeLimit:
    """The time limit of one worker type, where it comes from, and whether it fits."""

    worker_type: str
    minutes: float
    source: str
    took: Took | None  # None: no run with usable times ended
    remarks: tuple[Said, ...]
    description: str = ""

    @property
    def said(self) -> Said:
        return worst(self.remarks)


def remarks_on(minutes: float, took: Took | None) -> list[Said]:
    """Say whether a limit fits what runs took."""
    if took is None:
        return [Said(Tone.UNKNOWN, "No run of it has ended in these days: nothing says whether it fits")]
    if took.runs < ENOUGH:
        few = f"Only {took.runs} run{'s' if took.runs > 1 else ''} ended: too few to say whether it fits"
        return [Said(Tone.UNKNOWN, few)]
    if took.share_over >= 0.5:
        whole = "Every run takes" if took.over == took.runs else "Half of its runs or more take"
        return [Said(Tone.BAD, f"{whole} longer than its limit: it is too short, or they get stuck")]
    if took.share_over >= 0.1:
        return [Said(Tone.LOOK, f"One run in {round(1 / took.share_over)} takes longer than its limit")]
    if took.p95 * 4 < timedelta(minutes=minutes):
        text = f"Nearly all runs end within a quarter of it: one that hangs is overdue only after {minutes:g} min"
        return [Said(Tone.LOOK, text)]
    return [Said(Tone.FINE, "It fits what runs took")]


@dataclass(frozen=True, slots=True)
class OwnLimit:
    """A limit of ours, and where it comes from."""

    name: str
    value: timedelta
    meaning: str
    source: str


# --- 2: check-ins -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Discipline:
    """Whether the workers of one type check in, how often, and what shows that they live where they do not."""

    worker_type: str
    runs: int  # that started in these days
    ever: int  # of these, those that checked in at least once
    pauses: Lengths | None  # between two check-ins, as the log tells; None where it tells of none
    silences: Lengths | None  # between any two signs of life
    running: int  # now
    silent: int  # of these, those that are not checking in
    others: tuple[str, ...]  # signs of life that were seen instead: "log lines", …

    @property
    def share_silent(self) -> float | None:
        return self.silent / self.running if self.running else None

    @property
    def said(self) -> Said:
        if self.runs and not self.ever:
            instead = f"{_and(self.others)} are taken" if self.others else "nothing else was seen of them either"
            return Said(Tone.LOOK, f"Nobody of this type ever checked in; as signs of life {instead}")
        if self.silent:
            return Said(Tone.LOOK, f"{self.silent} of {self.running} running now {_is(self.silent)} not checking in")
        if self.pauses and self.pauses.p95 > CHECKIN_DUE:
            return Said(Tone.LOOK, "Irregular: one pause in twenty is longer than the 10 min that are asked for")
        if self.runs and self.ever * 2 < self.runs:
            return Said(Tone.LOOK, f"Only {self.ever} of {self.runs} runs ever checked in")
        if self.pauses:
            return Said(Tone.FINE, "Regular: they check in within 10 min")
        if self.ever:
            return Said(Tone.FINE, "They check in; how regularly, no log says")
        return Said(Tone.UNKNOWN, "No run of it has started in these days")


# --- 3: the PM daemon and the others ----------------------------------------------------------------------------------


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
    behind: timedelta | None  # how much longer ago its last loop is than it should be
    settings: tuple[Setting, ...]
    starts: tuple[datetime, ...]  # newest first
    more_starts: int
    files: tuple[Daemon, ...]
    said: Said


# --- 4: alerts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that the fleet's own daemons raised, and what of it is true now."""

    id: str
    type: str
    severity: str
    status: str
    message: str
    created_at: datetime | None
    threshold: float | None
    metric_value: float | None
    workers: tuple[str, ...]
    zombies: tuple[str, ...]  # of these, those that are zombies now
    running: int  # of these, those whose live spec says running, zombies too

    @property
    def active(self) -> bool:
        return self.status.lower() not in _SETTLED

    @property
    def stale(self) -> bool:
        """Whether it goes on though nothing that it lists is so any more."""
        return self.active and bool(self.workers) and not self.zombies

    @property
    def said(self) -> Said:
        named = len(self.workers)
        if not self.active:
            return Said(Tone.FINE, f"{self.status.capitalize()}")
        since = f" since {self.created_at:%Y-%m-%d}" if self.created_at else ""
        begun = f"{(self.status or 'no status').replace('_', ' ').capitalize()}{since}"
        if not named:
            return Said(Tone.LOOK, f"{begun}; it lists no worker that could be looked at")
        if not self.running:
            return Said(Tone.LOOK, f"{begun}, and none of the {named} workers it lists is running")
        if not self.zombies:
            return Said(Tone.LOOK, f"{begun}, and none of the {named} workers it lists is a zombie now")
        text = f"{begun}, and {len(self.zombies)} of the {named} workers it lists {_is(len(self.zombies))} a zombie now"
        return Said(Tone.BAD, text)


@dataclass(frozen=True, slots=True)
class Section:
    """One of the four preventions: what the runbook calls it and asks with, and the answer in one sentence."""

    name: str
    title: str
    command: str
    said: Said


@dataclass(frozen=True, slots=True)
class Prevention:
    """The page for one host, from a constant number of queries."""

    query: PreventionQuery
    now: datetime
    hosts: tuple[str, ...]
    host: str
    watch: Watch
    sections: tuple[Section, ...]
    types: tuple[TypeLimit, ...]
    looked: tuple[tuple[str, bool], ...]
    notes: tuple[tuple[str, str], ...]
    limits: tuple[OwnLimit, ...]
    discipline: tuple[Discipline, ...]
    pm: Pm
    daemons: tuple[Daemon, ...]
    disk: Disk | None
    alerts: tuple[Alert, ...]
    alerts_there: bool
    threshold: float
    threshold_from: str
    zombies: int

    @property
    def configured(self) -> bool:
        """Whether any list of worker types is there."""
        return any(there for _, there in self.looked)

    @property
    def alert_file(self) -> str:
        return HEALTH_ALERTS


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


def prevention(params: QueryDict, now: datetime) -> Prevention | None:
    """Read the page of the host that is asked for, else of the first; None where no poller has ever looked."""
    watching = watches(now).every
    hosts = tuple(watch.poller.host for watch in watching)
    query = PreventionQuery.parse(params, hosts)
    watch = next((each for each in watching if query.host in ("", each.poller.host)), None)
    if watch is None:
        return None
    poller = watch.poller
    said: dict[str, Any] = poller.prevention
    since = now - BACK
    period = Period(since, now, now, range="30d", host=poller.host)
    rows = _rows(poller.host, since)
    types = _types(said, rows, minutes_taken(period))
    discipline = _discipline(rows, _pauses(poller.host, since), silences_by_type(period))
    daemons = [_daemon(each) for each in said.get("daemons", ())]
    pm = _pm(poller, said, daemons, now)
    disk = None
    if poller.disk_free_bytes is not None and poller.disk_total_bytes:
        disk = Disk(poller.disk_free_bytes, poller.disk_total_bytes)
    zombies = Worker.objects.filter(host=poller.host, live=True, health=Health.ZOMBIE).count()
    alerts = _alerts(poller.host, said.get("alerts", ()))
    threshold, threshold_from = _threshold(alerts)
    others = tuple(each for each in daemons if each.name != _PM)
    return Prevention(
        query=query,
        now=now,
        hosts=hosts,
        host=poller.host,
        watch=watch,
        sections=(
            Section("limits", "Time limits", f"cat {WORKER_TYPES}", _answer_types(types)),
            Section(
                "checkins",
                "Check-ins",
                "health-check-pm-daemon.sh; jq .configuration pm-state.json",
                worst((_answer_discipline(discipline), pm.said)),
            ),
            Section("daemons", "Daemons", "daemon-monitor.sh --status", _answer_daemons(others, disk)),
            Section(
                "alerts",
                "Alerts",
                "jq .alerts health-alerts.json",
                _answer_alerts(alerts, zombies, threshold, there=bool(said.get("alerts_there"))),
            ),
        ),
        types=tuple(types),
        looked=tuple((path, there) for path, there in said.get("looked", ())),
        notes=(
            *((path, text) for path, text in said.get("notes", ())),
            *((HEALTH_ALERTS, text) for text in said.get("alert_notes", ())),
        ),
        limits=tuple(_own_limits(said.get("numbers", {}))),
        discipline=tuple(discipline),
        pm=pm,
        daemons=others,
        disk=disk,
        alerts=tuple(alerts),
        alerts_there=bool(said.get("alerts_there")),
        threshold=threshold,
        threshold_from=threshold_from,
        zombies=zombies,
    )


# --- time limits ------------------------------------------------------------------------------------------------------


def _rows(host: str, since: datetime) -> list[Any]:
    """Count the runs of the days by type, by the time limit of their spec, and by how they showed that they live."""
    running = Q(live=True, health__in=RUNNING)
    return list(
        Worker.objects.filter(Q(started_at__gte=since) | Q(live=True), host=host)
        .exclude(health=Health.UNREADABLE)
        .values("worker_type", "time_limit_minutes", "time_limit_source")
        .annotate(
            runs=Count("pk"),
            started=Count("pk", filter=Q(started_at__gte=since)),
            ever=Count("pk", filter=Q(started_at__gte=since, last_checkin_at__isnull=False)),
            logged=Count("last_log_at"),
            worked=Count("last_cpu_at"),
            advanced=Count("progress_changed_at"),
            running=Count("pk", filter=running),
            silent=Count("pk", filter=running & Q(not_checking_in=True)),
        )
        .order_by()
    )


def _types(said: Mapping[str, Any], rows: list[dict[str, Any]], taken: Mapping[str, list[float]]) -> list[TypeLimit]:
    """Put together what is configured, what specs say and what runs took, for every type that any of them knows."""
    listed = defaultdict[str, list[dict[str, Any]]](list)
    for entry in said.get("types", ()):
        listed[bare_type(entry["type"])].append(entry)
    of_specs = defaultdict[str, Counter[tuple[float, str]]](Counter)
    names: dict[str, str] = {}
    for row in rows:
        name = bare_type(row["worker_type"])
        names.setdefault(name, row["worker_type"])
        if row["time_limit_minutes"] is not None:
            of_specs[name][row["time_limit_minutes"], row["time_limit_source"]] += row["runs"]
    minutes_of = defaultdict[str, list[float]](list)
    for worker_type, minutes in taken.items():
        names.setdefault(bare_type(worker_type), worker_type)
        minutes_of[bare_type(worker_type)] += minutes
    found = []
    for bare in {*listed, *names}:
        entries = listed.get(bare, [])
        name = names.get(bare) or (entries[0]["type"] if entries else bare)
        found.append(_type(name, entries, of_specs.get(bare, Counter()), minutes_of.get(bare, [])))
    return sorted(found, key=lambda each: (_WORST.index(each.said.tone), each.worker_type))


def _type(
    name: str, entries: list[dict[str, Any]], of_specs: Counter[tuple[float, str]], minutes: list[float]
) -> TypeLimit:
    limits = [(entry["minutes"], entry["source"]) for entry in entries if entry["minutes"] is not None]
    given = Counter[float]()
    for (limit, source), runs in of_specs.items():
        if not source.startswith("default"):
            given[limit] += runs
    usual = given.most_common(1)[0] if given else None
    if limits:
        limit, source = limits[0]
    elif usual:
        limit, number = usual
        source = f"the specs: {number} of {sum(of_specs.values())} say so"
    else:
        limit, word = default_time_limit(name)
        source = f"{word} of the fleet's launcher; neither a list of types nor a spec gives one"
    took = _took(minutes, limit)
    remarks = remarks_on(limit, took)
    for other, path in limits[1:]:
        if other != limit:
            remarks.append(Said(Tone.LOOK, f"{path} says {other:g} min"))
    if limits and usual and usual[0] != limit:
        text = (
            f"Its specs say {usual[0]:g} min ({usual[1]} run{'s' if usual[1] > 1 else ''}), and a run's own spec holds"
        )
        remarks.append(Said(Tone.LOOK, text))
    unread = sum(runs for (value, source), runs in of_specs.items() if source != PM_READS and value != PM_OTHERWISE)
    if unread:
        whose = "a run" if unread == 1 else f"{unread} runs"
        text = f"The PM daemon takes {PM_OTHERWISE} min for {whose}, since it reads only {PM_READS}"
        remarks.append(Said(Tone.LOOK, text))
    description = next((entry["description"] for entry in entries if entry["description"]), "")
    return TypeLimit(name, limit, source, took, tuple(remarks), description)


def _took(minutes: list[float], limit: float) -> Took | None:
    measured = use((each, 1.0) for each in minutes)
    if measured is None:
        return None
    p50, p95 = (timedelta(minutes=each) for each in (measured.median, measured.p95))
    return Took(measured.cases, p50, p95, sum(each > limit for each in minutes))


def _answer_types(types: list[TypeLimit]) -> Said:
    if not types:
        return Said(Tone.UNKNOWN, "No type of worker is known yet")
    bad, look = ([each for each in types if each.said.tone is tone] for tone in (Tone.BAD, Tone.LOOK))
    if bad or look:
        number = len(bad) + len(look)
        text = (
            f"{number} of {len(types)} type{'s' if len(types) > 1 else ''} {_has(number)} a limit that asks for a look"
        )
        return Said(Tone.BAD if bad else Tone.LOOK, text)
    if all(each.said.tone is Tone.UNKNOWN for each in types):
        return Said(Tone.UNKNOWN, "Too few runs have ended to say whether limits fit")
    return Said(Tone.FINE, "Limits fit what runs took")


def _own_limits(numbers: Mapping[str, float]) -> Iterable[OwnLimit]:
    limits: Limits = effective_limits(dict(Limit.objects.values_list("name", "seconds")), numbers)
    for name, (meaning, _) in LIMITS.items():
        source = limits.sources[name]
        words = "ours, since neither an admin nor the PM daemon's configuration gives one"
        yield OwnLimit(name.replace("_", " "), getattr(limits, name), meaning, words if source == "default" else source)


# --- check-ins --------------------------------------------------------------------------------------------------------


def _pauses(host: str, since: datetime) -> dict[str, Counter[int]]:
    """How many whole minutes lay between two check-ins of one worker, by its type, as the logs tell."""
    events = Event.objects.filter(log__host=host, type="checkin_received", at__gte=since).exclude(worker_id="")
    newest = list(events.order_by("-at").values_list("worker_id", "at")[:MOST_CHECKINS])
    if not newest:
        return {}
    types = dict(
        Worker.objects.filter(Q(started_at__gte=since) | Q(live=True), host=host)
        .order_by("created_at")
        .values_list("worker_id", "worker_type")
    )
    moments = defaultdict[str, list[datetime]](list)
    for worker_id, at in reversed(newest):
        if at is not None:
            moments[worker_id].append(at)
    pauses = defaultdict[str, Counter[int]](Counter)
    for worker_id, times in moments.items():
        for before, after in pairwise(times):
            if after - before <= LONGEST_PAUSE:
                pauses[bare_type(types.get(worker_id, ""))][int((after - before).total_seconds() // 60)] += 1
    return dict(pauses)


def _discipline(
    rows: list[dict[str, Any]], pauses: Mapping[str, Counter[int]], silences: Mapping[str, Mapping[int, int]]
) -> list[Discipline]:
    counted = defaultdict[str, Counter[str]](Counter)
    names: dict[str, str] = {}
    for row in rows:
        bare = bare_type(row["worker_type"])
        names.setdefault(bare, row["worker_type"])
        numbers = ("started", "ever", "logged", "worked", "advanced", "running", "silent")
        counted[bare].update({key: row[key] for key in numbers})
    quiet = defaultdict[str, Counter[int]](Counter)
    for worker_type, histogram in silences.items():
        quiet[bare_type(worker_type)].update(histogram)
    words = {"advanced": "changes of progress", "logged": "log lines", "worked": "work on a core"}
    found = [
        Discipline(
            worker_type=names[bare],
            runs=number["started"],
            ever=number["ever"],
            pauses=lengths(pauses.get(bare, {})),
            silences=lengths(quiet.get(bare, {})),
            running=number["running"],
            silent=number["silent"],
            others=tuple(text for key, text in words.items() if number[key]),
        )
        for bare, number in counted.items()
    ]
    return sorted(found, key=lambda each: (_WORST.index(each.said.tone), -each.running, each.worker_type))


def _answer_discipline(discipline: list[Discipline]) -> Said:
    running, silent = (sum(getattr(each, name) for each in discipline) for name in ("running", "silent"))
    runs, ever = (sum(getattr(each, name) for each in discipline) for name in ("runs", "ever"))
    if runs and not ever:
        return Said(Tone.LOOK, f"Nobody checks in: none of {runs:,} run{'s' if runs > 1 else ''} ever did")
    if silent:
        return Said(Tone.LOOK, f"{silent:,} of {running:,} running workers {_is(silent)} not checking in")
    if running:
        return Said(
            Tone.FINE, f"All {running:,} running workers check in" if running > 1 else "The one that runs checks in"
        )
    return Said(Tone.UNKNOWN, "No worker is running now")


# --- daemons ----------------------------------------------------------------------------------------------------------


def _pm(poller: Poller, said: Mapping[str, Any], daemons: list[Daemon], now: datetime) -> Pm:
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
        behind=late if late and late > timedelta() else None,
        settings=tuple(_setting(key, value) for key, value in said.get("settings", ())),
        starts=tuple(moments[:MOST_STARTS]),
        more_starts=max(0, len(moments) - MOST_STARTS),
        files=tuple(each for each in daemons if each.name == _PM),
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


def _daemon(entry: Mapping[str, Any]) -> Daemon:
    return Daemon(
        name=entry["name"],
        path=entry["path"],
        pid=entry["pid"],
        state=entry["state"],
        command=entry["command"],
        status=entry["status"],
        heartbeat=_moment(entry["beat_at"]),
        written_at=_moment(entry["written_at"]),
        loops=entry["loops"],
    )


def _answer_daemons(daemons: Iterable[Daemon], disk: Disk | None) -> Said:
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
        text = f"{len(gone)} of {len(by_name)} daemons {_is(len(gone))} gone: {_and(gone[:3])}"
        return Said(Tone.BAD, text + (", …" if len(gone) > 3 else ""))
    living = sum(each.said.tone is Tone.FINE for each in by_name.values())
    tone = Tone.FINE if living == len(by_name) else Tone.LOOK
    return Said(tone, f"{living} of {len(by_name)} daemon{'s' if len(by_name) > 1 else ''} live")


# --- alerts -----------------------------------------------------------------------------------------------------------


def _alerts(host: str, said: Iterable[Mapping[str, Any]]) -> list[Alert]:
    """Look up what has become of the workers that alerts list, in one query."""
    said = list(said)
    named = {name for entry in said for name in entry["workers"]}
    health: dict[str, str] = {}
    if named:
        live = Worker.objects.filter(host=host, live=True, health__in=RUNNING)
        health = {name: state for name, state in live.values_list("worker_id", "health") if name in named}
    alerts = []
    for entry in said:
        workers = tuple(entry["workers"])
        alerts.append(
            Alert(
                **{key: entry[key] for key in ("id", "type", "severity", "status", "message")},
                created_at=_moment(entry["created_at"]),
                threshold=entry["threshold"],
                metric_value=entry["metric_value"],
                workers=workers,
                zombies=tuple(name for name in workers if health.get(name) == Health.ZOMBIE),
                running=sum(name in health for name in workers),
            )
        )
    newest = sorted(alerts, key=lambda each: each.created_at.timestamp() if each.created_at else 0.0, reverse=True)
    return sorted(newest, key=lambda each: not each.active)


def _threshold(alerts: Iterable[Alert]) -> tuple[float, str]:
    for each in alerts:
        if each.type == "zombie_threshold" and each.threshold is not None:
            return each.threshold, "as the newest alert says"
    return THRESHOLD_OTHERWISE, "as the PM daemon's script has it"


def _answer_alerts(alerts: list[Alert], zombies: int, threshold: float, *, there: bool) -> Said:
    if not there:
        return Said(Tone.LOOK, "There is no health-alerts.json: the fleet raises no alerts of its own")
    stale = [each for each in alerts if each.stale]
    if any(each.type == "zombie_threshold" for each in stale) and zombies > threshold:
        return Said(Tone.BAD, "An old zombie alert is still active, and keeps the PM daemon from raising a new one")
    active = [each for each in alerts if each.active]
    if stale:
        text = f"{len(stale)} of {len(active)} active alerts {_is(len(stale))} out of date"
        return Said(Tone.LOOK, text if len(active) > 1 else "The one active alert is out of date")
    if active:
        tone = Tone.BAD if any(each.zombies for each in active) else Tone.LOOK
        return Said(tone, f"{len(active)} alert{'s are' if len(active) > 1 else ' is'} active")
    return Said(Tone.FINE, "No alert is active")


def _moment(text: str | None) -> datetime | None:
    return parse_datetime(text) if text else None


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _has(number: int) -> str:
    return "has" if number == 1 else "have"
