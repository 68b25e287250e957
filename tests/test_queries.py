"""What a query string asks for, and what it gets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers import queries
from workers.health import Health
from workers.models import HealthChange, PollerGap, Worker
from workers.queries import FleetQuery

from . import factories


def ask(query_string: str) -> FleetQuery:
    return FleetQuery.parse(QueryDict(query_string))


def ids(query_string: str) -> list[str]:
    """The worker ids that a query string shows, in its order."""
    page = queries.fleet(ask(query_string), datetime.now(UTC))
    return [row.worker.worker_id for row in page.rows]


# What somebody types


def test_words_qualifiers_and_quotes_are_told_apart() -> None:
    search = queries.parse_search('refresh type:scan is:overdue "two words" health:zombie,late')
    assert search.words == ("refresh", "two words")
    assert search.qualified == (("type", "scan"), ("is", "overdue"))
    assert search.health == {Health.ZOMBIE, Health.LATE}
    assert search.ignored == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [("health:dead", "health:dead"), ("is:late", "is:late"), ("type:", "type:"), ("health:", "health:")],
)
def test_a_qualifier_that_asks_for_nothing_is_named_and_ignored(text: str, named: str) -> None:
    search = queries.parse_search(f"{text} word")
    assert named in search.ignored[0]
    assert search.words == ("word",)
    assert not search.qualified


def test_a_colon_in_an_ordinary_word_is_searched_for() -> None:
    assert queries.parse_search("http://x task-1:2").words == ("http://x", "task-1:2")


def test_an_open_quote_is_no_error_while_typing() -> None:
    assert queries.parse_search('"half a').words == ("half", "a")


@pytest.mark.parametrize(
    "query_string",
    [
        "",
        "?health=crashed,zombie",
        "?worker_type=scan-worker&q=two+words",
        "?sort=-checkin&page=3&size=100",
        "?runs=all",
    ],
)
def test_a_view_and_its_query_string_say_the_same(query_string: str) -> None:
    assert ask(query_string.removeprefix("?")).string == query_string


def test_several_states_may_be_given_in_any_way() -> None:
    assert ask("health=zombie&health=late,crashed") == ask("health=crashed,zombie,late")


@pytest.mark.parametrize(
    "bad", ["health=dead", "sort=colour", "page=0", "page=x", "page=-1", "size=7", "q=health:dead", "page=²"]
)
def test_a_bad_value_is_ignored_and_said(bad: str) -> None:
    query = ask(bad)
    assert query.with_changes(q="") == FleetQuery()
    assert len(query.ignored) == 1


def test_control_characters_and_endless_values_do_no_harm() -> None:
    query = ask("q=" + "x" * 10_000 + "&host=%00&worker_type=" + "y" * 10_000)
    assert (len(query.q), query.host, len(query.worker_type)) == (500, "", 255)


# The list


@pytest.mark.django_db
def test_the_worst_comes_first_then_marks_then_the_longest() -> None:
    now = datetime.now(UTC)
    factories.add(Health.HEALTHY, 1, worker_id="healthy")
    factories.add(Health.ZOMBIE, 2, worker_id="zombie", overdue=False)
    factories.add(Health.ZOMBIE, 3, worker_id="zombie-overdue", overdue=True)
    factories.add(Health.ZOMBIE, 4, worker_id="zombie-long", overdue=False, health_since=now - timedelta(days=1))
    factories.add(Health.CRASHED, 5, worker_id="crashed")
    assert ids("") == ["crashed", "zombie-overdue", "zombie-long", "zombie", "healthy"]
    assert ids("sort=-health") == ids("")[::-1]


@pytest.mark.django_db
def test_only_live_runs_are_shown_until_somebody_asks_for_others() -> None:
    factories.add(Health.HEALTHY, 1, worker_id="live")
    factories.add(Health.FAILED, 2, worker_id="failed")
    factories.add(Health.FAILED, 3, worker_id="failed-long-ago", ended_at=datetime.now(UTC) - timedelta(days=30))
    assert ids("") == ["live"]
    assert ids("health=failed") == ["failed"]
    assert set(ids("health=failed&runs=all")) == {"failed", "failed-long-ago"}
    assert set(ids("runs=all")) == {"live", "failed", "failed-long-ago"}


@pytest.mark.django_db
def test_a_run_without_an_end_counts_from_its_verdict() -> None:
    long_ago = datetime.now(UTC) - timedelta(days=8)
    factories.add(Health.GONE, 1, worker_id="just-gone")
    factories.add(Health.GONE, 2, worker_id="gone", health_since=long_ago)
    assert ids("health=gone") == ["just-gone"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("alpha", "by-id-alpha"),
        ("GATEWAY", "by-description"),
        ("reset by peer", "by-error"),
        ("disappeared", "by-reason"),
        ("task:4711", "by-task"),
        ("type:odd", "by-type"),
        ("master:night", "by-master"),
        ("host:other", "by-host"),
        ("status:in_progress", "by-status"),
        ("is:disagreeing", "by-disagreement"),
        ("is:overdue", "by-overdue"),
        ("is:not-checking-in", "by-silence"),
        ("health:stalled", "by-health"),
        ("100%_sure", "by-wildcards-100%_sure"),
    ],
)
def test_search_finds(search: str, found: str) -> None:
    plain = {"description": "", "overdue": False, "pm_disagrees": False, "not_checking_in": False}
    special = {
        "by-description": {"description": "the gateway"},
        "by-error": {"error": "connection reset by peer"},
        "by-reason": {"reasons": [factories.reason("Process 1 disappeared", "processes")]},
        "by-task": {"task_id": "task-4711"},
        "by-type": {"worker_type": "odd-worker"},
        "by-master": {"master": "night-master"},
        "by-host": {"host": "other"},
        "by-status": {"status": "in_progress"},
        "by-disagreement": {"pm_disagrees": True},
        "by-overdue": {"overdue": True},
        "by-silence": {"not_checking_in": True},
        "by-health": {"health": "stalled", "severity": 2},
    }
    for number, name in enumerate(["by-id-alpha", "by-wildcards-100%_sure", "by-wildcards-1000-sure", *special]):
        factories.change(factories.add(Health.HEALTHY, number, worker_id=name), **{**plain, **special.get(name, {})})
    assert ids(f"q={search.replace('%', '%25')}") == [found]


@pytest.mark.django_db
def test_a_view_beyond_the_last_page_is_the_last_page() -> None:
    factories.add_fleet(60)
    page = queries.fleet(ask("page=9&size=50&runs=all"), datetime.now(UTC))
    assert (page.query.page, len(page.rows)) == (2, 10)
    assert "page 9" in page.ignored[0]


@pytest.mark.django_db
def test_from_the_second_page_of_the_default_view_a_link_leads_back_to_the_first(as_viewer: Client) -> None:
    factories.add_fleet(60)
    assert queries.fleet(ask("page=2"), datetime.now(UTC)).pager.before == "?"
    assert '<a class="btn small" rel="prev" href="?">' in as_viewer.get("/?page=2").content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("sort", [*queries.SORTS, *(f"-{name}" for name in queries.SORTS)])
def test_every_order_shows_every_run_once(sort: str) -> None:
    factories.add_fleet(120)
    Worker.objects.filter(worker_id__endswith="7").update(last_checkin_at=None, progress_pct=None, started_at=None)
    live = Worker.objects.filter(live=True).count()
    seen = [name for page in (1, 2, 3) for name in ids(f"sort={sort}&page={page}")][:live]
    assert len(set(seen)) == live


@pytest.mark.django_db
def test_missing_values_come_last_in_both_directions() -> None:
    factories.add(Health.HEALTHY, 1, worker_id="never", last_checkin_at=None)
    factories.add(Health.HEALTHY, 2, worker_id="once")
    assert ids("sort=checkin") == ids("sort=-checkin") == ["once", "never"]


# Counting


@pytest.mark.django_db
def test_tiles_count_what_the_other_filters_leave() -> None:
    factories.add(Health.ZOMBIE, 1, worker_type="scan-worker")
    factories.add(Health.ZOMBIE, 2, worker_type="fix-worker")
    factories.add(Health.HEALTHY, 3, worker_type="scan-worker")
    factories.add(Health.FAILED, 4, worker_type="scan-worker")
    counts = queries.count_fleet(ask("worker_type=scan-worker&health=zombie"), datetime.now(UTC))
    tiles = {tile.state: tile for tile in counts.tiles}
    assert (tiles[Health.ZOMBIE].count, tiles[Health.HEALTHY].count, tiles[Health.FAILED].count) == (1, 1, 1)
    assert (counts.matching, counts.live) == (1, 3)
    assert tiles[Health.ZOMBIE].on
    assert tiles[Health.ZOMBIE].href == "?worker_type=scan-worker"
    assert tiles[Health.HEALTHY].href == "?health=zombie,healthy&worker_type=scan-worker"


@pytest.mark.django_db
def test_the_tile_of_unknown_shows_only_when_there_are_some() -> None:
    def shown() -> set[Health]:
        return {tile.state for tile in queries.count_fleet(ask(""), datetime.now(UTC)).tiles}

    assert not shown() & {Health.UNKNOWN, Health.GONE}
    factories.add(Health.UNKNOWN, 1)
    factories.add(Health.GONE, 2)
    assert shown() >= {Health.UNKNOWN, Health.GONE}


@pytest.mark.django_db
def test_a_facet_counts_what_choosing_it_would_show() -> None:
    factories.add(Health.ZOMBIE, 1, worker_type="scan-worker", host="host-a")
    factories.add(Health.ZOMBIE, 2, worker_type="fix-worker", host="host-b")
    factories.add(Health.HEALTHY, 3, worker_type="fix-worker", host="host-b")
    counts = queries.count_fleet(ask("health=zombie&worker_type=fix-worker"), datetime.now(UTC))
    facets = {facet.name: dict(facet.choices) for facet in counts.facets}
    assert facets["worker_type"] == {"scan-worker": 1, "fix-worker": 1}
    assert facets["host"] == {"host-b": 1}
    for worker_type, number in facets["worker_type"].items():
        assert len(ids(f"health=zombie&worker_type={worker_type}")) == number


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query_string", ["", "health=failed", "health=failed,zombie", "q=worker", "runs=all", "q=is:overdue"]
)
def test_the_count_and_the_list_agree(query_string: str) -> None:
    factories.add_fleet(40)
    for number in range(5):
        factories.add(Health.FAILED, 200 + number)
    page = queries.fleet(ask(query_string), datetime.now(UTC))
    assert page.counts.matching == len(page.rows) > 0


@pytest.mark.django_db
@pytest.mark.parametrize("query_string", ["", "health=failed", "q=two words", "runs=all&sort=checkin", "page=2"])
def test_the_number_of_queries_does_not_grow_with_the_fleet(query_string: str) -> None:
    from django.db import connection

    def number() -> int:
        with CaptureQueriesContext(connection) as captured:
            queries.fleet(ask(query_string), datetime.now(UTC))
        return len(captured)

    factories.add_fleet(5)
    few = number()
    Worker.objects.all().delete()
    factories.add_fleet(300, seed=2)
    assert number() == few <= 7


# News for a page that is open


@pytest.mark.django_db
def test_news_are_what_came_went_and_moved() -> None:
    now = datetime.now(UTC)
    stays, goes = factories.add(Health.ZOMBIE, 1), factories.add(Health.ZOMBIE, 2)
    shown = (stays.pk, goes.pk)
    view = ask("health=zombie")
    assert not queries.news(view, shown, now)(shown)
    factories.change(goes, health="healthy")
    factories.add(Health.ZOMBIE, 3)
    found = queries.news(view, shown, now)(shown)
    assert (found.new, found.gone) == (1, 1)


@pytest.mark.django_db
def test_a_row_that_only_moved_to_another_page_is_not_gone() -> None:
    workers = [factories.add(Health.ZOMBIE, number) for number in range(51)]
    shown = tuple(worker.pk for worker in workers)[:50]
    assert queries.news(ask(""), shown, datetime.now(UTC))(shown).gone == 0


@pytest.mark.django_db
def test_an_order_that_no_longer_holds_is_news_only_where_the_worst_come_first() -> None:
    now = datetime.now(UTC)
    first, second = factories.add(Health.ZOMBIE, 1), factories.add(Health.HEALTHY, 2)
    factories.change(second, health="crashed")
    shown = (first.pk, second.pk)
    assert queries.news(ask(""), shown, now)(shown).moved
    assert not queries.news(ask("sort=worker"), shown, now)(shown).moved


# How far it can be trusted


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("interval", "silence", "silent"), [(2, 5.9, False), (2, 6.1, True), (10, 29, False), (10, 31, True)]
)
def test_a_poller_is_silent_after_three_intervals_and_six_seconds_at_least(
    interval: float, silence: float, silent: bool
) -> None:
    now = datetime.now(UTC)
    factories.poller(interval_seconds=interval, last_cycle_at=now - timedelta(seconds=silence))
    worker = factories.add(Health.HEALTHY)
    watching = queries.watches(now)
    assert bool(watching.silent) is silent
    assert queries.rows([worker.pk], watching, now)[0].stale is silent


@pytest.mark.django_db
def test_a_host_without_a_poller_is_not_watched() -> None:
    worker = factories.add(Health.HEALTHY)
    now = datetime.now(UTC)
    assert queries.rows([worker.pk], queries.watches(now), now)[0].stale


# One run


@pytest.mark.django_db
def test_the_page_of_an_id_is_that_of_its_live_run_else_of_the_newest() -> None:
    now = datetime.now(UTC)
    old = factories.add(Health.FAILED, 1, worker_id="reused", created_at=now - timedelta(days=3))
    newer = factories.add(Health.FAILED, 1, worker_id="reused", created_at=now - timedelta(days=1))
    page = queries.find_run("reused", "", now)
    assert page is not None
    assert page.worker == newer
    live = factories.add(Health.HEALTHY, 1, worker_id="reused", created_at=now - timedelta(days=2))
    page = queries.find_run("reused", "", now)
    assert page is not None
    assert page.worker == live
    assert list(page.runs) == [newer, old]
    asked = queries.find_run("reused", str(old.pk), now)
    assert asked is not None
    assert asked.worker == old


@pytest.mark.django_db
@pytest.mark.parametrize("run", ["x", "999999", "9" * 30, "-1"])
def test_a_run_that_is_not_of_this_id_is_not_shown(run: str) -> None:
    factories.add(Health.HEALTHY, 1, worker_id="one")
    assert queries.find_run("one", run, datetime.now(UTC)) is None


def test_the_strip_shows_each_state_and_where_nobody_watched() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def at(minutes: int) -> datetime:
        return noon + timedelta(minutes=minutes)

    changes = [HealthChange(pk=2, at=at(10), new="late"), HealthChange(pk=1, at=noon, new="healthy")]
    gaps = [PollerGap(began=at(4), ended=at(6)), PollerGap(began=at(-60), ended=at(-50))]
    found = [(stretch.state, round(stretch.share)) for stretch in queries.strip(changes, gaps, at(20))]
    assert found == [("healthy", 20), ("unwatched", 10), ("healthy", 20), ("late", 50)]
