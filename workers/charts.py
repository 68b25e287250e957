"""Charts as data: what a query fills and a template draws. Pure: no Django, no I/O, no clock.

Geometry is written so that a drawing fits any width and its words are never stretched: across in percent of the plot's
width, down in pixels. ``None`` is a place nobody has a figure for: it is drawn as a hatched gap and written "no data",
never as 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import groupby, pairwise
from typing import ClassVar

NO_DATA = "no data"

PLOT = 160.0  # pixels from the axis to the highest tick
HEAD, HEAD_WITH_MARKS = 8.0, 24.0  # pixels above it, where marks are named
ABOVE_TARGET = 12.0  # and for the words of a target at the highest tick
FOOT = 22.0  # pixels below it, for labels
CELL = 16.0  # pixels from row to row of a heat map
LEAST = 2.0  # pixels; what is more than nothing is never thinner
THICKEST = 9.0  # percent of the width; one column alone is a column, too
LEAST_SHARE = 0.7  # percent of a bar
LETTER = 6.5  # pixels of a letter of an axis, about
WIDE, NARROW = 640.0, 270.0  # pixels of plot that labels are thinned out for; charts.css knows where one ends
NEAR = 12.0  # percent of the width; marks within it share one flag


# -- quantities


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
    return f"{share * 100:.1f}".removesuffix(".0") + " %"


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
        return _round(self.area.x + self.area.width / 2)


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
        return _round(100 - self.at)

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


@dataclass(frozen=True)
class Chart:
    """What all kinds have. ``labels`` are short, for the axis; ``names`` are the same in full, for tips and table.

    ``by`` says what labels are ("Day"). ``note`` stands small beside the title; ``empty`` is said where there is no
    figure at all. ``key`` names the chart within its page, where two have the same title. Raises ``ValueError`` where
    lengths differ.
    """

    kind: ClassVar[str] = ""

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    _: KW_ONLY
    note: str = ""
    unit: Unit = COUNT
    empty: str = "There is nothing to show for this span."
    names: Sequence[str] = ()
    by: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        for each in self.series:
            if len(each.values) != len(self.labels):
                raise ValueError(f"{each.name}: {len(each.values)} values for {len(self.labels)} labels")
        if self.names and len(self.names) != len(self.labels):
            raise ValueError(f"{self.title}: {len(self.names)} names for {len(self.labels)} labels")

    @property
    def template(self) -> str:
        return f"workers/charts/{self.kind}.html"

    @property
    def id(self) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", (self.key or self.title).lower()).strip("-")
        return f"chart-{slug}"

    @property
    def is_empty(self) -> bool:
        return all(value is None for each in self.series for value in each.values)

    @property
    def has_gaps(self) -> bool:
        """Whether somewhere there is no figure of any series, which is drawn hatched."""
        return any(self._is_gap(index) for index in range(len(self.labels)))

    @property
    def keys(self) -> list[Key]:
        return [Key(number, each.name, each.css) for number, each in enumerate(self.series)]

    @property
    def legend(self) -> list[Key]:
        """The series, where there is something to tell apart."""
        return self.keys if len(self.series) > 1 else []

    @property
    def table(self) -> Table:
        rows = [
            (self.name(index), *(self.write(each.values[index]) for each in self.series))
            for index in range(len(self.labels))
        ]
        links = [("", *(each.href(index) for each in self.series)) for index in range(len(self.labels))]
        return Table((self.by, *(each.name for each in self.series)), tuple(rows), tuple(links))

    @property
    def remarks(self) -> list[str]:
        """What the drawing says beside the numbers, in words."""
        return []

    def name(self, index: int) -> str:
        return (self.names or self.labels)[index]

    def write(self, value: float | None) -> str:
        return NO_DATA if value is None else self.unit.write(value)

    def _is_gap(self, index: int) -> bool:
        return all(each.values[index] is None for each in self.series)

    def _words(self, index: int, total: str) -> str:
        if self._is_gap(index):
            return f"{self.name(index)}: {NO_DATA}"
        if len(self.series) == 1:
            return f"{self.name(index)}: {self.write(self.series[0].values[index])}"
        parts = [f"{each.name} {self.write(each.values[index])}" for each in self.series]
        return f"{self.name(index)}: {', '.join(parts)}" + (f"; total {total}" if total else "")

    def _values(self, index: int) -> tuple[Value, ...]:
        pairs = zip(self.keys, self.series, strict=True)
        return tuple(Value(key, self.write(each.values[index])) for key, each in pairs)

    @property
    def slot(self) -> float:
        """Percent of the width that a label has."""
        return 100 / len(self.labels)

    @property
    def label_texts(self) -> list[Text]:
        """The labels that find room, each in the middle of its slot."""
        width = max(map(len, self.labels), default=0) * LETTER + 12
        wide = max(1, math.ceil(len(self.labels) * width / WIDE))
        narrow = wide * math.ceil(max(1, math.ceil(len(self.labels) * width / NARROW)) / wide)
        return [
            Text(_round((index + 0.5) * self.slot), label, index % narrow > 0)
            for index, label in enumerate(self.labels)
            if index % wide == 0
        ]


@dataclass(frozen=True)
class Plot(Chart):
    """A chart with values upward: an axis, and marks across it."""

    _: KW_ONLY
    marks: Sequence[Mark] = ()

    @property
    def highest(self) -> float:
        return max((value for each in self.series for value in each.values if value is not None), default=0.0)

    @property
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
        return _round(self.bottom - self.up(value))

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
                found.append(Box(_round(indexes[0] * self.slot), self.head, _round(len(indexes) * self.slot), PLOT))
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
            Flag(start, _flag_text(group), tuple(group), False, _round(room))
            for start, group, room in zip(starts, groups, rooms, strict=True)
        ]
        return _turn_last(flags, self._across(groups[-1][-1]))

    @property
    def remarks(self) -> list[str]:
        return [
            f"{mark.when or self._place(mark)}: {mark.text}" for mark in sorted(self.marks, key=lambda mark: mark.at)
        ]

    def _across(self, mark: Mark) -> float:
        return _round(min(100.0, max(0.0, mark.at * self.slot)))

    def _place(self, mark: Mark) -> str:
        return self.name(min(len(self.labels) - 1, max(0, int(mark.at))))

    def _area(self, index: int) -> Box:
        return Box(_round(index * self.slot), self.head, _round(self.slot), PLOT)


@dataclass(frozen=True)
class Columns(Plot):
    """Columns of stacked parts, the first series at the foot."""

    kind: ClassVar[str] = "columns"

    @property
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
                    Box(_round(x), _round(y), _round(width), _round(max(size - 1, 1.0)), key, each.href(index))
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
            lift=_round(self.height - top + 6),
            links=links,
        )


@dataclass(frozen=True)
class Lines(Plot):
    """Lines over labels, broken where there is no figure, with targets along the plot."""

    kind: ClassVar[str] = "lines"
    _: KW_ONLY
    targets: Sequence[Target] = ()

    @property
    def head(self) -> float:
        return super().head + (ABOVE_TARGET if self.targets else 0)

    @property
    def highest(self) -> float:
        return max(super().highest, *(target.value for target in self.targets), 0.0)

    @property
    def legend(self) -> list[Key]:
        return self.keys

    @property
    def points(self) -> list[Point]:
        return [point for key in self.keys for point in self._points(key) if point]

    @property
    def strokes(self) -> list[Stroke]:
        return [
            Stroke(one.x, one.y, two.x, two.y, key)
            for key in self.keys
            for one, two in pairwise(self._points(key))
            if one and two
        ]

    @property
    def target_lines(self) -> list[tuple[float, float, str]]:
        """Where each target lies, where its words stand so that none covers another, and the words."""
        lines, free = [], self.bottom + 1
        for target in sorted(self.targets, key=lambda target: target.value):
            y = self.y(target.value)
            free = min(y - 4, free - 13)
            lines.append((y, _round(max(free, 10)), target.text))
        return lines

    @property
    def remarks(self) -> list[str]:
        return [*(f"Target: {target.text}" for target in self.targets), *super().remarks]

    @property
    def spots(self) -> list[Spot]:
        return [self._spot(index) for index in range(len(self.labels))]

    def _points(self, key: Key) -> list[Point | None]:
        series = self.series[key.number]
        known = [None, *series.values, None]
        return [
            None
            if value is None
            else Point(
                x=_round((index + 0.5) * self.slot),
                y=self.y(value),
                key=key,
                href=series.href(index),
                alone=known[index] is None and known[index + 2] is None,
            )
            for index, value in enumerate(series.values)
        ]

    def _spot(self, index: int) -> Spot:
        points = [point for key in self.keys if (point := self._points(key)[index])]
        top = min((point.y for point in points), default=self.bottom)
        return Spot(
            area=self._area(index),
            title=self.name(index),
            words=self._words(index, ""),
            values=self._values(index),
            total="",
            lift=_round(self.height - top + 10),
            links=tuple(Box(point.x, point.y, 0, 0, point.key, point.href) for point in points if point.href),
        )


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

    @property
    def highest(self) -> float:
        return max((value for row in self.series for value in row.values if value is not None), default=0.0)

    @property
    def ramp(self) -> list[tuple[int, int]]:
        """The legend's steps from 0 to the most: x in pixels, and the percent of full colour."""
        return [(16 * step, weight) for step, weight in enumerate((0, 30, 60, 100))]

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
                x=_round((index + 0.05) * self.slot),
                y=y,
                width=_round(0.9 * self.slot),
                height=CELL - 2,
                key=None if value is None else Key(0, row.name, self.css),
                href=row.href(index),
                text=text,
                weight=_round(weight),
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
                boxes.append(Box(_round(x), 0, _round(size), 18, key, each.href(index)))
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


# -- inside


def _round(value: float) -> float:
    """Short enough for a page, fine enough for a screen."""
    return round(value, 3)


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
        before.append(Flag(one.at, one.text, one.marks, False, _round(left)))
    return [*before, Flag(last, flag.text, flag.marks, True, _round(left))]
