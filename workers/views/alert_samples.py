"""Alerts and channels in every state, for the page of components."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from workers.models import Alert, AlertRule, Attendant, Channel, Delivery, Severity
from workers.queries.alerts import AlertRow, Alerts, AlertsQuery, ChannelRow, Way

NOBODYS = 10**12  # keys that no row has
_SENT, _WAITS = Way("On call", 1, 0, 0, ""), Way("Chat", 0, 1, 0, "No answer within 30 s")
_GIVEN_UP = Way("Pager", 0, 0, 1, "error=410")


def sample(now: datetime) -> Alerts:
    """A page of alerts that exists only here."""
    acknowledged: dict[str, Any] = {
        "acknowledged": now,
        "acknowledged_by": "kim",
        "acknowledged_reason": "The licence server is down",
    }
    rows = (
        _row(1, now, "41 of 60 running workers are lost on sample-a", Severity.CRITICAL, (_SENT, _WAITS, _GIVEN_UP)),
        _row(2, now, "41 zombies: sample-001, sample-002, sample-003 and 38 more", held_back="part of a mass death"),
        _row(3, now, "sample-004 is stalled for 30 min or longer", ways=(_SENT,), times_told=3, **acknowledged),
        _row(4, now, "4 of 5 runs failed in the last 1 h", muted=True),
        _row(5, now, "2 spec files cannot be read on sample-a", Severity.INFO, times_told=1),
    )
    past = (_row(6, now, "The PM daemon of sample-a has said nothing", ways=(_SENT,), resolved=now, state="resolved"),)
    return Alerts(
        query=AlertsQuery(),
        open=rows,
        past=past,
        open_count=len(rows),
        past_count=len(past),
        rules=(),
        watching=7,
        channels=tuple(_channels(now)),
        attendant=Attendant(
            process="sample-a web 4242 0badcafe", until=now, error="workers.sample: ValueError: a sample"
        ),
        now=now,
    )


def _row(
    number: int,
    now: datetime,
    summary: str,
    severity: int = Severity.WARNING,
    ways: tuple[Way, ...] = (),
    **fields: Any,
) -> AlertRow:
    muted = {"muted_until": now + timedelta(hours=1), "muted_reason": "A drill"} if fields.pop("muted", False) else {}
    rule = AlertRule(pk=NOBODYS, name="Sample rule", kind=AlertRule.Kind.ZOMBIES, **muted)
    began = now - timedelta(minutes=12)
    values = {"state": "firing", "began": began, "fired": began, "times_told": int(bool(ways)), "told": now, **fields}
    alert = Alert(pk=NOBODYS + number, rule=rule, rule_name=rule.name, summary=summary, severity=severity, **values)
    alert.workers = ["sample-001", "sample-002"] if number < 3 else []
    alert.count = 41 if number < 3 else 1
    return AlertRow(alert, ways, now)


def _channels(now: datetime) -> list[ChannelRow]:
    before = now - timedelta(minutes=9)
    test = Delivery(key=Delivery.TEST, created_at=before, next_try_at=now, state=Delivery.State.QUEUED)
    failed = Delivery(key=Delivery.TEST, created_at=before, next_try_at=now, error="error=500", state="queued")
    sent = Delivery(key=Delivery.TEST, created_at=before, sent_at=now, state=Delivery.State.SENT)
    return [
        ChannelRow(Channel(pk=NOBODYS, name="Works", last_sent_at=before), 0, sent),
        ChannelRow(Channel(pk=NOBODYS, name="Fails", failing_since=before, last_error="error=500"), 12, failed),
        ChannelRow(Channel(pk=NOBODYS, name="Never used"), 1, test),
        ChannelRow(Channel(pk=NOBODYS, name="Off", enabled=False), 0, None),
    ]
