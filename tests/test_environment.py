"""The environment: what it decides, and how a wrong value is refused by name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relay_web import environment

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("RELAY_") or name in (
            "COMMIT_RELAY_HOME",
            "CORTEX_HOME",
            "DATABASE_URL",
            "SECRET_KEY",
            "SECRET_KEY_FALLBACKS",
            "DEBUG",
        ):
            monkeypatch.delenv(name)
    monkeypatch.delenv("ALLOWED_HOSTS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_it_runs_without_any_variable(tmp_path: Path) -> None:
    read = environment.read()
    assert read.home is None
    assert read.debug is False
    assert read.poll_seconds == 2
    assert Path(read.database["NAME"]).parent == tmp_path / "state" / "relay-web"
    assert read.commands["RELAY_START_WORKER"] == ("scripts/start-worker.sh", "--spec", "{spec}")
    assert read.commands["RELAY_EMIT_EVENT"] == ()


def test_events_are_kept_for_so_many_days_and_keys_of_before_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (environment.read().event_days, environment.read().secret_key_fallbacks) == (90, [])
    monkeypatch.setenv("RELAY_EVENT_DAYS", "14")
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", "before,,long ago")
    assert (environment.read().event_days, environment.read().secret_key_fallbacks) == (14, ["before", "long ago"])
    monkeypatch.setenv("RELAY_EVENT_DAYS", "0")
    with pytest.raises(environment.WrongValueError, match="RELAY_EVENT_DAYS"):
        environment.read()


def test_a_token_for_metrics_is_none_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.read().metrics_token == ""
    monkeypatch.setenv("RELAY_METRICS_TOKEN", "s3cret-=/+")
    assert environment.read().metrics_token == "s3cret-=/+"


def test_a_wrong_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_METRICS_TOKEN", "geheim niss")
    with pytest.raises(environment.WrongValueError) as refused:
        environment.read()
    assert "geheim" not in str(refused.value)


def test_cortex_home_serves_where_commit_relay_home_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORTEX_HOME", str(tmp_path))
    assert environment.read().home == tmp_path.resolve()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("COMMIT_RELAY_HOME", str(other))
    assert environment.read().home == other.resolve()


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    first = environment.read().secret_key
    assert environment.read().secret_key == first
    assert len(first) >= 50
    path = tmp_path / "state" / "relay-web" / "secret_key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "perhaps"),
        ("RELAY_POLL_SECONDS", "soon"),
        ("RELAY_POLL_SECONDS", "0"),
        ("RELAY_POLL_SECONDS", "-1"),
        ("RELAY_URL", "relay.example.com"),
        ("RELAY_URL", "https://relay.example.com/path"),
        ("RELAY_URL", "http://[::1"),
        ("RELAY_URL", "http://relay.example.com:99999"),
        ("RELAY_HOST", "two words"),
        ("RELAY_METRICS_TOKEN", "two words"),
        ("RELAY_METRICS_TOKEN", "schlüssel"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "postgres://"),
        ("DATABASE_URL", "sqlite:////proc/nowhere/relay.sqlite3"),
        ("DATABASE_URL", "sqlite:////tmp"),
        ("COMMIT_RELAY_HOME", "relative/path"),
        ("COMMIT_RELAY_HOME", "/no/such/directory"),
        ("RELAY_START_WORKER", "start {nobody}"),
        ("RELAY_START_WORKER", "start 'unclosed"),
        ("RELAY_START_WORKER", "start {spec"),
        ("RELAY_START_WORKER", ""),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(environment.WrongValueError, match=name):
        environment.read()


def test_the_command_line_ends_with_a_sentence_and_no_traceback() -> None:
    run = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={**os.environ, "RELAY_POLL_SECONDS": "soon"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode != 0
    assert "RELAY_POLL_SECONDS" in run.stderr
    assert "Traceback" not in run.stderr
