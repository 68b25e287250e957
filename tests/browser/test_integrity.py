"""What is odd in a real fleet's directory, and the repair of one of its specs: look, press, watch, take back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests.conftest import Home, client_of, iso
from tests.running import ROOT, until
from workers.coordination.layout import Layout
from workers.coordination.parser import parse_spec
from workers.coordination.records import Problem
from workers.cycle import Cycle
from workers.models import Finding, Poller, Remediation
from workers.remediation.execute import Executor
from workers.remediation.ground import Ground

from .conftest import Server, live
from .test_fleet_filters import CONTRAST

REAL = Path(ROOT).parent / "shared" / "real-fleet"
ACTIVE = "coordination/worker-specs/active"
#: What a real fleet's spawner writes when two of its shell variables are not set.
DAMAGED = """{
  "worker_id": "%s",
  "worker_type": "dev-worker",
  "status": "pending",
  "created_at": "2025-12-04T15:59:01-0600",
  "skills_required": ,
  "resources": {
    "token_allocation": ,
    "time_limit_minutes": 60
  }
}
"""


class Post:
    """The poller's work, in steps of this very thread: each look, each preview, each deed is asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cycle = Cycle(home, "host-a", 3600)
        self.cycle.start(datetime.now(UTC))
        self.executor = Executor(Ground(Layout(home), "host-a", {"RELAY_EMIT_EVENT": ()}, home.parent / "state"))

    def look(self) -> None:
        self.cycle.run_once(datetime.now(UTC))

    def sees(self, path: str) -> bool:
        self.look()
        return Finding.objects.filter(path=path, kind="unreadable").exists()

    def attend(self) -> None:
        """Do what waits, as soon as the browser's request has come."""
        waiting = Remediation.objects.filter(state__in=("planning", "confirmed"))
        until(waiting.exists, 10, "a request")
        for it in waiting:
            self.executor.attend(it.pk)
        self.look()
        self.look()


@pytest.fixture
def post(transactional_db: None, tmp_path: Path) -> Iterator[Post]:
    if REAL.exists():
        shutil.copytree(REAL, tmp_path / "home")
    else:
        home = Home(tmp_path / "home")
        for name in ("dev-worker-1672B646", "dev-worker-23096FF6"):
            home.write(f"{ACTIVE}/{name}.json", DAMAGED % name)
    (tmp_path / "home" / ACTIVE / "torn.json").write_text('{\n  "worker_id": "torn",\n  "status": runn')
    post = Post(tmp_path / "home")
    post.look()
    yield post
    post.executor.close()


@pytest.fixture
def operator_page(visitor: Page, server: Server, operator: User) -> Page:
    cookie = client_of(operator).cookies[settings.SESSION_COOKIE_NAME]
    visitor.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])
    return visitor


def damaged(home: Path) -> dict[str, Problem]:
    """The specs that cannot be parsed, as the parser itself sees them."""
    paths = sorted(home.glob("coordination/worker-specs/**/*.json"))
    read = {str(path.relative_to(home)): path.read_bytes() for path in paths}
    found = {path: parse_spec(data, path) for path, data in read.items()}
    return {path: content for path, content in found.items() if isinstance(content, Problem)}


def finding(page: Page, path: str) -> Any:
    return page.locator(".finding").filter(has=page.locator(f'code:text-is("{path}")'))


def test_damaged_specs_are_listed_with_line_and_column(page: Page, post: Post) -> None:
    broken = damaged(post.home)
    assert len(broken) >= 3
    page.goto("/")
    page.locator("#pulse .files").click()
    expect(page).to_have_url(re.compile(r"/integrity/\?kind=unreadable$"))
    expect(page.locator(".finding")).to_have_count(len(broken))
    for path, problem in broken.items():
        row = finding(page, path)
        expect(row).to_contain_text(f"{problem.reason} at line {problem.line}, column {problem.column}")
        expect(row.locator("pre")).to_have_text(problem.excerpt)
        expect(row).to_contain_text(re.compile(r"since \d\d:\d\d"))


def test_a_spec_is_repaired_by_a_button_with_a_preview_and_taken_back(operator_page: Page, post: Post) -> None:
    page, path = operator_page, next(path for path, problem in damaged(post.home).items() if problem.reading)
    before = (post.home / path).read_bytes()
    page.goto("/integrity/?kind=unreadable")
    live(page)
    number = page.locator(".finding").count()
    finding(page, path).get_by_role("button", name="Repair spec…").click()
    card = page.locator("#deed [data-remediation]")
    expect(card).to_have_attribute("data-state", "planning")
    post.attend()
    expect(card).to_have_attribute("data-state", "planned")
    expect(card.locator(".diff .out").first).to_contain_text('"skills_required": ,')
    expect(card.locator(".diff .in").first).to_contain_text('"skills_required": null')
    assert (post.home / path).read_bytes() == before
    card.get_by_role("button", name=re.compile("^Repair spec ")).click()
    post.attend()
    expect(card).to_have_attribute("data-state", "done")
    assert b'"skills_required": null' in (post.home / path).read_bytes()
    expect(finding(page, path)).to_have_count(0)
    expect(page.locator(".finding")).to_have_count(number - 1)
    expect(page.locator("#kinds .unreadable b")).to_have_text(str(number - 1))
    card.get_by_role("button", name="Undo…").click()
    post.attend()
    expect(card).to_have_attribute("data-state", "planned")
    card.get_by_role("button", name=re.compile("^Undo ")).click()
    post.attend()
    expect(card).to_have_attribute("data-state", "done")
    assert (post.home / path).read_bytes() == before
    until(lambda: post.sees(path), 10, "a look at what may have been half written a moment ago")
    expect(finding(page, path)).to_have_count(1)


def test_what_cannot_be_repaired_says_so_and_can_be_set_aside(operator_page: Page, post: Post) -> None:
    page, path = operator_page, f"{ACTIVE}/torn.json"
    page.goto("/integrity/")
    live(page)
    row = finding(page, path)
    expect(row.get_by_role("button", name="Repair spec…")).to_be_disabled()
    expect(row).to_contain_text("More than missing values is damaged here")
    row.get_by_role("button", name="Quarantine…").click()
    post.attend()
    page.locator("#deed").get_by_role("button", name="Quarantine torn").click()
    post.attend()
    expect(page.locator("#deed [data-remediation]")).to_have_attribute("data-state", "done")
    expect(row).to_have_count(0)
    page.goto("/integrity/?kind=quarantined")
    expect(page.locator(".finding .where code")).to_have_text(re.compile(r"quarantine/torn-malformed-\d+\.json$"))


def test_it_follows_what_happens_on_disk(page: Page, post: Post) -> None:
    page.goto("/integrity/?kind=unreadable")
    live(page)
    number = page.locator(".finding").count()
    (post.home / ACTIVE / "new.json").write_text("{")
    post.look()
    expect(page.locator(".finding")).to_have_count(number + 1)
    (post.home / ACTIVE / "new.json").unlink()
    post.look()
    expect(page.locator(".finding")).to_have_count(number)


def test_it_narrows_while_somebody_types_and_by_kind(page: Page, post: Post) -> None:
    page.goto("/integrity/")
    page.locator("body").press("/")
    page.keyboard.type("torn")
    expect(page.locator(".finding")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"q=torn"))
    expect(page.locator("#kinds .kind")).to_have_count(1)
    page.goto("/integrity/")
    page.locator("#kinds .unreadable").click()
    expect(page.locator('.finding:not([data-kind="unreadable"])')).to_have_count(0)
    page.locator("#q").fill("nowhere to be found")
    expect(page.locator(".empty h2")).to_have_text("Nothing odd matches")


def test_a_viewer_may_press_nothing_also_after_a_push(page: Page, post: Post) -> None:
    page.goto("/integrity/?kind=unreadable")
    live(page)
    (post.home / ACTIVE / "new.json").write_text(DAMAGED % "new")
    post.look()
    row = finding(page, f"{ACTIVE}/new.json")
    expect(row).to_have_count(1)
    for button in row.locator(".mend button").all():
        expect(button).to_be_disabled()


def test_it_works_without_javascript(operator_page: Page, server: Server, post: Post) -> None:
    page = operator_page
    context = page.context.browser.new_context(base_url=server.url, java_script_enabled=False)  # type: ignore[union-attr]
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto("/integrity/")
    plain.locator("#q").fill("torn")
    plain.get_by_role("button", name="Apply").click()
    expect(plain.locator(".finding")).to_have_count(1)
    plain.get_by_role("button", name="Quarantine…").click()
    expect(plain).to_have_url(re.compile(r"/remediations/\d+/$"))
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_all_can_be_read(operator_page: Page, post: Post, theme: str) -> None:
    page = operator_page
    long = "agents/workers/" + "worker-implementation-001-a-name-that-goes-on-" * 4
    (post.home / long).mkdir(parents=True)
    spec = Home.__new__(Home)
    spec.path, spec.specs = post.home, post.home / "coordination/worker-specs"
    spec.made_at = datetime.now(UTC)
    spec.spec("ahead", created_at="2099-01-01T00:00:00Z", heartbeat={"last_heartbeat": iso(datetime.now(UTC))})
    post.look()
    Poller.objects.update(last_cycle_at=datetime.now(UTC))
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for address in ("/integrity/", "/integrity/?kind=orphan", "/integrity/?q=nothing-like-it"):
            page.goto(address)
            live(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.evaluate(CONTRAST) == [], address
