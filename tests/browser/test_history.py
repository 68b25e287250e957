"""The page of history and the report of a week in a browser: by click, on paper, on a telephone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from workers.health import Health
from workers.incidents import How, Kind
from workers.models import HealthChange, Incident, Mark, PollerGap, RootCause

from .conftest import Server
from .test_fleet_filters import CONTRAST

KINDS = (Kind.STALLED, Kind.ZOMBIE, Kind.FAILED, Kind.CRASHED, Kind.OVERDUE)


@pytest.fixture
def past(transactional_db: None) -> datetime:
    """Nine days of a small fleet, until now."""
    now = datetime.now(UTC)
    day, label = timedelta(days=1), RootCause.objects.get_or_create(name="Host or network")[0]
    factories.poller(started_at=now - 20 * day, last_cycle_at=now + day, targets={"critical": 15, "high": 60})
    for number in range(40):
        at = now - day * 9 * (40 - number) / 40 - timedelta(minutes=3)
        health = Health.FAILED if number % 3 == 0 else Health.COMPLETED
        worker = factories.build(
            *(health, number, now),
            worker_id=f"worker-implementation-{number:03}" + "-with-a-name-that-goes-on" * (number == 36),
            run_key=str(number),
            first_seen_at=now - 20 * day,
            health_since=at,
            ended_at=at,
            task_id=f"task-{1000 + number % 9}",
        )
        worker.save()
        began = at - timedelta(hours=2)
        for moment, old, new in (
            (began, "", "healthy"),
            (at - timedelta(hours=1), "healthy", "late"),
            (at - timedelta(minutes=30), "late", "stalled"),
            (at, "stalled", health.value),
        ):
            HealthChange.objects.create(worker=worker, at=moment, old=old, new=new)
        kind = KINDS[number % 5] if health is not Health.FAILED else Kind.FAILED
        Incident.objects.create(
            run=worker,
            worker_id=worker.worker_id,
            host=worker.host,
            kind=kind,
            began=at - timedelta(minutes=number % 17),
            detected=at,
            acknowledged=at + timedelta(minutes=4) if number % 2 else None,
            resolved=at + timedelta(minutes=number * 3) if number % 4 else None,
            how=How.RECOVERED if number % 4 else "",
            root_cause=label if number % 6 == 1 else None,
            cause=f"Spec says failed: {'/srv/relay/a-directory-that-goes-on' * 3}/{number}: exit status {number}",
        )
    PollerGap.objects.create(host=factories.HOST, began=now - 3 * day, ended=now - 2 * day + day / 8)
    Mark.objects.create(host=factories.HOST, at=now - 4 * day, kind=Mark.Kind.PM_START, text="PM daemon started")
    return now


def test_another_time_and_a_grouping_by_click(page: Page, past: datetime) -> None:
    page.goto("/")
    page.get_by_role("link", name="History").click()
    expect(page).to_have_title("History · Relay Web")
    shown = page.locator('[data-figure="incidents"] b')
    week = int(shown.inner_text())
    page.get_by_role("link", name="30 days").click()
    expect(page).to_have_url(re.compile(r"\?range=30d$"))
    expect(shown).to_have_text("40")
    assert week < 40
    page.get_by_label("Group by").select_option("worker type")
    expect(page.locator("#groups h2")).to_contain_text("By worker type")
    expect(page).to_have_url(re.compile(r"range=30d.*group=worker_type"))
    page.locator("#groups th a").first.click()
    expect(page).to_have_url(re.compile(r"worker_type=\w+-worker"))
    expect(page.locator("#groups tbody tr")).to_have_count(1)


def test_a_time_of_ones_own(page: Page, past: datetime) -> None:
    page.goto("/history/?group=master")
    since = past - timedelta(days=2)
    page.get_by_label("From, in UTC").fill(f"{since:%Y-%m-%dT%H:%M}")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"group=master.*range=own"))
    assert int(page.locator('[data-figure="incidents"] b').inner_text()) == 8


def test_a_number_of_the_matrix_leads_to_the_incidents(page: Page, past: datetime) -> None:
    page.goto("/history/")
    row = page.locator("#matrix tr").filter(has_text="Host or network")
    link = row.get_by_role("link").last
    number = int(link.inner_text())
    assert number == 7
    address = urlsplit(str(link.get_attribute("href")))
    assert address.path == "/incidents/"
    label = RootCause.objects.get(name="Host or network").pk
    assert parse_qs(address.query) == {"state": ["all"], "cause": [str(label)], "within": ["30d"]}


def test_it_offers_the_zone_of_the_browser(page: Page, server: Server, past: datetime) -> None:
    context: Any = page.context.browser.new_context(base_url=server.url, timezone_id="America/New_York")  # type: ignore[union-attr]
    context.add_cookies(page.context.cookies())
    there = context.new_page()
    there.goto("/history/?range=24h")
    there.get_by_role("link", name="in America/New_York").click()
    expect(there).to_have_url(re.compile(r"range=24h&zone=America%2FNew_York"))
    expect(there.locator(".zone")).to_contain_text("Days and hours in America/New_York")
    there.get_by_role("link", name="in UTC").click()
    expect(there).to_have_url(re.compile(r"\?range=24h$"))
    context.close()


def test_it_works_without_javascript(page: Page, server: Server, past: datetime) -> None:
    context: Any = page.context.browser.new_context(base_url=server.url, java_script_enabled=False)  # type: ignore[union-attr]
    context.add_cookies(page.context.cookies())
    plain = context.new_page()
    plain.goto("/history/")
    plain.get_by_label("Group by").select_option("host")
    plain.get_by_role("button", name="Apply").click()
    expect(plain.locator("#groups th[scope=row]")).to_have_text(factories.HOST)
    plain.get_by_role("link", name="Time in each health, when it happens").click()
    task = plain.locator("#offenders details").first
    task.locator("summary").click()
    expect(task.locator("li a").first).to_be_visible()
    context.close()


def test_the_report_goes_onto_paper_and_into_a_mail(page: Page, past: datetime) -> None:
    page.goto("/history/report/")
    expect(page.locator(".report h1")).to_have_text(re.compile(r"^Monday \d+ .*to Sunday \d+ \w+ \d{4}$"))
    page.get_by_role("link", name="Week before").click()
    page.get_by_role("link", name="Week after").click()
    expect(page).to_have_url(re.compile(r"/history/report/\?week=\d{4}-W\d\d$"))
    page.get_by_role("button", name="Copy link").click()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in (".top", ".weeks"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator(".summary p").first).to_contain_text("incident")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('.report h1')).color") == "rgb(0, 0, 0)"
    page.set_viewport_size({"width": 690, "height": 900})  # A4 without its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_all_can_be_read(page: Page, past: datetime, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for address in ("/history/?range=30d&group=worker_type", "/history/?host=nowhere", "/history/report/"):
            page.goto(address)
            page.evaluate("document.querySelectorAll('#offenders details, #meaning').forEach(each => each.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.evaluate(CONTRAST) == [], address
