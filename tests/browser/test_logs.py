"""What somebody sees who reads a worker's log, while it grows."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from tests.conftest import Home
from workers.health import Health
from workers.models import Worker

from .conftest import Server, live

pytestmark = pytest.mark.own_server  # it reads the home of its test
LOG = "agents/workers/w-1/logs/stdout.log"


@pytest.fixture(autouse=True)
def _server_of_this_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is started after this, and reads the home from the environment that it inherits."""
    monkeypatch.setenv("COMMIT_RELAY_HOME", str(home.path))


@pytest.fixture
def worker(_server_of_this_home: None, transactional_db: None, home: Home) -> Worker:
    factories.poller(interval_seconds=3600)
    home.write(LOG, "".join(f"line {number:05}\n" for number in range(2000)))
    return factories.add(Health.HEALTHY, worker_id="w-1")


@pytest.fixture
def reader(worker: Worker, page: Page) -> Page:
    """A page on the worker's log, which it follows."""
    page.goto("/workers/w-1/logs/")
    following(page)
    return page


def following(page: Page) -> None:
    expect(page.locator("[data-log-state]")).to_have_text("following")


def last(page: Page) -> str:
    return str(page.locator(".log-box .l").last.inner_text())


def at_the_end(page: Page) -> bool:
    return bool(page.locator(".log-box").evaluate("(b) => b.scrollHeight - b.scrollTop - b.clientHeight < 30"))


def test_lines_that_are_appended_come_in_and_stay_in_view(reader: Page, home: Home) -> None:
    home.append(LOG, "\x1b[31mERROR\x1b[0m <b>bad</b> password=hunter2\n")
    line = reader.locator(".log-box .l").last
    expect(line).to_have_text("ERROR <b>bad</b> password=[redacted]")
    expect(line).to_have_class("l error")
    expect(line.locator(".ansi-red")).to_have_text("ERROR")
    assert at_the_end(reader)


def test_the_card_on_the_workers_page_follows_too(worker: Worker, page: Page, home: Home) -> None:
    page.goto("/workers/w-1/")
    live(page)
    following(page)
    home.append(LOG, "quite new\n")
    expect(page.locator("#log .l").last).to_have_text("quite new")
    factories.change(worker, progress_pct=73)
    expect(page.locator("#facts")).to_contain_text("73 %")
    expect(page.locator("#log .l").last).to_have_text("quite new")
    page.locator("#log").get_by_role("link", name="Open").click()
    expect(page.locator("h1")).to_have_text("w-1")


def test_a_pause_holds_the_page_still_until_it_goes_on(reader: Page, home: Home) -> None:
    reader.get_by_role("button", name="Pause").click()
    expect(reader.locator("[data-log-state]")).to_have_text("paused")
    home.append(LOG, "while paused\n")
    expect(reader.locator("[data-log-pause]")).to_have_text("Go on · 13 bytes waiting")
    assert last(reader) == "line 01999"
    reader.locator("[data-log-pause]").click()
    expect(reader.locator(".log-box .l").last).to_have_text("while paused")
    following(reader)


def test_reading_further_up_pauses_and_the_end_goes_on(reader: Page, home: Home) -> None:
    box = reader.locator(".log-box")
    box.hover()
    reader.mouse.wheel(0, -600)
    expect(reader.locator("[data-log-state]")).to_have_text("paused")
    top = box.evaluate("(b) => b.scrollTop")
    home.append(LOG, "meanwhile\n")
    expect(reader.locator("[data-log-pause]")).to_contain_text("waiting")
    assert box.evaluate("(b) => b.scrollTop") == top
    reader.mouse.wheel(0, 5000)
    expect(reader.locator(".log-box .l").last).to_have_text("meanwhile")
    following(reader)


def test_earlier_lines_come_in_above_without_a_jump(reader: Page) -> None:
    first = reader.locator(".log-box .l").first
    expect(first).to_have_text("line 01500")
    box = reader.locator(".log-box")
    reader.locator("[data-log-earlier]").click()
    expect(first).to_have_text("line 01000")
    middle = reader.get_by_text("line 01500")
    offset = middle.evaluate("(line) => line.getBoundingClientRect().top") - box.evaluate(
        "(b) => b.getBoundingClientRect().top"
    )
    assert 0 <= offset < 120
    for expected in ("line 00500", "line 00000"):
        reader.locator("[data-log-earlier]").click()
        expect(first).to_have_text(expected)
    expect(reader.locator("[data-log-earlier]")).to_have_count(0)


def test_a_search_leads_to_the_place_and_back_to_the_end(reader: Page) -> None:
    reader.keyboard.press("/")
    reader.keyboard.type("line 00077")
    reader.keyboard.press("Enter")
    expect(reader.locator("#found h2")).to_contain_text("1 line with “line 00077”")
    expect(reader.locator("#found mark")).to_have_text("line 00077")
    reader.locator("#found a").first.click()
    expect(reader.locator(".log-box .here")).to_have_text("line 00077")
    expect(reader.locator(".log-box .here")).to_be_in_viewport()
    assert "at=847" in reader.url
    reader.get_by_role("link", name="Go to the end").click()
    following(reader)


def test_wrapping_is_remembered(reader: Page, home: Home) -> None:
    home.append(LOG, "word " * 600 + "\n")
    box = reader.locator(".log-box")
    expect(reader.locator(".log-box .l").last).to_contain_text("word")
    assert box.evaluate("(b) => b.scrollWidth > b.clientWidth")
    reader.get_by_role("button", name="Wrap").click()
    assert box.evaluate("(b) => b.scrollWidth == b.clientWidth")
    reader.reload()
    following(reader)
    expect(reader.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    assert box.evaluate("(b) => b.scrollWidth == b.clientWidth")


def test_a_download_holds_the_whole_log(reader: Page, tmp_path: Path) -> None:
    with reader.expect_download() as download:
        reader.get_by_role("link", name="Download").click()
    path = tmp_path / "log"
    download.value.save_as(path)
    assert download.value.suggested_filename.endswith("-stdout.log")
    assert path.read_text().splitlines() == [f"line {number:05}" for number in range(2000)]


def test_a_rotation_is_said(reader: Page, home: Home) -> None:
    (home.path / LOG).rename(home.path / f"{LOG}.1")
    home.write(LOG, "fresh\n")
    expect(reader.locator(".log-box .l").last).to_have_text("fresh")
    # It is the one or the other by whether the follower had opened the file before; which is tested without a browser
    # Between the two it may have been looked for, and that it was gone is said before
    expect(reader.locator(".log-box .note").last).to_have_text(
        re.compile("The (log was rotated|file was replaced): here begins")
    )


def test_a_prompt_without_an_end_of_line_is_shown_once(reader: Page, home: Home) -> None:
    home.append(LOG, "Continue? ")
    expect(reader.locator(".log-box .l").last).to_have_text("Continue?")
    home.append(LOG, "yes\n")
    expect(reader.locator(".log-box .l").last).to_have_text("Continue? yes")
    expect(reader.get_by_text("Continue?")).to_have_count(1)


class Flood:
    """Lines of a log at a steady pace, as a worker writes them that has gone wild."""

    def __init__(self, path: Path, per_second: int, seconds: float) -> None:
        self.path, self.per_second, self.seconds = path, per_second, seconds
        self.thread = threading.Thread(target=self._write)
        self.written = 0

    def _write(self) -> None:
        began = time.monotonic()
        total = int(self.per_second * self.seconds)
        with self.path.open("a", buffering=1 << 16) as log:
            while self.written < total:
                due = min(total, int((time.monotonic() - began) * self.per_second))
                for number in range(self.written, due):
                    log.write(f"2026-11-24T07:00:00Z INFO flood {number} of something that is said over and over\n")
                log.flush()
                self.written = due
                time.sleep(0.01)
            log.write("the very end\n")

    def __enter__(self) -> Flood:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join()


@pytest.fixture
def flood(home: Home, reader: Page) -> Flood:
    return Flood(home.path / LOG, 5_000, 3.0)


def test_five_thousand_lines_a_second_leave_the_page_responsive(reader: Page, flood: Flood) -> None:
    slowest = 0.0
    with flood:
        while flood.thread.is_alive():
            began = time.monotonic()
            pressed = reader.locator("[data-log-wrap]").get_attribute("aria-pressed")
            reader.locator("[data-log-wrap]").click()
            expect(reader.locator("[data-log-wrap]")).not_to_have_attribute("aria-pressed", pressed or "")
            slowest = max(slowest, time.monotonic() - began)
    ended = time.monotonic()
    expect(reader.locator(".log-box .l").last).to_have_text("the very end", timeout=5000)
    behind = time.monotonic() - ended
    assert slowest < 1.0, f"a click took {slowest:.2f} s"
    assert behind < 2.0, f"the last line came {behind:.2f} s after it was written"
    assert reader.locator(".log-box .l").count() <= 6_000
    assert at_the_end(reader)
    print(f"slowest click {slowest * 1000:.0f} ms, last line {behind * 1000:.0f} ms, load {os.getloadavg()[0]:.1f}")


def test_a_gigabyte_opens_at_once(worker: Worker, page: Page, home: Home) -> None:
    with (home.path / LOG).open("r+b") as log:
        log.truncate(1 << 30)
        log.seek(0, os.SEEK_END)
        log.write(b"\nthe end of it\n")
    began = time.monotonic()
    page.goto("/workers/w-1/logs/")
    expect(page.locator(".log-box .l").last).to_have_text("the end of it")
    assert time.monotonic() - began < 3


def test_without_javascript_it_is_a_page(worker: Worker, page: Page, server: Server, home: Home) -> None:
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(base_url=server.url, java_script_enabled=False)
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto("/workers/w-1/logs/")
    expect(plain.locator(".log-box")).to_contain_text("line 01999")
    home.append(LOG, "news\n")
    plain.reload()
    expect(plain.locator(".log-box")).to_contain_text("news")
    plain.get_by_role("link", name="Earlier lines").click()
    expect(plain.locator(".log-box")).to_contain_text("line 01400")
    plain.locator("#q").fill("line 00003")
    plain.get_by_role("button", name="Search").click()
    plain.locator("#found a").first.click()
    expect(plain.locator(".here")).to_have_text("line 00003")
    expect(plain.locator(".needs-js:visible")).to_have_count(0)
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_text_can_be_read_and_nothing_scrolls_sideways(
    worker: Worker, page: Page, home: Home, theme: str, width: int
) -> None:
    colours = " ".join(f"\x1b[{code}m{code}\x1b[0m" for code in (*range(30, 38), *range(40, 48), 1, 2, 3, 4, 7, 9))
    home.append(LOG, f"{colours}\nERROR: {colours}\n" + "z" * 9000 + "\n1 %\r2 %\n")
    os.mkfifo(home.path / "agents/workers/w-1/logs/pipe.log")
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/workers/w-1/logs/?q=error")
    following(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(POOR) == []


#: Texts whose contrast against what is behind them is under 4.5 to 1. Colours are drawn, since they may be mixed.
POOR = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const over = ([r, g, b, a], [x, y, z]) => [r, g, b].map((c, i) => c * a / 255 + [x, y, z][i] * (1 - a / 255));
  const light = (c) => c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => { const stack = []; for (let e = element; e; e = e.parentElement) stack.unshift(e);
    return stack.reduce((under, e) => over(rgba(getComputedStyle(e).backgroundColor), under), [255, 255, 255]); };
  const poor = [];
  for (const element of document.querySelectorAll("main *")) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || !element.checkVisibility() || element.closest("template, .visually-hidden")) continue;
    const back = behind(element);
    const [one, two] = [light(over(rgba(getComputedStyle(element).color), back)), light(back)].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (two + 0.05);
    if (contrast < 4.5) poor.push(`${contrast.toFixed(2)} ${element.className} ${element.textContent.slice(0, 30)}`);
  }
  return poor;
}"""
