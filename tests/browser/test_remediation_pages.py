"""Pages of repairs on rows of the tests' own: who may press what, no poller, a telephone, words that can be read."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests import factories
from tests.conftest import client_of
from workers.health import Health
from workers.models import Change, Remediation, RemediationBatch, RemediationStep, Worker

from .conftest import Server, live
from .test_fleet_filters import CONTRAST

WHY = "Your role may not do that; ask an operator or an admin"


@pytest.fixture
def operator_page(visitor: Page, server: Server, operator: User) -> Page:
    cookie = client_of(operator).cookies[settings.SESSION_COOKIE_NAME]
    visitor.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])
    return visitor


def every_state(worker: Worker) -> RemediationBatch:
    """Store a remediation in every state, with all that it can show, as one act on many."""
    long = "agents/workers/worker-implementation-001/a-directory-whose-name-goes-on/" * 3
    many = RemediationBatch.objects.create(
        action="force-fail",
        asked="12 selected by hand",
        ineligible=[{"worker_id": "worker-x", "reason": "Only for zombie workers"}],
        running=3,
        actor="operator",
        requested_at=factories.build(Health.HEALTHY).as_of,
    )
    process = {"pid": 41207, "command": f"/bin/bash {long}", "part": "worker"}
    shown = {"processes": [process], "diff": [["-", f'"path": "{long}"'], ["+", '"status": null']], "path": "x"}
    step = {**factories.STEP, "target": long, "shown": shown}
    plan = {"steps": [step], "relies_on": {}, "warnings": [f"{long} is there"], "asks": "Retry it again?"}
    evidence = {
        "processes": [{**process, "state": "S", "cpu_seconds": 1.5, "rss_bytes": 1e7, "open_files": [long]}],
        "logs": [{"path": long, "bytes": 4096, "lines": [long * 3]}],
    }
    for state in Remediation.State:
        told = {"error": f"{long} is not there"} if state in ("failed", "refused") else {}
        it = factories.repair(worker, state, plan=plan, batch=many, evidence=evidence, output=long, **told)
        if state in ("running", "done", "failed"):
            RemediationStep.objects.create(remediation=it, number=0, kind="move", target=long, detail=long, state=state)
        if state == "confirmed":  # a worker has one that is confirmed or running
            worker = factories.add(Health.ZOMBIE, 77)
    return many


def test_without_a_poller_it_is_said_and_can_be_withdrawn(operator_page: Page) -> None:
    page = operator_page
    factories.poller(interval_seconds=0.2, last_cycle_at=factories.build(Health.LATE).started_at)
    worker = factories.add(Health.ZOMBIE)
    page.goto(worker.get_absolute_url())
    page.locator("#remediate").get_by_role("button", name="Clean up").click()
    card = page.locator("#preview [data-remediation]")
    expect(card).to_contain_text("No poller of host-a is there")
    expect(card).to_have_attribute("data-state", "planning")
    card.get_by_role("button", name="Withdraw").click()
    expect(card).to_have_attribute("data-state", "withdrawn")
    expect(card).to_contain_text("Withdrawn by operator. Nothing has happened.")
    expect(page.locator("#remediations .outcome")).to_have_text("withdrawn")


def test_a_viewer_reads_why_on_every_button_also_after_a_push(page: Page) -> None:
    factories.poller(interval_seconds=3600)
    worker = factories.add(Health.HEALTHY)
    page.goto(worker.get_absolute_url())
    live(page)
    buttons = page.locator("#remediate button")
    expect(buttons.nth(2)).to_contain_text(WHY)
    factories.change(worker, health="zombie")
    expect(page.locator("#head .badge")).to_have_text("◌Zombie")
    for number in (0, 1, 2):
        expect(buttons.nth(number)).to_be_disabled()
        expect(buttons.nth(number)).to_contain_text(WHY)
    expect(buttons.nth(3)).to_contain_text("Only after it has failed")


def test_a_viewers_button_of_a_row_only_opens_the_worker(page: Page) -> None:
    """However the row came: with the page, in a list that was fetched, or by a push."""
    factories.poller(interval_seconds=3600)
    zombie, other = factories.add(Health.ZOMBIE), factories.add(Health.HEALTHY, 2)
    page.goto("/")
    live(page)
    button = page.locator(f"#run-{zombie.pk} .act a")
    expect(button).to_have_text("Open")
    factories.change(other, health="stalled")
    expect(page.locator(f"#run-{other.pk} .badge")).to_have_text("◔Stalled")
    expect(page.locator(f"#run-{other.pk} .act a")).to_have_text("Open")
    page.locator("#tiles .zombie").click()
    expect(page.locator("#list tr[data-run]")).to_have_count(1)
    expect(button).to_have_text("Open")
    button.click()
    expect(page.locator("h1")).to_have_text(zombie.worker_id)
    assert not Remediation.objects.exists()


@pytest.mark.may_complain("WebSocket|ERR_CONNECTION_(REFUSED|RESET)|htmx:|object Event")
@pytest.mark.parametrize("place", ["many", "list"])
def test_what_happened_while_the_connection_was_lost_is_caught_up_with(
    operator_page: Page, server: Server, place: str
) -> None:
    factories.poller(interval_seconds=3600)
    many = every_state(factories.add(Health.ZOMBIE))
    it = many.remediations.get(state="planned")
    page = operator_page
    page.goto({"many": many.get_absolute_url(), "list": "/remediations/"}[place])
    live(page)
    row = page.locator(f"#remediation-row-{it.pk} .outcome")
    expect(row).to_have_text("○ planned")
    server.stop()
    expect(page.locator("#live")).to_have_attribute("data-state", "reconnecting")
    Remediation.objects.filter(pk=it.pk).update(state="withdrawn")
    factories.tell([it], Change.Kind.REMEDIATION)
    server.start()
    live(page)
    expect(row).to_have_text("– withdrawn")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_all_can_be_read(operator_page: Page, theme: str) -> None:
    """Worker with an open preview, list, act on many, each card: at 390 px and with a contrast of 4.5 to 1."""
    factories.poller(interval_seconds=3600)
    worker = factories.add(Health.ZOMBIE)
    many = every_state(worker)
    page = operator_page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.set_viewport_size({"width": 390, "height": 844})
    cards = [each.get_absolute_url() for each in many.remediations.all()]
    for address in [worker.get_absolute_url(), "/remediations/", many.get_absolute_url(), *cards]:
        page.goto(address)
        live(page)
        page.evaluate("document.querySelectorAll('main details').forEach((fold) => { fold.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
        assert page.evaluate(CONTRAST) == [], address
