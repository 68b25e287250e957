"""`/healthz`: what a supervisor and a load balancer ask."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from relay_web.asgi import application
from relay_web.probes import ProbeMiddleware
from workers import readiness
from workers.queries import lights

from . import factories
from .conftest import Home
from .running import Place, read_until, until
from .test_relay_command import free_port

GB = 10**9
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def host(settings: Any) -> None:
    settings.RELAY_HOST = factories.HOST
    settings.RELAY_HOME = None


@pytest.fixture
def configured(host: None, settings: Any, tmp_path: Path) -> None:
    settings.RELAY_HOME = tmp_path


def ready(client: Client, address: str = "/healthz?ready") -> tuple[int, dict[str, Any]]:
    response = client.get(address)
    body = json.loads(response.content)
    assert body["status"] == ("ok" if response.status_code == 200 else "bad")
    return response.status_code, body["checks"]


# Alive


@pytest.mark.parametrize("address", ["/healthz", "/healthz/"])
def test_whoever_asks_hears_that_it_is_alive(client: Client, address: str) -> None:
    with CaptureQueriesContext(connection) as captured:
        response = client.get(address)
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies, "no session is made"
    assert len(captured) == 0


async def test_it_answers_while_no_thread_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the event loop itself: a process whose threads all wait for a database is alive, too."""
    scope = {"type": "http", "method": "GET", "path": "/healthz", "query_string": b"", "headers": []}
    asked: list[str] = []

    def refuse(*args: Any) -> Any:
        raise AssertionError("a thread was asked for")

    async def rest(request: Any) -> Any:
        asked.append(request.path)

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
    middleware = ProbeMiddleware(rest)
    answer: Any = await middleware(ASGIRequest(scope, io.BytesIO()))  # type: ignore[misc]
    assert answer.status_code == 200
    await middleware(ASGIRequest({**scope, "path": "/"}, io.BytesIO()))  # type: ignore[misc]
    assert asked == ["/"]
    monkeypatch.undo()
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "http.request", "body": b""})
    assert (await communicator.receive_output(5))["status"] == 200


@pytest.mark.parametrize("address", ["/healthz", "/healthz?ready", "/healthz/ready"])
def test_a_probe_may_call_us_by_any_name_and_without_tls(client: Client, settings: Any, address: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["relay.example.com"]
    response = client.get(address, headers={"Host": "10.1.2.3:8000"})
    assert response.status_code == 200
    assert client.get("/", headers={"Host": "10.1.2.3:8000"}).status_code in (301, 400), "nothing else may"


def test_head_has_the_head_alone(client: Client) -> None:
    response = client.head("/healthz")
    assert (response.status_code, response.content) == (200, b"")
    assert client.head("/healthz?ready").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_nobody_can_change_anything_by_a_probe(client: Client, method: str) -> None:
    response = getattr(client, method)("/healthz")
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"


def test_other_addresses_are_none_of_its_business(client: Client) -> None:
    assert client.get("/healthz/other").status_code in (302, 404)
    assert client.get("/healthzz").status_code in (302, 404)


# Ready


@pytest.mark.parametrize("address", ["/healthz?ready", "/healthz?ready=1", "/healthz/ready", "/healthz/ready/"])
def test_a_process_that_is_of_use_says_so(client: Client, configured: None, address: str) -> None:
    factories.poller(disk_free_bytes=50 * GB, disk_total_bytes=100 * GB)
    every = {name: {"status": "ok"} for name in ("database", "migrations", "poller", "disk")}
    assert ready(client, address) == (200, every)


def test_a_silent_poller_makes_it_unready(client: Client, configured: None) -> None:
    factories.poller(last_cycle_at=timezone.now() - timedelta(seconds=40))
    status, checks = ready(client)
    assert status == 503
    assert checks["poller"]["status"] == "bad"
    assert checks["poller"]["reason"] in ("Silent for 40 s", "Silent for 41 s")


def test_a_poller_that_has_never_reported_makes_it_unready_where_one_is_due(client: Client, settings: Any) -> None:
    settings.RELAY_HOME = None
    assert ready(client)[0] == 200, "a web process without a home may do without"
    settings.RELAY_HOME = Path("/somewhere")
    assert ready(client)[1]["poller"]["reason"] == "It has never reported"
    factories.poller(last_cycle_at=None)
    assert ready(client)[1]["poller"]["reason"] == "It has not finished a cycle yet"


def test_the_poller_of_another_host_does_not_count(client: Client, configured: None) -> None:
    factories.poller()
    factories.poller("elsewhere", last_cycle_at=timezone.now() - timedelta(days=1))
    assert ready(client)[0] == 200


def test_a_migration_that_is_missing_makes_it_unready(client: Client) -> None:
    newest = max(name for app, name in readiness._newest() if app == "workers")
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("workers", newest)
    status, checks = ready(client)
    assert status == 503
    assert checks["migrations"]["reason"] == "The database is not up to date with this version"


@pytest.mark.parametrize(
    ("free", "status"), [(3 * GB, 200), (3 * GB - 1, 503), (None, 200)], ids=["enough", "full", "unknown"]
)
def test_a_full_disk_of_the_home_makes_it_unready(
    client: Client, configured: None, free: int | None, status: int
) -> None:
    factories.poller(disk_free_bytes=free, disk_total_bytes=100 * GB)
    assert ready(client)[0] == status


def test_a_database_that_cannot_be_written_makes_it_unready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "database", lambda now: lights.Database(writable=False))
    assert ready(client)[1]["disk"]["reason"] == "The database cannot be written"


def test_a_database_that_cannot_be_read_is_said_without_its_words(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise DatabaseError("connection to server at db.internal, user relay, failed")

    monkeypatch.setattr(MigrationRecorder, "applied_migrations", fail)
    response = client.get("/healthz?ready")
    assert response.status_code == 503
    assert response.json()["checks"]["database"] == {"status": "bad", "reason": "It cannot be read"}
    assert b"internal" not in response.content
    assert client.get("/healthz").status_code == 200, "it is alive none the less"


def test_a_stranger_learns_nothing_of_the_fleet(client: Client, configured: None) -> None:
    factories.poller(last_cycle_at=None, error="/srv/secret is missing", disk_free_bytes=1, disk_total_bytes=GB)
    text = client.get("/healthz?ready").content.decode()
    for secret in ("host-a", "/srv", "secret", "sqlite", str(connection.settings_dict["NAME"])):
        assert secret not in text


def test_it_costs_two_queries_and_makes_no_session(client: Client, configured: None) -> None:
    factories.poller()
    client.get("/healthz?ready")
    with CaptureQueriesContext(connection) as captured:
        response = client.get("/healthz?ready")
    assert response.status_code == 200
    assert len(captured) <= 3  # whether there is a table of migrations, which of them, the poller
    assert not response.cookies


# A real process


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        link.request(method, path, headers=headers)
        response = link.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        link.close()


def answered(port: int, path: str) -> int:
    try:
        return ask(port, "GET", path)[0]
    except OSError:
        return 0


def test_relay_answers_probes_and_scrapes(place: Place, home: Home) -> None:
    home.spec()
    port = free_port()
    process = place.start("relay", "--port", str(port), RELAY_METRICS_TOKEN="s3cret", RELAY_URL="https://relay.example")
    read_until(process, r"Relay Web is at")
    until(lambda: answered(port, "/healthz") == 200, what="a sign of life")
    until(lambda: answered(port, "/healthz/ready") == 200, what="readiness")
    status, body, headers = ask(port, "HEAD", "/healthz", Host="10.0.0.7")
    assert (status, body) == (200, b"")
    assert "Set-Cookie" not in headers
    assert json.loads(ask(port, "GET", "/healthz?ready")[1])["status"] == "ok"
    assert ask(port, "GET", "/metrics")[0] == 401
    status, body, headers = ask(port, "GET", "/metrics", Authorization="Bearer s3cret")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'relay_poller_up{host="host-a"} 1.0' in body
    assert ask(port, "GET", "/")[0] == 301, "people are sent to https"


def test_a_place_without_a_poller_gets_unready(place: Place, home: Home) -> None:
    """The web process alone, as it runs beside pollers that have all died."""
    home.spec()
    assert place.run("poll", "--once").returncode == 0
    port = free_port()
    place.start("runserver", "--noreload", f"127.0.0.1:{port}")
    until(lambda: answered(port, "/healthz") == 200, what="a sign of life")
    until(lambda: answered(port, "/healthz?ready") == 503, what="that nobody polls")
    checks = json.loads(ask(port, "GET", "/healthz?ready")[1])["checks"]
    assert [name for name, check in checks.items() if check["status"] == "bad"] == ["poller"]
