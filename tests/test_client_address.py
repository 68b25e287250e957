"""Whose address is counted and recorded: that of the client, and nobody can make one up."""

from __future__ import annotations

import asyncio
import http.client
import re
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlencode

import pytest

from relay_web.environment import WrongValueError, read
from relay_web.proxies import ClientAddress

from .running import Place, read_until, until
from .test_relay_command import answers, free_port

TRUSTED = tuple(map(ip_network, ("127.0.0.0/8", "::1", "10.9.0.0/16")))
CLIENT = "203.0.113.5"


def seen(peer: str | None, *forwarded: str, kind: str = "http", trusted: Any = TRUSTED) -> str | None:
    """The address that the application sees."""
    scopes = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    headers = [(b"host", b"relay"), *((b"x-forwarded-for", each.encode()) for each in forwarded)]
    scope = {"type": kind, "client": [peer, 40_000] if peer else None, "headers": headers}
    asyncio.run(ClientAddress(application, trusted)(scope, None, None))
    client = scopes[0]["client"]
    return client[0] if client else None


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.9.1.1"])
def test_a_proxy_of_ours_says_who_the_client_is(peer: str, kind: str) -> None:
    assert seen(peer, CLIENT, kind=kind) == CLIENT


@pytest.mark.parametrize("peer", ["198.51.100.7", "10.8.0.1", "::2"])
def test_anybody_else_is_who_they_are(peer: str) -> None:
    assert seen(peer, CLIENT) == peer
    assert seen("127.0.0.1", CLIENT, trusted=()) == "127.0.0.1"


@pytest.mark.parametrize(
    "forwarded",
    [
        [f"127.0.0.1, {CLIENT}"],
        [f"8.8.8.8,{CLIENT}"],
        ["8.8.8.8", CLIENT],
        [f"nonsense, {CLIENT}"],
        [f"8.8.8.8, {CLIENT}, 10.9.0.1"],
        [f"{CLIENT}:51234"],
        [f"unknown, {CLIENT}, 10.9.0.1:80, [::1]:443"],
    ],
)
def test_what_the_client_has_written_before_it_is_not_believed(forwarded: list[str]) -> None:
    assert seen("127.0.0.1", *forwarded) == CLIENT


def test_an_address_of_the_newer_kind() -> None:
    assert seen("::1", "2001:db8::7") == seen("::1", "[2001:db8::7]:443") == "2001:db8::7"


def test_what_is_no_address_leaves_the_proxys() -> None:
    assert seen("127.0.0.1") == seen("127.0.0.1", "") == seen("127.0.0.1", f"{CLIENT}, <script>") == "127.0.0.1"
    assert seen(None, CLIENT) is None


def test_what_has_no_client_is_passed_on() -> None:
    passed = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope)

    asyncio.run(ClientAddress(application, TRUSTED)({"type": "lifespan"}, None, None))
    assert passed == [{"type": "lifespan"}]


def test_a_proxy_on_this_machine_is_trusted_only_where_people_come_by_https(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read().trusted_proxies == ()
    monkeypatch.setenv("RELAY_URL", "http://relay.example.com")
    assert read().trusted_proxies == ()
    monkeypatch.setenv("RELAY_URL", "https://relay.example.com")
    assert read().trusted_proxies == TRUSTED[:2]
    monkeypatch.setenv("RELAY_TRUSTED_PROXIES", "10.9.0.0/16, 192.0.2.1")
    assert read().trusted_proxies == (TRUSTED[2], ip_network("192.0.2.1"))


@pytest.mark.parametrize("value", ["proxy.example.com", "10.0.0.1/8", "*", "10.0.0.1;10.0.0.2"])
def test_a_wrong_one_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RELAY_TRUSTED_PROXIES", value)
    with pytest.raises(WrongValueError, match="RELAY_TRUSTED_PROXIES"):
        read()


# -- a real server


class Visitor:
    """Somebody who speaks to the server from one address of this machine."""

    def __init__(self, port: int, address: str) -> None:
        self.port, self.address = port, address

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str, str]:
        """Return the status, the text and the cookies."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, 60, source_address=(self.address, 0))
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, response.read().decode(), response.getheader("Set-Cookie", "")
        finally:
            connection.close()

    def try_password(self, **headers: str) -> int:
        """Try a wrong password for robin; return the status."""
        _, page, cookies = self.ask("GET", "/accounts/login/", **headers)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        cookie = re.search(r"relay_csrf=\w+", cookies)
        assert token
        assert cookie
        form = urlencode({"username": "robin", "password": "wrong", "csrfmiddlewaretoken": token[1]})
        form_type = "application/x-www-form-urlencoded"
        return self.ask("POST", "/accounts/login/", form, Cookie=cookie[0], Content_Type=form_type, **headers)[0]


def test_wrong_passwords_lock_one_client_and_a_made_up_address_is_no_way_round_it(place: Place) -> None:
    port = free_port()
    process = place.start(
        "relay", "--port", str(port), RELAY_TRUSTED_PROXIES="127.0.0.2", RELAY_POLL_SECONDS="600", COMMIT_RELAY_HOME=""
    )
    read_until(process, r"Relay Web is at")
    until(lambda: answers(port), what="an answer")
    proxy, direct = Visitor(port, "127.0.0.2"), Visitor(port, "127.0.0.3")

    tries = [proxy.try_password(X_Forwarded_For=f"198.51.100.{number}, {CLIENT}") for number in range(11)]
    assert tries[0] == 200
    assert tries[-1] == 429, "whatever it puts before the address that the proxy has seen"
    assert proxy.try_password(X_Forwarded_For="203.0.113.6") == 200, "another client is not locked out"
    for number in range(2):
        assert direct.try_password(X_Forwarded_For=f"192.0.2.{number}") == 200
    found = place.query("SELECT DISTINCT ip_address FROM axes_accessattempt ORDER BY ip_address")
    assert [address for (address,) in found] == ["127.0.0.3", CLIENT, "203.0.113.6"]

    assert direct.ask("GET", "/metrics")[0] == 403, "only 127.0.0.1 is this machine"
    for visitor in (direct, proxy, Visitor(port, "127.0.0.1")):
        assert visitor.ask("GET", "/metrics", X_Forwarded_For="127.0.0.1")[0] == 403
    assert Visitor(port, "127.0.0.1").ask("GET", "/metrics")[0] == 200
