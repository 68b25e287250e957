"""What a policy decides: each bound on both of its sides, by a clock that is given, and never more than the bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.autopilot.policy import Bounds, Case, Choice, Outcome, Rule, Situation, Try, Verdict, rule
from workers.quiet import Quiet

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOUNDS = Bounds(deed="clean up", health="zombie", after=timedelta(minutes=10))
GO, WAITS, HELD_BACK = Verdict.GO, Verdict.WAITS, Verdict.HELD_BACK


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def ago(number: float) -> datetime:
    return NOW - minutes(number)


def case(run: int = 1, since: float = 60, **values: Any) -> Case:
    return Case(run, f"w-{run}", ago(since), **values)


def tried(*ages: float, outcome: Outcome = Outcome.FAILED) -> tuple[Try, ...]:
    return tuple(Try(ago(age), outcome) for age in ages)


def decide(*cases: Case, bounds: Bounds = BOUNDS, fleet: int = 100, **values: Any) -> Any:
    return rule(bounds, Situation(NOW, cases, fleet, **values))


def only(*args: Any, **values: Any) -> Choice:
    ruling = decide(*args, **values)
    assert len(ruling.choices) == 1, ruling
    choice: Choice = ruling.choices[0]
    return choice


QUIET = Quiet(time(22), time(6))
DAYTIME = Quiet(time(12), time(13))
SILENT = {"silent_since": ago(1)}

BOTH_SIDES: dict[str, tuple[Case, dict[str, Any], Verdict, str]] = {
    "in the state for as long as it takes": (case(since=10), {}, GO, ""),
    "a second less": (case(since=10 - 1 / 60), {}, WAITS, ""),
    "nobody watched a minute of it": (case(since=10.5, unwatched=minutes(1)), {}, WAITS, ""),
    "nobody watched a minute, and it is a minute more": (case(since=11, unwatched=minutes(1)), {}, GO, ""),
    "nobody watches it now, though it was for long enough": (case(since=30, **SILENT), {}, HELD_BACK, Rule.UNWATCHED),
    "nobody watches it now, and it was not yet for long enough": (case(since=10.5, **SILENT), {}, WAITS, ""),
    "the last try is as long ago as the delay": (case(tries=tried(20)), {}, GO, ""),
    "the last try is not as long ago": (case(tries=tried(19.9)), {}, WAITS, ""),
    "it acts at once, but the next try waits all the same": (
        case(tries=tried(1.9)),
        {"bounds": replace(BOUNDS, after=minutes(0))},
        WAITS,
        "",
    ),
    "it acts at once, and has waited": (case(tries=tried(2)), {"bounds": replace(BOUNDS, after=minutes(0))}, GO, ""),
    "the second delay is over": (case(tries=tried(60, 40)), {}, GO, ""),
    "the second delay is not": (case(tries=tried(60, 39.9)), {}, WAITS, ""),
    "one try less than the most": (case(tries=tried(900, 800)), {}, GO, ""),
    "as many tries as the most": (case(tries=tried(900, 800, 700)), {}, HELD_BACK, Rule.TRIES),
    "as many, of which one is a day ago": (case(tries=tried(1440, 800, 700)), {}, GO, ""),
    "one try less than the most of an hour": (case(), {"recent": [ago(59)] * 9}, GO, ""),
    "the most of an hour": (case(), {"recent": [ago(59)] * 10}, HELD_BACK, Rule.RATE),
    "the most, of which one is an hour ago": (case(), {"recent": [ago(60), *[ago(59)] * 9]}, GO, ""),
    "before quiet hours": (case(), {"bounds": replace(BOUNDS, quiet=QUIET)}, GO, ""),
    "as quiet hours begin": (case(), {"bounds": replace(BOUNDS, quiet=DAYTIME)}, HELD_BACK, Rule.QUIET),
    "during maintenance": (case(), {"maintenance_until": NOW + minutes(1)}, HELD_BACK, Rule.MAINTENANCE),
    "as maintenance ends": (case(), {"maintenance_until": NOW}, GO, ""),
    "somebody has a repair of it open": (case(busy="kim has asked"), {}, HELD_BACK, Rule.BUSY),
    "somebody has undone it": (case(never="kim has undone"), {}, HELD_BACK, Rule.PERSON),
    "the table of actions has nothing for it": (case(no_case="Only a live one"), {}, HELD_BACK, Rule.NO_CASE),
    "a person restarted it just now": (case(restarted_at=ago(9), restarted_by="kim"), {}, WAITS, ""),
    "a person restarted it long ago": (case(restarted_at=ago(10), restarted_by="kim"), {}, GO, ""),
    "it was dropped before": (case(tries=tried(21, outcome=Outcome.DROPPED)), {}, GO, ""),
    "it was done, and is a case anew": (case(since=30, tries=tried(31, outcome=Outcome.DONE)), {}, GO, ""),
}


@pytest.mark.parametrize("name", BOTH_SIDES)
def test_each_bound_holds_on_one_side_and_not_on_the_other(name: str) -> None:
    about, values, verdict, held_by = BOTH_SIDES[name]
    choice = only(about, **values)
    assert (choice.verdict, choice.rule) == (verdict, held_by)
    assert choice.why


@pytest.mark.parametrize("outcome", [Outcome.ASSUMED, Outcome.UNDER_WAY, Outcome.DONE])
def test_a_run_that_was_seen_to_is_left_alone_while_it_stays_in_that_state(outcome: Outcome) -> None:
    assert decide(case(since=600, tries=tried(500, outcome=outcome))).choices == ()


def test_one_that_waits_says_until_when() -> None:
    assert only(case(since=4)).due == NOW + minutes(6)
    assert only(case(since=4, unwatched=minutes(2))).due == NOW + minutes(8)
    assert only(case(tries=tried(5))).due == NOW + minutes(15)
    assert only(case(**SILENT | {"since": 5})).due is None, "nobody knows when it will be watched again"


def test_a_try_says_which_one_it_is() -> None:
    assert only(case()).number == 1
    assert only(case(tries=tried(900, 800))).number == 3


# -- many at once


def zombies(number: int, **values: Any) -> list[Case]:
    return [case(run, **values) for run in range(number)]


@pytest.mark.parametrize(("number", "fleet", "trips"), [(4, 40, False), (5, 40, True), (1, 2, False), (2, 2, True)])
def test_more_than_the_share_of_the_fleet_at_once_stops_it(number: int, fleet: int, trips: bool) -> None:
    ruling = decide(*zombies(number), fleet=fleet)
    assert bool(ruling.trips) is trips
    assert len(ruling.go) == (0 if trips else number), "all or nothing"


def test_it_says_what_mass_death_usually_means() -> None:
    said = decide(*zombies(12), fleet=40).trips
    assert said.startswith("12 of 40 workers are zombies at once, more than 10 %; that usually means")


def test_mass_death_stops_it_before_any_of_them_is_due() -> None:
    assert decide(*zombies(12, since=0.1), fleet=40).trips


@pytest.mark.parametrize(
    "values",
    [{"silent_since": ago(1)}, {"never": "kim has undone it"}, {"tries": tried(5, outcome=Outcome.ASSUMED)}],
    ids=["nobody watches them", "people keep them", "all are seen to"],
)
def test_those_that_are_none_of_its_business_do_not_stop_it(values: dict[str, Any]) -> None:
    assert not decide(*zombies(12, **values), fleet=40).trips


def test_maintenance_is_no_mass_death() -> None:
    ruling = decide(*zombies(12), fleet=40, maintenance_until=NOW + minutes(5))
    assert not ruling.trips
    assert {choice.rule for choice in ruling.choices} == {Rule.MAINTENANCE}


@pytest.mark.parametrize(
    ("outcomes", "trips"),
    [
        ([Outcome.FAILED] * 2, False),
        ([Outcome.FAILED] * 3, True),
        ([Outcome.FAILED, Outcome.FAILED, Outcome.DONE, Outcome.FAILED], False),
        ([Outcome.DONE, *[Outcome.FAILED] * 3], False),
    ],
)
def test_failures_in_a_row_stop_it(outcomes: list[Outcome], trips: bool) -> None:
    assert bool(decide(case(), outcomes=outcomes).trips) is trips


def test_those_that_have_waited_longest_come_first() -> None:
    bounds = replace(BOUNDS, most_an_hour=2)
    ruling = decide(case(1, 20), case(2, 40), case(3, 30), bounds=bounds)
    assert [choice.case.run for choice in ruling.go] == [2, 3]
    assert [choice.rule for choice in ruling.choices] == ["", "", Rule.RATE]


# -- quiet hours


@pytest.mark.parametrize(
    ("at", "quiet"),
    [("21:59", False), ("22:00", True), ("23:59", True), ("00:00", True), ("05:59", True), ("06:00", False)],
)
def test_quiet_hours_reach_across_midnight(at: str, quiet: bool) -> None:
    assert QUIET.holds(datetime.fromisoformat(f"2026-03-01T{at}+00:00")) is quiet


@pytest.mark.parametrize(("at", "quiet"), [("11:59", False), ("12:00", True), ("12:59", True), ("13:00", False)])
def test_quiet_hours_within_a_day(at: str, quiet: bool) -> None:
    assert DAYTIME.holds(datetime.fromisoformat(f"2026-03-01T{at}+00:00")) is quiet


def test_quiet_hours_are_those_of_their_zone() -> None:
    night = Quiet(time(22), time(6), "Asia/Tokyo")  # nine hours ahead
    assert night.holds(datetime(2026, 3, 1, 13, 0, tzinfo=UTC))
    assert not night.holds(datetime(2026, 3, 1, 12, 59, tzinfo=UTC))
    assert not night.holds(datetime(2026, 3, 1, 21, 0, tzinfo=UTC))


# -- whatever happens

some_minutes = st.floats(0, 3000, allow_nan=False).map(lambda number: round(number, 2))
some_tries = st.lists(st.tuples(some_minutes, st.sampled_from(Outcome)), max_size=4).map(
    lambda several: tuple(Try(ago(age), outcome) for age, outcome in sorted(several, reverse=True))
)
some_cases = st.lists(
    st.builds(
        lambda since, unwatched, silent, busy, never, restarted, tries: {
            "since": since,
            "unwatched": minutes(unwatched),
            "silent_since": ago(min(1, since)) if silent else None,
            "busy": "kim has asked" if busy else "",
            "never": "kim has undone it" if never else "",
            "restarted_at": ago(restarted) if restarted < 100 else None,
            "tries": tries,
        },
        some_minutes,
        st.floats(0, 30),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        some_minutes,
        some_tries,
    ),
    max_size=12,
).map(lambda several: [case(run, **values) for run, values in enumerate(several, 1)])
some_bounds = st.builds(
    lambda after, most, factor, hour, percent, failures, quiet: replace(
        BOUNDS,
        after=minutes(after),
        most_tries=most,
        delay_factor=factor,
        most_an_hour=hour,
        most_percent=percent,
        breaker_failures=failures,
        quiet=DAYTIME if quiet else None,
    ),
    st.floats(0, 60),
    st.integers(1, 5),
    st.floats(1, 4),
    st.integers(1, 8),
    st.floats(0.1, 50),
    st.integers(1, 4),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(
    some_bounds, some_cases, st.integers(0, 200), st.lists(some_minutes, max_size=8), st.lists(st.sampled_from(Outcome))
)
def test_it_never_does_more_than_its_bounds(
    bounds: Bounds, cases: list[Case], fleet: int, recent: list[float], outcomes: list[Outcome]
) -> None:
    moments = [ago(age) for age in recent]
    ruling = rule(bounds, Situation(NOW, cases, fleet, moments, outcomes))
    go = ruling.go
    assert len(go) <= max(0, bounds.most_an_hour - sum(1 for age in recent if age < 60))
    assert len(go) <= max(1, bounds.most_percent * fleet / 100)
    assert not (ruling.trips and ruling.choices)
    assert not (go and bounds.quiet)  # it is noon
    for choice in go:
        today = [each for each in choice.case.tries if each.at > ago(1440)]
        assert choice.case.watched(NOW) >= bounds.after
        assert len(today) < bounds.most_tries
        assert not today or NOW - today[-1].at >= bounds.after * bounds.delay_factor ** len(today)
        assert not any((choice.case.busy, choice.case.never, choice.case.silent_since, choice.case.settled))


@settings(max_examples=100, deadline=None)
@given(some_bounds, some_cases, st.integers(0, 200))
def test_every_case_is_decided_once_and_for_a_reason(bounds: Bounds, cases: list[Case], fleet: int) -> None:
    ruling = rule(bounds, Situation(NOW, cases, fleet))
    if not ruling.trips:
        assert sorted(choice.case.run for choice in ruling.choices) == [each.run for each in cases if not each.settled]
        assert all(choice.why for choice in ruling.choices)
        assert all(bool(choice.rule) == (choice.verdict is HELD_BACK) for choice in ruling.choices)
