"""Who may open the live socket, and who may keep it open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, get_user, get_user_model
from django.contrib.sessions.models import Session
from django.http import HttpRequest, parse_cookie
from django.http.request import split_domain_port, validate_host
from django.utils import timezone
from django.utils.crypto import constant_time_compare

#: Close codes of ours: after the first the browser shows a way to sign in, and it tries again after neither.
SIGNED_OUT, FORBIDDEN = 4401, 4403
VIEW = "workers.view_worker"
BACKEND = "django.contrib.auth.backends.ModelBackend"


@dataclass(frozen=True, slots=True)
class Pass:
    """What somebody showed when the socket was opened; looked at again once a minute."""

    user_id: int
    session_key: str
    session_hash: str


def same_origin(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a handshake comes from a page of ours. A client that is no browser sends no Origin, and no cookies."""
    found = _headers(headers)
    host, origin = found.get(b"host", ""), found.get(b"origin")
    allowed = settings.ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]
    if not validate_host(split_domain_port(host)[0], allowed):  # a name that was re-bound to our address
        return False
    if origin is None:
        return True
    parts = urlsplit(origin)
    if parts.scheme in ("http", "https") and parts.netloc == host:
        return True
    return bool(settings.RELAY_URL) and origin == settings.RELAY_URL


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    return {name.lower(): value.decode("latin1") for name, value in headers}


def show_pass(scope: Mapping[str, Any]) -> Pass | int:
    """Look at somebody who comes in by the session cookie; the close code where they may not. Reads the database.

    This is what Channels' AuthMiddlewareStack does, without its wrapper around every message that is sent afterwards,
    which took a third of the time of a fan-out.
    """
    cookies = parse_cookie(_headers(scope["headers"]).get(b"cookie", ""))
    session = import_module(settings.SESSION_ENGINE).SessionStore(cookies.get(settings.SESSION_COOKIE_NAME))
    request = HttpRequest()
    request.session = session
    user = get_user(request)
    if not user.is_authenticated or not user.is_active:
        return SIGNED_OUT
    if not user.has_perm(VIEW):
        return FORBIDDEN
    return Pass(user.pk, session.session_key, session.get(HASH_SESSION_KEY, ""))


def expired(passes: Iterable[Pass]) -> set[Pass]:
    """Say who has signed out, been locked, changed the password or lost the permission since.

    One query for all people, and one for each 500 sessions.
    """
    every = set(passes)
    keys = [entry.session_key for entry in every]
    alive: set[str] = set()
    for start in range(0, len(keys), 500):
        sessions = Session.objects.filter(session_key__in=keys[start : start + 500], expire_date__gt=timezone.now())
        alive.update(sessions.values_list("session_key", flat=True))
    people = (
        get_user_model()._default_manager.with_perm(VIEW, backend=BACKEND).in_bulk({entry.user_id for entry in every})
    )
    return {entry for entry in every if entry.session_key not in alive or not _same(people.get(entry.user_id), entry)}


def _same(user: Any, entry: Pass) -> bool:
    return user is not None and constant_time_compare(user.get_session_auth_hash(), entry.session_hash)
