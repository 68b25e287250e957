"""Which stretch of the past, of which part of the fleet: what every page of history is asked with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import QueryDict

from workers.coordination.parser import parse_time
from workers.params import text_of

RANGES = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
RANGE_LABELS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days"}
DEFAULT = "7d"
#: The longest stretch of one's own.
LONGEST = timedelta(days=400)
#: What can be grouped by: the column of a run, and what it is called.
GROUPS = {"worker_type": "worker type", "master": "master", "host": "host", "task_type": "task type"}


@dataclass(frozen=True)
class Period:
    """A stretch of time, half open, in a time zone whose days and hours count. Equal periods show the same."""

    since: datetime
    until: datetime
    now: datetime = field(compare=False)
    range: str = DEFAULT  # one of RANGES, or "" for a stretch of one's own
    zone: str = "UTC"  # name of an IANA time zone
    group: str = ""  # one of GROUPS, or ""
    worker_type: str = ""
    master: str = ""
    host: str = ""
    task_type: str = ""
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict, now: datetime) -> Period:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        ignored: list[str] = []
        zone = _zone(params.get("zone", ""), ignored)
        asked = params.get("range", "")
        if asked and asked not in (*RANGES, "own"):
            ignored.append(f"the range “{asked[:20]}”, which is none of {', '.join(RANGES)}")
        name = asked if asked in RANGES else DEFAULT
        own = _own(params, zone, now, ignored)
        since, until = own or (now - RANGES[name], now)
        group = params.get("group", "")
        if group and group not in GROUPS:
            ignored.append(f"the grouping “{group[:40]}”, which is none of {', '.join(GROUPS)}")
            group = ""
        chosen = {each: text_of(params, each) for each in GROUPS}
        return cls(since, until, now, "" if own else name, zone, group, **chosen, ignored=tuple(ignored))

    def with_changes(self, **changes: Any) -> Period:
        """The same with something else; a named range ends now."""
        changed = replace(self, **{"ignored": (), **changes})
        if changes.get("range") in RANGES:
            changed = replace(changed, since=self.now - RANGES[changed.range], until=self.now)
        return changed

    @property
    def string(self) -> str:
        """The shortest query string that says this, with its question mark; "" for the default."""
        given: dict[str, str] = {}
        if not self.range:
            given = {"range": "own", "since": _stamp(self.since), "until": _stamp(self.until)}
        elif self.range != DEFAULT:
            given["range"] = self.range
        given |= {"zone": self.zone} if self.zone != "UTC" else {}
        given |= {name: value for name in ("group", *GROUPS) if (value := getattr(self, name))}
        return f"?{urlencode(given)}" if given else ""

    @property
    def length(self) -> timedelta:
        return self.until - self.since

    @property
    def before(self) -> Period:
        """The stretch of the same length just before this one, to compare with."""
        return self.with_changes(since=self.since - self.length, until=self.since, range="")

    @property
    def filters(self) -> dict[str, str]:
        """The columns that are narrowed to one value."""
        return {name: value for name in GROUPS if (value := getattr(self, name))}

    @property
    def tz(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    @property
    def label(self) -> str:
        """The stretch in words: `the last 7 days`, or from when to when."""
        if self.range:
            return f"the last {RANGE_LABELS[self.range]}"
        began, ended = self.since.astimezone(self.tz), self.until.astimezone(self.tz)
        return f"{began:%Y-%m-%d %H:%M} to {ended:%Y-%m-%d %H:%M} {self.zone}"

    @property
    def hourly(self) -> bool:
        """Whether it is so short that hours say more than days."""
        return self.length <= timedelta(days=2)

    def slots(self) -> Iterator[datetime]:
        """Yield the beginnings of its days, or hours, in its zone; the first may lie before it begins."""
        local = self.since.astimezone(self.tz)
        start = local.replace(minute=0, second=0, microsecond=0)
        start = start if self.hourly else start.replace(hour=0)
        step = timedelta(hours=1) if self.hourly else timedelta(days=1)
        while start.astimezone(UTC) < self.until:
            yield start
            # Wall-clock days: one of them has 23 or 25 hours where clocks are changed; hours count in UTC
            start = (start.astimezone(UTC) + step).astimezone(self.tz) if self.hourly else start + step


def _zone(name: str, ignored: list[str]) -> str:
    if not name:
        return "UTC"
    try:
        return ZoneInfo(name[:64]).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        ignored.append(f"the time zone “{name[:40]}”, which is unknown; UTC holds")
        return "UTC"


def _own(params: QueryDict, zone: str, now: datetime, ignored: list[str]) -> tuple[datetime, datetime] | None:
    """The stretch that was given by its two ends; None where none was, or it cannot be used."""
    if params.get("range") in RANGES or not (params.get("since") or params.get("until")):
        return None
    ends = [_moment(params.get(name, ""), name, zone, ignored) for name in ("since", "until")]
    until = min(ends[1] or now, now)
    if ends[1] and ends[1] > now:
        ignored.append("the time to come: the stretch ends now")
    since = ends[0] or until - RANGES[DEFAULT]
    if since > until:
        if ends[0] and ends[0] > now:
            ignored.append("the beginning, which is yet to come")
            return None
        ignored.append("the stretch from its end to its beginning; both were swapped")
        since, until = until, since
    if until - since > LONGEST:
        ignored.append(f"what is longer than {LONGEST.days} days; the last {LONGEST.days} of it are shown")
        since = until - LONGEST
    if until - since < timedelta(minutes=1):
        ignored.append("a stretch of no length; it was given an hour")
        since = until - timedelta(hours=1)
    return since, until


def _moment(text: str, name: str, zone: str, ignored: list[str]) -> datetime | None:
    """A time as somebody wrote it; without a zone it is one of theirs."""
    text = text.strip()
    if not text:
        return None
    try:
        written = datetime.fromisoformat(text)
    except ValueError:
        written = None
    if written and written.tzinfo is None and 2000 <= written.year <= 2100:
        return written.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    moment = parse_time(text)
    if moment is None:
        ignored.append(f"{name} “{text[:40]}”, which is no time; write one like 2025-11-20T14:00")
    return moment


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
