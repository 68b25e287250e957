"""Limits, the installation and the database in the admin: what is impossible is refused with a sentence."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from workers import reports
from workers.health import Health
from workers.models import Channel, Delivery, Event, Installation, Limit, LogFile, Poller, SettingChange
from workers.queries.database import COUNTED, database
from workers.secrets_at_rest import decrypt

from . import factories
from .markup import flat

pytestmark = pytest.mark.django_db
LIMITS = "/admin/workers/limit/"
INSTALLATION = "/admin/workers/installation/1/change/"
DATABASE = "/admin/workers/installation/database/"
BEAT = "https://beat.example.com/t0ken-of-ours"


def said(answer: Any) -> str:
    return html.unescape(flat(answer.content.decode()))


# -- limits


@pytest.mark.parametrize(
    ("there", "name", "seconds", "sentence"),
    [
        ({}, "late_after", "960", "stalled after 15 min, before it is late after 16 min"),
        ({}, "stalled_after", "540", "late_after is not set here, so its default counts: set it first"),
        ({"stalled_after": 1800.0}, "late_after", "1801", "late_after must not be longer than stalled_after"),
        ({"late_after": 1200.0}, "stalled_after", "1199", "before it is late after 20 min"),
        ({}, "late_after", "0", "greater than or equal to 1"),
        ({}, "late_after", "inf", "Enter a number."),
        ({}, "patience", "60", "Select a valid choice"),
        ({"late_after": 60.0}, "late_after", "90", "Limit with this Name already exists."),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(
    as_admin: Client, there: dict[str, float], name: str, seconds: str, sentence: str
) -> None:
    for each, value in there.items():
        Limit.objects.create(name=each, seconds=value)
    answer = as_admin.post(f"{LIMITS}add/", {"name": name, "seconds": seconds})
    assert answer.status_code == 200
    assert sentence in said(answer)
    assert dict(Limit.objects.values_list("name", "seconds")) == there


def test_a_pair_that_makes_sense_is_taken(as_admin: Client) -> None:
    for name, seconds in (("stalled_after", "3600"), ("late_after", "3600")):
        assert as_admin.post(f"{LIMITS}add/", {"name": name, "seconds": seconds}).status_code == 302
    page = said(as_admin.get(LIMITS))
    assert "60 min" in page
    assert "no sign of life of any kind" in page


def test_a_limit_keeps_its_name(as_admin: Client) -> None:
    limit = Limit.objects.create(name="late_after", seconds=60)
    as_admin.post(f"{LIMITS}{limit.pk}/change/", {"name": "stalled_after", "seconds": "90"})
    assert (Limit.objects.get().name, Limit.objects.get().seconds) == ("late_after", 90)


def test_whoever_deletes_half_of_a_pair_is_told_what_holds_then(as_admin: Client) -> None:
    Limit.objects.create(name="late_after", seconds=3600)
    other = Limit.objects.create(name="stalled_after", seconds=7200)
    page = said(as_admin.post(f"{LIMITS}{other.pk}/delete/", {"post": "yes"}, follow=True))
    assert "Until then the shorter holds for both." in page


# -- installation


def form(**changes: Any) -> dict[str, Any]:
    values = {"report_weekday": "0", "report_hour": "8", "report_zone": "UTC", "dead_man_minutes": "5"}
    values |= {"maintenance_reason": "", "maintenance_until_0": "", "maintenance_until_1": "", "dead_man_address": ""}
    return {**values, **changes}


@pytest.fixture
def ops(db: None) -> Channel:
    Installation.get()
    return Channel.objects.create(name="ops", address="json://127.0.0.1:9/")


def test_it_is_one_page_that_opens_at_once(as_admin: Client) -> None:
    answer = as_admin.get("/admin/workers/installation/")
    assert (answer.status_code, answer["Location"]) == (302, INSTALLATION)
    page = said(as_admin.get(INSTALLATION))
    assert "deletelink" not in page
    assert as_admin.get("/admin/workers/installation/add/").status_code == 403
    assert as_admin.post("/admin/workers/installation/1/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"report_zone": "Mars/Base"}, "“Mars/Base” is no time zone that is known here"),
        ({"report_zone": "../../etc/passwd"}, "is no time zone that is known here"),
        ({"report_hour": "24"}, "less than or equal to 23"),
        ({"report_weekday": "7"}, "Select a valid choice"),
        ({"dead_man_minutes": "0"}, "greater than or equal to 1"),
        ({"dead_man_address": "file:///etc/t0ken"}, "This is no address that can be called"),
        ({"dead_man_address": "https://"}, "This is no address that can be called"),
        ({"maintenance_until_0": "2020-01-01", "maintenance_until_1": "08:00"}, "That has passed already"),
        ({"maintenance_until_0": "2999-01-01", "maintenance_until_1": "08:00"}, "Say why"),
        ({"report_channels": ["99"]}, "99 is not one of the available choices"),
    ],
)
def test_what_is_impossible_is_refused(as_admin: Client, ops: Channel, changes: dict[str, Any], sentence: str) -> None:
    answer = as_admin.post(INSTALLATION, form(**changes))
    assert answer.status_code == 200
    assert sentence in said(answer)
    assert "t0ken" not in said(answer)
    assert not SettingChange.objects.exists()


def test_maintenance_is_set_and_recorded(as_admin: Client, ops: Channel) -> None:
    later = timezone.now() + timedelta(hours=2)
    changes = {"maintenance_until_0": f"{later:%Y-%m-%d}", "maintenance_until_1": f"{later:%H:%M:%S}"}
    assert as_admin.post(INSTALLATION, form(**changes, maintenance_reason="New disks")).status_code == 302
    assert Installation.get().maintenance_reason == "New disks"
    recorded = set(SettingChange.objects.values_list("setting", "field", "new"))
    assert ("installation", "maintenance_reason", "New disks") in recorded


def test_the_dead_mans_address_is_stored_and_shown_to_nobody(as_admin: Client, ops: Channel) -> None:
    as_admin.post(INSTALLATION, form(dead_man_address=BEAT))
    assert decrypt(Installation.get().dead_man_address) == BEAT
    as_admin.post(INSTALLATION, form(report_hour="9"))
    assert decrypt(Installation.get().dead_man_address) == BEAT, "left empty it stays"
    for page in (INSTALLATION, "/admin/workers/settingchange/", "/admin/workers/installation/1/history/", "/admin/"):
        text = said(as_admin.get(page))
        assert "t0ken" not in text
        assert "gAAAA" not in text
    assert "One is stored." in said(as_admin.get(INSTALLATION))
    as_admin.post(INSTALLATION, {**form(), "dead_man_address-remove": "on"})
    assert Installation.get().dead_man_address == ""
    rows = SettingChange.objects.filter(field="dead_man_address").values_list("old", "new")
    assert list(rows) == [("", "changed")] * 2


def test_what_others_write_meanwhile_is_not_lost(
    as_admin: Client, ops: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead man's switch calls between the reading of the row and its saving."""
    save, called = Installation.save, datetime(2026, 11, 24, 8, tzinfo=UTC)

    def after_a_call(self: Installation, **kwargs: Any) -> None:
        Installation.objects.update(dead_man_called_at=called, report_sent_for=called.date())
        save(self, **kwargs)

    monkeypatch.setattr(Installation, "save", after_a_call)
    assert as_admin.post(INSTALLATION, form(report_hour="7")).status_code == 302
    found = Installation.objects.get()
    assert (found.report_hour, found.dead_man_called_at, found.report_sent_for) == (7, called, called.date())


def test_a_refused_form_does_not_give_a_typed_secret_back(as_admin: Client, ops: Channel) -> None:
    answer = as_admin.post(INSTALLATION, form(dead_man_address=BEAT, report_hour="99"))
    assert answer.status_code == 200
    assert "t0ken" not in said(answer)


def test_a_report_whose_hour_has_passed_when_it_is_set_begins_next_week(as_admin: Client, ops: Channel) -> None:
    as_admin.post(INSTALLATION, form(report_channels=[ops.pk], report_hour="0"))
    now = timezone.now()
    assert reports.send_due(now) == 0
    assert reports.send_due(now + timedelta(days=7)) == 1


def test_the_report_is_sent_at_once_to_these_channels(as_admin: Client, ops: Channel) -> None:
    page = said(as_admin.post(INSTALLATION, form(report_channels=[ops.pk], _send_report="1"), follow=True))
    assert "The report is on its way to 1 channel." in page
    delivery = Delivery.objects.get()
    assert (delivery.channel, delivery.state) == (ops, "queued")
    assert delivery.key.startswith("report-")
    assert SettingChange.objects.filter(field="weekly report", actor="admin").exists()


def test_without_a_channel_whoever_sends_is_told_that_nobody_got_it(as_admin: Client, ops: Channel) -> None:
    page = said(as_admin.post(INSTALLATION, form(_send_report="1"), follow=True))
    assert "sent to nobody" in page
    assert not Delivery.objects.exists()


def test_it_says_when_the_next_report_goes_and_how_the_calls_do(as_admin: Client, ops: Channel) -> None:
    assert "Never: no channel that is enabled is chosen." in said(as_admin.get(INSTALLATION))
    as_admin.post(INSTALLATION, form(report_channels=[ops.pk], dead_man_address=BEAT))
    Installation.objects.update(
        dead_man_called_at=datetime(2026, 11, 24, 8, tzinfo=UTC), dead_man_error="it answered 500"
    )
    page = said(as_admin.get(INSTALLATION))
    assert "Called last on Tuesday, 24 November, 08:00 UTC: it answered 500." in page
    assert ", 08:00 UTC." in page


# -- database


def store_events(count: int, stored_at: datetime) -> None:
    log = LogFile.objects.create(host="host-a", path="a.jsonl", records=count, damaged=2)
    Event.objects.bulk_create(
        Event(log=log, generation=0, offset=number, at=stored_at, stored_at=stored_at, type="x", data="{}")
        for number in range(count)
    )


def test_the_page_says_how_large_it_is_and_what_is_pruned_next(as_admin: Client, settings: Any) -> None:
    settings.RELAY_EVENT_DAYS = 90
    stored = timezone.now() - timedelta(days=10)
    store_events(3, stored)
    factories.add(Health.HEALTHY)
    page = said(as_admin.get(DATABASE))
    goes = stored + timedelta(days=90)
    assert f"from {goes:%Y-%m-%d %H:%M} UTC on" in page
    assert f"<td> {stored:%Y-%m-%d %H:%M:%S} UTC </td>" in page
    assert "3, and 2 damaged stretches" in page
    found = database(timezone.now())
    size = Path(found.place).stat().st_size
    assert found.bytes == size


def test_what_should_be_gone_is_said_loudly(as_admin: Client, settings: Any) -> None:
    settings.RELAY_EVENT_DAYS = 5
    store_events(1, timezone.now() - timedelta(days=10))
    assert "the poller prunes, and it may not be running" in said(as_admin.get(DATABASE))


def test_an_empty_database_has_nothing_to_prune(as_admin: Client) -> None:
    page = said(as_admin.get(DATABASE))
    assert "– (there is nothing to prune)" in page
    assert "None" not in page


def test_many_rows_are_not_counted_but_estimated_and_it_says_so(as_admin: Client) -> None:
    store_events(COUNTED + 5, timezone.now())
    tables = {table.name: table for table in database(timezone.now()).tables}
    assert (tables["events"].rows, tables["events"].word) == (COUNTED + 5, "at most")
    assert (tables["log files"].rows, tables["log files"].exact) == (1, True)
    assert "at most 10,005" in said(as_admin.get(DATABASE))
    assert "more than 10,000 events" in said(as_admin.get("/admin/workers/event/"))


def test_the_database_is_only_read(as_admin: Client) -> None:
    assert as_admin.post(DATABASE).status_code == 405


# -- lists


def test_pages_lead_to_one_another(as_admin: Client) -> None:
    worker = factories.add(Health.ZOMBIE)
    factories.poller()
    remediation = factories.repair(worker)
    log = LogFile.objects.create(host="host-a", path="a.jsonl")
    now = timezone.now()
    event = Event.objects.create(
        log=log, generation=0, offset=0, at=now, stored_at=now, type="x", worker_id=worker.worker_id, data="{}"
    )
    links = {
        f"worker/{worker.pk}/change/": (
            worker.get_absolute_url(),
            f"/admin/workers/event/?q={worker.worker_id}",
            f"/admin/workers/healthchange/?worker__id__exact={worker.pk}",
            f"/admin/workers/remediation/?worker__id__exact={worker.pk}",
        ),
        f"event/{event.pk}/change/": (
            f"/admin/workers/worker/?q={worker.worker_id}",
            f"/admin/workers/logfile/{log.pk}/change/",
        ),
        f"remediation/{remediation.pk}/change/": (remediation.get_absolute_url(), worker.get_absolute_url()),
        f"logfile/{log.pk}/change/": (f"/admin/workers/event/?log__id__exact={log.pk}",),
        "healthchange/": (f"/admin/workers/worker/{worker.pk}/change/",),
        "poller/": ("/admin/workers/worker/?host=host-a", "/admin/workers/pollergap/?host=host-a"),
    }
    for page, targets in links.items():
        text = said(as_admin.get(f"/admin/workers/{page}"))
        for target in targets:
            assert f'href="{target}"' in text, (page, target)
            assert as_admin.get(target).status_code == 200


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=worker-scan", 2),
        ("q=WORKER-SCAN", 0),
        ("q=task-9", 1),
        ("q=scan", 0),
        ("q=%25", 0),
        ("q=", 3),
        ("health=zombie", 1),
        ("health=zombie&live=0", 0),
        ("live=1", 3),
        ("host=host-b", 1),
        ("host=host-b&health=healthy", 1),
    ],
)
def test_runs_are_searched_by_how_their_id_begins_and_narrowed(as_admin: Client, query: str, found: int) -> None:
    for host in ("host-a", "host-b"):
        factories.poller(host)
    factories.add(Health.ZOMBIE, 1, worker_id="worker-scan-001", task_id="task-1")
    factories.add(Health.HEALTHY, 2, worker_id="worker-scan-002", task_id="task-9", host="host-b")
    factories.add(Health.LATE, 3, worker_id="worker-fix-003", task_id="task-3")
    page = as_admin.get(f"/admin/workers/worker/?{query}")
    assert page.context["cl"].result_count == found


def test_times_are_written_as_on_the_site(as_admin: Client) -> None:
    worker = factories.add(Health.HEALTHY)
    assert f"{worker.health_since:%Y-%m-%d %H:%M:%S}" in said(as_admin.get("/admin/workers/worker/"))


def test_events_are_searched_by_worker_or_type(as_admin: Client) -> None:
    from workers.models import EventCount

    log = LogFile.objects.create(host="host-a", path="a.jsonl")
    now = timezone.now()
    for number, (kind, worker) in enumerate([("stalled", "w-1"), ("stalled", "w-2"), ("done", "stalled-1")]):
        Event.objects.create(
            log=log, generation=0, offset=number, at=now, stored_at=now, type=kind, worker_id=worker, data="{}"
        )
        EventCount.objects.get_or_create(log=log, day=now.date(), type=kind)
    counts = {
        q: as_admin.get(f"/admin/workers/event/?q={q}").context["cl"].result_count for q in ("stalled", "w-2", "w")
    }
    assert counts == {"stalled": 2, "w-2": 1, "w": 0}


def test_no_poller_is_made_up_by_looking(as_admin: Client) -> None:
    as_admin.get(DATABASE)
    assert not Poller.objects.exists()
