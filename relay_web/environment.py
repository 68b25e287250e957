"""The environment, read and checked once. A wrong value stops the start with a message that names the variable."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dj_database_url
from environs import Env, EnvError, validate

T = TypeVar("T")
COMMANDS = {
    "RELAY_START_WORKER": "scripts/start-worker.sh --spec {spec}",
    "RELAY_CREATE_TASK": (
        "scripts/create-task.sh --description {description} --priority high "
        "--worker-type {worker_type} --metadata {metadata}"
    ),
    "RELAY_EMIT_EVENT": "",
}
PLACEHOLDERS = {"spec", "description", "worker_type", "metadata", "worker_id", "task_id", "type", "message"}


class WrongValueError(Exception):
    """A variable of the environment has a value that cannot be used; the message names it and says what would do."""


@dataclass(frozen=True)
class Environment:
    """Everything that the environment decides. Source: DESIGN, section 3."""

    home: Path | None
    state: Path
    database: dict[str, Any]
    secret_key: str
    allowed_hosts: list[str]
    debug: bool
    host: str
    url: str  # "" where none was given: then the address that is listened on
    poll_seconds: float
    demo: bool  # set by ``relay --demo`` for its own children
    commands: dict[str, tuple[str, ...]]


def read() -> Environment:
    """Read the environment. Raises WrongValueError."""
    env = Env()
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "relay-web"
    database = _database(env, state)
    return Environment(
        home=_home(),
        state=state,
        database=database,
        secret_key=_get(lambda: env.str("SECRET_KEY", "")) or _kept_secret(_beside(database, state)),
        allowed_hosts=_allowed_hosts(env),
        debug=_get(lambda: env.bool("DEBUG", False)),
        host=_host(env),
        url=_url(env),
        poll_seconds=_get(lambda: env.float("RELAY_POLL_SECONDS", 2.0, validate=validate.Range(min=0.05, max=3600))),
        demo="RELAY_DEMO" in os.environ,
        commands={name: _command(name, env.str(name, default)) for name, default in COMMANDS.items()},
    )


def _get(read_value: Callable[[], T]) -> T:
    try:
        return read_value()
    except EnvError as error:
        raise WrongValueError(str(error)) from None


def _home() -> Path | None:
    for name in ("COMMIT_RELAY_HOME", "CORTEX_HOME"):
        value = os.environ.get(name)
        if not value:
            continue
        home = Path(value)
        if not home.is_absolute():
            raise WrongValueError(f"{name}: “{value}” is not an absolute path; give the whole path of the fleet's home")
        if not home.is_dir():
            raise WrongValueError(f"{name}: {value} is not a directory; give the directory that holds coordination/")
        return home.resolve()
    return None


def _database(env: Env, state: Path) -> dict[str, Any]:
    value = os.environ.get("DATABASE_URL") or f"sqlite:///{state / 'relay.sqlite3'}"
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(value, conn_health_checks=True))
    except (ValueError, KeyError) as error:
        raise WrongValueError(
            f"DATABASE_URL: cannot be understood ({error}); give sqlite:////path or postgres://…"
        ) from None
    engine = config["ENGINE"].rsplit(".", 1)[-1]
    if engine not in ("sqlite3", "postgresql"):
        raise WrongValueError(f"DATABASE_URL: {engine} is not supported; give sqlite:////path or postgres://…")
    if engine == "sqlite3":
        if config["NAME"] in ("", ":memory:"):
            raise WrongValueError("DATABASE_URL: the web and the poller share the database, so it must be a file")
        Path(config["NAME"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # IMMEDIATE takes the write lock at BEGIN, where waiting works; a read that turns into a write cannot wait.
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728; "
                "PRAGMA cache_size=-16000; PRAGMA journal_size_limit=67108864;"
            ),
        }
        config["CONN_MAX_AGE"] = None
    else:
        config["OPTIONS"] = {**config.get("OPTIONS", {}), "pool": {"min_size": 1, "max_size": 8}}
        config["CONN_MAX_AGE"] = 0
    return config


def _beside(database: dict[str, Any], state: Path) -> Path:
    if database["ENGINE"].endswith("sqlite3"):
        return Path(database["NAME"]).parent
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return state


def _kept_secret(directory: Path) -> str:
    """Return the secret kept in the directory; make it there, readable by its owner alone, the first time."""
    path = directory / "secret_key"
    for _ in range(2):
        try:
            kept = path.read_text().strip()
            if len(kept) >= 50:
                return kept
            raise WrongValueError(f"SECRET_KEY: {path} holds no usable key; delete the file or set SECRET_KEY")
        except FileNotFoundError:
            # Written aside and linked into place, so that two processes that start at once agree on one key.
            draft = directory / f".secret_key.{os.getpid()}.{secrets.token_hex(4)}"
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_text(secrets.token_urlsafe(50))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
    return path.read_text().strip()


def _allowed_hosts(env: Env) -> list[str]:
    hosts: list[str] = _get(lambda: env.list("ALLOWED_HOSTS", []))
    url_host = urlsplit(os.environ.get("RELAY_URL", "")).hostname
    return hosts or ["127.0.0.1", "localhost", "[::1]", *([url_host] if url_host else [])]


def _host(env: Env) -> str:
    host = env.str("RELAY_HOST", "") or socket.gethostname()
    if len(host) > 255 or any(character.isspace() for character in host):
        raise WrongValueError(f"RELAY_HOST: “{host}” is no name of a host; give up to 255 characters without spaces")
    return host


def _url(env: Env) -> str:
    url = env.str("RELAY_URL", "").rstrip("/")
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path):
        raise WrongValueError(f"RELAY_URL: “{url}” is no address; give one like https://relay.example.com")
    return url


def _command(name: str, template: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(template))
        used = {part.split("}")[0] for word in words for part in word.split("{")[1:]}
    except ValueError as error:
        raise WrongValueError(f"{name}: cannot be split into words ({error})") from None
    if unknown := used - PLACEHOLDERS:
        known = ", ".join(f"{{{placeholder}}}" for placeholder in sorted(PLACEHOLDERS))
        raise WrongValueError(f"{name}: {{{sorted(unknown)[0]}}} is unknown; use {known}")
    return words
