"""The row of lights: how the product itself does, under every page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Locator, Page, expect

from tests import factories
from workers.health import Health
from workers.models import Channel, Poller

from .conftest import Server, live


@pytest.fixture(autouse=True)
def poller(transactional_db: None) -> Poller:
    return factories.poller(interval_seconds=3600)


def light(page: Page, name: str) -> Locator:
    return page.locator("#lights .light").filter(has=page.get_by_role("button", name=name))


def test_a_light_says_its_sentence_to_the_keyboard_and_to_the_pointer(page: Page) -> None:
    page.goto("/")
    live(page)
    tip = light(page, "PM daemon").locator(".says")
    expect(tip).to_be_hidden()
    light(page, "PM daemon").get_by_role("button").focus()
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("It runs.")
    page.keyboard.press("Tab")
    page.mouse.move(1, 1)
    light(page, "Database").get_by_role("button").hover()
    expect(light(page, "Database").locator(".says")).to_be_visible()
    expect(light(page, "PM daemon").get_by_role("button")).to_have_accessible_description("It runs. Look")


def test_a_poller_that_falls_silent_turns_its_light_without_the_server(page: Page, server: Server) -> None:
    """The server says that all is well and then never again; the browser counts for itself."""
    factories.poller(interval_seconds=2, last_cycle_at=datetime.now(UTC) + timedelta(seconds=2))
    page.route_web_socket("**/ws/live/**", lambda socket: None)  # accepted, and nothing ever comes
    page.goto("/")
    assert page.locator("#lights .light.bad").count() == 0
    poller = light(page, "Poller")
    expect(poller).to_have_class("light ok watchman")
    expect(poller.locator(".says")).to_be_hidden()
    expect(poller).to_have_class("light ok watchman stale", timeout=15_000)
    expect(poller.locator(".says")).to_be_visible()
    expect(poller.locator(".as-silent")).to_contain_text("No word from it since")
    expect(poller.locator("button .as-told")).to_be_hidden()
    expect(light(page, "PM daemon").locator(".as-told").last).to_be_hidden()


def test_a_light_turns_by_a_push_and_back(page: Page) -> None:
    page.goto("/")
    live(page)
    page.evaluate("window.sameDocument = true")
    channel = Channel.objects.create(name="ops mail", address="json://localhost", failing_since=datetime.now(UTC))
    channels = light(page, "Channels")
    expect(channels).to_have_class("light bad")
    expect(channels.locator(".says")).to_be_visible()
    expect(channels.locator(".says")).to_contain_text("“ops mail” fails: alerts do not get through")
    Channel.objects.filter(pk=channel.pk).update(failing_since=None)
    expect(channels).to_have_class("light ok")
    assert page.evaluate("window.sameDocument")


def test_the_keyboard_stays_on_a_light_that_is_pushed(page: Page) -> None:
    page.goto("/")
    live(page)
    button = light(page, "Channels").get_by_role("button")
    button.focus()
    Channel.objects.create(name="ops mail", address="json://localhost")
    expect(light(page, "Channels")).to_have_class("light ok")
    expect(button).to_be_focused()


@pytest.mark.may_complain("WebSocket|ERR_CONNECTION_(REFUSED|RESET)|htmx:|object Event")
def test_a_server_that_does_not_answer_is_said_by_its_own_light(page: Page, server: Server) -> None:
    page.goto("/")
    live(page)
    server.stop()
    expect(page.locator("#live")).to_have_attribute("data-state", "reconnecting")
    page.mouse.move(1, 1)
    light(page, "Web").get_by_role("button").focus()
    expect(light(page, "Web").locator(".says")).to_have_text("It does not answer.", use_inner_text=True)


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_row_fits_the_page(page: Page, width: int, scheme: str) -> None:
    factories.poller("host-b", disk_free_bytes=2_000_000_000, disk_total_bytes=100_000_000_000, pm_alive=False)
    Channel.objects.create(name="ops mail", address="json://localhost", failing_since=datetime.now(UTC))
    factories.add(Health.ZOMBIE)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/")
    live(page)
    expect(page.locator("#lights .light.bad")).to_have_count(3)
    for button in page.locator("#lights button").all():
        button.focus()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#lights .light:focus-within .says").bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
