"""Lines over labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from .parts import Box, Key, Point, Spot, Stroke, Target, rounded
from .plot import Plot

ABOVE_TARGET = 12.0  # and for the words of a target at the highest tick


@dataclass(frozen=True)
class Lines(Plot):
    """Lines over labels, broken where there is no figure, with targets along the plot."""

    kind: ClassVar[str] = "lines"
    _: KW_ONLY
    targets: Sequence[Target] = ()

    @property
    def head(self) -> float:
        return super().head + (ABOVE_TARGET if self.targets else 0)

    @cached_property
    def highest(self) -> float:
        return max(super().highest, *(target.value for target in self.targets), 0.0)

    @property
    def legend(self) -> list[Key]:
        return self.keys

    @property
    def points(self) -> list[Point]:
        return [point for key in self.keys for point in self._points[key.number] if point]

    @property
    def strokes(self) -> list[Stroke]:
        return [
            Stroke(one.x, one.y, two.x, two.y, key)
            for key in self.keys
            for one, two in pairwise(self._points[key.number])
            if one and two
        ]

    @property
    def target_lines(self) -> list[tuple[float, float, str]]:
        """Where each target lies, where its words stand so that none covers another, and the words."""
        lines, free = [], self.bottom + 1
        for target in sorted(self.targets, key=lambda target: target.value):
            y = self.y(target.value)
            free = min(y - 4, free - 13)
            lines.append((y, rounded(max(free, 10)), target.text))
        return lines

    @property
    def remarks(self) -> list[str]:
        return [*(f"Target: {target.text}" for target in self.targets), *super().remarks]

    @property
    def spots(self) -> list[Spot]:
        return [self._spot(index) for index in range(len(self.labels))]

    @cached_property
    def _points(self) -> list[list[Point | None]]:
        """A point for each series and label, or None for a gap."""
        return [self._points_of(key) for key in self.keys]

    def _points_of(self, key: Key) -> list[Point | None]:
        series = self.series[key.number]
        known = [None, *series.values, None]
        return [
            None
            if value is None
            else Point(
                x=rounded((index + 0.5) * self.slot),
                y=self.y(value),
                key=key,
                href=series.href(index),
                alone=known[index] is None and known[index + 2] is None,
            )
            for index, value in enumerate(series.values)
        ]

    def _spot(self, index: int) -> Spot:
        points = [point for key in self.keys if (point := self._points[key.number][index])]
        top = min((point.y for point in points), default=self.bottom)
        return Spot(
            area=self._area(index),
            title=self.name(index),
            words=self._words(index, ""),
            values=self._values(index),
            total="",
            lift=rounded(self.height - top + 10),
            links=tuple(Box(point.x, point.y, 0, 0, point.key, point.href) for point in points if point.href),
        )
