"""Finding workers: tiles, search, facets, order, pages, keyboard; with JavaScript and without."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests import factories
from tests.running import until
from workers.health import Health
from workers.models import Worker

from .conftest import Server, live


@pytest.fixture(autouse=True)
def _fleet(transactional_db: None) -> None:
    factories.poller(interval_seconds=3600)
    factories.add(Health.ZOMBIE, 1, worker_id="zombie-scan", worker_type="scan-worker")
    factories.add(Health.ZOMBIE, 2, worker_id="zombie-fix", worker_type="fix-worker")
    factories.add(Health.HEALTHY, 3, worker_id="healthy-scan", worker_type="scan-worker", description="the gateway")
    factories.add(Health.FAILED, 4, worker_id="failed-fix", worker_type="fix-worker")


@pytest.fixture
def plain(page: Page, server: Server) -> Iterator[Page]:
    """The same viewer in a browser without JavaScript."""
    context = page.context.browser.new_context(base_url=server.url, java_script_enabled=False)
    context.add_cookies(page.context.cookies())
    yield context.new_page()
    context.close()


def expect_ids(page: Page, *ids: str) -> None:
    expect(page.locator("#list th.id a")).to_have_text(list(ids))


def test_a_tile_filters_and_the_address_says_so(page: Page) -> None:
    page.goto("/")
    live(page)
    page.locator("#tiles .zombie").click()
    expect_ids(page, "zombie-scan", "zombie-fix")
    expect(page).to_have_url(re.compile(r"/\?health=zombie$"))
    expect(page.locator("#tiles .zombie")).to_have_attribute("aria-current", "true")
    expect(page.locator("#shown")).to_have_text("2 that match shown; 3 live workers")
    page.locator("#tiles .zombie").click()
    expect_ids(page, "zombie-scan", "zombie-fix", "healthy-scan")
    expect(page).to_have_url(re.compile(r"/$"))
    page.go_back()
    expect_ids(page, "zombie-scan", "zombie-fix")


def test_counts_of_the_view_before_change_nothing(page: Page) -> None:
    """The server may have counted just before somebody filtered, and its answer come after."""
    tiles: list[str | bytes] = []
    sockets: list[WebSocketRoute] = []

    def between(socket: WebSocketRoute) -> None:
        def pass_on(message: str | bytes) -> None:
            if 'id="tiles"' in str(message):
                tiles.append(message)
            if message not in tiles[1:]:  # what comes later would heal it
                socket.send(message)

        sockets.append(socket)
        socket.connect_to_server().on_message(pass_on)

    page.route_web_socket(re.compile("/ws/live/"), between)
    page.goto("/")
    live(page)
    until(lambda: bool(page.evaluate("1") and tiles), 10, "a count of the unfiltered fleet")
    page.locator("#tiles .zombie").click()
    expect_ids(page, "zombie-scan", "zombie-fix")
    sockets[-1].send(tiles[0])
    factories.change(Worker.objects.get(worker_id="zombie-fix"), worker_type="review-worker")
    expect(page.locator("#list tr", has_text="zombie-fix")).to_contain_text("review-worker")
    expect(page.locator("#tiles .zombie")).to_have_attribute("aria-current", "true")


def test_a_tile_of_ended_runs_shows_them(page: Page) -> None:
    page.goto("/")
    page.locator("#tiles .failed").click()
    expect_ids(page, "failed-fix")


def test_search_looks_while_somebody_types_and_keeps_the_other_filters(page: Page) -> None:
    page.goto("/?health=zombie,healthy")
    live(page)
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("type:scan gateway")
    expect_ids(page, "healthy-scan")
    expect(page.locator("#q")).to_be_focused()
    expect(page).to_have_url(re.compile(r"health=zombie,healthy&q=type%3Ascan\+gateway"))


def test_a_facet_narrows_and_its_counts_follow(page: Page) -> None:
    page.goto("/")
    live(page)
    page.get_by_label("All types").select_option("fix-worker")
    expect_ids(page, "zombie-fix")
    expect(page.locator("#tiles .zombie b")).to_have_text("1")
    expect(page.get_by_label("All masters").locator("option")).to_have_count(2)
    page.get_by_role("link", name="Clear filters").click()
    expect_ids(page, "zombie-scan", "zombie-fix", "healthy-scan")


def test_what_cannot_be_used_is_said(page: Page) -> None:
    page.goto("/?health=dead&sort=colour&q=is:late")
    expect(page.locator(".ignored")).to_contain_text("health “dead”")
    expect(page.locator(".ignored")).to_contain_text("is:late")
    expect(page.locator("#list tr[data-run]")).to_have_count(3)


def test_nothing_found_leads_back(page: Page) -> None:
    page.goto("/?q=nowhere")
    expect(page.locator("[data-empty='no match']")).to_contain_text("3 live workers are hidden by the filter")
    page.locator("[data-empty]").get_by_role("link", name="Clear filters").click()
    expect(page.locator("#list tr[data-run]")).to_have_count(3)


def test_columns_sort_both_ways(page: Page) -> None:
    page.goto("/")
    live(page)
    page.get_by_role("link", name="Worker", exact=True).click()
    expect_ids(page, "healthy-scan", "zombie-fix", "zombie-scan")
    expect(page.locator("th[aria-sort]")).to_have_text("Worker ↑")
    page.locator("th[aria-sort] a").click()
    expect_ids(page, "zombie-scan", "zombie-fix", "healthy-scan")


def test_pages_turn(page: Page) -> None:
    factories.add_fleet(60)
    page.goto("/?sort=worker")
    live(page)
    expect(page.locator("#list tr[data-run]")).to_have_count(50)
    page.get_by_role("link", name="Next →").click()
    expect(page.locator(".pager")).to_contain_text("Page 2 of 2")
    expect(page).to_have_url(re.compile(r"\?sort=worker&page=2"))
    page.get_by_role("link", name="100").click()
    expect(page).to_have_url(re.compile(r"\?sort=worker&size=100"))


def test_the_keyboard_moves_selects_opens_and_filters(page: Page) -> None:
    page.goto("/")
    live(page)
    page.keyboard.press("j")
    expect(page.locator("#list th.id a").nth(0)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#selection")).to_contain_text("1 selected")
    expect(page.locator("#list input[name=run]").nth(1)).to_be_checked()
    page.keyboard.press("k")
    expect(page.locator("#list th.id a").nth(0)).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    expect_ids(page, "zombie-scan", "zombie-fix")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("zombie-scan")


def test_a_range_is_selected_with_shift_and_its_ids_are_copied(page: Page) -> None:
    page.goto("/")
    live(page)
    boxes = page.locator("#list input[name=run]")
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    expect(page.locator("#selection")).to_contain_text("3 selected")
    page.get_by_role("button", name="Copy ids").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "zombie-scan\nzombie-fix\nhealthy-scan"
    page.locator("#tiles .healthy").click()
    expect(page.locator("#selection")).to_contain_text("3 selected, 2 not on this page")
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#selection")).to_be_hidden()


def test_everything_works_without_javascript(plain: Page) -> None:
    plain.goto("/")
    expect(plain.locator("#live")).to_contain_text("reload for news")
    plain.locator("#tiles .zombie").click()
    expect_ids(plain, "zombie-scan", "zombie-fix")
    plain.locator("#q").fill("scan")
    plain.get_by_role("button", name="Apply").click()
    expect_ids(plain, "zombie-scan")
    plain.get_by_label("All types").select_option("scan-worker")
    plain.locator("#q").fill("nowhere")
    plain.get_by_role("button", name="Apply").click()
    expect(plain.locator("[data-empty='no match']")).to_be_visible()
    plain.get_by_role("link", name="Clear filters").first.click()
    plain.get_by_role("link", name="Worker", exact=True).click()
    expect_ids(plain, "healthy-scan", "zombie-fix", "zombie-scan")
    expect(plain.locator("#list .pick").first).to_be_hidden()


@pytest.mark.parametrize("path", ["/", "/workers/zombie-scan/", "/?q=nowhere", "/nowhere/", "/accounts/login/"])
@pytest.mark.may_complain("status of 404")
def test_nothing_scrolls_sideways_on_a_telephone(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read_in_both_themes(page: Page, theme: str, admin_user: object) -> None:
    """The contrast of every text on the page of components is at least 4.5 to 1 (WCAG AA)."""
    page.context.clear_cookies()
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto("/accounts/login/?next=/components/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Components")).to_be_visible()
    assert page.evaluate(CONTRAST) == []


#: Paints each colour on a canvas, since a computed one may be color-mix or oklab, and lays backgrounds over each other.
CONTRAST = """() => {
    const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        pixel.clearRect(0, 0, 1, 1);
        pixel.fillStyle = colour;
        pixel.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3]));
    const behind = (element) => {
        const layers = [];
        for (let each = element; each; each = each.parentElement) {
            layers.push(rgba(getComputedStyle(each).backgroundColor));
        }
        return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    const light = (rgb) => {
        const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = rgb.map((value) => linear(value / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const poor = [];
    for (const element of document.querySelectorAll("main *, header *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        if (element.matches(":disabled, option, .visually-hidden, .visually-hidden *")) continue;
        const below = behind(element);
        const ink = over(rgba(getComputedStyle(element).color), below);
        const [one, two] = [light(ink), light(below)].sort((a, b) => b - a);
        const contrast = (one + 0.05) / (two + 0.05);
        const what = `${element.className} ${element.textContent.trim().slice(0, 30)}`;
        if (contrast < 4.5) poor.push(`${contrast.toFixed(2)} ${what}`);
    }
    return [...new Set(poor)];
}"""
