"""The lights: how each part of the product is judged, on both sides of each limit, and where they are shown."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from workers import fragments, live
from workers.health import Health
from workers.models import Attendant, Change, Channel, Poller, Worker
from workers.queries import Watch, Watches, watches
from workers.queries.lights import (
    LIMITS,
    MOST_HOSTS,
    Database,
    Light,
    State,
    _files,
    attendant_light,
    channels_light,
    daemon_light,
    database_light,
    disk_light,
    disk_state,
    length,
    lights,
    measure_push,
    poller_light,
    push_light,
    row,
    size,
    web_light,
    worst,
)
from workers.vitals import BEATS, Vitals

from . import factories
from .markup import flat
from .sockets import Socket, opened

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OK, WARN, BAD, OFF, UNKNOWN = State
GB = 10**9


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def watch(**fields: Any) -> Watch:
    """A poller that has just finished a cycle, and a PM daemon that loops; unsaved."""
    values: dict[str, Any] = {
        "host": "host-a",
        "last_cycle_at": ago(1),
        "interval_seconds": 2.0,
        "cycle_ms": 31.0,
        "lag_ms": 46.0,
        "pm_seen": True,
        "pm_alive": True,
        "pm_last_loop": ago(60),
        "disk_free_bytes": 50 * GB,
        "disk_total_bytes": 100 * GB,
    }
    return Watch(Poller(**{**values, **fields}), NOW)


def vitals(**fields: Any) -> Vitals:
    return Vitals(**{"started": ago(3600), "tail": 7, **fields})


# Each part, on both sides of each limit


@pytest.mark.parametrize(
    ("fields", "state", "says", "since"),
    [
        ({}, OK, "A cycle every 2 s takes 30 ms, 50 ms behind the disk", None),
        ({"cycle_ms": None, "lag_ms": None}, OK, "A cycle every 2 s", None),
        ({"last_cycle_at": ago(6)}, OK, "A cycle every 2 s takes 30 ms, 50 ms behind the disk", None),
        ({"last_cycle_at": ago(6.1)}, BAD, "No word from it", ago(6.1)),
        ({"last_cycle_at": None}, BAD, "It has not finished a cycle yet", None),
        ({"error": "x", "error_since": ago(9)}, BAD, "It cannot read everything", ago(9)),
        ({"cycle_ms": 2000}, OK, "A cycle every 2 s takes 2.0 s, 50 ms behind the disk", None),
        ({"cycle_ms": 2001}, WARN, "A cycle takes 2.0 s, though one is due every 2 s", None),
        ({"cycle_ms": 10_000}, WARN, "A cycle takes 10 s, though one is due every 2 s", None),
        ({"cycle_ms": 10_001}, BAD, "A cycle takes 10 s, though one is due every 2 s", None),
        ({"lag_ms": 5000}, OK, "A cycle every 2 s takes 30 ms, 5.0 s behind the disk", None),
        ({"lag_ms": 5001}, WARN, "The last change was stored 5.0 s after it was on disk", None),
        ({"lag_ms": 86_400_000}, WARN, "The last change was stored 1440 min after it was on disk", None),
    ],
)
def test_a_poller_is_judged(fields: dict[str, Any], state: State, says: str, since: datetime | None) -> None:
    light = poller_light(watch(**fields))
    assert (light.state, light.says, light.since) == (state, says, since)
    assert (light.host, light.watchman) == ("host-a", True)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, OK),
        ({"pm_seen": False}, OFF),
        ({"pm_alive": False}, BAD),
        ({"pm_alive": None}, OK),
        ({"pm_last_loop": ago(600)}, OK),
        ({"pm_last_loop": ago(601)}, BAD),
        ({"pm_last_loop": None}, BAD),
        ({"pm_alive": None, "pm_last_loop": ago(601)}, BAD),
        ({"pm_alive": False, "last_cycle_at": ago(60)}, UNKNOWN),
    ],
)
def test_a_pm_daemon_is_judged_as_long_as_its_poller_speaks(fields: dict[str, Any], state: State) -> None:
    light = daemon_light(watch(**fields))
    assert light.state is state
    assert light.says
    assert not light.watchman


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [
        (10 * GB, 100 * GB, OK),
        (10 * GB - 1, 100 * GB, WARN),
        (3 * GB, 100 * GB, WARN),
        (3 * GB - 1, 100 * GB, BAD),
        (500_000_000, GB, OK),
        (499_999_999, GB, BAD),
        (0, 100 * GB, BAD),
        (None, None, UNKNOWN),
        (5, 0, UNKNOWN),
    ],
)
def test_a_disk_is_judged_by_its_share_and_by_its_room(free: int | None, total: int | None, state: State) -> None:
    assert disk_state(free, total) is state
    assert disk_light("Disk", free, total).state is state


def test_a_disk_says_how_much_is_free_and_nothing_of_a_host_that_is_silent() -> None:
    assert disk_light("Disk", 2 * GB, 100 * GB).says == "2.0 GB free, 2 % of the disk"
    assert disk_light("Disk", 900_000, GB).says == "900 kB free, under 1 % of the disk"
    assert disk_light("Disk", 0, 100 * GB, "host-a", silent=True).state is UNKNOWN


@pytest.mark.parametrize(("late", "state"), [(0.25, OK), (0.26, WARN), (1.0, WARN), (1.01, BAD)])
def test_the_web_process_is_judged_by_how_long_its_loop_was_held_up(late: float, state: State) -> None:
    measured = vitals()
    measured.beat(late)
    measured.beat(0.0)
    assert web_light(measured).state is state


def test_what_held_the_loop_up_is_forgotten() -> None:
    measured = vitals()
    measured.beat(5.0)
    for _ in range(BEATS):
        measured.beat(-0.001)
    assert measured.loop_delay == 0.0
    assert web_light(measured).state is OK


def test_the_web_process_says_how_many_listen_and_since_when_it_is_up() -> None:
    assert web_light(vitals(sockets=0)).says == "No live connection, up"
    assert web_light(vitals(sockets=1)).says == "1 live connection, up"
    light = web_light(vitals(sockets=2))
    assert (light.state, light.says, light.since) == (OK, "2 live connections, up", ago(3600))


@pytest.mark.parametrize(
    ("measured", "state", "says"),
    [
        ({"tail": None}, OFF, "Nobody listens"),
        ({}, OK, "Nothing has changed"),
        ({"push_seconds": 1.0}, OK, "1.0 s after it was stored"),
        ({"push_seconds": 1.1}, WARN, "1.1 s after it was stored"),
        ({"push_seconds": 10.0}, WARN, "10 s after it was stored"),
        ({"push_seconds": 10.1}, BAD, "10 s after it was stored"),
        ({"push_seconds": 0.02, "waiting_seconds": 1.0}, OK, "20 ms after it was stored"),
        ({"push_seconds": 0.02, "waiting_seconds": 1.1}, WARN, "A change has waited for 1.1 s"),
        ({"waiting_seconds": 10.1}, BAD, "A change has waited for 10 s"),
    ],
)
def test_the_push_is_judged(measured: dict[str, Any], state: State, says: str) -> None:
    light = push_light(vitals(**measured))
    assert light.state is state
    assert says in light.says


@pytest.mark.parametrize(
    ("found", "state", "says"),
    [
        (Database(12_345_678, 0), OK, "12 MB"),
        (Database(1, 256_000_000), OK, "1 B"),
        (Database(1, 256_000_001), WARN, "256 MB"),
        (Database(1, 1_000_000_000), WARN, "1.0 GB"),
        (Database(1, 1_000_000_001), BAD, "1.0 GB"),
        (Database(1, None), OK, "1 B"),
        (Database(1, 0, writable=False), BAD, "It cannot be written"),
        (Database(None), BAD, "It cannot be asked"),
    ],
)
def test_the_database_is_judged(found: Database, state: State, says: str) -> None:
    light = database_light(found)
    assert light.state is state
    assert says in light.says


def test_a_database_that_cannot_be_reached_or_written_is_no_size(tmp_path: Path) -> None:
    path = tmp_path / "relay.sqlite3"
    assert not _files(path).writable
    path.write_bytes(b"x" * 5000)
    path.with_name("relay.sqlite3-wal").write_bytes(b"x" * 70)
    found = _files(path)
    assert (found.size, found.journal, found.writable) == (5070, 70, True)
    assert found.free
    assert found.total


def test_channels_are_judged_and_only_their_names_are_said() -> None:
    assert channels_light([]).state is OFF
    assert channels_light([("mail", None)]).says == "1 channel, none fails"
    light = channels_light([("mail", None), ("slack", ago(5)), ("hook", ago(50))])
    assert (light.state, light.since) == (BAD, ago(50))
    assert light.says == "“hook” and 1 more fail: alerts do not get through"


@pytest.mark.parametrize(
    ("left", "last", "error", "state"),
    [
        (10, ago(60), "", OK),
        (10, ago(61), "", WARN),
        (10, ago(300), "", WARN),
        (10, ago(301), "", BAD),
        (10, None, "", OK),
        (-5, ago(1), "", OK),
        (-6, ago(1), "", WARN),
        (-30, ago(1), "", WARN),
        (-31, ago(1), "", BAD),
        (10, ago(1), "no such host", WARN),
    ],
)
def test_who_minds_the_rules_is_judged(left: float, last: datetime | None, error: str, state: State) -> None:
    light = attendant_light(Attendant(process="p", until=ago(-left), last_round_at=last, error=error), NOW)
    assert light.state is state
    assert "no such host" not in light.says, "what an error says may hold an address of a channel"


def test_where_nobody_has_ever_minded_the_rules_the_light_is_off() -> None:
    assert attendant_light(None, NOW).state is OFF


def test_every_limit_is_worse_beyond_the_second_than_beyond_the_first() -> None:
    for name, limit in LIMITS.items():
        if limit.warn is not None and limit.bad is not None:
            assert (limit.bad < limit.warn) is limit.under, name
        assert limit.judge(None) is OK


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_499, "999 kB"), (999_600, "1.0 MB"), (3.2e12, "3.2 TB")],
)
def test_sizes_are_said_in_two_digits(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "under 10 ms"),
        (0.0099, "under 10 ms"),
        (0.01, "10 ms"),
        (0.094, "90 ms"),
        (0.096, "100 ms"),
        (0.94, "900 ms"),
        (0.96, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119, "119 s"),
        (120, "2 min"),
    ],
)
def test_lengths_are_said_so_that_what_hardly_changes_reads_the_same(seconds: float, text: str) -> None:
    assert length(seconds) == text


# The row


def shown(*hosts: Watch) -> tuple[Light, ...]:
    return row(Watches(hosts), vitals(), Database(1000, 0, True, 50 * GB, 100 * GB), [], None, NOW)


def test_the_lights_of_one_host_stand_in_a_fixed_order() -> None:
    names = ["Poller", "PM daemon", "Web", "Push", "Database", "Disk", "Home disk", "Channels", "Alerts"]
    assert [light.name for light in shown(watch())] == names
    assert [light.name for light in shown(watch(last_cycle_at=None, error="x"))] == names


def test_every_light_has_one_short_sentence() -> None:
    for light in shown(watch(), watch(host="host-b", last_cycle_at=None)):
        assert 5 < len(light.says) <= 90, light
        assert not light.says.endswith("."), light


def test_of_several_hosts_each_light_says_which() -> None:
    names = [light.name for light in shown(watch(), watch(host="host-b"))]
    assert names[:4] == ["Poller host-a", "Poller host-b", "PM daemon host-a", "PM daemon host-b"]


def test_of_many_hosts_what_is_fine_is_summed_up_and_what_is_wrong_is_not() -> None:
    many = [watch(host=f"host-{number}") for number in range(MOST_HOSTS)]
    ill = watch(host="host-x", pm_alive=False)
    found = shown(*many, ill)
    daemons = [light for light in found if light.name.startswith("PM daemon")]
    assert [(light.name, light.state) for light in daemons] == [("PM daemon host-x", BAD), ("PM daemon", OK)]
    assert daemons[1].says == "3 of 4 fine"
    assert sum(light.watchman for light in found) == 4, "each poller keeps its light, which turns in the browser"


def test_without_any_poller_its_light_is_bad() -> None:
    assert (shown()[0].name, shown()[0].state) == ("Poller", BAD)


def test_a_database_elsewhere_has_no_disk_here() -> None:
    found = row(Watches((watch(),)), vitals(), Database(1000), [], None, NOW)
    assert "Disk" not in [light.name for light in found]


def test_of_states_the_worst_counts() -> None:
    assert worst([OK, BAD, WARN]) is BAD
    assert worst([OFF, OK]) is OK
    assert worst([]) is OK


# What is read


@pytest.mark.django_db
def test_the_lights_read_what_is_stored_in_few_queries() -> None:
    factories.poller()
    Channel.objects.create(name="mail", address="json://localhost", failing_since=timezone.now())
    Channel.objects.create(name="unused", address="json://localhost", enabled=False, failing_since=timezone.now())
    Attendant.objects.create(process="p", until=timezone.now() + timedelta(seconds=9))
    now = timezone.now()
    watching = watches(now)
    with CaptureQueriesContext(connection) as captured:
        found = {light.name: light for light in lights(watching, now)}
    assert len(captured) <= 3
    assert found["Channels"].says.startswith("“mail” fails")
    assert found["Alerts"].state is OK
    assert found["Database"].state is OK
    assert found["Poller"].state is OK


@pytest.mark.django_db
def test_how_long_a_change_took_and_how_long_one_waits_is_looked_up() -> None:
    now = timezone.now()
    first, second, third = (
        Change.objects.create(kind="worker", key=1, at=now - timedelta(seconds=seconds)) for seconds in (40, 30, 12)
    )
    measured = Vitals(tail=second.pk, handed=(second.pk, second.at + timedelta(seconds=2)))
    measure_push(measured, now)
    assert measured.push_seconds == pytest.approx(2)
    assert measured.waiting_seconds == pytest.approx(12)
    measured.tail = third.pk
    measure_push(measured, now)
    assert measured.waiting_seconds == 0
    assert first.pk < second.pk
    assert push_light(measured).state is WARN
    measured.fall_silent()
    measure_push(measured, now)
    assert push_light(measured).state is OFF


# Where they are shown


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/", "/events/", "/integrity/", "/processes/", "/remediations/"])
def test_every_page_has_the_row(as_viewer: Client, address: str) -> None:
    factories.poller(pm_alive=False)
    page = flat(as_viewer.get(address).content.decode())
    assert page.count('id="lights"') == 1
    assert re.search(r'<span class="light bad" data-host="host-a">.{1,400}It is not running: no loop since', page)
    names = re.findall(r'<span class="light \w+[^>]*> <button[^>]*> <i aria-hidden="true"></i> ([^<]+)<', page)
    assert names[:3] == ["Poller", "PM daemon", "Web"]


@pytest.mark.django_db
def test_a_part_of_a_page_reads_no_lights(as_viewer: Client) -> None:
    factories.poller()
    as_viewer.get("/")
    with CaptureQueriesContext(connection) as whole:
        as_viewer.get("/")
    with CaptureQueriesContext(connection) as part:
        as_viewer.get("/", headers={"HX-Target": "list", "HX-Request": "true"})
    assert [query for query in whole if "workers_channel" in query["sql"]]
    assert not [query for query in part if "workers_channel" in query["sql"]]


@pytest.mark.django_db
def test_nobody_who_is_not_signed_in_sees_a_light(client: Client) -> None:
    factories.poller()
    page = client.get("/accounts/login/").content.decode()
    assert 'id="lights"' not in page
    assert "lights.css" not in page


@pytest.mark.django_db
def test_names_from_outside_are_escaped(as_viewer: Client) -> None:
    Channel.objects.create(name="<b>mail</b>", address="json://localhost", failing_since=timezone.now())
    page = as_viewer.get("/").content.decode()
    assert "<b>mail</b>" not in page
    assert "“&lt;b&gt;mail&lt;/b&gt;” fails" in page


@pytest.mark.django_db(transaction=True)
async def test_a_light_that_turns_is_pushed_and_one_that_stays_is_not(as_viewer: Client) -> None:
    await sync_to_async(factories.poller)(interval_seconds=3600)
    async with opened(as_viewer, "/ws/live/?view=none") as communicator:
        browser = Socket(communicator)
        await browser.frame('id="lights"')
        await browser.frame('id="pulse"', live.PULSE + 3)
        with suppress(AssertionError):  # two pulses long; on a busy machine another light may turn meanwhile
            await browser.frame("such a frame never comes", 2 * live.PULSE)
        said = [fragments.facts(text) for text in browser.frames if 'id="lights"' in text]
        assert all(before != after for before, after in pairwise(said))
        await sync_to_async(Poller.objects.update)(pm_alive=False)
        await browser.frame("It is not running", 2 * live.PULSE + 3)


@pytest.mark.django_db(transaction=True)
async def test_the_hub_measures_what_it_hands_out(as_viewer: Client) -> None:
    worker: Worker = await sync_to_async(factories.add)(Health.HEALTHY)
    assert live.VITALS.tail is None
    before = live.VITALS.sockets
    async with opened(as_viewer, "/ws/live/") as communicator:
        browser = Socket(communicator)
        await browser.frame('id="pulse"')
        assert live.VITALS.sockets == before + 1
        await sync_to_async(factories.change)(worker, progress_pct=42)
        await browser.frame("42 %")
        await browser.frame("The last change reached browsers (under )?[0-9]+0 ms after", live.PULSE + 3)
        assert live.VITALS.loop_delay is not None
    assert live.VITALS.sockets == before
    assert live.VITALS.tail is None
