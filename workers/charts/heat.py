"""Counts in rows and columns."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar

from .base import LETTER, Chart
from .parts import Box, Key, Spot, Table, Text, rounded
from .plot import FOOT, HEAD

CELL = 16.0  # pixels from row to row of a heat map


@dataclass(frozen=True)
class Heat(Chart):
    """Counts in rows and columns, the more the darker: a series is a row, labels are the columns.

    0 is a pale cell, no data is a hatched one. ``css`` is the class of a state that gives the colour.
    """

    kind: ClassVar[str] = "heat"
    _: KW_ONLY
    css: str = ""

    @property
    def look(self) -> str:
        return self.css or "series-0"

    @property
    def legend(self) -> list[Key]:
        return []

    @cached_property
    def highest(self) -> float:
        return max((value for row in self.series for value in row.values if value is not None), default=0.0)

    @property
    def ramp(self) -> list[tuple[int, int]]:
        """The legend's steps from 0 to the most: x in pixels, and the percent of full colour."""
        weights = (0, 30, 60, 100) if self.highest else (0,)
        return [(16 * step, weight) for step, weight in enumerate(weights)]

    @property
    def most(self) -> str:
        return self.write(self.highest)

    @property
    def least(self) -> str:
        return self.write(0)

    @property
    def has_gaps(self) -> bool:
        return any(value is None for row in self.series for value in row.values)

    @property
    def bottom(self) -> float:
        return HEAD + CELL * len(self.series)

    @property
    def height(self) -> float:
        return self.bottom + FOOT

    @property
    def label_line(self) -> float:
        return self.bottom + FOOT - 7

    @property
    def axis(self) -> list[Text]:
        return [Text(HEAD + CELL * number + CELL / 2 - 1, row.name) for number, row in enumerate(self.series)]

    @property
    def axis_width(self) -> int:
        return math.ceil(max(len(row.name) for row in self.series) * LETTER + 8)

    @property
    def cells(self) -> list[Spot]:
        """Each place, row by row."""
        return [
            self._cell(number, index, value)
            for number, row in enumerate(self.series)
            for index, value in enumerate(row.values)
        ]

    def _cell(self, number: int, index: int, value: float | None) -> Spot:
        row = self.series[number]
        y = HEAD + CELL * number
        # what is more than nothing can be told from 0 even beside a peak
        weight = 8 + 92 * value / self.highest if value else 0.0
        text = self.write(value)
        title = f"{row.name} {self.name(index)}"
        return Spot(
            area=Box(
                x=rounded((index + 0.05) * self.slot),
                y=y,
                width=rounded(0.9 * self.slot),
                height=CELL - 2,
                key=None if value is None else Key(0, row.name, self.css),
                href=row.href(index),
                text=text,
                weight=rounded(weight),
            ),
            title=title,
            words=f"{title}: {text}",
            values=(),
            total=text,
            lift=self.height - y + 5,
        )

    @property
    def table(self) -> Table:
        rows = tuple((row.name, *map(self.write, row.values)) for row in self.series)
        links = tuple(("", *(row.href(index) for index in range(len(self.labels)))) for row in self.series)
        return Table((self.by, *(self.name(index) for index in range(len(self.labels)))), rows, links)
