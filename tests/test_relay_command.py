"""``manage.py relay``: the whole product on one port, and nothing left behind however it ends."""

from __future__ import annotations

import re
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from .conftest import Home
from .running import Place, children, lives, read_until, until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_polls_and_stops_both(bare_place: Place, home: Home, number: signal.Signals) -> None:
    place = bare_place
    home.spec()
    port = free_port()
    process = place.start("relay", "--port", str(port))
    assert read_until(process, r"at (http://\S+)")[1] == f"http://127.0.0.1:{port}"
    until(lambda: answers(port), what="an answer")
    until(lambda: place.query("SELECT 1 FROM workers_worker"), what="a poll")
    family = children(process.pid)
    assert family
    began = time.monotonic()
    process.send_signal(number)
    process.wait(10)
    assert time.monotonic() - began < 2.5
    assert not [pid for pid in family if lives(pid)]


def test_a_parent_that_is_killed_leaves_no_child(place: Place, home: Home) -> None:
    home.spec()
    process = place.start("relay", "--port", str(free_port()))
    until(lambda: place.query("SELECT 1 FROM workers_worker"), what="a poll")
    family = children(process.pid)
    process.kill()
    process.wait()
    until(lambda: not [pid for pid in family if lives(pid)], 10, "the end of the children")


def test_a_poller_that_dies_is_started_again(place: Place, home: Home) -> None:
    home.spec()
    process = place.start("relay", "--port", str(free_port()))
    until(lambda: place.query("SELECT 1 FROM workers_worker"), what="a poll")
    (first,) = place.query("SELECT pid FROM workers_poller")[0]
    assert first in children(process.pid)
    import os

    os.kill(first, signal.SIGKILL)
    until(lambda: place.query("SELECT pid FROM workers_poller")[0][0] != first, what="a new poller")


def test_without_users_it_prints_a_link_that_works_once(place: Place, home: Home) -> None:
    port = free_port()
    process = place.start("relay", "--port", str(port))
    link = read_until(process, r"(http://\S+/setup/\S+)")[1]
    until(lambda: answers(port), what="an answer")
    with urllib.request.urlopen(link, timeout=10) as response:
        assert response.status == 200
    assert re.search(r"/setup/[^/]{20,}/$", link)
    assert place.query("SELECT COUNT(*) FROM auth_user") == [(0,)], "no account is made unasked"


def test_a_taken_port_is_named(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = place.run("relay", "--port", str(port))
    assert done.returncode != 0
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_has_accounts_and_a_fleet_of_its_own(bare_place: Place) -> None:
    """The database and the home of the environment stay as they are."""
    place = bare_place
    port = free_port()
    process = place.start("relay", "--demo", "--port", str(port))
    assert read_until(process, r"viewer, operator, admin with the password (\S+)")
    read_until(process, r"Relay Web is at")
    until(lambda: answers(port), what="an answer")
    assert not place.database.exists()
    family = until(lambda: len(found := children(process.pid)) > 20 and found, 60, "the demo's processes")
    process.kill()
    process.wait()
    until(lambda: not [pid for pid in family if lives(pid)], 15, "the end of the demo")


def test_a_second_demo_leaves_the_first_one_alone(place: Place) -> None:
    port = free_port()
    process = place.start("relay", "--demo", "--port", str(port))
    read_until(process, r"Relay Web is at")
    until(lambda: answers(port), what="an answer")
    database = next(Path(place.environment["XDG_STATE_HOME"]).rglob("demo.sqlite3"))
    for other in (port, free_port()):
        done = place.run("relay", "--demo", "--port", str(other))
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
    assert "another demo runs" in done.stderr
    assert database.exists()
    assert answers(port)


def test_a_port_that_is_none_is_refused(place: Place) -> None:
    done = place.run("relay", "--port", "99999")
    assert "--port 99999" in done.stderr
    assert "Traceback" not in done.stderr
