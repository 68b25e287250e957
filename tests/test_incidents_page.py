"""Incidents on their pages: what is listed, what is counted, and what people say of them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers import acknowledge
from workers.health import Health
from workers.incidents import KINDS
from workers.models import Change, Incident, PollerGap, Remediation, RootCause
from workers.queries import incidents as read
from workers.queries.incident_query import IncidentQuery

from . import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def query(text: str = "") -> IncidentQuery:
    return IncidentQuery.parse(QueryDict(text))


def page(text: str = "", now: datetime = NOW) -> read.Incidents:
    return read.incidents(query(text), now)


def ids(text: str = "") -> list[str]:
    return [row.incident.worker_id for row in page(text).rows]


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


@pytest.fixture
def fleet() -> dict[str, Incident]:
    """One incident of each sort, each of a run of its own; the later in this list, the earlier detected."""
    scan = factories.add(Health.STALLED, 1, worker_id="a", worker_type="scan-worker", master="m-1", task_id="task-a")
    fix = factories.add(Health.ZOMBIE, 2, worker_id="b", worker_type="fix-worker", master="m-2", task_id="task-b")
    old = factories.add(Health.FAILED, 3, worker_id="c", worker_type="fix-worker", task_id="task-c", host="host-b")
    cause = RootCause.objects.create(name="Disk full")
    make = factories.incident
    return {
        "a": make(scan, "stalled", detected=ago(minutes=5), began=ago(minutes=20), cause="silent"),
        "b": make(fix, "zombie", detected=ago(hours=2), acknowledged=ago(hours=1), acknowledged_by="anna", note="disk"),
        "c": make(
            *(old, "failed"),
            detected=ago(days=3),
            began_known=False,
            resolved=ago(days=2),
            how="archived",
            root_cause=cause,
        ),
        "d": make(None, "overdue", worker_id="d", detected=ago(days=20), from_log=True, number=1, began=ago(days=21)),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a b d"),
        ("state=new", "a d"),
        ("state=acknowledged", "b"),
        ("state=resolved", "c"),
        ("state=all", "a b c d"),
        ("kind=zombie,stalled", "a b"),
        ("kind=zombie&kind=overdue", "b d"),
        ("worker_type=fix-worker&state=all", "b c"),
        ("master=m-1", "a"),
        ("host=host-b&state=all", "c"),
        ("cause=none", "a b d"),
        ("how=archived", "c"),
        ("source=log", "d"),
        ("source=live", "a b"),
        ("within=1h", "a"),
        ("within=24h", "a b"),
        ("within=7d&state=all", "a b c"),
        ("since=2026-03-02T08:00", "a"),
        ("until=2026-03-02T08:00", "b d"),
        ("q=task-b", "b"),
        ("q=DISK", "b"),
        ("q=silent", "a"),
        ("q=silent disk", ""),
        ("sort=longest", "d b a"),
        ("sort=worst&state=all", "b a c d"),
    ],
)
def test_it_narrows_and_orders(fleet: dict[str, Incident], text: str, expected: str) -> None:
    assert ids(text) == expected.split()


def test_it_narrows_to_a_run_and_to_a_root_cause(fleet: dict[str, Incident]) -> None:
    assert ids(f"run={fleet['b'].run_id}") == ["b"]
    assert ids(f"cause={fleet['c'].root_cause_id}&state=all") == ["c"]


def test_what_lasts_is_as_long_as_now_says_and_what_is_over_no_longer(fleet: dict[str, Incident]) -> None:
    rows = {row.incident.worker_id: row for row in page("state=all").rows}
    assert rows["a"].duration == timedelta(minutes=20)
    assert rows["a"].time_to_detect == timedelta(minutes=15)
    assert rows["a"].time_to_resolve is None
    assert rows["b"].time_to_acknowledge == timedelta(hours=1)
    assert rows["c"].time_to_detect is None  # nobody knows when it began
    assert rows["c"].time_to_resolve == timedelta(days=1)


def test_it_says_how_much_nobody_watched(fleet: dict[str, Incident]) -> None:
    PollerGap.objects.create(host="host-a", began=ago(minutes=18), ended=ago(minutes=8))
    PollerGap.objects.create(host="host-b", began=ago(days=9), ended=NOW)
    Incident.objects.filter(pk=fleet["c"].pk).update(unwatched_seconds=60)
    rows = {row.incident.worker_id: row.unwatched for row in page("state=all").rows}
    assert rows["a"] == timedelta(minutes=10)
    assert rows["c"] == timedelta(minutes=1), "what is over has been measured by its poller"


def test_tiles_and_tabs_count_what_a_click_on_them_shows(fleet: dict[str, Incident]) -> None:
    for text in ("", "state=all", "kind=zombie", "q=task", "worker_type=fix-worker&state=all"):
        counts = page(text).counts
        for tab in counts.kinds:
            wanted = query(tab.href.removeprefix("?")).with_changes(kind=(read.Kind(tab.name),))
            assert tab.count == (len(read.incidents(wanted, NOW).rows), False), (text, tab.name)
        for tab in counts.states:
            if tab.count:
                assert tab.count == (len(page(tab.href.removeprefix("?")).rows), False), (text, tab.name)
        assert counts.matching.number == len(page(text).rows)


def test_a_view_and_its_query_string_say_the_same() -> None:
    text = (
        "state=all&kind=zombie,crashed&worker_type=t&master=m&host=h&cause=3&how=archived&q=x+y&within=7d&run=4"
        "&source=log&sort=worst&page=2&since=2026-03-01T00:00:00Z&until=2026-03-02T00:00:00Z"
    )
    assert query(query(text).string.removeprefix("?")) == query(text)
    assert not query(text).ignored
    assert query("").string == ""
    assert query("how=archived").state == "resolved"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("state=nowhere", "state “nowhere”"),
        ("kind=zombie,ghost", "the kind “ghost”"),
        ("cause=x", "the root cause “x”"),
        ("how=magic", "how “magic”"),
        ("within=9y", "within “9y”"),
        ("run=-1", "run “-1”"),
        ("run=²", "run “²”"),
        ("source=dream", "source “dream”"),
        ("sort=up", "sort “up”"),
        ("page=0", "page “0”"),
        ("page=99", "as there are only 1"),
        ("page=99999999999999999999", "page “99999999999999999999”, which is none"),
        ("since=soon", "since “soon”, which is no time"),
        ("since=2026-03-03&until=2026-03-01", "both were swapped"),
        ("how=archived&state=new", "what lasts has not ended"),
    ],
)
def test_what_cannot_be_used_is_said(as_viewer: Client, fleet: dict[str, Incident], text: str, said: str) -> None:
    response = as_viewer.get(f"/incidents/?{text}")
    assert response.status_code == 200
    assert said in response.content.decode()


@pytest.mark.parametrize("text", ["q=%00", "kind=%00", "cause=9999999999999999999999", "q=%25_%27", "rows=1"])
def test_odd_query_strings_raise_nothing(as_viewer: Client, fleet: dict[str, Incident], text: str) -> None:
    assert as_viewer.get(f"/incidents/?{text}").status_code == 200
    assert as_viewer.get(f"/incidents/export.csv?{text}").status_code == 200


def many(count: int, **fields: Any) -> None:
    worker = factories.add(Health.STALLED, 7)
    Incident.objects.bulk_create(
        Incident(
            **{
                "host": "host-a",
                "run": worker,
                "worker_id": f"w-{number:05}",
                "kind": "stalled",
                "began": ago(minutes=number + 15),
                "detected": ago(minutes=number),
                "resolved": ago(minutes=number - 1),
                "how": "recovered by itself",
                **fields,
            }
        )
        for number in range(1, count + 1)
    )


def test_pages_follow_one_another_without_gap_or_overlap_also_within_one_moment() -> None:
    many(120, detected=NOW)
    seen, text = [], "state=all"
    for _ in range(3):
        found = page(text)
        seen += [row.incident.pk for row in found.rows]
        text = found.pager.after.removeprefix("?")
    assert text == ""
    assert len(seen) == len(set(seen)) == 120
    assert page("state=all&page=2").pager.before == "?state=all"


def test_counts_end_at_a_ceiling_and_say_so(as_viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "COUNTED", 60)
    many(130)
    found = page("state=all")
    assert found.counts.matching.more
    assert page("state=all&page=3").rows, "the last page can be reached, though it was not counted"
    assert (found.pager.pages, bool(found.pager.after)) == (None, True)
    assert "60+" not in as_viewer.get("/incidents/").content.decode()
    assert "60+" in as_viewer.get("/incidents/?state=all").content.decode()
    assert page("state=all&kind=zombie").counts.matching == (0, False), "a kind that is asked for is counted by itself"


def test_a_page_takes_a_constant_number_of_queries(as_viewer: Client, fleet: dict[str, Incident]) -> None:
    as_viewer.get("/incidents/?state=all")
    with CaptureQueriesContext(connection) as few:
        as_viewer.get("/incidents/?state=all")
    many(200)
    with CaptureQueriesContext(connection) as more:
        as_viewer.get("/incidents/?state=all")
    assert len(more) == len(few)


def test_new_ones_are_counted_for_the_view_that_is_open(fleet: dict[str, Incident]) -> None:
    newest = page().newest
    worker = factories.add(Health.STALLED, 9)
    factories.incident(worker, "stalled", detected=NOW)
    assert read.waiting_incidents(query(), newest, NOW) == 1
    assert read.waiting_incidents(query("kind=zombie"), newest, NOW) == 0


# -- the pages


def test_the_list_says_what_each_incident_is(as_viewer: Client, fleet: dict[str, Incident]) -> None:
    repair = factories.repair(fleet["b"].run, Remediation.State.DONE, actor="bert")
    factories.change_incident(fleet["b"], resolved=NOW, how="remediation", remediation=repair)
    text = as_viewer.get("/incidents/?state=all").content.decode()
    assert "nobody knows since when" in text
    assert "15 min after it began" in text
    assert "read from the log" in text
    assert f'href="/remediations/{repair.pk}/">clean up</a> by bert' in text
    assert "acknowledged by anna" in text
    assert "Disk full" in text


def test_the_page_explains_its_words(as_viewer: Client) -> None:
    text = as_viewer.get("/incidents/").content.decode()
    for meaning in KINDS.values():
        for sentence in meaning:
            assert sentence in text
    assert "No poller of its host ran" in text


def test_one_incident_shows_its_moments_and_where_to_look_further(
    as_viewer: Client, fleet: dict[str, Incident]
) -> None:
    other = factories.incident(fleet["b"].run, "overdue", detected=ago(days=1), resolved=NOW, how="completed")
    text = as_viewer.get(f"/incidents/{fleet['b'].pk}/").content.decode()
    began, detected, acknowledged = (text.index(f"<b>{name}</b>") for name in ("Began", "Detected", "Acknowledged"))
    assert began < detected < acknowledged
    assert "/events/?worker=b&amp;since=2026-03-02T06%3A43%3A00Z" in text
    assert f'href="/incidents/{other.pk}/"' in text
    assert as_viewer.get("/incidents/987654/").status_code == 404


def test_a_beginning_that_nobody_knows_has_no_length(fleet: dict[str, Incident]) -> None:
    shown = read.incident_page(fleet["c"].pk, NOW)
    assert shown is not None
    assert [(each.name, each.after) for each in shown.moments] == [
        ("began", None),
        ("detected", None),
        ("resolved", timedelta(days=1)),
    ]
    assert sum(share for _, share, _ in shown.strip) == pytest.approx(100)


def test_the_worker_s_page_lists_the_incidents_of_this_run(as_viewer: Client, fleet: dict[str, Incident]) -> None:
    text = as_viewer.get("/workers/a/").content.decode()
    assert "Incidents of this run" in text
    assert f'href="/incidents/{fleet["a"].pk}/"' in text
    assert f'href="/incidents/{fleet["b"].pk}/"' not in text
    assert f"/incidents/?run={fleet['a'].run_id}&amp;state=all" in text


def test_nothing_that_somebody_wrote_runs_in_the_browser(as_viewer: Client) -> None:
    evil = "<script>x</script><img onerror=x>\"'"
    cause = RootCause.objects.create(name=evil[:70])
    fields = {"cause": evil, "note": evil, "note_by": evil, "acknowledged_by": evil, "acknowledged_reason": evil}
    found = factories.incident(None, worker_id=evil, root_cause=cause, acknowledged=NOW, **fields)
    for address in ("/incidents/", f"/incidents/{found.pk}/", "/incidents/?q=%3Cscript%3Ex"):
        text = as_viewer.get(address).content.decode()
        assert "<script>x" not in text
        assert "<img onerror" not in text


def test_it_is_exported_whole_and_harmless(as_viewer: Client, fleet: dict[str, Incident]) -> None:
    many(60)
    Incident.objects.filter(pk=fleet["a"].pk).update(cause='=HYPERLINK("http://x")', note="@x")
    response = as_viewer.get("/incidents/export.csv?state=all&page=2")
    assert response["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))  # type: ignore[attr-defined]
    assert len(rows) == 64, "whatever the page"
    by_worker = {row["worker"]: row for row in rows}
    assert by_worker["a"]["cause"].startswith("'=")
    assert by_worker["a"]["note"] == "'@x"
    assert by_worker["b"]["seconds to acknowledge"] == "3600"
    assert by_worker["c"]["seconds to detect"] == ""
    assert by_worker["c"]["root cause"] == "Disk full"
    assert by_worker["d"]["source"] == "log"
    only = as_viewer.get("/incidents/export.csv?kind=zombie")
    assert b"".join(only.streaming_content).count(b"\n") == 2  # type: ignore[attr-defined]


def test_strangers_are_sent_to_the_login(client: Client, fleet: dict[str, Incident]) -> None:
    for address in ("/incidents/", "/incidents/export.csv", f"/incidents/{fleet['a'].pk}/"):
        assert client.get(address)["Location"].startswith("/accounts/login/")


# -- what people say

POSTS = ("acknowledge", "take-back", "note", "cause")


def addresses(incident: Incident) -> list[str]:
    return ["/incidents/acknowledge/", *(f"/incidents/{incident.pk}/{what}/" for what in POSTS)]


def test_saying_something_rejects_get_strangers_and_viewers_and_lets_operators(
    client: Client, as_viewer: Client, as_operator: Client, fleet: dict[str, Incident]
) -> None:
    before = list(Incident.objects.values())
    for address in addresses(fleet["a"]):
        assert as_operator.get(address).status_code == 405, address
        assert client.post(address)["Location"].startswith("/accounts/login/"), address
        data = {"incident": fleet["a"].pk, "note": "x", "root_cause": RootCause.objects.get(name="Disk full").pk}
        assert as_viewer.post(address, data).status_code == 403, address
    assert list(Incident.objects.values()) == before
    for address in addresses(fleet["a"]):
        assert as_operator.post(address).status_code == 302, address
    assert as_operator.post("/incidents/987654/acknowledge/").status_code == 404


def test_an_operator_acknowledges_with_a_reason(as_operator: Client, fleet: dict[str, Incident]) -> None:
    since = Change.objects.count()
    response = as_operator.post(f"/incidents/{fleet['a'].pk}/acknowledge/", {"reason": " I look at it "})
    assert response["Location"] == f"/incidents/{fleet['a'].pk}/"
    found = Incident.objects.get(pk=fleet["a"].pk)
    assert (found.acknowledged_by, found.acknowledged_reason) == ("operator", "I look at it")
    assert list(Change.objects.values_list("kind", "key"))[since:] == [("incident", found.pk)]


def test_acknowledging_twice_keeps_the_first_and_says_who_had(as_operator: Client, fleet: dict[str, Incident]) -> None:
    since = Change.objects.count()
    response = as_operator.post(f"/incidents/{fleet['b'].pk}/acknowledge/", {"reason": "mine"}, follow=True)
    assert "anna had acknowledged b zombie at 2026-03-02 08:00 UTC" in response.content.decode()
    found = Incident.objects.get(pk=fleet["b"].pk)
    assert (found.acknowledged, found.acknowledged_by, found.acknowledged_reason) == (ago(hours=1), "anna", "")
    assert Change.objects.count() == since


def test_what_is_over_is_not_acknowledged_any_more(as_operator: Client, fleet: dict[str, Incident]) -> None:
    response = as_operator.post(f"/incidents/{fleet['c'].pk}/acknowledge/", follow=True)
    assert "is over" in response.content.decode()
    assert Incident.objects.get(pk=fleet["c"].pk).acknowledged is None


def test_many_are_acknowledged_with_one_reason(as_operator: Client, fleet: dict[str, Incident]) -> None:
    keys = [each.pk for each in fleet.values()]
    response = as_operator.post(
        "/incidents/acknowledge/", {"incident": [*keys, "x", 10**30], "reason": "all mine", "query": "?kind=zombie"}
    )
    assert response["Location"] == "/incidents/?kind=zombie"
    by = dict(Incident.objects.values_list("worker_id", "acknowledged_by"))
    assert by == {"a": "operator", "b": "anna", "c": "", "d": "operator"}


def test_the_button_of_a_row_means_that_row_alone(as_operator: Client, fleet: dict[str, Incident]) -> None:
    data = {"incident": [fleet["a"].pk, fleet["d"].pk], "one": fleet["d"].pk}
    text = as_operator.post("/incidents/acknowledge/", data, headers={"HX-Request": "true"}).content.decode()
    assert f'id="incident-{fleet["d"].pk}"' in text
    assert f'id="incident-{fleet["a"].pk}"' not in text
    assert "1 incident acknowledged." in text
    assert Incident.objects.get(pk=fleet["a"].pk).acknowledged is None


def test_nowhere_else_does_the_answer_lead(as_operator: Client) -> None:
    response = as_operator.post("/incidents/acknowledge/", {"query": "https://evil.example/"})
    assert response["Location"] == "/incidents/"


def test_a_mistake_is_taken_back(as_operator: Client, fleet: dict[str, Incident]) -> None:
    as_operator.post(f"/incidents/{fleet['b'].pk}/take-back/")
    found = Incident.objects.get(pk=fleet["b"].pk)
    assert (found.acknowledged, found.acknowledged_by) == (None, "")
    again = as_operator.post(f"/incidents/{fleet['b'].pk}/take-back/", follow=True)
    assert "Nobody had acknowledged it" in again.content.decode()


def test_a_note_replaces_only_the_one_that_was_read(as_operator: Client, fleet: dict[str, Incident]) -> None:
    address = f"/incidents/{fleet['a'].pk}/note/"
    as_operator.post(address, {"note": "the disk", "read_at": ""})
    found = Incident.objects.get(pk=fleet["a"].pk)
    assert (found.note, found.note_by) == ("the disk", "operator")
    late = as_operator.post(address, {"note": "the net", "read_at": ""}, follow=True).content.decode()
    assert "Somebody else wrote a note meanwhile" in late
    assert "the net" in late, "what was typed is not lost"
    assert Incident.objects.get(pk=fleet["a"].pk).note == "the disk"
    assert found.note_at is not None
    as_operator.post(address, {"note": "the net", "read_at": found.note_at.isoformat()})
    assert Incident.objects.get(pk=fleet["a"].pk).note == "the net"


def test_a_root_cause_is_given_and_taken(as_operator: Client, fleet: dict[str, Incident]) -> None:
    cause = RootCause.objects.get(name="Disk full")
    address = f"/incidents/{fleet['a'].pk}/cause/"
    card = as_operator.post(address, {"root_cause": cause.pk}, headers={"HX-Request": "true"}).content.decode()
    assert f'id="incident-card-{fleet["a"].pk}"' in card
    assert Incident.objects.get(pk=fleet["a"].pk).root_cause == cause
    as_operator.post(address, {"root_cause": ""})
    assert Incident.objects.get(pk=fleet["a"].pk).root_cause is None
    assert as_operator.post(address, {"root_cause": 987654}).status_code == 404


def test_what_people_say_touches_nothing_that_a_poller_writes(fleet: dict[str, Incident]) -> None:
    human = {"acknowledged", "acknowledged_by", "acknowledged_reason", "note", "note_by", "note_at", "root_cause_id"}
    key = fleet["a"].pk
    before = Incident.objects.filter(pk=key).values().get()
    cause = RootCause.objects.get(name="Disk full")
    assert acknowledge.acknowledge([key], "anna", "x", NOW).done == (key,)
    assert acknowledge.write_note(key, "anna", "x", None, NOW)
    assert acknowledge.label(key, cause, NOW)
    after = Incident.objects.filter(pk=key).values().get()
    assert {name for name in before if before[name] != after[name]} == human


def test_a_viewer_sees_what_they_may_not_press_and_why(
    as_viewer: Client, as_operator: Client, fleet: dict[str, Incident]
) -> None:
    for address in ("/incidents/", f"/incidents/{fleet['a'].pk}/"):
        denied = '<fieldset data-needs="acknowledge" disabled title="Your role may not do that'
        assert denied in as_viewer.get(address).content.decode()
        assert denied not in as_operator.get(address).content.decode()
    assert "acknowledge" not in as_viewer.get("/incidents/").content.decode().split('data-may="')[1].split('"')[0]
    assert "acknowledge" in as_operator.get("/incidents/").content.decode().split('data-may="')[1].split('"')[0]


def test_the_admin_shows_incidents_and_edits_root_causes(as_admin: Client, fleet: dict[str, Incident]) -> None:
    listed = as_admin.get("/admin/workers/incident/?q=a")
    assert listed.status_code == 200
    assert as_admin.get(f"/admin/workers/incident/{fleet['a'].pk}/change/").status_code == 200
    assert as_admin.get("/admin/workers/incident/add/").status_code == 403
    as_admin.post("/admin/workers/rootcause/add/", {"name": "Flaky network", "description": "It was the network."})
    assert RootCause.objects.filter(name="Flaky network").exists()
