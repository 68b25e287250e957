"""What is odd in a coordination directory: each kind is found with its words, and goes when it is mended."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers.coordination.records import FileStamp, Other, PmEntry, PmState, Problem, Sign, Spec, SpecSeen
from workers.cycle import Cycle
from workers.finding_kinds import KINDS, Kind
from workers.health import Health
from workers.integrity import Found, Sight, across, ahead_of, of_spec, pm_ahead_of
from workers.models import Change, Finding, Poller, Worker
from workers.queries.integrity import PAGE, IntegrityQuery, integrity
from workers.remediation.actions import ACTIONS
from workers.runs import Roster

from . import factories
from .conftest import Home, iso
from .markup import flat
from .repairs import Workshop

ACTIVE = "coordination/worker-specs/active"
ARCHIVED = "coordination/worker-specs/archived"
PM_STATE = "coordination/pm-state.json"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


# -- the pure function


def spec(worker_id: str = "w-1", **values: Any) -> Spec:
    given = {"created_at": NOW - timedelta(hours=1), "started_at": NOW - timedelta(minutes=30), "status": "running"}
    return Spec(worker_id=worker_id, **{**given, **values})


def roster_of(**files: Spec | Problem) -> Roster:
    """A roster of files by path; ``/`` is written ``__`` and stands below worker-specs."""
    roster = Roster()
    for name, content in files.items():
        path = f"coordination/worker-specs/{name.replace('__', '/').replace('_', '-')}.json"
        roster.place(SpecSeen(path, FileStamp(1, 1, 1, 1), content), NOW)
    return roster


def kinds(found: list[Found]) -> list[Kind]:
    return [each.kind for each in found]


def test_a_sound_fleet_shows_nothing() -> None:
    entry = PmEntry("w-1", started_at=NOW)
    sight = Sight(roster_of(active__w_1=spec()), pm_entries={"w-1": entry}, directories=["w-1"])
    assert across(sight, NOW) == []


def test_two_live_runs_of_one_id_name_each_other() -> None:
    sight = Sight(roster_of(active__a=spec(), active__b=spec(created_at=NOW)))
    found = across(sight, NOW)
    assert kinds(found) == [Kind.TWO_RUNS] * 2
    assert {(each.path[-6:], each.detail[-6:]) for each in found} == {("a.json", "b.json"), ("b.json", "a.json")}


def test_one_run_in_two_places_names_the_other_place() -> None:
    found = across(Sight(roster_of(active__w_1=spec(), failed__w_1=spec(status="failed"))), NOW)
    assert kinds(found) == [Kind.DUPLICATE] * 2
    assert {each.detail for each in found} == {
        "The same run also lies in coordination/worker-specs/active/w-1.json",
        "The same run also lies in coordination/worker-specs/failed/w-1.json",
    }


@pytest.mark.parametrize(
    ("minutes", "watches", "entry", "words"),
    [
        (7, True, None, "has no entry of it"),
        (5, True, None, ""),
        (7, False, None, ""),
        (7, True, PmEntry("w-1"), "describes an earlier run"),
    ],
)
def test_a_running_worker_that_the_pm_does_not_watch(
    minutes: int, watches: bool, entry: PmEntry | None, words: str
) -> None:
    """Two of its looks long it may not know it yet, and where it is silent its memory says nothing."""
    roster = roster_of(active__w_1=spec(started_at=NOW - timedelta(minutes=minutes)))
    entries = {"w-1": entry} if entry else {}
    found = across(Sight(roster, pm_entries=entries, pm_watches=watches), NOW)
    assert [words in each.detail for each in found] == ([True] if words else [])


def test_a_pending_worker_needs_no_pm_entry() -> None:
    assert not across(Sight(roster_of(active__w_1=spec(status="pending")), pm_watches=True), NOW)


def test_an_entry_of_the_pm_is_alone_only_where_no_spec_of_the_id_lies_anywhere() -> None:
    entries = {name: PmEntry(name) for name in ("w-1", "ghost")}
    (found,) = across(Sight(roster_of(archived__w_1=spec()), pm_entries=entries), NOW)
    assert (found.kind, found.path, found.worker_id) == (Kind.NO_SPEC, PM_STATE, "ghost")


def test_directories_of_workers_that_nobody_knows() -> None:
    sight = Sight(roster_of(completed__w_1=spec()), directories=["w-1", "stray"], put_away=["old"])
    assert [(each.kind, each.path) for each in across(sight, NOW)] == [
        (Kind.ORPHAN, "agents/workers/stray"),
        (Kind.PUT_AWAY, "agents/workers/zombies/old"),
    ]


def test_a_run_that_was_cleaned_up_is_back() -> None:
    roster = roster_of(active__w_1=spec())
    next(iter(roster.runs.values())).pk = 7
    (found,) = across(Sight(roster, handled={7: "Clean-up #3"}), NOW)
    assert (found.kind, found.detail) == (
        Kind.REAPPEARED,
        "Clean-up #3 has moved it to failed/, and it lies in active/ again",
    )


def test_a_moment_that_is_yet_to_come_is_odd_until_it_has_come() -> None:
    later = NOW + timedelta(hours=2)
    content = spec(created_at=later, checkins=(Sign(later, f"{ACTIVE}/w-1.json#heartbeat.last_heartbeat"),))
    moments = ahead_of(content, NOW)
    assert moments == (("created_at", later), ("heartbeat.last_heartbeat", later))
    sight = Sight(roster_of(active__w_1=content), ahead={f"{ACTIVE}/w-1.json": moments})
    assert kinds(across(sight, NOW)) == [Kind.FUTURE] * 2
    assert across(sight, later) == []
    assert ahead_of(spec(started_at=NOW + timedelta(seconds=30)), NOW) == ()


def test_the_pm_can_be_ahead_too() -> None:
    entry = PmEntry("w-1", last_checkin=NOW + timedelta(hours=1))
    state = PmState(replace(PmState().daemon, last_loop=NOW + timedelta(hours=1)), {"w-1": entry})
    names = [name for name, _ in pm_ahead_of(state, NOW)]
    assert names == ["pm_daemon.last_loop", "monitored_workers.w-1.last_checkin"]


def test_one_file_by_itself() -> None:
    hole = Problem("Not JSON: value missing", 3, 9, '"x": ,', spec())
    (found,) = of_spec(f"{ACTIVE}/w-1.json", hole, "w-1")
    assert (found.kind, found.line, found.column, found.excerpt) == (Kind.UNREADABLE, 3, 9, '"x": ,')
    assert found.blank_only
    assert not of_spec(f"{ACTIVE}/w-1.json", replace(hole, reading=None), "w-1")[0].blank_only
    assert of_spec("coordination/worker-specs/quarantine/x.json", hole, "x")[0].kind is Kind.QUARANTINED
    assert of_spec(f"{ARCHIVED}/MANIFEST.json", Other("a manifest"), "")[0].kind is Kind.OTHER
    oddities = ("Its file name is not its id", "“pid” is no whole number")
    assert kinds(of_spec(f"{ACTIVE}/x.json", spec(oddities=oddities), "w-1")) == [Kind.NAME, Kind.ODD]


# -- in a real directory: each kind appears and goes

Mend = Callable[[Home], object]


def write(path: str, text: str) -> Mend:
    return lambda home: home.write(path, text)


def remove(path: str) -> Mend:
    return lambda home: (home.path / path).unlink()


def pm(*names: str, **daemon: Any) -> Mend:
    """Let the PM daemon have just looked, and watch these."""
    state = {
        "pm_daemon": {"pid": 1, "last_loop": iso(datetime.now(UTC)), **daemon},
        "monitored_workers": {name: {"worker_id": name, "started_at": iso(datetime.now(UTC))} for name in names},
    }
    return write(PM_STATE, json.dumps(state))


def in_turn(*acts: Mend) -> Mend:
    return lambda home: [act(home) for act in acts]


def spec_file(worker_id: str = "w-1", **values: Any) -> Mend:
    old = {"status": "pending", "execution__started_at": None}
    return lambda home: home.spec(worker_id, **{**old, **values})


BORN = iso(datetime.now(UTC) - timedelta(hours=3))
LONG_AGO = iso(datetime.now(UTC) - timedelta(minutes=20))
LOG = "coordination/events/x.jsonl"
#: kind -> (how it comes about, its path, words of it, how it is mended)
CASES: dict[Kind, tuple[Mend, str, str, Mend]] = {
    Kind.UNREADABLE: (
        write(f"{ACTIVE}/w-1.json", '{"worker_id": "w-1",\n "x": ,\n "status": "pending"}'),
        f"{ACTIVE}/w-1.json",
        "value missing for “x”",
        spec_file(),
    ),
    Kind.TWO_RUNS: (
        in_turn(spec_file(created_at=BORN), spec_file(name="w-1b")),
        f"{ACTIVE}/w-1.json",
        "lies in coordination/worker-specs/active/w-1b.json",
        remove(f"{ACTIVE}/w-1b.json"),
    ),
    Kind.DUPLICATE: (
        in_turn(spec_file(created_at=BORN), spec_file(created_at=BORN, directory="archived")),
        f"{ARCHIVED}/w-1.json",
        "also lies in coordination/worker-specs/active/w-1.json",
        remove(f"{ARCHIVED}/w-1.json"),
    ),
    Kind.UNREADABLE_FILE: (write(PM_STATE, "{"), PM_STATE, "ends before it is complete", pm()),
    Kind.UNMONITORED: (
        in_turn(pm(), spec_file(status="running", execution__started_at=LONG_AGO)),
        f"{ACTIVE}/w-1.json",
        "has no entry of it",
        pm("w-1"),
    ),
    Kind.NO_SPEC: (pm("ghost"), PM_STATE, "The PM daemon watches ghost, of which no spec lies", pm()),
    Kind.FUTURE: (
        spec_file(created_at="2099-01-01T00:00:00Z"),
        f"{ACTIVE}/w-1.json",
        "“created_at” is yet to come",
        spec_file(),
    ),
    Kind.NAME: (
        spec_file(name="other"),
        f"{ACTIVE}/other.json",
        "file name is not its id",
        in_turn(remove(f"{ACTIVE}/other.json"), spec_file()),
    ),
    Kind.ODD: (spec_file(execution__pid="x"), f"{ACTIVE}/w-1.json", "“execution.pid” is text", spec_file()),
    Kind.DAMAGED_LOG: (write(LOG, '{"type": "a"}\n{oops\n{"type": "b"}\n'), LOG, "", remove(LOG)),
    Kind.ORPHAN: (
        write("agents/workers/w-1/prompt.md", ""),
        "agents/workers/w-1",
        "No spec of this id lies anywhere",
        spec_file(directory="completed", status="completed"),
    ),
    Kind.PUT_AWAY: (
        write("agents/workers/zombies/w-1/prompt.md", ""),
        "agents/workers/zombies/w-1",
        "clean-up script",
        lambda home: shutil.rmtree(home.path / "agents/workers/zombies/w-1"),
    ),
    Kind.OTHER: (
        write(f"{ARCHIVED}/MANIFEST.json", "{}"),
        f"{ARCHIVED}/MANIFEST.json",
        "a manifest",
        remove(f"{ARCHIVED}/MANIFEST.json"),
    ),
    Kind.QUARANTINED: (
        write("coordination/worker-specs/quarantine/x.json", "{"),
        "coordination/worker-specs/quarantine/x.json",
        "ends before it is complete",
        remove("coordination/worker-specs/quarantine/x.json"),
    ),
}


def begin(home: Home) -> Cycle:
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    return cycle


@pytest.mark.django_db
@pytest.mark.parametrize("kind", CASES)
def test_each_kind_appears_in_words_and_goes_when_it_is_mended(home: Home, kind: Kind, as_viewer: Client) -> None:
    happens, path, words, mend = CASES[kind]
    happens(home)
    cycle, before = begin(home), datetime.now(UTC)
    cycle.run_once(before + timedelta(seconds=30))
    found = Finding.objects.get(kind=kind, path=path)
    assert words in found.detail
    assert found.since < before
    page = as_viewer.get(f"/integrity/?kind={kind.replace(' ', '+')}").content.decode()
    assert path in page
    assert KINDS[kind].title in html.unescape(page)
    mend(home)
    for seconds in (60, 90):
        cycle.run_once(before + timedelta(seconds=seconds))
    assert not Finding.objects.filter(kind=kind).exists()


def test_every_kind_is_among_the_cases_or_needs_a_repair_first() -> None:
    assert set(Kind) - set(CASES) == {Kind.REAPPEARED}
    assert set(KINDS) == set(Kind)
    assert {action.name for about in KINDS.values() for action in about.actions} <= set(ACTIONS)


def test_what_was_cleaned_up_and_comes_back_is_found(workshop: Workshop) -> None:
    path = workshop.zombie()
    text = path.read_bytes()
    done = workshop.repair("clean-up")
    workshop.cycle()
    assert not Finding.objects.filter(kind=Kind.REAPPEARED).exists()
    path.write_bytes(text)
    workshop.cycle()
    found = Finding.objects.get(kind=Kind.REAPPEARED)
    assert f"Clean-up #{done.pk} has moved it" in found.detail
    assert found.worker_id == "w-1"
    assert Finding.objects.filter(kind=Kind.DUPLICATE).count() == 2
    path.unlink()
    workshop.cycle()
    assert not Finding.objects.filter(kind=Kind.REAPPEARED).exists()


def test_what_an_undo_has_brought_back_is_nothing_odd(workshop: Workshop) -> None:
    workshop.zombie()
    workshop.undo(workshop.repair("clean-up"))
    workshop.cycle()
    assert not Finding.objects.exists()


@pytest.mark.django_db
def test_what_is_mended_while_nobody_looks_is_gone_with_the_next_poller(home: Home) -> None:
    for happens, *_ in CASES.values():
        happens(home)
    begin(home)
    known = Finding.objects.count()
    begin(home)
    assert Finding.objects.count() == known
    shutil.rmtree(home.path / "coordination")
    shutil.rmtree(home.path / "agents")
    home.specs.joinpath("active").mkdir(parents=True)
    begin(home)
    assert not Finding.objects.exclude(kind=Kind.DAMAGED_LOG).exists()


@pytest.mark.django_db
def test_a_directory_that_cannot_be_seen_is_not_mended(home: Home) -> None:
    write(f"{ACTIVE}/w-1.json", "{")(home)
    cycle = begin(home)
    home.specs.rename(home.specs.with_name("away"))
    for seconds in (20, 40):
        cycle.run_once(datetime.now(UTC) + timedelta(seconds=seconds))
    begin(home)
    assert Finding.objects.filter(kind=Kind.UNREADABLE).count() == 1


@pytest.mark.django_db
def test_a_place_that_moves_within_a_file_is_shown_and_keeps_its_age(home: Home) -> None:
    path = f"{ACTIVE}/w-1.json"
    home.write(path, '{"x": ,}')
    cycle = begin(home)
    since = Finding.objects.get().since
    home.write(path, '{\n"y": 1, "x": ,}')
    cycle.run_once(datetime.now(UTC) + timedelta(seconds=60))
    found = Finding.objects.get()
    assert (found.line, found.since) == (2, since)
    assert "y" in found.excerpt


@pytest.mark.django_db
def test_what_a_worker_leaves_is_looked_at_too(home: Home) -> None:
    home.spec()
    home.write("agents/workers/w-1/worker.pid", "twelve")
    cycle = begin(home)
    found = Finding.objects.get(kind=Kind.UNREADABLE_FILE)
    assert (found.path, found.worker_id) == ("agents/workers/w-1/worker.pid", "w-1")
    home.write("agents/workers/w-1/worker.pid", "12")
    cycle.run_once(datetime.now(UTC) + timedelta(seconds=20))
    assert not Finding.objects.filter(kind=Kind.UNREADABLE_FILE).exists()


@pytest.mark.django_db
def test_pages_hear_of_it_and_only_when_something_changed(home: Home) -> None:
    write(f"{ACTIVE}/w-1.json", "{")(home)
    cycle = begin(home)
    told = Change.objects.filter(kind=Change.Kind.FINDINGS)
    assert told.count() == 1
    for seconds in (20, 40):
        cycle.run_once(datetime.now(UTC) + timedelta(seconds=seconds))
    assert told.count() == 1


@pytest.mark.django_db
def test_the_quarantine_is_counted_as_unreadable_and_asks_nobody_for_anything(home: Home) -> None:
    for happens in (CASES[Kind.UNREADABLE][0], CASES[Kind.QUARANTINED][0]):
        happens(home)
    cycle = Cycle(home.path, "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    assert cycle.run_once(datetime.now(UTC)).unreadable == 2
    assert Poller.objects.get().unreadable == 1


# -- the page


def store(number: int = 1, kind: Kind = Kind.ODD, host: str = "host-a", **values: Any) -> None:
    since = datetime.now(UTC)
    Finding.objects.bulk_create(
        Finding(**{"host": host, "kind": kind, "path": f"x/{each:04}.json", "detail": "Odd", "since": since, **values})
        for each in range(number)
    )


def view(text: str) -> Any:
    return integrity(IntegrityQuery.parse(QueryDict(text)), datetime.now(UTC))


@pytest.mark.django_db
def test_it_narrows_by_kind_host_and_words() -> None:
    store(2)
    store(3, Kind.UNREADABLE, host="host-b", worker_id="w-9", detail="Not JSON")
    for text, count in (
        ("", 5),
        ("kind=odd", 2),
        ("host=host-b", 3),
        ("kind=odd&host=host-b", 0),
        ("q=json", 5),
        ("q=not+json", 3),
        ("q=W-9", 3),
        ("q=0002", 1),
    ):
        found = view(text)
        assert (len(found.rows), found.matching) == (count, count), text
    assert [(each.kind, each.count) for each in view("").kinds] == [(Kind.UNREADABLE, 3), (Kind.ODD, 2)]
    assert [(each.kind, each.count) for each in view("kind=odd&host=host-b").kinds] == [
        (Kind.UNREADABLE, 3),
        (Kind.ODD, 0),
    ]


@pytest.mark.django_db
def test_pages_show_all_of_it_and_nothing_twice() -> None:
    store(2 * PAGE + 1)
    seen = [row.finding.pk for page in (1, 2, 3) for row in view(f"page={page}").rows]
    assert len(seen) == len(set(seen)) == 2 * PAGE + 1
    assert view("page=3").pager.after == ""
    assert view("page=2").pager.before == "?"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "words"),
    [("kind=nothing", "the kind “nothing”"), ("page=0", "page “0”"), ("page=x", "page “x”"), ("page=9", "only 1")],
)
def test_what_cannot_be_used_is_said(as_viewer: Client, text: str, words: str) -> None:
    store()
    assert words in as_viewer.get(f"/integrity/?{text}").content.decode()


def test_a_view_and_its_query_string_say_the_same() -> None:
    query = IntegrityQuery("damaged log", "host a", "&q=", 3)
    assert IntegrityQuery.parse(QueryDict(query.string.removeprefix("?"))) == query


@pytest.mark.django_db
def test_a_page_takes_a_constant_number_of_queries(as_viewer: Client) -> None:
    factories.poller()
    store(1, worker_id="w-1")
    with CaptureQueriesContext(connection) as few:
        as_viewer.get("/integrity/")
    for number in range(30):
        worker = factories.add(Health.UNREADABLE, number)
        store(1, Kind.UNREADABLE, path=worker.path, worker_id=worker.worker_id)
    with CaptureQueriesContext(connection) as many:
        assert as_viewer.get("/integrity/").status_code == 200
    assert len(many) == len(few)


@pytest.mark.django_db
def test_strangers_sign_in_and_nobody_posts(client: Client, as_viewer: Client) -> None:
    assert client.get("/integrity/")["Location"].startswith("/accounts/login/")
    assert as_viewer.post("/integrity/").status_code == 405
    assert as_viewer.get("/integrity/").status_code == 200


@pytest.mark.django_db
def test_an_empty_page_says_which_kind_of_empty_it_is(as_viewer: Client) -> None:
    assert "Nothing odd was found" in as_viewer.get("/integrity/").content.decode()
    store()
    page = flat(as_viewer.get("/integrity/?kind=orphan").content.decode())
    assert "Nothing odd matches" in page
    assert "1 finding is hidden by the filter" in page


@pytest.mark.django_db
def test_nothing_of_a_file_runs_in_the_browser(as_viewer: Client) -> None:
    bad = "<script>x</script>"
    store(1, path=bad, detail=bad, excerpt=bad, worker_id=bad, host=bad)
    assert "<script>x" not in as_viewer.get("/integrity/").content.decode()


@pytest.mark.django_db
def test_htmx_gets_the_list_and_the_counts_alone(as_viewer: Client) -> None:
    store()
    answer = as_viewer.get("/integrity/?q=odd", headers={"HX-Request": "true", "HX-Target": "findings"})
    page = answer.content.decode()
    assert page.lstrip().startswith('<section id="findings"')
    assert 'id="kinds"' in page
    assert "<html" not in page
    assert "HX-Target" in answer["Vary"]


def mends(client: Client, worker: Worker) -> dict[str, str]:
    """The tag of each button beside the finding of a worker, by its action."""
    page = client.get("/integrity/").content.decode()
    form = page[page.index('<form class="mend"') :]
    assert f'name="run" value="{worker.pk}"' in form
    tags = re.findall("<button[^>]*>", form[: form.index("</form")])
    return {re.search('value="([^"]+)"', tag)[1]: tag for tag in tags}  # type: ignore[index]


@pytest.mark.django_db
@pytest.mark.parametrize("blank_only", [True, False])
def test_the_repairs_that_fit_stand_beside_it(as_operator: Client, blank_only: bool) -> None:
    factories.poller()
    worker = factories.add(Health.UNREADABLE)
    store(1, Kind.UNREADABLE, path=worker.path, worker_id=worker.worker_id, blank_only=blank_only)
    found = mends(as_operator, worker)
    assert list(found) == ["repair-spec", "quarantine"]
    assert ("disabled" in found["repair-spec"]) is not blank_only
    assert "disabled" not in found["quarantine"]
    assert ("More than missing values" in found["repair-spec"]) is not blank_only


@pytest.mark.django_db
def test_a_viewer_sees_them_disabled_and_why(as_viewer: Client) -> None:
    factories.poller()
    worker = factories.add(Health.UNREADABLE)
    store(1, Kind.UNREADABLE, path=worker.path, worker_id=worker.worker_id, blank_only=True)
    assert all("ask an operator" in tag for tag in mends(as_viewer, worker).values())


@pytest.mark.django_db
def test_the_header_leads_here(as_viewer: Client) -> None:
    factories.poller(unreadable=3)
    page = flat(as_viewer.get("/").content.decode())
    assert re.search(r'href="/integrity/\?kind=unreadable"[^>]*>.*?3 unreadable', page)
    assert re.search(r'<a href="/integrity/">Integrity</a>', page)


def real_fleet() -> Path:
    return Path(__file__).resolve().parent.parent.parent / "shared" / "real-fleet"


@pytest.mark.django_db
@pytest.mark.skipif(not real_fleet().exists(), reason="the real fleet's sample is not beside this checkout")
def test_the_damaged_specs_of_a_real_fleet_are_listed_with_line_and_column(tmp_path: Path, as_viewer: Client) -> None:
    shutil.copytree(real_fleet(), tmp_path / "real")
    cycle = Cycle(tmp_path / "real", "host-a", 2.0)
    cycle.start(datetime.now(UTC))
    report = cycle.run_once(datetime.now(UTC))
    assert report.unreadable
    page = as_viewer.get("/integrity/?kind=unreadable").content.decode()
    damaged = Finding.objects.filter(kind=Kind.UNREADABLE)
    assert damaged.count() == report.unreadable
    for each in damaged:
        assert each.blank_only
        assert each.path in page
        assert f"line {each.line}, column {each.column}" in page
