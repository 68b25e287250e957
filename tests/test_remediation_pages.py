"""Asking for repairs in the browser: who may, what is answered, what is refused, and what the audit lists."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from workers.health import Health
from workers.models import Change, Remediation, RemediationBatch, RemediationStep, Worker
from workers.remediation import ask as asking
from workers.remediation.actions import ACTIONS, OF_A_RUN
from workers.remediation.queries import BATCH_PAGE
from workers.renderings import repaired
from workers.roles import ROLES

from . import factories
from .conftest import client_of, person
from .markup import flat

pytestmark = pytest.mark.django_db
State = Remediation.State
HTMX = {"HX-Request": "true"}


def batch(*workers: Worker, running: int = 100, **fields: Any) -> RemediationBatch:
    found = RemediationBatch.objects.create(
        action="clean-up", asked="by hand", running=running, actor="operator", requested_at=datetime.now(UTC), **fields
    )
    for worker in workers:
        factories.repair(worker, batch=found)
    return found


def ask(client: Client, worker: Worker, action: str = "clean-up", **values: Any) -> Any:
    headers = values.pop("headers", None)
    return client.post("/remediations/new/", {"action": action, "run": worker.pk, **values}, headers=headers)


def said(response: Any) -> str:
    """What the page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


@pytest.fixture
def zombie() -> Worker:
    factories.poller()
    return factories.add(Health.ZOMBIE)


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any) -> None:
    """Nobody signs in with one here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


# Who may ask


@pytest.fixture(params=["new", "undo", "archive", "confirm", "withdraw", "many", "confirm many", "withdraw many"])
def request_of(request: pytest.FixtureRequest, zombie: Worker) -> tuple[str, dict[str, Any]]:
    """The address of each kind of request, with what has to be sent there."""
    other = factories.add(Health.FAILED, 2)
    one, two = factories.repair(zombie), factories.repair(other, State.DONE)
    RemediationStep.objects.create(remediation=two, number=0, kind="move", target="x", detail="Moved", state="done")
    many = batch(factories.add(Health.ZOMBIE, 3))
    return {
        "new": ("/remediations/new/", {"action": "clean-up", "run": zombie.pk}),
        "undo": ("/remediations/new/", {"action": "undo", "undoes": two.pk}),
        "archive": ("/remediations/new/", {"action": "archive-failed", "host": factories.HOST}),
        "confirm": (f"/remediations/{one.pk}/confirm/", {}),
        "withdraw": (f"/remediations/{one.pk}/withdraw/", {}),
        "many": ("/remediations/many/", {"action": "clean-up", "run": [zombie.pk]}),
        "confirm many": (f"/remediations/many/{many.pk}/confirm/", {}),
        "withdraw many": (f"/remediations/many/{many.pk}/withdraw/", {}),
    }[request.param]


def everything() -> list[tuple[Any, ...]]:
    return list(Remediation.objects.order_by("pk").values_list("pk", "state", "actor", "reason"))


def test_nothing_is_asked_for_by_a_link(as_operator: Client, request_of: tuple[str, dict[str, Any]]) -> None:
    address, values = request_of
    before = everything()
    assert as_operator.get(address, values).status_code == 405
    assert everything() == before


def test_a_stranger_has_to_sign_in(client: Client, request_of: tuple[str, dict[str, Any]]) -> None:
    address, values = request_of
    before = everything()
    answer = client.post(address, values)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/")
    assert everything() == before


def test_a_viewer_is_refused_and_nothing_changes(as_viewer: Client, request_of: tuple[str, dict[str, Any]]) -> None:
    address, values = request_of
    before = everything()
    answers = [as_viewer.post(address, values), as_viewer.post(address, values, headers=HTMX)]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert everything() == before
    assert not RemediationBatch.objects.exclude(asked="by hand").exists()


def test_an_operator_is_obeyed(as_operator: Client, request_of: tuple[str, dict[str, Any]]) -> None:
    address, values = request_of
    before = everything()
    answer = as_operator.post(address, values)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/remediations/")
    assert everything() != before


def test_a_page_of_another_site_cannot_ask(operator: User, zombie: Worker) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    assert ask(client, zombie).status_code == 403
    assert not Remediation.objects.exists()


def test_each_action_takes_its_own_permission(zombie: Worker) -> None:
    """Whoever may clean up need not be allowed to restart."""
    user = person("cleaner", "viewer")
    user.user_permissions.add(Permission.objects.get(codename="clean_up_worker"))
    client = client_of(user)
    assert ask(client, zombie, "restart").status_code == 403
    assert ask(client, zombie, "clean-up").status_code == 302


# One request


def test_a_request_keeps_who_asks_from_where_and_why(as_operator: Client, zombie: Worker) -> None:
    answer = ask(as_operator, zombie, reason="  the disk was full ")
    it = Remediation.objects.get()
    assert answer["Location"] == it.get_absolute_url()
    assert (it.state, it.action, it.worker, it.host) == (State.PLANNING, "clean-up", zombie, factories.HOST)
    assert (it.actor, it.via, it.address, it.reason) == ("operator", "browser", "127.0.0.1", "the disk was full")
    assert it.user is not None


def test_htmx_gets_the_card_and_nothing_else(as_operator: Client, zombie: Worker) -> None:
    answer = ask(as_operator, zombie, headers=HTMX)
    it = Remediation.objects.get()
    assert answer.status_code == 200
    assert answer.content.decode().lstrip().startswith(f'<section id="remediation-{it.pk}"')
    assert "Preview: clean up" in said(answer)
    assert f"/remediations/{it.pk}/withdraw/" in answer.content.decode()


def test_the_page_of_a_remediation_shows_its_plan(as_viewer: Client, zombie: Worker) -> None:
    shown = said(as_viewer.get(factories.repair(zombie).get_absolute_url()))
    assert "nothing has happened yet" in shown
    assert "Move the spec, with these changes, to" in shown


@pytest.mark.parametrize(
    "values",
    [
        {"action": "delete-everything"},
        {"action": ""},
        {"action": "clean-up", "run": "999"},
        {"action": "clean-up", "run": "one"},
        {"action": "clean-up"},
        {"action": "undo", "undoes": "999"},
        {"action": "archive-failed", "host": "nowhere"},
        {"action": "archive-failed"},
    ],
)
def test_what_does_not_exist_is_not_found(as_operator: Client, zombie: Worker, values: dict[str, str]) -> None:
    assert as_operator.post("/remediations/new/", values).status_code == 404
    assert not Remediation.objects.exists()


@pytest.mark.parametrize("address", ["/remediations/999/", "/remediations/many/999/"])
def test_a_number_that_nobody_gave_is_not_found(as_viewer: Client, zombie: Worker, address: str) -> None:
    assert as_viewer.get(address).status_code == 404


def test_a_run_that_is_no_case_for_it_is_refused_with_a_sentence(as_operator: Client) -> None:
    factories.poller()
    healthy = factories.add(Health.HEALTHY)
    answer = ask(as_operator, healthy, headers=HTMX)
    assert f"{healthy.worker_id}: Only for zombie or crashed workers." in said(answer)
    assert f'href="{healthy.get_absolute_url()}"' in answer.content.decode()
    answer = as_operator.post("/remediations/new/", {"action": "clean-up", "run": healthy.pk}, follow=True)
    assert answer.redirect_chain[-1][0] == healthy.get_absolute_url()
    assert "Only for zombie" in said(answer)
    assert not Remediation.objects.exists()


def test_what_cannot_be_undone_is_refused(as_operator: Client, zombie: Worker) -> None:
    done = factories.repair(zombie, State.DONE, action="restart")
    answer = as_operator.post("/remediations/new/", {"action": "undo", "undoes": done.pk}, headers=HTMX)
    assert "A restart cannot be undone" in said(answer)


def test_what_is_undone_already_is_not_undone_again(as_operator: Client, zombie: Worker) -> None:
    done = factories.repair(zombie, State.DONE)
    factories.repair(None, State.DONE, action="undo", undoes=done)
    answer = as_operator.post("/remediations/new/", {"action": "undo", "undoes": done.pk}, headers=HTMX)
    assert f"#{done.pk} is undone already" in said(answer)
    assert "Undo…" not in said(as_operator.get(done.get_absolute_url()))


# Saying yes or no


def test_confirming_keeps_the_reason_and_the_one_who_confirms(as_operator: Client, zombie: Worker) -> None:
    it = factories.repair(zombie, actor="somebody")
    answer = as_operator.post(f"/remediations/{it.pk}/confirm/", {"reason": "it hung since noon"}, headers=HTMX)
    it.refresh_from_db()
    assert (it.state, it.reason, it.actor) == (State.CONFIRMED, "it hung since noon", "operator")
    assert "queued" in said(answer)
    assert "“it hung since noon”" in said(answer)


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.RUNNING, State.WITHDRAWN, State.REFUSED])
def test_what_is_no_longer_planned_cannot_be_confirmed(as_operator: Client, zombie: Worker, state: State) -> None:
    it = factories.repair(zombie, state)
    answer = as_operator.post(f"/remediations/{it.pk}/confirm/", {"reason": "late"}, headers=HTMX)
    assert f"It is {state} by now" in said(answer)
    assert f'href="{it.get_absolute_url()}"' in answer.content.decode(), "it leads to what became of it"
    it.refresh_from_db()
    assert (it.state, it.reason) == (state, "")


def test_a_question_has_to_be_answered_first(as_operator: Client, zombie: Worker) -> None:
    plan = {
        "steps": [factories.STEP],
        "relies_on": {},
        "warnings": [],
        "asks": "Task t has been retried once. Retry it again?",
    }
    it = factories.repair(zombie, plan=plan)
    assert "Say yes to that first" in said(as_operator.post(f"/remediations/{it.pk}/confirm/", headers=HTMX))
    as_operator.post(f"/remediations/{it.pk}/confirm/", {"answered": "on"})
    it.refresh_from_db()
    assert it.state == State.CONFIRMED


def test_the_second_of_two_operators_is_told_who_has_begun(as_operator: Client, zombie: Worker) -> None:
    first, second = factories.repair(zombie), factories.repair(zombie, action="restart")
    client_of(person("robin", "operator")).post(f"/remediations/{first.pk}/confirm/")
    answer = as_operator.post(f"/remediations/{second.pk}/confirm/", headers=HTMX)
    assert "robin has just begun to clean up it" in said(answer)
    second.refresh_from_db()
    assert second.state == State.PLANNED
    page = said(as_operator.get(zombie.get_absolute_url()))
    assert "robin has begun: clean up, confirmed" in page


@pytest.mark.parametrize("state", [State.PLANNING, State.PLANNED, State.CONFIRMED])
def test_what_has_not_begun_can_be_withdrawn(as_operator: Client, zombie: Worker, state: State) -> None:
    it = factories.repair(zombie, state)
    answer = as_operator.post(f"/remediations/{it.pk}/withdraw/", headers=HTMX)
    it.refresh_from_db()
    assert (it.state, it.error) == (State.WITHDRAWN, "Withdrawn by operator")
    assert "Nothing has happened" in said(answer)


@pytest.mark.parametrize("state", [State.RUNNING, State.DONE])
def test_what_has_begun_cannot(as_operator: Client, zombie: Worker, state: State) -> None:
    it = factories.repair(zombie, state)
    answer = as_operator.post(f"/remediations/{it.pk}/withdraw/", headers=HTMX)
    assert f"It is {state} by now, so it cannot be withdrawn" in said(answer)
    it.refresh_from_db()
    assert it.state == state


def test_a_preview_that_has_become_wrong_leads_to_the_new_one(as_operator: Client, zombie: Worker) -> None:
    old = factories.repair(zombie, State.REFUSED, error="Its process has changed since the preview")
    new = factories.repair(zombie, instead_of=old)
    page = as_operator.get(old.get_absolute_url()).content.decode()
    assert f'href="{new.get_absolute_url()}">See the new preview' in page
    assert f"In the place of #{old.pk}" in said(as_operator.get(new.get_absolute_url())).replace("# ", "#")


def test_pressing_the_button_of_a_preview_that_has_lapsed_asks_for_a_new_one(
    as_operator: Client, zombie: Worker
) -> None:
    old = factories.repair(zombie, State.WITHDRAWN, error=Remediation.LAPSED, actor="somebody")
    for _ in range(2):  # the second press asks for no second one
        answer = as_operator.post(f"/remediations/{old.pk}/confirm/", {"reason": "back at last"}, headers=HTMX)
        assert "Nobody confirmed it within an hour, so nothing was done; there is a new preview" in said(answer)
    old.refresh_from_db()
    new = Remediation.objects.get(instead_of=old)
    assert (old.state, new.state) == (State.WITHDRAWN, State.PLANNING)
    assert (new.worker, new.action, new.actor, new.reason) == (zombie, "clean-up", "operator", "back at last")
    page = as_operator.get(old.get_absolute_url())
    assert "Nobody confirmed it within an hour. Nothing has happened." in said(page)
    assert f'href="{new.get_absolute_url()}">See the new preview' in page.content.decode()


def test_where_the_run_is_no_case_any_more_it_says_so_instead(as_operator: Client, zombie: Worker) -> None:
    old = factories.repair(zombie, State.WITHDRAWN, error=Remediation.LAPSED)
    Worker.objects.update(health=Health.COMPLETED, live=False)
    answer = as_operator.post(f"/remediations/{old.pk}/confirm/", headers=HTMX)
    assert zombie.worker_id in said(answer)
    assert Remediation.objects.get() == old


def test_an_undo_that_has_lapsed_is_asked_for_anew_too(as_operator: Client, zombie: Worker) -> None:
    done = factories.repair(zombie, State.DONE)
    old = factories.repair(None, State.WITHDRAWN, action="undo", undoes=done, error=Remediation.LAPSED)
    as_operator.post(f"/remediations/{old.pk}/confirm/", headers=HTMX)
    assert Remediation.objects.get(instead_of=old).undoes == done


def test_the_new_worker_of_a_recovered_task_is_linked(as_viewer: Client) -> None:
    factories.poller()
    failed = factories.add(Health.FAILED, task_id="task-1")
    it = factories.repair(failed, State.DONE, action="recover-task", task_id="task-1", new_task_id="task-2")
    assert "its worker is linked here as soon as there is one" in said(as_viewer.get(it.get_absolute_url()))
    worker = factories.add(Health.PENDING, 2, task_id="task-2")
    page = as_viewer.get(it.get_absolute_url())
    assert f'href="{worker.get_absolute_url()}"' in page.content.decode()
    assert "task-1 → task-2" in said(page)


def test_without_a_poller_the_card_says_so(as_operator: Client, zombie: Worker) -> None:
    factories.poller(last_cycle_at=datetime.now(UTC) - timedelta(hours=1))
    answer = ask(as_operator, zombie, headers=HTMX)
    assert f"No poller of {factories.HOST} is there." in said(answer)
    assert "it can be withdrawn" in said(answer)


def test_the_end_of_each_log_from_before_is_shown_line_by_line(as_viewer: Client, zombie: Worker) -> None:
    logs = [{"path": "logs/stdout.log", "bytes": 26, "lines": ["reading <input>", "writing"]}]
    it = factories.repair(zombie, State.DONE, evidence={"processes": [], "logs": logs})
    assert "reading &lt;input&gt;\nwriting</pre>" in as_viewer.get(it.get_absolute_url()).content.decode()


def test_what_a_worker_says_of_itself_is_never_markup(as_operator: Client) -> None:
    factories.poller()
    bad = '<script>alert("1")</script>$(rm -rf .)'
    worker = factories.add(Health.ZOMBIE, worker_id=bad)
    files = {"diff": [["+", bad]], "path": bad, "files": [bad]}
    shown = {"processes": [{"pid": 1, "command": bad, "part": "worker"}], **files}
    step = {**factories.STEP, "target": bad, "detail": bad, "shown": shown}
    plan = {"steps": [step], "relies_on": {}, "warnings": [bad], "asks": bad}
    evidence = {"processes": [], "logs": [{"path": bad, "bytes": 1, "lines": [bad]}]}
    it = factories.repair(worker, plan=plan, reason=bad, output=bad, evidence=evidence)
    for address in (it.get_absolute_url(), "/remediations/", worker.get_absolute_url()):
        assert "<script>alert" not in as_operator.get(address).content.decode()


# Many


def test_those_that_are_selected_are_asked_for_and_the_others_listed(as_operator: Client, zombie: Worker) -> None:
    healthy, busy = factories.add(Health.HEALTHY, 2), factories.add(Health.CRASHED, 3)
    factories.repair(busy, State.RUNNING, action="restart")
    runs = [zombie.pk, healthy.pk, busy.pk]
    answer = as_operator.post("/remediations/many/", {"action": "clean-up", "run": runs}, follow=True)
    many = RemediationBatch.objects.get()
    assert [each.worker for each in many.remediations.all()] == [zombie]
    assert {each["worker_id"]: each["reason"] for each in many.ineligible} == {
        healthy.worker_id: "Only for zombie or crashed workers",
        busy.worker_id: "It is being repaired already",
    }
    page = said(answer)
    assert "3 selected by hand" in page
    assert "Not eligible 2, left alone" in page
    assert f"{healthy.worker_id} Only for zombie or crashed workers" in page
    assert "It is being repaired already" in page


def test_htmx_is_led_to_the_page_of_the_act(as_operator: Client, zombie: Worker) -> None:
    answer = as_operator.post("/remediations/many/", {"action": "clean-up", "run": [zombie.pk]}, headers=HTMX)
    assert answer["HX-Redirect"] == RemediationBatch.objects.get().get_absolute_url()


def test_all_that_match_are_counted_again_and_spelt_out(as_operator: Client, zombie: Worker) -> None:
    for number in (2, 3):
        factories.add(Health.ZOMBIE, number)
    factories.add(Health.HEALTHY, 4)
    asked = {"action": "clean-up", "all": "2", "query": "?health=zombie"}
    answer = as_operator.post("/remediations/many/", asked, headers=HTMX)
    assert "3 match by now, not 2" in said(answer)
    assert not Remediation.objects.exists()
    as_operator.post("/remediations/many/", {**asked, "all": "3"})
    many = RemediationBatch.objects.get()
    assert many.remediations.count() == 3
    assert re.match("all 3 that match “.*zombie.*”", many.asked)


def test_so_many_are_asked_for_in_a_few_steps_between_which_others_can_write(as_operator: Client) -> None:
    """And with as many queries whether it is one or a hundred: the pollers wait for the lock meanwhile."""
    counts = []
    for count in (1, 100):
        runs = [factories.add(Health.ZOMBIE, worker_id=f"w-{count}-{number}") for number in range(count)]
        Change.objects.all().delete()
        with CaptureQueriesContext(connection) as captured:
            as_operator.post("/remediations/many/", {"action": "clean-up", "run": [run.pk for run in runs]})
        many = RemediationBatch.objects.latest("pk")
        assert set(many.remediations.values_list("worker", flat=True)) == {run.pk for run in runs}
        told = Change.objects.values_list("kind", "key")
        assert set(told) == {
            *((Change.Kind.REMEDIATION, key) for key in many.remediations.values_list("pk", flat=True)),
            *((Change.Kind.WORKER, run.pk) for run in runs),
        }
        counts.append(sum("INSERT INTO" not in query["sql"] for query in captured))
        inserts = len(captured) - counts[-1]
    assert counts[0] == counts[1]
    assert inserts < 10, "rows are written many at a time"


def test_an_act_on_many_that_is_broken_off_says_which_were_not_asked_for(
    as_operator: Client, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database fails in the middle, as on a full disk. What has come is a batch like any other."""
    monkeypatch.setattr(asking, "CHUNK", 2)
    factories.poller()
    zombies = [factories.add(Health.ZOMBIE, worker_id=f"w-{number}") for number in range(5)]
    healthy = factories.add(Health.HEALTHY, 9)
    selection = asking.select(ACTIONS["clean-up"], [*zombies, healthy])
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER full BEFORE INSERT ON workers_remediation "
            f"WHEN NEW.worker_id = {zombies[3].pk} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    with pytest.raises(IntegrityError, match="the disk is full"):
        asking.request_many(selection, asking.Person("kim", "browser", operator), "by hand")
    many = RemediationBatch.objects.get()
    assert [each.worker_id for each in many.remediations.order_by("pk")] == [zombies[0].pk, zombies[1].pk]
    assert {each["worker_id"]: each["reason"] for each in many.ineligible} == {
        healthy.worker_id: "Only for zombie or crashed workers",
        **{zombie.worker_id: asking.NOT_ASKED for zombie in zombies[2:]},
    }
    page = said(as_operator.get(many.get_absolute_url()))
    assert "Clean up 2 workers" in page
    assert "Not eligible 4, left alone" in page


def test_more_than_can_be_asked_for_at_once_are_refused(
    as_admin: Client, monkeypatch: pytest.MonkeyPatch, zombie: Worker
) -> None:
    """Also in the admin, whose list can select everything that matches."""
    monkeypatch.setattr(asking, "MOST_AT_ONCE", 2)
    for number in (2, 3, 4):
        factories.add(Health.ZOMBIE, number)
    chosen = {"action": "clean-up", "select_across": "1", "_selected_action": [zombie.pk]}
    answer = as_admin.post("/admin/workers/worker/", chosen, follow=True)
    assert "More than 2 are selected; select fewer at once" in said(answer)
    assert not RemediationBatch.objects.exists()


@pytest.mark.parametrize("values", [{}, {"run": "x"}])
def test_nothing_selected_is_said(as_operator: Client, zombie: Worker, values: dict[str, str]) -> None:
    answer = as_operator.post("/remediations/many/", {"action": "clean-up", **values}, headers=HTMX)
    assert "Nothing is selected" in said(answer)
    assert not RemediationBatch.objects.exists()


@pytest.mark.parametrize("action", ["undo", "archive-failed", "nothing", ""])
def test_only_actions_on_runs_are_for_many(as_operator: Client, zombie: Worker, action: str) -> None:
    assert as_operator.post("/remediations/many/", {"action": action, "run": [zombie.pk]}).status_code == 404


def test_the_number_that_the_guard_asks_for_follows_what_is_left() -> None:
    many = batch(*(factories.add(Health.ZOMBIE, number) for number in (1, 2, 3)), running=4)
    first, second, _ = many.remediations.order_by("pk")

    def pushed() -> str:
        texts = next(iter(repaired({first.pk}))).texts
        return next(text for text in texts if f'id="batch-{many.pk}-guard"' in text)

    assert "This is 3 of 4 running workers" in pushed()
    assert "hidden" not in pushed()
    for over in (first, second):
        Remediation.objects.filter(pk=over.pk).update(state=State.REFUSED)
    assert "hidden" in pushed()


def test_more_than_half_of_the_running_fleet_takes_its_number(as_operator: Client) -> None:
    factories.poller()
    many = batch(*(factories.add(Health.ZOMBIE, number) for number in (1, 2, 3)), running=5)
    page = as_operator.get(many.get_absolute_url())
    assert "This is 3 of 5 running workers" in said(page)
    assert "the poller cannot see the workers" in said(page)
    assert 'name="expect"' in page.content.decode()
    for wrong in ("", "2", "three", "4", "-3", "²"):
        answer = as_operator.post(f"{many.get_absolute_url()}confirm/", {"expect": wrong}, follow=True)
        assert "Give the number 3 to go on" in said(answer)
    assert set(many.remediations.values_list("state", flat=True)) == {State.PLANNED}
    as_operator.post(f"{many.get_absolute_url()}confirm/", {"expect": "3", "reason": "all of them"})
    assert set(many.remediations.values_list("state", "reason")) == {(State.CONFIRMED, "all of them")}


def test_fewer_do_not(as_operator: Client) -> None:
    factories.poller()
    many = batch(*(factories.add(Health.ZOMBIE, number) for number in (1, 2)), running=50)
    assert 'name="expect"' not in as_operator.get(many.get_absolute_url()).content.decode()
    as_operator.post(f"{many.get_absolute_url()}confirm/")
    assert set(many.remediations.values_list("state", flat=True)) == {State.CONFIRMED}


def test_a_worker_has_never_more_than_one_repair_under_way(as_operator: Client, zombie: Worker) -> None:
    """The database itself sees to it; in an act on many the others go on, and it is said which did not."""
    factories.repair(zombie, State.RUNNING, action="restart", actor="robin")
    other = factories.add(Health.ZOMBIE, 2)
    many = batch(zombie, other)
    answer = as_operator.post(f"{many.get_absolute_url()}confirm/", follow=True)
    assert f"{zombie.worker_id}: robin has just begun to restart it" in said(answer)
    assert set(many.remediations.values_list("worker", "state")) == {
        (zombie.pk, State.PLANNED),
        (other.pk, State.CONFIRMED),
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.repair(zombie, State.CONFIRMED)


def test_many_that_have_lapsed_are_to_be_selected_anew(as_operator: Client, zombie: Worker) -> None:
    many = batch(zombie, factories.add(Health.ZOMBIE, 2))
    many.remediations.update(state=State.WITHDRAWN, error=Remediation.LAPSED)
    answer = as_operator.post(f"/remediations/many/{many.pk}/confirm/", headers=HTMX)
    assert "Nobody confirmed them within an hour, so nothing was done; select the workers anew" in said(answer)


def test_what_of_many_has_not_begun_is_withdrawn(as_operator: Client) -> None:
    factories.poller()
    many = batch(*(factories.add(Health.ZOMBIE, number) for number in (1, 2, 3)))
    first, *_ = many.remediations.order_by("pk")
    Remediation.objects.filter(pk=first.pk).update(state=State.RUNNING)
    page = as_operator.post(f"{many.get_absolute_url()}withdraw/", follow=True)
    assert sorted(many.remediations.values_list("state", flat=True)) == ["running", "withdrawn", "withdrawn"]
    assert "2 of 3 finished: 1 running, 2 withdrawn" in said(page)
    assert 'data-waiting="0"' in page.content.decode(), "there is nothing to confirm any more"


# The audit


@pytest.fixture
def audit(zombie: Worker) -> dict[str, Remediation]:
    other = factories.add(Health.FAILED, 2)
    old = datetime(2026, 1, 10, 12, tzinfo=UTC)
    found = {
        "done": factories.repair(zombie, State.DONE, requested_at=old, reason="=cmd()", actor="robin"),
        "failed": factories.repair(
            other, State.FAILED, action="recover-task", error="It ended with 1", via="command line"
        ),
        "archive": factories.repair(None, State.WITHDRAWN, action="archive-failed", via="admin"),
    }
    found["undo"] = factories.repair(None, State.DONE, action="undo", undoes=found["done"])
    RemediationStep.objects.create(
        remediation=found["done"], number=0, kind="move", target="x", detail="Moved to failed/x.json", state="done"
    )
    return found


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"done", "failed", "archive", "undo"}),
        ("worker=IMPLEMENTATION-007", set()),
        ("worker=-001", {"done", "undo"}),
        ("actor=rob", {"done"}),
        ("action=recover-task", {"failed"}),
        ("state=done", {"done", "undo"}),
        ("via=admin", {"archive"}),
        ("via=command+line&state=failed", {"failed"}),
        ("until=2026-01-10", {"done"}),
        ("since=2026-01-11", {"failed", "archive", "undo"}),
        ("since=2026-01-10&until=2026-01-10&state=failed", set()),
    ],
)
def test_the_list_is_narrowed(as_viewer: Client, audit: dict[str, Remediation], query: str, expected: set[str]) -> None:
    page = as_viewer.get(f"/remediations/?{query}").content.decode()
    shown = {int(key) for key in re.findall(r'data-remediation-row="(\d+)"', page)}
    assert shown == {audit[name].pk for name in expected}
    lines = as_viewer.get(f"/remediations/export.csv?{query}").getvalue().decode().splitlines()
    assert len(list(csv.reader(lines))) - 1 >= len(expected)


@pytest.mark.parametrize("query", ["action=nothing", "state=nothing", "since=yesterday", "via=telephone"])
def test_a_filter_that_makes_no_sense_is_said(as_viewer: Client, audit: dict[str, Remediation], query: str) -> None:
    page = as_viewer.get(f"/remediations/?{query}")
    assert page.status_code == 200
    assert 'class="errors"' in page.content.decode()
    assert "data-remediation-row" not in page.content.decode()


def test_empty_fields_are_no_filter(as_viewer: Client, zombie: Worker) -> None:
    page = said(as_viewer.get("/remediations/?worker=&actor=&action=&state=&via=&since=&until="))
    assert "Nothing was repaired from here yet" in page
    assert "Clear filters" not in page


def test_the_list_has_pages_that_keep_the_filter(as_viewer: Client, zombie: Worker) -> None:
    for number in range(51):
        factories.repair(zombie, State.WITHDRAWN, reason=f"reason {number}")
    first = as_viewer.get("/remediations/?state=withdrawn").content.decode()
    assert first.count("data-remediation-row") == 50
    assert 'href="?state=withdrawn&amp;page=2"' in first
    second = as_viewer.get("/remediations/?state=withdrawn&page=2").content.decode()
    assert second.count("data-remediation-row") == 1
    assert "reason 0" in second, "the oldest comes last"
    assert as_viewer.get("/remediations/?page=nonsense").status_code == 200


def test_the_export_is_complete_and_harmless_in_a_spreadsheet(as_viewer: Client, audit: dict[str, Remediation]) -> None:
    answer = as_viewer.get("/remediations/export.csv")
    assert answer["Content-Type"].startswith("text/csv")
    assert "remediations.csv" in answer["Content-Disposition"]
    text = answer.getvalue().decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["number"]) for row in rows] == sorted((each.pk for each in audit.values()), reverse=True)
    done = rows[-1]
    assert done["reason"] == "'=cmd()"
    assert (done["by"], done["via"], done["action"], done["state"]) == ("robin", "browser", "clean-up", "done")
    assert done["plan"] == "Move the spec, with these changes, to: coordination/worker-specs/failed/x.json"
    assert done["result"] == "done: Moved to failed/x.json"
    assert done["requested"] == "2026-01-10T12:00:00+00:00"
    assert not [cell for row in csv.reader(io.StringIO(text)) for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_the_export_has_what_the_list_shows_on_all_its_pages(as_viewer: Client, zombie: Worker) -> None:
    for _ in range(55):
        factories.repair(zombie, State.WITHDRAWN)
    factories.repair(zombie, State.DONE)
    rows = as_viewer.get("/remediations/export.csv?state=withdrawn&page=2").getvalue().decode().splitlines()
    assert len(rows) == 56


@pytest.mark.parametrize("address", ["/remediations/", "/remediations/export.csv"])
def test_the_audit_is_for_those_who_may_see_the_fleet(client: Client, db: None, address: str) -> None:
    assert client.get(address)["Location"].startswith("/accounts/login/")
    assert client_of(person("nobody")).get(address).status_code == 403


@pytest.mark.parametrize("role", list(ROLES))
def test_no_role_may_remove_or_change_a_record(role: str, audit: dict[str, Remediation]) -> None:
    user = person("somebody", role)
    for model in ("remediation", "remediationstep", "remediationbatch", "worker"):
        for right in ("add", "change", "delete"):
            assert not user.has_perm(f"workers.{right}_{model}")


def test_not_even_a_superuser_removes_a_record_in_the_admin(audit: dict[str, Remediation]) -> None:
    client = client_of(User.objects.create_superuser("root", password="root"))
    address = reverse("admin:workers_remediation_delete", args=[audit["done"].pk])
    assert client.post(address, {"post": "yes"}).status_code == 403
    listed = reverse("admin:workers_remediation_changelist")
    client.post(listed, {"action": "delete_selected", "_selected_action": [audit["done"].pk], "post": "yes"})
    assert Remediation.objects.filter(pk=audit["done"].pk).exists()


def test_a_worker_that_was_repaired_cannot_be_removed(audit: dict[str, Remediation]) -> None:
    done = audit["done"]
    assert done.worker is not None
    with pytest.raises(ProtectedError):
        done.worker.delete()
    with pytest.raises(ProtectedError):
        done.delete()


def test_what_somebody_did_stays_when_their_account_goes(zombie: Worker) -> None:
    user = person("robin", "operator")
    it = factories.repair(zombie, State.DONE, user=user, actor="robin")
    user.delete()
    it.refresh_from_db()
    assert (it.actor, it.user) == ("robin", None)


# Buttons


def buttons(client: Client, worker: Worker) -> dict[str, str]:
    """The tag of each button beside a worker, by its action."""
    page = client.get(worker.get_absolute_url()).content.decode()
    section = page[page.index('<section id="remediate"') :]
    section = section[: section.index("</section>")]
    return {re.search('value="([^"]+)"', tag)[1]: tag for tag in re.findall("<button.*?</button>", flat(section))}  # type: ignore[index]


def test_the_page_of_a_worker_lists_the_table_of_actions(as_operator: Client, zombie: Worker) -> None:
    found = buttons(as_operator, zombie)
    assert list(found) == [action.name for action in OF_A_RUN]
    assert all(ACTIONS[name].label in tag for name, tag in found.items())
    pressable = {name for name, tag in found.items() if "disabled" not in tag}
    assert pressable == {"restart", "clean-up", "force-fail"}
    assert "Only after it has failed" in found["recover-task"]
    assert "primary" in found["clean-up"]


def test_a_viewer_sees_them_disabled_and_why(as_viewer: Client, zombie: Worker) -> None:
    found = buttons(as_viewer, zombie)
    assert list(found) == [action.name for action in OF_A_RUN]
    assert all(" disabled " in tag for tag in found.values())
    for name in ("restart", "clean-up", "force-fail"):
        assert found[name].count("ask an operator or an admin") == 2, "as a title and to be read"


@pytest.mark.parametrize("address", ["/", "/remediations/"])
def test_elsewhere_too(as_viewer: Client, zombie: Worker, address: str) -> None:
    page = as_viewer.get(address).content.decode()
    tags = re.findall(r"<button[^>]*(?:data-needs|name=\"action\")[^>]*>", page)
    assert tags
    assert all("disabled" in tag and "ask an operator" in tag for tag in tags)


# How much is asked of the database


def queries_of(client: Client, address: str) -> int:
    client.get(address)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def fill(worker: Worker, count: int, many: RemediationBatch | None = None) -> None:
    for number in range(count):
        it = factories.repair(worker, State.DONE, batch=many, task_id="t", new_task_id=f"t-{number}")
        RemediationStep.objects.create(remediation=it, number=0, kind="move", target="x", detail="x", state="done")
        factories.repair(worker, State.REFUSED, batch=many)
        factories.repair(None, State.DONE, action="undo", undoes=it, batch=many)


@pytest.mark.parametrize("page", ["list", "worker", "many"])
def test_the_number_of_queries_does_not_grow_with_the_rows(as_operator: Client, zombie: Worker, page: str) -> None:
    many = batch()
    address = {"list": "/remediations/", "worker": zombie.get_absolute_url(), "many": many.get_absolute_url()}[page]
    fill(zombie, 1, many)
    before = queries_of(as_operator, address)
    fill(zombie, 6, many)
    assert queries_of(as_operator, address) == before


def test_nor_does_that_of_the_cards_that_are_pushed(zombie: Worker) -> None:
    """Each has its lineage, the worker of its new task, and the preview in the place of one that had become wrong."""
    counts = []
    for count in (1, 29):
        for number in range(count):
            add_retried(f"{count}-{number}")
        keys = list(Remediation.objects.values_list("pk", flat=True))
        with CaptureQueriesContext(connection) as captured:
            texts = [text for repair in repaired(set(keys)) for text in repair.texts]
        counts.append(len(captured))
        page = "".join(texts)
        assert page.count("See the new preview") == len(keys) // 3
        assert page.count("done by worker-again-") == len(keys) // 3
        assert page.count('<p class="pad lineage">') == len(keys) // 3
    assert (len(keys), counts[0]) == (90, counts[1])


def add_retried(name: str) -> None:
    """A task that was retried from here twice, and a preview that had become wrong."""
    first = factories.add(Health.FAILED, worker_id=f"worker-{name}", task_id=f"task-{name}")
    again = factories.add(Health.HEALTHY, worker_id=f"worker-again-{name}", task_id=f"task-{name}-c")
    Worker.objects.filter(pk=again.pk).update(retry_of=f"task-{name}-b")
    Worker.objects.filter(pk=first.pk).update(retry_of=f"task-{name}-a")
    done = {"action": "recover-task", "task_id": f"task-{name}", "new_task_id": f"task-{name}-c"}
    factories.repair(first, State.DONE, **done)
    wrong = factories.repair(first, State.REFUSED, action="recover-task")
    factories.repair(first, instead_of=wrong, action="recover-task")


def test_lists_read_neither_evidence_nor_output(as_viewer: Client, zombie: Worker) -> None:
    many = batch()
    fill(zombie, 2, many)
    for address in ("/remediations/", zombie.get_absolute_url(), many.get_absolute_url(), "/remediations/export.csv"):
        with CaptureQueriesContext(connection) as captured:
            assert as_viewer.get(address).getvalue()
        read = [query["sql"] for query in captured if '"evidence"' in query["sql"] or '"output"' in query["sql"]]
        assert read == [], address


def test_a_large_act_on_many_is_shown_in_pages_with_the_worst_first(as_operator: Client, zombie: Worker) -> None:
    plan = {"steps": [factories.STEP], "relies_on": {}, "warnings": [], "asks": "Retry it again?"}
    many = batch()
    for _ in range(BATCH_PAGE):
        factories.repair(zombie, State.DONE, batch=many)
    failed = factories.repair(zombie, State.FAILED, batch=many)
    planned = factories.repair(zombie, batch=many, plan=plan)
    first = as_operator.get(many.get_absolute_url()).content.decode()
    numbers = [int(number) for number in re.findall(r'id="remediation-row-(\d+)"', first)]
    assert (len(numbers), numbers[:2]) == (BATCH_PAGE, [failed.pk, planned.pk])
    assert "Page 1 of 2, the worst first" in first
    assert f"101 of {BATCH_PAGE + 2} finished: {BATCH_PAGE} done, 1 failed, 1 planned" in first
    second = as_operator.get(f"{many.get_absolute_url()}?page=2").content.decode()
    assert len(re.findall('id="remediation-row-', second)) == 2
    assert 'name="answered"' in first
    assert 'name="answered"' in second, "the question is that of all, not of those on the page"
    Remediation.objects.filter(pk=planned.pk).update(state=State.WITHDRAWN)
    assert 'name="answered"' not in as_operator.get(many.get_absolute_url()).content.decode()


def test_nor_does_that_of_the_export(as_viewer: Client, zombie: Worker) -> None:
    counts = []
    for more in (1, 6):
        fill(zombie, more)
        with CaptureQueriesContext(connection) as captured:
            as_viewer.get("/remediations/export.csv").getvalue()
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_the_page_of_components_shows_repairs_that_nobody_can_press(as_admin: Client, zombie: Worker) -> None:
    page = as_admin.get("/components/").content.decode()
    shown = set(re.findall(r'<section id="remediation-\d+" class="card remediation (\w+)"', page))
    assert shown == set(State)
    keys = {int(key) for key in re.findall(r'(?:"run": "|name="run" value="|/remediations/)(\d+)', page)}
    assert keys
    assert min(keys) >= 10**12, "a button of the page must not act on a run or a remediation that exists"
