"""The preventions in a browser: four answers that lead to what they rest on, at every width and without JavaScript."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from tests.test_prevention_page import alert, checkins, daemon, ended, type_entry, watched
from workers.models import Mark

from .test_fleet_filters import CONTRAST


@pytest.fixture
def fleet(transactional_db: None) -> None:
    """A fleet in which each prevention has something to show, of every tone."""
    now = datetime.now(UTC)
    factories.add_fleet(40)
    limits = "coordination/config/worker-types.json"
    types = [
        type_entry("scan-worker", 15, f"{limits}#worker_types[0].time_limit_minutes"),
        type_entry("fix-worker", 5, f"{limits}#worker_types[1].timeout_minutes"),
        type_entry("deployment-worker-of-a-very-long-name", None, "coordination/masters/cicd/worker-types.json"),
    ]
    settings = [["late_after_minutes", "7"], ["check_interval_seconds", "120"], ["zombie_action", '{"archive": true}']]
    daemons: list[dict[str, Any]] = [
        daemon(
            "worker-daemon", beat_at=now.isoformat(), loops=4211, command="bash /srv/relay/scripts/worker-daemon.sh"
        ),
        daemon("zombie-killer", "gone", path="/tmp/commit-relay-zombie-killer.pid"),
        daemon("metrics-daemon", "", status="stopped"),
        daemon("pm-daemon", path="/tmp/pm-daemon.pid"),
    ]
    alerts = [
        alert(*(f"worker-scan-{n:03}" for n in range(500, 544))),
        alert(id="alert-2", type="pm_daemon_failure", status="needs_review", message="x" * 300, metric_value=None),
        alert(id="alert-3", status="resolved"),
    ]
    watched(
        poller={"disk_free_bytes": 9 * 10**9, "disk_total_bytes": 200 * 10**9},
        looked=[[limits, True]],
        types=types,
        notes=[[limits, "“worker_types[4].timeout” has no unit, and is not used"]],
        settings=settings,
        numbers={"late_after_minutes": 7.0, "check_interval_seconds": 120.0},
        daemons=daemons,
        alerts=alerts,
        alerts_there=True,
    )
    for number in range(1, 21):
        ended(2 + number / 2, number)
        ended(number, number + 100, "fix-worker")
    checkins("worker-test-003", 60, 54, 49, 20)
    for days in (1, 4):
        at = now - timedelta(days=days)
        Mark.objects.create(host=factories.HOST, at=at, kind=Mark.Kind.PM_START, text="PM daemon started")


def test_an_answer_leads_to_what_it_rests_on(page: Page, fleet: None) -> None:
    page.goto("/prevention/")
    expect(page.locator(".answer")).to_have_count(4)
    page.locator(".answer", has_text="Alerts").press("Enter")
    expect(page.locator("#alerts h2")).to_be_in_viewport()
    expect(page.locator("#alerts")).to_contain_text("none of the 44 workers it lists is running")
    page.locator("#alerts summary").first.press("Enter")
    expect(page.get_by_role("link", name="worker-scan-543")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_can_be_read_at_every_width_in_both_themes(page: Page, fleet: None, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/prevention/")
    page.locator("#alerts summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CONTRAST) == []


def test_its_sentences_need_no_scrolling_on_a_phone(page: Page, fleet: None) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/prevention/")
    wide = "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth).length"
    assert page.evaluate(wide) == 0
