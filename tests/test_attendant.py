"""The one process that minds alerts: one leads, another follows when it is gone, a part that fails stops no other."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from workers import attendant
from workers.attendant import LEASE, Minder
from workers.models import Attendant

from .conftest import Home
from .running import Place, children, until
from .test_relay_command import answers, free_port

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ROUND = timedelta(seconds=2)
done: list[str] = []


def first(now: datetime) -> None:
    done.append("first")


def fails(now: datetime) -> None:
    done.append("fails")
    raise ValueError("the sky is falling")


def last(now: datetime) -> None:
    done.append("last")


HERE = f"{__name__}."
QUIET = [f"{HERE}first", f"{HERE}last"]


@pytest.fixture(autouse=True)
def _anew() -> None:
    done.clear()


@pytest.mark.django_db
def test_of_two_one_leads_and_goes_on_leading() -> None:
    one, other = Minder("poller", QUIET), Minder("web", QUIET)
    for number in range(30):
        assert one.round(NOW + number * ROUND)
        assert not other.round(NOW + number * ROUND)
    assert done == ["first", "last"] * 30
    assert Attendant.objects.get().process == one.name


@pytest.mark.django_db
def test_when_it_is_gone_the_other_takes_over_after_its_time_and_it_does_not_come_back() -> None:
    one, other = Minder("poller", QUIET), Minder("web", QUIET)
    one.round(NOW)
    assert not other.round(NOW + LEASE)
    assert other.round(NOW + LEASE + timedelta(milliseconds=1))
    assert not one.round(NOW + LEASE + ROUND), "it was only asleep, and finds another in its place"
    assert Attendant.objects.count() == 1


@pytest.mark.django_db
def test_who_ends_properly_lets_the_next_lead_at_once() -> None:
    one, other = Minder("poller", QUIET), Minder("web", QUIET)
    one.round(datetime.now(UTC))
    one.resign()
    assert other.round(datetime.now(UTC))


@pytest.mark.django_db
def test_a_part_that_fails_is_shown_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    minder = Minder("web", [f"{HERE}first", f"{HERE}fails", f"{HERE}nowhere", f"{HERE}last"])
    for number in range(3):
        minder.round(NOW + number * ROUND)
    assert done == ["first", "fails", "last"] * 3
    assert "fails: ValueError: the sky is falling" in Attendant.objects.get().error
    assert "nowhere" in Attendant.objects.get().error
    assert caplog.text.count("A round failed") == 2, "each is logged once, not every two seconds"
    minder._rounds = QUIET
    minder.round(NOW + 3 * ROUND)
    assert Attendant.objects.get().error == ""


@pytest.mark.django_db
def test_a_round_in_which_nothing_happens_costs_next_to_nothing() -> None:
    leader, other = Minder("poller"), Minder("web")
    leader.round(NOW)
    leader.round(NOW + ROUND)
    with CaptureQueriesContext(connection) as captured:
        leader.round(NOW + 2 * ROUND)
    assert len(captured) <= 16
    assert not [each for each in captured if not each["sql"].startswith("SELECT")]
    with CaptureQueriesContext(connection) as captured:
        other.round(NOW + 2 * ROUND)
    assert len(captured) <= 2


def test_every_part_of_a_round_is_there() -> None:
    from django.utils.module_loading import import_string

    for name in attendant.ROUNDS:
        assert callable(import_string(name))


def test_nothing_is_minded_where_the_application_is_only_imported() -> None:
    import threading

    import relay_web.asgi  # noqa: F401

    assert "attendant" not in {thread.name for thread in threading.enumerate()}


# -- real processes


def leader(place: Place) -> str:
    rows = place.query("SELECT process FROM workers_attendant WHERE until > strftime('%Y-%m-%d %H:%M:%f', 'now')")
    return str(rows[0][0]) if rows else ""


def pid_of(name: str) -> int:
    return int(name.split()[-2])


def test_a_leader_that_is_killed_is_followed_by_another(place: Place, home: Home) -> None:
    home.spec()
    port = free_port()
    process = place.start("relay", "--port", str(port))
    until(lambda: answers(port), what="an answer")
    before = until(lambda: leader(place), what="a leader")
    assert pid_of(before) in {process.pid, *children(process.pid)}
    if pid_of(before) == process.pid:  # the web leads: without it everything ends, and the next start goes on
        process.kill()
        process.wait()
        process = place.start("relay", "--port", str(port))
    else:
        os.kill(pid_of(before), signal.SIGKILL)
    after = until(lambda: (name := leader(place)) and name != before and name, 40, "another leader")
    assert pid_of(after) in {process.pid, *children(process.pid)}


def test_a_poller_that_hangs_is_noticed_by_the_web(place: Place, home: Home) -> None:
    """Stopped as by a debugger, it is not dead, so nobody starts it again; and it may have been the leader."""
    home.spec()
    port = free_port()
    process = place.start("relay", "--port", str(port))
    until(lambda: answers(port), what="an answer")
    (poller,) = until(lambda: place.query("SELECT pid FROM workers_poller WHERE last_cycle_at > ''"), what="a poll")[0]
    code = "from workers.models import AlertRule as R; R.objects.filter(kind='poller-silent').update(minutes=0.1)"
    assert place.run("shell", "-c", code).returncode == 0
    os.kill(poller, signal.SIGSTOP)
    try:
        rows = until(lambda: place.query("SELECT summary FROM workers_alert WHERE state = 'firing'"), 60, "an alert")
        assert "The poller of host-a is silent" in rows[0][0]
        assert pid_of(leader(place)) == process.pid
    finally:
        os.kill(poller, signal.SIGCONT)
    gone = "SELECT 1 FROM workers_alert WHERE state = 'resolved'"
    until(lambda: place.query(gone), 30, "its end")


def test_commands_mind_nothing(place: Place, home: Home) -> None:
    home.spec()
    assert place.run("poll", "--once").returncode == 0
    assert place.run("workers", "--json").returncode == 0
    assert place.query("SELECT COUNT(*) FROM workers_attendant") == [(0,)]
