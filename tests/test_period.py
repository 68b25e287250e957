"""What a query string says of which stretch of the past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from workers.queries.period import GROUPS, LONGEST, Period

NOW = datetime(2026, 3, 30, 9, 30, tzinfo=UTC)


def parsed(query: str = "") -> Period:
    return Period.parse(QueryDict(query), NOW)


def test_without_a_word_it_is_the_last_week() -> None:
    period = parsed()
    assert (period.since, period.until, period.string) == (NOW - timedelta(days=7), NOW, "")
    assert period.label == "the last 7 days"
    assert period.before.until == period.since
    assert period.before.length == period.length


@pytest.mark.parametrize(
    ("query", "since", "until", "said"),
    [
        ("since=2026-03-20T10:00&until=2026-03-21T10:00", "2026-03-20T10:00", "2026-03-21T10:00", ""),
        ("since=2026-03-21T10:00&until=2026-03-20T10:00", "2026-03-20T10:00", "2026-03-21T10:00", "swapped"),
        ("since=2026-03-20T10:00-0600&until=2026-03-21T10:00Z", "2026-03-20T16:00", "2026-03-21T10:00", ""),
        (
            "zone=Europe/Berlin&since=2026-03-29T00:00&until=2026-03-30T00:00",
            "2026-03-28T23:00",
            "2026-03-29T22:00",
            "",
        ),
        ("since=2026-03-20T10:00&until=2099-01-01", "2026-03-20T10:00", "2026-03-30T09:30", "to come"),
        ("since=2099-01-01", "2026-03-23T09:30", "2026-03-30T09:30", "yet to come"),
        ("since=0001-01-01", "2026-03-23T09:30", "2026-03-30T09:30", "no time"),
        ("since=2001-01-01", (NOW - LONGEST).isoformat()[:16], "2026-03-30T09:30", "400 days"),
        ("since=2026-03-20T10:00&until=2026-03-20T10:00", "2026-03-20T09:00", "2026-03-20T10:00", "no length"),
        ("since=%00&until=x", "2026-03-23T09:30", "2026-03-30T09:30", "no time"),
        ("range=9w", "2026-03-23T09:30", "2026-03-30T09:30", "9w"),
        ("zone=Mars/Olympus", "2026-03-23T09:30", "2026-03-30T09:30", "Mars"),
        ("zone=../../etc/passwd", "2026-03-23T09:30", "2026-03-30T09:30", "passwd"),
        ("group=colour", "2026-03-23T09:30", "2026-03-30T09:30", "colour"),
    ],
)
def test_a_stretch_of_ones_own(query: str, since: str, until: str, said: str) -> None:
    period = parsed(query)
    assert period.since == datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert period.until == datetime.fromisoformat(until).replace(tzinfo=UTC)
    assert said in "; ".join(period.ignored)
    assert bool(period.ignored) == bool(said)


def test_its_string_says_it_again() -> None:
    period = parsed("range=30d&zone=Asia/Tokyo&group=host&worker_type=scan-worker")
    again = parsed(period.string.removeprefix("?"))
    assert again == period
    own = parsed("since=2026-03-20T10:00&until=2026-03-21T10:00&master=x")
    assert parsed(own.string.removeprefix("?")) == own
    assert dict(parse_qsl(own.with_changes(range="24h").string[1:])) == {"range": "24h", "master": "x"}


def test_days_are_those_of_the_zone_also_when_its_clocks_are_changed() -> None:
    period = parsed("zone=Europe/Berlin&since=2026-03-28T00:00&until=2026-03-30T09:00")
    days = list(period.slots())
    assert [f"{day:%m-%d %H:%M}" for day in days] == ["03-28 00:00", "03-29 00:00", "03-30 00:00"]
    assert days[2].astimezone(UTC) - days[1].astimezone(UTC) == timedelta(hours=23)
    hours = list(parsed("zone=Europe/Berlin&since=2026-03-29T00:00&until=2026-03-29T05:00").slots())
    assert [f"{hour:%H}" for hour in hours] == ["00", "01", "03", "04"]


@given(st.dictionaries(st.sampled_from(["since", "until", "range", "zone", "group", *GROUPS]), st.text()))
def test_whatever_is_asked_is_a_stretch_of_time(given: dict[str, str]) -> None:
    params = QueryDict(mutable=True)
    params.update(given)
    period = Period.parse(params, NOW)
    assert timedelta(minutes=1) <= period.length <= LONGEST
    assert period.until <= NOW
    slots = list(period.slots())
    assert slots[0] <= period.since
    assert slots[-1] < period.until
