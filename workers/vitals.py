"""What a web process measures of itself while it serves. Written by the live hub and the sockets, read by the lights
and by the metrics. Of this process alone: other web processes answer for themselves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

#: Seconds between two looks at how late the event loop is, and how many of them are remembered.
BEAT, BEATS = 0.5, 12


@dataclass
class Vitals:
    """The measures of one web process."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    sockets: int = 0
    tail: int | None = None  # the highest change that was handed to browsers; None: nobody listens
    handed: tuple[int, datetime] | None = None  # the change that was handed out last, and when
    push_seconds: float | None = None  # from storing that change to handing it out
    waiting_seconds: float | None = None  # how long the oldest change has waited that the tail has not handed out
    _late: deque[float] = field(default_factory=lambda: deque(maxlen=BEATS))

    def beat(self, late: float) -> None:
        """Note by how many seconds the event loop called back later than it was asked to."""
        self._late.append(max(0.0, late))

    @property
    def loop_delay(self) -> float | None:
        """The longest that the event loop was held up lately, in seconds; None where nobody has looked."""
        return max(self._late, default=None)

    def fall_silent(self) -> None:
        """Nobody listens any more, so nothing is measured: forget what would grow old."""
        self.tail = self.handed = self.push_seconds = self.waiting_seconds = None
        self._late.clear()


VITALS = Vitals()
