"""Messages on their way: to a real webhook and a real mail server that are down, slow or refuse, then up again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from tests.running import until
from workers.alerting import deliver
from workers.alerting.deliver import CLAIM, LONGEST_DELAY, MOST_ONE_BY_ONE, NotSentError, Post, delay, scrub
from workers.models import Change, Channel, Delivery

from .receivers import MailServer, Receiver, Webhook

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECRETS = ("s3cret-w0rd", "t0ken-in-the-path")


@pytest.fixture(params=[Webhook, MailServer])
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    receiver: Receiver = request.param()
    yield receiver
    receiver.stop()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.stop()


class Office:
    """A channel, and somebody who sends what is due at the test's own times."""

    def __init__(self, address: str, send: deliver.Send | None = None) -> None:
        self.now = NOW
        self.channel = Channel.objects.create(name=address[:60], address=address)
        self.post = Post(send, clock=lambda: self.now)

    def queue(self, *subjects: str, **fields: Any) -> None:
        for subject in subjects:
            values = {"key": subject, "subject": subject, "body": f"about {subject}", "created_at": self.now}
            Delivery.objects.create(**{"channel": self.channel, "next_try_at": self.now, **values, **fields})

    def send(self, after: timedelta = timedelta(0)) -> None:
        self.now += after
        self.post.send_due(self.now)
        self.post.join()

    @property
    def states(self) -> list[str]:
        return list(Delivery.objects.order_by("pk").values_list("state", flat=True))

    @property
    def fresh(self) -> Channel:
        return Channel.objects.get(pk=self.channel.pk)


@pytest.fixture
def office(webhook: Webhook) -> Office:
    return Office(webhook.address)


def names(first: int, last: int) -> list[str]:
    return [f"message {number:02}" for number in range(first, last + 1)]


def test_what_is_due_is_sent_once_in_order(receiver: Receiver) -> None:
    office = Office(receiver.address)
    office.queue(*names(1, 3))
    office.queue("later", next_try_at=NOW + timedelta(hours=1))
    office.send()
    office.send()
    assert receiver.got == names(1, 3)
    assert "about message 01" in receiver.bodies[0]
    assert office.states == ["sent"] * 3 + ["queued"]
    assert (office.fresh.last_sent_at, office.fresh.failing_since) == (NOW, None)
    office.send(timedelta(hours=1))
    assert receiver.got[-1] == "later"


def test_a_channel_that_is_down_gets_everything_when_it_is_up_again(receiver: Receiver) -> None:
    office = Office(receiver.address)
    receiver.stop()
    office.queue(*names(1, 2))
    office.send()
    assert office.states == ["queued", "queued"]
    assert office.fresh.failing_since == NOW
    assert office.fresh.last_error
    assert Delivery.objects.get(key="message 01").tries == 1
    office.queue("message 03")
    office.send(timedelta(seconds=59))
    assert list(Delivery.objects.order_by("pk").values_list("tries", flat=True)) == [1, 0, 0], "they wait in order"
    receiver.start()
    office.send(timedelta(seconds=1))
    assert receiver.got == names(1, 3)
    assert office.states == ["sent"] * 3
    assert (office.fresh.failing_since, office.fresh.last_error) == (None, "")


def test_a_channel_that_refuses_is_tried_again_later_and_later(receiver: Receiver) -> None:
    office = Office(receiver.address)
    receiver.refuses = True
    office.queue("message 01")
    for tries in range(1, 5):
        office.send(delay(tries - 1) if tries > 1 else timedelta(0))
        assert receiver.tried == tries
        office.send(timedelta(0))
        assert receiver.tried == tries, "not before its time"
    receiver.refuses = False
    office.send(delay(4))
    assert receiver.got == ["message 01"]


def test_the_delay_grows_up_to_an_hour() -> None:
    assert [delay(tries) for tries in (1, 2, 3)] == [timedelta(minutes=minutes) for minutes in (1, 2, 4)]
    assert delay(7) == delay(10_000) == LONGEST_DELAY == timedelta(hours=1)


def test_after_three_days_it_is_given_up_and_the_next_gets_its_turn(office: Office, webhook: Webhook) -> None:
    webhook.refuses = True
    office.queue("message 01")
    office.send()
    office.queue("message 02", created_at=NOW + timedelta(days=3))
    webhook.refuses = False
    office.send(timedelta(days=3))
    assert (office.states, webhook.got) == (["given up", "sent"], ["message 02"])


def test_what_nobody_could_try_is_not_given_up(office: Office, webhook: Webhook) -> None:
    """The machine was off for a week."""
    office.queue("message 01")
    office.send(timedelta(days=7))
    assert webhook.got == ["message 01"]
    assert "This was to be told at 2026-11-24 12:00 UTC" in webhook.bodies[0]


def test_many_that_waited_are_one_message(receiver: Receiver) -> None:
    office = Office(receiver.address)
    receiver.refuses = True
    office.queue(*names(1, MOST_ONE_BY_ONE + 1))
    office.send()
    receiver.refuses = False
    office.send(timedelta(minutes=1))
    assert receiver.got == ["21 messages since 2026-11-24 12:00 UTC"]
    body = receiver.bodies[0]
    assert [name for name in names(1, 21) if name in body] == names(1, 21)
    assert body.index("message 01") < body.index("message 21")
    assert office.states == ["sent"] * 21


def test_twenty_are_told_one_by_one(office: Office, webhook: Webhook) -> None:
    office.queue(*names(1, MOST_ONE_BY_ONE))
    office.send()
    assert webhook.got == names(1, 20)


def test_a_slow_channel_is_waited_for_and_holds_up_no_other(webhook: Webhook) -> None:
    """It answers after apprise's own limit of 4 s would have given it up, and asked it to take the message again."""
    quick = Webhook()
    slow_office, office = Office(webhook.address), Office(quick.address)
    try:
        webhook.open.clear()
        slow_office.queue("slow 01")
        office.queue("message 02")
        office.post.send_due(NOW)
        until(lambda: quick.got == ["message 02"], what="the quick one")
        office.post.send_due(NOW)
        began = datetime.now(UTC)
        until(lambda: datetime.now(UTC) - began > timedelta(seconds=4.5), what="longer than apprise waits by itself")
        webhook.open.set()
        office.post.join()
        # by name: what another test has left behind may knock at the same port
        assert webhook.got.count("slow 01") == 1
        assert slow_office.states == ["sent", "sent"]
    finally:
        quick.stop()


def test_one_that_never_answers_is_put_down_as_failed_and_believed_when_it_does(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "TIME_LIMIT", 0.3)
    let_go = threading.Event()

    def for_ever(address: str, subject: str, body: str) -> None:
        let_go.wait(20)

    office = Office(webhook.address, for_ever)
    office.queue("message 01")
    office.send()
    assert (office.states, office.fresh.last_error) == (["queued"], "No answer within 0.3 s")
    let_go.set()
    until(lambda: office.states == ["sent"], what="the late answer to be believed")


def test_a_channel_that_is_switched_off_keeps_what_it_was_to_tell(office: Office, webhook: Webhook) -> None:
    Channel.objects.update(enabled=False)
    office.queue("message 01")
    office.send()
    assert (webhook.tried, office.states) == (0, ["queued"])
    Channel.objects.update(enabled=True)
    office.send()
    assert webhook.got == ["message 01"]


def test_a_test_does_not_wait_behind_what_failed_and_wakes_it(office: Office, webhook: Webhook) -> None:
    webhook.refuses = True
    office.queue(*names(1, 2))
    office.send()
    webhook.refuses = False
    office.queue("test 1")
    office.send(timedelta(seconds=5))
    assert webhook.got == ["test 1", *names(1, 2)]


def test_two_processes_never_send_the_same(office: Office, webhook: Webhook) -> None:
    office.queue(*names(1, 12))
    others = [Post(clock=lambda: NOW) for _ in range(2)]
    for post in (office.post, *others):
        post.send_due(NOW)
    for post in (office.post, *others):
        post.join()
    office.send()
    assert sorted(webhook.got) == names(1, 12)
    assert office.states == ["sent"] * 12


def test_a_crash_between_sending_and_marking_doubles_that_one_at_most(
    office: Office, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.queue(*names(1, 3))

    def crash(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(deliver, "_note", crash)
        office.send()
    assert webhook.got == ["message 01"]
    office.send(CLAIM - timedelta(seconds=1))
    assert webhook.got == ["message 01"], "it may still be on its way, and the rest wait for it"
    office.send(timedelta(seconds=1))
    assert webhook.got == ["message 01", *names(1, 3)]


def test_the_pages_hear_of_it(office: Office) -> None:
    office.queue("message 01")
    office.send()
    assert Change.objects.filter(kind="alert").exists()


def test_no_error_and_no_log_shows_a_secret(
    office: Office, webhook: Webhook, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)  # of what is printed, too
    office.queue("message 01")
    webhook.stop()
    office.send()
    webhook.start()
    webhook.refuses = True
    office.send(timedelta(minutes=1))
    said = [office.fresh.last_error, *Delivery.objects.values_list("error", flat=True)]
    assert all(said)
    everything = " ".join([*said, *capfd.readouterr()])
    assert not [secret for secret in SECRETS if secret in everything]
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT error FROM workers_delivery")
        assert "500" in cursor.fetchone()[0], "what went wrong is still said"


def test_whatever_a_plugin_says_is_scrubbed() -> None:
    address = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23al%20erts?password=hunter2"
    text = "POST https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ (#al erts, hunter2)"
    shown = scrub(text, address)
    assert shown == "POST https://hooks.slack.com/services/•••/•••/••• (•••, •••)" or "hunter2" not in shown
    for secret in ("T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ", "hunter2"):
        assert secret not in shown


def test_an_address_of_another_secret_key_is_an_error_that_says_what_to_do(office: Office) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE workers_channel SET address = 'gAAAAnonsense'")
    office.queue("message 01")
    office.send()
    assert "enter it again" in office.fresh.last_error


def test_a_plugin_that_breaks_is_a_failure_like_any_other(webhook: Webhook) -> None:
    def breaks(address: str, subject: str, body: str) -> None:
        raise ValueError(f"cannot use {address}")

    office = Office(webhook.address, breaks)
    office.queue("message 01")
    office.send()
    assert office.states == ["queued"]
    assert "ValueError" in office.fresh.last_error
    assert "s3cret" not in office.fresh.last_error


def test_what_apprise_does_not_understand_cannot_be_sent() -> None:
    assert deliver.understood("json://127.0.0.1/x")
    assert not deliver.understood("carrier-pigeon://roof")
    with pytest.raises(NotSentError, match="does not understand"):
        deliver.through_apprise("carrier-pigeon://roof", "s", "b")
