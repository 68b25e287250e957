"""What a setting must be to make sense, whoever enters it: a form of the admin or a file that is imported.

A rule says what would do in a sentence: it raises ValidationError, or gives sentences by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ValidationError

from .health import LIMITS, Limits

LONGEST_LIMIT = 365 * 86400


def check_zone(name: str) -> None:
    """A time zone that is known here."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValidationError(f"“{name}” is no time zone that is known here; give one like Europe/Berlin") from None


def check_http_address(address: str) -> None:
    """An address that can be called by GET. The sentence never holds the address: it is a secret."""
    try:
        parts = urlsplit(address)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        fine = False
    if not fine or any(character.isspace() or ord(character) < 32 for character in address):
        raise ValidationError("This is no address that can be called; give one that begins with https:// or http://")


def limit_errors(values: Mapping[str, Any]) -> dict[str, str]:
    """Say what is wrong with one limit, by field."""
    name, seconds = values.get("name"), values.get("seconds")
    if name not in LIMITS:
        return {"name": f"“{name}” is no limit; there are {', '.join(LIMITS)}"}
    if seconds is not None and not 1 <= seconds <= LONGEST_LIMIT:
        return {"seconds": "A limit lies between a second and a year"}
    return {}


def check_limits(seconds: Mapping[str, float]) -> None:
    """A worker is late before it is stalled. Where an admin has set one alone, the default of the other counts."""
    defaults = Limits()
    late = seconds.get("late_after", defaults.late_after.total_seconds())
    stalled = seconds.get("stalled_after", defaults.stalled_after.total_seconds())
    if late <= stalled or not {"late_after", "stalled_after"} & seconds.keys():
        return
    wrong = f"A worker would be stalled after {in_minutes(stalled)}, before it is late after {in_minutes(late)}"
    missing = next((name for name in ("late_after", "stalled_after") if name not in seconds), "")
    hint = f"; {missing} is not set here, so its default counts: set it first" if missing else ""
    raise ValidationError(f"{wrong}: late_after must not be longer than stalled_after{hint}.")


def in_minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds % 60 == 0 or seconds > 600 else f"{seconds:g} s"
