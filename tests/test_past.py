"""The fleet as it was: one past moment, two of them compared, and what is said where nobody watched."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers.health import Health
from workers.models import HealthChange, PollerGap, Worker
from workers.queries.comparison import Comparison, compare
from workers.queries.past import Past, PastQuery, past_fleet

from . import factories
from .markup import flat

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=2)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def text(minutes: float) -> str:
    return at(minutes).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(name: str, *history: tuple[float, str], number: int = 1, **fields: object) -> Worker:
    """Store a run with this history: (minutes from noon, verdict); it was first seen with the first of them."""
    worker = factories.build(Health(history[-1][1]), number, NOW, worker_id=name)
    values = {"created_at": at(history[0][0]), "first_seen_at": at(history[0][0]), **fields}
    for field, value in values.items():
        setattr(worker, field, value)
    worker.run_key = str(worker.created_at)
    worker.save()
    old = ""
    for minute, new in history:
        HealthChange.objects.create(worker=worker, at=at(minute), old=old, new=new, reason=f"It looked {new}")
        old = new
    return worker


@pytest.fixture
def watched() -> None:
    """A poller of host-a that began a day before noon and watches to this day."""
    factories.poller(started_at=at(-1440), last_cycle_at=NOW)


def query(given: str) -> PastQuery:
    return PastQuery.parse(QueryDict(given), NOW)


def moment(given: str) -> Past:
    return past_fleet(query(given), NOW)


def compared(given: str) -> Comparison:
    return compare(query(given), NOW)


def states(found: Past) -> dict[str, str]:
    return {row.worker.worker_id: row.state for row in found.rows}


def moves(found: Comparison) -> dict[str, tuple[str, str]]:
    return {row.worker.worker_id: (row.came, row.went) for row in found.rows}


def tiles(found: Past) -> dict[str, int]:
    return {tile.state: tile.count for tile in found.tiles if tile.count}


# One moment


@pytest.mark.parametrize(
    ("minute", "found"),
    [
        (-1, {}),
        (0, {"one": "healthy"}),
        (14.99, {"one": "healthy", "two": "pending"}),
        (15, {"one": "zombie", "two": "pending"}),
        (40, {"two": "pending"}),
        (60, {"one": "healthy", "two": "pending"}),
        (2000, {"one": "healthy", "two": "pending"}),
    ],
)
def test_each_run_shows_its_last_verdict_at_or_before_the_moment(
    watched: None, minute: float, found: dict[str, str]
) -> None:
    run("one", (0, "healthy"), (15, "zombie"), (30, "failed"), (60, "healthy"))
    run("two", (10, "pending"), number=2)
    assert states(past_fleet(PastQuery(at(minute)), NOW)) == found


def test_a_change_of_the_same_instant_counts_and_the_later_of_two(watched: None) -> None:
    one = run("one", (0, "healthy"), (15, "late"))
    HealthChange.objects.create(worker=one, at=at(15), old="late", new="stalled", reason="At once")
    assert states(moment(f"at={text(15)}")) == {"one": "stalled"}


def test_a_row_says_since_when_and_what_came_next(watched: None) -> None:
    run("one", (0, "healthy"), (15, "zombie"), (27, "failed"))
    row = moment(f"at={text(20)}").rows[0]
    assert (row.change.reason, row.age, row.until) == ("It looked zombie", 300, 420)
    assert row.following is not None
    assert row.following.new == "failed"
    assert moment(f"at={text(30)}&health=failed").rows[0].following is None


def test_what_had_ended_shows_where_it_is_asked_for_and_only_within_seven_days(watched: None) -> None:
    run("fresh", (-60, "healthy"), (-30, "failed"))
    run("old", (-11000, "healthy"), (-10090, "failed"), number=2)
    assert states(moment(f"at={text(0)}")) == {}
    assert states(moment(f"at={text(0)}&health=failed")) == {"fresh": "failed"}
    assert tiles(moment(f"at={text(0)}")) == {"failed": 1}
    assert states(moment(f"at={text(-20)}&health=failed,healthy")) == {"fresh": "failed", "old": "failed"}


def test_runs_of_one_id_are_different_runs(watched: None) -> None:
    first = run("reused", (0, "healthy"), (10, "completed"), live=False)
    second = run("reused", (30, "pending"), (40, "zombie"))
    assert [row.worker for row in moment(f"at={text(5)}").rows] == [first]
    assert [row.worker for row in moment(f"at={text(35)}").rows] == [second]
    both = moment(f"at={text(45)}&health=completed,zombie")
    assert [(row.worker, row.state) for row in both.rows] == [(second, "zombie"), (first, "completed")]


def test_the_worst_come_first_and_then_what_lasts_longest(watched: None) -> None:
    for number, (name, began, state) in enumerate(
        [("d", 0, "healthy"), ("b", 5, "zombie"), ("a", 2, "zombie"), ("c", 1, "late")], 1
    ):
        run(name, (began, state), number=number)
    assert list(states(moment(f"at={text(10)}"))) == ["a", "b", "c", "d"]


def test_tiles_and_facets_count_what_the_other_filters_leave(watched: None) -> None:
    factories.poller("host-b", started_at=at(-1440), last_cycle_at=NOW)
    run("one", (0, "zombie"), worker_type="scan", host="host-a")
    run("two", (0, "zombie"), number=2, worker_type="fix", host="host-b")
    run("three", (0, "healthy"), number=3, worker_type="fix", host="host-b")
    found = moment(f"at={text(1)}&health=zombie&worker_type=fix")
    assert states(found) == {"two": "zombie"}
    assert tiles(found) == {"zombie": 1, "healthy": 1}
    facets = {facet.name: dict(facet.choices) for facet in found.facets}
    assert facets["worker_type"] == {"scan": 1, "fix": 1}
    assert facets["host"] == {"host-b": 1}
    assert (found.matching, found.running, found.troubled) == (1, 3, 1)
    zombie = next(tile for tile in found.tiles if tile.state == "zombie")
    assert zombie.on
    assert zombie.href == f"?at={text(1)}&worker_type=fix"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ALPHA", {"alpha"}),
        ("task-77", {"by-task"}),
        ("gateway", {"by-description"}),
        ("odd-type", {"by-type"}),
        ("looked+stalled", {"by-reason"}),
        ("100%25_", {"by-100%_sure"}),
        ("looked+nowhere", set()),
        ("gate%00way", {"by-description"}),
        ("'+OR+1=1+--", set()),
        ("%5C", set()),
    ],
)
def test_words_are_looked_for_in_what_was_said_then(watched: None, words: str, found: set[str]) -> None:
    plain = {"task_id": "t", "worker_type": "u", "description": "", "error": "gateway of today"}
    special: dict[str, dict[str, object]] = {
        "alpha": {},
        "by-task": {"task_id": "task-77"},
        "by-description": {"description": "The gateway"},
        "by-type": {"worker_type": "odd-type"},
        "by-100%_sure": {},
        "by-1000-sure": {},
    }
    for number, (name, fields) in enumerate(special.items(), 1):
        run(name, (0, "healthy"), (30, "stalled"), number=number, **{**plain, **fields})
    run("by-reason", (0, "stalled"), (30, "healthy"), number=9, **plain)
    assert set(states(moment(f"at={text(1)}&q={words}"))) == found


def test_a_search_of_very_many_words_is_still_answered(watched: None) -> None:
    run("one", (0, "healthy"))
    assert states(moment(f"at={text(1)}&q=" + "+".join("one" * 100))) == {"one": "healthy"}


def test_a_page_beyond_the_last_is_the_last(watched: None) -> None:
    for number in range(52):
        run(f"w-{number}", (0, "healthy"), number=number)
    found = moment(f"at={text(1)}&page=9")
    assert (found.query.page, len(found.rows), found.pager.pages) == (2, 2, 2)
    assert found.ignored == ("page 9, as there are only 2",)


# Where nobody watched


def test_what_nobody_watched_is_unwatched_with_the_last_that_was_known(watched: None) -> None:
    run("one", (0, "healthy"), (90, "zombie"))
    run("done", (-30, "completed"), number=2)
    PollerGap.objects.create(host="host-a", began=at(20), ended=at(80))
    assert states(moment(f"at={text(19)}")) == {"one": "healthy"}
    found = moment(f"at={text(50)}")
    assert states(found) == {"one": "unwatched"}
    assert tiles(found) == {"unwatched": 1, "completed": 1}, "an end stays an end"
    assert (found.rows[0].change.new, found.rows[0].looked) == ("healthy", at(20))
    [(vigil, before, after)] = found.unwatched
    assert (vigil.host, before, after) == ("host-a", at(20), at(80))
    assert states(moment(f"at={text(50)}&health=healthy")) == {}
    assert states(moment(f"at={text(50)}&health=unwatched")) == {"one": "unwatched"}
    assert states(moment(f"at={text(80)}")) == {"one": "healthy"}


def test_a_gap_of_one_host_says_nothing_of_another(watched: None) -> None:
    factories.poller("host-b", started_at=at(-1440), last_cycle_at=NOW)
    run("one", (0, "healthy"))
    run("two", (0, "healthy"), number=2, host="host-b")
    PollerGap.objects.create(host="host-b", began=at(20), ended=at(80))
    assert states(moment(f"at={text(50)}")) == {"one": "healthy", "two": "unwatched"}


def test_after_the_last_look_of_a_silent_poller_nobody_knows() -> None:
    factories.poller(started_at=at(-1440), last_cycle_at=at(30))
    run("one", (0, "healthy"))
    assert states(moment(f"at={text(29)}")) == {"one": "healthy"}
    found = moment(f"at={text(31)}")
    assert states(found) == {"one": "unwatched"}
    assert found.rows[0].looked == at(30)
    assert found.unwatched[0][2] is None


def test_before_the_first_look_only_what_ended_is_known(watched: None) -> None:
    run("ended", (-2000, "failed"), first_seen_at=at(-1440), live=False)
    found = moment(f"at={text(-1500)}&health=failed")
    assert found.vigils.since == at(-1440)
    assert found.too_early
    assert states(found) == {"ended": "failed"}
    assert not moment(f"at={text(-1440)}").too_early


# Where one can go from there


def test_steps_lead_to_the_nearest_change_and_never_ahead(watched: None) -> None:
    one = run("one", (0, "healthy"), (15, "zombie"))
    HealthChange.objects.filter(worker=one, new="zombie").update(at=at(15) + timedelta(microseconds=123456))
    found = moment(f"at={text(5)}")
    assert found.before == at(0)
    assert found.after_href == "?at=2026-03-02T12:15:00.123456Z"
    assert states(moment(found.after_href.removeprefix("?"))) == {"one": "zombie"}, "to the microsecond"
    last = moment(f"at={(NOW - timedelta(minutes=30)).strftime('%Y-%m-%dT%H:%M:%SZ')}&host=host-a")
    steps = dict(last.steps)
    assert steps["+10 min"] == "?at=2026-03-04T11:40:00Z&host=host-a"
    assert (steps["+1 h"], steps["+1 d"], last.after_href) == ("", "", "")
    assert steps["−1 d"] == "?at=2026-03-03T11:30:00Z&host=host-a"


# What is asked for


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-03-02T12:00", NOON),
        ("2026-03-02T12:00:30", at(0.5)),
        ("2026-03-02T13:00:00%2B01:00", NOON),
        ("2026-03-02T13:00:00+01:00", NOON),
        ("2026-03-02T06:00:00-0600", NOON),
        ("2026-03-02 12:00:00 UTC", NOON),
    ],
)
def test_a_moment_is_in_its_own_zone_or_in_utc(given: str, moment: datetime) -> None:
    assert query(f"at={given}").at == moment


@pytest.mark.parametrize("given", ["tomorrow", "0001-01-01T00:00", "9999-12-31T23:59", "2026-02-30", "%00", "1" * 5000])
def test_a_moment_that_cannot_be_read_is_named_and_leaves_the_present(given: str) -> None:
    found = query(f"at={given}")
    assert found.present
    assert "no time between 2000 and 2100" in found.ignored[0]
    assert found.ignored[-1] == "so this is the fleet as it is now"


def test_a_moment_that_lies_ahead_is_now() -> None:
    found = query("at=2031-01-01")
    assert (found.present, found.ignored[0]) == (True, "at “2031-01-01”, which lies ahead; now was taken in its place")
    pair = query(f"at=2031-01-01&with={text(0)}")
    assert (pair.at, pair.with_, len(pair.ignored)) == (NOON, NOW, 1)


def test_two_moments_are_put_in_order_and_two_equal_ones_are_one() -> None:
    found = query(f"at={text(60)}&with={text(0)}")
    assert (found.at, found.with_, found.ignored) == (at(0), at(60), ())
    same = query(f"at={text(0)}&with={text(0)}")
    assert same.with_ is None
    assert same.ignored == ("the comparison of a moment with itself",)
    alone = query(f"at={text(0)}&with=nonsense")
    assert alone.with_ is None
    assert "with “nonsense”" in alone.ignored[0]


def test_what_else_cannot_be_used_is_named() -> None:
    found = query(f"at={text(0)}&health=zombie,brave&page=x&size=7&move=late-zombie")
    assert found.health == ("zombie",)
    assert [sentence.split("”")[0] for sentence in found.ignored] == [
        "health “brave",
        "move “late-zombie",
        "page “x",
        "size “7",
    ]
    pair = query(f"at={text(0)}&with={text(5)}&health=zombie&move=new-nothing")
    assert (pair.health, pair.move, len(pair.ignored)) == ((), None, 2)


def test_a_view_and_its_query_string_say_the_same() -> None:
    for given in (
        f"at={text(0)}&health=zombie,unwatched&worker_type=a b&master=%26&host=ü&q=x y&page=3&size=100",
        f"at={text(0)}&with={text(9)}&move=new-zombie",
    ):
        found = query(given)
        assert query(found.string.removeprefix("?")) == found
        assert not found.ignored
    assert query(f"at={text(0)}&health=zombie&page=4").toggled("zombie").string == f"?at={text(0)}"


# Two moments


@pytest.fixture
def two_hours(watched: None) -> None:
    """What happened between noon and two o'clock."""
    run("broke", (-10, "healthy"), (30, "late"), (60, "zombie"))
    run("same", (-10, "healthy"), number=2)
    run("back", (-10, "healthy"), (20, "late"), (40, "healthy"), number=3)
    run("came", (50, "healthy"), number=4)
    run("over", (-10, "healthy"), (70, "failed"), number=5)
    run("brief", (50, "healthy"), (80, "completed"), number=6)
    run("ended-before", (-100, "failed"), number=7)
    run("ahead", (200, "zombie"), number=8)


def test_a_comparison_lists_what_differs_and_counts_what_does_not(two_hours: None) -> None:
    found = compared(f"at={text(0)}&with={text(120)}")
    assert moves(found) == {
        "broke": ("healthy", "zombie"),
        "over": ("healthy", "failed"),
        "brief": ("new", "completed"),
        "came": ("new", "healthy"),
    }
    assert {row.worker.worker_id: row.changes for row in found.rows} == {"broke": 2, "over": 1, "brief": 2, "came": 1}
    assert (found.moved, found.new, found.ended, found.unchanged, found.back, found.unseen) == (4, 2, 2, 2, 1, 0)
    assert found.blind == ()


def test_a_comparison_the_other_way_round_is_the_same(two_hours: None) -> None:
    there, back = compared(f"at={text(0)}&with={text(120)}"), compared(f"at={text(120)}&with={text(0)}")
    assert moves(there) == moves(back)


def test_a_cell_of_the_table_narrows_to_its_runs(two_hours: None) -> None:
    found = compared(f"at={text(0)}&with={text(120)}")
    cells = {(cell.came, cell.went): cell for _, several in found.table for cell in several if cell.count}
    assert {pair: cell.count for pair, cell in cells.items()} == {
        ("healthy", "zombie"): 1,
        ("healthy", "failed"): 1,
        ("new", "completed"): 1,
        ("new", "healthy"): 1,
    }
    narrowed = compared(cells["new", "healthy"].href.removeprefix("?"))
    assert moves(narrowed) == {"came": ("new", "healthy")}
    assert narrowed.moved == 4, "the table still counts everything"
    [on] = [cell for _, several in narrowed.table for cell in several if cell.on]
    assert on.href == found.query.string


def test_a_comparison_tells_where_nobody_watched(two_hours: None) -> None:
    PollerGap.objects.create(host="host-a", began=at(-30), ended=at(10))
    PollerGap.objects.create(host="host-a", began=at(41), ended=at(46))
    PollerGap.objects.create(host="host-a", began=at(300), ended=at(400))
    found = compared(f"at={text(0)}&with={text(120)}")
    [(host, gaps, seconds)] = found.blind
    assert (host, seconds) == ("host-a", 15 * 60)
    assert [(gap.began, gap.ended) for gap in gaps] == [(at(0), at(10)), (at(41), at(46))]
    assert moves(found)["same"] == ("unwatched", "healthy"), "what nobody watched is not called unchanged"
    assert moves(found)["came"] == ("new", "healthy"), "its spec says that it was not there"
    blind = compared(f"at={text(-5)}&with={text(5)}")
    assert (blind.moved, blind.unchanged, blind.unseen) == (0, 0, 4)


def test_a_comparison_can_be_narrowed(two_hours: None) -> None:
    Worker.objects.filter(worker_id="came").update(worker_type="odd")
    found = compared(f"at={text(0)}&with={text(120)}&worker_type=odd")
    assert moves(found) == {"came": ("new", "healthy")}
    assert (found.moved, found.unchanged) == (1, 0)
    facets = {facet.name: dict(facet.choices) for facet in found.facets}
    assert sum(facets["worker_type"].values()) == 4
    assert set(moves(compared(f"at={text(0)}&with={text(120)}&q=looked+zombie"))) == {"broke"}


# The page


def past_of(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def yesterday() -> Worker:
    """A zombie of today that was healthy yesterday, when its host was watched."""
    now = datetime.now(UTC)
    factories.poller(started_at=now - timedelta(days=2))
    worker = factories.add(Health.ZOMBIE, 1, worker_id="w-<b>1", progress_pct=73, first_seen_at=now - timedelta(days=2))
    HealthChange.objects.create(worker=worker, at=now - timedelta(days=2), new="healthy", reason="<i>It checked in</i>")
    return worker


def test_the_page_of_a_moment_cannot_be_taken_for_the_present(as_operator: Client, yesterday: Worker) -> None:
    when = past_of(24)
    page = flat(as_operator.get(f"/?at={when}").content.decode())
    assert f"<title>Fleet on {when[:10]} {when[11:16]} UTC" in page
    assert "The fleet as it was on" in page
    assert "&lt;i&gt;It checked in" in page
    assert "became zombie" in page
    assert "Back to now" in page
    for part in ('id="live"', "ws-connect", 'type="checkbox"', "hx-post", "remediations/new", "73 %", "<i>It checked"):
        assert part not in page, part


def test_the_page_of_two_moments_says_what_changed(as_viewer: Client, yesterday: Worker) -> None:
    page = as_viewer.get(f"/?at={past_of(24)}&with=now").content.decode()
    assert "What changed from" in page
    assert 'aria-label="1 from healthy to zombie"' in page
    assert "ws-connect" not in page


def test_what_cannot_be_shown_is_said_on_the_page_of_the_present(as_viewer: Client, yesterday: Worker) -> None:
    for given, said in (("nonsense<i>", "at “nonsense&lt;i&gt;”, which is no time"), ("2090-01-01", "lies ahead")):
        page = as_viewer.get("/", {"at": given}).content.decode()
        assert said in page
        assert "so this is the fleet as it is now" in page
        assert 'id="live"' in page
    assert "Ignored" not in as_viewer.get("/?at=").content.decode()


@pytest.mark.parametrize(
    "given",
    [
        "at=2001-01-01",
        "at=2001-01-01&with=2001-01-02",
        "at=2001-01-01&health=failed&q=%27%22%3Cscript%3E&page=99999999",
        "at=2026-01-01&host=%F0%9F%92%A5&worker_type=%00&master=%25",
        "at=x&with=y&move=-&health=,,",
    ],
)
def test_every_question_has_an_answer(as_viewer: Client, given: str) -> None:
    answer = as_viewer.get(f"/?{given}")
    assert answer.status_code == 200
    assert b"<script>'" not in answer.content


def test_pages_of_the_present_lead_to_the_past(as_viewer: Client, yesterday: Worker) -> None:
    assert 'name="at"' in as_viewer.get("/").content.decode()
    change = yesterday.health_changes.order_by("at").first()
    assert change is not None
    page = as_viewer.get(yesterday.get_absolute_url()).content.decode()
    address = f"/?at={change.at.isoformat().replace('+00:00', 'Z')}"
    assert page.count(f'href="{address}"') == 2, "in the strip and in the table"
    assert "It checked in" in as_viewer.get(address).content.decode()


def test_strangers_are_sent_to_the_login_and_posts_refused(client: Client, as_viewer: Client) -> None:
    assert client.get(f"/?at={past_of(1)}")["Location"].startswith("/accounts/login/")
    assert as_viewer.post(f"/?at={past_of(1)}").status_code == 405


def fill(count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        run(f"w-{number}", (number, "healthy"), (30 + number, "late"), (90 + number, "zombie"), number=number)


@pytest.mark.parametrize(
    "given", [f"at={text(60)}", f"at={text(60)}&q=late&health=late", f"at={text(20)}&with={text(120)}"]
)
def test_the_number_of_queries_does_not_grow_with_the_fleet(as_viewer: Client, watched: None, given: str) -> None:
    def number() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert as_viewer.get(f"/?{given}").status_code == 200
        return len(captured)

    fill(3)
    few = number()
    fill(27, first=3)
    PollerGap.objects.bulk_create(gaps(40))
    assert number() == few <= 14


def gaps(count: int) -> Iterable[PollerGap]:
    return (PollerGap(host="host-a", began=at(-20 * n), ended=at(-20 * n + 3)) for n in range(1, count))
