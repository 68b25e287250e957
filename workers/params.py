"""What people put into addresses and forms, as it may be used: nothing raises, and every text can be stored.

Whoever reads a parameter reads it here. Python refuses numbers of many digits, databases refuse those of more than 64
bits, and PostgreSQL refuses a text with NUL, each with an exception that would be answered with 500.
"""

from __future__ import annotations

from django.http import QueryDict

from .coordination.redaction import storable

MOST_DIGITS = 18  # of a number that fits into a column
LONGEST_PATH = 4096  # characters; a path may begin or end with blanks


def text_of(params: QueryDict, name: str, most: int = 255, *, stripped: bool = True) -> str:
    """A parameter as text of at most so many characters; "" where it is missing."""
    value = storable(params.get(name, "").replace("\0", ""))
    return (value.strip() if stripped else value)[:most]


def whole(value: str) -> int | None:
    """The number that a text of plain digits writes; None where it is none, or none that a column holds."""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS else None


def wholes(values: list[str]) -> list[int]:
    """The numbers among some texts, in their order."""
    return [number for value in values if (number := whole(value)) is not None]


def positive(params: QueryDict, name: str, ignored: list[str], among: tuple[int, ...] = ()) -> int | None:
    """A parameter as a number above 0, of some that may be chosen; what is none is named in ``ignored``."""
    asked = text_of(params, name)
    number = whole(asked) if len(asked) < 10 else None
    if number and (not among or number in among):
        return number
    if asked:
        ignored.append(f"{name} “{asked[:40]}”, which is none" + (f" of {', '.join(map(str, among))}" if among else ""))
    return None
