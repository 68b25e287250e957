"""How far what is stored can be trusted: the pollers, and what they said last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Max

from workers.health import PM_SILENT_AFTER, poller_silent_after
from workers.models import Alert, AlertRule, Change, Poller, Severity

#: Alerts that the bell counts one by one.
MOST_RUNG = 100


@dataclass(frozen=True, slots=True)
class Watch:
    """The poller of one host, and whether it still says anything about now."""

    poller: Poller
    now: datetime

    @property
    def silent_after(self) -> timedelta:
        """How long after its last cycle it counts as silent."""
        return poller_silent_after(self.poller.interval_seconds)

    @property
    def silent(self) -> bool:
        last = self.poller.last_cycle_at
        return last is None or self.now - last > self.silent_after

    @property
    def pm_silent(self) -> bool:
        """Whether the PM daemon's words are too old to say anything about now."""
        last = self.poller.pm_last_loop
        return last is None or self.now - last > PM_SILENT_AFTER


class Ring(NamedTuple):
    """An open alert that nobody has acknowledged, as every page knows it."""

    pk: int
    severity: int
    summary: str
    fired: datetime | None
    told: datetime | None
    times_told: int
    kind: str | None

    @property
    def critical(self) -> bool:
        return self.severity == Severity.CRITICAL

    @property
    def new(self) -> bool:
        """Whether people have been told of it for the first time, and not since."""
        return self.times_told == 1

    @property
    def has_banner(self) -> bool:
        """A silent poller has one of its own."""
        return self.critical and self.kind != AlertRule.Kind.POLLER_SILENT


@dataclass(frozen=True, slots=True)
class Watches:
    """Every host's poller, in order of name, and what rings the bell: what the frame of every page says."""

    every: tuple[Watch, ...] = ()
    rings: tuple[Ring, ...] = ()  # the worst first

    @property
    def critical(self) -> int:
        """How many of the open alerts are critical."""
        return sum(1 for ring in self.rings if ring.critical)

    def of(self, host: str) -> Watch | None:
        return next((watch for watch in self.every if watch.poller.host == host), None)

    @property
    def silent(self) -> tuple[Watch, ...]:
        return tuple(watch for watch in self.every if watch.silent)

    @property
    def silent_since(self) -> datetime | None:
        """The last cycle of the poller that has been silent for longest."""
        return min((last for watch in self.silent if (last := watch.poller.last_cycle_at)), default=None)

    @property
    def unreadable(self) -> int:
        """Files under worker-specs that cannot be parsed, of all hosts."""
        return sum(watch.poller.unreadable for watch in self.every)


def watches(now: datetime) -> Watches:
    return Watches(tuple(Watch(poller, now) for poller in Poller.objects.on_duty()), rings())


def rings() -> tuple[Ring, ...]:
    """The open alerts that nobody has acknowledged."""
    found = Alert.objects.filter(state=Alert.State.FIRING, acknowledged=None).order_by("-severity", "-fired", "-pk")
    columns = ("pk", "severity", "summary", "fired", "told", "times_told", "rule__kind")
    return tuple(Ring(*row) for row in found.values_list(*columns)[:MOST_RUNG])


def outbox_position() -> int:
    """The last change of the outbox. Taken before a page's rows are read, it never claims too much."""
    return Change.objects.aggregate(last=Max("id"))["last"] or 0
