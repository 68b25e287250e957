"""What a query fills a chart with, and the parts that a template draws it from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# -- what a query fills


@dataclass(frozen=True)
class Series:
    """One value per label. ``css`` is a state's class, which gives it its colour; ``hrefs`` are where values lead to.

    Raises ``ValueError`` for a value below 0, or one that is no number: no quantity here can be that.
    """

    name: str
    values: Sequence[float | None]
    css: str = ""
    hrefs: Sequence[str] = ()

    def __post_init__(self) -> None:
        for value in self.values:
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{self.name}: {value} is no quantity")
        if self.hrefs and len(self.hrefs) != len(self.values):
            raise ValueError(f"{self.name}: {len(self.hrefs)} links for {len(self.values)} values")

    def href(self, index: int) -> str:
        return self.hrefs[index] if self.hrefs and self.values[index] else ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, as a line across the plot. ``at`` counts labels from the left edge: 8.25 is a quarter
    into the ninth. ``when`` says exactly when, in words."""

    at: float
    text: str
    when: str = ""

    @property
    def words(self) -> str:
        return f"{self.when}: {self.text}" if self.when else self.text


@dataclass(frozen=True, slots=True)
class Target:
    """A value that is to be reached or not to be passed, as a line along the plot."""

    value: float
    text: str


# -- what a template draws


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of the legend. The number chooses pattern, dash and point, which tell series apart without a colour."""

    number: int
    name: str
    css: str

    @property
    def look(self) -> str:
        """Its class: a state's, else that of its number."""
        return self.css or f"series-{self.number % 6}"

    @property
    def pattern(self) -> str:
        return _PATTERNS[self.number % len(_PATTERNS)]

    @property
    def dash(self) -> str:
        return _DASHES[self.number % len(_DASHES)]

    @property
    def point(self) -> str:
        return _POINTS[self.number % len(_POINTS)]


#: Paths in a tile of 6 × 6. The first is solid.
_PATTERNS = (
    "",
    "M-1 7L7-1M-1 1L1-1M5 7L7 5",
    "M3 3h.01",
    "M0 3h6",
    "M-1-1L7 7M-1 5L1 7M5-1L7 1",
    "M3 0v6",
    "M0 3h6M3 0v6",
    "M0 1.5h6M0 4.5h6",
    "M0 0L6 6M6 0L0 6",
    "M1.5 0v6M4.5 0v6",
)
_DASHES = ("", "6 4", "2 3", "9 3 2 3")
#: Circle, square, triangle, diamond, about a middle.
_POINTS = (
    "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
    "M-2.8-2.8h5.6v5.6h-5.6z",
    "M0-3.6L3.5 2.6h-7z",
    "M0-4L4 0 0 4-4 0z",
)


@dataclass(frozen=True, slots=True)
class Value:
    """A line of a tip: a series and its value in words."""

    key: Key
    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: x and width in percent, y and height in pixels."""

    x: float
    y: float
    width: float
    height: float
    key: Key | None = None
    href: str = ""
    text: str = ""
    weight: float = 0.0  # of a heat map's cell, percent of full colour


@dataclass(frozen=True, slots=True)
class Spot:
    """What can be pointed at and focused: where it is, what it says, and where its tip stands.

    A tip at 37 % of the width is drawn back by 37 % of its own, so it never leaves the plot.
    """

    area: Box
    title: str
    words: str
    values: tuple[Value, ...]
    total: str
    lift: float  # pixels from the foot of the drawing to that of the tip
    links: tuple[Box, ...] = ()

    @property
    def middle(self) -> float:
        return rounded(self.area.x + self.area.width / 2)


@dataclass(frozen=True, slots=True)
class Text:
    """A word of an axis: x in percent or y in pixels. One that is only for a wide plot says so."""

    at: float
    text: str
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """The name of a mark, or of several that stand too close to be named one by one."""

    at: float  # percent
    text: str
    marks: tuple[Mark, ...]
    leftward: bool
    room: float  # percent that its text may take

    @property
    def from_right(self) -> float:
        return rounded(100 - self.at)

    @property
    def words(self) -> str:
        return "; ".join(mark.words for mark in self.marks)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float
    key: Key
    href: str = ""
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line between two points that follow each other."""

    x1: float
    y1: float
    x2: float
    y2: float
    key: Key


@dataclass(frozen=True, slots=True)
class Table:
    """The same numbers in words: a head, and rows of as many strings. ``links`` has as many again, "" for none."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    links: tuple[tuple[str, ...], ...]

    @property
    def lines(self) -> list[list[tuple[str, str]]]:
        """Each row as pairs of a text and its link."""
        return [list(zip(row, links, strict=True)) for row, links in zip(self.rows, self.links, strict=True)]


# -- sizes


def rounded(value: float) -> float:
    """Short enough for a page, fine enough for a screen."""
    return round(value, 3)


def sizes(values: Sequence[float], room: float, least: float) -> list[float]:
    """Divide a room in proportion, so that nothing is thinner than ``least`` but what is nothing.

    Where even that is too much for the room, all are alike. The result fills the room, unless all is 0.
    """
    shares = [0.0] * len(values)
    open_ = [index for index, value in enumerate(values) if value > 0]
    least = min(least, room / len(open_)) if open_ else 0.0
    while open_:
        whole = sum(values[index] for index in open_)
        thin = [index for index in open_ if values[index] / whole * room < least]
        for index in thin or open_:
            shares[index] = least if thin else values[index] / whole * room
        room -= least * len(thin)
        open_ = [index for index in open_ if index not in thin] if thin else []
    return shares
