"""Figures over incidents, each worked out by hand; and that a division by nothing is nothing, never 0."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from workers.health import Health
from workers.incidents import How, Incident, Kind
from workers.measures import (
    Failure,
    Gaps,
    Spread,
    TimeInHealth,
    by_shape,
    failure_matrix,
    first_task,
    repeat_offenders,
    shape,
    share_of_time,
    spread,
    success_rate,
    time_in_health,
    time_to_acknowledge,
    time_to_detect,
    time_to_resolve,
)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def incident(  # type: ignore[no-untyped-def]
    kind: Kind, detected: datetime, noticed: float, took: float | None = None, how: How = How.RECOVERED, **more
) -> Incident:
    """One that was noticed so many minutes after it began, and took so many minutes from then to its end."""
    began = detected - minutes(noticed)
    resolved = began + minutes(took) if took is not None else None
    return Incident("w-1", "r", kind, began, detected, resolved=resolved, how=how if resolved else None, **more)


#: Six incidents. Noticed after 15, 15, 2, 1, 0 min and (unknown); repaired after 25, 45, 62, 11 min; one lasts, one
#: turned into another kind.
WEEK = [
    incident(Kind.STALLED, ago(minutes=30), 15, 25),
    incident(Kind.STALLED, ago(hours=1), 15, 45, how=How.SUPERSEDED),
    incident(Kind.ZOMBIE, ago(hours=2), 2, 62, how=How.REMEDIATION, acknowledged=ago(hours=2) + minutes(10)),
    incident(Kind.ZOMBIE, ago(days=3), 1, 11, how=How.COMPLETED, acknowledged=ago(days=3) + minutes(4)),
    incident(Kind.FAILED, ago(days=8), 0, 45, how=How.RESTARTED),
    incident(Kind.CRASHED, ago(days=29), 0, began_known=False),
    incident(Kind.CRASHED, ago(days=30), 0, began_known=False, acknowledged=ago(days=30) + minutes(7)),
]


def test_the_time_to_detect() -> None:
    # 0 1 2 15 15: the third is in the middle; nine of ten of five are five
    assert time_to_detect(WEEK) == Spread(5, minutes(2), minutes(15))


def test_the_time_to_acknowledge() -> None:
    # 4 7 10
    assert time_to_acknowledge(WEEK) == Spread(3, minutes(7), minutes(10))


def test_the_time_to_resolve() -> None:
    # 11 25 45 62, without the stall that only became a zombie: between 25 and 45
    assert time_to_resolve(WEEK) == Spread(4, minutes(35), minutes(62))


def test_the_ninetieth_percentile_is_a_duration_that_occurred() -> None:
    assert spread(minutes(number) for number in range(1, 11)) == Spread(10, minutes(5.5), minutes(9))
    assert spread(minutes(number) for number in range(1, 12)) == Spread(11, minutes(6), minutes(10))
    assert spread([minutes(3)]) == Spread(1, minutes(3), minutes(3))


def test_a_clock_that_jumped_makes_no_negative_time() -> None:
    assert spread([minutes(-5), minutes(1)]) == Spread(2, minutes(0.5), minutes(1))


def test_the_success_rate() -> None:
    done, failed = Health.COMPLETED, Health.FAILED
    assert success_rate([done, done, done, failed, Health.CANCELLED, Health.GONE, Health.HEALTHY]) == 0.75
    assert success_rate([failed]) == 0
    assert success_rate([Health.CANCELLED]) is None


def test_the_failure_matrix() -> None:
    assert failure_matrix(WEEK, NOW) == {
        "zombie": {"1 h": 0, "24 h": 1, "7 d": 2, "30 d": 2},
        "stalled": {"1 h": 1, "24 h": 2, "7 d": 2, "30 d": 2},
        "failed": {"1 h": 0, "24 h": 0, "7 d": 0, "30 d": 1},
        "crashed": {"1 h": 0, "24 h": 0, "7 d": 0, "30 d": 1},
    }
    assert list(failure_matrix(WEEK, NOW)) == ["stalled", "zombie", "crashed", "failed"]
    assert failure_matrix(WEEK, NOW, lambda each: "any")["any"] == {"1 h": 1, "24 h": 3, "7 d": 4, "30 d": 6}
    assert failure_matrix(WEEK, ago(days=31)) == {}, "what is yet to come has not happened"


def test_nothing_is_nothing_and_not_zero() -> None:
    assert time_to_detect([]) is time_to_acknowledge([]) is time_to_resolve([]) is success_rate([]) is None
    assert share_of_time({}) is None
    assert failure_matrix([], NOW) == {}


def test_a_task_that_failed_twice_is_a_repeat_offender_with_its_retries() -> None:
    first, second = Failure("t-1", "w-1", ago(hours=3)), Failure("t-1-retry", "w-2", ago(hours=2))
    once, nameless = Failure("t-2", "w-3", ago(hours=1)), Failure("", "w-4", NOW)
    retries = {"t-1-retry": "t-1", "t-9": "t-8", "t-8": "t-9"}
    failures = [second, first, first, once, nameless, nameless, Failure("t-9", "w-9", NOW)]
    (offender,) = repeat_offenders(failures, lambda task: retries.get(task, ""))
    assert (offender.task_id, offender.failures, offender.last) == ("t-1", (first, second), ago(hours=2))
    assert repeat_offenders([first, second]) == [], "without their lineage they are two tasks"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Exit code 137 after 2.5 s", "Exit code <n> after <n> s"),
        ("No such file: /home/me/work/a.json", "No such file: <path>"),
        ("src/app/main.py line 12", "<path> line <n>"),
        ("worker-implementation-001 and dev-worker-1672B646 died", "<id> and <id> died"),
        ("at 2025-11-16T17:28:45-0600 at 0xdeadbeef", "at <time> at <hex>"),
        ("commit 9ccc37a1 of 123e4567-e89b-12d3-a456-426614174000", "commit <hex> of <hex>"),
        ("GET https://example.org/a?b=1 gave 503", "GET <url> gave <n>"),
        ("a  defaced\n\tfacade", "a defaced facade"),
        ("read/write on and/or off, HTTP/2", "read/write on and/or off, HTTP/<n>"),
    ],
)
def test_the_shape_of_an_error(text: str, expected: str) -> None:
    assert shape(text) == expected
    assert shape(shape(text)) == expected


def test_error_texts_are_grouped_by_shape() -> None:
    assert by_shape(["timeout after 5 s", "boom", " ", "timeout after 61 s"]) == [
        ("timeout after <n> s", 2, "timeout after 5 s"),
        ("boom", 1, "boom"),
    ]


def test_the_time_in_each_health_is_unknown_where_nobody_watched() -> None:
    changes = [(ago(hours=4), Health.STALLED), (ago(hours=10), Health.HEALTHY), (ago(hours=1), Health.COMPLETED)]
    gaps = [(ago(hours=5), ago(hours=3)), (ago(hours=3.5), ago(hours=2.5))]
    spent = time_in_health(changes, ago(hours=8), NOW, gaps)
    assert spent == {
        Health.HEALTHY: timedelta(hours=3),
        Health.STALLED: timedelta(hours=1.5),
        Health.UNKNOWN: timedelta(hours=2.5),
        Health.COMPLETED: timedelta(hours=1),
    }
    assert sum(spent.values(), timedelta()) == timedelta(hours=8)
    shares = share_of_time(spent)
    assert shares is not None
    assert shares[Health.HEALTHY] == 0.375


def test_a_range_that_runs_backwards_holds_no_time() -> None:
    assert time_in_health([(ago(hours=4), Health.HEALTHY)], NOW, ago(hours=1)) == {}
    assert time_in_health([], ago(hours=1), NOW) == {}


def test_summed_in_one_pass_it_is_the_same_as_run_by_run() -> None:
    """Two runs over 100 min with two gaps: one is healthy when it begins, stalls and ends; the other only begins."""
    since, until = NOW, NOW + minutes(100)
    gaps = [(NOW + minutes(10), NOW + minutes(25)), (NOW + minutes(90), NOW + minutes(120))]
    runs = {
        1: [(NOW, Health.HEALTHY), (NOW + minutes(20), Health.STALLED), (NOW + minutes(60), Health.FAILED)],
        2: [(NOW + minutes(30), Health.HEALTHY)],
    }
    expected: dict[Health, timedelta] = {}
    for changes in runs.values():
        for health, time in time_in_health(changes, since, until, gaps, {Health.FAILED}).items():
            expected[health] = expected.get(health, timedelta()) + time
    # healthy 10 + 60 min, stalled 35, unknown 10 + 5 and 10
    assert expected == {Health.HEALTHY: minutes(70), Health.STALLED: minutes(35), Health.UNKNOWN: minutes(25)}
    sums = TimeInHealth(6000, [(600, 1500), (5400, 7200)])
    sums.follow([(1, "healthy", "stalled", 1200), (2, "", "healthy", 1800), (1, "stalled", "failed", 3600)])
    assert sums.spent({Health.FAILED}) == expected


def test_a_run_that_did_not_change_is_in_its_state_all_the_time() -> None:
    sums = TimeInHealth(60)
    sums.follow([], [(1, "late")])
    assert sums.spent() == {Health.LATE: minutes(1)}


def test_gaps_may_overlap_and_run_backwards() -> None:
    gaps = Gaps([(NOW, NOW + minutes(10)), (NOW + minutes(5), NOW + minutes(20)), (NOW + minutes(40), NOW)])
    assert gaps.stretches == ((NOW, NOW + minutes(20)),)
    assert gaps.within(NOW - minutes(5), NOW + minutes(15)) == minutes(15)
    assert gaps.within(NOW + minutes(30), NOW + minutes(50)) == timedelta()


def test_a_ring_of_retries_is_one_task() -> None:
    ring = {"b": "c", "c": "b", "d": "c"}
    assert {first_task(task, lambda each: ring.get(each, "")) for task in ("b", "c", "d")} == {"b"}
