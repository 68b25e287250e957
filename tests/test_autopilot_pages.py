"""The pages of the autopilot: what they show of each policy, and who may let one act, stop it or let it go on."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers.autopilot import decide
from workers.health import Health
from workers.models import Decision, HealthChange, Installation, Policy, Remediation, SettingChange, Worker

from . import factories

pytestmark = pytest.mark.django_db
Mode = Policy.Mode
DAYS = timedelta(days=2)


def now() -> datetime:
    return datetime.now(UTC)


def said(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any) -> None:
    """Nobody signs in with one here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def zombies() -> Policy:
    """The policy that every installation begins with, for long enough in shadow."""
    factories.poller(last_cycle_at=now() + timedelta(minutes=10))
    Policy.objects.update(mode_since=now() - DAYS)
    return Policy.objects.get(name="Clean up zombies")


def add(health: Health, number: int = 1, minutes: float = 60, **values: Any) -> Worker:
    return factories.add(health, number, health_since=now() - timedelta(minutes=minutes), **values)


def noted(policy: Policy, worker: Worker, hours: float = 5, **values: Any) -> Decision:
    given = {"verdict": "would", "why": "It has been a zombie for 31 min, longer than 30", **values}
    return Decision.objects.create(policy=policy, worker=worker, at=now() - timedelta(hours=hours), **given)


# -- what a new installation begins with


def test_a_new_installation_begins_with_two_policies_that_do_nothing() -> None:
    found = Policy.objects.values_list("name", "mode", "action", "health", "after_minutes", "most_tries")
    assert list(found) == [
        ("Clean up zombies", "shadow", "clean-up", "zombie", 30, 3),
        ("Restart crashed workers", "shadow", "restart", "crashed", 5, 2),
    ]


# -- who may


ACTS = ["promote", "demote", "off", "reset"]


@pytest.fixture(params=ACTS)
def act(request: pytest.FixtureRequest, zombies: Policy) -> str:
    """The address of each act, on a policy with which it can be done."""
    before = {
        "promote": {"mode": Mode.SHADOW},
        "demote": {"mode": Mode.ACTIVE},
        "off": {"mode": Mode.ACTIVE},
        "reset": {"mode": Mode.ACTIVE, "tripped_at": now(), "tripped_why": "Too many"},
    }[request.param]
    Policy.objects.filter(pk=zombies.pk).update(**before)
    return f"/autopilot/{zombies.pk}/{request.param}/"


def everything() -> list[tuple[Any, ...]]:
    return list(Policy.objects.order_by("pk").values_list("pk", "mode", "tripped_at", "mode_since", "promoted_by"))


def test_nothing_is_decided_by_a_link(as_admin: Client, act: str) -> None:
    before = everything()
    assert as_admin.get(act).status_code == 405
    assert everything() == before


def test_a_stranger_has_to_sign_in(client: Client, act: str) -> None:
    before = everything()
    answer = client.post(act)
    assert answer["Location"].startswith("/accounts/login/")
    assert everything() == before


@pytest.mark.parametrize("role", ["as_viewer", "as_operator"])
def test_viewers_and_operators_are_refused(role: str, act: str, request: pytest.FixtureRequest) -> None:
    before = everything()
    assert request.getfixturevalue(role).post(act).status_code == 403
    assert everything() == before
    assert not SettingChange.objects.exists()


def test_an_admin_is_obeyed_and_it_is_written_down(as_admin: Client, act: str, zombies: Policy) -> None:
    before = everything()
    assert as_admin.post(act)["Location"] == f"/autopilot/{zombies.pk}/"
    assert everything() != before
    change = SettingChange.objects.get()
    assert (change.actor, change.setting, change.address) == ("admin", "policy Clean up zombies", "127.0.0.1")


@pytest.mark.parametrize("address", ["/autopilot/", "/autopilot/{}/"])
def test_every_viewer_may_look_but_their_buttons_are_disabled(as_viewer: Client, zombies: Policy, address: str) -> None:
    page = as_viewer.get(address.format(zombies.pk))
    assert page.status_code == 200
    main = page.content.decode().partition("<main")[2].partition("</main>")[0]
    buttons = re.findall(r"<button[^>]*>", main)
    assert buttons
    assert all("disabled" in button for button in buttons)
    assert "/admin/" not in main


def test_a_policy_that_is_not_there(as_viewer: Client, as_admin: Client) -> None:
    assert as_viewer.get("/autopilot/999/").status_code == 404
    assert as_admin.post("/autopilot/999/promote/").status_code == 404


# -- promotion


def test_promoting_says_who_and_when(as_admin: Client, zombies: Policy) -> None:
    as_admin.post(f"/autopilot/{zombies.pk}/promote/")
    zombies.refresh_from_db()
    assert (zombies.mode, zombies.promoted_by) == (Mode.ACTIVE, "admin")
    assert zombies.promoted_at
    assert "promoted by admin" in said(as_admin.get("/autopilot/"))


@pytest.mark.parametrize(
    ("hours", "word", "mode"),
    [
        (23.9, "", Mode.SHADOW),
        (23.9, "yes", Mode.SHADOW),
        (23.9, " Promote ", Mode.ACTIVE),
        (24.1, "", Mode.ACTIVE),
    ],
)
def test_less_than_a_day_in_shadow_takes_a_word(
    as_admin: Client, zombies: Policy, hours: float, word: str, mode: str
) -> None:
    Policy.objects.update(mode_since=now() - timedelta(hours=hours))
    shown = as_admin.get(f"/autopilot/{zombies.pk}/").content.decode()
    assert ('name="word"' in shown) is (hours < 24)
    as_admin.post(f"/autopilot/{zombies.pk}/promote/", {"word": word})
    zombies.refresh_from_db()
    assert zombies.mode == mode


@pytest.mark.parametrize("values", [{"mode": Mode.OFF}, {"tripped_at": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_one_that_is_off_or_has_stopped_itself_is_not_promoted(
    as_admin: Client, zombies: Policy, values: dict[str, Any]
) -> None:
    Policy.objects.update(**values)
    as_admin.post(f"/autopilot/{zombies.pk}/promote/", {"word": "promote"})
    zombies.refresh_from_db()
    assert zombies.mode != Mode.ACTIVE


def test_the_confirmation_lists_what_it_would_do_right_now(as_admin: Client, zombies: Policy) -> None:
    for number in range(20, 60):
        factories.add(Health.HEALTHY, number)
    old, young = add(Health.ZOMBIE, 1, 60), add(Health.ZOMBIE, 2, 10)
    decide(now())
    page = said(as_admin.get(f"/autopilot/{zombies.pk}/"))
    offer = page.partition("What it would do right now:")[2]
    assert f"Clean up {old.worker_id}" in offer, "though its shadow has noted that one already"
    assert young.worker_id not in offer
    assert "1 more would wait, the next in 19 min" in offer
    as_admin.post(f"/autopilot/{zombies.pk}/promote/")
    decide(now())
    assert [each.worker for each in Remediation.objects.all()] == [old]


def test_the_confirmation_says_when_it_would_stop_itself_at_once(as_admin: Client, zombies: Policy) -> None:
    for number in range(1, 4):
        add(Health.ZOMBIE, number)
    page = said(as_admin.get(f"/autopilot/{zombies.pk}/"))
    assert "Nothing: it would stop itself at once. 3 of 3 workers are zombies at once" in page


def test_demoting_lets_go_of_what_was_not_begun(as_admin: Client, zombies: Policy) -> None:
    Policy.objects.update(mode=Mode.ACTIVE)
    add(Health.ZOMBIE)
    decide(now())
    assert Remediation.objects.get().state == "planning"
    as_admin.post(f"/autopilot/{zombies.pk}/demote/")
    assert Remediation.objects.get().state == "withdrawn"


def test_one_that_has_stopped_itself_says_why_and_goes_on_after_a_reset(as_admin: Client, zombies: Policy) -> None:
    for number in range(1, 4):
        add(Health.ZOMBIE, number)
    decide(now())
    page = said(as_admin.get("/autopilot/"))
    assert "It stopped itself" in page
    assert "3 of 3 workers are zombies at once" in page
    assert "it would stop itself again at once" in page
    Worker.objects.all().update(health="healthy")
    as_admin.post(f"/autopilot/{zombies.pk}/reset/")
    decide(now())
    zombies.refresh_from_db()
    assert (zombies.tripped_at, zombies.tripped_why, zombies.reset_by) == (None, "", "admin")


# -- what is shown


def test_it_says_how_its_shadow_turned_out(as_viewer: Client, zombies: Policy) -> None:
    came_back, repaired, failed, still = (
        factories.add(health, number, live=health in (Health.HEALTHY, Health.ZOMBIE))
        for number, health in enumerate((Health.HEALTHY, Health.FAILED, Health.FAILED, Health.ZOMBIE), 1)
    )
    later = now() - timedelta(hours=4)
    for worker in (came_back, repaired, failed, still):
        noted(zombies, worker)
        HealthChange.objects.filter(worker=worker).delete()
        if worker != still:
            HealthChange.objects.create(worker=worker, at=later, new=worker.health)
    factories.repair(repaired, "done", started_at=later - timedelta(minutes=1))
    page = said(as_viewer.get("/autopilot/"))
    for outcome in ("came back by itself", "is still so", "ended in another way"):
        assert f"1 × it {outcome}" in page
    assert "1 × a person repaired it" in page
    assert "To act on 1 of 3 would have been wrong." in page


def test_nothing_to_judge_is_no_zero_percent(as_viewer: Client, zombies: Policy) -> None:
    page = said(as_viewer.get(f"/autopilot/{zombies.pk}/"))
    assert "There is nothing yet to judge its shadow by." in page
    assert "would have been wrong" not in page


def test_it_counts_a_day_and_a_week(as_viewer: Client, zombies: Policy) -> None:
    worker = factories.add(Health.FAILED, live=False)
    for number, hours in enumerate((1, 23, 25, 160, 170), 1):
        noted(zombies, worker, hours, number=number)
    page = said(as_viewer.get(f"/autopilot/{zombies.pk}/"))
    assert "24 hours 2 0 0" in page
    assert "7 days 4 0 0" in page


def test_what_it_did_is_linked_and_what_people_took_back_is_said(as_viewer: Client, zombies: Policy) -> None:
    worker = factories.add(Health.FAILED, live=False)
    done = factories.repair(worker, "done", via="autopilot", actor="autopilot: Clean up zombies", policy=zombies)
    noted(zombies, worker, verdict="does", remediation=done)
    factories.repair(None, "done", action="undo", undoes=done)
    page = as_viewer.get("/autopilot/").content.decode()
    assert f'href="/remediations/{done.pk}/"' in page
    assert ">undone<" in page
    for address in ("/remediations/?via=autopilot", f"/remediations/{done.pk}/"):
        assert (
            f'<a href="/autopilot/{zombies.pk}/">autopilot: Clean up zombies</a>'
            in as_viewer.get(address).content.decode()
        )


def test_maintenance_is_said(as_viewer: Client, zombies: Policy) -> None:
    Installation.objects.create(maintenance_until=now() + timedelta(hours=1), maintenance_reason="New disks")
    page = said(as_viewer.get("/autopilot/"))
    assert "Until then no policy does anything. “New disks”" in page


def test_without_policies_it_says_what_one_is(as_viewer: Client) -> None:
    Policy.objects.all().delete()
    assert "Nothing is repaired without a person" in said(as_viewer.get("/autopilot/"))


def test_the_number_of_queries_does_not_grow_with_the_decisions(as_viewer: Client, zombies: Policy) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as captured:
            as_viewer.get("/autopilot/")
        return len(captured)

    def more(number: int) -> None:
        noted(zombies, add(Health.ZOMBIE, number))
        worker = add(Health.FAILED, 50 + number, live=False)
        done = factories.repair(worker, "done", via="autopilot", policy=zombies)
        noted(zombies, worker, verdict="does", remediation=done)

    more(1)
    asked()
    before = asked()
    for number in range(2, 7):
        more(number)
    Policy.objects.create(name="Another", action="restart", health="stalled")
    assert asked() == before


# -- on a worker's page


def notice(client: Client, worker: Worker) -> str:
    page = client.get(f"/workers/{worker.worker_id}/").content.decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page.partition('id="autopilot"')[2].partition("</div>")[0]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "shadow would clean up in 3 min, policy Clean up zombies"),
        ({"mode": Mode.ACTIVE}, "Autopilot will clean up in 3 min, policy Clean up zombies"),
        ({"after_minutes": 5}, "shadow would clean up now, policy Clean up zombies"),
        ({"tripped_at": datetime(2026, 1, 1, tzinfo=UTC)}, "does nothing, since it has stopped itself"),
    ],
)
def test_a_workers_page_says_what_is_about_to_happen(
    as_viewer: Client, zombies: Policy, values: dict[str, Any], expected: str
) -> None:
    Policy.objects.filter(pk=zombies.pk).update(**values)
    assert expected in notice(as_viewer, add(Health.ZOMBIE, minutes=26.5))


def test_a_workers_page_says_what_was_noted_and_what_holds_it_back(as_viewer: Client, zombies: Policy) -> None:
    worker = add(Health.ZOMBIE)
    decide(now())
    assert "would have cleaned it up 0 s ago" in notice(as_viewer, worker)
    Decision.objects.all().delete()
    asked = factories.repair(worker, actor="kim")
    assert f"is held back: kim has asked for a clean-up of it (#{asked.pk})" in notice(as_viewer, worker)


@pytest.mark.parametrize("health", [Health.HEALTHY, Health.STALLED])
def test_a_worker_that_is_no_case_has_no_such_line(as_viewer: Client, zombies: Policy, health: Health) -> None:
    assert "Autopilot" not in notice(as_viewer, add(health))


def test_a_worker_of_another_type_has_no_such_line(as_viewer: Client, zombies: Policy) -> None:
    Policy.objects.update(worker_type="scan-worker")
    assert "Autopilot" not in notice(as_viewer, add(Health.ZOMBIE, worker_type="test-worker"))
    assert "Autopilot" in notice(as_viewer, add(Health.ZOMBIE, 2, worker_type="scan-worker"))


# -- in the admin


FORM = {
    "name": "Clean up zombies",
    "action": "clean-up",
    "health": "zombie",
    "worker_type": "",
    "after_minutes": "30",
    "most_tries": "3",
    "delay_factor": "2",
    "most_an_hour": "10",
    "most_percent": "10",
    "breaker_failures": "3",
    "quiet_zone": "UTC",
}


def edit(client: Client, policy: Policy, **values: Any) -> Policy:
    answer = client.post(f"/admin/workers/policy/{policy.pk}/change/", {**FORM, **values})
    assert answer.status_code == 302, said(answer)
    policy.refresh_from_db()
    return policy


def test_the_admin_changes_bounds_but_not_the_mode(as_admin: Client, zombies: Policy) -> None:
    edited = edit(as_admin, zombies, most_an_hour="4", mode="active")
    assert (edited.most_an_hour, edited.mode) == (4, Mode.SHADOW)


@pytest.mark.parametrize(
    ("values", "mode"), [({"after_minutes": "1"}, Mode.SHADOW), ({"most_an_hour": "4"}, Mode.ACTIVE)]
)
def test_one_that_is_to_do_something_else_goes_back_into_shadow(
    as_admin: Client, zombies: Policy, values: dict[str, str], mode: str
) -> None:
    Policy.objects.update(mode=Mode.ACTIVE)
    edited = edit(as_admin, zombies, **values)
    assert edited.mode == mode
    assert (now() - edited.mode_since < timedelta(minutes=1)) is (mode == Mode.SHADOW)


def test_one_that_acts_or_has_repaired_is_not_deleted(as_admin: Client, zombies: Policy) -> None:
    address = f"/admin/workers/policy/{zombies.pk}/delete/"
    Policy.objects.update(mode=Mode.ACTIVE)
    assert as_admin.post(address, {"post": "yes"}).status_code == 403
    Policy.objects.update(mode=Mode.SHADOW)
    factories.repair(add(Health.ZOMBIE), policy=zombies)
    assert as_admin.post(address, {"post": "yes"}).status_code == 403
    other = Policy.objects.get(health="crashed")
    assert as_admin.post(f"/admin/workers/policy/{other.pk}/delete/", {"post": "yes"}).status_code == 302


def test_decisions_are_read_only(as_admin: Client, zombies: Policy) -> None:
    decision = noted(zombies, add(Health.ZOMBIE))
    assert as_admin.get("/admin/workers/decision/").status_code == 200
    for address in ("add/", f"{decision.pk}/delete/"):
        assert as_admin.post(f"/admin/workers/decision/{address}", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"health": "healthy"}, "health"),
        ({"action": "restart", "health": "failed"}, "health"),
        ({"quiet_from": "22:00"}, "quiet_until"),
        ({"quiet_from": "22:00", "quiet_until": "22:00"}, "quiet_until"),
        ({"quiet_zone": "Europe/Nowhere"}, "quiet_zone"),
        ({"most_percent": 51}, "most_percent"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Policy(**{**FORM, "name": "New", **values}).full_clean()
    assert list(refused.value.message_dict) == [field]
