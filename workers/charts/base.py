"""What all kinds of charts have: a title, labels, a legend, a table."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar

from .parts import Key, Series, Table, Text, Value, rounded
from .units import COUNT, NO_DATA, Unit

LETTER = 6.5  # pixels of a letter of an axis, about
WIDE, NARROW = 640.0, 270.0  # pixels of plot that labels are thinned out for; charts.css knows where one ends


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

    @cached_property
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
            Text(rounded((index + 0.5) * self.slot), label, index % narrow > 0)
            for index, label in enumerate(self.labels)
            if index % wide == 0
        ]
