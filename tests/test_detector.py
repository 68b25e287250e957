"""How good the calls were and what limits the silences suggest: figures worked out by hand, at their limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from workers.detection import (
    Became,
    Change,
    Effect,
    LateCall,
    Lengths,
    Stall,
    became,
    effect,
    late_calls,
    lengths,
    longer_than,
    suggest,
    tally,
)
from workers.health import Health
from workers.incidents import How
from workers.models import HealthChange, Incident, Limit, Remediation, Silence, Worker
from workers.queries.detector import (
    CALLS_HEADER,
    LIMITS_HEADER,
    Detector,
    calls_table,
    detector,
    limits_table,
)
from workers.queries.period import Period

from . import factories
from .markup import flat

NOW = datetime(2026, 3, 30, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    """So many minutes after ten in the morning of the day before."""
    return datetime(2026, 3, 29, 10, tzinfo=UTC) + minutes * MINUTE


def period(query: str = "") -> Period:
    return Period.parse(QueryDict(query), NOW)


# -- what became of a call


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (Change(at(5), Health.HEALTHY), Became.BACK),
        (Change(at(5), Health.STALLED), Became.TURNED),
        (Change(at(5), Health.ZOMBIE), Became.TURNED),
        (Change(at(5), Health.FAILED), Became.TURNED),
        (Change(at(5), Health.COMPLETED), Became.ENDED),
        (Change(at(5), Health.GONE), Became.ENDED),
        (Change(at(5), Health.PENDING), Became.REPAIRED),
        (Change(at(5), Health.HEALTHY, attempt=2), Became.REPAIRED),
        (Change(at(5), Health.UNKNOWN), Became.LASTS),
    ],
)
def test_what_became_of_a_late_run(then: Change, expected: Became) -> None:
    assert list(late_calls([Change(at(0), Health.LATE), then])) == [LateCall(at(0), expected)]


def test_a_verdict_that_sees_nothing_neither_ends_a_call_nor_makes_two_of_it() -> None:
    seen = [Health.LATE, Health.UNKNOWN, Health.LATE, Health.UNREADABLE, Health.HEALTHY, Health.LATE]
    found = list(late_calls([Change(at(number), health) for number, health in enumerate(seen)]))
    assert found == [LateCall(at(0), Became.BACK), LateCall(at(5), Became.LASTS)]


@pytest.mark.parametrize(
    ("began", "expected"),
    [(-1, Became.BACK), (0, Became.REPAIRED), (5, Became.REPAIRED), (6, Became.BACK)],
)
def test_who_was_repaired_between_the_two_moments_did_not_come_back_by_itself(began: int, expected: Became) -> None:
    changes = [Change(at(0), Health.LATE), Change(at(5), Health.HEALTHY)]
    assert [call.became for call in late_calls(changes, [at(began)])] == [expected]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (None, Became.LASTS),
        (How.RECOVERED, Became.BACK),
        (How.REMEDIATION, Became.REPAIRED),
        (How.RESTARTED, Became.REPAIRED),
        (How.SUPERSEDED, Became.TURNED),
        (How.COMPLETED, Became.ENDED),
        (How.GONE, Became.ENDED),
        (How.ARCHIVED, Became.ENDED),
    ],
)
def test_what_became_of_an_incident(how: How | None, expected: Became) -> None:
    assert became(how) is expected


def test_false_alarms_are_counted_among_those_that_are_over() -> None:
    found = tally([Became.BACK, Became.REPAIRED, Became.ENDED, Became.TURNED, Became.LASTS])
    assert (found.calls, found.over, found.false_alarms) == (5, 4, 0.25)
    assert tally([Became.LASTS]).false_alarms is None
    assert tally([]).false_alarms is None
    assert tally([Became.TURNED]).false_alarms == 0


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([Became.BACK] * 4 + [Became.ENDED] * 127, "Of 131 calls 4 came back by themselves."),
        ([Became.BACK, Became.LASTS], "Of 2 calls 1 came back by itself; 1 is not over yet."),
        ([Became.ENDED] * 1200 + [Became.LASTS] * 2, "Of 1,202 calls none came back by itself; 2 are not over yet."),
        ([Became.BACK], "The one call came back by itself."),
        ([Became.ENDED], "The one call did not come back by itself."),
        ([Became.LASTS], "The one call is not over yet."),
        ([], "Nothing was called late, stalled, zombie or crashed."),
    ],
)
def test_it_says_it_in_a_sentence(calls: list[Became], said: str) -> None:
    assert tally(calls).sentence == said


# -- limits


def test_percentiles_are_by_nearest_rank_and_a_minute_counts_as_its_end() -> None:
    assert lengths({}) is None
    assert lengths({3: 0}) is None
    assert lengths({1: 1}) == Lengths(1, 2 * MINUTE, 2 * MINUTE, 2 * MINUTE)
    # Of 100: the 50th is of 1 min, the 95th the last of 4 min, the 99th the one of 20 min; the 100th of 90
    found = lengths({90: 1, 1: 50, 4: 45, 6: 3, 20: 1})
    assert found == Lengths(100, 2 * MINUTE, 5 * MINUTE, 21 * MINUTE)
    # Of 20 the 19th is the 95th percentile, and the 20th the 99th
    assert lengths({1: 18, 2: 1, 7: 1}) == Lengths(20, 2 * MINUTE, 3 * MINUTE, 8 * MINUTE)


@pytest.mark.parametrize(
    ("silences", "suggested"),
    [
        ({}, None),
        ({5: 19}, None),
        ({5: 20}, 7),
        ({0: 20}, 2),
        ({1: 20}, 3),
        ({20: 20}, 22),
        ({38: 20}, 40),
        ({39: 20}, 42),  # from 40 min on the margin is a twentieth
        ({59: 20}, 63),
    ],
)
def test_a_limit_is_suggested_from_twenty_silences_on(silences: dict[int, int], suggested: int | None) -> None:
    found = suggest(lengths(silences))
    assert found == (suggested * MINUTE if suggested else None)


def test_a_silence_up_to_the_limit_is_no_stall() -> None:
    silences = {13: 8, 14: 4, 15: 2, 30: 1}
    assert longer_than(15 * MINUTE, silences) == 3
    assert longer_than(14 * MINUTE, silences) == 7
    assert longer_than(90 * timedelta(seconds=1), {0: 9, 1: 1}) == 1


def stall(lasted: float | None, by_itself: bool = False, noticed: float = 15) -> Stall:
    return Stall(at(0), at(noticed), None if lasted is None else at(lasted), by_itself)


def test_a_longer_limit_spares_false_alarms_and_notices_real_stalls_later() -> None:
    stalls = [
        stall(16, by_itself=True),
        stall(20, by_itself=True),
        stall(22, by_itself=True),  # exactly as long as the suggestion: not over it
        stall(22.1, by_itself=True),
        stall(60),
        stall(None),
        stall(18),  # repaired before it would have been called
        stall(90, noticed=40),  # nobody watched for long: no limit changes that
    ]
    found = effect(stalls, {14: 5, 15: 3, 22: 2}, 15 * MINUTE, 22 * MINUTE)
    assert found == Effect(15 * MINUTE, 22 * MINUTE, 3, 2, 0, 7 * MINUTE, 1, 2, 5)
    assert found.sentence == (
        "22 min instead of 15 would have spared 3 false alarms; 2 real stalls would have been noticed 7 min later; "
        "1 would never have been called stalled; 2 silences that ended by themselves would be called stalled, 5 now."
    )


def test_a_shorter_limit_notices_earlier_and_spares_nothing() -> None:
    stalls = [stall(16, by_itself=True), stall(60), stall(60, noticed=15.05), stall(60, noticed=50)]
    found = effect(stalls, {8: 4, 9: 1}, 15 * MINUTE, 8 * MINUTE)
    assert (found.spared, found.later, found.earlier, found.missed) == (0, 0, 3, 0)
    assert found.by == 7 * MINUTE  # 7, 7.05 and, of what was noticed late since nobody watched, 7 too
    assert found.sentence == (
        "8 min instead of 15: 3 real stalls would have been noticed 7 min earlier; "
        "5 silences that ended by themselves would be called stalled, none now."
    )


def test_what_the_present_limit_would_not_call_either_is_not_spared() -> None:
    called_under_an_earlier_limit = [stall(12, by_itself=True, noticed=10), stall(12, noticed=10)]
    found = effect(called_under_an_earlier_limit, {}, 15 * MINUTE, 22 * MINUTE)
    assert (found.spared, found.missed, found.by) == (0, 0, 7 * MINUTE)


def test_the_same_limit_changes_nothing() -> None:
    found = effect([stall(16, by_itself=True), stall(60)], {15: 1}, 15 * MINUTE, 15 * MINUTE)
    assert (found.spared, found.later, found.earlier, found.missed) == (0, 0, 0, 0)
    assert found.sentence == (
        "15 min, as it is now, is what the silences suggest; 1 silence that ended by itself would be called stalled."
    )


def test_without_stalls_it_says_none() -> None:
    assert effect([], {}, 15 * MINUTE, 22 * MINUTE).sentence == (
        "22 min instead of 15 would have spared no false alarm; no real stall would have been noticed later; "
        "no silence that ended by itself would be called stalled."
    )
    assert effect([], {}, timedelta(seconds=90), 2 * MINUTE).sentence.startswith("2 min instead of 90 s would")


# -- out of the database


def run(number: int, worker_type: str = "scan", **fields: Any) -> Worker:
    worker = factories.build(Health.HEALTHY, number, NOW, worker_type=worker_type, run_key=str(number), **fields)
    worker.save()
    return worker


def incident(worker: Worker, kind: str, lasted: float | None = None, how: str = "", **fields: Any) -> Incident:
    """Store an incident that was detected after 15 minutes and ended so many minutes after it began."""
    values = {
        **{"host": worker.host, "run": worker, "worker_id": worker.worker_id, "kind": kind, "began": at(0)},
        **{"detected": at(15), "resolved": None if lasted is None else at(lasted), "how": how},
    }
    return Incident.objects.create(**{**values, **fields})


def changes(worker: Worker, *seen: tuple[float, Health]) -> None:
    for minutes, health in seen:
        HealthChange.objects.create(worker=worker, at=at(minutes), new=health)


def silences(worker_type: str, minutes: int, count: int, day: datetime | None = None, host: str = "host-a") -> None:
    Silence.objects.create(host=host, day=(day or at(0)).date(), worker_type=worker_type, minutes=minutes, count=count)


def counts(found: Detector, name: str) -> tuple[int, ...]:
    it = next(group.tally for group in (*found.kinds, *found.types) if group.name == name)
    return it.calls, it.back, it.repaired, it.ended, it.turned, it.lasts


def drawn(found: Detector, user: User | None = None) -> str:
    request = RequestFactory().get("/history/")
    if user:
        request.user = user
    return flat(render_to_string("workers/history/detector.html", {"detector": found}, request))


@pytest.mark.django_db
def test_calls_are_counted_by_verdict_and_by_worker_type() -> None:
    scan, fix = run(1), run(2, "fix")
    incident(scan, "stalled", 20, How.RECOVERED)
    incident(scan, "zombie", 20, How.REMEDIATION)
    incident(fix, "crashed", 20, How.COMPLETED)
    incident(fix, "stalled", 20, How.SUPERSEDED)
    incident(fix, "zombie")
    incident(fix, "failed")  # its spec's word, and no call of ours
    incident(fix, "overdue")
    incident(fix, "stalled", 30, How.UNREPORTED, from_log=True, number=1)  # the PM daemon's call
    changes(scan, (0, Health.LATE), (5, Health.HEALTHY), (9, Health.LATE), (14, Health.STALLED))
    found = detector(period())
    assert [group.name for group in found.kinds] == ["crashed", "zombie", "stalled", "late"]
    assert counts(found, "stalled") == (2, 1, 0, 0, 1, 0)
    assert counts(found, "zombie") == (2, 0, 1, 0, 0, 1)
    assert counts(found, "crashed") == (1, 0, 0, 1, 0, 0)
    assert counts(found, "late") == (2, 1, 0, 0, 1, 0)
    assert counts(found, "scan") == (4, 2, 1, 0, 1, 0)
    assert counts(found, "fix") == (3, 0, 0, 1, 1, 1)
    assert (found.total.calls, found.total.false_alarms) == (7, 2 / 6)
    assert found.total.sentence == "Of 7 calls 2 came back by themselves; 1 is not over yet."


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "began", "expected"),
    [
        (Remediation.State.DONE, 3, (1, 0, 1, 0, 0, 0)),
        (Remediation.State.RUNNING, 3, (1, 0, 1, 0, 0, 0)),
        (Remediation.State.REFUSED, 3, (1, 1, 0, 0, 0, 0)),
        (Remediation.State.DONE, 6, (1, 1, 0, 0, 0, 0)),
        (Remediation.State.DONE, None, (1, 1, 0, 0, 0, 0)),
    ],
)
def test_a_late_run_that_was_repaired_is_no_false_alarm(
    state: str, began: float | None, expected: tuple[int, ...]
) -> None:
    worker = run(1)
    changes(worker, (0, Health.LATE), (5, Health.HEALTHY))
    factories.repair(worker, state, started_at=None if began is None else at(began))
    factories.repair(run(2), Remediation.State.DONE, started_at=at(3))  # of another run
    assert counts(detector(period()), "late") == expected


@pytest.mark.django_db
def test_a_call_belongs_to_the_stretch_it_was_made_in_and_its_end_may_come_later() -> None:
    stretch = period("since=2026-03-29T10:00&until=2026-03-29T11:00")
    worker = run(1)
    changes(worker, (-1, Health.LATE), (0, Health.LATE), (70, Health.HEALTHY), (80, Health.LATE))
    incident(worker, "stalled", 100, How.RECOVERED, detected=at(0))
    incident(worker, "stalled", 100, How.RECOVERED, detected=at(60))
    found = detector(stretch)
    assert counts(found, "late") == (1, 1, 0, 0, 0, 0)
    assert counts(found, "stalled") == (1, 1, 0, 0, 0, 0)


@pytest.mark.django_db
def test_limits_are_suggested_by_worker_type_with_what_they_would_have_changed() -> None:
    silences("scan", 20, 25)
    silences("scan", 2, 75, day=at(0) - timedelta(days=1))
    silences("scan", 90, 40, day=NOW - timedelta(days=8))  # before the stretch
    silences("fix", 3, 19)
    scan = run(1)
    incident(scan, "stalled", 20, How.RECOVERED)
    incident(scan, "stalled", 60, How.REMEDIATION)
    incident(scan, "stalled", 20, How.RECOVERED, began_known=False)  # how long it was silent nobody knows
    found = detector(period())
    first, second = found.suggestions
    assert (first.worker_type, first.silences) == ("scan", Lengths(100, 3 * MINUTE, 21 * MINUTE, 21 * MINUTE))
    assert first.suggested == 22 * MINUTE
    assert first.effect is not None
    assert first.effect.sentence == (
        "22 min instead of 15 would have spared 1 false alarm; 1 real stall would have been noticed 7 min later; "
        "no silence that ended by itself would be called stalled, 25 now."
    )
    assert (second.worker_type, second.suggested, second.effect) == ("fix", None, None)
    assert found.all_types.silences is not None
    assert found.all_types.silences.silences == 119
    page = drawn(found)
    assert first.effect.sentence in page
    assert page.count("All types") == 1
    assert "Too few silences to say: at least 20 are needed." in page


@pytest.mark.django_db
def test_the_admins_limit_is_the_present_one() -> None:
    silences("scan", 20, 25)
    assert "stalled after 15 min (default)" in drawn(detector(period()))
    Limit.objects.create(name="stalled_after", seconds=1800)
    found = detector(period())
    assert found.suggestions[0].effect is not None
    assert found.suggestions[0].effect.present == 30 * MINUTE
    assert "late after 10 min (default), stalled after 30 min (set by an admin)" in drawn(found)


@pytest.mark.django_db
def test_a_suggestion_below_the_limit_of_late_says_what_it_does_to_it() -> None:
    silences("scan", 5, 25)
    assert "Late would be called no later than that either." in drawn(detector(period()))


@pytest.mark.django_db
def test_each_filter_narrows_and_says_where_it_cannot() -> None:
    for number, worker_type, host, master in ((1, "scan", "host-a", "m"), (2, "fix", "host-b", "n")):
        worker = run(number, worker_type, host=host, master=master)
        changes(worker, (0, Health.LATE))
        incident(worker, "zombie")
        silences(worker_type, 5, 30, host=host)
    for query in ("worker_type=scan", "host=host-a"):
        found = detector(period(query))
        assert (found.total.calls, [each.worker_type for each in found.suggestions]) == (2, ["scan"]), query
        assert "does not narrow them" not in drawn(found)
    found = detector(period("master=m"))
    assert (found.total.calls, len(found.suggestions)) == (2, 2)
    assert "the filter by master does not narrow them" in drawn(found)


@pytest.mark.django_db
def test_an_empty_past_says_so_and_shows_no_share() -> None:
    page = drawn(detector(period()))
    assert "Nothing was called late, stalled, zombie or crashed." in page
    assert "No silence that ended by itself was counted in the last 7 days" in page
    assert "<table" not in page
    assert "0 %" not in page


@pytest.mark.django_db
def test_where_nothing_is_over_there_is_no_share() -> None:
    incident(run(1), "zombie")
    page = drawn(detector(period()))
    assert "nobody can say yet how many were false alarms" in page
    assert "none is over" in page
    assert "no calls" in page
    assert "0 %" not in page


@pytest.mark.django_db
def test_a_hostile_type_is_only_text() -> None:
    name = "<img src=x onerror=alert(1)>"
    changes(run(1, name), (0, Health.LATE))
    silences(name, 5, 30)
    page = drawn(detector(period()))
    assert "<img" not in page
    assert page.count("&lt;img") == 2


@pytest.mark.django_db
def test_an_incident_that_runs_backwards_breaks_nothing() -> None:
    silences("scan", 20, 25)
    incident(run(1), "stalled", 5, How.RECOVERED, began=at(30), detected=at(15))
    found = detector(period())
    assert found.suggestions[0].effect is not None
    assert found.suggestions[0].effect.spared == 0
    assert drawn(found)


@pytest.mark.django_db
def test_only_staff_is_led_to_the_limits(viewer: User, admin_user: User) -> None:
    found = detector(period())
    assert "/admin/workers/limit/" not in drawn(found, viewer)
    assert "/admin/workers/limit/" in drawn(found, admin_user)


@pytest.mark.django_db
def test_the_number_of_queries_does_not_grow() -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            detector(period())
        return len(queries)

    assert asked() == 5
    for number in range(30):
        worker = run(number, f"type-{number}")
        changes(worker, (0, Health.LATE), (5, Health.HEALTHY))
        incident(worker, "stalled", 20, How.RECOVERED)
        silences(worker.worker_type, 5, 30)
    assert asked() == 5


@pytest.mark.django_db
def test_the_files_have_a_row_for_each_group_and_type() -> None:
    silences("scan", 20, 25)
    silences("fix", 3, 19)
    incident(run(1), "stalled", 20, How.RECOVERED)
    found = detector(period())
    calls, limits = list(calls_table(found)), list(limits_table(found))
    assert calls[0] == ("all", "", 1, 1, 0, 0, 0, 0, 1.0)
    assert calls[4] == ("verdict", "late", 0, 0, 0, 0, 0, 0, None)
    assert calls[5] == ("worker_type", "scan", 1, 1, 0, 0, 0, 0, 1.0)
    assert limits[0] == ("scan", 25, 21, 21, 21, 15, 22, 1, 0, 0, 0, 0, 0, 25)
    assert limits[1] == ("fix", 19, 4, 4, 4, 15, *(None,) * 8)
    assert {len(row) for row in calls} == {len(CALLS_HEADER)}
    assert {len(row) for row in limits} == {len(LIMITS_HEADER)}
