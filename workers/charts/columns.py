"""Columns of stacked parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from .parts import Box, Spot, Table, rounded, sizes
from .plot import Plot

LEAST = 2.0  # pixels; what is more than nothing is never thinner
THICKEST = 9.0  # percent of the width; one column alone is a column, too


@dataclass(frozen=True)
class Columns(Plot):
    """Columns of stacked parts, the first series at the foot."""

    kind: ClassVar[str] = "columns"

    @cached_property
    def highest(self) -> float:
        return max((self.total(index) or 0.0 for index in range(len(self.labels))), default=0.0)

    def total(self, index: int) -> float | None:
        """The sum of what is known; None where nothing is."""
        known = [value for each in self.series if (value := each.values[index]) is not None]
        return sum(known) if known else None

    @property
    def table(self) -> Table:
        table = super().table
        if len(self.series) < 2:
            return table
        rows = tuple((*row, self.write(self.total(index))) for index, row in enumerate(table.rows))
        return Table((*table.head, "Total"), rows, tuple((*links, "") for links in table.links))

    @property
    def boxes(self) -> list[Box]:
        return [box for index in range(len(self.labels)) for box in self._stack(index)]

    @property
    def spots(self) -> list[Spot]:
        return [self._spot(index) for index in range(len(self.labels))]

    def _stack(self, index: int) -> list[Box]:
        values = [each.values[index] or 0.0 for each in self.series]
        number = sum(value > 0 for value in values)
        room = max(self.up(sum(values)), LEAST * number)
        width, y = min(0.68 * self.slot, THICKEST), self.bottom
        x = (index + 0.5) * self.slot - width / 2
        boxes = []
        for key, each, size in zip(self.keys, self.series, sizes(values, room, LEAST), strict=True):
            if size:
                y -= size
                # a line of the panel between parts, where they are thick enough for one
                boxes.append(
                    Box(rounded(x), rounded(y), rounded(width), rounded(max(size - 1, 1.0)), key, each.href(index))
                )
        return boxes

    def _spot(self, index: int) -> Spot:
        total = self.write(self.total(index)) if len(self.series) > 1 and not self._is_gap(index) else ""
        boxes = self._stack(index)
        top = boxes[-1].y if boxes else self.bottom
        links = tuple(box for box in boxes if box.href)
        return Spot(
            area=self._area(index),
            title=self.name(index),
            words=self._words(index, total),
            values=self._values(index)[::-1],  # as they are stacked
            total=total,
            lift=rounded(self.height - top + 6),
            links=links,
        )
