"""How quantities are written, exactly and on an axis, and the round values between which an axis chooses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

NO_DATA = "no data"


def count(value: float) -> str:
    """`1,204`; of a fraction one decimal."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def short_count(value: float) -> str:
    """As short as an axis needs it: `15k`, `2.5M`."""
    if value >= 1e15:
        return f"{value:.0e}".replace("e+", "e")
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e4):
            return f"{value / size:g}{letter}"
    return f"{value:,g}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: `1.4 s`, `1 min 40 s`, `6 min`, `3 h 5 min`, `2 d 4 h`."""
    if seconds < 10 and not float(seconds).is_integer():
        return f"{seconds:.1f} s"
    rest = round(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(f"{number:,} {unit}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or "0 s"


def percent(share: float) -> str:
    """`61.2 %` of a share between 0 and 1. What is a little more than nothing, or less than all, says so."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share * 100:,.1f}".removesuffix(".0") + " %"


@dataclass(frozen=True, slots=True)
class Unit:
    """How a value is written, exactly and on an axis, and between which steps an axis may choose.

    ``steps`` ascend; beyond them, or without any, 1, 2, 5, 10, 20 ... are used. ``least`` is the smallest step; an axis
    reaches ``ceiling`` at least.
    """

    write: Callable[[float], str]
    tick: Callable[[float], str] | None = None
    steps: tuple[float, ...] = ()
    least: float = 0.0
    ceiling: float = 0.0

    def on_axis(self, value: float) -> str:
        return (self.tick or self.write)(value)


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
COUNT = Unit(count, short_count, least=1)
SHARE = Unit(percent, steps=(0.25,), ceiling=1)
SECONDS = Unit(
    duration,
    steps=(
        *(1, 2, 5, 10, 15, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
        *(_HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
        *(_DAY * days for days in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    ),
)


def ticks(highest: float, unit: Unit = COUNT) -> tuple[float, ...]:
    """Round values from 0 to at least that, in at most four steps."""
    highest = max(highest, unit.ceiling)
    wanted = highest / 4
    if wanted <= 0:
        step = unit.steps[0] if unit.steps else 1.0
    elif unit.steps and wanted <= unit.steps[-1]:
        step = next(step for step in unit.steps if step >= wanted)
    else:
        ten = 10.0 ** math.floor(math.log10(wanted))
        step = next((ten * factor for factor in (1, 2, 5) if ten * factor >= wanted), ten * 10)
    step = max(step, unit.least)
    number = max(1, math.ceil(highest / step - 1e-9))
    return tuple(step * index for index in range(number + 1))
