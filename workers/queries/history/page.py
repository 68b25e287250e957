"""The page of history: its figures in words, its links, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from workers.charts import SECONDS, SHARE, Chart
from workers.charts.units import count
from workers.incidents import Kind
from workers.measures import SPANS, Offender, Shape, Spread
from workers.queries.period import GROUPS, RANGE_LABELS, RANGES, Period

from . import charts
from .charts import CSS, incidents_url
from .figures import Cause, Figures, Summary
from .load import load

OFFENDERS_SHOWN, SHAPES_SHOWN, MARKS_SHOWN = 15, 12, 30
DASH = "—"
#: What the tables of the export are called.
FILES = {
    "incidents": "incidents",
    "comparison": "figures",
    "slots": "per day or hour",
    "groups": "groups",
    "matrix": "causes",
    "when": "weekdays and hours",
    "health": "time in each health",
    "offenders": "tasks that fail again",
    "errors": "what failures say",
    "marks": "marks",
    "unwatched": "times nobody watched",
}
#: What stands for a part of a text in its shape.
_PLACE = re.compile(r"<(?:time|url|path|hex|id|n)>")


class Change(NamedTuple):
    """How a figure compares with that of the stretch before. Without one to compare with there is no arrow."""

    arrow: str  # ▲ or ▼, or "" where it is the same
    text: str
    verdict: str  # better, worse, or ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure. Where there is none, ``value`` is a dash and ``small`` says why."""

    name: str
    title: str
    value: str
    small: str
    change: Change | None


class Cell(NamedTuple):
    """A count and the list behind it; "" where there is none."""

    number: int
    href: str


class MatrixRow(NamedTuple):
    name: str
    css: str  # of a kind; "" of a root cause
    cells: tuple[Cell, ...]


class GroupRow(NamedTuple):
    name: str
    href: str
    figures: tuple[str, ...]


class ShapeRow(NamedTuple):
    shape: Shape
    href: str


class RangeLink(NamedTuple):
    text: str
    href: str
    on: bool


class Choice(NamedTuple):
    """What can be narrowed by."""

    name: str
    title: str
    value: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class HistoryPage:
    """One look at a period."""

    figures: Figures

    @property
    def period(self) -> Period:
        return self.figures.period

    # -- what it is asked with

    @property
    def ranges(self) -> list[RangeLink]:
        period = self.period
        return [
            RangeLink(RANGE_LABELS[name], period.with_changes(range=name).string or "?", period.range == name)
            for name in RANGES
        ]

    @property
    def groups_offered(self) -> list[tuple[str, str]]:
        return list(GROUPS.items())

    @property
    def choices(self) -> list[Choice]:
        """What runs can be narrowed to: only what there is more than one of, or what is chosen."""
        found = []
        for name, title in GROUPS.items():
            chosen = getattr(self.period, name)
            values = sorted({*self.figures.facts.choices[name], *([chosen] if chosen else [])})
            if len(values) > 1 or chosen:
                found.append(Choice(name, title, chosen, tuple(values)))
        return found

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What a form that asks for another stretch keeps of this look."""
        period = self.period
        zone = [("zone", period.zone)] if period.zone != "UTC" else []
        return [*zone, *([("group", period.group)] if period.group else []), *period.filters.items()]

    @property
    def stretch(self) -> list[tuple[str, str]]:
        """What a form that groups and narrows keeps of this look."""
        period = self.period
        zone = [("zone", period.zone)] if period.zone != "UTC" else []
        if period.range:
            return [("range", period.range), *zone]
        return [("range", "own"), ("since", self.since_field), ("until", self.until_field), *zone]

    @property
    def since_field(self) -> str:
        return f"{self.period.since.astimezone(self.period.tz):%Y-%m-%dT%H:%M}"

    @property
    def until_field(self) -> str:
        return f"{self.period.until.astimezone(self.period.tz):%Y-%m-%dT%H:%M}"

    @property
    def plain(self) -> str:
        """The same stretch without filters and grouping."""
        return self.period.with_changes(group="", **dict.fromkeys(GROUPS, "")).string or "?"

    @property
    def in_utc(self) -> str:
        return self.period.with_changes(zone="UTC").string or "?"

    @property
    def export(self) -> str:
        """What comes behind the name of a table in the address of the export."""
        return self.period.string.replace("?", "&", 1)

    @property
    def files(self) -> list[tuple[str, str]]:
        """The tables of the export, with what their links are called."""
        offered = {name: title for name, title in FILES.items() if name != "groups" or self.period.group}
        return list(offered.items())

    # -- what it says of itself

    @property
    def nothing(self) -> bool:
        """Nothing happened that counts."""
        return self.figures.whole.nothing

    @property
    def blank(self) -> bool:
        """There is nothing at all to draw."""
        return self.nothing and not self.figures.health and not any(self.figures.facts.marks) and not self.matrix

    @property
    def newest(self) -> str:
        """Where the newest data is; "" where there is none."""
        at = self.figures.facts.newest
        if at is None:
            return ""
        until = min(at + timedelta(minutes=1), self.period.now)
        return self.period.with_changes(range="", since=until - self.period.length, until=until).string

    @property
    def newest_at(self) -> str:
        at = self.figures.facts.newest
        return self._when(at) if at else ""

    @property
    def notices(self) -> list[str]:
        """What is not known of the period, in sentences."""
        figures, found = self.figures, []
        began = figures.watched_late
        if figures.facts.watched_since is None:
            found.append("Relay Web has not watched any run yet.")
        elif began and began < self.period.until:
            found.append(f"Relay Web has watched since {self._when(began)}; what was before is known from logs alone.")
        elif began:
            found.append(f"Relay Web has watched since {self._when(began)}, after this period.")
        hosts = len({*figures.facts.choices["host"], *figures.facts.gaps}) > 1
        for unseen in figures.unseen:
            of = f" {unseen.host}" if hosts else ""
            found.append(f"For {_seconds(unseen.time)} of this period nobody watched{of}.")
        return found

    def _when(self, moment: datetime) -> str:
        local = moment.astimezone(self.period.tz)
        return f"{local:%Y-%m-%d %H:%M} {self.period.zone}"

    # -- figures

    @cached_property
    def tiles(self) -> list[Tile]:
        return tiles(self.figures.whole, self.figures.before)

    @property
    def versus(self) -> str:
        """What is compared with, in words."""
        return f"the {RANGE_LABELS[self.period.range]} before" if self.period.range else "as long a time just before"

    @property
    def group_title(self) -> str:
        return GROUPS.get(self.period.group, "")

    @property
    def group_rows(self) -> list[GroupRow]:
        period, known = self.period, self.figures.facts.choices.get(self.period.group, [])
        return [
            GroupRow(
                name,
                period.with_changes(**{period.group: name}).string if name in known else "",
                group_texts(figures),
            )
            for name, figures in self.figures.groups
        ]

    @property
    def spans(self) -> list[str]:
        return list(SPANS)

    @cached_property
    def matrix(self) -> list[MatrixRow]:
        return [
            MatrixRow(cause_name(cause), cause_css(cause), self._cells(cause, row))
            for cause, row in self.figures.matrix.items()
        ]

    def _cells(self, cause: Cause, row: dict[str, int]) -> tuple[Cell, ...]:
        asked = {"cause": str(cause.label)} if cause.label else {"kind": cause.name, "cause": "none"}
        return tuple(
            Cell(number, incidents_url(self.period, **asked, within=span.replace(" ", "")) if number else "")
            for span, number in row.items()
        )

    @property
    def offenders(self) -> list[Offender]:
        return self.figures.offenders[:OFFENDERS_SHOWN]

    @property
    def offenders_left(self) -> int:
        return len(self.figures.offenders) - len(self.offenders)

    @property
    def shapes(self) -> list[ShapeRow]:
        return [ShapeRow(each, self._shape_url(each)) for each in islice(self.figures.shapes, SHAPES_SHOWN)]

    @property
    def shapes_left(self) -> int:
        return max(0, len(self.figures.shapes) - SHAPES_SHOWN)

    def _shape_url(self, shape: Shape) -> str:
        """The incidents of this period that have the longest part of the text which all of its shape share."""
        part = max((part.strip() for part in _PLACE.split(shape.shape)), key=len)[:200]
        ends = {"since": _stamp(self.period.since), "until": _stamp(self.period.until)}
        return incidents_url(self.period, **ends, q=part) if part else ""

    @property
    def marks_shown(self) -> Sequence[object]:
        return self.figures.facts.marks[-MARKS_SHOWN:][::-1]

    @property
    def marks_left(self) -> int:
        return max(0, len(self.figures.facts.marks) - MARKS_SHOWN)

    # -- drawings

    @cached_property
    def failures(self) -> Chart:
        return charts.failures(self.figures)

    @cached_property
    def success(self) -> Chart:
        return charts.success(self.figures)

    @cached_property
    def times(self) -> list[tuple[str, Chart]]:
        draw: list[Callable[[Figures], Chart]] = [charts.to_detect, charts.to_acknowledge, charts.to_repair]
        return [("slots", each(self.figures)) for each in draw]

    @cached_property
    def health(self) -> Chart:
        return charts.health(self.figures)

    @cached_property
    def when(self) -> Chart:
        return charts.when(self.figures)


def history(period: Period) -> HistoryPage:
    """Read a period, in a constant number of queries."""
    return HistoryPage(Figures(load(period)))


# -- figures in words


def tiles(now: Summary, before: Summary | None) -> list[Tile]:
    """The five figures of a period, each against that of the one before."""
    none = Summary(0, 0, 0, None, None, None, None)
    then = before or none
    return [
        Tile(
            "success",
            "Success rate",
            DASH if now.success is None else SHARE.write(now.success),
            "no run completed or failed" if now.success is None else f"{now.completed:,} of {now.ended:,} runs",
            _points(now.success, then.success),
        ),
        Tile("incidents", "Incidents", f"{now.incidents:,}", "detected in this time", _fewer(now, before)),
        _time_tile("detect", "Time to detect", now.detect, then.detect, "no incident whose beginning is known"),
        _time_tile("resolve", "Time to repair", now.resolve, then.resolve, "no incident that ended"),
        _time_tile("acknowledge", "Time to acknowledge", now.acknowledge, then.acknowledge, "nobody acknowledged one"),
    ]


def _time_tile(name: str, title: str, now: Spread | None, then: Spread | None, why: str) -> Tile:
    if now is None:
        return Tile(name, title, DASH, why, None)
    small = f"9 of 10 within {_seconds(now.p90)}"
    return Tile(name, title, _seconds(now.median), small, _shorter(now, then))


def _points(now: float | None, then: float | None) -> Change | None:
    if now is None or then is None:
        return None
    points = round((now - then) * 100, 1)
    if not points:
        return Change("", "the same", "")
    word = "point" if abs(points) == 1 else "points"
    arrow, verdict = ("▲", "better") if points > 0 else ("▼", "worse")
    return Change(arrow, f"{count(abs(points))} {word}", verdict)


def _fewer(now: Summary, before: Summary | None) -> Change | None:
    if before is None:
        return None
    more = now.incidents - before.incidents
    if not more:
        return Change("", "as many", "")
    return Change("▲", f"{more:,} more", "worse") if more > 0 else Change("▼", f"{-more:,} fewer", "better")


def _shorter(now: Spread, then: Spread | None) -> Change | None:
    if then is None:
        return None
    longer = now.median - then.median
    if abs(longer) < timedelta(seconds=0.1):
        return Change("", "the same", "")
    if longer > timedelta():
        return Change("▲", f"{_seconds(longer)} longer", "worse")
    return Change("▼", f"{_seconds(-longer)} shorter", "better")


def group_texts(figures: Summary) -> tuple[str, ...]:
    """The columns of the table by group; a dash where there is no case."""
    times = (figures.detect, figures.acknowledge, figures.resolve)
    medians = [_seconds(each.median) if each else DASH for each in times]
    worst = _seconds(figures.resolve.p90) if figures.resolve else DASH
    rate = DASH if figures.success is None else SHARE.write(figures.success)
    return (f"{figures.incidents:,}", f"{figures.ended:,}", rate, *medians, worst)


def cause_name(cause: Cause) -> str:
    return cause.name if cause.label else f"{cause.name.capitalize()}, cause not labelled"


def cause_css(cause: Cause) -> str:
    return "" if cause.label or cause.name not in list(Kind) else CSS[Kind(cause.name)]


def _seconds(time: timedelta) -> str:
    return SECONDS.write(time.total_seconds())


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
