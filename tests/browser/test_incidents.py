"""Incidents as somebody on duty sees them: they come, they are taken on, they end; nothing jumps."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from playwright.sync_api import Page, expect

from tests import factories
from tests.conftest import client_of
from workers.health import Health
from workers.incident_store import hide_told
from workers.models import Incident, Poller, RootCause, Worker

from .conftest import Server, live
from .test_fleet_filters import CONTRAST


def ago(**parts: float) -> datetime:
    return datetime.now(UTC) - timedelta(**parts)


@pytest.fixture
def workers(transactional_db: None) -> list[Worker]:
    factories.poller()
    return [factories.add(Health.STALLED, number) for number in range(1, 5)]


@pytest.fixture
def operator_page(visitor: Page, server: Server, operator: User) -> Page:
    cookie = client_of(operator).cookies[settings.SESSION_COOKIE_NAME]
    visitor.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])
    return visitor


def row(page: Page, incident: Incident) -> Any:
    return page.locator(f"#incident-{incident.pk}")


def names(page: Page) -> list[str]:
    return page.locator("#incidents th.id a[data-move]").all_inner_texts()


def test_a_new_one_waits_in_a_pill_and_shows_when_asked_for(page: Page, workers: list[Worker]) -> None:
    factories.incident(workers[0], detected=ago(minutes=5))
    page.goto("/incidents/")
    live(page)
    for worker in workers[1:]:
        factories.incident(worker)
    pill = page.locator("#pill a")
    expect(pill).to_have_text("3 new incidents · show")
    expect(page.locator("#tiles .stalled b")).to_have_text("4")
    expect(page.locator("#states a[aria-current] b")).to_have_text("4")
    assert names(page) == [workers[0].worker_id], "nothing comes in under the pointer"
    pill.click()
    expect(page.locator("#incidents tr[data-incident]")).to_have_count(4)
    expect(pill).to_have_count(0)
    fifth = factories.incident(workers[0], "overdue")
    expect(pill).to_have_text("1 new incident · show")
    factories.change_incident(fifth, resolved=datetime.now(UTC), how="completed")
    expect(pill).to_have_count(0)


def test_one_that_ends_says_so_in_its_place(page: Page, workers: list[Worker]) -> None:
    found = [factories.incident(each, detected=ago(minutes=n)) for n, each in enumerate(workers)]
    page.goto("/incidents/")
    live(page)
    before = names(page)
    repair = factories.repair(workers[2], "done", actor="anna")
    factories.change_incident(found[2], resolved=datetime.now(UTC), how="remediation", remediation=repair)
    expect(row(page, found[2]).locator(".state")).to_contain_text("clean up by anna")
    expect(row(page, found[2]).get_by_role("button")).to_have_count(0)
    assert names(page) == before
    expect(page.locator("#tiles .stalled b")).to_have_text("3")


def test_an_operator_acknowledges_with_a_reason_and_another_sees_it_at_once(
    operator_page: Page, workers: list[Worker], viewer: User, server: Server
) -> None:
    page = operator_page
    first, second, third = (factories.incident(each) for each in workers[:3])
    cookie = client_of(viewer).cookies[settings.SESSION_COOKIE_NAME]
    other = page.context.browser.new_context(base_url=server.url)  # type: ignore[union-attr]
    other.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])
    watching = other.new_page()
    watching.goto("/incidents/")
    live(watching)
    page.goto("/incidents/")
    live(page)
    page.get_by_label("Reason, for the record").fill("I look at it")
    row(page, first).get_by_role("button", name="Acknowledge").click()
    expect(row(page, first).locator(".state")).to_contain_text("by operator")
    expect(row(page, first).locator(".state")).to_contain_text("“I look at it”")
    expect(page.locator("#said")).to_have_text("1 incident acknowledged.")
    expect(row(watching, first).locator(".state")).to_contain_text("by operator")
    expect(row(page, second).locator(".word")).to_have_text("▲ new")
    row(page, second).get_by_role("checkbox").check()
    row(page, third).get_by_role("checkbox").check()
    page.get_by_label("Reason, for the record").fill("both of them")
    page.get_by_role("button", name="Acknowledge 2 ticked").click()
    expect(row(page, third).locator(".state")).to_contain_text("“both of them”")
    expect(row(page, second).locator(".state")).to_contain_text("“both of them”")
    assert set(Incident.objects.values_list("acknowledged_reason", flat=True)) == {"I look at it", "both of them"}
    other.close()


def test_a_viewer_may_acknowledge_nothing_also_after_a_push(page: Page, workers: list[Worker]) -> None:
    found = factories.incident(workers[0])
    page.goto("/incidents/")
    live(page)
    button = row(page, found).get_by_role("button")
    expect(button).to_be_disabled()
    expect(button).to_have_attribute("title", re.compile("Your role may not do that"))
    expect(page.get_by_label("Reason, for the record")).to_be_disabled()
    expect(row(page, found).get_by_role("checkbox")).to_be_disabled()
    factories.change_incident(found, acknowledged=datetime.now(UTC), acknowledged_by="anna")
    expect(row(page, found).locator(".word")).to_have_text("◆ acknowledged")
    factories.change_incident(found, acknowledged=None, acknowledged_by="")
    expect(row(page, found).get_by_role("button")).to_be_disabled()


def test_its_own_page_follows_it_and_takes_reason_note_and_cause(operator_page: Page, workers: list[Worker]) -> None:
    page, found = operator_page, factories.incident(workers[0])
    cause = RootCause.objects.create(name="Disk full", description="No space was left.")
    page.goto(f"/incidents/{found.pk}/")
    live(page)
    card = page.locator(".incident")
    page.get_by_label("Reason, for the record").fill("mine")
    page.get_by_role("button", name="Acknowledge").click()
    expect(card).to_contain_text("Acknowledged by operator")
    page.get_by_label("Root cause").select_option("Disk full")
    page.get_by_role("button", name="Label it").click()
    expect(card).to_contain_text("No space was left.")
    page.get_by_label("Note").fill("df says 100 %")
    page.get_by_role("button", name="Save the note").click()
    expect(card).to_contain_text("Note by operator")
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("button", name="Acknowledge")).to_be_visible()
    factories.change_incident(found, resolved=datetime.now(UTC), how="recovered by itself")
    expect(card).to_have_attribute("data-state", "resolved")
    expect(card.locator(".moments")).to_contain_text("recovered by itself")
    found.refresh_from_db()
    assert (found.root_cause, found.note, found.acknowledged) == (cause, "df says 100 %", None)


def test_the_worker_s_page_shows_what_goes_wrong_with_it(page: Page, workers: list[Worker]) -> None:
    page.goto(f"/workers/{workers[0].worker_id}/")
    live(page)
    expect(page.locator("#troubles")).to_contain_text("Nothing has gone wrong with it.")
    found = factories.incident(workers[0])
    expect(page.locator("#troubles .badge")).to_have_text("◔Stalled")
    factories.change_incident(found, acknowledged=datetime.now(UTC), acknowledged_by="anna")
    expect(page.locator("#troubles .ended")).to_have_text("acknowledged")
    page.locator("#troubles").get_by_role("link", name="all").click()
    expect(page).to_have_url(re.compile(rf"/incidents/\?run={workers[0].pk}&state=all$"))
    expect(page.locator("#incidents tr[data-incident]")).to_have_count(1)


def test_it_narrows_while_somebody_types_and_by_kind_and_goes_on_live(page: Page, workers: list[Worker]) -> None:
    for worker in workers:
        factories.incident(worker)
    crashed = factories.incident(workers[0], "crashed")
    page.goto("/incidents/")
    live(page)
    page.locator("body").press("/")
    page.keyboard.type(workers[1].worker_id)
    expect(page.locator("#incidents tr[data-incident]")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"q=worker"))
    expect(page.locator("#tiles .crashed b")).to_have_text("0")
    factories.incident(workers[1], "overdue")
    expect(page.locator("#pill a")).to_have_text("1 new incident · show")
    page.goto("/incidents/")
    page.locator("#tiles .crashed").click()
    expect(page.locator("#incidents tr[data-incident]")).to_have_count(1)
    expect(row(page, crashed)).to_be_visible()
    page.get_by_label("Detected within").select_option("1h")
    expect(page).to_have_url(re.compile(r"kind=crashed.*within=1h"))
    page.locator("#q").fill("nowhere to be found")
    expect(page.locator(".empty h2")).to_have_text("No incident matches")


def test_the_keyboard_moves_ticks_and_opens(operator_page: Page, workers: list[Worker]) -> None:
    page = operator_page
    first, second = (factories.incident(each, detected=ago(minutes=n)) for n, each in enumerate(workers[:2]))
    page.goto("/incidents/")
    live(page)
    for key in ("j", "j", "k", "x", "j"):
        page.keyboard.press(key)
    expect(row(page, first).get_by_role("checkbox")).to_be_checked()
    expect(row(page, second).get_by_role("checkbox")).not_to_be_checked()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/incidents/{second.pk}/$"))


def test_it_works_without_javascript(operator_page: Page, server: Server, workers: list[Worker]) -> None:
    first, second = (factories.incident(each) for each in workers[:2])
    context = operator_page.context.browser.new_context(base_url=server.url, java_script_enabled=False)  # type: ignore[union-attr]
    context.add_cookies(operator_page.context.cookies())  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto("/incidents/?state=all")
    plain.get_by_label("Reason, for the record").fill("by hand")
    row(plain, first).get_by_role("checkbox").check()
    plain.get_by_role("button", name="Acknowledge what is ticked").click()
    expect(plain).to_have_url(re.compile(r"/incidents/\?state=all$"))
    expect(plain.get_by_role("alert")).to_contain_text("1 incident acknowledged.")
    expect(row(plain, first).locator(".state")).to_contain_text("“by hand”")
    row(plain, second).get_by_role("button", name="Acknowledge").click()
    expect(row(plain, second).locator(".state")).to_contain_text("by operator")
    row(plain, second).locator("a[data-move]").click()
    plain.get_by_role("button", name="Take it back").click()
    expect(plain.get_by_role("button", name="Acknowledge")).to_be_visible()
    plain.goto("/incidents/")
    plain.locator("#q").fill("nowhere")
    plain.get_by_role("button", name="Apply").click()
    expect(plain.locator(".empty h2")).to_have_text("No incident matches")
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_all_can_be_read(operator_page: Page, workers: list[Worker], theme: str) -> None:
    page, long = operator_page, "worker-implementation-001-a-name-that-goes-on-" * 4
    cause = RootCause.objects.create(name="A label as long as labels may be, and then some more of it " * 1)
    fields = {"root_cause": cause, "note": long, "note_by": "anna", "acknowledged_by": "anna"}
    found = factories.incident(None, "zombie", worker_id=long, cause=long, acknowledged=ago(minutes=1), **fields)
    factories.incident(workers[0], "failed", began_known=False, resolved=datetime.now(UTC), how="archived")
    for kind in ("crashed", "overdue"):
        factories.incident(workers[1], kind, from_log=True, number=ord(kind[0]))
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for address in ("/incidents/?state=all", f"/incidents/{found.pk}/", "/incidents/?q=nothing-like-it"):
            Poller.objects.update(last_cycle_at=datetime.now(UTC))
            page.goto(address)
            live(page)
            if fold := page.locator(".words summary").all():
                fold[0].click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.evaluate(CONTRAST) == [], address


def test_a_logged_one_that_is_seen_live_now_leaves_the_list(page: Page, workers: list[Worker]) -> None:
    logged = factories.incident(workers[0], detected=ago(minutes=50), from_log=True, number=1)
    page.goto("/incidents/")
    live(page)
    expect(row(page, logged)).to_be_visible()
    factories.incident(workers[0], began=ago(minutes=60))
    with transaction.atomic():
        hide_told([workers[0].pk], datetime.now(UTC))
    expect(row(page, logged)).to_have_count(0)
