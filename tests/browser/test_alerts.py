"""Alerts in a real browser: live, acknowledged, muted, tested, and told by the browser itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, Page, expect

from tests import factories
from tests.conftest import client_of, person
from tests.receivers import Webhook
from tests.running import until
from workers.alerting.evaluate import Eye
from workers.health import Health
from workers.models import Alert, AlertRule, Channel, Delivery, Worker

from .conftest import Server, live
from .test_fleet_filters import CONTRAST

pytestmark = pytest.mark.minded

#: What a page would have shown: the real thing appears outside of it, where no test can look.
NOTICES = """
window.shown = [];
window.Notification = class {
  static permission = "granted";
  static async requestPermission() { return "granted"; }
  constructor(title, { body }) { window.shown.push(body); }
};
"""


@pytest.fixture
def rule(transactional_db: None) -> AlertRule:
    AlertRule.objects.all().delete()
    factories.poller(last_cycle_at=datetime.now(UTC) + timedelta(minutes=5))  # nobody falls silent during the test
    return AlertRule.objects.create(name="Any zombie", kind="health", health="zombie", minutes=0, severity=3)


def sign_in(page: Page, server: Server, user: User) -> None:
    cookie = client_of(user).cookies[settings.SESSION_COOKIE_NAME]
    page.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])


@pytest.fixture
def operators_page(visitor: Page, server: Server, operator: User) -> Page:
    sign_in(visitor, server, operator)
    return visitor


@pytest.fixture
def admins_page(visitor: Page, server: Server, admin_user: User) -> Page:
    sign_in(visitor, server, admin_user)
    return visitor


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.stop()


def dies(number: int = 1) -> None:
    """A worker becomes a zombie; the attendant of the server sees it in its next round."""
    factories.tell([factories.add(Health.ZOMBIE, number)])


def test_a_viewer_sees_an_alert_come_and_go_and_may_not_acknowledge_it(rule: AlertRule, page: Page) -> None:
    page.goto("/alerts/")
    live(page)
    expect(page.get_by_text("No alert is open")).to_be_visible()
    expect(page).to_have_title("Alerts · Relay Web")
    dies()
    expect(page.locator("#alerts .alert.is-open")).to_contain_text("worker-scan-001 is zombie")
    expect(page.locator("#bell")).to_contain_text("1 open alert, 1 critical")
    expect(page.locator("#banners")).to_contain_text("Critical: worker-scan-001 is zombie")
    expect(page).to_have_title("▲ Alerts · Relay Web")
    expect(page.locator("#icon")).to_have_attribute("href", "/icon/alert.svg")
    page.get_by_text("Acknowledge…").click()
    button = page.get_by_role("button", name="Acknowledge", exact=True)
    expect(button).to_be_disabled()
    expect(button).to_have_attribute("title", "Your role may not do that; ask an operator or an admin")
    page.get_by_text("Acknowledge…").click()
    Worker.objects.update(health="healthy")
    factories.tell(Worker.objects.all())
    expect(page.locator("#alerts .past .alert")).to_contain_text("worker-scan-001 is zombie")
    expect(page).to_have_title("Alerts · Relay Web")
    expect(page.locator("#banners")).not_to_contain_text("Critical")


def test_an_operator_acknowledges_it_while_the_list_goes_on(rule: AlertRule, operators_page: Page) -> None:
    page = operators_page
    dies()
    page.goto("/alerts/")
    live(page)
    page.get_by_text("Acknowledge…").click()
    reason = page.get_by_label("Why, or what you do about it")
    reason.fill("Kim is on it")
    dies(8)  # of the same type: the alert says two now
    expect(page.locator("#bell")).to_contain_text("1 open alert")
    until(lambda: Alert.objects.get().count == 2, what="the second one to be counted")
    expect(reason).to_have_value("Kim is on it")
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.locator(".alert .ack")).to_contain_text("operator acknowledged it")
    expect(page.locator(".alert")).to_contain_text("2 workers are zombie")
    expect(page.locator("#bell")).to_contain_text("none open")
    expect(page).to_have_title("Alerts · Relay Web")
    assert Alert.objects.get().acknowledged_reason == "Kim is on it"
    page.get_by_text("Mute rule…").click()
    expect(page.get_by_role("button", name="For 1 h")).to_be_disabled()


def test_an_admin_mutes_the_rule_and_ends_that(rule: AlertRule, admins_page: Page) -> None:
    page = admins_page
    dies()
    page.goto("/alerts/")
    live(page)
    expect(page.locator(".alert.is-open")).to_be_visible()
    page.get_by_text("Mute rule…").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("A drill")
    page.get_by_role("button", name="For 1 h").click()
    expect(page.locator(".alert")).to_contain_text("Rule muted until")
    expect(page.locator(".alert")).to_contain_text("A drill")
    page.get_by_role("button", name="End the mute").click()
    expect(page.get_by_text("Mute rule…")).to_be_visible()
    rule.refresh_from_db()
    assert rule.muted_until is None


def test_an_admin_tests_a_channel_and_watches_how_it_goes(rule: AlertRule, admins_page: Page, webhook: Webhook) -> None:
    page = admins_page
    Channel.objects.create(name="Chat", address=webhook.address)
    webhook.refuses = True
    page.goto("/alerts/")
    live(page)
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator("#channels")).to_contain_text("failed, tried again")
    expect(page.locator("#channels")).to_contain_text("error=500")
    webhook.refuses = False
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator("#channels")).to_contain_text("✓ sent")
    assert webhook.got == ["[test] Relay Web reaches this channel"]
    assert Delivery.objects.get().state == "sent"


def test_one_tab_notifies_of_what_is_new_and_of_nothing_that_was_there(
    rule: AlertRule, context: BrowserContext, page: Page
) -> None:
    context.add_init_script(NOTICES)
    dies()
    until(lambda: Eye().look(datetime.now(UTC)) and Alert.objects.filter(state="firing").exists(), what="an alert")
    other = context.new_page()
    for each in (page, other):
        each.goto("/alerts/")
        live(each)
    page.get_by_role("button", name="Notify me in this browser").click()
    expect(page.get_by_role("button", name="Stop notifying me")).to_be_visible()
    Alert.objects.update(acknowledged=datetime.now(UTC))
    dies(2)
    shown = until(lambda: page.evaluate("shown") + other.evaluate("shown"), what="a notification")
    for each in (page, other):
        expect(each.locator("#alerts .alert.is-open")).to_have_count(2)
    assert shown == page.evaluate("shown") + other.evaluate("shown") == [Alert.objects.latest("pk").summary]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_can_be_read_and_nothing_scrolls_sideways(rule: AlertRule, page: Page, theme: str) -> None:
    now = datetime.now(UTC)
    dies()
    until(lambda: Eye().look(now) and Alert.objects.filter(state="firing").exists(), what="an alert")
    for severity in (1, 2):
        Alert.objects.create(
            **{"rule": rule, "rule_name": rule.name, "cause": str(severity), "severity": severity, "state": "resolved"},
            **{"summary": "w" * 300, "began": now, "fired": now, "resolved": now},
        )
    failing = {"address": "json://127.0.0.1/x", "failing_since": now, "last_error": "x" * 300}
    Channel.objects.create(name="A channel with a rather long name", **failing)
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto("/alerts/")
        live(page)
        page.get_by_text("Mute rule…").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CONTRAST) == []


def test_it_can_be_used_without_scripts(rule: AlertRule, server: Server, context: BrowserContext) -> None:
    dies()
    until(lambda: Eye().look(datetime.now(UTC)) and Alert.objects.filter(state="firing").exists(), what="an alert")
    browser = context.browser
    assert browser
    plain = browser.new_context(base_url=server.url, java_script_enabled=False)
    page = plain.new_page()
    sign_in(page, server, person("plain", "operator"))
    page.goto("/alerts/")
    page.get_by_text("Acknowledge…").click()
    page.get_by_label("Why, or what you do about it").fill("Seen")
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.locator(".alert .ack")).to_contain_text("Seen")
    plain.close()
