"""Charts as data: what a query fills and a template draws. Pure: no Django, no I/O, no clock.

Geometry is written so that a drawing fits any width and its words are never stretched: across in percent of the plot's
width, down in pixels. ``None`` is a place nobody has a figure for: it is drawn as a hatched gap and written "no data",
never as 0.
"""

from __future__ import annotations

from .base import Chart
from .columns import Columns
from .heat import Heat
from .lines import Lines
from .parts import Mark, Series, Target
from .shares import Shares
from .units import COUNT, NO_DATA, SECONDS, SHARE, Unit

__all__ = [
    "COUNT",
    "NO_DATA",
    "SECONDS",
    "SHARE",
    "Chart",
    "Columns",
    "Heat",
    "Lines",
    "Mark",
    "Series",
    "Shares",
    "Target",
    "Unit",
]
