"""The stream of events as somebody reads it, on what a real fleet has left behind."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from tests.conftest import Home, iso
from tests.running import ROOT
from workers.cycle import Cycle
from workers.health import Health

from .conftest import live

REAL = ROOT.parent / "shared" / "real-fleet"
HEARTBEATS = "coordination/events/heartbeat-events.jsonl"


@pytest.fixture
def fleet(transactional_db: None, tmp_path: Path) -> Path:
    """A copy of a real fleet, or one that repeats itself like it."""
    path = tmp_path / "fleet"
    if REAL.is_dir():
        shutil.copytree(REAL, path, copy_function=shutil.copyfile)
        return path
    home, began = Home(path), datetime(2025, 11, 20, tzinfo=UTC)
    home.spec("w-1", status="pending", execution__started_at=None)
    for number in range(500):
        at = iso(began + timedelta(seconds=30 * number))
        record = {"event_type": "worker_presumed_dead", "worker_id": "worker-scan-001", "timestamp": at}
        home.append(HEARTBEATS, json.dumps(record) + "\n")
    return path


def poll(path: Path) -> Cycle:
    cycle = Cycle(path, "host-a", 3600)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    return cycle


def test_repeated_heartbeat_events_are_paged_through(page: Page, fleet: Path) -> None:
    poll(fleet)
    page.goto("/events/")
    page.locator("select[name=type]").select_option("worker_presumed_dead")
    expect(page).to_have_url(re.compile("type=worker_presumed_dead"))
    rows = page.locator("#stream .event")
    expect(rows).to_have_count(100)
    expect(page.locator("#stream .event .type").first).to_have_text("worker_presumed_dead")
    expect(rows.first.locator("time").first).not_to_contain_text(
        "UTC"
    )  # in the reader's own zone, also what came later
    first = rows.first.locator("pre").text_content() or ""
    last = rows.last.locator("pre").text_content()
    page.get_by_role("link", name="Older").click()
    expect(page).to_have_url(re.compile("type=worker_presumed_dead&before="))
    expect(rows).to_have_count(100)
    assert rows.first.locator("pre").text_content() not in (first, last)
    page.get_by_role("link", name="Newest").click()
    expect(rows.first.locator("pre")).to_have_text(first)


def test_a_record_opens_with_its_file_and_offset_and_leads_to_its_worker(page: Page, fleet: Path) -> None:
    poll(fleet)
    page.goto(f"/events/?type=worker_presumed_dead&source={HEARTBEATS}")
    row = page.locator("#stream .event").first
    worker = row.locator(".who a").inner_text()
    row.locator("summary").click(position={"x": 20, "y": 10})
    expect(row.locator(".record")).to_contain_text(HEARTBEATS)
    expect(row.locator(".record")).to_contain_text("offset")
    expect(row.locator("pre")).to_contain_text('"worker_presumed_dead"')
    row.get_by_role("link", name="all of this worker").click()
    expect(page.get_by_label("Worker id, in full")).to_have_value(worker)


def test_what_is_new_waits_until_somebody_asks_or_follows(page: Page, fleet: Path) -> None:
    cycle = poll(fleet)
    page.goto("/events/?type=pm_started")
    live(page)
    expect(page.get_by_text("No event matches")).to_be_visible()

    def tell(count: int) -> None:
        with (fleet / "coordination/pm-activity.jsonl").open("a") as log:
            log.write(json.dumps({"event": "pm_started", "timestamp": iso(datetime.now(UTC))}) * count + "\n")
        cycle.run_once(datetime.now(UTC), paths=["coordination/pm-activity.jsonl"])

    tell(3)
    pill = page.locator("#pill")
    expect(pill).to_contain_text("3 waiting")
    expect(page.locator("#stream .event")).to_have_count(0)
    pill.get_by_role("link").click()
    expect(page.locator("#stream .event")).to_have_count(3)
    expect(pill).to_be_empty()
    page.get_by_role("button", name="Follow live").click()
    page.mouse.move(5, 5)
    tell(2)
    expect(page.locator("#stream .event")).to_have_count(5)


def test_the_activity_of_a_worker_follows_and_can_be_narrowed(
    page: Page, tmp_path: Path, transactional_db: None
) -> None:
    home = Home(tmp_path / "fleet")
    home.spec("w-1", status="pending", execution__started_at=None)
    now = iso(datetime.now(UTC))
    home.append(
        HEARTBEATS, json.dumps({"event_type": "heartbeat_warning", "worker_id": "w-1", "timestamp": now}) + "\n"
    )
    cycle = poll(home.path)
    page.goto("/workers/w-1/")
    live(page)
    rows = page.locator("#activity-card .event")
    expect(rows).to_have_count(1)
    record = {"event": "worker_registered", "worker_id": "w-1", "timestamp": iso(datetime.now(UTC))}
    home.append("coordination/pm-activity.jsonl", json.dumps(record) + "\n")
    cycle.run_once(datetime.now(UTC), paths=["coordination/pm-activity.jsonl"])
    expect(rows).to_have_count(2)
    page.reload()
    page.locator("#activity-card select[name=type]").select_option("heartbeat_warning")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("heartbeat_warning")


@pytest.mark.parametrize("key", ["/"])
def test_the_keyboard_finds_and_moves(page: Page, fleet: Path, key: str) -> None:
    poll(fleet)
    page.goto("/events/")
    page.keyboard.press(key)
    expect(page.get_by_label("Worker id, in full")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("#stream summary").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#stream .event details[open]")).to_have_count(1)


@pytest.mark.parametrize("path", ["/events/", "/processes/"])
def test_nothing_scrolls_sideways_on_a_phone(page: Page, fleet: Path, path: str) -> None:
    poll(fleet)
    factories.add(Health.HEALTHY)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
