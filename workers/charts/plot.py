"""What charts with values upward share: an axis, gaps, and marks across them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import groupby

from .base import LETTER, Chart
from .parts import Box, Flag, Mark, Text, rounded
from .units import ticks

PLOT = 160.0  # pixels from the axis to the highest tick
HEAD, HEAD_WITH_MARKS = 8.0, 24.0  # pixels above it, where marks are named
FOOT = 22.0  # pixels below it, for labels
NEAR = 12.0  # percent of the width; marks within it share one flag


@dataclass(frozen=True)
class Plot(Chart):
    """A chart with values upward: an axis, and marks across it."""

    _: KW_ONLY
    marks: Sequence[Mark] = ()

    @cached_property
    def highest(self) -> float:
        return max((value for each in self.series for value in each.values if value is not None), default=0.0)

    @cached_property
    def scale(self) -> tuple[float, ...]:
        return ticks(self.highest, self.unit)

    @property
    def head(self) -> float:
        return HEAD_WITH_MARKS if self.marks else HEAD

    @property
    def bottom(self) -> float:
        return self.head + PLOT

    @property
    def height(self) -> float:
        return self.bottom + FOOT

    @property
    def label_line(self) -> float:
        return self.bottom + FOOT - 6

    def up(self, value: float) -> float:
        """Pixels of a value above the axis."""
        return value / self.scale[-1] * PLOT

    def y(self, value: float) -> float:
        return rounded(self.bottom - self.up(value))

    @property
    def axis(self) -> list[Text]:
        """The ticks: y in pixels and what is written there."""
        return [Text(self.y(value), self.unit.on_axis(value)) for value in self.scale]

    @property
    def axis_width(self) -> int:
        """Pixels that the words of the axis need."""
        return math.ceil(max(len(tick.text) for tick in self.axis) * LETTER + 8)

    @property
    def gaps(self) -> list[Box]:
        """Stretches without any figure; neighbours are one."""
        found = []
        for is_gap, run in groupby(range(len(self.labels)), self._is_gap):
            if is_gap:
                indexes = list(run)
                found.append(Box(rounded(indexes[0] * self.slot), self.head, rounded(len(indexes) * self.slot), PLOT))
        return found

    @property
    def mark_lines(self) -> list[float]:
        """Where marks stand, in percent of the width; those outside stand at the edge."""
        return sorted({self._across(mark) for mark in self.marks})

    @property
    def flags(self) -> list[Flag]:
        """The names of marks. Those that stand close together share one that counts them."""
        if not self.marks:
            return []
        groups: list[list[Mark]] = []
        for mark in sorted(self.marks, key=lambda mark: mark.at):
            if groups and self._across(mark) - self._across(groups[-1][0]) < NEAR:
                groups[-1].append(mark)
            else:
                groups.append([mark])
        starts = [self._across(group[0]) for group in groups]
        ends = [*starts[1:], 100.0]
        rooms = [end - start for start, end in zip(starts, ends, strict=True)]
        flags = [
            Flag(start, _flag_text(group), tuple(group), False, rounded(room))
            for start, group, room in zip(starts, groups, rooms, strict=True)
        ]
        return _turn_last(flags, self._across(groups[-1][-1]))

    @property
    def remarks(self) -> list[str]:
        return [
            f"{mark.when or self._place(mark)}: {mark.text}" for mark in sorted(self.marks, key=lambda mark: mark.at)
        ]

    def _across(self, mark: Mark) -> float:
        return rounded(min(100.0, max(0.0, mark.at * self.slot)))

    def _place(self, mark: Mark) -> str:
        return self.name(min(len(self.labels) - 1, max(0, int(mark.at))))

    def _area(self, index: int) -> Box:
        return Box(rounded(index * self.slot), self.head, rounded(self.slot), PLOT)


def _flag_text(marks: Sequence[Mark]) -> str:
    texts = {mark.text for mark in marks}
    if len(marks) == 1:
        return marks[0].text
    return f"{len(marks)} × {texts.pop()}" if len(texts) == 1 else f"{len(marks)} marks"


def _turn_last(flags: Iterable[Flag], last: float) -> list[Flag]:
    """Let the last flag look to the left where it finds more room there; the one before shares that with it."""
    *before, flag = flags
    left = last - (before[-1].at if before else 0.0)
    left = left / 2 if before else left
    if flag.room > 30 or left <= flag.room:
        return [*before, flag]
    if before:
        one = before.pop()
        before.append(Flag(one.at, one.text, one.marks, False, rounded(left)))
    return [*before, Flag(last, flag.text, flag.marks, True, rounded(left))]
