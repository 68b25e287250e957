"""The page of alerts and the bell of every page: what they show, who may do what, and that both are live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from workers.alerting import people
from workers.alerting.evaluate import Eye
from workers.health import Health
from workers.models import Alert, AlertRule, Attendant, Channel, Delivery, SettingChange, Severity
from workers.queries.alerts import AlertsQuery, alerts
from workers.queries.watch import watches
from workers.who import Who

from . import factories
from .markup import flat
from .sockets import Socket, opened

pytestmark = pytest.mark.django_db
ALERTS = "/alerts/"


def rule(name: str = "Too many zombies", kind: str = "zombies", **fields: Any) -> AlertRule:
    return AlertRule.objects.get_or_create(name=name, defaults={"kind": kind, **fields})[0]


def alert(summary: str = "12 zombies", severity: int = Severity.WARNING, **fields: Any) -> Alert:
    now = datetime.now(UTC)
    values: dict[str, Any] = {"rule": rule(), "rule_name": "Too many zombies", "state": "firing", "cause": summary}
    values |= {"began": now, "fired": now - timedelta(minutes=5), "told": now, "times_told": 1}
    return Alert.objects.create(**{**values, "summary": summary, "severity": severity, **fields})


def over(summary: str, **fields: Any) -> Alert:
    return alert(summary, state="resolved", resolved=datetime.now(UTC), **fields)


def channel(name: str = "mail", **fields: Any) -> Channel:
    return Channel.objects.create(name=name, address="json://127.0.0.1:9/x", **fields)


def page(client: Client, query: str = "") -> str:
    answer = client.get(ALERTS + query)
    assert answer.status_code == 200
    return flat(answer.content.decode())


# -- what is shown


def test_open_alerts_come_first_the_gravest_on_top_then_the_past(as_viewer: Client) -> None:
    over("long ago")
    alert("a small thing", Severity.INFO)
    alert("a grave thing", Severity.CRITICAL)
    alert("not yet", state="pending")
    shown = page(as_viewer)
    shown = shown[shown.index('id="alerts"') :]
    assert shown.index("a grave thing") < shown.index("a small thing") < shown.index("long ago")
    assert "not yet" not in shown


def test_it_says_how_often_it_was_told_and_how_each_channel_did(as_viewer: Client) -> None:
    it = alert(times_told=2)
    for name, state, error in (("mail", "sent", ""), ("chat", "queued", "500"), ("pager", "given up", "gone")):
        moment = datetime.now(UTC)
        values = {"subject": "s", "body": "b", "created_at": moment, "next_try_at": moment}
        Delivery.objects.create(channel=channel(name), alert=it, key=name, state=state, error=error, **values)
    shown = page(as_viewer)
    for words in ("Told 2 times", "mail: sent", "chat: waits, failed before", "pager: given up"):
        assert words in shown
    Alert.objects.update(times_told=0, held_back="quiet hours")
    assert "Not told yet: quiet hours" in page(as_viewer)


@pytest.mark.parametrize("enabled", [True, False])
def test_no_alert_is_a_page_that_says_what_is_watched(as_viewer: Client, enabled: bool) -> None:
    rule()
    AlertRule.objects.update(enabled=enabled)
    assert ("the fleet. What they find" in page(as_viewer)) == enabled
    assert ("No rule is switched on" in page(as_viewer)) != enabled
    assert "There is no channel" in page(as_viewer)


def test_a_filter_lives_in_the_address_and_what_cannot_be_used_is_named(as_viewer: Client) -> None:
    alert("a small thing", Severity.INFO)
    alert("a grave thing", Severity.CRITICAL)
    shown = page(as_viewer, "?severity=info")
    assert "a small thing" in shown
    assert 'id="alert-' in shown
    assert "a grave thing" not in shown[shown.index('id="alerts"') :]
    shown = page(as_viewer, "?severity=dire&page=-1")
    assert "the severity “dire”" in shown
    assert "page “-1”" in shown
    assert "No open alert matches" in page(as_viewer, "?rule=no+such")


@pytest.mark.parametrize("text", ["severity=warning&rule=A+%26+B&page=3", "", "rule=x"])
def test_a_view_and_its_query_string_say_the_same(text: str) -> None:
    query = AlertsQuery.parse(QueryDict(text))
    assert AlertsQuery.parse(QueryDict(query.string.removeprefix("?"))) == query
    assert not query.ignored


def test_the_past_has_pages(as_viewer: Client) -> None:
    for number in range(51):
        over(f"past {number:02}")
    assert "Page 1 of 2" in page(as_viewer)
    assert page(as_viewer, "?page=2").count('<article class="alert') == 1
    assert "as there are only 2" in page(as_viewer, "?page=9")


def test_the_number_of_queries_does_not_grow_with_the_alerts(as_viewer: Client) -> None:
    alert()
    with CaptureQueriesContext(connection) as few:
        page(as_viewer)
    for number in range(30):
        alert(f"alert {number}")
        over(f"past {number}")
        channel(f"channel {number}")
    with CaptureQueriesContext(connection) as many:
        page(as_viewer)
    assert len(many) == len(few)


# -- the bell


def test_every_page_has_a_bell_with_the_open_alerts_that_nobody_has_acknowledged(as_viewer: Client) -> None:
    for address in ("/", "/events/", "/integrity/", ALERTS):
        assert "Alerts: none open" in as_viewer.get(address).content.decode()
    alert("one")
    alert("two", acknowledged=datetime.now(UTC))
    over("three")
    shown = flat(as_viewer.get("/events/").content.decode())
    assert "1 open alert <" in shown
    assert "<title>▲ Events" in shown
    assert "Critical:" not in shown
    alert("the worst", Severity.CRITICAL)
    shown = flat(as_viewer.get("/events/").content.decode())
    assert "2 open alerts, 1 critical" in shown
    assert "<b>Critical:</b> the worst" in shown
    assert as_viewer.get("/icon/alert.svg").status_code == 200


def test_a_silent_poller_has_one_banner_not_two(as_viewer: Client) -> None:
    factories.poller(last_cycle_at=datetime.now(UTC) - timedelta(minutes=5))
    alert("The poller is silent", Severity.CRITICAL, rule=rule("Poller silent", "poller-silent", minutes=1))
    shown = as_viewer.get("/").content.decode()
    assert "The poller of host-a is silent." in shown
    assert "<b>Critical:</b>" not in shown


def test_only_what_people_have_been_told_is_a_notification(as_viewer: Client) -> None:
    shown = alert("told")
    alert("in the quiet", told=None, times_told=0)
    alert("told again", times_told=2)
    assert [ring.pk for ring in watches(datetime.now(UTC)).rings if ring.new] == [shown.pk]
    assert page(as_viewer).count("data-alert=") == 1


def test_it_says_who_minds_all_this_and_what_of_it_fails(as_viewer: Client) -> None:
    assert "No process looks at rules" in page(as_viewer)
    now = datetime.now(UTC)
    Attendant.objects.create(process="host-a web 7", until=now + timedelta(seconds=15), error="")
    assert "by host-a web 7" in page(as_viewer)
    Attendant.objects.update(error="look: ValueError: no")
    assert "A part of its work fails: look: ValueError: no" in page(as_viewer)
    Attendant.objects.update(until=now - timedelta(seconds=1))
    assert "No process looks at rules" in page(as_viewer)


# -- what people do


def deeds() -> dict[str, tuple[str, dict[str, str]]]:
    return {
        "acknowledge": (reverse("alert-acknowledge", args=[alert("mine").pk]), {"reason": "I see to it"}),
        "mute": (reverse("rule-mute", args=[rule().pk]), {"reason": "known", "for": "hour"}),
        "test": (reverse("channel-test", args=[channel("c").pk]), {}),
    }


@pytest.mark.parametrize(
    ("deed", "allowed"), [("acknowledge", ("operator", "admin")), ("mute", ("admin",)), ("test", ("admin",))]
)
def test_who_may_do_what(
    deed: str, allowed: tuple[str, ...], as_viewer: Client, as_operator: Client, as_admin: Client, client: Client
) -> None:
    address, values = deeds()[deed]
    for role, who in (("viewer", as_viewer), ("operator", as_operator), ("admin", as_admin)):
        Alert.objects.update(acknowledged=None)
        assert who.post(address, values).status_code == (302 if role in allowed else 403), role
        assert who.get(address).status_code == 405
    assert client.post(address, values)["Location"].startswith(reverse("login"))


def test_the_buttons_of_what_one_may_not_do_are_there_and_say_why(as_viewer: Client, as_operator: Client) -> None:
    alert()
    channel()
    denied = 'disabled title="Your role may not do that'
    assert page(as_viewer).count(denied) == 4
    assert page(as_operator).count(denied) == 3
    assert 'data-may="' in page(as_operator)
    assert "acknowledge-alert" in page(as_operator).split('data-may="')[1].split('"')[0]


def test_somebody_acknowledges_with_a_reason_and_the_bell_is_silent(as_operator: Client) -> None:
    it = alert()
    address = reverse("alert-acknowledge", args=[it.pk])
    answer = flat(as_operator.post(address, {"reason": " "}, follow=True).content.decode())
    assert "Say why, or what you do about it" in answer
    assert "1 open alert <" in answer
    answer = as_operator.post(address, {"reason": "Kim is on it"}, follow=True).content.decode()
    assert "<b>operator</b> acknowledged it" in answer
    assert "Kim is on it" in answer
    assert "Alerts: none open" in answer
    assert "acknowledged it before you" in as_operator.post(address, {"reason": "me too"}, follow=True).content.decode()
    assert Alert.objects.get().acknowledged_reason == "Kim is on it"
    over_address = reverse("alert-acknowledge", args=[over("past").pk])
    assert "It is over already" in as_operator.post(over_address, {"reason": "late"}, follow=True).content.decode()


def test_an_admin_mutes_a_rule_for_an_hour_until_tomorrow_and_no_longer(as_admin: Client) -> None:
    it = rule(quiet_zone="Europe/Berlin")
    alert()
    AlertRule.objects.filter(pk=it.pk).update(quiet_zone="Europe/Berlin")
    address = reverse("rule-mute", args=[it.pk])
    as_admin.post(address, {"reason": "we know", "for": "hour"})
    it.refresh_from_db()
    assert it.muted_until
    assert timedelta(minutes=59) < it.muted_until - datetime.now(UTC) <= timedelta(hours=1)
    assert "Rule muted until" in page(as_admin)
    as_admin.post(address, {"reason": "we know", "for": "tomorrow"})
    it.refresh_from_db()
    assert it.muted_until
    assert it.muted_until.hour in (6, 7), "eight in Berlin"
    as_admin.post(address, {"for": "end"})
    it.refresh_from_db()
    assert (it.muted_until, it.muted_reason) == (None, "")
    changes = SettingChange.objects.order_by("pk")
    assert [each.actor for each in changes] == ["admin"] * 3
    assert "we know" in changes[0].new
    assert "Say why" in as_admin.post(address, {"for": "hour"}, follow=True).content.decode()
    assert "Say for how long" in as_admin.post(address, {"reason": "x", "for": "ever"}, follow=True).content.decode()


def test_a_test_is_queued_once_and_its_state_is_shown(as_admin: Client) -> None:
    it = channel()
    for _ in range(2):
        shown = as_admin.post(reverse("channel-test", args=[it.pk]), follow=True).content.decode()
    assert "on its way" in shown
    assert Delivery.objects.get().key.startswith(Delivery.TEST)
    Delivery.objects.update(error="500")
    assert "failed, tried again" in page(as_admin)
    Delivery.objects.update(state="sent", sent_at=datetime.now(UTC), error="")
    assert "✓</i> sent" in page(as_admin)
    Channel.objects.update(enabled=False)
    shown = as_admin.post(reverse("channel-test", args=[it.pk]), follow=True).content.decode()
    assert "is switched off; nothing is sent there" in shown


def test_of_all_tests_that_were_ever_sent_only_the_newest_is_read_and_no_message(as_viewer: Client) -> None:
    for it in (channel("a"), channel("b")):
        for number in range(3):
            Delivery.objects.create(
                channel=it,
                key=f"{Delivery.TEST}{number}",
                subject="s",
                body="a long text",
                state="sent",
                **dict.fromkeys(
                    ("created_at", "next_try_at", "sent_at"), datetime.now(UTC) - timedelta(days=9 - number)
                ),
            )
    with CaptureQueriesContext(connection) as asked:
        found = alerts(AlertsQuery(), datetime.now(UTC))
    assert {row.channel.name: row.test.key for row in found.channels if row.test} == {"a": "test 2", "b": "test 2"}
    assert not [query for query in asked if '"body"' in query["sql"]]


def test_htmx_gets_the_list_alone_with_what_was_refused(as_operator: Client) -> None:
    it = alert()
    address = reverse("alert-acknowledge", args=[it.pk])
    answer = as_operator.post(address, {"reason": ""}, follow=True, headers={"HX-Target": "alerts"}).content.decode()
    assert flat(answer).startswith('<section id="alerts"')
    assert "Say why" in answer


# -- live


@pytest.mark.django_db(transaction=True)
async def test_an_alert_that_fires_is_on_the_page_and_in_the_bell_at_once(as_viewer: Client) -> None:
    def fire() -> None:
        rule().delete()
        rule(threshold=1)
        factories.add(Health.ZOMBIE)
        assert Eye().look(datetime.now(UTC))

    await sync_to_async(factories.poller)()
    async with opened(as_viewer, "/ws/live/?view=alerts") as communicator:
        socket = Socket(communicator)
        await socket.frame('(?s)id="alerts".*No alert is open')
        await sync_to_async(fire)()
        await socket.frame('(?s)id="alerts".*1 zombie')
        if not any("1 open alert" in flat(text) for text in socket.frames):  # the one may overtake the other
            await socket.frame('id="bell".*1 open alert')


@pytest.mark.django_db(transaction=True)
async def test_a_page_that_shows_no_alerts_gets_the_bell_alone(as_viewer: Client) -> None:
    it = await sync_to_async(alert)()
    async with opened(as_viewer, "/ws/live/?view=events") as communicator:
        socket = Socket(communicator)
        await socket.frame('id="bell".*1 open alert')
        await sync_to_async(people.acknowledge)(it, Who("kim"), "mine", datetime.now(UTC))
        await socket.frame('id="bell".*none open')
        assert not [text for text in socket.frames if 'id="alerts"' in text]
