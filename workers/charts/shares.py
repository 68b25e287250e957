"""Bars of 100 % and their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Chart
from .parts import Box, Spot, Table, Value, rounded, sizes
from .units import NO_DATA, SHARE, percent

LEAST_SHARE = 0.7  # percent of a bar


@dataclass(frozen=True, slots=True)
class Bar:
    """A whole, and its parts. Without a whole there are no parts."""

    name: str
    spot: Spot
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Shares(Chart):
    """A bar of 100 % per label; a series is a part of each. A part that is tiny is still there."""

    kind: ClassVar[str] = "shares"

    @property
    def bars(self) -> list[Bar]:
        return [self._bar(index) for index in range(len(self.labels))]

    @property
    def table(self) -> Table:
        plain = super().table
        rows = tuple((self.name(index), *self._texts(index)) for index in range(len(self.labels)))
        return Table(plain.head, rows, plain.links)

    @property
    def is_empty(self) -> bool:
        return not any(self._whole(index) for index in range(len(self.labels)))

    @property
    def has_gaps(self) -> bool:
        return not all(self._whole(index) for index in range(len(self.labels)))

    def _whole(self, index: int) -> float:
        return sum(each.values[index] or 0.0 for each in self.series)

    def _texts(self, index: int) -> list[str]:
        """A share of nothing is no share, so that a row without a whole has no data."""
        whole = self._whole(index)
        texts = []
        for each in self.series:
            value = each.values[index]
            if value is None or not whole:
                texts.append(NO_DATA)
            else:
                exact = "" if self.unit is SHARE else f" ({self.write(value)})"
                texts.append(percent(value / whole) + exact)
        return texts

    def _bar(self, index: int) -> Bar:
        values, whole = [each.values[index] or 0.0 for each in self.series], self._whole(index)
        texts, x, boxes = self._texts(index), 0.0, []
        for key, each, size in zip(self.keys, self.series, sizes(values, 100.0, LEAST_SHARE), strict=True):
            if size:
                boxes.append(Box(rounded(x), 0, rounded(size), 18, key, each.href(index)))
                x += size
        name = self.name(index)
        parts = [f"{key.name} {text}" for key, text in zip(self.keys, texts, strict=True)]
        spot = Spot(
            area=Box(0, 0, 100, 18),
            title=name,
            words=f"{name}: {', '.join(parts) if whole else NO_DATA}",
            values=tuple(map(Value, self.keys, texts)) if whole else (),
            total="" if whole else NO_DATA,
            lift=22,
            links=tuple(box for box in boxes if box.href),
        )
        return Bar(self.labels[index], spot, tuple(boxes))
