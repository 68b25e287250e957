"""When files are held against each other, and what of the disk is looked at for that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from .coordination.files import Listings, printable
from .coordination.layout import AGENTS_WORKERS, ZOMBIES, Layout
from .integrity import Found, Moments, Sight, across

#: Time alone may change what is found: a moment comes to pass, the PM daemon should have found a worker.
AT_LEAST_EVERY = timedelta(seconds=10)
#: Looking takes at most this share of the time, however large and busy a fleet is; below CHEAP nobody counts.
SHARE, CHEAP = 1 / 200, 0.005


class CrossCheck:
    """Remembers when it looked last, and whether anything has changed since."""

    def __init__(self, layout: Layout) -> None:
        self.changed = True
        self.ahead: dict[str, Moments] = {}  # moments that were yet to come when their file was read
        self._home = f"{layout.home}/"
        self._listings = Listings(layout)
        self._version = -1
        self._at: datetime | None = None
        self._took = 0.0  # seconds

    def note_ahead(self, path: str, moments: Moments) -> None:
        """Remember the moments of a file that has been read anew."""
        if moments:
            self.ahead[path] = moments
        else:
            self.ahead.pop(path, None)

    def due(self, now: datetime) -> bool:
        """Whether it is time to look. Lists directories only where they have changed."""
        for path in (AGENTS_WORKERS, ZOMBIES):
            self._listings.names(path, now.timestamp())
        self.changed = self.changed or self._listings.version != self._version
        if self._at is None:
            return True
        pause = timedelta(seconds=self._took / SHARE) if self._took > CHEAP else timedelta()
        return now - self._at >= (min(pause, AT_LEAST_EVERY) if self.changed else AT_LEAST_EVERY)

    def look(self, make_sight: Callable[[list[str], list[str]], Sight], now: datetime) -> list[Found]:
        """Hold everything against each other; ``make_sight`` is given the names of workers' directories."""
        began = time.perf_counter()
        self._version, self._at, self.changed = self._listings.version, now, False
        found = across(make_sight(self._directories(AGENTS_WORKERS), self._directories(ZOMBIES)), now)
        self._took = time.perf_counter() - began
        return found

    def _directories(self, path: str) -> list[str]:
        names = self._listings.names_of(path)
        return [
            printable(name)
            for name in names
            if f"{path}/{name}" != ZOMBIES and not name.startswith(".") and os.path.isdir(f"{self._home}{path}/{name}")  # noqa: PTH112 - strings throughout
        ]
