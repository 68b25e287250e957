"""Quiet hours: stretches of a day in its own time zone, across midnight and changes of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Quiet:
    """From one time of day until another, which may be that of the next day."""

    begins: time
    ends: time
    zone: str = "UTC"

    @classmethod
    def between(cls, begins: time | None, ends: time | None, zone: str) -> Quiet | None:
        """The stretch that a setting asks for; None where it has not both ends."""
        return cls(begins, ends, zone) if begins is not None and ends is not None else None

    def end(self, now: datetime) -> datetime | None:
        """When the stretch that holds now ends, in UTC; None where none does.

        A stretch goes from a moment to a moment, so the hour that a clock has twice neither ends it early nor begins it
        again, and one that a clock leaves out ends it as late as if the clock had not been changed.
        """
        today = now.astimezone(ZoneInfo(self.zone)).date()
        for day in (today - _DAY, today):
            began = self._moment(day, self.begins)
            ended = self._moment(day if self.begins < self.ends else day + _DAY, self.ends)
            if self.begins != self.ends and began <= now < ended:
                return ended
        return None

    def holds(self, now: datetime) -> bool:
        return self.end(now) is not None

    def __str__(self) -> str:
        return f"from {self.begins:%H:%M} to {self.ends:%H:%M} ({self.zone})"

    def _moment(self, day: date, at: time) -> datetime:
        return datetime.combine(day, at, ZoneInfo(self.zone)).astimezone(UTC)
