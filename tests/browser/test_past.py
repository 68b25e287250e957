"""Going back in time with a browser: to a moment, step by step, narrowed, compared, and back to now."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from workers.health import Health
from workers.models import Change, HealthChange, PollerGap, Worker

from .conftest import Server, live
from .test_fleet_filters import CONTRAST

#: Yesterday at noon: whole minutes, so that a field of a form can say it.
THEN = (datetime.now(UTC) - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)


def stamp(minutes: float) -> str:
    return (THEN + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(name: str, number: int, *history: tuple[int, str], **fields: object) -> Worker:
    """A run with this history: (minutes from THEN, verdict)."""
    began = THEN + timedelta(minutes=history[0][0])
    worker = factories.add(Health(history[-1][1]), number, worker_id=name, first_seen_at=began, **fields)
    HealthChange.objects.filter(worker=worker).delete()
    HealthChange.objects.bulk_create(
        HealthChange(worker=worker, at=THEN + timedelta(minutes=minute), new=new, reason=f"It looked {new}")
        for minute, new in history
    )
    return worker


@pytest.fixture(autouse=True)
def turned(transactional_db: None) -> Worker:
    """A worker that turned zombie half an hour after THEN, among others; from two hours on nobody watched for one."""
    factories.poller(interval_seconds=3600, started_at=THEN - timedelta(days=1))
    turned = run("turned", 1, (-60, "healthy"), (30, "zombie"), worker_type="scan-worker")
    run("steady", 2, (-60, "healthy"), worker_type="fix-worker")
    run("came", 3, (10, "healthy"), worker_type="fix-worker")
    PollerGap.objects.create(host="host-a", began=THEN + timedelta(hours=2), ended=THEN + timedelta(hours=3))
    return turned


@pytest.fixture
def plain(page: Page, server: Server) -> Iterator[Page]:
    """The same viewer in a browser without JavaScript."""
    context = page.context.browser.new_context(base_url=server.url, java_script_enabled=False)
    context.add_cookies(page.context.cookies())
    yield context.new_page()
    context.close()


def expect_ids(page: Page, *ids: str) -> None:
    expect(page.locator("#past th.id a")).to_have_text(list(ids))


def state_of(page: Page, worker_id: str) -> str:
    return (
        page.locator("#past tr", has=page.get_by_role("link", name=worker_id, exact=True))
        .locator(".state")
        .inner_text()
    )


def test_from_the_fleet_to_a_moment_and_back_to_now(page: Page) -> None:
    page.goto("/")
    page.get_by_text("As it was…").click()
    page.get_by_label("Moment, in UTC").fill(THEN.strftime("%Y-%m-%dT%H:%M:%S"))
    page.get_by_role("button", name="Go there").click()
    expect(page).to_have_title(f"Fleet on {THEN:%Y-%m-%d %H:%M} UTC · Relay Web")
    expect(page.locator("#band h1")).to_have_text(f"The fleet as it was on {THEN:%Y-%m-%d %H:%M:%S} UTC")
    expect(page.locator(".not-live")).to_be_visible()
    expect_ids(page, "turned", "steady")
    page.get_by_role("link", name="Back to now").click()
    live(page)
    expect(page).to_have_url(re.compile(r"/$"))
    expect(page.locator("#list th.id a")).to_have_text(["turned", "steady", "came"])


def test_what_narrows_the_fleet_narrows_the_moment_too(page: Page) -> None:
    page.goto("/?health=healthy,zombie")
    live(page)
    page.get_by_label("All types").select_option("scan-worker")
    expect(page.locator("#list th.id a")).to_have_text(["turned"])
    page.get_by_text("As it was…").click()
    page.get_by_label("Moment, in UTC").fill(THEN.strftime("%Y-%m-%dT%H:%M:%S"))
    page.get_by_role("button", name="Go there").click()
    expect_ids(page, "turned")
    expect(page).to_have_url(re.compile(r"health=zombie(,|%2C)healthy&worker_type=scan-worker$"))


def test_steps_lead_through_time(page: Page) -> None:
    page.goto(f"/?at={stamp(0)}")
    page.get_by_role("link", name="Next change").click()
    expect(page.locator("#band h1")).to_contain_text(f"{THEN + timedelta(minutes=10):%H:%M:%S}")
    expect_ids(page, "turned", "steady", "came")
    page.get_by_role("link", name="Next change").click()
    expect_ids(page, "turned", "steady", "came")
    assert "Zombie" in state_of(page, "turned")
    page.get_by_role("link", name="−10 min").click()
    assert "Healthy" in state_of(page, "turned")
    page.get_by_role("link", name="+1 h").click()
    expect(page.locator("#band h1")).to_contain_text(f"{THEN + timedelta(minutes=80):%H:%M:%S}")
    page.get_by_role("link", name="+1 h").click()
    expect(page.locator("#past .banner")).to_contain_text("Nobody watched host-a at this moment")
    assert "last known: zombie, 14:00:00" in state_of(page, "turned")


def test_tiles_words_and_columns_narrow_without_leaving_the_moment(page: Page) -> None:
    page.goto(f"/?at={stamp(40)}")
    page.locator("#tiles .zombie").click()
    expect_ids(page, "turned")
    expect(page).to_have_url(re.compile(r"health=zombie$"))
    expect(page.locator("#tiles .zombie")).to_have_attribute("aria-current", "true")
    page.locator("#tiles .zombie").click()
    page.get_by_label("All types").select_option("fix-worker")
    expect_ids(page, "steady", "came")
    page.get_by_label("All types").select_option("")
    expect_ids(page, "turned", "steady", "came")
    page.keyboard.press("/")
    page.keyboard.type("looked zombie")
    expect_ids(page, "turned")
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#band").get_by_role("link", name="−1 h")).to_have_attribute(
        "href", re.compile(r"q=looked\+zombie")
    )
    page.get_by_role("link", name="Clear filters").first.click()
    expect_ids(page, "turned", "steady", "came")
    expect(page.locator("#band h1")).to_contain_text(f"{THEN + timedelta(minutes=40):%H:%M:%S}")


def test_two_moments_are_compared(page: Page) -> None:
    page.goto(f"/?at={stamp(0)}")
    page.get_by_label("The moment to compare with, in UTC").fill(f"{THEN + timedelta(minutes=40):%Y-%m-%dT%H:%M:%S}")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#band h1")).to_contain_text("What changed from")
    expect_ids(page, "turned", "came")
    expect(page.locator("#tiles h2")).to_contain_text("2 runs differ · 1 new · 1 unchanged")
    page.get_by_role("link", name="1 from healthy to zombie").click()
    expect_ids(page, "turned")
    expect(page.get_by_role("link", name="1 from healthy to zombie")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="1 from healthy to zombie").click()
    expect_ids(page, "turned", "came")


def test_a_change_of_the_present_does_not_touch_the_page(page: Page, turned: Worker) -> None:
    """The page beside it, which is live, shows that the change has arrived."""
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(f"/?at={stamp(40)}")
    before = page.locator("main").inner_html()
    beside = page.context.new_page()
    beside.goto("/")
    live(beside)
    factories.change(turned, health="crashed", worker_type="other")
    HealthChange.objects.create(worker=turned, at=datetime.now(UTC), old="zombie", new="crashed")
    expect(beside.locator(f"#run-{turned.pk} .state")).to_contain_text("Crashed")
    age = re.compile(r"<time[^>]*data-age.*?</time>")
    assert age.sub("", page.locator("main").inner_html()) == age.sub("", before)
    assert sockets == []
    assert Change.objects.exists()
    beside.close()


def test_nothing_on_it_acts(page: Page) -> None:
    page.goto(f"/?at={stamp(40)}")
    expect_ids(page, "turned", "steady", "came")
    expect(page.locator("main input[type=checkbox]")).to_have_count(0)
    expect(page.locator("main [hx-post], main form[method=post], main [data-needs]")).to_have_count(0)
    expect(page.locator("#live, #socket, [data-state=live]")).to_have_count(0)
    assert set(page.locator("main button:visible").all_inner_texts()) == {"Go", "Compare"}


def test_a_stretch_of_a_workers_health_leads_to_its_moment(page: Page) -> None:
    page.goto("/workers/turned/")
    page.locator(".strip .zombie").first.click()
    expect(page.locator("#band h1")).to_contain_text(f"{THEN + timedelta(minutes=30):%Y-%m-%d %H:%M:%S}")
    assert "Zombie" in state_of(page, "turned")


def test_it_works_without_javascript(plain: Page) -> None:
    plain.goto(f"/?at={stamp(40)}")
    plain.locator("#q").fill("steady")
    plain.get_by_role("button", name="Apply").click()
    expect_ids(plain, "steady")
    plain.locator("#tiles .zombie").click()
    expect(plain.locator("#past .empty")).to_contain_text("No worker matches")
    plain.get_by_role("link", name="Clear filters").first.click()
    expect_ids(plain, "turned", "steady", "came")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_can_be_read_at_every_width_in_both_themes(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for address in (stamp(40), stamp(150), stamp(-5000), f"{stamp(0)}&with={stamp(150)}"):
        page.goto(f"/?at={address}")
        expect(page.locator("#past")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width, address
        assert page.evaluate(CONTRAST) == [], address
