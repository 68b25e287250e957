"""The environment, read and checked once. A wrong value stops the start with a message that names the variable."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dj_database_url
from environs import Env, EnvError, validate

from .proxies import Network

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
    secret_key_fallbacks: list[str]  # keys that held before: what was encrypted or signed with them is still read
    allowed_hosts: list[str]
    debug: bool
    host: str
    url: str  # "" where none was given: then the address that is listened on
    trusted_proxies: tuple[Network, ...]  # whose word on the client's address is taken
    poll_seconds: float
    event_days: int  # how long events are kept, from when they were stored
    demo: bool  # set by ``relay --demo`` for its own children
    commands: dict[str, tuple[str, ...]]
    metrics_token: str  # "" where none is set: then /metrics answers this machine alone


def read() -> Environment:
    """Read the environment. Raises WrongValueError."""
    env = Env()
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "relay-web"
    database, url = _database(env, state), _url(env)
    return Environment(
        home=_home(),
        state=state,
        database=database,
        secret_key=_get(lambda: env.str("SECRET_KEY", "")) or _kept_secret(_beside(database, state)),
        secret_key_fallbacks=_keys(env),
        allowed_hosts=_allowed_hosts(env, url),
        debug=_get(lambda: env.bool("DEBUG", False)),
        host=_host(env),
        url=url,
        trusted_proxies=_trusted_proxies(env, url),
        poll_seconds=_get(lambda: env.float("RELAY_POLL_SECONDS", 2.0, validate=validate.Range(min=0.05, max=3600))),
        event_days=_get(lambda: env.int("RELAY_EVENT_DAYS", 90, validate=validate.Range(min=1, max=36_500))),
        demo="RELAY_DEMO" in os.environ,
        metrics_token=_metrics_token(env),
        commands={name: _command(name, env.str(name, default)) for name, default in COMMANDS.items()},
    )


def _keys(env: Env) -> list[str]:
    given: list[str] = _get(lambda: env.list("SECRET_KEY_FALLBACKS", []))
    return [key for key in given if key]


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
        _make_writable_place(Path(config["NAME"]))
        # IMMEDIATE takes the write lock at BEGIN, where waiting works; a read that turns into a write cannot wait.
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728; "
                "PRAGMA cache_size=-16000; PRAGMA journal_size_limit=67108864; PRAGMA wal_autocheckpoint=8000;"
            ),
        }
        config["CONN_MAX_AGE"] = None
    elif not config["NAME"]:
        raise WrongValueError("DATABASE_URL: names no database; give postgres://user@host/name")
    else:
        config["OPTIONS"] = {**config.get("OPTIONS", {}), "pool": {"min_size": 1, "max_size": 8}}
        config["CONN_MAX_AGE"] = 0
    return config


def _make_writable_place(path: Path) -> None:
    """Make the directory of a SQLite file. Raises WrongValueError where there can be none."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise WrongValueError(
            f"DATABASE_URL: {path.parent} cannot be made ({(error.strerror or '').lower()})"
        ) from None
    if path.is_dir():
        raise WrongValueError(f"DATABASE_URL: {path} is a directory; give the path of a file in it")


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


def _allowed_hosts(env: Env, url: str) -> list[str]:
    hosts: list[str] = _get(lambda: env.list("ALLOWED_HOSTS", []))
    url_host = urlsplit(url).hostname
    return hosts or ["127.0.0.1", "localhost", "[::1]", *([url_host] if url_host else [])]


def _host(env: Env) -> str:
    host = env.str("RELAY_HOST", "") or socket.gethostname()
    if len(host) > 255 or any(character.isspace() for character in host):
        raise WrongValueError(f"RELAY_HOST: “{host}” is no name of a host; give up to 255 characters without spaces")
    return host


def _metrics_token(env: Env) -> str:
    token = env.str("RELAY_METRICS_TOKEN", "")
    if not token.isascii() or not token.isprintable() or " " in token:  # it has to fit into a header; never shown
        raise WrongValueError("RELAY_METRICS_TOKEN: can only be letters, digits and signs of ASCII, without spaces")
    return token


def _url(env: Env) -> str:
    url = env.str("RELAY_URL", "").rstrip("/")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and not parts.path and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        fine = False
    if url and not fine:
        raise WrongValueError(f"RELAY_URL: “{url}” is no address; give one like https://relay.example.com")
    return url


def _trusted_proxies(env: Env, url: str) -> tuple[Network, ...]:
    """Where people come by https, it is a proxy that ends it, most often on this machine."""
    given: list[str] = _get(lambda: env.list("RELAY_TRUSTED_PROXIES", []))
    here = ["127.0.0.0/8", "::1"] if url.startswith("https://") else []
    try:
        return tuple(ip_network(each.strip()) for each in given or here)
    except ValueError as error:
        raise WrongValueError(
            f"RELAY_TRUSTED_PROXIES: {error}; give addresses or networks like 10.0.0.7,10.1.0.0/16"
        ) from None


def _command(name: str, template: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(template))
        used = {part.split("}")[0] for word in words for part in word.split("{")[1:]}
    except ValueError as error:
        raise WrongValueError(f"{name}: cannot be split into words ({error})") from None
    if not words and name != "RELAY_EMIT_EVENT":
        raise WrongValueError(f"{name}: is empty; give the command, or unset it for {COMMANDS[name]}")
    if template.count("{") != template.count("}"):
        raise WrongValueError(f"{name}: a brace is not closed; placeholders look like {{spec}}")
    if unknown := used - PLACEHOLDERS:
        known = ", ".join(f"{{{placeholder}}}" for placeholder in sorted(PLACEHOLDERS))
        raise WrongValueError(f"{name}: {{{sorted(unknown)[0]}}} is unknown; use {known}")
    return words
