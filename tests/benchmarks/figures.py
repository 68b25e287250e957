"""One measured figure, its floor, and what is to be reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """``value`` and ``floor`` in the same unit; ``reach`` bounds their ratio, or the value where there is no floor."""

    name: str
    value: float
    unit: str
    reach: float
    floor: float | None = None
    floor_name: str = ""
    more_is_better: bool = False

    @property
    def ratio(self) -> float:
        if self.floor is None:
            return self.value
        return self.floor / self.value if self.more_is_better else self.value / self.floor

    @property
    def reached(self) -> bool:
        return self.ratio >= self.reach if self.more_is_better else self.ratio <= self.reach

    def __str__(self) -> str:
        sign = "≥" if self.more_is_better else "≤"
        shown = f"{self.name}: {self.value:.4g} {self.unit}"
        if self.floor is not None:
            shown += f"; floor {self.floor:.4g} {self.unit} ({self.floor_name}); ratio {self.ratio:.2f}"
        limit = f"{self.reach:g}" + (" ×" if self.floor is not None else f" {self.unit}")
        return f"{'reached ' if self.reached else 'MISSED  '} {shown}; reach {sign} {limit}"


def timed(work: Callable[[], object], rounds: int = 5) -> float:
    """The median of several runs, in seconds."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)
