"""The runbook's four preventions on one page: what is so, beside what the fleet says."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from workers.cycle import Cycle
from workers.health import Health
from workers.models import Event, Limit, LogFile, Mark, Poller, Silence, Worker
from workers.queries.prevention import Prevention, Tone, Took, prevention, remarks_on

from . import factories

pytestmark = pytest.mark.django_db
REAL = Path(__file__).resolve().parents[2] / "shared" / "real-fleet"
NOW = datetime.now(UTC)

#: What a poller says of a home in which there is nothing.
NOTHING: dict[str, Any] = {
    "types": [],
    "looked": [["coordination/config/worker-types.json", False]],
    "notes": [],
    "settings": [],
    "numbers": {},
    "daemons": [],
    "pm_command": "",
    "pm_status": "",
    "alerts": [],
    "alerts_there": False,
    "alert_notes": [],
}


def watched(host: str = factories.HOST, poller: dict[str, Any] | None = None, **said: Any) -> Poller:
    return factories.poller(host, prevention={**NOTHING, **said}, **(poller or {}))


def read(query: str = "") -> Prevention:
    found = prevention(QueryDict(query), datetime.now(UTC))
    assert found is not None
    return found


def answer(name: str) -> tuple[Tone, str]:
    said = {each.name: each.said for each in read().sections}[name]
    return said.tone, said.text


def text_of(client: Client, query: str = "") -> str:
    page = client.get(f"/prevention/{query}")
    assert page.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.content.decode())).split())


def ended(minutes: float, number: int, kind: str = "scan-worker", **fields: Any) -> Worker:
    """A run that took that long and ended an hour ago."""
    end = NOW - timedelta(hours=1)
    began = end - timedelta(minutes=minutes)
    name = f"{kind}-{number}"
    values: dict[str, Any] = {"worker_id": name, "worker_type": kind, "created_at": began, "time_limit_minutes": 15}
    worker = factories.build(Health.COMPLETED, number, **values, **fields)
    worker.started_at, worker.ended_at = began, end
    worker.save()
    return worker


def type_entry(name: str, minutes: float | None, source: str = "types.json") -> dict[str, Any]:
    return {"type": name, "minutes": minutes, "source": source, "description": ""}


def alert(*workers: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": "alert-1",
        "type": "zombie_threshold",
        "severity": "high",
        "status": "active",
        "message": "too many zombies",
        "created_at": "2025-11-21T16:00:00+00:00",
        "threshold": 10.0,
        "metric_value": 44.0,
        "workers": list(workers),
        **fields,
    }


def daemon(name: str, state: str = "alive", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "path": f"coordination/{name}.pid",
        "pid": 77 if state else None,
        "state": state,
        "command": "bash daemon.sh",
        "started_at": None,
        "written_at": NOW.isoformat(),
        "beat_at": None,
        "status": "",
        "loops": None,
        **fields,
    }


# --- time limits


@pytest.mark.parametrize(
    ("runs", "p95", "over", "tone", "text"),
    [
        (4, 30, 4, Tone.UNKNOWN, "Only 4 runs ended: too few to say whether it fits"),
        (10, 30, 10, Tone.BAD, "Every run takes longer than its limit: it is too short, or they get stuck"),
        (10, 30, 5, Tone.BAD, "Half of its runs or more take longer than its limit"),
        (10, 30, 4, Tone.LOOK, "One run in 2 takes longer than its limit"),
        (10, 30, 1, Tone.LOOK, "One run in 10 takes longer than its limit"),
        (11, 19, 1, Tone.FINE, "It fits what runs took"),
        (20, 5, 0, Tone.FINE, "It fits what runs took"),
        (20, 4.9, 0, Tone.LOOK, "Nearly all runs end within a quarter of it"),
    ],
)
def test_whether_a_limit_fits_is_said_on_either_side_of_each_bound(
    runs: int, p95: float, over: int, tone: Tone, text: str
) -> None:
    took = Took(runs, timedelta(minutes=3), timedelta(minutes=p95), over)
    (said,) = remarks_on(20, took)
    assert said.tone is tone
    assert said.text.startswith(text)


def test_a_limit_comes_from_the_list_else_from_specs_else_from_the_launcher() -> None:
    watched(types=[type_entry("scan", 12, "types.json#scan.timeout_minutes"), type_entry("pr", None)])
    ended(3, 1)
    ended(3, 2, "fix-worker", time_limit_source="resources.timeout_minutes")
    ended(3, 3, "review-worker", time_limit_source="default for review")
    found = {each.worker_type: (each.minutes, each.source.partition(":")[0]) for each in read().types}
    assert found == {
        "scan-worker": (12, "types.json#scan.timeout_minutes"),
        "fix-worker": (15, "the specs"),
        "review-worker": (
            15,
            "default for review of the fleet's launcher; neither a list of types nor a spec gives one",
        ),
        "pr": (10, "default for pr of the fleet's launcher; neither a list of types nor a spec gives one"),
    }


def test_what_runs_took_stands_beside_their_limit(as_viewer: Client) -> None:
    watched(types=[type_entry("scan", 10)])
    for number in range(1, 21):
        ended(number, number)  # 1 to 20 min
    (row,) = read().types
    assert row.took == Took(20, timedelta(minutes=10, seconds=30), timedelta(minutes=19), 10)
    assert row.said.tone is Tone.BAD
    assert answer("limits") == (Tone.BAD, "1 of 1 type has a limit that asks for a look")
    text = text_of(as_viewer)
    assert "10 min 30 s" in text
    assert "50 % 10 of 20" in text


def test_a_list_that_says_otherwise_than_specs_or_another_list_is_remarked() -> None:
    watched(types=[type_entry("scan", 10, "a.json"), type_entry("scan-worker", 20, "b.json")])
    ended(3, 1)
    remarks = [each.text for each in read().types[0].remarks]
    assert "b.json says 20 min" in remarks
    assert "Its specs say 15 min (1 run), and a run's own spec holds" in remarks


def test_the_pm_daemon_takes_an_hour_where_it_does_not_find_its_key() -> None:
    watched()
    ended(3, 1, time_limit_source="resources.timeout_minutes")
    ended(3, 2, time_limit_source="resources.time_limit_minutes")
    remarks = [each.text for each in read().types[0].remarks]
    assert "The PM daemon takes 60 min for a run, since it reads only resources.time_limit_minutes" in remarks


def test_our_own_limits_are_shown_with_where_they_come_from(as_viewer: Client) -> None:
    watched(numbers={"late_after_minutes": 4.0}, settings=[["late_after_minutes", "4"], ["colour", '"red"']])
    Limit.objects.create(name="stalled_after", seconds=720)
    found = {each.name: (each.value, each.source) for each in read().limits}
    assert found == {
        "late after": (timedelta(minutes=4), "coordination/pm-state.json#configuration.late_after_minutes"),
        "stalled after": (timedelta(minutes=12), "set by an admin"),
    }
    text = text_of(as_viewer)
    assert "late_after_minutes 4 our “late after”, unless an admin sets another" in text
    assert 'colour "red" not used by us' in text


def test_without_any_list_it_says_where_it_looked_and_what_that_means(as_viewer: Client) -> None:
    watched()
    text = text_of(as_viewer)
    assert "There is no list of worker types: it was looked for at coordination/config/worker-types.json" in text
    assert "No type of worker is known" in text


# --- check-ins


def checkins(worker_id: str, *minutes_ago: int) -> None:
    log = LogFile.objects.get_or_create(host=factories.HOST, path="coordination/pm-activity.jsonl")[0]
    for number, minutes in enumerate(minutes_ago):
        at = NOW - timedelta(minutes=minutes)
        fields: dict[str, Any] = {"generation": 0, "offset": number, "stored_at": at, "data": "{}"}
        Event.objects.create(log=log, at=at, type="checkin_received", worker_id=worker_id, **fields)


def test_where_nobody_ever_checks_in_it_says_so_and_what_is_taken_instead(as_viewer: Client) -> None:
    watched()
    factories.add(Health.LATE, 1, last_checkin_at=None, progress_changed_at=None, last_log_at=NOW, last_cpu_at=NOW)
    (row,) = read().discipline
    said = "Nobody of this type ever checked in; as signs of life log lines and work on a core are taken"
    assert row.said.text == said
    assert (row.share_silent, row.pauses) == (1.0, None)
    assert answer("checkins")[1] == "Nobody checks in: none of 1 run ever did"
    assert said in text_of(as_viewer)


def test_the_pauses_between_check_ins_are_measured_by_type() -> None:
    watched()
    worker = factories.add(Health.HEALTHY, 1)
    checkins(worker.worker_id, 60, 55, 50, 20, 13)  # 5, 5, 30 and 7 min
    checkins("somebody-else", 60, 59)
    (row,) = read().discipline
    assert row.pauses is not None
    assert (row.pauses.silences, row.pauses.p50, row.pauses.p95) == (4, timedelta(minutes=6), timedelta(minutes=31))
    assert row.said.text.startswith("Irregular")


def test_a_pause_of_half_a_day_is_between_two_runs() -> None:
    watched()
    worker = factories.add(Health.HEALTHY, 1)
    checkins(worker.worker_id, 900, 60, 55)
    (row,) = read().discipline
    assert row.pauses is not None
    assert row.pauses.silences == 1
    assert row.said == type(row.said)(Tone.FINE, "Regular: they check in within 10 min")


def test_those_that_run_and_do_not_check_in_are_counted() -> None:
    watched()
    factories.add(Health.HEALTHY, 7)
    factories.add(Health.STALLED, 14)
    Silence.objects.create(host=factories.HOST, day=NOW.date(), worker_type="implementation-worker", minutes=4, count=9)
    (row,) = read().discipline
    assert (row.running, row.silent, row.share_silent) == (2, 1, 0.5)
    assert row.silences is not None
    assert row.silences.p95 == timedelta(minutes=5)
    assert answer("checkins") == (Tone.LOOK, "1 of 2 running workers is not checking in")


# --- the PM daemon


@pytest.mark.parametrize(
    ("fields", "tone", "text"),
    [
        ({}, Tone.FINE, "The PM daemon runs and watches"),
        ({"pm_alive": False}, Tone.BAD, "The PM daemon is not running: its process 36883 is gone"),
        ({"pm_seen": False}, Tone.LOOK, "There is no pm-state.json: no PM daemon watches this fleet"),
        ({"pm_last_loop": None}, Tone.UNKNOWN, "The PM daemon does not say when it looked last"),
        ({"pm_last_loop": timedelta(minutes=8)}, Tone.LOOK, "The PM daemon is behind: it has missed a loop"),
        ({"pm_last_loop": timedelta(days=2)}, Tone.BAD, "The PM daemon is silent"),
    ],
)
def test_whether_the_pm_daemon_runs(fields: dict[str, Any], tone: Tone, text: str) -> None:
    now = datetime.now(UTC)  # NOW may be minutes ago
    watched(poller={name: now - value if isinstance(value, timedelta) else value for name, value in fields.items()})
    said = read().pm.said
    assert said.tone is tone
    assert said.text.startswith(text)


def test_a_poller_that_is_silent_does_not_make_the_pm_daemon_so(as_viewer: Client) -> None:
    last = NOW - timedelta(days=1)
    watched(poller={"last_cycle_at": last, "pm_last_loop": last - timedelta(minutes=2)})
    assert read().pm.said.tone is Tone.FINE
    assert f"as of {last:%Y-%m-%d %H:%M} UTC" in text_of(as_viewer)


def test_its_loop_is_as_configured_else_as_measured_else_assumed() -> None:
    poller = watched()
    assert read().pm.interval == timedelta(seconds=180)
    log = LogFile.objects.create(host=factories.HOST, path="coordination/pm-activity.jsonl")
    for number in range(7):
        at = NOW - timedelta(seconds=60 * number)
        Event.objects.create(
            log=log, at=at, type="pm_loop_completed", generation=0, offset=number, stored_at=at, data="{}"
        )
    pm = read().pm
    assert (pm.interval, pm.interval_from) == (timedelta(minutes=1), "measured: the middle one of its last 6 loops")
    assert pm.behind is not None
    poller.prevention["numbers"] = {"check_interval_seconds": 300.0}
    poller.save()
    pm = read().pm
    assert (pm.interval, pm.behind) == (timedelta(minutes=5), None)


def test_its_starts_of_the_last_days_are_listed() -> None:
    watched()
    for days in (1, 2, 31):
        at = NOW - timedelta(days=days)
        Mark.objects.create(host=factories.HOST, at=at, kind=Mark.Kind.PM_START, text="PM daemon started")
    assert read().pm.starts == (NOW - timedelta(days=1), NOW - timedelta(days=2))


def test_without_configuration_it_says_what_the_runbook_would_print(as_viewer: Client) -> None:
    watched()
    assert "holds no .configuration , so the runbook's query prints null" in text_of(as_viewer)


# --- daemons


def test_each_daemon_is_said_to_live_or_not(as_viewer: Client) -> None:
    watched(
        daemons=[
            daemon("worker-daemon"),
            daemon("cleaner", "gone"),
            daemon("supervisor", "another"),
            daemon("metrics", "", status="stopped", beat_at=NOW.isoformat()),
            daemon("pm-daemon"),
        ]
    )
    page = read()
    assert {each.name: each.said.text for each in page.daemons} == {
        "worker-daemon": "Process 77 lives",
        "cleaner": "Its process 77 is gone",
        "supervisor": "Its process is gone; 77 is another program's now, which started later",
        "metrics": "It says “stopped” and names no process",
    }
    assert [each.name for each in page.pm.files] == ["pm-daemon"]
    assert answer("daemons") == (Tone.BAD, "2 of 4 daemons are gone: cleaner and supervisor")
    assert "coordination/cleaner.pid" in text_of(as_viewer)


def test_of_two_files_of_one_daemon_the_one_with_a_living_process_decides() -> None:
    watched(daemons=[daemon("worker-daemon", "gone"), daemon("worker-daemon", path="agents/worker-daemon.pid")])
    assert answer("daemons") == (Tone.FINE, "1 of 1 daemon live")


def test_a_disk_that_is_nearly_full_is_trouble(as_viewer: Client) -> None:
    watched(poller={"disk_free_bytes": 9, "disk_total_bytes": 100})
    assert answer("daemons") == (Tone.BAD, "The disk of the home is nearly full")
    assert "(9 %)" in text_of(as_viewer)


# --- alerts


def test_an_alert_of_long_ago_that_nobody_resolved_is_said_to_be_out_of_date(as_viewer: Client) -> None:
    watched(alerts=[alert(*(f"w-{n}" for n in range(44)))], alerts_there=True)
    text = text_of(as_viewer)
    assert "Active since 2025-11-21, and none of the 44 workers it lists is running" in text
    assert answer("alerts") == (Tone.LOOK, "The one active alert is out of date")
    assert read().threshold == 10


def test_each_worker_that_an_alert_lists_is_looked_up() -> None:
    zombie, healthy = factories.add(Health.ZOMBIE, 1), factories.add(Health.HEALTHY, 2)
    factories.add(Health.ZOMBIE, 3, live=False)
    watched(alerts=[alert(zombie.worker_id, healthy.worker_id, "worker-test-003")], alerts_there=True)
    (found,) = read().alerts
    assert (found.zombies, found.running) == ((zombie.worker_id,), 2)
    assert found.said.text == "Active since 2025-11-21, and 1 of the 3 workers it lists is a zombie now"


def test_an_old_alert_that_keeps_a_new_one_from_coming_is_trouble() -> None:
    for number in range(3):
        factories.add(Health.ZOMBIE, number)
    watched(alerts=[alert("w-1", threshold=2.0)], alerts_there=True)
    tone, text = answer("alerts")
    assert tone is Tone.BAD
    assert "keeps the PM daemon from raising a new one" in text


def test_settled_alerts_come_last_and_count_no_more() -> None:
    watched(alerts=[alert(status="resolved", id="old"), alert("w-1", id="new")], alerts_there=True)
    assert [each.id for each in read().alerts] == ["new", "old"]
    watched(alerts=[alert(status="resolved")], alerts_there=True)
    assert answer("alerts") == (Tone.FINE, "No alert is active")


def test_without_the_file_nobody_is_warned(as_viewer: Client) -> None:
    watched()
    assert answer("alerts")[0] is Tone.LOOK
    assert "adds its zombie alert only where this file is there" in text_of(as_viewer)


# --- the page


def test_before_any_poller_it_says_what_to_do(as_viewer: Client) -> None:
    assert "Start one there with manage.py poll" in text_of(as_viewer)


def test_a_poller_that_has_not_looked_yet_is_no_error(as_viewer: Client) -> None:
    factories.poller()
    assert "has not looked for lists of worker types yet" in text_of(as_viewer)


def test_each_host_has_a_page_of_its_own_and_another_name_is_ignored(as_viewer: Client) -> None:
    watched("host-a", daemons=[daemon("only-on-a")])
    watched("host-b")
    assert "only-on-a" in text_of(as_viewer)
    assert "only-on-a" not in text_of(as_viewer, "?host=host-b")
    assert "Ignored: the host “nowhere”, which no poller watches" in text_of(as_viewer, "?host=nowhere%00")


def test_what_files_say_is_never_markup(as_viewer: Client) -> None:
    evil = "<script>alert(1)</script>"
    watched(
        types=[type_entry(evil, 3, evil)],
        notes=[[evil, evil]],
        settings=[[evil, evil]],
        daemons=[daemon(evil, command=evil, status=evil, path=evil)],
        alerts=[alert(evil, message=evil, type=evil, id=evil, status=evil)],
        alerts_there=True,
        alert_notes=[evil],
    )
    assert evil not in as_viewer.get("/prevention/").content.decode()


def test_a_large_fleet_costs_no_more_queries_than_a_small_one() -> None:
    watched(alerts=[alert("w-1")], alerts_there=True)
    counts = []
    for size in (3, 60):
        Worker.objects.all().delete()
        factories.add_fleet(size)
        watched(alerts=[alert(*(f"w-{n}" for n in range(size)))], alerts_there=True)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            read()
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


def test_viewers_may_read_strangers_not_and_nobody_may_post(client: Client, as_viewer: Client) -> None:
    watched()
    assert client.get("/prevention/")["Location"].startswith("/accounts/login/")
    assert as_viewer.get("/prevention/").status_code == 200
    assert as_viewer.post("/prevention/").status_code == 405
    assert 'href="/prevention/" aria-current="page"' in as_viewer.get("/prevention/").content.decode()


@pytest.mark.skipif(not REAL.exists(), reason="the real fleet's sample is not beside this checkout")
def test_a_real_fleet_that_was_left_is_seen_as_it_is(tmp_path: Path, as_viewer: Client) -> None:
    home = tmp_path / "real"
    shutil.copytree(REAL, home)
    cycle = Cycle(home, "host-a", 2.0)
    cycle.rounds.reader.outside = str(tmp_path)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    text = text_of(as_viewer)
    assert "There is no list of worker types" in text
    assert "prints null" in text
    assert read().pm.said.tone is Tone.BAD
