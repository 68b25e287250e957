"""The life of an alert: when it fires, when people are told, when it is over; whatever the order of what happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from workers.alerting.lifecycle import NONE, Hindrance, Standing, State, Step, Telling, hindrance, step
from workers.alerting.rules import Kind, Rule
from workers.quiet import Quiet

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LOOK = timedelta(seconds=2)
RULE = Rule(1, "stalled", Kind.HEALTH, health="stalled", minutes=30, cycles=3)
FIRED, AGAIN, OVER = Telling.FIRED, Telling.AGAIN, Telling.OVER


class Watched:
    """One cause over many looks."""

    def __init__(self, rule: Rule = RULE) -> None:
        self.rule = rule
        self.now = NOW
        self.standing: Standing | None = None
        self.told: list[Telling] = []

    def look(self, held: bool | None, why: Hindrance = NONE, after: timedelta = LOOK) -> Step:
        self.now += after
        done = step(self.standing, held, self.rule, self.now, why)
        self.standing = done.standing
        if self.standing and self.standing.state is State.RESOLVED:
            self.standing = None
        if done.telling:
            self.told.append(done.telling)
        return done

    def looks(self, pattern: str, why: Hindrance = NONE) -> list[Telling]:
        """``+`` it holds, ``-`` it does not, ``?`` nobody can say."""
        for letter in pattern:
            self.look({"+": True, "-": False, "?": None}[letter], why)
        return self.told


def test_it_fires_after_as_many_looks_in_a_row_and_is_over_after_as_many_without() -> None:
    watched = Watched()
    assert watched.looks("++-++") == []
    assert watched.looks("+") == [FIRED]
    assert watched.looks("+++++") == [FIRED]
    assert watched.looks("--+--+") == [FIRED]
    assert watched.looks("---") == [FIRED, OVER]


def test_what_flaps_tells_once() -> None:
    assert Watched().looks("+++" + "-+--+-" * 200) == [FIRED]


def test_nobody_can_say_so_nothing_begins_and_nothing_ends() -> None:
    watched = Watched()
    assert watched.looks("++???") == []
    assert watched.looks("+" + "?" * 100) == [FIRED]
    assert watched.looks("---") == [FIRED, OVER]


def test_while_it_lasts_people_are_told_again_until_somebody_acknowledges_it() -> None:
    watched = Watched(replace(RULE, cycles=1, repeat_minutes=10))
    assert watched.looks("+") == [FIRED]
    watched.look(True, after=timedelta(minutes=10, seconds=-1))
    assert watched.told == [FIRED]
    watched.look(True, after=timedelta(seconds=1))
    assert watched.told == [FIRED, AGAIN]
    assert watched.standing
    watched.standing = replace(watched.standing, acknowledged=True)
    watched.look(True, after=timedelta(hours=5))
    assert watched.told == [FIRED, AGAIN]
    assert watched.looks("-") == [FIRED, AGAIN, OVER], "those who were told hear the end of it"


def test_what_fires_in_the_quiet_is_told_at_its_end_if_it_still_lasts() -> None:
    quiet = Hindrance("quiet hours", NOW + timedelta(hours=1))
    lasting, ended = Watched(), Watched()
    assert lasting.looks("+++++", quiet) == []
    assert lasting.standing
    assert lasting.standing.held_back == "quiet hours"
    assert lasting.looks("+") == [FIRED]
    assert lasting.standing.held_back == ""
    assert ended.looks("+++---", quiet) == []
    assert ended.looks("+++---"[3:]) == [], "nobody was told of it, so nobody hears that it is over"


def test_an_end_in_the_quiet_is_told_to_those_who_heard_of_the_beginning() -> None:
    watched = Watched()
    watched.looks("+++")
    assert watched.looks("---", Hindrance("quiet hours", NOW + timedelta(hours=1))) == [FIRED, OVER]


def test_nobody_is_told_of_an_end_who_did_not_want_to_be() -> None:
    assert Watched(replace(RULE, resolve_notice=False)).looks("+++---") == [FIRED]


def test_what_was_acknowledged_before_anybody_was_told_is_not_told() -> None:
    watched = Watched()
    watched.looks("+++", Hindrance("quiet hours", None))
    assert watched.standing
    watched.standing = replace(watched.standing, acknowledged=True)
    assert watched.looks("++++---") == []


def test_an_alert_that_lasts_is_not_written_at_every_look() -> None:
    watched = Watched()
    watched.looks("+++")
    before = watched.standing
    watched.looks("+++")
    assert watched.standing == before
    assert before
    assert before.settled


# -- what holds it back

ZOMBIES = Rule(2, "zombies", Kind.ZOMBIES, channels=frozenset({1}))
MASS = Rule(3, "mass", Kind.MASS, threshold=50, channels=frozenset({1, 2}))


def why(rule: Rule, *mass: Rule, maintenance: datetime | None = None) -> str:
    return hindrance(rule, NOW, maintenance, mass).why


def test_maintenance_a_mute_and_quiet_hours_hold_it_back_until_they_are_over() -> None:
    later = NOW + timedelta(minutes=5)
    assert why(ZOMBIES, maintenance=later) == "maintenance"
    assert why(ZOMBIES, maintenance=NOW) == ""
    assert why(replace(ZOMBIES, muted_until=later)) == "muted"
    assert why(replace(ZOMBIES, muted_until=NOW)) == ""
    assert why(replace(ZOMBIES, quiet=Quiet(time(12), time(13)))) == "quiet hours"
    assert why(replace(ZOMBIES, quiet=Quiet(time(13), time(14)))) == ""


def test_a_mass_death_is_one_message() -> None:
    crashed = Rule(4, "crashed", Kind.HEALTH, health="crashed", minutes=5, channels=frozenset({2}))
    assert why(ZOMBIES, MASS) == why(crashed, MASS) == "part of a mass death"
    assert why(ZOMBIES) == ""
    assert why(replace(crashed, health="late"), MASS) == "", "what is late is not dead"
    assert why(MASS, MASS) == ""


def test_a_mass_death_of_which_somebody_would_not_hear_holds_nothing_back() -> None:
    assert why(replace(ZOMBIES, channels=frozenset({1, 3})), MASS) == "", "channel 3 would hear of nothing at all"
    assert why(ZOMBIES, replace(MASS, muted_until=NOW + LOOK)) == ""
    assert why(ZOMBIES, replace(MASS, worker_type="scan")) == "", "the others may not be part of it"


def test_a_mass_death_in_its_own_quiet_hours_leaves_the_others_to_tell() -> None:
    asleep, awake = Quiet(time(12), time(13)), Quiet(time(13), time(14))
    assert why(ZOMBIES, replace(MASS, quiet=asleep)) == "", "nobody would be told until the quiet hours are over"
    assert why(ZOMBIES, replace(MASS, quiet=awake)) == "part of a mass death"
    assert why(ZOMBIES, replace(MASS, quiet=asleep), MASS) == "part of a mass death", "another rule tells of it"
    assert why(replace(ZOMBIES, quiet=asleep), replace(MASS, quiet=asleep)) == "quiet hours"
    crashed = Rule(4, "crashed", Kind.HEALTH, health="crashed", minutes=5, channels=frozenset({2}))
    assert why(crashed, replace(MASS, quiet=asleep)) == ""


def test_a_mass_death_under_maintenance_holds_nothing_back_once_that_is_over() -> None:
    later = NOW + timedelta(minutes=5)
    assert why(ZOMBIES, MASS, maintenance=later) == "maintenance"
    assert why(ZOMBIES, MASS, maintenance=NOW) == "part of a mass death"


# -- whatever happens

looks = st.lists(
    st.tuples(st.sampled_from([True, True, False, None]), st.booleans(), st.booleans(), st.integers(1, 600)),
    max_size=80,
)


@given(looks, st.integers(1, 4), st.sampled_from([None, 1.0, 5.0]), st.booleans())
def test_each_firing_is_told_once_and_none_is_lost(
    steps: list[tuple[bool | None, bool, bool, int]], cycles: int, repeat: float | None, ends_told: bool
) -> None:
    rule = replace(RULE, cycles=cycles, repeat_minutes=repeat, resolve_notice=ends_told)
    standing, now = None, NOW
    of_this_one: list[tuple[Telling, datetime]] = []
    for held, hindered, acknowledge, seconds in steps:
        now += timedelta(seconds=seconds)
        if standing and standing.state is State.FIRING and acknowledge:
            standing = replace(standing, acknowledged=True)
        was_acknowledged = bool(standing and standing.acknowledged)
        done = step(standing, held, rule, now, Hindrance("quiet hours") if hindered else NONE)
        standing = done.standing
        if done.telling:
            of_this_one.append((done.telling, now))
        kinds = [telling for telling, _ in of_this_one]
        assert kinds.count(FIRED) <= 1
        assert kinds[:1] in ([], [FIRED]), "the first that anybody hears is that it fires"
        if done.telling in (FIRED, AGAIN):
            assert held
            assert not hindered
            assert not was_acknowledged
        if done.telling is AGAIN:
            assert repeat
            assert now - of_this_one[-2][1] >= timedelta(minutes=repeat)
        if standing and standing.state is State.FIRING:
            assert standing.times_told == len(of_this_one)
            if held and not hindered and not standing.acknowledged:
                assert FIRED in kinds, "it fires, nothing hinders, so it was told"
        if standing is None or standing.state is State.RESOLVED:
            assert (OVER in kinds) == (FIRED in kinds and ends_told)
            standing, of_this_one = None, []


@given(st.lists(st.sampled_from([True, False]), max_size=60), st.integers(1, 5))
def test_it_fires_exactly_when_it_held_as_often_in_a_row(held: list[bool], cycles: int) -> None:
    watched = Watched(replace(RULE, cycles=cycles))
    firing, row = False, 0
    for each in held:
        row = (max(row, 0) + 1) if each else (min(row, 0) - 1)
        firing = row >= cycles or (firing and -row < cycles)
        watched.look(each)
        assert firing == bool(watched.standing and watched.standing.state is State.FIRING)
