"""What somebody sees who keeps a worker's page open."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from workers.health import Health
from workers.models import WorkerDocument

from .conftest import live


@pytest.fixture(autouse=True)
def _poller(transactional_db: None) -> None:
    factories.poller(interval_seconds=3600)


def test_the_parts_of_the_page_follow(page: Page) -> None:
    worker = factories.add(Health.HEALTHY)
    page.goto(worker.get_absolute_url())
    live(page)
    expect(page.locator("#why")).to_contain_text("Why healthy")
    WorkerDocument.objects.filter(worker=worker).update(spec={"status": "something new"})
    factories.change(
        worker, health="stalled", reasons=[factories.reason("It says nothing", "logs", "for")], error="Broken pipe"
    )
    expect(page.locator("#head .badge")).to_have_text("◔Stalled")
    expect(page.locator("#why")).to_contain_text("Why stalled")
    expect(page.locator("#why")).to_contain_text("It says nothing")
    expect(page.locator("#documents")).to_contain_text("something new")
    expect(page.locator("#facts")).to_contain_text("Broken pipe")
    expect(page).to_have_title(f"◔ {worker.worker_id} · Relay Web")


def test_other_workers_do_not_touch_it(page: Page) -> None:
    worker, other = factories.add(Health.HEALTHY, 1), factories.add(Health.HEALTHY, 2)
    page.goto(worker.get_absolute_url())
    live(page)
    factories.change(other, health="crashed")
    factories.change(worker, progress_pct=73)
    expect(page.locator("#facts")).to_contain_text("73 %")
    expect(page.locator("#head .badge")).to_have_text("●Healthy")


def test_scrolling_in_the_spec_survives_a_push(page: Page) -> None:
    worker = factories.add(Health.HEALTHY)
    WorkerDocument.objects.filter(worker=worker).update(spec={f"key-{number}": number for number in range(200)})
    page.goto(worker.get_absolute_url())
    live(page)
    spec = page.locator("#documents pre").first
    spec.evaluate("(box) => { box.scrollTop = 500 }")
    WorkerDocument.objects.filter(worker=worker).update(spec={f"key-{number}": number + 1 for number in range(200)})
    factories.change(worker, progress_pct=1)
    expect(spec).to_contain_text('"key-199": 200')
    assert spec.evaluate("(box) => box.scrollTop") == 500


def test_nothing_scrolls_sideways_on_a_phone_however_long_the_lines_of_the_spec(page: Page) -> None:
    worker = factories.add(Health.STALLED)
    WorkerDocument.objects.filter(worker=worker).update(spec={"description": "one long line " * 40})
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(worker.get_absolute_url())
    expect(page.locator("#documents pre").first).to_contain_text("one long line")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
