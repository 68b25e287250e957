"""The stream of events: pages, filters, and what is said of new ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers.cycle import Cycle
from workers.models import Event, EventCount, LogFile
from workers.queries import events
from workers.queries.events import EventQuery

from .conftest import Home, iso
from .markup import flat

pytestmark = pytest.mark.django_db
BASE = datetime(2025, 11, 20, 12, tzinfo=UTC)
PM = "coordination/pm-activity.jsonl"


def store(count: int, path: str = PM, kind: str = "worker_stalled", worker: str = "w-1", step: float = 1.0) -> LogFile:
    log, _ = LogFile.objects.get_or_create(host="host-a", path=path)
    Event.objects.bulk_create(
        Event(
            log=log,
            generation=0,
            offset=100 * number,
            at=BASE + timedelta(seconds=step * number),
            stored_at=BASE,
            type=kind,
            worker_id=worker,
            data=json.dumps({"event": kind, "worker_id": worker, "data": {"minutes_since_checkin": number}}),
        )
        for number in range(count)
    )
    EventCount.objects.update_or_create(log=log, day=BASE.date(), type=kind, defaults={"count": count})
    return log


def query(text: str) -> EventQuery:
    return EventQuery.parse(QueryDict(text))


def test_pages_follow_one_another_without_gap_or_overlap_also_within_one_moment(as_viewer: Client) -> None:
    store(250, step=0)  # all at the same time
    seen, address = [], ""
    for _ in range(3):
        page = events.events(query(address))
        seen += [row.event.pk for row in page.rows]
        address = page.older.string.removeprefix("?") if page.older else ""
    assert len(seen) == len(set(seen)) == 250
    assert seen == sorted(seen, reverse=True)
    assert address == ""


def test_a_page_says_what_each_record_says(as_viewer: Client) -> None:
    store(1)
    page = as_viewer.get("/events/").content.decode()
    assert "worker_stalled" in page
    assert "minutes_since_checkin 0" in page
    assert 'href="/workers/w-1/"' in page
    assert "offset 0" in page


def test_it_narrows_by_type_source_worker_and_time() -> None:
    store(3)
    store(2, path="coordination/events/heartbeat-events.jsonl", kind="worker_presumed_dead", worker="w-10")
    for text, count in (
        ("type=worker_stalled", 3),
        ("source=coordination/events/heartbeat-events.jsonl", 2),
        ("worker=w-1", 3),
        ("worker=w-10", 2),
        ("since=2025-11-20T12:00:01Z", 3),
        ("until=2025-11-20T12:00:00Z", 2),
        ("type=worker_stalled&until=2025-11-20T06:00:00-0600", 1),
        ("source=nowhere.jsonl", 0),
    ):
        assert len(events.events(query(text)).rows) == count, text


def test_what_cannot_be_used_is_said(as_viewer: Client) -> None:
    store(1)
    page = as_viewer.get("/events/?since=tomorrow&before=nonsense").content.decode()
    assert "since “tomorrow”, which is no time" in page
    assert "no place in the stream" in page
    swapped = query("since=2025-11-21&until=2025-11-20")
    assert swapped.since < swapped.until
    assert "swapped" in swapped.ignored[0]


def test_a_view_and_its_query_string_say_the_same() -> None:
    text = "type=a&source=b&worker=c&since=2025-11-20T12:00:00Z&before=2025-11-20T12:00:00.123456Z,17"
    assert query(query(text).string.removeprefix("?")) == query(text)


def test_new_events_are_counted_for_the_view_that_is_open() -> None:
    store(5)
    newest = events.events(query("")).newest
    store(2, kind="pm_loop_completed", worker="")
    assert events.waiting(query(""), newest) == 2
    assert events.waiting(query("type=worker_stalled"), newest) == 0


def test_a_page_takes_a_constant_number_of_queries(as_viewer: Client) -> None:
    store(5)
    with CaptureQueriesContext(connection) as few:
        as_viewer.get("/events/?worker=w-1")
    store(200, worker="w-1", kind="another")
    with CaptureQueriesContext(connection) as many:
        as_viewer.get("/events/?worker=w-1")
    assert len(many) == len(few)


def test_counts_of_days_are_kept_beside_the_events(home: Home) -> None:
    records = [{"timestamp": iso(BASE), "event": "worker_stalled", "worker_id": "w-1"}] * 3
    home.append(PM, "".join(json.dumps(record) + "\n" for record in records))
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    home.append(PM, json.dumps(records[0]) + "\n{broken\n" + json.dumps({"timestamp": iso(BASE), "event": "x"}) + "\n")
    cycle.run_once(datetime.now(UTC))
    assert set(EventCount.objects.values_list("type", "day", "count")) == {
        ("worker_stalled", BASE.date(), 4),
        ("x", BASE.date(), 1),
    }


def test_a_damaged_stretch_is_shown_with_file_and_offset(home: Home, as_viewer: Client) -> None:
    home.append(PM, '{"event":"a","timestamp":"2025-11-20T12:00:00Z"}\nnot a record\n{"event":"b"}\n')
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    page = flat(as_viewer.get("/events/").content.decode())
    assert "1 damaged stretch" in page
    assert '<td class="num">49</td>' in page
    assert "not a record" in page


def test_nothing_of_a_record_runs_in_the_browser(home: Home, as_viewer: Client) -> None:
    home.append(PM, json.dumps({"event": "<script>x</script>", "timestamp": iso(BASE), "m": "<img onerror=x>"}) + "\n")
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    page = as_viewer.get("/events/").content.decode()
    assert "<script>x" not in page
    assert "<img onerror" not in page


def test_strangers_are_sent_to_the_login_and_posts_refused(client: Client, as_viewer: Client) -> None:
    assert client.get("/events/")["Location"].startswith("/accounts/login/")
    assert as_viewer.post("/events/").status_code == 405
