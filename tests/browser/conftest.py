"""A real Chromium in front of a real server, which reads the tests' own database."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.running import ROOT, until
from workers.alerting.defaults import RULES
from workers.models import AlertRule, Attendant

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: What Django's handler says when a browser leaves while its answer is on the way; no fault of ours.
ABORTED = re.compile(
    r"^.* ERROR asyncio: Task exception was never retrieved\nfuture:.*\n(?:.*\n)*?.*RequestAborted\n", re.MULTILINE
)
expect.set_options(timeout=10_000)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "minded: the server minds alerts and policies in this test")
    config.addinivalue_line("markers", "own_server: this test does not share its server with others")
    config.addinivalue_line("markers", "may_complain(pattern): what the browser's console may say in this test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in this directory drive the browser, on one worker (tests/conftest.py): the machine has two cores."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


class Server:
    """The web process alone, on the tests' database. It can be stopped and started again on the same port."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
            "SECRET_KEY": settings.SECRET_KEY,
        }
        command = [
            sys.executable,
            "-m",
            "daphne",
            "-b",
            "127.0.0.1",
            "-p",
            str(self.port),
            "--application-close-timeout",  # as `relay` does
            "1",
            "relay_web.asgi:application",
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        until(self._answers, 60, "an answer of the server")

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/accounts/login/", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for one module. Its event loop runs in this thread, which Django has to be told to bear."""
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium; .ci/run installs it")
        pytest.skip("there is no /usr/bin/chromium here (Debian: chromium)")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            yield browser
            browser.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="package")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests of this directory, since starting it takes longer than most of them do.

    It ends with the last of them: it would mind the alerts and the messages of tests that come after, too.
    """
    server = Server(tmp_path_factory.mktemp("server") / "server.log")
    yield server
    server.stop()


@pytest.fixture
def server(
    transactional_db: None, shared_server: Server, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Server]:
    """The web process, which minds alerts and policies only where a test says so by the marker `minded`.

    A test of the admin has one of its own (`own_server`): it remembers keys of content types, which a test takes away.
    """
    minded = request.node.get_closest_marker("minded")
    own = minded or request.node.get_closest_marker("own_server")
    AlertRule.objects.filter(name__in=[each["name"] for each in RULES]).delete()
    if not minded:
        until = datetime.now(UTC) + timedelta(days=1)
        Attendant.objects.update_or_create(pk=1, defaults={"process": "nobody in this test", "until": until})
    server = Server(tmp_path / "server.log") if own else shared_server
    if not server.runs:
        server.start()
    read = len(server.log.read_text())
    yield server
    if own:
        server.stop()
    log = ABORTED.sub("", server.log.read_text()[read:])
    assert not re.search("Traceback|ERROR", log), log[-4000:]


@pytest.fixture
def context(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=server.url, viewport={"width": 1440, "height": 900}, timezone_id="UTC")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


@pytest.fixture
def visitor(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of somebody who has not signed in. The test fails on whatever its console complains about."""
    page = context.new_page()
    complaints = complaints_of(page)
    yield page
    photograph_failure(page, request)
    marker = request.node.get_closest_marker("may_complain")
    assert not [text for text in complaints if not (marker and re.search(marker.args[0], text))]


def complaints_of(page: Page) -> list[str]:
    """A list that fills with whatever the page's console complains about."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    return complaints


def photograph_failure(page: Page, request: pytest.FixtureRequest, name: str = "") -> None:
    """Keep a picture of the page, if the test has failed."""
    if request.node.stash.get(FAILED, False):
        shots = ROOT / "test-results"
        shots.mkdir(exist_ok=True)
        page.screenshot(path=shots / f"{request.node.name}{name}.png")


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remember a failure, so that the page can be photographed before it goes."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def page(visitor: Page, server: Server, viewer: User) -> Page:
    """A page of a viewer who is signed in, on the fleet."""
    from tests.conftest import client_of

    cookie = client_of(viewer).cookies[settings.SESSION_COOKIE_NAME]
    visitor.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])
    return visitor


def live(page: Page) -> None:
    """Wait until the page says that it is live."""
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
