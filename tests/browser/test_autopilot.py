"""The autopilot as people meet it: an admin lets a policy act and stops it, a viewer watches, pages say what comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests import factories
from tests.conftest import client_of
from workers.autopilot import decide
from workers.health import Health
from workers.models import Decision, Policy, Remediation, Worker

from .conftest import Server, live
from .test_fleet_filters import CONTRAST


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def policy(transactional_db: None) -> Policy:
    """A policy in shadow for an hour, one zombie that is due, and one that is not, in a fleet of thirty."""
    factories.poller(last_cycle_at=now() + timedelta(minutes=10))
    for number in range(10, 40):
        factories.add(Health.HEALTHY, number)
    factories.add(Health.ZOMBIE, 1, health_since=now() - timedelta(minutes=50))
    factories.add(Health.ZOMBIE, 2, health_since=now() - timedelta(minutes=25, seconds=30))
    Policy.objects.all().delete()
    return Policy.objects.create(
        name="Clean up zombies",
        action="clean-up",
        health="zombie",
        after_minutes=30,
        mode_since=now() - timedelta(hours=1),
    )


@pytest.fixture
def admin(visitor: Page, server: Server, admin_user: User) -> Page:
    """A page of an admin who is signed in."""
    cookie = client_of(admin_user).cookies[settings.SESSION_COOKIE_NAME]
    visitor.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])
    return visitor


def test_an_admin_lets_a_policy_act_and_puts_it_back(policy: Policy, admin: Page) -> None:
    admin.goto("/remediations/")
    admin.get_by_role("link", name="Autopilot", exact=True).first.click()
    card = admin.get_by_role("region", name="Policy Clean up zombies")
    expect(card).to_contain_text("in shadow")
    card.get_by_role("link", name="Let it act…").click()

    offer = admin.get_by_role("region", name="Let it act")
    expect(offer).to_contain_text("Clean up worker-scan-001")
    expect(offer).to_contain_text("1 more would wait, the next in 4 min")
    offer.get_by_label("The word").fill("yes")
    offer.get_by_role("button", name="Let it act").click()
    assert admin.evaluate("document.querySelector('[name=word]').validity.patternMismatch"), "the browser holds it back"
    policy.refresh_from_db()
    assert policy.mode == "shadow"
    offer.get_by_label("The word").fill("promote")
    offer.get_by_label("The word").press("Enter")

    expect(admin.get_by_role("alert")).to_contain_text("it acts from now on")
    expect(card).to_contain_text("active")
    expect(card).to_contain_text("promoted by admin")
    live(admin)
    decide(now())
    admin.get_by_role("link", name="Something new · show").click()
    expect(card).to_contain_text("does it")
    expect(card.get_by_role("row", name="worker-scan-001")).to_contain_text("planning")

    card.get_by_role("button", name="Back to shadow").click()
    expect(card).to_contain_text("in shadow")
    assert Remediation.objects.get().state == "withdrawn"
    assert Decision.objects.filter(verdict="does").count() == 1


def test_a_viewer_watches_and_can_press_nothing(policy: Policy, page: Page) -> None:
    page.goto("/autopilot/")
    expect(page.get_by_role("button", name="Turn off")).to_be_disabled()
    page.get_by_role("link", name="Let it act…").click()
    expect(page.get_by_role("button", name="Let it act")).to_be_disabled()


def test_a_workers_page_learns_that_its_policy_was_promoted(policy: Policy, page: Page) -> None:
    page.goto("/workers/worker-fix-002/")
    live(page)
    line = page.locator("#autopilot")
    expect(line).to_contain_text("shadow would clean up in 4 min, policy Clean up zombies")
    Policy.objects.update(mode="active")
    factories.tell(list(Worker.objects.filter(worker_id="worker-fix-002")))
    expect(line).to_contain_text("Autopilot will clean up in 4 min")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_can_be_read(policy: Policy, admin: Page, theme: str) -> None:
    stopped = {
        "mode": "active",
        "promoted_at": now(),
        "tripped_at": now(),
        "tripped_why": "12 of 40 workers are stalled",
    }
    Policy.objects.create(name="Stalled", action="restart", health="stalled", **stopped)
    Policy.objects.create(name="Off", action="restart", health="crashed", mode="off")
    decide(now())
    admin.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    for width in (390, 1440):
        admin.set_viewport_size({"width": width, "height": 900})
        for address in ("/autopilot/", f"/autopilot/{policy.pk}/", "/workers/worker-fix-002/"):
            admin.goto(address)
            live(admin)
            assert admin.evaluate("document.documentElement.scrollWidth") <= width, address
            assert admin.evaluate(CONTRAST) == [], address
