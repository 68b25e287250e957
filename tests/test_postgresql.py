"""Beyond one machine: the same commands on a real PostgreSQL server of the test's own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from .conftest import Home
from .receivers import Webhook
from .running import Place, until
from .test_healthz import answered
from .test_healthz import ask as request
from .test_relay_command import free_port


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A throw-away cluster on loopback; yields its DATABASE_URL."""
    binaries = _binaries()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs the PostgreSQL server; .ci/run installs it")
        pytest.skip("no PostgreSQL server is installed here (Debian: postgresql)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = Path(tempfile.mkdtemp(prefix="relay-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(directory, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = directory / "data"
    subprocess.run(
        [*as_user, binaries / "initdb", "-D", data, "-U", "relay", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"
    control = [*as_user, binaries / "pg_ctl", "-D", data, "-w"]
    subprocess.run(
        [*control, "-o", options, "-l", directory / "log", "start"], check=True, capture_output=True, cwd="/"
    )
    try:
        yield f"postgres://relay@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd="/")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def team(server: str, place: Place) -> Place:
    """The commands on a fresh database of that server."""
    name = f"relay_{os.urandom(4).hex()}"
    with psycopg.connect(server, autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}".encode())
    place.environment["DATABASE_URL"] = f"{server.rpartition('/')[0]}/{name}"
    return place


def ask(place: Place, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(place.environment["DATABASE_URL"], autocommit=True) as session:
        return session.execute(sql.encode()).fetchall()


def test_a_poller_does_not_migrate_a_shared_database(team: Place, home: Home) -> None:
    done = team.run("poll", "--once")
    assert done.returncode != 0
    assert "migrate" in done.stderr


def test_poll_stores_the_same_as_on_sqlite(team: Place, home: Home) -> None:
    team.run("migrate", "-v0")
    home.spec(description='quotes " and \\ and \u0000 and ünïcode')
    home.write("coordination/worker-specs/active/broken.json", "{")
    home.append("coordination/pm-activity.jsonl", '{"event":"pm_started","timestamp":"2026-01-01T00:00:00-0600"}\n')
    first = team.json("poll", "--once")
    assert (first["specs"], first["unreadable"], first["events"]) == (1, 1, 1)
    assert first["workers"] == {"zombie": 1, "unreadable": 1}
    changes = ask(team, "SELECT COUNT(*) FROM workers_change")
    assert team.json("poll", "--once")["events"] == 0
    assert ask(team, "SELECT COUNT(*) FROM workers_change") == changes, "a second start writes nothing new"
    rows = {row["worker_id"]: row for row in team.json("workers")}
    assert rows["w-1"]["health"] == "zombie"
    assert ask(team, "SELECT spec->>'worker_id' FROM workers_workerdocument WHERE spec IS NOT NULL") == [("w-1",)]


def test_the_place_of_a_host_is_held_by_the_session(team: Place, home: Home) -> None:
    team.run("migrate", "-v0")
    home.spec()
    first = team.start("poll")
    until(lambda: ask(team, "SELECT 1 FROM workers_worker"), what="a poll")
    second = team.run("poll", "--once")
    assert second.returncode != 0
    assert f"process {first.pid}" in second.stderr
    first.kill()
    first.wait()
    until(lambda: team.run("poll", "--once").returncode == 0, what="the place to be free")


def test_writers_wake_the_tails(team: Place, home: Home) -> None:
    team.run("migrate", "-v0")
    home.spec(status="pending")
    team.json("poll", "--once")
    with psycopg.connect(team.environment["DATABASE_URL"], autocommit=True) as session:
        session.execute("LISTEN relay_change")
        home.spec(status="completed")
        team.json("poll", "--once")
        assert {note.channel for note in session.notifies(timeout=10, stop_after=1)} == {"relay_change"}


def test_the_web_answers_probes_and_scrapes(team: Place, home: Home) -> None:
    team.run("migrate", "-v0")
    home.spec()
    port = free_port()
    team.start("relay", "--port", str(port))
    until(lambda: answered(port, "/healthz/ready") == 200, what="readiness")
    body = request(port, "GET", "/metrics")[1].decode()
    assert re.search(r"^relay_database_size_bytes [1-9]", body, re.MULTILINE)
    assert "relay_database_writable 1.0" in body
    assert 'database="postgresql"' in body
    assert 'relay_workers{health="zombie",host="host-a"} 1.0' in body
    assert not re.search(r"^relay_database_journal_bytes", body, re.MULTILINE), "there is none that the web could see"


ADMIN = """
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import setup_test_environment
setup_test_environment()
client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.create_superuser("root"), backend="django.contrib.auth.backends.ModelBackend")
for page in ("worker/?q=w-", "worker/?health=zombie&live=1", "worker/?q=W-", "event/?q=w-1", "healthchange/?q=w-1"):
    print(page, client.get(f"/admin/workers/{page}").context["cl"].result_count)
page = client.get("/admin/workers/installation/database/").content.decode()
print("PostgreSQL 1" in page, "Size with indexes" in page, "(there is no such file)" in page)
"""


def test_the_admin_searches_and_knows_the_database(team: Place, home: Home) -> None:
    team.run("migrate", "-v0")
    home.spec()
    team.json("poll", "--once")
    done = team.run("shell", "-v0", "-c", ADMIN)
    assert done.stdout.splitlines() == [
        "worker/?q=w- 1",
        "worker/?health=zombie&live=1 1",
        "worker/?q=W- 0",
        "event/?q=w-1 0",
        "healthchange/?q=w-1 1",
        "True True True",
    ], done.stderr


def test_settings_come_over_from_a_file(team: Place, tmp_path: Path) -> None:
    team.run("migrate", "-v0")
    text = '{"format": "relay-web-settings", "version": 1, "limits": [{"name": "late_after", "seconds": 300}]}'
    file = tmp_path / "settings.json"
    file.write_text(text)
    assert "1 change; this was a dry run" in team.run("import_settings", str(file), "--dry-run").stdout
    assert ask(team, "SELECT COUNT(*) FROM workers_limit") == [(0,)]
    team.run("import_settings", str(file))
    assert ask(team, "SELECT name, seconds FROM workers_limit") == [("late_after", 300.0)]


def test_an_alert_is_raised_and_told(team: Place, home: Home) -> None:
    team.run("migrate", "-v0")
    home.spec()
    webhook = Webhook()
    try:
        code = (
            "from workers.models import AlertRule, Channel\n"
            "rule = AlertRule.objects.create(name='any', kind='health', health='zombie', minutes=0)\n"
            f"rule.channels.add(Channel.objects.create(name='hook', address='{webhook.address}'))"
        )
        assert team.run("shell", "-c", code).returncode == 0
        team.start("poll")
        until(lambda: webhook.got, what="the message")
        assert webhook.got == ["[warning] w-1 is zombie, of type implementation-worker"]
        until(lambda: ask(team, "SELECT 1 FROM workers_delivery WHERE state = 'sent'"), what="it to be marked")
    finally:
        webhook.stop()
