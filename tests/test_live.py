"""The live socket: who gets in, what is sent to whom, and that nothing is missed."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.http import QueryDict
from django.test import Client

from workers import door, fragments, live, outbox, renderings
from workers.health import Health
from workers.models import Change, Poller, Remediation, Worker
from workers.outbox import Entry, Sequence
from workers.queries.incident_query import IncidentQuery
from workers.screens import View

from . import factories
from .conftest import client_of, person
from .markup import flat
from .sockets import Socket, opened

pytestmark = pytest.mark.django_db(transaction=True)
T = TypeVar("T")


async def db(work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return await sync_to_async(work)(*args, **kwargs)


@asynccontextmanager
async def connected(client: Client | None, query_string: str = "", **headers: str) -> AsyncIterator[Socket]:
    """Open the socket of the fleet as somebody."""
    async with opened(client, f"/ws/live/{query_string}", **headers) as communicator:
        yield Socket(communicator)


# The door


async def test_it_closes_on_somebody_anonymous_with_4401() -> None:
    async with connected(None) as browser:
        assert await browser.closed() == door.SIGNED_OUT == 4401


async def test_it_closes_on_somebody_without_a_role_with_4403() -> None:
    client = await db(client_of, await db(person, "nobody"))
    async with connected(client) as browser:
        assert await browser.closed() == door.FORBIDDEN == 4403


@pytest.mark.parametrize(
    ("origin", "host", "comes_in"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://relay.example.com", "localhost", True),
        ("http://evil.example", "localhost", False),
        ("http://localhost:9000", "localhost:8000", False),
        ("null", "localhost", False),
        ("http://evil.example", "evil.example", False),
    ],
)
async def test_it_lets_only_our_own_pages_in(
    as_viewer: Client, settings: Any, origin: str, host: str, comes_in: bool
) -> None:
    settings.RELAY_URL = "https://relay.example.com"
    async with connected(as_viewer, origin=origin, host=host) as browser:
        if comes_in:
            await browser.frame('id="pulse"')
        else:
            assert await browser.closed() == 4403


@pytest.mark.parametrize("what", ["signs out", "is locked", "loses the role", "gets another password"])
async def test_it_closes_when_somebody(what: str, as_viewer: Client, viewer: User, monkeypatch: Any) -> None:
    def happens() -> None:
        if what == "signs out":
            as_viewer.logout()
        elif what == "is locked":
            User.objects.update(is_active=False)
        elif what == "loses the role":
            viewer.groups.clear()
        else:
            viewer.set_password("another")
            viewer.save()

    monkeypatch.setattr(live, "DOOR_CHECK", 0.1)
    other = await db(client_of, await db(person, "other", "viewer")) if what != "is locked" else None
    async with connected(as_viewer) as browser:
        await browser.frame('id="pulse"')
        if other is None:
            await db(happens)
            assert await browser.closed() == 4401
            return
        async with connected(other) as bystander:
            await db(happens)
            assert await browser.closed() == 4401
            await bystander.frame('id="pulse"', seconds=live.PULSE + 3)


# What is sent


async def test_without_a_query_string_every_changed_worker_arrives(as_viewer: Client) -> None:
    first, second = await db(factories.add, Health.HEALTHY, 1), await db(factories.add, Health.FAILED, 2)
    async with connected(as_viewer) as browser:
        await browser.frame('id="pulse"')
        await db(factories.change, first, progress_pct=99)
        assert "99 %" in await browser.frame(f'data-worker="{first.worker_id}"')
        await db(factories.change, second, error="another")
        await browser.frame(f'data-worker="{second.worker_id}"')


async def test_every_frame_is_one_element_that_names_its_place(as_viewer: Client) -> None:
    await db(factories.poller)
    worker = await db(factories.add, Health.STALLED)
    for query_string in ("?view=fleet", f"?worker={worker.pk}", ""):
        async with connected(as_viewer, query_string) as browser:
            await browser.frame('id="pulse"')
            await db(factories.change, worker, progress_pct=1.0)
            await browser.frame(f'data-worker="{worker.worker_id}"')
            await browser.quiet("never this")
            for text in browser.frames:
                tag = re.match(r"<(\w+) id=\"[^>]*? hx-swap-oob=\"cells\"", flat(text))
                assert tag, text[:100]
                assert text.rstrip().endswith(f"</{tag[1]}>")


async def test_a_page_gets_only_the_rows_that_it_shows(as_viewer: Client) -> None:
    zombie, healthy = await db(factories.add, Health.ZOMBIE, 1), await db(factories.add, Health.HEALTHY, 2)
    async with connected(as_viewer, "?health=zombie") as browser:
        await browser.frame(f'data-worker="{zombie.worker_id}"')
        await db(factories.change, healthy, progress_pct=5)
        await db(factories.change, zombie, progress_pct=77)
        await browser.frame("77 %")
        assert not [text for text in browser.frames if healthy.worker_id in text]


async def test_a_worker_page_gets_its_parts(as_viewer: Client) -> None:
    worker = await db(factories.add, Health.HEALTHY)
    async with connected(as_viewer, f"?worker={worker.pk}&position=999999999") as browser:
        await browser.frame('id="documents"')
        await db(factories.change, worker, health="stalled")
        assert "Stalled" in await browser.frame('id="head"')
        await browser.frame('id="why"')


async def test_a_row_that_fits_now_is_announced_and_not_put_in(as_viewer: Client) -> None:
    stays, goes = await db(factories.add, Health.ZOMBIE, 1), await db(factories.add, Health.ZOMBIE, 2)
    comes = await db(factories.add, Health.HEALTHY, 3)
    async with connected(as_viewer, f"?health=zombie&shown={stays.pk},{goes.pk}") as browser:
        await browser.frame('id="pill"')
        await db(factories.change, goes, health="healthy")
        await db(factories.change, comes, health="zombie")
        assert "?health=zombie" in await browser.frame("1 new, 1 gone")
        assert not [text for text in browser.frames if f'id="run-{comes.pk}"' in text]


async def test_tiles_follow_at_most_four_times_a_second(as_viewer: Client) -> None:
    worker = await db(factories.add, Health.HEALTHY)
    async with connected(as_viewer, "?view=fleet") as browser:
        await browser.frame('id="tiles"')
        began = time.monotonic()
        for number in range(20):
            await db(factories.change, worker, health="zombie" if number % 2 == 0 else "healthy")
            await asyncio.sleep(0.05)
        elapsed = time.monotonic() - began
        await browser.quiet("never this", live.COUNT_AT_MOST * 2)
        counted = sum('id="tiles"' in text for text in browser.frames) - 1
        assert 1 <= counted <= elapsed / live.COUNT_AT_MOST + 2


async def test_what_says_the_same_is_not_sent_again(as_viewer: Client) -> None:
    worker = await db(factories.add, Health.HEALTHY)
    async with connected(as_viewer, "?view=fleet") as browser:
        await browser.frame('id="pill"')
        await db(factories.change, worker, progress_pct=12)
        await browser.frame("12 %")
        await browser.quiet('id="(tiles|shown|state|pill|banners)"', 1.0)


async def test_the_pulse_tells_how_far_behind_and_comes_at_once_when_the_poller_says_something(
    as_viewer: Client,
) -> None:
    await db(factories.poller, lag_ms=46, unreadable=3)
    async with connected(as_viewer, "?view=none") as browser:
        text = await browser.frame('id="pulse"')
        assert "46 ms behind disk" in text
        assert "3 unreadable" in text
        await db(factories.poller, error="worker-specs is missing")
        await db(factories.tell, [Worker(pk=1)], Change.Kind.POLLER)
        assert "worker-specs is missing" in await browser.frame('id="banners".*missing', seconds=live.PULSE - 1)


async def test_a_silent_poller_is_told(as_viewer: Client) -> None:
    await db(factories.poller)
    async with connected(as_viewer, "?view=none") as browser:
        await browser.frame('id="banners"')
        await db(Poller.objects.update, last_cycle_at=datetime.now(UTC) - timedelta(minutes=1))
        await browser.frame("is silent", seconds=live.PULSE + 3)


# Nothing is missed


async def test_who_comes_back_gets_what_changed_since(as_viewer: Client) -> None:
    same, changed = await db(factories.add, Health.HEALTHY, 1), await db(factories.add, Health.HEALTHY, 2)
    position = await db(factories.tell, [])
    await db(factories.change, changed, progress_pct=42)
    async with connected(as_viewer, f"?view=fleet&position={position}&shown={same.pk},{changed.pk}") as browser:
        await browser.frame("42 %")
        await browser.frame('id="tiles"')
        assert not [text for text in browser.frames if f'id="run-{same.pk}"' in text]


@pytest.mark.parametrize("position", ["999999999", "0", ""])
async def test_a_page_from_another_age_gets_all_that_it_shows(as_viewer: Client, position: str) -> None:
    """The database was replaced, the outbox has forgotten, or nobody says since when."""
    workers = [await db(factories.add, Health.HEALTHY, number) for number in range(3)]
    oldest = await db(lambda: Change.objects.order_by("id").first())
    await db(Change.objects.filter(pk=oldest.pk).delete)
    shown = ",".join(str(worker.pk) for worker in workers)
    async with connected(as_viewer, f"?view=fleet&shown={shown}&position={position}") as browser:
        await browser.frame('id="tiles"')
        for worker in workers:
            assert [text for text in browser.frames if f'id="run-{worker.pk}"' in text]


async def test_the_page_may_turn_to_something_else_on_the_same_socket(as_viewer: Client) -> None:
    zombie, healthy = await db(factories.add, Health.ZOMBIE, 1), await db(factories.add, Health.HEALTHY, 2)
    async with connected(as_viewer, "?health=zombie") as browser:
        await browser.frame('id="pill"')
        await browser.say(f"health=healthy&shown={healthy.pk}&position=0")
        await browser.frame(f'id="run-{healthy.pk}"')
        await db(factories.change, zombie, progress_pct=88)
        await db(factories.change, healthy, progress_pct=89)
        await browser.frame("89 %")
        assert not [text for text in browser.frames if "88 %" in text]


async def test_a_change_that_is_committed_late_still_arrives(as_viewer: Client) -> None:
    """Of two writers the one with the larger id may commit first."""
    first, second = await db(factories.add, Health.HEALTHY, 1), await db(factories.add, Health.HEALTHY, 2)
    position = await db(factories.tell, [])
    async with connected(as_viewer) as browser:
        await browser.frame('id="pulse"')
        now = datetime.now(UTC)
        await db(Change.objects.create, id=position + 2, kind="worker", key=second.pk, at=now)
        await browser.frame(f'id="run-{second.pk}"')
        await db(Change.objects.create, id=position + 1, kind="worker", key=first.pk, at=now)
        await browser.frame(f'id="run-{first.pk}"')


def test_a_sequence_waits_for_missing_ids_and_gives_them_up_in_the_end() -> None:
    sequence = Sequence(10)
    rows = [Entry(12, "worker", 1), Entry(14, "worker", 2)]
    assert sequence.take(rows, now=0.0) == rows
    assert (sequence.position, set(sequence.missing)) == (10, {11, 13})
    assert sequence.take([Entry(11, "worker", 3), Entry(12, "worker", 1)], now=1.0) == [Entry(11, "worker", 3)]
    assert sequence.position == 12
    assert sequence.take([], now=outbox.PATIENCE + 1) == []
    assert (sequence.position, sequence.missing) == (14, {})


def test_a_sequence_that_jumps_does_not_wait_for_millions() -> None:
    sequence = Sequence(0)
    sequence.take([Entry(10_000_000, "worker", 1)], now=0.0)
    assert len(sequence.missing) <= outbox.BATCH


async def test_a_database_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    def make(name: str, rows: int) -> Path:
        path = tmp_path / name
        with sqlite3.connect(path) as file:
            file.execute(f"CREATE TABLE {outbox.TABLE} (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, key INTEGER)")
            file.executemany(f"INSERT INTO {outbox.TABLE} (kind, key) VALUES (?, ?)", [("worker", 1)] * rows)
        return path

    path, other = make("relay.sqlite3", 5), make("other.sqlite3", 1)
    tail = outbox.SqliteOutbox(str(path), None)
    assert await tail.wait(1) == []
    other.replace(path)

    async def follow() -> None:
        for _ in range(300):
            await tail.wait(1)

    with pytest.raises(outbox.Replaced):
        await follow()
    await tail.close()
    with pytest.raises(outbox.Replaced):
        outbox.SqliteOutbox(str(path), 5)


# Many sockets


async def test_a_slow_browser_holds_nobody_up_and_is_cut_off_in_the_end() -> None:
    stuck, closed, heard = asyncio.Event(), [], []

    async def never(message: dict[str, Any]) -> None:
        await stuck.wait()

    async def at_once(message: dict[str, Any]) -> None:
        heard.append(message["text"])

    async def close(code: int) -> None:
        closed.append(code)

    entry = door.Pass(1, "", "")
    slow, fast = live.Subscriber(never, close, entry), live.Subscriber(at_once, close, entry)
    for number in range(live.BACKLOG + 2):
        for subscriber in (slow, fast):
            subscriber.push(live.frame(str(number)))
    await asyncio.sleep(0)
    assert len(heard) == live.BACKLOG + 2
    assert closed == [live.TRY_AGAIN_LATER]
    stuck.set()


async def test_frames_keep_their_order_however_slow_the_browser_is() -> None:
    heard = []

    async def slowly(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        heard.append(int(message["text"]))

    async def close(code: int) -> None:
        raise AssertionError(code)

    subscriber = live.Subscriber(slowly, close, door.Pass(1, "", ""))
    for number in range(50):
        subscriber.push(live.frame(str(number)))
    deadline = time.monotonic() + 5
    while len(heard) < 50 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert heard == list(range(50))


async def test_the_tail_runs_only_while_somebody_listens(as_viewer: Client) -> None:
    def tails() -> int:
        return sum(thread.name.startswith("live") for thread in threading.enumerate())

    async with connected(as_viewer) as first:
        await first.frame('id="pulse"')
        async with connected(as_viewer) as second:
            await second.frame('id="pulse"')
            assert tails() == 1
    deadline = time.monotonic() + 5
    while tails() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert tails() == 0
    assert not live.hub().subscribers


async def test_a_page_is_rendered_once_for_all_who_show_it(as_viewer: Client, monkeypatch: Any) -> None:
    worker = await db(factories.add, Health.HEALTHY)
    rendered = []
    original = fragments.row
    monkeypatch.setattr(fragments, "row", lambda row: rendered.append(row.worker.pk) or original(row))
    async with connected(as_viewer) as first, connected(as_viewer) as second, connected(as_viewer) as third:
        for browser in (first, second, third):
            await browser.frame('id="pulse"')
        await db(factories.change, worker, progress_pct=64)
        for browser in (first, second, third):
            await browser.frame("64 %")
        assert rendered == [worker.pk]


# What the query string of a socket means


@pytest.mark.parametrize(
    ("query_string", "view"),
    [
        ("", View(everything=True)),
        ("position=5", View(everything=True, position=5)),
        ("worker=7&position=5", View(worker=7, position=5)),
        ("worker=x", View(worker=None)),
        ("view=none&position=1", View(position=1)),
    ],
)
def test_a_view_is_read_from_the_query_string(query_string: str, view: View) -> None:
    assert View.parse(query_string) == view


def test_what_the_page_has_seen_does_not_take_the_place_of_its_filter() -> None:
    """`since` is a filter of events and of incidents, `position` says what the page has seen."""
    view = View.parse("view=incidents&since=2025-11-20T12:00:00Z&position=5")
    assert view.incidents == IncidentQuery.parse(QueryDict("since=2025-11-20T12:00:00Z"))
    assert view.incidents is not None
    assert view.incidents.since is not None
    assert view.position == 5


def test_a_view_takes_what_is_shown_from_the_page_and_never_too_much() -> None:
    view = View.parse("health=zombie&shown=3,x,1," + ",".join(map(str, range(1000))))
    assert view.query is not None
    assert view.query.health == (Health.ZOMBIE,)
    assert view.shown is not None
    assert view.shown[:2] == (3, 1)
    assert len(view.shown) == 200


async def test_what_changes_while_somebody_is_being_let_in_is_not_missed(as_viewer: Client, monkeypatch: Any) -> None:
    """Between the look at the database and the moment at which the hub knows what the page shows."""
    worker = await db(factories.add, Health.HEALTHY)
    repair = await db(factories.repair, worker, "planning")
    arrive, arrived, told = renderings.arrive, threading.Event(), threading.Event()

    def slowly(view: View) -> tuple[View, list[str]]:
        found = arrive(view)
        arrived.set()
        assert told.wait(5)
        return found

    def changed() -> int:
        with transaction.atomic():  # at once: with the first in its hand the tail waits until the browser is in
            factories.change(worker, health="crashed")
            Remediation.objects.filter(pk=repair.pk).update(state="planned")
            return factories.tell([repair], Change.Kind.REMEDIATION)

    monkeypatch.setattr(live, "arrive", slowly)
    async with connected(as_viewer, f"?view=fleet&shown={worker.pk}&remediation={repair.pk}&position=0") as browser:
        assert await asyncio.to_thread(arrived.wait, 5)
        position = await db(changed)
        deadline = time.monotonic() + 4
        while live.hub()._position() < position and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        told.set()
        await browser.frame(f'id="run-{worker.pk}"[^>]*class="crashed')
        assert any('data-state="planned"' in text for text in browser.frames) or await browser.frame("planned")


# Policies


async def test_the_page_of_the_autopilot_is_told_that_there_is_something_new(as_viewer: Client) -> None:
    async with connected(as_viewer, "?view=autopilot") as browser:
        await browser.frame('id="pulse"')
        await db(Change.objects.create, kind=Change.Kind.POLICY, key=1, at=datetime.now(UTC))
        assert "Something new" in await browser.frame('id="pill"')


async def test_a_workers_page_is_rendered_again_when_a_policy_has_changed(as_viewer: Client) -> None:
    worker = await db(factories.add, Health.ZOMBIE)
    async with connected(as_viewer, f"?worker={worker.pk}") as browser:
        await browser.frame('id="pulse"')
        await db(Change.objects.create, kind=Change.Kind.POLICY, key=1, at=datetime.now(UTC))
        assert f'data-worker="{worker.worker_id}"' in await browser.frame('id="autopilot"')
