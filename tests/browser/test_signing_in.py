"""The first minutes of somebody: signing in, the set-up link, the theme."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests import factories
from workers.health import Health
from workers.setup import setup_link_token

from .conftest import live


def test_somebody_signs_in_and_out(visitor: Page, viewer: User) -> None:
    factories.poller(interval_seconds=3600)
    factories.add(Health.HEALTHY)
    visitor.goto("/?health=healthy")
    expect(visitor).to_have_url(re.compile("/accounts/login/"))
    visitor.get_by_label("User name").fill("viewer")
    visitor.get_by_label("Password").fill("wrong")
    visitor.get_by_role("button", name="Sign in").click()
    expect(visitor.get_by_role("alert")).to_contain_text("correct username and password")
    visitor.get_by_label("Password").fill("viewer")
    visitor.get_by_role("button", name="Sign in").click()
    expect(visitor).to_have_url(re.compile(r"/\?health=healthy$"))
    live(visitor)
    visitor.get_by_label("viewer: account").click()
    visitor.get_by_role("button", name="Sign out").click()
    expect(visitor.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.may_complain("status of 403")
def test_the_set_up_link_makes_one_admin(visitor: Page) -> None:
    link = f"/setup/{setup_link_token()}/"
    visitor.goto(link)
    visitor.get_by_label("User name").fill("mara")
    visitor.get_by_label("Password", exact=False).first.fill("correct horse battery")
    visitor.get_by_label("The same again").fill("correct horse battery")
    visitor.get_by_role("button", name="Create the first admin").click()
    visitor.get_by_label("mara: account").click()
    expect(visitor.get_by_role("link", name="Admin", exact=True)).to_be_visible()
    visitor.goto(link)
    expect(visitor.get_by_text("has done its work")).to_be_visible()
    assert User.objects.filter(username="mara", is_staff=True, groups__name="admin").count() == 1


def test_the_theme_that_was_chosen_holds_from_the_first_paint(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/")

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.locator("[data-theme-switch]").click()
    page.locator("[data-theme-switch]").click()
    assert background() != light
    page.reload(wait_until="commit")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
