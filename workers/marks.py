"""Moments that explain what comes after them, as charts show them: the PM daemon started, a limit was changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from .models import Mark

#: What two files say of one start may lie so far apart.
SAME_MOMENT = timedelta(minutes=1)


class Moment(NamedTuple):
    """Something that is to be marked."""

    kind: Mark.Kind
    at: datetime
    text: str


def pm_start(at: datetime) -> Moment:
    return Moment(Mark.Kind.PM_START, at, "PM daemon started")


def save_marks(host: str, moments: Iterable[Moment]) -> None:
    """Remember each once, whoever tells of it."""
    for each in sorted(moments, key=lambda moment: moment.at):
        near = Mark.objects.filter(host=host, kind=each.kind, text=each.text)
        if not near.filter(at__range=(each.at - SAME_MOMENT, each.at + SAME_MOMENT)).exists():
            Mark.objects.create(host=host, kind=each.kind, at=each.at, text=each.text)
