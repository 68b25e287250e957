"""A host that is gone for good: an admin retires it, and its silence rings no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from workers.cycle import Cycle
from workers.dead_man import all_is_well
from workers.health import Health
from workers.incidents import How
from workers.lease import Lease, PlaceTakenError
from workers.models import Finding, HealthChange, HostProcesses, Incident, Poller, PollerGap, SettingChange, Worker
from workers.queries import watches
from workers.queries.past import PastQuery, past_fleet
from workers.retirement import retire

from .conftest import Home

pytestmark = [pytest.mark.django_db(transaction=True)]
POLLERS = "/admin/workers/poller/"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def silent(home: Home) -> Cycle:
    """A host with a zombie, a finished run and a damaged file, whose poller fell silent an hour ago."""
    home.spec()
    home.spec("w-done", "completed", status="completed")
    home.write("coordination/worker-specs/active/w-torn.json", b'{"worker_id": ')
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(now())
    cycle.run_once(now())
    Poller.objects.update(last_cycle_at=now() - timedelta(hours=1))
    return cycle


def test_its_runs_leave_the_fleet_and_its_silence_is_nobodys_concern(silent: Cycle) -> None:
    assert watches(now()).silent
    assert Finding.objects.filter(host="host-a").exists()
    assert retire("host-a", now()) == 2
    assert watches(now()).every == ()
    assert not all_is_well(now())  # nobody watches anything
    zombie, done = Worker.objects.get(worker_id="w-1"), Worker.objects.get(worker_id="w-done")
    assert (zombie.health, zombie.live) == (Health.GONE, False)
    assert zombie.main_reason == "Host host-a was retired: nobody watches it any more"
    assert (done.health, done.live) == (Health.COMPLETED, False)
    assert not Finding.objects.exists()
    assert not HostProcesses.objects.exists()


def test_what_was_seen_of_it_stays_and_its_troubles_are_over(silent: Cycle) -> None:
    retire("host-a", now())
    trouble = Incident.objects.get(kind=Health.ZOMBIE)
    assert trouble.resolved is not None
    assert trouble.how == How.GONE
    changes = HealthChange.objects.filter(worker__worker_id="w-1").order_by("pk")
    assert list(changes.values_list("new", flat=True)) == ["zombie", "gone"]
    gap = PollerGap.objects.get()
    assert gap.ended - gap.began > timedelta(minutes=59)


def test_a_past_moment_after_it_does_not_speak_of_a_host_that_nobody_watched(silent: Cycle) -> None:
    retire("host-a", now())
    Poller.objects.update(retired_at=now() - timedelta(minutes=20))
    before, after = (
        past_fleet(PastQuery(at=now() - timedelta(minutes=minutes)), now()).unwatched for minutes in (30, 10)
    )
    assert [each[0].host for each in before] == ["host-a"]
    assert after == ()


def test_its_poller_takes_it_back_into_the_watch(silent: Cycle, home: Home) -> None:
    retire("host-a", now())
    again = Cycle(home.path, "host-a", 2.0)
    again.start(now())
    again.run_once(now())
    assert [watch.poller.host for watch in watches(now()).every] == ["host-a"]
    zombie = Worker.objects.get(worker_id="w-1")
    assert (zombie.health, zombie.live) == (Health.ZOMBIE, True)


def test_to_retire_it_again_changes_nothing_more(silent: Cycle) -> None:
    retire("host-a", now())
    since = Poller.objects.get().retired_at
    assert retire("host-a", now()) == 0
    assert Poller.objects.get().retired_at == since


def test_a_host_whose_poller_lives_is_not_retired(silent: Cycle) -> None:
    place = Lease("host-a")
    place.acquire()
    try:
        with pytest.raises(PlaceTakenError):
            retire("host-a", now())
    finally:
        place.release()
    assert Poller.objects.get().retired_at is None
    assert Worker.objects.get(worker_id="w-1").live


def test_an_admin_retires_it_and_that_is_recorded(silent: Cycle, as_admin: Client) -> None:
    chosen = {"action": "retire_hosts", "_selected_action": [Poller.objects.get().pk]}
    page = as_admin.post(POLLERS, chosen, follow=True).content.decode()
    assert "Host host-a is retired, and 2 runs left the fleet with it." in page
    change = SettingChange.objects.get()
    assert (change.setting, change.field, change.old) == ("host host-a", "retired", "")
    assert Poller.objects.get().retired_at is not None


def test_it_says_so_where_the_poller_lives(silent: Cycle, as_admin: Client) -> None:
    place = Lease("host-a")
    place.acquire()
    try:
        chosen = {"action": "retire_hosts", "_selected_action": [Poller.objects.get().pk]}
        page = as_admin.post(POLLERS, chosen, follow=True).content.decode()
    finally:
        place.release()
    assert "Host host-a is watched: " in page
    assert not SettingChange.objects.exists()


def test_an_operator_is_not_offered_it(silent: Cycle, as_operator: Client) -> None:
    chosen = {"action": "retire_hosts", "_selected_action": [Poller.objects.get().pk]}
    assert as_operator.post(POLLERS, chosen).status_code in (302, 403)
    assert Poller.objects.get().retired_at is None
