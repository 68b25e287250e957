"""What people do about alerts: acknowledge one, mute a rule, send a test to a channel."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction

from workers.models import Alert, AlertRule, Change, Channel, Delivery, SettingChange
from workers.sql import announce
from workers.who import Who

from .messages import utc

#: deed, as buttons name it -> the permission that it needs
MAY = {
    "acknowledge-alert": "workers.acknowledge_alert",
    "mute-rule": "workers.change_alertrule",
    "test-channel": "workers.change_channel",
}
MORNING = time(8)
REASON = 200


class RefusedError(Exception):
    """It cannot be done; the message says why."""


def acknowledge(alert: Alert, who: Who, reason: str, now: datetime) -> None:
    """Say that somebody sees to it: it is told no more, and rings no bell. Raises RefusedError."""
    if not reason:
        raise RefusedError("Say why, or what you do about it: others read it")
    with transaction.atomic():
        fresh = Alert.objects.filter(pk=alert.pk, state=Alert.State.FIRING, acknowledged=None)
        said = {"acknowledged": now, "acknowledged_by": who.name, "acknowledged_reason": reason}
        if not fresh.update(**said):
            raise RefusedError("It is over already, or somebody has acknowledged it before you")
        announce(Change.Kind.ALERT, [alert.pk], now)


def tomorrow(zone: str, now: datetime) -> datetime:
    """When people are told again who did not want to be until tomorrow: in the morning, in the rule's zone."""
    day = now.astimezone(ZoneInfo(zone)).date() + timedelta(days=1)
    return datetime.combine(day, MORNING, ZoneInfo(zone)).astimezone(UTC)


def mute(rule: AlertRule, until: datetime | None, who: Who, reason: str, now: datetime) -> None:
    """Tell nobody by this rule until then; None ends a mute. Raises RefusedError."""
    if until is not None and not reason:
        raise RefusedError("Say why: others read it")
    before = f"{utc(rule.muted_until)}: {rule.muted_reason}" if rule.muted_until and rule.muted_until > now else ""
    after = f"{utc(until)}: {reason}" if until else ""
    with transaction.atomic():
        AlertRule.objects.filter(pk=rule.pk).update(muted_until=until, muted_reason=reason[:REASON] if until else "")
        SettingChange.objects.create(
            at=now,
            actor=who.name,
            address=who.address,
            setting=f"Alert rule {rule.name}",
            field="muted until",
            old=before,
            new=after,
        )
        announce(Change.Kind.ALERT, open_of(rule) or [0], now)


def open_of(rule: AlertRule) -> list[int]:
    return list(rule.alerts.filter(state=Alert.State.FIRING).values_list("pk", flat=True))


def test(channel: Channel, who: Who, now: datetime) -> Delivery:
    """Queue a message that says that the channel works. Raises RefusedError."""
    if not channel.enabled:
        raise RefusedError(f"{channel.name} is switched off; nothing is sent there")
    with transaction.atomic():
        # a test that has not got through is as good as none: it makes room for this one
        Delivery.objects.filter(channel=channel, state=Delivery.State.QUEUED, key__startswith=Delivery.TEST).delete()
        delivery = Delivery.objects.create(
            channel=channel,
            key=f"{Delivery.TEST}{uuid.uuid4().hex}",
            subject="[test] Relay Web reaches this channel",
            body=f"{who.name} asked for this test of the channel {channel.name} at {utc(now)}. Nothing is wrong.",
            created_at=now,
            next_try_at=now,
        )
        announce(Change.Kind.ALERT, [0], now)
    return delivery
