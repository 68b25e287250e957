"""The words that are sent. Plain text: what a phone shows of it, first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from django.conf import settings

from workers.models import Alert, Severity

from .lifecycle import Telling

#: A message that waited for longer says so.
OLD = timedelta(minutes=5)
#: Messages of one that sums many up which are named.
NAMED = 100


class Waiting(Protocol):
    """A message that waits."""

    subject: str
    body: str
    created_at: datetime


def of_alert(alert: Alert, telling: Telling) -> tuple[str, str]:
    """Return subject and body of what is told of an alert."""
    word = {Telling.OVER: "over", Telling.AGAIN: "still"}.get(telling, Severity(alert.severity).label)
    subject = f"[{word}] {alert.summary}"
    lines = [alert.summary + ".", "", f"Rule: {alert.rule_name}", f"Since: {utc(alert.fired or alert.began)}"]
    if telling is Telling.OVER and alert.resolved:
        lines.append(f"Over: {utc(alert.resolved)}")
    if alert.workers:
        more = alert.count - len(alert.workers)
        lines.append(f"Workers: {', '.join(alert.workers)}{f' and {more} more' if more > 0 else ''}")
    if settings.RELAY_URL:
        lines += ["", f"{settings.RELAY_URL}/alerts/"]
    return subject if len(subject) <= 200 else f"{subject[:199]}…", "\n".join(lines)


def of_waiting(waiting: Sequence[Waiting], now: datetime) -> tuple[str, str]:
    """Return what is really sent: one message with a note where it is old, or one that sums many up."""
    if len(waiting) == 1:
        one = waiting[0]
        if now - one.created_at <= OLD:
            return one.subject, one.body
        note = f"This was to be told at {utc(one.created_at)}; the channel could not be reached, or it was quiet."
        return one.subject, f"{note}\n\n{one.body}"
    lines = [f"{utc(each.created_at)}  {each.subject}" for each in waiting[:NAMED]]
    more = [f"… and {len(waiting) - NAMED} more"] if len(waiting) > NAMED else []
    link = ["", f"{settings.RELAY_URL}/alerts/"] if settings.RELAY_URL else []
    first = utc(waiting[0].created_at)
    head = f"{len(waiting)} messages waited for this channel since {first}. In order:"
    return f"{len(waiting)} messages since {first}", "\n".join([head, "", *lines, *more, *link])


def utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
