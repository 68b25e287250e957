"""Every kind of chart as full, sparse and odd as it can get. The figures are made up, and the same at every look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.charts import SECONDS, SHARE, Chart, Columns, Heat, Lines, Mark, Series, Shares, Target

KINDS = ("Stalled", "Zombie", "Crashed", "Failed")
PARTS = ("Healthy", "Late", "Stalled", "Zombie", "Crashed")
DAYS = tuple(str(day) for day in range(10, 24))
NAMES = tuple(f"{day} Nov" for day in DAYS)
MONTH = tuple(str(day) for day in range(1, 32))
MONTH_NAMES = tuple(f"{day} Oct" for day in MONTH)
WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS = tuple(str(hour) for hour in range(24))
HOUR_NAMES = tuple(f"{hour:02}:00" for hour in range(24))


@dataclass(frozen=True, slots=True)
class Group:
    what: str
    charts: tuple[Chart, ...]


def _figure(seed: int, most: int) -> int:
    """A number from 0 to below ``most`` that looks like any other, and is the same every time."""
    return (seed * 7919 + seed * seed * 104729) % 1009 * most // 1009


def _kinds(number: int, peak: int = -1, links: bool = False) -> tuple[Series, ...]:
    return tuple(
        Series(
            name,
            tuple(
                _figure(31 * row + day + 3, 8) + (14 if day == peak and name == "Zombie" else 0)
                for day in range(number)
            ),
            name.lower(),
            tuple(f"?sample={name.lower()}-{day}" for day in range(number)) if links else (),
        )
        for row, name in enumerate(KINDS)
    )


def _with_gaps(values: Sequence[float | None], *gaps: int) -> tuple[float | None, ...]:
    return tuple(None if index in gaps else value for index, value in enumerate(values))


RESTARTED = "PM daemon restarted"
MEDIAN = (340, 420, 380, 610, 290, 350, 330, 480, 2400, 700, 410, 360, 300, 280)
P90 = (1900, 2100, 1700, 2600, 1500, 1650, 1800, 2200, 6900, 3100, 1900, 1500, 1400, 1320)

COLUMNS = (
    Columns(
        "Incidents per day",
        DAYS,
        _kinds(14, 8, links=True),
        note="14 days",
        names=NAMES,
        by="Day",
        marks=[Mark(8.25, RESTARTED, "18 Nov 06:02 UTC")],
    ),
    Columns(
        "Incidents per day of a month",
        MONTH,
        _kinds(31, 20),
        names=MONTH_NAMES,
        by="Day",
        marks=[
            *(Mark(4.2 + step / 3, RESTARTED, f"{5 + step // 3} Oct") for step in range(5)),
            Mark(12.5, "Limits changed: late after 8 min", "13 Oct"),
            Mark(17.5, RESTARTED, "18 Oct"),
            Mark(18.5, "Limits changed: late after 10 min", "19 Oct"),
            Mark(30.9, RESTARTED, "31 Oct"),
        ],
    ),
    Columns("Columns of one value", ["23"], [Series("Zombie", [3], "zombie")], names=["23 Nov"], by="Day"),
    Columns("Columns of zeros", DAYS, [Series("Crashed", [0] * 14, "crashed")], names=NAMES, by="Day"),
    Columns(
        "Columns with gaps",
        DAYS,
        [Series(each.name, _with_gaps(each.values, 3, 4, 9), each.css) for each in _kinds(14)],
        note="nobody watched on three days",
        names=NAMES,
        by="Day",
    ),
    Columns(
        "Columns of very unlike values",
        [f"W{week}" for week in range(1, 54)],
        [
            Series("Events", [1_250_000 if week == 30 else _figure(week, 90_000) for week in range(53)]),
            Series("Damaged", [week % 3 for week in range(53)], "unreadable"),
        ],
        by="Week",
    ),
    Columns(
        "Columns without a figure",
        DAYS,
        [Series("Zombie", [None] * 14, "zombie")],
        empty="No incident was watched for in these 14 days: start a poller.",
    ),
)
LINES = (
    Lines(
        "Time to repair",
        DAYS,
        [Series("Median", MEDIAN), Series("90 of 100", P90)],
        unit=SECONDS,
        names=NAMES,
        by="Day",
        targets=[Target(1800, "high: 30 min"), Target(7200, "medium: 2 h")],
        marks=[Mark(8.25, RESTARTED, "18 Nov 06:02 UTC")],
    ),
    Lines(
        "Success rate",
        MONTH,
        [Series("Success rate", _with_gaps([0.4 + _figure(day, 60) / 100 for day in range(31)], 6, 7, 12, 14, 29))],
        note="of runs that ended",
        unit=SHARE,
        names=MONTH_NAMES,
        by="Day",
        targets=[Target(0.9, "target: 90 %")],
    ),
    Lines("A line of one value", ["23"], [Series("Median", [100])], unit=SECONDS, names=["23 Nov"], by="Day"),
    Lines("A line of zeros", HOURS, [Series("Late", [0] * 24, "late")], names=HOUR_NAMES, by="Hour"),
    Lines("A line without a figure", DAYS, [Series("Median", [None] * 14)], unit=SECONDS),
)
HEAT = (
    Heat(
        "When it happens",
        HOURS,
        [
            Series(
                day,
                _with_gaps(
                    [max(0, _figure(24 * row + hour, 11) - 4) * (1 + 2 * (hour in (12, 13))) for hour in range(24)],
                    *(range(5) if day == "Sun" else ()),
                ),
                hrefs=[f"?sample={day}-{hour}" for hour in range(24)],
            )
            for row, day in enumerate(WEEK)
        ],
        note="hour of day, UTC",
        names=HOUR_NAMES,
        by="Day",
        css="zombie",
    ),
    Heat("A map of zeros", HOURS, [Series(day, [0] * 24) for day in WEEK], names=HOUR_NAMES, by="Day"),
    Heat("A map without a figure", HOURS, [Series(day, [None] * 24) for day in WEEK], names=HOUR_NAMES, by="Day"),
)
HOUR = 3600
SHARES = (
    Shares(
        "Time in each health",
        ("implementation-worker", "scan-worker", "documentation-worker", "test-worker"),
        [
            Series(name, values, name.lower())
            for name, values in zip(
                PARTS,
                (
                    (410 * HOUR, 12 * HOUR, 90.0, 0),
                    (31 * HOUR, 9 * HOUR, 0, 0),
                    (22 * HOUR, 0, 0, 0),
                    (61 * HOUR, 4 * HOUR, 0, 0),
                    (75.0, 3 * HOUR, None, 0),
                ),
                strict=True,
            )
        ],
        note="by type of worker",
        unit=SECONDS,
        by="Type",
    ),
    Shares("A share of one", ["scan-worker"], [Series("Healthy", [1], "healthy")], by="Type"),
    Shares("Shares of nothing", ["scan-worker"], [Series("Healthy", [0], "healthy")], by="Type"),
)
GROUPS = (
    Group("Charts: columns", COLUMNS),
    Group("Charts: lines", LINES),
    Group("Charts: heat maps", HEAT),
    Group("Charts: shares", SHARES),
)
