"""The dead man's switch against a real server that is up, slow, broken, moving people on, or not there at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import OperationalError, connection

from workers import dead_man
from workers.models import Installation

from . import factories

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime.now(UTC)
TOKEN = "s3cret-t0ken"


class Other(ThreadingHTTPServer):
    """The other service: what it is asked for, and what it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[str] = []
        self.status, self.location = 200, ""
        self.hold = threading.Event()  # it answers once this is set
        self.hold.set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Other

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.hold.wait(20)
        self.send_response(self.server.status)
        if self.server.location and self.path.startswith("/ping"):
            self.send_header("Location", self.server.location)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[Other]:
    server = Other()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def address(other: Other) -> str:
    """An address that is to be called, on an installation where all is well."""
    address = f"{other.url}/ping/{TOKEN}"
    installation = Installation.get()
    installation.dead_man_address = address
    installation.save()
    factories.poller(last_cycle_at=NOW)
    return address


def call(now: datetime = NOW) -> bool:
    """Call if it is due, and wait until that is over."""
    thread = dead_man.call_due(now)
    if thread:
        thread.join(30)
        assert not thread.is_alive()
    return thread is not None


def state() -> tuple[datetime | None, str]:
    installation = Installation.get()
    return installation.dead_man_called_at, installation.dead_man_error


def test_it_is_called_every_so_many_minutes(other: Other, address: str) -> None:
    assert call()
    assert other.asked == [f"/ping/{TOKEN}"]
    assert state() == (NOW, "")
    later = NOW + timedelta(minutes=4, seconds=59)
    factories.poller(last_cycle_at=later)
    assert not call(later)
    later += timedelta(seconds=1)
    assert call(later)
    assert len(other.asked) == 2


def test_without_an_address_nothing_is_called(other: Other) -> None:
    factories.poller(last_cycle_at=NOW)
    assert not call()
    Installation.get()
    assert not call()


def test_it_is_not_called_while_a_poller_is_silent(other: Other, address: str) -> None:
    factories.poller("host-b", last_cycle_at=NOW - timedelta(minutes=1))
    assert not call()
    factories.poller("host-b", last_cycle_at=NOW)
    assert call()
    assert len(other.asked) == 1


def test_it_is_not_called_where_there_is_no_poller_at_all(other: Other, address: str) -> None:
    from workers.models import Poller

    Poller.objects.all().delete()
    assert not call()


def test_it_is_not_called_while_the_database_cannot_be_written(
    other: Other, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
    try:
        assert not call()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = OFF")
    assert other.asked == []
    assert "cannot be written" in caplog.text
    assert call()


def test_an_answer_of_500_is_an_error_and_the_next_call_ends_it(other: Other, address: str) -> None:
    other.status = 500
    call()
    assert state()[1] == "it answered 500"
    other.status = 204
    later = NOW + timedelta(minutes=5)
    factories.poller(last_cycle_at=later)
    call(later)
    assert state() == (later, "")


def test_a_server_that_is_down_is_an_error_that_does_not_say_the_secret(other: Other, address: str) -> None:
    other.shutdown()
    other.server_close()
    call()
    error = state()[1]
    assert error == "it cannot be reached: Connection refused"
    assert TOKEN not in error


def test_a_slow_server_is_given_up_and_holds_nobody_up(
    other: Other, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_man, "TIMEOUT", 0.3)
    other.hold.clear()
    first = dead_man.call_due(NOW)
    assert first is not None
    later = NOW + timedelta(minutes=5)
    factories.poller(last_cycle_at=later)
    assert first.is_alive()
    assert dead_man.call_due(later) is None, "one call at a time, however slow the other side is"
    first.join(30)
    assert state()[1] == "no answer within 0.3 s"


def test_a_redirect_is_followed_only_to_where_the_secret_is_as_safe(other: Other, address: str) -> None:
    other.status, other.location = 302, f"{other.url}/moved"
    assert dead_man.call(address) == "it answered 302", "and there it ends: /moved redirects to nowhere"
    assert other.asked == [f"/ping/{TOKEN}", "/moved"]
    for elsewhere in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"):
        other.location = elsewhere
        other.asked.clear()
        assert dead_man.call(address)
        assert other.asked == [f"/ping/{TOKEN}"]
    request = dead_man.urllib.request.Request("https://example.com/x")
    with pytest.raises(dead_man.urllib.error.URLError, match="from https to something else"):
        dead_man.WithinHttp().redirect_request(request, None, 302, "", {}, "http://example.com/x")


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://x/y", "http://[::1", f"http://host.invalid\n/{TOKEN}", "gopher://x"]
)
def test_what_is_no_http_address_is_not_opened(address: str) -> None:
    error = dead_man.call(address, timeout=2)
    assert error
    assert TOKEN not in error


def test_an_address_that_cannot_be_decrypted_is_an_error(
    other: Other, address: str, settings: pytest.FixtureRequest
) -> None:
    settings.SECRET_KEY = "another"  # type: ignore[attr-defined]
    assert not call()
    assert "enter it again" in state()[1]


def test_two_processes_call_once(other: Other, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one takes the turn between our look and our call."""
    well = dead_man.all_is_well

    def other_is_quicker(now: datetime) -> bool:
        Installation.objects.update(dead_man_called_at=now)
        return well(now)

    monkeypatch.setattr(dead_man, "all_is_well", other_is_quicker)
    assert not call()
    assert other.asked == []


def test_a_failed_write_is_what_django_calls_an_operational_error(address: str) -> None:
    """So the switch sees it: `DatabaseError` is its parent."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
    try:
        with pytest.raises(OperationalError):
            Installation.objects.update(dead_man_error="x")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = OFF")
