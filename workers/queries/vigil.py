"""When each host was watched, and when nobody did: what may be said of a past moment, and of a stretch of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Min

from workers.models import Poller, PollerGap, Worker

from .watch import Watch


class Blind(NamedTuple):
    """A stretch of time in which nobody watched a host."""

    began: datetime
    ended: datetime

    @property
    def length(self) -> timedelta:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Vigil:
    """When one host was watched, as far as its rows tell."""

    host: str
    since: datetime | None  # the first sign of a poller; None where there is none
    until: datetime | None  # the last cycle of a poller that is silent now; None where one watches to this day
    gaps: tuple[Blind, ...] = ()  # in order of time; those of the stretch that was asked for
    retired: datetime | None = None  # since when nobody is expected to watch it

    def last_look(self, at: datetime) -> datetime | None:
        """Return that very moment if it was watched, else the last one before it that was; None before the first."""
        if self.since is None or at < self.since:
            return None
        looked = at if self.until is None else min(at, self.until)
        return next((max(gap.began, self.since) for gap in self.gaps if gap.began <= looked < gap.ended), looked)

    def watched(self, at: datetime) -> bool:
        return self.last_look(at) == at

    def next_look(self, at: datetime) -> datetime | None:
        """When somebody watched again after a moment that was not watched; None where nobody has since."""
        if self.since is None or at < self.since:
            return self.since
        return next((gap.ended for gap in self.gaps if gap.began <= at < gap.ended), None)

    def blind(self, first: datetime, last: datetime) -> tuple[Blind, ...]:
        """Where nobody watched between two moments, in order of time."""
        if self.since is None:
            return (Blind(first, last),)
        end = min(last, self.retired) if self.retired else last
        found = [Blind(first, self.since), *self.gaps, *([Blind(self.until, end)] if self.until else [])]
        clipped = [Blind(max(gap.began, first), min(gap.ended, last)) for gap in found]
        return tuple(gap for gap in clipped if gap.began < gap.ended)


@dataclass(frozen=True, slots=True)
class Vigils:
    """The watch over every host that is known, in order of name."""

    every: tuple[Vigil, ...]

    @property
    def since(self) -> datetime | None:
        """When the history of the fleet begins."""
        return min((vigil.since for vigil in self.every if vigil.since), default=None)

    def of(self, host: str) -> Vigil:
        return next((vigil for vigil in self.every if vigil.host == host), Vigil(host, None, None))

    def unwatched(self, at: datetime) -> tuple[Vigil, ...]:
        """The hosts that nobody watched, of those that somebody was to watch."""
        expected = (vigil for vigil in self.every if not vigil.retired or at < vigil.retired)
        return tuple(vigil for vigil in expected if not vigil.watched(at))


def vigils(first: datetime, last: datetime, now: datetime) -> Vigils:
    """Read when each host was watched, its gaps between two moments included. Three queries."""
    watching = {poller.host: Watch(poller, now) for poller in Poller.objects.all()}
    # the run that a host's poller entered first is the one that it saw first; an index holds both, but not the time
    firsts = Worker.objects.order_by().values("host").annotate(first=Min("pk")).values("first")
    seen = dict(Worker.objects.filter(pk__in=firsts).values_list("host", "first_seen_at"))
    gaps: dict[str, list[Blind]] = {}
    for host, began, ended in PollerGap.objects.order_by("began").values_list("host", "began", "ended"):
        gaps.setdefault(host, []).append(Blind(began, ended))
    found = []
    for host in sorted({*seen, *watching}):
        watch, stretches = watching.get(host), gaps.get(host, [])
        poller = watch and watch.poller
        # a gap begins with the last cycle before it, so somebody was there
        signs = [seen.get(host), poller and poller.started_at, *(gap.began for gap in stretches[:1])]
        since = min((sign for sign in signs if sign), default=None)
        until = None if watch and not watch.silent else (poller and poller.last_cycle_at) or since
        touching = tuple(gap for gap in stretches if gap.ended > first and gap.began <= last)
        found.append(Vigil(host, since, until, touching, watch.poller.retired_at if watch else None))
    return Vigils(tuple(found))
