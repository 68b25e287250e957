"""Alerts out of rows: what fires is stored and queued once, in one transaction, for those who are to hear of it."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from workers.alerting import defaults
from workers.alerting.evaluate import Eye
from workers.health import Health
from workers.models import Alert, AlertRule, Change, Channel, Delivery, Installation, Poller, Severity, Worker

from . import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LOOK = timedelta(seconds=2)


class Clock:
    """Looks at the test's own times, with pollers that look just as often."""

    def __init__(self) -> None:
        self.now = NOW
        self.eye = Eye()
        factories.poller(last_cycle_at=NOW, pm_last_loop=NOW, unreadable=0)

    def look(self, times: int = 1, after: timedelta = LOOK, *, polled: bool = True) -> bool:
        looked = False
        for _ in range(times):
            self.now += after
            if polled:
                Poller.objects.update(last_cycle_at=self.now)
            looked = self.eye.look(self.now)
        return looked


@pytest.fixture
def clock(db: None) -> Clock:
    AlertRule.objects.all().delete()
    return Clock()


def rule(kind: str = "zombies", *, channels: int = 1, **fields: Any) -> AlertRule:
    made = AlertRule.objects.create(name=fields.pop("name", kind), kind=kind, **fields)
    made.channels.set([channel(f"channel {number}") for number in range(channels)])
    return made


def channel(name: str, **fields: Any) -> Channel:
    return Channel.objects.get_or_create(name=name, defaults={"address": "json://127.0.0.1:9/x", **fields})[0]


def zombies(count: int, first: int = 1, health: Health = Health.ZOMBIE, **fields: Any) -> None:
    for number in range(first, first + count):
        factories.add(health, number, now=NOW, worker_id=f"w-{number:03}", **fields)


def sent() -> list[str]:
    return list(Delivery.objects.order_by("pk").values_list("key", flat=True))


def test_forty_zombies_are_one_alert_and_one_message_a_channel(clock: Clock) -> None:
    rule(threshold=10, channels=2)
    zombies(40)
    clock.look(3)
    alert = Alert.objects.get()
    assert (alert.state, alert.count, alert.times_told) == ("firing", 40, 1)
    assert alert.summary.startswith("40 zombies: w-001")
    assert Delivery.objects.count() == 2
    assert {each.subject for each in Delivery.objects.all()} == {f"[warning] {alert.summary}"}
    assert Change.objects.filter(kind="alert", key=alert.pk).exists()


def test_it_is_over_when_they_are_gone_and_those_who_heard_of_it_hear_that(clock: Clock) -> None:
    it = rule(threshold=2)
    zombies(2)
    clock.look()
    it.channels.add(channel("came later"))
    Worker.objects.update(health="healthy")
    factories.tell(Worker.objects.all())
    clock.look()
    alert = Alert.objects.get()
    assert (alert.state, alert.resolved) == ("resolved", clock.now)
    assert sent() == [f"alert {alert.pk} fired 1", f"alert {alert.pk} over 1"]
    assert Delivery.objects.last().subject.startswith("[over] 2 zombies")  # type: ignore[union-attr]


def test_what_held_too_shortly_leaves_nothing_behind(clock: Clock) -> None:
    rule(threshold=1, cycles=3)
    zombies(1)
    clock.look(2)
    assert Alert.objects.get().state == "pending"
    assert not Change.objects.filter(kind="alert").exists()
    Worker.objects.update(health="healthy")
    clock.look()
    assert not Alert.objects.exists()
    assert sent() == []


def test_a_worker_that_flaps_is_told_once(clock: Clock) -> None:
    rule("health", health="zombie", minutes=0, cycles=3)
    zombies(1)
    clock.look(3)
    for _ in range(5):
        Worker.objects.update(health="healthy")
        clock.look(2)
        Worker.objects.update(health="zombie")
        clock.look(2)
    assert len(sent()) == 1


def test_time_alone_makes_a_worker_stalled_for_too_long(clock: Clock) -> None:
    """Nothing changes in the database between the two looks."""
    rule("health", health="stalled", minutes=10)
    zombies(1, health=Health.STALLED, health_since=NOW - timedelta(minutes=9, seconds=50))
    clock.look(4)
    assert not Alert.objects.exists()
    clock.look()
    assert Alert.objects.get().cause == "scan-worker"


def test_nothing_new_is_not_looked_at_again(clock: Clock) -> None:
    rule(threshold=10)
    zombies(40)
    clock.look(2)
    with CaptureQueriesContext(connection) as captured:
        assert not clock.eye.look(clock.now + LOOK)
    assert len(captured) == 6, "its settings, its pollers and the outbox"
    assert not any("UPDATE" in each["sql"] or "INSERT" in each["sql"] for each in captured)


def test_a_look_takes_the_same_queries_however_many_rules_and_workers_there_are(clock: Clock) -> None:
    rule(threshold=10)
    rule("mass", threshold=50)
    rule("failure-rate", threshold=50, minutes=60)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            Eye().look(NOW + LOOK)
        return len(captured)

    few = queries()
    for number in range(20):
        rule("health", name=f"rule {number}", health="healthy", minutes=1000 + number)
        rule("failure-rate", name=f"rate {number}", threshold=50, minutes=60 + number)
    zombies(9)
    zombies(60, 10, Health.HEALTHY)
    assert queries() == few


def test_a_change_of_a_setting_takes_effect_at_the_next_look(clock: Clock) -> None:
    it = rule(threshold=10)
    zombies(5)
    clock.look(3)
    assert not Alert.objects.exists()
    AlertRule.objects.filter(pk=it.pk).update(threshold=5)
    clock.look()
    assert Alert.objects.get().state == "firing"
    AlertRule.objects.filter(pk=it.pk).update(enabled=False)
    clock.look()
    assert Alert.objects.get().state == "resolved"
    assert len(sent()) == 1, "nobody minds it any more, which is no good news to tell"


def test_a_rule_that_is_deleted_leaves_its_alert_among_the_past(clock: Clock) -> None:
    rule(threshold=1, name="my rule")
    zombies(1)
    clock.look()
    AlertRule.objects.all().delete()
    clock.look()
    assert (Alert.objects.get().state, Alert.objects.get().rule_name) == ("resolved", "my rule")


def test_a_severity_that_a_channel_does_not_want_is_not_sent_there(clock: Clock) -> None:
    it = rule("damaged", threshold=1, severity=Severity.INFO, channels=0)
    it.channels.set([channel("all", least_severity=1), channel("grave", least_severity=3)])
    it.channels.add(channel("off", least_severity=1, enabled=False))
    Poller.objects.update(unreadable=2)
    clock.look()
    assert [each.channel.name for each in Delivery.objects.all()] == ["all"]
    assert Alert.objects.get().summary == "2 spec files cannot be read on host-a"


def test_in_maintenance_nobody_is_told_until_it_is_over(clock: Clock) -> None:
    rule(threshold=1)
    zombies(1)
    Installation.get()
    Installation.objects.update(maintenance_until=NOW + timedelta(seconds=7))
    clock.look(3)
    assert (sent(), Alert.objects.get().held_back) == ([], "maintenance")
    clock.look()
    assert (len(sent()), Alert.objects.get().held_back) == (1, "")


def test_an_end_in_quiet_hours_waits_for_their_end(clock: Clock) -> None:
    it = rule(threshold=1)
    zombies(1)
    clock.look()
    AlertRule.objects.filter(pk=it.pk).update(quiet_from=time(12), quiet_until=time(14), quiet_zone="UTC")
    Worker.objects.all().delete()
    clock.look()
    assert [each.next_try_at for each in Delivery.objects.order_by("pk")] == [NOW + LOOK, NOW + timedelta(hours=2)]


def test_while_it_lasts_it_is_told_again_until_it_is_acknowledged(clock: Clock) -> None:
    rule(threshold=1, repeat_minutes=1)
    zombies(1)
    clock.look(32)
    assert len(sent()) == 2
    Alert.objects.update(acknowledged=clock.now)
    clock.look(60)
    assert len(sent()) == 2


def test_a_mass_death_is_one_message(clock: Clock) -> None:
    rule("mass", threshold=50, at_least=3, severity=3)
    rule(threshold=5)
    rule("health", health="crashed", minutes=0)
    zombies(4, health=Health.HEALTHY)
    zombies(6, 5)
    zombies(6, 11, Health.CRASHED)
    clock.look(3)
    assert Alert.objects.filter(state="firing").count() > 2
    assert [each.alert.rule_name for each in Delivery.objects.all() if each.alert] == ["mass"]
    assert "12 of 16 running workers are lost" in Delivery.objects.get().subject
    Worker.objects.filter(health="crashed").delete()
    zombies(8, 30, Health.HEALTHY)
    clock.look()
    told = [each.subject[:12] for each in Delivery.objects.order_by("pk")]
    assert told == ["[critical] 1", "[over] 12 of", "[warning] 6 "], "what is left of it is told now"


def test_a_mass_death_in_its_quiet_hours_keeps_nobody_from_hearing_of_the_zombies(clock: Clock) -> None:
    rule("mass", threshold=50, at_least=3, severity=3, quiet_from=time(11), quiet_until=time(19))
    rule(threshold=5)
    zombies(6)
    clock.look(3)
    assert {each.rule_name: each.held_back for each in Alert.objects.all()} == {"mass": "quiet hours", "zombies": ""}
    assert [each.alert.rule_name for each in Delivery.objects.all() if each.alert] == ["zombies"]


def test_runs_that_fail_too_often(clock: Clock) -> None:
    rule("failure-rate", threshold=50, at_least=5, minutes=60)
    for number in range(3):
        factories.add(Health.FAILED, number, now=NOW, worker_type="scan-worker")
    factories.add(Health.COMPLETED, 8, now=NOW)
    factories.add(Health.COMPLETED, 9, now=NOW, ended_at=NOW - timedelta(hours=2))
    clock.look()
    assert not Alert.objects.exists(), "three of four, and the fifth ended too long ago"
    factories.add(Health.FAILED, 10, now=NOW)
    clock.look()
    assert Alert.objects.get().summary == "4 of 5 runs failed in the last 1 h"


def test_a_silent_poller_and_what_was_seen_before_it_fell_silent(clock: Clock) -> None:
    rule(threshold=1)
    rule("poller-silent", minutes=1)
    zombies(1)
    clock.look()
    clock.look(4, polled=False)
    Worker.objects.all().delete()
    clock.look(30, polled=False)
    assert dict(Alert.objects.values_list("cause", "state")) == {"": "firing", "host-a": "firing"}
    clock.look()
    assert dict(Alert.objects.values_list("cause", "state")) == {"": "resolved", "host-a": "resolved"}


def test_without_a_number_of_its_own_the_rule_takes_the_fleets(clock: Clock) -> None:
    rule()
    zombies(4)
    clock.look(3)
    assert not Alert.objects.exists()
    Poller.objects.update(prevention={"zombie_threshold": 4})
    clock.look()
    assert Alert.objects.get().count == 4


def test_a_silent_pm_daemon(clock: Clock) -> None:
    rule("pm-silent", minutes=10)
    Poller.objects.update(pm_last_loop=NOW - timedelta(minutes=9, seconds=57))
    clock.look()
    assert not Alert.objects.exists()
    clock.look()
    assert Alert.objects.get().cause == "host-a"


def test_two_that_look_at_the_same_time_tell_once(clock: Clock) -> None:
    rule(threshold=1)
    zombies(1)
    other = Eye()
    for _ in range(3):
        clock.look()
        other.look(clock.now)
    assert Alert.objects.count() == len(sent()) == 1


def test_a_new_installation_has_rules_that_hold_water() -> None:
    assert {each.name for each in AlertRule.objects.all()} == {each["name"] for each in defaults.RULES}
    for each in AlertRule.objects.all():
        each.full_clean()
    assert Eye().look(NOW)
    assert not Alert.objects.exists()
