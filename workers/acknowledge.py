"""What people say of incidents: that somebody is at it, a note, a root cause. No column that a poller writes.

Each is a conditional update that goes to the outbox in its own transaction; who came first is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from .incident_store import AT_ONCE, tell
from .models import Incident, RootCause

LONGEST_REASON, LONGEST_NOTE = 2_000, 10_000


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of some incidents that somebody acknowledged."""

    done: tuple[int, ...]
    kept: dict[int, str]  # those that stay as they were, and why in a sentence

    @property
    def said(self) -> str:
        """What happened, in a sentence or two."""
        number = len(self.done)
        parts = [f"{number} incident{'' if number == 1 else 's'} acknowledged"] if number else []
        return ". ".join([*parts, *sorted(set(self.kept.values()))[:5]]) or "Nothing was ticked"


def acknowledge(keys: Sequence[int], by: str, reason: str, now: datetime) -> Acknowledged:
    """Say that somebody is at these incidents. One that is acknowledged, or over, stays as it is."""
    keys = list(dict.fromkeys(keys))[:AT_ONCE]
    human = {"acknowledged": now, "acknowledged_by": by, "acknowledged_reason": reason[:LONGEST_REASON]}
    with transaction.atomic():
        lasting = Incident.objects.filter(resolved=None, acknowledged=None)
        done = [key for key in keys if lasting.filter(pk=key).update(**human)]
        tell(done, now)
    others = Incident.objects.filter(pk__in=set(keys) - set(done))
    return Acknowledged(tuple(done), {each.pk: _why_kept(each) for each in others})


def _why_kept(incident: Incident) -> str:
    if incident.acknowledged:
        when = f"{incident.acknowledged:%Y-%m-%d %H:%M} UTC"
        return f"{incident.acknowledged_by} had acknowledged {incident.worker_id} {incident.kind} at {when}"
    return f"{incident.worker_id} {incident.kind} is over; a note can still be written"


def take_back(key: int, now: datetime) -> bool:
    """Let an incident be as if nobody had acknowledged it; False where nobody had."""
    with transaction.atomic():
        changed = Incident.objects.filter(pk=key, acknowledged__isnull=False).update(
            acknowledged=None, acknowledged_by="", acknowledged_reason=""
        )
        tell([key] if changed else [], now)
    return bool(changed)


def write_note(key: int, by: str, note: str, read_at: datetime | None, now: datetime) -> bool:
    """Replace the note; False where somebody wrote another one since the one that was read, of that time."""
    with transaction.atomic():
        changed = Incident.objects.filter(pk=key, note_at=read_at).update(
            note=note[:LONGEST_NOTE], note_by=by, note_at=now
        )
        tell([key] if changed else [], now)
    return bool(changed)


def label(key: int, cause: RootCause | None, now: datetime) -> bool:
    """Say why it happened, or that nobody knows; False where it says so already."""
    with transaction.atomic():
        other = Incident.objects.filter(pk=key).exclude(root_cause=cause)
        changed = other.update(root_cause=cause)
        tell([key] if changed else [], now)
    return bool(changed)
