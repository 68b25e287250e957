"""Incidents over the live socket: who is sent what, and that nothing is missed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.utils import timezone

from workers.health import Health
from workers.incident_store import AT_ONCE, tell
from workers.models import Change, Incident
from workers.queries.incident_query import IncidentQuery
from workers.screens import View

from . import factories
from .sockets import Socket, opened

pytestmark = pytest.mark.django_db(transaction=True)
T = TypeVar("T")


async def db(work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return await sync_to_async(work)(*args, **kwargs)


def two() -> tuple[Incident, Incident]:
    worker = factories.add(Health.STALLED, 1)
    return factories.incident(worker, "stalled"), factories.incident(worker, "overdue")


def resolve(incident: Incident) -> None:
    factories.change_incident(incident, resolved=datetime.now(UTC), how="recovered by itself")


def list_of(*shown: Incident, position: int | None = None, narrowed: str = "") -> str:
    rows = ",".join(str(each.pk) for each in shown)
    newest = max(each.pk for each in shown)
    text = f"/ws/live/?view=incidents&rows={rows}&newest={newest}{narrowed}"
    return text if position is None else f"{text}&position={position}"


def test_what_a_list_shows_is_read_from_the_query_string() -> None:
    view = View.parse("view=incidents&kind=zombie&rows=3,x,1&newest=7&position=5")
    kinds = IncidentQuery(kind=(view.incidents.kind[0],)) if view.incidents else None
    assert (view.incidents, view.troubles, view.newest, view.position) == (kinds, frozenset({1, 3}), 7, 5)
    assert View.parse("view=incident&incident=4") == View(incident=4)
    assert View.parse("view=incident&incident=x").incident is None
    assert View.parse("view=incident&incident=4").query is None


async def test_only_who_shows_an_incident_is_sent_its_row(as_viewer: Client) -> None:
    first, second = await db(two)
    async with opened(as_viewer, list_of(first)) as one, opened(as_viewer, list_of(second)) as other:
        showing, elsewhere = Socket(one), Socket(other)
        for browser in (showing, elsewhere):
            await browser.frame('id="pulse"')
        await db(resolve, first)
        row = await showing.frame(f'id="incident-{first.pk}"')
        assert row.lstrip().startswith("<tr")
        assert "recovered by itself" in row
        await elsewhere.frame('id="tiles"')
        assert not any(f'id="incident-{first.pk}"' in text for text in elsewhere.frames)


async def test_its_own_page_is_sent_its_card(as_viewer: Client) -> None:
    first, second = await db(two)
    async with opened(as_viewer, f"/ws/live/?view=incident&incident={first.pk}") as communicator:
        browser = Socket(communicator)
        await browser.frame('id="pulse"')
        await db(resolve, second)
        await db(resolve, first)
        card = await browser.frame('class="card incident')
        assert f'id="incident-card-{first.pk}"' in card


async def test_a_browser_that_comes_back_is_sent_what_it_missed_and_no_more(as_viewer: Client) -> None:
    first, second = await db(two)
    position = await db(factories.tell, [])
    await db(resolve, first)
    async with opened(as_viewer, list_of(first, second, position=position)) as communicator:
        browser = Socket(communicator)
        await browser.frame('id="tiles"')
        rows = [text for text in browser.frames if re.match(r"\s*<tr", text)]
        assert [f'id="incident-{first.pk}"' in text for text in rows] == [True]


async def test_after_very_many_changes_all_that_is_shown_is_sent(as_viewer: Client) -> None:
    first, second = await db(two)

    def many() -> None:
        Incident.objects.filter(pk=first.pk).update(resolved=timezone.now(), how="archived")
        tell(range(10**6, 10**6 + AT_ONCE + 1), timezone.now())

    async with opened(as_viewer, list_of(first, second)) as communicator:
        browser = Socket(communicator)
        await browser.frame('id="pulse"')
        await db(many)
        assert await db(lambda: Change.objects.filter(kind="incident", key=0).count()) == 1
        assert "archived" in await browser.frame(f'id="incident-{first.pk}"')
        assert any(f'id="incident-{second.pk}"' in text for text in browser.frames) or await browser.frame(
            f'id="incident-{second.pk}"'
        )


async def test_the_pill_counts_what_is_new_in_this_view_alone(as_viewer: Client) -> None:
    first, _ = await db(two)
    async with opened(as_viewer, list_of(first, narrowed="&kind=zombie")) as communicator:
        browser = Socket(communicator)
        await browser.frame('id="pill"')
        other = await db(factories.add, Health.ZOMBIE, 2)
        await db(factories.incident, other, "overdue")
        await db(factories.incident, other, "zombie")
        assert "1 new incident " in await browser.frame('id="pill".*new incident')


async def test_a_worker_s_page_follows_what_is_said_of_its_incidents(as_viewer: Client) -> None:
    first, _ = await db(two)
    async with opened(as_viewer, f"/ws/live/?worker={first.run_id}") as communicator:
        browser = Socket(communicator)
        await browser.frame('id="pulse"')
        await db(factories.change_incident, first, acknowledged=timezone.now(), acknowledged_by="anna")
        assert "acknowledged" in await browser.frame('id="troubles"')
