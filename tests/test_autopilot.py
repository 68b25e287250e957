"""Policies on a real fleet: in shadow they touch nothing, active they repair like anybody, and people come first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.autopilot import decide
from workers.autopilot.facts import bounds_of, read
from workers.autopilot.policy import rule
from workers.autopilot.rounds import look as look_by
from workers.health import Health
from workers.models import Change, Decision, Installation, Policy, PollerGap, Remediation, Worker
from workers.remediation import ask
from workers.remediation.actions import CLEAN_UP, RESTART
from workers.remediation.ground import NotAllowed

from . import factories
from .repairs import ACTIVE, FAILED, Workshop, snapshot

pytestmark = pytest.mark.django_db
Mode = Policy.Mode
State = Remediation.State
Verdict = Decision.Verdict


@pytest.fixture(autouse=True)
def _no_other_policies(db: None) -> None:
    Policy.objects.all().delete()


def policy(mode: str = Mode.ACTIVE, **values: Any) -> Policy:
    given = {"name": "Zombies", "action": "clean-up", "health": "zombie", "after_minutes": 0, **values}
    return Policy.objects.create(mode=mode, **given)


def now() -> datetime:
    return datetime.now(UTC)


def look(workshop: Workshop, rounds: int = 3) -> None:
    """Let the policies look, and the executor do what they ask for, so often."""
    for _ in range(rounds):
        Workshop.cycle(workshop)  # so that its host is watched
        decide(now())
        for each in Remediation.objects.filter(state__in=(State.PLANNING, State.CONFIRMED)).order_by("pk"):
            workshop.attend(each)


def said() -> list[tuple[str, str, int]]:
    return list(Decision.objects.order_by("pk").values_list("verdict", "rule", "number"))


# -- in shadow


def test_a_shadow_touches_nothing_and_notes_each_try_once(workshop: Workshop) -> None:
    workshop.zombie()
    policy(Mode.SHADOW)
    before = snapshot(workshop.path)
    look(workshop, 4)
    assert snapshot(workshop.path) == before
    assert not Remediation.objects.exists()
    assert said() == [("would", "", 1)]
    assert Decision.objects.get().why.startswith("It has been a zombie for 0 min")


def test_one_that_is_off_notes_nothing(workshop: Workshop) -> None:
    workshop.zombie()
    policy(Mode.OFF)
    look(workshop)
    assert said() == []


def test_shadow_and_active_decide_the_same_about_the_same_fleet() -> None:
    factories.poller(last_cycle_at=now())
    for number, age in enumerate((4, 9, 11, 60, 70), 1):
        factories.add(Health.ZOMBIE, number, health_since=now() - timedelta(minutes=age))
    for number in range(10, 70):
        factories.add(Health.HEALTHY, number)
    factories.repair(Worker.objects.get(worker_id__endswith="-004"), State.PLANNED, actor="kim")
    PollerGap.objects.create(host="host-a", began=now() - timedelta(minutes=2), ended=now() - timedelta(minutes=1))
    columns = ("worker", "why", "rule", "number")
    found = {}
    for mode in (Mode.SHADOW, Mode.ACTIVE):
        it = policy(mode, after_minutes=9.5, most_an_hour=1)
        decide(now())
        found[mode] = list(it.decisions.order_by("worker").values_list(*columns))
        assert it.decisions.filter(verdict={"shadow": "would", "active": "does"}[mode]).count() == 1
        it.decisions.all().delete()
        Remediation.objects.filter(policy=it).delete()
        it.delete()
    assert found[Mode.SHADOW] == found[Mode.ACTIVE]
    assert [rule for _, _, rule, _ in found[Mode.SHADOW]] == ["rate", "busy", ""], (
        "005 is the one that has waited longest"
    )


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.sampled_from(["", "busy", "undone", "restarted", "far away"])), max_size=6
    ),
    st.integers(0, 60),
    st.booleans(),
)
def test_whatever_the_fleet_the_mode_changes_nothing(
    workers: list[tuple[int, str]], others: int, maintenance: bool
) -> None:
    with transaction.atomic():
        factories.poller(last_cycle_at=now())
        Worker.objects.bulk_create(factories.build(Health.HEALTHY, number) for number in range(100, 100 + others))
        for number, (age, about) in enumerate(workers, 1):
            host = "host-b" if about == "far away" else "host-a"
            worker = factories.add(Health.ZOMBIE, number, host=host, health_since=now() - timedelta(minutes=age))
            if about == "busy":
                factories.repair(worker)
            if about == "restarted":
                factories.repair(worker, State.DONE, action="restart", finished_at=now() - timedelta(minutes=20))
        if maintenance:
            Installation.objects.create(maintenance_until=now() + timedelta(hours=1))
        moment = now()
        rulings = []
        for mode in (Mode.SHADOW, Mode.ACTIVE):
            it = policy(mode, name=mode, after_minutes=30, most_an_hour=2)
            rulings.append(rule(bounds_of(it), read([it], moment).situations[it.pk]))
        assert rulings[0] == rulings[1]
        transaction.set_rollback(True)


def test_two_processes_that_look_at_once_try_once() -> None:
    factories.poller(last_cycle_at=now())
    factories.add(Health.ZOMBIE)
    it = policy()
    facts = read([it], now())
    look_by(it, facts)
    look_by(it, facts)
    assert said() == [("does", "", 1)]
    assert Remediation.objects.count() == 1


# -- active


def test_a_zombie_is_really_cleaned_up_audited_as_its_own_and_undone(workshop: Workshop) -> None:
    original = workshop.zombie().read_bytes()
    it = policy()
    look(workshop)
    assert not workshop.exists(f"{ACTIVE}/w-1.json")
    assert workshop.read(f"{FAILED}/w-1.json")["status"] == "failed"
    done = Remediation.objects.get()
    assert (done.state, done.actor, done.via, done.user, done.policy) == (
        *(State.DONE, "autopilot: Zombies", "autopilot", None, it),
    )
    assert done.reason.startswith("It has been a zombie for 0 min")
    assert Decision.objects.get().remediation == done
    assert "by autopilot: Zombies" in str(workshop.events()[-1])

    assert workshop.undo(done).state == State.DONE
    assert (workshop.path / ACTIVE / "w-1.json").read_bytes() == original


def test_what_a_person_has_undone_is_never_done_again(workshop: Workshop) -> None:
    workshop.zombie()
    policy()
    look(workshop)
    workshop.undo(Remediation.objects.get())
    look(workshop)
    assert workshop.worker().health == Health.ZOMBIE
    assert workshop.exists(f"{ACTIVE}/w-1.json")
    assert said() == [("does", "", 1), ("held back", "person", 2)]
    assert Decision.objects.last().why.startswith("kim has undone what the autopilot did to it")  # type: ignore[union-attr]


def test_what_a_person_has_withdrawn_is_never_tried_again(workshop: Workshop) -> None:
    workshop.zombie()
    policy()
    workshop.cycle()
    decide(now())
    ask.withdraw(Remediation.objects.get(), workshop.somebody())
    look(workshop)
    assert workshop.exists(f"{ACTIVE}/w-1.json")
    assert said() == [("does", "", 1), ("held back", "person", 2)]


def test_a_run_that_a_person_is_about_to_repair_is_left_to_them(workshop: Workshop) -> None:
    workshop.zombie()
    policy()
    workshop.preview("force-fail")
    look(workshop)
    assert said() == [("held back", "busy", 1)]
    assert Decision.objects.get().why == f"kim has asked for a force-fail of it (#{Remediation.objects.get().pk})"


def test_a_preview_that_a_person_opened_and_left_holds_nothing_back_for_long(workshop: Workshop) -> None:
    workshop.zombie()
    policy()
    left = workshop.preview("force-fail")
    workshop.executor.look()
    look(workshop)
    assert said() == [("held back", "busy", 1)], "kim may still be reading it"
    Remediation.objects.update(planned_at=now() - timedelta(minutes=61))
    workshop.new_executor().look()
    look(workshop)
    left.refresh_from_db()
    assert (left.state, left.error) == (State.WITHDRAWN, "Nobody confirmed it within an hour")
    assert workshop.exists(f"{FAILED}/w-1.json")


def test_nor_does_an_undo_of_its_own_that_a_person_opened_and_left(workshop: Workshop) -> None:
    workshop.zombie()
    it = policy()
    look(workshop)
    done = it.remediations.get()
    workshop.preview_undo(done)
    runs = Worker.objects.filter(pk=done.worker_id)
    runs.update(health="zombie", live=True)
    assert "kim has undone" in read([it], now()).situations[it.pk].cases[0].never
    Remediation.objects.filter(action="undo").update(planned_at=now() - timedelta(minutes=61))
    workshop.executor.look()
    assert read([it], now()).situations[it.pk].cases[0].never == ""


def test_a_preview_of_its_own_that_a_person_left_is_no_persons_no() -> None:
    it = policy()
    worker = factories.add(Health.ZOMBIE)
    factories.repair(worker, State.WITHDRAWN, policy=it, error=Remediation.LAPSED)
    assert read([it], now()).situations[it.pk].cases[0].never == ""
    Remediation.objects.update(error="Withdrawn by kim")
    assert "Withdrawn by kim" in read([it], now()).situations[it.pk].cases[0].never


def test_one_that_asks_at_the_same_time_makes_it_step_back(workshop: Workshop) -> None:
    workshop.zombie()
    policy()
    workshop.cycle()
    decide(now())
    mine = workshop.attend(Remediation.objects.get())
    workshop.preview("force-fail")
    decide(now())
    mine.refresh_from_db()
    assert mine.state == State.WITHDRAWN
    assert mine.error == "The autopilot has let go of it: kim has asked for a repair of it as well"


def test_a_run_that_a_person_has_just_restarted_gets_its_time(workshop: Workshop) -> None:
    workshop.zombie()
    policy(after_minutes=5)
    worker = workshop.worker_after_cycle()
    Worker.objects.update(health_since=now() - timedelta(hours=1))
    restart = factories.repair(worker, State.DONE, action="restart", actor="kim", finished_at=now())
    look(workshop)
    assert said() == []
    Remediation.objects.filter(pk=restart.pk).update(finished_at=now() - timedelta(minutes=6))
    look(workshop, 1)
    assert said() == [("does", "", 1)]


@pytest.mark.parametrize("plan", [{"asks": "Retry it again?"}, {"warnings": ["A daemon is there"]}])
def test_a_plan_that_a_person_has_to_read_is_let_go(workshop: Workshop, plan: dict[str, Any]) -> None:
    workshop.zombie()
    policy()
    workshop.cycle()
    decide(now())
    asked = workshop.attend(Remediation.objects.get())
    Remediation.objects.update(plan={**(asked.plan or {}), **plan})
    look(workshop)
    assert workshop.exists(f"{ACTIVE}/w-1.json")
    assert Remediation.objects.get().state == State.WITHDRAWN
    assert said() == [("does", "", 1), ("held back", "plan", 1)]


def test_a_preview_that_has_become_wrong_is_not_carried_out(workshop: Workshop) -> None:
    spec = workshop.zombie()
    policy(after_minutes=0.0001)
    workshop.cycle()
    decide(now())
    asked = workshop.attend(Remediation.objects.get())
    decide(now())
    workshop.home.spec("w-1", status="pending")
    assert workshop.attend(asked).state == State.REFUSED
    assert spec.exists()
    look(workshop)
    assert spec.exists()
    assert not Remediation.objects.filter(state__in=Remediation.OPEN).exists(), "nothing is left lying about"


def test_a_zombie_on_a_host_that_nobody_watches_waits(workshop: Workshop) -> None:
    workshop.zombie()
    policy()
    workshop.cycle()
    decide(now() + timedelta(minutes=1))
    assert said() == [("held back", "unwatched", 1)]
    look(workshop, 1)
    assert said()[1:] == [("does", "", 1)]


def test_the_time_in_which_nobody_watched_does_not_count(workshop: Workshop) -> None:
    workshop.zombie()
    policy(after_minutes=30)
    workshop.cycle()
    Worker.objects.update(health_since=now() - timedelta(minutes=45))
    gap = PollerGap.objects.create(
        host="host-a", began=now() - timedelta(minutes=40), ended=now() - timedelta(minutes=20)
    )
    decide(now())
    assert said() == []
    gap.delete()
    decide(now())
    assert said() == [("does", "", 1)]


# -- what stops it


def test_mass_death_stops_it_and_what_it_had_asked_for_is_let_go(workshop: Workshop) -> None:
    workshop.zombie("w-1")
    it = policy()
    workshop.cycle()
    decide(now())
    for number in range(2, 6):
        workshop.zombie(f"w-{number}")
    look(workshop)
    it.refresh_from_db()
    assert it.tripped_at
    assert it.tripped_why.startswith("4 of 5 workers are zombies at once, more than 10 %")
    assert [each.state for each in Remediation.objects.all()] == [State.WITHDRAWN]
    assert len(list((workshop.path / ACTIVE).iterdir())) == 5
    assert Change.objects.filter(kind=Change.Kind.POLICY, key=it.pk).exists(), "pages are told"


def test_failures_in_a_row_stop_it_and_those_before_a_reset_do_not_count() -> None:
    factories.poller(last_cycle_at=now())
    it = policy(breaker_failures=3)
    for number in range(1, 4):
        worker = factories.add(Health.FAILED, number)
        failed = factories.repair(worker, State.FAILED, via="autopilot", policy=it)
        Decision.objects.create(policy=it, worker=worker, at=now(), verdict=Verdict.DOES, remediation=failed)
        decide(now())
        it.refresh_from_db()
        assert bool(it.tripped_at) is (number == 3)
    assert it.tripped_why == "The last 3 of its repairs have failed"
    Policy.objects.update(tripped_at=None, reset_at=now())
    decide(now())
    it.refresh_from_db()
    assert it.tripped_at is None


def demote(it: Policy) -> None:
    Policy.objects.update(mode=Mode.SHADOW)


def trip(it: Policy) -> None:
    Policy.objects.update(tripped_at=now(), tripped_why="Too many")


def maintain(it: Policy) -> None:
    Installation.objects.create(maintenance_until=now() + timedelta(hours=1))


def change(it: Policy) -> None:
    Policy.objects.update(action="restart")


STOPS = [demote, trip, maintain, change]


@pytest.mark.parametrize("stop", STOPS)
def test_what_it_has_confirmed_is_refused_once_it_may_not_any_more(workshop: Workshop, stop: Any) -> None:
    workshop.zombie()
    it = policy()
    workshop.cycle()
    decide(now())
    asked = workshop.attend(Remediation.objects.get())
    decide(now())
    asked.refresh_from_db()
    assert asked.state == State.CONFIRMED
    stop(it)
    asked = workshop.attend(asked)
    assert asked.state == State.REFUSED
    assert asked.error.startswith("autopilot: Zombies may not clean up any more: ")
    assert workshop.exists(f"{ACTIVE}/w-1.json")


@pytest.mark.parametrize("stop", STOPS)
def test_what_it_has_asked_for_is_let_go_once_it_may_not_any_more(workshop: Workshop, stop: Any) -> None:
    workshop.zombie()
    it = policy()
    workshop.cycle()
    decide(now())
    stop(it)
    look(workshop, 1)
    assert Remediation.objects.order_by("pk")[0].state == State.WITHDRAWN
    assert workshop.exists(f"{ACTIVE}/w-1.json")


@pytest.mark.parametrize("stop", STOPS)
def test_it_cannot_even_ask_when_it_may_not(stop: Any) -> None:
    it = policy()
    stop(it)
    person = ask.Person("autopilot: Zombies", "autopilot", policy=it)
    with pytest.raises(NotAllowed):
        ask.request(CLEAN_UP, person, factories.add(Health.ZOMBIE))


def test_it_may_do_nothing_but_what_its_policy_says() -> None:
    person = ask.Person("autopilot: Zombies", "autopilot", policy=policy())
    assert person.may(CLEAN_UP)
    assert not person.may(RESTART)
    assert not ask.Person("autopilot: Zombies", "autopilot").may(CLEAN_UP), "the word alone opens no door"


def test_a_remediation_that_only_says_autopilot_is_refused(workshop: Workshop) -> None:
    workshop.zombie()
    planned = workshop.preview("clean-up")
    Remediation.objects.update(via="autopilot", state=State.CONFIRMED)
    assert workshop.attend(planned).state == State.REFUSED


# -- what it costs


def test_the_number_of_queries_does_not_grow_with_the_cases() -> None:
    factories.poller(last_cycle_at=now())
    policy(Mode.SHADOW, most_percent=50)
    policy(Mode.SHADOW, name="Crashed", action="restart", health="crashed")

    def queries() -> int:
        decide(now())
        with CaptureQueriesContext(
            connection,
        ) as captured:
            decide(now())
        return len(captured)

    for number in range(10, 60):
        factories.add(Health.HEALTHY, number)
    factories.add(Health.ZOMBIE, 1)
    before = queries()
    for number in range(2, 10):
        factories.add(Health.ZOMBIE, number)
    assert queries() == before
    assert Decision.objects.filter(verdict="would").count() == 9
    assert before <= 12
