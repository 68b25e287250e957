"""The weekly report: when it is due, that each channel gets it once, and that what it says is true."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from workers import reports
from workers.health import Health
from workers.models import Channel, Delivery, Incident, Installation, PollerGap, Worker
from workers.reports import Week, due_week, next_due, send_due

from . import factories

pytestmark = pytest.mark.django_db
#: Monday of 2026-W48; the report of W47 is due at eight.
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
EIGHT = MONDAY + timedelta(hours=8)
WEEK = Week(date(2026, 11, 16))


def installation(*channels: Channel, **fields: Any) -> Installation:
    found = Installation.get()
    for name, value in fields.items():
        setattr(found, name, value)
    found.save()
    found.report_channels.set(channels)
    return found


@pytest.fixture
def ops(db: None) -> Channel:
    return Channel.objects.create(name="ops", address="json://127.0.0.1:9/")


def incident(kind: str, detected: datetime, **fields: Any) -> Incident:
    values = {"host": "host-a", "worker_id": "w-1", "began": detected - timedelta(minutes=4), **fields}
    return Incident.objects.create(kind=kind, detected=detected, **values)


def ended(health: Health, number: int, at: datetime, **fields: Any) -> Worker:
    return factories.add(
        health, number, ended_at=at, health_since=at, first_seen_at=MONDAY - timedelta(days=60), **fields
    )


# -- when


@pytest.mark.parametrize(
    ("now", "name"),
    [
        (EIGHT - timedelta(seconds=1), None),
        (EIGHT, "2026-W47"),
        (EIGHT + timedelta(days=3), "2026-W47"),
        (MONDAY + timedelta(days=7, seconds=-1), "2026-W47"),
        (MONDAY + timedelta(days=7), None),  # its week is over, and the next is not due yet
        (EIGHT + timedelta(days=7), "2026-W48"),
    ],
)
def test_a_report_is_due_from_its_hour_to_the_end_of_the_week(now: datetime, name: str | None) -> None:
    week = due_week(Installation(), now)
    assert (week and week.name) == name


def test_the_hour_is_one_of_its_own_zone() -> None:
    berlin = Installation(report_zone="Europe/Berlin", report_weekday=2, report_hour=9)
    wednesday = datetime(2026, 11, 25, 8, tzinfo=UTC)  # nine in Berlin
    assert due_week(berlin, wednesday - timedelta(seconds=1)) is None
    week = due_week(berlin, wednesday)
    assert week
    assert week.since == datetime(2026, 11, 15, 23, tzinfo=UTC)
    assert week.until - week.since == timedelta(days=7)


def test_a_week_in_which_the_clocks_change_is_an_hour_longer_or_shorter() -> None:
    assert Week(date(2026, 10, 19), "Europe/Berlin").until - Week(
        date(2026, 10, 19), "Europe/Berlin"
    ).since == timedelta(days=7, hours=1)
    skipped = Installation(report_zone="Europe/Berlin", report_weekday=6, report_hour=2)  # 2026-03-29 02:00 is skipped
    assert due_week(skipped, datetime(2026, 3, 29, 0, 59, tzinfo=UTC)) is None
    assert due_week(skipped, datetime(2026, 3, 29, 1, 0, tzinfo=UTC))


def test_weeks_of_two_years() -> None:
    assert Week(date(2026, 12, 28)).name == "2026-W53"
    assert Week.of(datetime(2027, 1, 3, 12, tzinfo=UTC), "UTC").name == "2026-W53"
    assert Week.of(datetime(2027, 1, 4, tzinfo=UTC), "UTC").before.name == "2026-W53"


def test_a_zone_that_this_machine_does_not_know_counts_as_utc() -> None:
    assert due_week(Installation(report_zone="Mars/Base"), EIGHT)


def test_it_is_sent_once_to_each_channel_that_is_enabled(ops: Channel) -> None:
    chat = Channel.objects.create(name="chat", address="json://127.0.0.1:9/")
    off = Channel.objects.create(name="off", address="json://127.0.0.1:9/", enabled=False)
    installation(ops, chat, off)
    assert send_due(EIGHT - timedelta(seconds=1)) == 0
    assert send_due(EIGHT) == 2
    assert [send_due(EIGHT + timedelta(seconds=2 * n)) for n in range(3)] == [0, 0, 0]
    found = Delivery.objects.order_by("channel__name").values_list("channel__name", "key", "state", "next_try_at")
    assert list(found) == [(name, "report-2026-W47", "queued", EIGHT) for name in ("chat", "ops")]
    assert Installation.get().report_sent_for == date(2026, 11, 16)


def test_an_hour_that_was_missed_is_made_up_for_within_the_week(ops: Channel) -> None:
    installation(ops)
    assert send_due(EIGHT + timedelta(days=5)) == 1
    assert send_due(EIGHT + timedelta(days=7)) == 1
    assert set(Delivery.objects.values_list("key", flat=True)) == {"report-2026-W47", "report-2026-W48"}


def test_a_week_nobody_sent_is_not_made_up_for_later(ops: Channel) -> None:
    installation(ops)
    assert send_due(EIGHT + timedelta(days=21)) == 1
    assert [each.key for each in Delivery.objects.all()] == ["report-2026-W50"]


def test_without_a_channel_it_is_not_sent_and_not_counted_as_sent(ops: Channel) -> None:
    assert send_due(EIGHT) == 0
    installation()
    assert send_due(EIGHT) == 0
    installation(ops)
    assert send_due(EIGHT) == 1


def test_another_process_that_was_quicker_has_sent_it(ops: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    installation(ops)
    body_of = reports.body_of

    def other_is_quicker(*args: Any) -> str:
        monkeypatch.setattr(reports, "body_of", body_of)
        assert send_due(EIGHT) == 1
        return body_of(*args)

    monkeypatch.setattr(reports, "body_of", other_is_quicker)
    assert send_due(EIGHT) == 0
    assert Delivery.objects.count() == 1


def test_it_costs_one_query_while_it_is_not_due(ops: Channel) -> None:
    installation(ops, report_sent_for=date(2026, 11, 16))
    with CaptureQueriesContext(connection) as captured:
        send_due(EIGHT)
    assert len(captured) == 1


def test_when_the_next_one_goes(ops: Channel) -> None:
    found = installation(ops)
    assert next_due(found, MONDAY) == EIGHT
    assert next_due(found, EIGHT + timedelta(hours=1)) == EIGHT + timedelta(hours=1), "it was missed, so it goes now"
    found.report_sent_for = date(2026, 11, 16)
    assert next_due(found, EIGHT + timedelta(hours=1)) == EIGHT + timedelta(days=7)


# -- what it says


def test_its_figures_are_those_of_the_week(ops: Channel) -> None:
    factories.poller(started_at=MONDAY - timedelta(days=60), last_cycle_at=EIGHT)
    inside = MONDAY - timedelta(days=3)
    for number in range(1, 4):
        ended(Health.COMPLETED, number, inside)
    ended(Health.FAILED, 4, inside, task_id="task-a", error="disk\nfull")
    ended(Health.FAILED, 5, inside + timedelta(hours=1), task_id="task-b", retry_of="task-a", error="disk full again")
    ended(Health.FAILED, 6, WEEK.since - timedelta(seconds=1))  # the week before
    ended(Health.COMPLETED, 7, WEEK.until)  # the week after
    incident("stalled", inside, resolved=inside + timedelta(minutes=16), how="recovered by itself", cause="no sign")
    incident("zombie", inside, cause="no process")
    incident("zombie", WEEK.until)
    text = reports.body_of(WEEK, EIGHT)
    for line in (
        "Monday 16 November to Sunday 22 November 2026, UTC.",
        "Every host was watched all week.",
        "5 runs ended: 3 completed, 2 failed, 0 cancelled.",
        "Rate of success: 60% of those that completed or failed (the week before: 0%).",
        "2 incidents detected: 1 stalled, 1 zombie. One of them lasts to this day.",
        "Time to detect: half within 4 min, nine of ten within 4 min (2 cases).",
        "Time to resolve: half within 20 min, nine of ten within 20 min (1 case).",
        "  task-a: failed 2 times; last: disk full again",
    ):
        assert line in text.splitlines(), text


def test_a_week_without_anything_says_so_and_holds_no_zero_percent() -> None:
    factories.poller(started_at=MONDAY - timedelta(days=60), last_cycle_at=EIGHT)
    text = reports.body_of(WEEK, EIGHT)
    assert "No run ended in this week." in text
    assert "No incident was detected." in text
    assert "%" not in text
    ended(Health.CANCELLED, 1, MONDAY - timedelta(days=1))
    assert "Rate of success: none, since none completed or failed." in reports.body_of(WEEK, EIGHT)


def test_it_says_for_how_long_nobody_watched() -> None:
    factories.poller(started_at=MONDAY - timedelta(days=60), last_cycle_at=EIGHT)
    ended(Health.COMPLETED, 1, MONDAY - timedelta(days=1))
    began = MONDAY - timedelta(days=4)
    PollerGap.objects.create(host="host-a", began=began, ended=began + timedelta(hours=3, minutes=20))
    text = reports.body_of(WEEK, EIGHT)
    assert "Nobody watched host-a for 3 h 20 min of 7 d." in text
    assert "Every host" not in text


def test_the_link_leads_to_the_page_of_that_week(settings: Any) -> None:
    settings.RELAY_URL = "https://relay.example.com"
    assert "https://relay.example.com/history/report/?week=2026-W47" in reports.body_of(WEEK, EIGHT).splitlines()
    settings.RELAY_URL = ""
    assert "set RELAY_URL" in reports.body_of(WEEK, EIGHT)
