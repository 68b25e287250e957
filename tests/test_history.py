"""What a manager reads of a week: every figure of one small history, worked out by hand, and whatever may be odd."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers.health import Health
from workers.incidents import How, Kind
from workers.measures import Spread
from workers.models import HealthChange, Incident, Mark, PollerGap, RootCause, Worker
from workers.queries.history import TABLES, HistoryPage, Week, history, report
from workers.queries.period import Period

from . import factories
from .markup import flat

NOW = datetime(2025, 11, 24, 12, tzinfo=UTC)  # a Monday
#: The same seven days as an address that means them whenever it is read.
WEEK = "range=own&since=2025-11-17T12:00&until=2025-11-24T12:00"
RESET = "Spec says failed: Connection reset by peer after {} retries"


def at(day: int, hour: int, minute: float = 0) -> datetime:
    return datetime(2025, 11, day, hour, tzinfo=UTC) + timedelta(minutes=minute)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def run(name: str, health: Health, ended: datetime | None = None, **fields: Any) -> Worker:
    since = ended or at(10, 0)
    values = {"first_seen_at": at(1, 0), "created_at": at(1, 0), "health_since": since, "ended_at": ended, **fields}
    worker = factories.build(health, worker_id=name, run_key=name, as_of=NOW, **values)
    worker.save()
    return worker


def trouble(worker: Worker, kind: Kind, began: datetime, noticed: float, **fields: Any) -> Incident:
    """One that was noticed so many minutes after it began."""
    return Incident.objects.create(
        run=worker,
        host=worker.host,
        worker_id=worker.worker_id,
        kind=kind,
        began=began,
        detected=began + minutes(noticed),
        **fields,
    )


@pytest.fixture
def week(db: None) -> None:
    """Seven days, and the seven before; what is said of them below is worked out here by hand."""
    scan, fix = {"worker_type": "scan-worker"}, {"worker_type": "fix-worker"}
    # Four runs ended: two failed, two completed, so the success rate is 50 %.
    a = run("a", Health.FAILED, at(18, 10), task_id="task-1", **scan)
    b = run("b", Health.FAILED, at(19, 10), task_id="task-1-again", retry_of="task-1", **scan)
    c = run("c", Health.COMPLETED, at(19, 11), task_id="task-2", **scan)
    run("d", Health.COMPLETED, at(20, 9), task_id="task-3", **fix)
    e = run("e", Health.HEALTHY, task_id="task-4", **fix)
    # Of the seven days before: one completed, three failed, which is 25 %.
    f = run("f", Health.FAILED, at(14, 1), task_id="task-5", **fix)
    for name, health in (("g", Health.FAILED), ("h", Health.FAILED), ("i", Health.COMPLETED)):
        run(name, health, at(14, 2), task_id=f"task-of-{name}", **fix)
    # Noticed after 2 min, but it turned into the next one and does not count.
    trouble(a, Kind.ZOMBIE, at(18, 9, 50), 2, resolved=at(18, 10, 1), how=How.SUPERSEDED)
    # Noticed after 1 and 3 min. One was acknowledged 5 min later and ended 21 min after it began; the other lasts.
    trouble(
        *(a, Kind.FAILED, at(18, 10), 1),
        **{"acknowledged": at(18, 10, 6), "resolved": at(18, 10, 21), "how": How.RESTARTED, "cause": RESET.format(3)},
    )
    trouble(b, Kind.FAILED, at(19, 10), 3, cause=RESET.format(5))
    # Noticed after 15 min, acknowledged 1 min later, ended 30 min after it began.
    trouble(
        *(e, Kind.STALLED, at(20, 9), 15),
        **{"acknowledged": at(20, 9, 16), "resolved": at(20, 9, 30), "how": How.RECOVERED},
    )
    # Noticed after 10 min; that it was archived is no repair. Somebody knows why it happened.
    label = RootCause.objects.get_or_create(name="Host or network")[0]
    archived: dict[str, Any] = {"resolved": at(24, 11, 50), "how": How.ARCHIVED, "root_cause": label}
    trouble(c, Kind.CRASHED, at(24, 11, 20), 10, cause="Process 7 disappeared", **archived)
    # In the seven days before: noticed after 8.5 min, ended after 60.
    trouble(f, Kind.ZOMBIE, at(12, 10), 8.5, resolved=at(12, 11), how=How.REMEDIATION)
    # One run lives all the time: 168 h, of which it was stalled for 15 min, and nobody watched for 3 h.
    for moment, old, new in (
        (at(10, 0), "", "healthy"),
        (at(20, 9, 15), "healthy", "stalled"),
        (at(20, 9, 30), "stalled", "healthy"),
    ):
        HealthChange.objects.create(worker=e, at=moment, old=old, new=new)
    PollerGap.objects.create(host=factories.HOST, began=at(21, 0), ended=at(21, 3))
    Mark.objects.create(host=factories.HOST, at=at(20, 6), kind=Mark.Kind.PM_START, text="PM daemon started")


def look(query: str = WEEK, now: datetime = NOW) -> HistoryPage:
    return history(Period.parse(QueryDict(query), now))


def tile(page: HistoryPage, name: str) -> Any:
    return next(each for each in page.tiles if each.name == name)


# -- the figures


def test_the_figures_of_a_week(week: None) -> None:
    whole = look().figures.whole
    assert whole.incidents == 4  # five, of which one turned into another
    assert (whole.completed, whole.failed, whole.success) == (2, 2, 0.5)
    assert whole.detect == Spread(4, minutes(6.5), minutes(15))  # 1, 3, 10, 15
    assert whole.acknowledge == Spread(2, minutes(3), minutes(5))  # 1, 5
    assert whole.resolve == Spread(2, minutes(25.5), minutes(30))  # 21, 30; archived is no repair


def test_each_figure_is_compared_with_the_week_before(week: None) -> None:
    page = look()
    assert tile(page, "success").value == "50 %"
    assert tile(page, "success").change == ("▲", "25 points", "better")
    assert tile(page, "incidents").change == ("▲", "3 more", "worse")
    assert tile(page, "detect").value == "6 min 30 s"
    assert tile(page, "detect").change == ("▼", "2 min shorter", "better")
    assert tile(page, "resolve").change == ("▼", "34 min 30 s shorter", "better")
    assert tile(page, "acknowledge").change is None  # nobody acknowledged one in the week before


def test_there_is_no_arrow_where_nothing_is_known_of_the_time_before(week: None) -> None:
    page = look("range=own&since=2025-11-03T00:00&until=2025-11-09T00:00")
    assert page.figures.before is None
    assert all(each.change is None for each in page.tiles)


def test_the_matrix_counts_back_from_now_by_label_else_by_kind(week: None) -> None:
    rows = {row.name: [cell.number for cell in row.cells] for row in look("range=24h").matrix}
    assert rows == {
        "Host or network": [1, 1, 1, 1],
        "Failed, cause not labelled": [0, 0, 2, 2],
        "Stalled, cause not labelled": [0, 0, 1, 1],
        "Zombie, cause not labelled": [0, 0, 1, 2],  # the one that turned into another, too, as in the list
    }


def test_a_number_of_the_matrix_leads_to_those_incidents(week: None) -> None:
    rows = {row.name: row.cells for row in look(f"{WEEK}&worker_type=scan-worker").matrix}
    label = RootCause.objects.get(name="Host or network").pk
    assert rows["Host or network"][0].href == f"/incidents/?state=all&cause={label}&within=1h&worker_type=scan-worker"
    failed = rows["Failed, cause not labelled"]
    assert [cell.href for cell in failed[:2]] == ["", ""]
    assert failed[2].href == "/incidents/?state=all&kind=failed&cause=none&within=7d&worker_type=scan-worker"


def test_the_heat_map_is_of_the_hours_of_ones_own_zone(week: None) -> None:
    heat = look().figures.heat
    assert {(day, hour): n for day, row in enumerate(heat) for hour, n in enumerate(row) if n} == {
        (1, 10): 1,  # Tuesday 10:01
        (2, 10): 1,
        (3, 9): 1,
        (0, 11): 1,
    }
    # Friday 21 from 0 to 3 nobody watched, and the week holds no other Friday
    assert [heat[4][hour] for hour in (0, 1, 2, 3)] == [None, None, None, 0]
    kolkata = look(f"{WEEK}&zone=Asia/Kolkata".replace("12:00", "17:30")).figures.heat
    assert kolkata[1][15] == 1  # 15:31
    assert kolkata[0][17] == 1  # 11:30 in UTC is 17:00 there


def test_time_in_each_health_counts_what_nobody_watched_as_unknown(week: None) -> None:
    (share,) = look().figures.health
    assert share.spent == {
        Health.HEALTHY: timedelta(hours=164, minutes=45),
        Health.STALLED: timedelta(minutes=15),
        Health.UNKNOWN: timedelta(hours=3),
    }
    assert sum(share.spent.values(), timedelta()) == timedelta(days=7)


def test_each_hosts_gaps_are_its_own(week: None) -> None:
    worker = run("there", Health.HEALTHY, host="host-b")
    HealthChange.objects.create(worker=worker, at=at(10, 0), new="healthy")
    (share,) = look().figures.health
    assert share.spent[Health.UNKNOWN] == timedelta(hours=3)
    assert sum(share.spent.values(), timedelta()) == timedelta(days=14)
    assert look().notices == ["For 3 h of this period nobody watched host-a."]


def test_time_in_health_of_a_past_that_changed_later(week: None) -> None:
    """In these two days nothing changed; what came after says that it was healthy."""
    (share,) = look("range=own&since=2025-11-17T00:00&until=2025-11-19T00:00").figures.health
    assert share.spent == {Health.HEALTHY: timedelta(days=2)}


def test_a_run_takes_no_time_once_it_has_ended(week: None) -> None:
    worker = run("j", Health.FAILED, at(22, 12))
    for moment, old, new in ((at(22, 10), "", "healthy"), (at(22, 12), "healthy", "failed")):
        HealthChange.objects.create(worker=worker, at=moment, old=old, new=new)
    (share,) = look().figures.health
    assert share.spent[Health.HEALTHY] == timedelta(hours=166, minutes=45)
    assert Health.FAILED not in share.spent


def test_groups_have_their_own_figures(week: None) -> None:
    page = look(f"{WEEK}&group=worker_type")
    rows = {row.name: row.figures for row in page.group_rows}
    #        incidents, ended, success, MTTD, MTTA, MTTR, MTTR of 9 in 10
    assert rows["scan-worker"] == ("3", "3", "33.3 %", "3 min", "5 min", "21 min", "21 min")
    assert rows["fix-worker"] == ("1", "1", "100 %", "15 min", "1 min", "30 min", "30 min")
    assert [row.name for row in page.group_rows] == ["scan-worker", "fix-worker"]
    assert {share.name for share in page.figures.health} == {"fix-worker"}


def test_filters_hold_for_every_figure(week: None) -> None:
    figures = look(f"{WEEK}&worker_type=fix-worker").figures
    assert (figures.whole.incidents, figures.whole.success) == (1, 1.0)
    assert figures.before
    assert (figures.before.incidents, figures.before.success) == (1, 0.25)
    assert not figures.offenders
    assert not figures.shapes
    assert look(f"{WEEK}&host=elsewhere").figures.whole.nothing


def test_a_task_that_fails_again_names_its_runs(week: None) -> None:
    (task,) = look().offenders
    assert task.task_id == "task-1"
    assert [(each.worker_id, each.at) for each in task.failures] == [("a", at(18, 10, 1)), ("b", at(19, 10, 3))]


def test_texts_of_one_shape_count_as_one_and_lead_to_their_incidents(week: None) -> None:
    first, second = look().shapes
    assert first.shape == (RESET.format("<n>"), 2, RESET.format(3))
    assert "q=Spec+says+failed%3A+Connection+reset+by+peer+after" in first.href
    assert second.shape.times == 1


def test_days_are_those_of_the_zone_and_hold_what_happened(week: None) -> None:
    page = look()
    chart = page.failures
    assert [chart.name(index) for index in (0, 7)] == ["Mon 17 Nov", "Mon 24 Nov"]
    failed = next(each for each in chart.series if each.name == "Failed")
    assert list(failed.values) == [0, 1, 1, 0, 0, 0, 0, 0]
    rate = page.success.series[0].values
    assert list(rate) == [None, 0.0, 0.5, 1.0, None, None, None, None]  # no run ended: no rate, and not 0 %
    assert [mark.at for mark in chart.marks] == [3.25]  # type: ignore[attr-defined]


def test_targets_are_lines_in_the_chart_of_repairs(week: None) -> None:
    factories.poller(last_cycle_at=NOW, started_at=at(1, 0), targets={"low": 120, "high": 30, "odd": "soon", "no": -1})
    chart = {each.title: each for _, each in look().times}["Time to repair per day"]
    assert [(each.value, each.text) for each in chart.targets] == [  # type: ignore[attr-defined]
        (1800, "high: 30 min"),
        (7200, "low: 2 h"),
    ]


def test_a_day_that_nobody_watched_is_a_gap_and_no_zero(week: None) -> None:
    PollerGap.objects.create(host=factories.HOST, began=at(22, 0), ended=at(23, 0))
    values = look().failures.series[0].values
    assert values[5] is None
    assert values[6] == 0
    assert look().notices == ["For 1 d 3 h of this period nobody watched."]


def test_a_poller_that_is_silent_now_leaves_a_gap(week: None) -> None:
    factories.poller(last_cycle_at=NOW - timedelta(hours=2), started_at=at(1, 0))
    assert look("range=24h").notices == ["For 2 h of this period nobody watched."]


def test_it_says_since_when_it_has_watched(week: None) -> None:
    Worker.objects.update(first_seen_at=at(19, 6))
    assert look().notices[0] == (
        "Relay Web has watched since 2025-11-19 06:00 UTC; what was before is known from logs alone."
    )


# -- what may be odd


def test_clocks_that_jumped_make_no_negative_time(week: None) -> None:
    worker = run("jumped", Health.COMPLETED, at(22, 9), started_at=at(22, 10))  # it started after its end
    trouble(worker, Kind.STALLED, at(22, 8), -30, resolved=at(22, 7), how=How.RECOVERED)
    whole = look().figures.whole
    assert (whole.incidents, whole.completed) == (5, 3)
    assert whole.detect == Spread(5, minutes(3), minutes(15))  # 0, 1, 3, 10, 15
    assert whole.resolve == Spread(3, minutes(21), minutes(30))  # 0, 21, 30


def test_an_incident_that_never_ends_has_no_time_to_repair(db: None) -> None:
    trouble(run("w", Health.HEALTHY), Kind.STALLED, at(20, 9), 15)
    page = look()
    assert page.figures.whole.resolve is None
    assert (tile(page, "resolve").value, tile(page, "resolve").small) == ("—", "no incident that ended")
    assert (tile(page, "success").value, tile(page, "success").small) == ("—", "no run completed or failed")


def test_an_incident_of_no_known_run_counts(db: None) -> None:
    Incident.objects.create(host="h", worker_id="x", kind="stalled", began=at(20, 9), detected=at(20, 9), from_log=True)
    page = look(f"{WEEK}&group=master")
    assert [(row.name, row.href) for row in page.group_rows] == [("not known", "")]


def test_retries_that_run_in_a_ring_end(week: None) -> None:
    Worker.objects.filter(worker_id="a").update(retry_of="task-1-again")
    (task,) = look().offenders
    assert len(task.failures) == 2


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("range=own&since=2025-11-24T12:00&until=2025-11-17T12:00", "both were swapped"),
        ("range=own&since=1066-10-14&until=9999-12-31", "which is no time"),
        ("range=own&since=2001-01-01&until=2025-11-24T12:00", "longer than 400 days"),
        ("zone=Mars/Phobos", "which is unknown; UTC holds"),
        ("zone=../../etc/passwd", "which is unknown"),
        ("range=fortnight", "which is none of"),
        ("group=password", "which is none of"),
    ],
)
def test_what_cannot_be_used_is_named(as_viewer: Client, week: None, query: str, said: str) -> None:
    response = as_viewer.get(f"/history/?{query}")
    assert response.status_code == 200
    assert said in response.content.decode()


def test_an_empty_database_says_so_on_every_page(as_viewer: Client) -> None:
    page = as_viewer.get("/history/").content.decode()
    assert "Nothing happened in the last 7 days" in page
    assert "Relay Web has not watched any run yet." in page
    assert "This page fills as soon as a run ends or gets into trouble." in page
    assert "<b>0 %" not in page
    assert "No incident was detected, and no run completed or failed." in as_viewer.get("/history/report/").text
    for table in TABLES:
        assert as_viewer.get(f"/history/export.csv?table={table}").status_code == 200


def test_an_empty_range_leads_to_the_newest(as_viewer: Client, week: None) -> None:
    page = look("range=24h", NOW + timedelta(days=90))
    assert page.nothing
    assert page.newest_at == "2025-11-24 11:30 UTC"
    found = look(page.newest.removeprefix("?"), NOW + timedelta(days=90))
    assert found.figures.whole.incidents == 1
    assert "Go to the newest, 2025-11-24 11:30 UTC" in as_viewer.get("/history/?range=24h").text


# -- pages and files


def test_a_viewer_may_look_and_nobody_else(client: Client, as_viewer: Client, week: None) -> None:
    for address in ("/history/", "/history/report/", "/history/export.csv?table=slots"):
        assert as_viewer.get(address).status_code == 200
        assert as_viewer.post(address).status_code == 405
        response = client.get(address)
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/accounts/login/")


def test_the_page_shows_figures_with_words_beside_arrows(as_viewer: Client, week: None) -> None:
    page = flat(as_viewer.get(f"/history/?{WEEK}").text)
    assert '<span class="change better"> <i aria-hidden="true">▼</i> 2 min shorter · better </span>' in page
    assert "nothing to compare with" in page
    assert "PM daemon started" in page
    more = as_viewer.get(f"/history/more/?{WEEK}").text
    assert 'href="/workers/a/?run=' in more
    assert "PM daemon started" in more
    part = as_viewer.get(f"/history/more/?{WEEK}", headers={"HX-Request": "true", "HX-Target": "more"}).text
    assert part.lstrip().startswith('<div id="more">')
    assert "Worker types" in as_viewer.get(f"/history/measured/?{WEEK}").text


@pytest.mark.parametrize("address", ["/history/more/", "/history/measured/"])
def test_the_rest_of_the_page_is_for_those_who_may_see_the_fleet(client: Client, db: None, address: str) -> None:
    assert client.get(address).status_code == 302
    assert client.post(address).status_code in (302, 405)


def test_it_takes_the_same_number_of_queries_however_much_there_is(as_viewer: Client, week: None) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            as_viewer.get(f"/history/?{WEEK}&group=worker_type")
        return len(captured)

    before = queries()
    for number in range(30):
        worker = run(f"more-{number}", Health.FAILED, at(19, 10), task_id=f"more-{number % 5}")
        trouble(worker, Kind.FAILED, at(19, 10), number, cause=f"Text {number} of its own {'x' * number}")
    assert queries() == before <= 24


def rows(client: Client, table: str) -> list[list[str]]:
    response = client.get(f"/history/export.csv?table={table}&{WEEK}")
    assert response["Content-Disposition"] == f'attachment; filename="history-{table}-2025-11-17-2025-11-24.csv"'
    return list(csv.reader(response.getvalue().decode().splitlines()))


def test_every_table_comes_as_a_file(as_viewer: Client, week: None) -> None:
    for table, about in TABLES.items():
        head, *lines = rows(as_viewer, table)
        assert head == list(about.header), table
        assert all(len(line) == len(head) for line in lines), table
        assert lines or table in ("groups", "matrix"), table  # nothing is grouped; the matrix is of now
    assert len(rows(as_viewer, "incidents")) == 1 + 5
    assert sum(int(line[5]) for line in rows(as_viewer, "incidents")[1:]) == 4  # the one that turned does not count
    assert as_viewer.get("/history/export.csv?table=passwords").status_code == 404


def test_a_formula_in_a_file_stays_a_text(as_viewer: Client, week: None) -> None:
    trouble(run("=evil", Health.HEALTHY), Kind.FAILED, at(23, 1), 1, cause='=HYPERLINK("http://x")')
    found = [line for line in rows(as_viewer, "incidents") if "evil" in line[1]]
    assert (found[0][1], found[0][7]) == ("'=evil", '\'=HYPERLINK("http://x")')
    assert '\'=HYPERLINK("http://x")' in [line[2] for line in rows(as_viewer, "errors")]


# -- the report


def test_the_report_says_the_week_in_sentences(week: None) -> None:
    # Monday 17 to Sunday 23: the crash of Monday 24 is not in it; noticed after 1, 3, 15, ended after 21, 30.
    found = report(Week.parse(QueryDict("week=2025-W47"), NOW))
    assert found.week.title == "Monday 17 to Sunday 23 November 2025"
    assert found.sentences == [
        "3 incidents, 2 more than the week before.",
        "50 % of 4 runs that ended completed, 25 points more than the week before.",
        "Half were noticed within 3 min, nine of ten within 15 min.",
        "Of 2 that ended, half took 25 min 30 s or less, nine of ten 30 min.",
        "1 task failed more than once.",
    ]
    assert found.causes == [
        ("Failed, cause not labelled", 2, 0),
        ("Stalled, cause not labelled", 1, 0),
        ("Zombie, cause not labelled", 0, 1),
    ]


def test_the_report_is_of_the_week_before_by_default_and_goes_back_and_on() -> None:
    week = Week.parse(QueryDict(""), NOW)
    assert (week.name, week.current) == ("2025-W47", False)
    assert (week.before, week.after) == ("?week=2025-W46", "?week=2025-W48")
    current = Week.parse(QueryDict("week=2025-W48"), NOW)
    assert (current.current, current.after, current.period.until) == (True, "", NOW)


@pytest.mark.parametrize(
    ("text", "said"),
    [("2025-W54", "which is none"), ("yesterday", "which is none"), ("1999-W01", "which is none"), ("2026-W01", "yet")],
)
def test_a_week_that_is_none_is_named_and_last_week_shown(text: str, said: str) -> None:
    week = Week.parse(QueryDict(f"week={text}"), NOW)
    assert week.name == "2025-W47"
    assert said in week.ignored[0]


def test_the_week_is_that_of_the_zone() -> None:
    week = Week.parse(QueryDict("week=2025-W47&zone=Asia/Kolkata"), NOW)
    assert week.period.since == at(16, 18, 30)
    assert week.string == "?week=2025-W47&zone=Asia%2FKolkata"


def test_the_report_has_an_address_that_can_be_mailed(as_viewer: Client, week: None) -> None:
    page = as_viewer.get("/history/report/?week=2025-W47&worker_type=scan-worker").text
    assert 'data-copy="http://testserver/history/report/?week=2025-W47&amp;worker_type=scan-worker"' in page
    assert "only worker type scan-worker" in page
