"""The alerts that the fleet's own daemons raised, and what of them is so now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workers.health import RUNNING, Health
from workers.models import Worker

from .said import Said, Tone, be, moment

#: Without a word of its own, a PM daemon raises an alert at more zombies than this.
THRESHOLD_OTHERWISE = 10
_SETTLED = frozenset({"resolved", "closed", "dismissed"})


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
        text = f"{begun}, and {len(self.zombies)} of the {named} workers it lists {be(len(self.zombies))} a zombie now"
        return Said(Tone.BAD, text)


def fleet_alerts(host: str, said: Iterable[Mapping[str, Any]]) -> list[Alert]:
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
                created_at=moment(entry["created_at"]),
                threshold=entry["threshold"],
                metric_value=entry["metric_value"],
                workers=workers,
                zombies=tuple(name for name in workers if health.get(name) == Health.ZOMBIE),
                running=sum(name in health for name in workers),
            )
        )
    newest = sorted(alerts, key=lambda each: each.created_at.timestamp() if each.created_at else 0.0, reverse=True)
    return sorted(newest, key=lambda each: not each.active)


def threshold_of(alerts: Iterable[Alert]) -> tuple[float, str]:
    for each in alerts:
        if each.type == "zombie_threshold" and each.threshold is not None:
            return each.threshold, "as the newest alert says"
    return THRESHOLD_OTHERWISE, "as the PM daemon's script has it"


def answer_alerts(alerts: list[Alert], zombies: int, threshold: float, *, there: bool) -> Said:
    if not there:
        return Said(Tone.LOOK, "There is no health-alerts.json: the fleet raises no alerts of its own")
    stale = [each for each in alerts if each.stale]
    if any(each.type == "zombie_threshold" for each in stale) and zombies > threshold:
        return Said(Tone.BAD, "An old zombie alert is still active, and keeps the PM daemon from raising a new one")
    active = [each for each in alerts if each.active]
    if stale:
        text = f"{len(stale)} of {len(active)} active alerts {be(len(stale))} out of date"
        return Said(Tone.LOOK, text if len(active) > 1 else "The one active alert is out of date")
    if active:
        tone = Tone.BAD if any(each.zombies for each in active) else Tone.LOOK
        return Said(tone, f"{len(active)} alert{'s are' if len(active) > 1 else ' is'} active")
    return Said(Tone.FINE, "No alert is active")
