"""What is forgotten, and what is not: nothing that lasts, nothing that people did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from workers import retention
from workers.attendant import EVERY, ROUNDS
from workers.health import Health
from workers.models import Alert, Channel, Decision, Delivery, Policy, Remediation, Worker
from workers.retention import prune

from . import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OLD, YOUNG = NOW - timedelta(days=91), NOW - timedelta(days=89)


def alert(state: str = "resolved", ended: datetime | None = OLD) -> Alert:
    return Alert.objects.create(
        rule_name="r", cause=str(Alert.objects.count()), severity=2, state=state, summary="s", began=OLD, resolved=ended
    )


def delivery(state: str = "sent", at: datetime = OLD, **fields: Any) -> Delivery:
    channel = Channel.objects.get_or_create(name="c", defaults={"address": "json://127.0.0.1:9/x"})[0]
    key = f"key {Delivery.objects.count()}"
    values = {"channel": channel, "key": key, "subject": "s", "body": "b", "created_at": at, "next_try_at": at}
    return Delivery.objects.create(state=state, **values, **fields)


def decision(worker: Worker, at: datetime = OLD, **fields: Any) -> Decision:
    policy = Policy.objects.get_or_create(name="p", defaults={"action": "clean-up", "health": "zombie"})[0]
    values = {"policy": policy, "worker": worker, "at": at, "verdict": Decision.Verdict.HELD_BACK, "why": "w"}
    return Decision.objects.create(**{**values, **fields})


def test_messages_go_that_are_old_and_on_no_way_any_more() -> None:
    lasting = alert("firing", None)
    stays = {
        "young": delivery(at=YOUNG),
        "on its way": delivery("queued"),
        "says who is to hear of the end": delivery(alert=lasting),
        "of an alert that ended of late": delivery("queued", alert=alert(ended=YOUNG)),
    }
    for state in ("sent", "given up"):
        delivery(state)
        delivery(state, alert=alert())
    delivery("queued", alert=alert())  # its channel is switched off
    prune(NOW)
    assert {each.pk for each in Delivery.objects.all()} == {each.pk for each in stays.values()}


def test_alerts_go_that_ended_long_ago() -> None:
    stays = [alert(ended=YOUNG), alert("firing", None), alert("pending", None)]
    delivery(alert=alert())
    alert()
    prune(NOW)
    assert list(Alert.objects.order_by("pk")) == stays


def test_decisions_go_that_led_to_nothing_and_are_of_no_live_run() -> None:
    live, over = factories.add(Health.ZOMBIE), factories.add(Health.FAILED, 2)
    done = factories.repair(over, "done")
    stays = [decision(live), decision(over, YOUNG), decision(over, verdict="does", remediation=done)]
    decision(over)
    decision(over, verdict="would")
    prune(NOW)
    assert list(Decision.objects.order_by("pk")) == stays
    assert Remediation.objects.exists()


def test_sessions_go_that_have_expired(settings: Any) -> None:
    for key, days in (("before", -1), ("after", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=datetime.now(UTC) + timedelta(days=days))
    prune(NOW)
    assert Session.objects.get().session_key == "after"


@pytest.mark.parametrize(
    ("kind", "values"), [(AccessLog, {}), (AccessAttempt, {"failures_since_start": 1}), (AccessFailureLog, {})]
)
def test_who_signed_in_long_ago_is_forgotten(kind: type[Model], values: dict[str, int]) -> None:
    for name, at in (("old", OLD), ("young", YOUNG)):
        row = kind._default_manager.create(username=name, ip_address="127.0.0.1", **values)
        kind._default_manager.filter(pk=row.pk).update(attempt_time=at)
    prune(NOW)
    assert kind._default_manager.values_list("username", flat=True).get() == "young"


@pytest.mark.parametrize(("days", "ages"), [(1, {5, 6}), (30, {5, 6, 10}), (3_650, {5, 6, 10, 40})])
def test_it_is_as_long_as_events_are_kept_but_a_week_at_least(settings: Any, days: int, ages: set[int]) -> None:
    settings.RELAY_EVENT_DAYS = days
    for age in (5, 6, 10, 40):
        delivery(at=NOW - timedelta(days=age))
    prune(NOW)
    assert {(NOW - each.created_at).days for each in Delivery.objects.all()} == ages


def test_a_backlog_goes_in_small_transactions_and_not_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    monkeypatch.setattr(retention, "MOST", 2)
    for _ in range(10):
        delivery()
    prune(NOW)
    assert Delivery.objects.count() == 4
    prune(NOW)
    assert not Delivery.objects.exists()


def test_nothing_to_forget_costs_next_to_nothing() -> None:
    delivery(at=YOUNG)
    with CaptureQueriesContext(connection) as asked:
        prune(NOW)
    assert [query["sql"].split()[0] for query in asked] == ["SELECT"] * 6 + ["DELETE"]


def test_the_attendant_sees_to_it_now_and_then() -> None:
    assert "workers.retention.prune" in ROUNDS
    assert EVERY["workers.retention.prune"] >= 60
