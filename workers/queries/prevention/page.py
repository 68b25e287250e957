"""The page for one host: the four preventions, each with its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.http import QueryDict

from workers.coordination.layout import HEALTH_ALERTS, WORKER_TYPES
from workers.health import Health
from workers.models import Worker
from workers.params import text_of
from workers.queries.detector import silences_by_type
from workers.queries.period import Period
from workers.queries.types import minutes_taken
from workers.queries.watch import Watch, watches

from .alerts import Alert, answer_alerts, fleet_alerts, threshold_of
from .checkins import Discipline, answer_disciplines, disciplines, kinds_of_runs, pauses
from .daemons import PM, Daemon, Disk, Pm, answer_daemons, daemon, pm_daemon
from .limits import OwnLimit, TypeLimit, answer_types, own_limits, type_limits
from .said import BACK, Said, worst


@dataclass(frozen=True)
class PreventionQuery:
    """Which host's fleet is shown: "" for the first."""

    host: str = ""
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict, hosts: Iterable[str]) -> PreventionQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        host = text_of(params, "host")
        if host and host not in hosts:
            return cls("", (f"the host “{host[:40]}”, which no poller watches",))
        return cls(host)


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
    rows = kinds_of_runs(poller.host, since)
    types = type_limits(said, rows, minutes_taken(period))
    discipline = disciplines(rows, pauses(poller.host, since), silences_by_type(period))
    daemons = [daemon(each) for each in said.get("daemons", ())]
    looked_at = poller.last_cycle_at if watch.silent else None  # of what came later, nobody knows
    pm = pm_daemon(poller, said, daemons, looked_at or now)
    disk = None
    if poller.disk_free_bytes is not None and poller.disk_total_bytes:
        disk = Disk(poller.disk_free_bytes, poller.disk_total_bytes)
    zombies = Worker.objects.filter(host=poller.host, live=True, health=Health.ZOMBIE).count()
    alerts = fleet_alerts(poller.host, said.get("alerts", ()))
    threshold, threshold_from = threshold_of(alerts)
    others = tuple(each for each in daemons if each.name != PM)
    return Prevention(
        query=query,
        now=now,
        hosts=hosts,
        host=poller.host,
        watch=watch,
        sections=(
            Section("limits", "Time limits", f"cat {WORKER_TYPES}", answer_types(types)),
            Section(
                "checkins",
                "Check-ins",
                "health-check-pm-daemon.sh; jq .configuration pm-state.json",
                worst((answer_disciplines(discipline), pm.said)),
            ),
            Section("daemons", "Daemons", "daemon-monitor.sh --status", answer_daemons(others, disk)),
            Section(
                "alerts",
                "Alerts",
                "jq .alerts health-alerts.json",
                answer_alerts(alerts, zombies, threshold, there=bool(said.get("alerts_there"))),
            ),
        ),
        types=tuple(types),
        looked=tuple((path, there) for path, there in said.get("looked", ())),
        notes=(
            *((path, text) for path, text in said.get("notes", ())),
            *((HEALTH_ALERTS, text) for text in said.get("alert_notes", ())),
        ),
        limits=tuple(own_limits(said.get("numbers", {}))),
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
