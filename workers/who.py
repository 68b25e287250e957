"""Who does something that is kept under their name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody, and from where."""

    name: str
    address: str = ""  # of the network, or “command line”
