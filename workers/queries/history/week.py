"""The report of a week, from Monday to Monday: what goes onto paper and into a mail."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from urllib.parse import urlencode

from django.http import QueryDict

from workers.charts import SECONDS, SHARE
from workers.measures import Spread
from workers.queries.period import GROUPS, Period

from .figures import Figures, Summary
from .load import load
from .page import HistoryPage, cause_name

_WEEK = re.compile(r"(\d{4})-W(\d\d)", re.ASCII)
FIRST = date(2000, 1, 3)
CAUSES_SHOWN, OFFENDERS_SHOWN, SHAPES_SHOWN = 8, 6, 6


@dataclass(frozen=True)
class Week:
    """A week in a time zone, whole or as far as it has come, of the part of the fleet that a period names."""

    monday: date
    period: Period
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict, now: datetime) -> Week:
        """Read a query string: ``week=2026-W47``, else the week before this one. Nothing raises."""
        given = params.copy()
        for name in ("range", "since", "until", "group"):
            given.pop(name, None)
        period = Period.parse(given, now)
        ignored = list(period.ignored)
        today = now.astimezone(period.tz).date()
        this = today - timedelta(days=today.weekday())
        asked = _monday(params.get("week", ""), ignored)
        if asked and asked > this:
            ignored.append(f"the week {name_of(asked)}, which is yet to come")
            asked = None
        return cls.of(asked or this - timedelta(days=7), period, tuple(ignored))

    @classmethod
    def of(cls, monday: date, period: Period, ignored: tuple[str, ...] = ()) -> Week:
        since, until = (
            datetime.combine(day, time(), period.tz).astimezone(UTC) for day in (monday, monday + timedelta(days=7))
        )
        stretch = period.with_changes(range="", since=since, until=min(until, period.now))
        return cls(monday, stretch, ignored)

    @property
    def name(self) -> str:
        return name_of(self.monday)

    @property
    def title(self) -> str:
        """`Monday 16 to Sunday 22 November 2026`."""
        first, last = self.monday, self.monday + timedelta(days=6)
        year = f" {first:%Y}" if first.year != last.year else ""
        month = f" {first:%B}" if first.month != last.month else ""
        return f"Monday {first.day}{month}{year} to Sunday {last.day} {last:%B %Y}"

    @property
    def current(self) -> bool:
        """Whether it has not ended yet."""
        return self._today < self.monday + timedelta(days=7)

    @property
    def string(self) -> str:
        """The query string that says this week also when it is no longer the last one."""
        return self._string(self.monday)

    @property
    def before(self) -> str:
        return self._string(self.monday - timedelta(days=7)) if self.monday > FIRST else ""

    @property
    def after(self) -> str:
        following = self.monday + timedelta(days=7)
        return self._string(following) if following <= self._today else ""

    @property
    def _today(self) -> date:
        return self.period.now.astimezone(self.period.tz).date()

    def _string(self, monday: date) -> str:
        zone = {"zone": self.period.zone} if self.period.zone != "UTC" else {}
        return f"?{urlencode({'week': name_of(monday), **zone, **self.period.filters})}"


def name_of(monday: date) -> str:
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02}"


def _monday(text: str, ignored: list[str]) -> date | None:
    if not text:
        return None
    try:
        year, week = map(int, _WEEK.fullmatch(text.strip()).groups())  # type: ignore[union-attr]
        found = date.fromisocalendar(year, week, 1)
    except (AttributeError, ValueError):
        found = None
    if found is None or found < FIRST:
        ignored.append(f"the week “{text[:20]}”, which is none; write one like 2026-W47")
        return None
    return found


@dataclass(frozen=True)
class Report:
    """A week in sentences, drawings and short tables."""

    week: Week
    page: HistoryPage

    @property
    def figures(self) -> Figures:
        return self.page.figures

    @property
    def sentences(self) -> list[str]:
        """What a manager would say of the week."""
        now, before = self.figures.whole, self.figures.before
        if now.nothing:
            return ["No incident was detected, and no run completed or failed."]
        found = [_incidents(now, before), _success(now, before)]
        found += [_noticed(now.detect), _repaired(now.resolve)] if now.incidents else []
        offenders = len(self.figures.offenders)
        if offenders:
            found.append(f"{_number(offenders, 'task')} failed more than once.")
        return [each for each in found if each]

    @property
    def of(self) -> str:
        """The part of the fleet that it is about, in words; "" for all of it."""
        return ", ".join(f"{GROUPS[name]} {value}" for name, value in self.week.period.filters.items())

    @cached_property
    def causes(self) -> list[tuple[str, int, int | None]]:
        """Causes, with this week's number and that of the week before; None where that is not known."""
        known = self.figures.before is not None
        return [
            (cause_name(cause), now, then if known else None) for cause, now, then in self.figures.causes[:CAUSES_SHOWN]
        ]

    @property
    def offenders(self) -> list[object]:
        return list(self.figures.offenders[:OFFENDERS_SHOWN])

    @property
    def shapes(self) -> list[object]:
        return list(self.figures.shapes[:SHAPES_SHOWN])


def report(week: Week) -> Report:
    """Read a week, in a constant number of queries."""
    return Report(week, HistoryPage(Figures(load(week.period))))


def _number(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _incidents(now: Summary, before: Summary | None) -> str:
    said = _number(now.incidents, "incident") if now.incidents else "No incident"
    if before is None:
        return f"{said}; of the week before nothing is known."
    more = now.incidents - before.incidents
    if not more:
        return f"{said}, as many as the week before."
    return f"{said}, {abs(more):,} {'more' if more > 0 else 'fewer'} than the week before."


def _success(now: Summary, before: Summary | None) -> str:
    if now.success is None:
        return "No run completed or failed, so there is no success rate."
    said = f"{SHARE.write(now.success)} of {_number(now.ended, 'run')} that ended completed"
    if before is None or before.success is None:
        return f"{said}."
    points = round((now.success - before.success) * 100, 1)
    if not points:
        return f"{said}, as the week before."
    return f"{said}, {abs(points):g} points {'more' if points > 0 else 'less'} than the week before."


def _noticed(spread: Spread | None) -> str:
    if spread is None:
        return "Of none it is known when it began, so nobody can say how fast it was noticed."
    if spread.cases == 1:
        return f"It was noticed within {_time(spread.median)}."
    return f"Half were noticed within {_time(spread.median)}, nine of ten within {_time(spread.p90)}."


def _repaired(spread: Spread | None) -> str:
    if spread is None:
        return "None has been repaired yet."
    if spread.cases == 1:
        return f"One has ended, {_time(spread.median)} after it began."
    return f"Of {spread.cases:,} that ended, half took {_time(spread.median)} or less, nine of ten {_time(spread.p90)}."


def _time(value: timedelta) -> str:
    return SECONDS.write(value.total_seconds())
