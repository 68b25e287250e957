"""Which causes a rule finds, on both sides of each limit; quiet hours; grouping. Pure, driven by a clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from workers.alerting.rules import (
    Ended,
    Facts,
    Group,
    Kind,
    Rule,
    Seen,
    Severity,
    Stopped,
    Watcher,
    becoming,
    find,
    minutes_in_words,
)
from workers.models import AlertRule
from workers.models import Severity as Stored
from workers.quiet import Quiet

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AWAKE = Watcher("host-a", NOW - timedelta(seconds=1), silent=False)


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def seen(
    health: str, count: int = 1, *, kind: str = "scan", master: str = "dev", host: str = "host-a", minutes: float = 5
):
    return tuple(
        Seen(number, f"w-{number:03}", host, health, kind, master, ago(minutes=minutes, seconds=number))
        for number in range(count)
    )


def fleet(**states: int) -> tuple[Group, ...]:
    return tuple(Group("host-a", health, "scan", "dev", count) for health, count in states.items())


ZOMBIES = Rule(1, "zombies", Kind.ZOMBIES, threshold=10)
MASS = Rule(2, "mass", Kind.MASS, Severity.CRITICAL, threshold=50, at_least=3)
STALLED = Rule(3, "stalled", Kind.HEALTH, health="stalled", minutes=30)
FAILING = Rule(4, "failing", Kind.FAILURE_RATE, threshold=50, at_least=5, minutes=60)
PM = Rule(5, "pm", Kind.PM_SILENT, minutes=10)
POLLER = Rule(6, "poller", Kind.POLLER_SILENT, minutes=1)
DAMAGED = Rule(7, "damaged", Kind.DAMAGED, threshold=2)


def pm(**silence: float) -> Facts:
    return Facts((replace(AWAKE, pm_seen=True, pm_last=ago(**silence)),))


@pytest.mark.parametrize(
    ("rule", "facts", "causes"),
    [
        (ZOMBIES, Facts((AWAKE,), seen("zombie", 9)), []),
        (ZOMBIES, Facts((AWAKE,), seen("zombie", 10)), [""]),
        (ZOMBIES, Facts((AWAKE,), seen("zombie", 40)), [""]),
        (ZOMBIES, Facts((AWAKE,), seen("crashed", 40)), []),
        (replace(ZOMBIES, worker_type="fix"), Facts((AWAKE,), seen("zombie", 40)), []),
        (replace(ZOMBIES, worker_type="scan", master="dev"), Facts((AWAKE,), seen("zombie", 40)), [""]),
        (replace(ZOMBIES, master="security"), Facts((AWAKE,), seen("zombie", 40)), []),
        (replace(ZOMBIES, threshold=None), Facts((AWAKE,), seen("zombie", 9)), []),
        (replace(ZOMBIES, threshold=None), Facts((AWAKE,), seen("zombie", 10)), [""]),
        (replace(ZOMBIES, threshold=None), Facts((replace(AWAKE, zombie_threshold=4),), seen("zombie", 3)), []),
        (replace(ZOMBIES, threshold=None), Facts((replace(AWAKE, zombie_threshold=4),), seen("zombie", 4)), [""]),
        (MASS, Facts((AWAKE,), (), fleet(healthy=5, zombie=3, crashed=2)), []),  # exactly half
        (MASS, Facts((AWAKE,), (), fleet(healthy=5, zombie=3, crashed=3)), [""]),
        (MASS, Facts((AWAKE,), (), fleet(zombie=2)), []),  # all of them, but too few to speak of a share
        (MASS, Facts((AWAKE,), (), fleet(zombie=3)), [""]),
        (MASS, Facts((AWAKE,), (), ()), []),
        (STALLED, Facts((AWAKE,), seen("stalled", minutes=29.9)), []),
        (STALLED, Facts((AWAKE,), seen("stalled", minutes=30)), ["scan"]),
        (STALLED, Facts((AWAKE,), seen("late", minutes=90)), []),
        (
            STALLED,
            Facts((AWAKE,), seen("stalled", 40, minutes=31) + seen("stalled", 2, kind="fix", minutes=31)),
            ["fix", "scan"],
        ),
        (FAILING, Facts((AWAKE,), ended=(Ended(60, "scan", "dev", 3, 3),)), []),  # exactly half
        (FAILING, Facts((AWAKE,), ended=(Ended(60, "scan", "dev", 3, 2),)), [""]),
        (FAILING, Facts((AWAKE,), ended=(Ended(60, "scan", "dev", 4, 0),)), []),  # four are too few
        (FAILING, Facts((AWAKE,), ended=(Ended(15, "scan", "dev", 9, 0),)), []),  # another rule's window
        (FAILING, Facts((AWAKE,), ended=(Ended(60, "scan", "dev", 2, 0), Ended(60, "fix", "dev", 2, 1))), [""]),
        (PM, pm(minutes=9.9), []),
        (PM, pm(minutes=10), ["host-a"]),
        (PM, Facts((replace(AWAKE, pm_last=ago(days=1)),)), []),  # there is none
        (POLLER, Facts((replace(AWAKE, last=ago(seconds=59), silent=True),)), []),
        (POLLER, Facts((replace(AWAKE, last=ago(seconds=60), silent=True),)), ["host-a"]),
        (POLLER, Facts((Watcher("never-ran", None, silent=True),)), []),
        (DAMAGED, Facts((replace(AWAKE, unreadable=1),)), []),
        (DAMAGED, Facts((replace(AWAKE, unreadable=2),)), [""]),
    ],
)
def test_a_rule_on_both_sides_of_its_limits(rule: Rule, facts: Facts, causes: list[str]) -> None:
    assert sorted(find(rule, facts, NOW).causes) == causes


def test_forty_zombies_are_one_cause_that_names_the_first_and_counts_all() -> None:
    (cause,) = find(ZOMBIES, Facts((AWAKE,), seen("zombie", 40)), NOW).causes.values()
    assert cause.count == 40
    assert cause.summary == "40 zombies: w-039, w-038, w-037 and 37 more"
    assert cause.workers[0] == "w-039", "in it for longest first"
    assert len(cause.workers) == 8


def test_a_summary_says_what_why_and_how_much() -> None:
    def says(rule: Rule, facts: Facts) -> str:
        (cause,) = find(rule, facts, NOW).causes.values()
        assert cause.severity is rule.severity
        return cause.summary

    facts = Facts((AWAKE,), (), fleet(healthy=4, zombie=6))
    assert says(MASS, facts).startswith("6 of 10 running workers are lost on host-a: most often a host")
    one = Facts((AWAKE,), seen("stalled", minutes=31))
    assert says(STALLED, one) == "w-000 is stalled for 30 min or longer, of type scan"
    assert (
        says(FAILING, Facts((AWAKE,), ended=(Ended(60, "scan", "dev", 4, 1),))) == "4 of 5 runs failed in the last 1 h"
    )
    assert says(PM, pm(minutes=12)) == "The PM daemon of host-a has said nothing since 2026-11-24 11:48 UTC"
    silent = Facts((replace(AWAKE, last=ago(minutes=2), silent=True),))
    assert says(POLLER, silent).startswith("The poller of host-a is silent since 2026-11-24 11:58 UTC")
    assert says(replace(DAMAGED, threshold=1), Facts((replace(AWAKE, unreadable=1),))).startswith("1 spec file cannot")


def test_what_is_old_makes_nothing_hold_and_ends_nothing() -> None:
    """The poller of host-a is silent: its forty zombies may be alive again, or not."""
    asleep = replace(AWAKE, silent=True)
    found = find(ZOMBIES, Facts((asleep,), seen("zombie", 40)), NOW)
    assert not found.causes
    assert found.blind
    other = replace(AWAKE, host="host-b")
    found = find(ZOMBIES, Facts((asleep, other), seen("zombie", 10, host="host-b")), NOW)
    assert found.causes, "what is seen elsewhere counts"
    assert not find(PM, Facts((replace(asleep, pm_seen=True, pm_last=ago(hours=1)),)), NOW).causes
    assert not find(POLLER, Facts((asleep,)), NOW).blind, "that it is silent is known for sure"


def test_a_very_long_name_does_not_burst_the_summary() -> None:
    facts = Facts((AWAKE,), (replace(seen("stalled", minutes=40)[0], worker_id="w" * 255, worker_type="t" * 100),))
    (cause,) = find(STALLED, facts, NOW).causes.values()
    assert len(cause.summary) <= 300


def test_it_is_known_when_a_worker_will_have_been_in_a_state_for_long_enough() -> None:
    (worker,) = seen("stalled", minutes=10)
    assert list(becoming([STALLED, ZOMBIES], Facts((AWAKE,), (worker,)))) == [worker.since + timedelta(minutes=30)]


def test_kinds_and_severities_are_those_that_are_stored() -> None:
    assert [kind.value for kind in Kind] == AlertRule.Kind.values
    assert [level.value for level in Severity] == Stored.values


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0.5, "30 s"), (1, "1 min"), (45, "45 min"), (60, "1 h"), (90, "90 min"), (120, "2 h"), (1440, "1 d")],
)
def test_minutes_in_words(minutes: float, words: str) -> None:
    assert minutes_in_words(minutes) == words


# -- quiet hours

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Quiet(time(22), time(7), "Europe/Berlin")


def berlin(*moment: int, fold: int = 0) -> datetime:
    return datetime(*moment, tzinfo=BERLIN, fold=fold).astimezone(UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("quiet", "now", "end"),
    [
        (NIGHT, berlin(2026, 11, 24, 21, 59, 59), None),
        (NIGHT, berlin(2026, 11, 24, 22), berlin(2026, 11, 25, 7)),
        (NIGHT, berlin(2026, 11, 25, 0), berlin(2026, 11, 25, 7)),
        (NIGHT, berlin(2026, 11, 25, 6, 59, 59), berlin(2026, 11, 25, 7)),
        (NIGHT, berlin(2026, 11, 25, 7), None),
        (Quiet(time(12), time(13)), NOW, NOW + timedelta(hours=1)),
        (Quiet(time(12), time(13)), NOW + timedelta(hours=1), None),
        (Quiet(time(12), time(12)), NOW, None),
        # The night in which the clock goes forward is an hour shorter, the one in which it goes back an hour longer
        (NIGHT, berlin(2026, 3, 28, 22), datetime(2026, 3, 29, 5, tzinfo=UTC)),
        (NIGHT, berlin(2026, 10, 24, 22), datetime(2026, 10, 25, 6, tzinfo=UTC)),
        # The hour that is there twice neither ends it early nor begins it again
        (Quiet(time(1), time(2, 30), "Europe/Berlin"), berlin(2026, 10, 25, 2, 29), berlin(2026, 10, 25, 2, 30)),
        (Quiet(time(1), time(2, 30), "Europe/Berlin"), berlin(2026, 10, 25, 2, 15, fold=1), None),
        (Quiet(time(2, 30), time(4), "Europe/Berlin"), berlin(2026, 10, 25, 2, 15, fold=1), berlin(2026, 10, 25, 4)),
        # An hour that is left out ends it all the same
        (Quiet(time(1), time(2, 30), "Europe/Berlin"), berlin(2026, 3, 29, 3, 31), None),
    ],
)
def test_quiet_hours(quiet: Quiet, now: datetime, end: datetime | None) -> None:
    assert quiet.end(now) == end


def test_a_policy_that_stopped_itself_is_told_of_one_by_one() -> None:
    rule = Rule(9, "autopilot", Kind.AUTOPILOT)
    facts = Facts(stopped=(Stopped("Clean", "12 of 40 workers are zombies at once"), Stopped("Restart", "3 failures")))
    causes = find(rule, facts, NOW).causes
    assert list(causes) == ["Clean", "Restart"]
    assert "12 of 40 workers" in causes["Clean"].summary
    assert not find(rule, Facts(), NOW).causes
