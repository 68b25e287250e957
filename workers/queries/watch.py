"""How far what is stored can be trusted: the pollers, and what they said last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from workers.health import PM_SILENT_AFTER
from workers.models import Change, Poller

#: A poller is silent when it has missed three cycles, though never sooner than this.
SILENT_CYCLES = 3
SILENT_AT_LEAST = timedelta(seconds=6)


@dataclass(frozen=True, slots=True)
class Watch:
    """The poller of one host, and whether it still says anything about now."""

    poller: Poller
    now: datetime

    @property
    def silent_after(self) -> timedelta:
        """How long after its last cycle it counts as silent."""
        return max(SILENT_CYCLES * timedelta(seconds=self.poller.interval_seconds), SILENT_AT_LEAST)

    @property
    def silent(self) -> bool:
        last = self.poller.last_cycle_at
        return last is None or self.now - last > self.silent_after

    @property
    def pm_silent(self) -> bool:
        """Whether the PM daemon's words are too old to say anything about now."""
        last = self.poller.pm_last_loop
        return last is None or self.now - last > PM_SILENT_AFTER


@dataclass(frozen=True, slots=True)
class Watches:
    """Every host's poller, in order of name."""

    every: tuple[Watch, ...] = ()

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
    return Watches(tuple(Watch(poller, now) for poller in Poller.objects.order_by("host")))


def outbox_position() -> int:
    """The last change of the outbox. Taken before a page's rows are read, it never claims too much."""
    return Change.objects.aggregate(last=Max("id"))["last"] or 0
