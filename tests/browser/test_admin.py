"""The admin in a browser: who gets in, a setting that is refused and then taken, a way back to the site."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests import factories
from tests.conftest import client_of
from workers.health import Health
from workers.models import Channel, Delivery, Installation, Limit, SettingChange

from .conftest import Server

pytestmark = pytest.mark.own_server


def sign_in(page: Page, server: Server, user: User) -> None:
    cookie = client_of(user).cookies[settings.SESSION_COOKIE_NAME]
    page.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])


@pytest.fixture
def admin_page(visitor: Page, server: Server, admin_user: User) -> Page:
    sign_in(visitor, server, admin_user)
    factories.poller(interval_seconds=3600)
    return visitor


def test_a_viewer_and_an_operator_do_not_get_in(visitor: Page, server: Server, viewer: User, operator: User) -> None:
    factories.poller(interval_seconds=3600)
    for user in (viewer, operator):
        sign_in(visitor, server, user)
        visitor.goto("/")
        expect(visitor.get_by_role("link", name="Admin", exact=True)).to_have_count(0)
        visitor.goto("/admin/workers/limit/")
        expect(visitor.get_by_text("are not authorized to access this page")).to_be_visible()
        expect(visitor.get_by_text(user.username)).to_be_visible()


def test_an_admin_sets_a_limit_that_is_refused_and_then_taken(admin_page: Page) -> None:
    admin_page.goto("/")
    admin_page.get_by_label("admin: account").click()
    admin_page.get_by_role("link", name="Admin", exact=True).click()
    admin_page.get_by_role("link", name="Limits", exact=True).click()
    admin_page.get_by_role("link", name="Add limit").click()
    admin_page.get_by_label("Name").select_option("late_after")
    admin_page.get_by_label("Seconds").fill("3600")
    admin_page.get_by_role("button", name="Save", exact=True).click()
    expect(admin_page.get_by_text("A worker would be stalled after 15 min")).to_be_visible()
    admin_page.get_by_label("Seconds").fill("300")
    admin_page.get_by_role("button", name="Save", exact=True).click()
    expect(admin_page.get_by_text("was added successfully")).to_be_visible()
    assert Limit.objects.get().seconds == 300
    admin_page.goto("/admin/workers/settingchange/")
    expect(admin_page.get_by_role("row").filter(has_text="limit late_after")).to_contain_text("admin")
    admin_page.get_by_role("link", name="RelayWeb").click()
    expect(admin_page).to_have_url(re.compile(r"127\.0\.0\.1:\d+/$"))


def test_an_admin_sends_the_report_at_once_and_stores_a_secret(admin_page: Page) -> None:
    Channel.objects.create(name="ops", address="json://127.0.0.1:9/")
    admin_page.goto("/admin/workers/installation/")
    admin_page.get_by_label("ops").check()
    admin_page.get_by_label("Address").fill("https://beat.example.com/t0ken")
    admin_page.get_by_role("button", name="Save, and send the report now to these channels").click()
    expect(admin_page.get_by_text("The report is on its way to 1 channel.")).to_be_visible()
    expect(admin_page.get_by_text("One is stored.")).to_be_visible()
    expect(admin_page.get_by_label("Address")).to_have_value("")
    assert "t0ken" not in admin_page.content()
    assert Delivery.objects.count() == 1
    admin_page.get_by_label("Remove it").check()
    admin_page.get_by_role("button", name="Save and continue editing").click()
    expect(admin_page.get_by_text("No address is called.")).to_be_visible()
    assert Installation.get().dead_man_address == ""
    assert SettingChange.objects.filter(field="dead_man_address").count() == 2


def test_an_admin_reads_the_database_at_the_width_of_a_phone(admin_page: Page) -> None:
    factories.add(Health.HEALTHY)
    admin_page.set_viewport_size({"width": 390, "height": 844})
    admin_page.goto("/admin/")
    admin_page.get_by_role("link", name="Database: size, rows, what is pruned next").click()
    expect(admin_page.get_by_role("heading", name="Database")).to_be_visible()
    for address in ("", "workers/installation/", "workers/installation/database/", "workers/settingchange/"):
        admin_page.goto(f"/admin/{address}")
        wide = admin_page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{address} scrolls sideways by {wide} px"
