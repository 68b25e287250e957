"""A sentence and how it stands, and the words that all four preventions share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from django.utils.dateparse import parse_datetime

#: The runs and events that are looked back at.
BACK = timedelta(days=30)
#: Fewer cases than this prove nothing.
ENOUGH = 5


class Tone(Enum):
    """How something stands: the class of its hue, a shape and a word."""

    FINE = ("healthy", "✓", "Fine")
    LOOK = ("late", "▲", "Look")
    BAD = ("crashed", "✕", "Trouble")
    UNKNOWN = ("unknown", "?", "Not known")

    @property
    def hue(self) -> str:
        return self.value[0]

    @property
    def shape(self) -> str:
        return self.value[1]

    @property
    def word(self) -> str:
        return self.value[2]


WORST = (Tone.BAD, Tone.LOOK, Tone.UNKNOWN, Tone.FINE)


@dataclass(frozen=True, slots=True)
class Said:
    """One plain sentence and how it stands."""

    tone: Tone
    text: str


def worst(said: Iterable[Said]) -> Said:
    """Return the first of the sentences that matter most."""
    return min(said, key=lambda each: WORST.index(each.tone))


def moment(text: str | None) -> datetime | None:
    return parse_datetime(text) if text else None


def joined(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def be(number: int) -> str:
    return "is" if number == 1 else "are"


def have(number: int) -> str:
    return "has" if number == 1 else "have"
