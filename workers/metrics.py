"""What Prometheus scrapes: the fleet and the product itself, read at the moment of the scrape.

Nothing is counted in this process, so that a restart loses nothing and two web processes say the same of the fleet.
The number of queries is constant, and none of them walks the events. Names follow Prometheus' conventions; a counter,
and only a counter, ends in ``_total``.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from importlib import metadata

from django.db import connection
from django.db.models import Count, Max, Min, Q, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from .health import Health
from .incidents import Kind
from .models import Alert, Change, Channel, Delivery, Incident, LogFile, Remediation, Severity, Worker
from .queries.lights import State, attendant, attendant_light, daemon_light, database
from .queries.watch import Watch, watches
from .remediation.actions import ACTIONS
from .vitals import VITALS

#: Worker types are whatever specs say. So many of the most frequent ones get series of their own.
MOST_TYPES = 20
OTHER = "(other)"

Labels = tuple[str, ...]


def exposition(now: datetime) -> bytes:
    """Everything in the text format. Reads the database in a constant number of queries."""
    return generate_latest(Scrape(now))


class Scrape:
    """One scrape. A collector, as the client library wants it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def collect(self) -> Iterator[Metric]:
        """Make all families of metrics."""
        every = watches(self.now).every
        yield build_info()
        yield from fleet([watch.poller.host for watch in every])
        yield from troubles()
        yield from pollers(every)
        yield from logs()
        yield from alerting(self.now)
        yield from stores(self.now)
        yield from process()


def gauge(name: str, help_text: str, values: Mapping[Labels, float | None], *labels: str) -> Metric:
    """A gauge. What is not known has no sample: it is not 0."""
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric(key, value)
    return family


def counter(name: str, help_text: str, values: Mapping[Labels, float], *labels: str) -> Metric:
    """A counter; the library puts ``_total`` behind its name."""
    family = CounterMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


@cache
def build_info() -> Metric:
    try:
        version = metadata.version("relay-web")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        version = "unknown"
    about = {"version": version, "python": platform.python_version(), "database": connection.vendor}
    return InfoMetricFamily("relay_build", "Which version this is; the value is always 1.", value=about)


def fleet(hosts: Iterable[str]) -> Iterator[Metric]:
    """The live runs, and how many runs are known at all. Of each state there is a series, also where it has no run."""
    # By the columns of the index fleet_facets, in its order: it alone is read, and nothing has to be sorted.
    columns = ("health", "worker_type", "master", "host")
    counted = Worker.objects.filter(live=True).values_list(*columns).annotate(Count("id")).order_by(*columns)
    by_host: Counter[Labels] = Counter({(host, str(health)): 0 for host in hosts for health in Health})
    of_types: Counter[str] = Counter()
    by_type: Counter[Labels] = Counter()
    rows = list(counted)
    for health, kind, _, host, number in rows:
        by_host[host, health] += number
        of_types[kind] += number
    shown = {kind for kind, _ in sorted(of_types.items(), key=lambda item: (-item[1], item[0]))[:MOST_TYPES]}
    for health, kind, _, _, number in rows:
        by_type[kind if kind in shown else OTHER, health] += number
    yield gauge("relay_workers", "Live runs by the host they run on and their health.", by_host, "host", "health")
    help_text = f"Live runs by worker type and health; types beyond the {MOST_TYPES} most frequent are {OTHER}."
    yield gauge("relay_workers_by_type", help_text, by_type, "worker_type", "health")
    yield counter("relay_runs", "Runs that are known, live and ended.", {(): Worker.objects.count()})


def troubles() -> Iterator[Metric]:
    """Incidents by kind, and remediations by action and state."""
    still = Count("id", filter=Q(resolved__isnull=True))
    rows = Incident.objects.values_list("kind").annotate(total=Count("id"), still=still).order_by()
    found = {kind: (total, open_) for kind, total, open_ in rows}
    kinds = [str(kind) for kind in Kind]
    opened: dict[Labels, float | None] = {(kind,): found.get(kind, (0, 0))[1] for kind in kinds}
    detected: dict[Labels, float] = {(kind,): found.get(kind, (0, 0))[0] for kind in kinds}
    yield gauge("relay_incidents_open", "Incidents that are not over, by kind.", opened, "kind")
    yield counter("relay_incidents_detected", "Incidents that were detected, by kind.", detected, "kind")
    done: dict[Labels, int] = {(action, state): 0 for action in ACTIONS for state in Remediation.State.values}
    for action, state, number in Remediation.objects.values_list("action", "state").annotate(Count("id")).order_by():
        done[action, state] = number
    yield gauge("relay_remediations", "Remediations by action and state.", done, "action", "state")


def pollers(every: Iterable[Watch]) -> Iterator[Metric]:
    """The poller of each host, and what only it can say."""
    every = list(every)

    def of(name: str, scale: float = 1) -> dict[Labels, float | None]:
        values = {watch.poller.host: getattr(watch.poller, name) for watch in every}
        return {(host,): None if value is None else value * scale for host, value in values.items()}

    def judged(good: Iterable[bool | None]) -> dict[Labels, float | None]:
        pairs = zip(every, good, strict=True)
        return {(watch.poller.host,): None if well is None else float(well) for watch, well in pairs}

    since: dict[Labels, float | None] = {}
    stamps: dict[Labels, float | None] = {}
    for watch in every:
        if last := watch.poller.last_cycle_at:
            stamps[watch.poller.host,] = last.timestamp()
            since[watch.poller.host,] = max(0.0, (watch.now - last).total_seconds())
    errors = judged(bool(watch.poller.error) for watch in every)
    # The daemon of a host that has none is no daemon that is down.
    lights = [daemon_light(watch) for watch in every]
    daemons = judged(None if it.state in (State.OFF, State.UNKNOWN) else it.state is State.OK for it in lights)
    up = judged(not watch.silent for watch in every)
    yield gauge("relay_poller_up", "Whether the host's poller reports: 1, or 0 when it is silent.", up, "host")
    yield gauge("relay_poller_error", "Whether the poller cannot read everything.", errors, "host")
    yield gauge("relay_poller_last_cycle_timestamp_seconds", "When the last full cycle ended.", stamps, "host")
    yield gauge("relay_poller_last_cycle_age_seconds", "Time since the last full cycle ended.", since, "host")
    cycle = "How long the last full cycle took."
    yield gauge("relay_poller_cycle_duration_seconds", cycle, of("cycle_ms", 0.001), "host")
    lag = "From a file's change on disk to its row in the database, as seen last."
    yield gauge("relay_event_lag_seconds", lag, of("lag_ms", 0.001), "host")
    yield gauge("relay_spec_files", "Worker-spec files that can be read.", of("specs"), "host")
    yield gauge("relay_unreadable_files", "Worker-spec files that cannot be parsed.", of("unreadable"), "host")
    daemon = "Whether the fleet's PM daemon runs and loops; no sample where there is none or nobody knows."
    yield gauge("relay_pm_daemon_up", daemon, daemons, "host")
    yield gauge("relay_home_disk_free_bytes", "Free where the home lies.", of("disk_free_bytes"), "host")
    yield gauge("relay_home_disk_size_bytes", "Size of the disk where the home lies.", of("disk_total_bytes"), "host")


def logs() -> Iterator[Metric]:
    """What was read of coordination logs: by the cursors, which count, so that nothing walks the events."""
    rows = LogFile.objects.values_list("host").annotate(Sum("records"), Sum("damaged")).order_by()
    stored: dict[Labels, float] = {}
    damaged: dict[Labels, float] = {}
    for host, records, stretches in rows:
        stored[host,], damaged[host,] = records, stretches
    yield counter("relay_events_stored", "Records of coordination logs that were stored.", stored, "host")
    yield counter("relay_events_damaged", "Stretches of coordination logs that are no records.", damaged, "host")


def alerting(now: datetime) -> Iterator[Metric]:
    """Alerts, and whether people are told of them."""
    firing: dict[Labels, int] = {(severity.label,): 0 for severity in Severity}
    rows = Alert.objects.filter(state=Alert.State.FIRING).values_list("severity").annotate(Count("id")).order_by()
    firing |= {(Severity(severity).label,): number for severity, number in rows}
    yield gauge("relay_alerts_firing", "Alerts that fire at present, by severity.", firing, "severity")
    queued = Delivery.objects.filter(state=Delivery.State.QUEUED).count()
    yield gauge("relay_deliveries_queued", "Messages that are on their way.", {(): queued})
    failing = Channel.objects.filter(enabled=True, failing_since__isnull=False).count()
    yield gauge("relay_channels_failing", "Channels through which no message gets at present.", {(): failing})
    light = attendant_light(attendant(), now)
    minded = None if light.state is State.OFF else float(light.state is State.OK)
    yield gauge(
        "relay_attendant_up", "Whether rules and messages are minded; none where they never were.", {(): minded}
    )


def stores(now: datetime) -> Iterator[Metric]:
    """The outbox and the database."""
    ends = Change.objects.aggregate(first=Min("id"), last=Max("id"))
    length = ends["last"] - ends["first"] + 1 if ends["last"] else 0
    yield gauge("relay_outbox_changes", "Changes that are kept for pages, from the oldest to the newest.", {(): length})
    found = database(now)
    yield gauge("relay_database_size_bytes", "Size of the database, its journal included.", {(): found.size})
    yield gauge("relay_database_journal_bytes", "Size of SQLite's journal.", {(): found.journal})
    yield gauge("relay_database_writable", "Whether the database can be written.", {(): float(found.writable)})
    yield gauge("relay_database_disk_free_bytes", "Free where the database lies, if here.", {(): found.free})


def process() -> Iterator[Metric]:
    """The web process that answers."""
    started = VITALS.started.timestamp()
    yield gauge("relay_web_start_time_seconds", "When this web process started.", {(): started})
    yield gauge("relay_sockets", "Live connections of browsers to this process.", {(): VITALS.sockets})
    push = "From storing the last change to handing it to browsers; no sample while nobody listens."
    yield gauge("relay_push_delay_seconds", push, {(): VITALS.push_seconds})
    delay = "The longest that the event loop was held up lately; no sample while nobody listens."
    yield gauge("relay_event_loop_delay_seconds", delay, {(): VITALS.loop_delay})
