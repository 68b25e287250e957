"""The dead man's switch: an address of another service that is called while all is well.

When the calls stop, that service raises the alarm: nobody here could, if this machine is gone. So it is not called
while a poller is silent, or while the database cannot be written; that is its point.
"""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection

from .models import Installation
from .queries.watch import watches
from .secrets_at_rest import UnreadableSecretError, decrypt

log = logging.getLogger(__name__)
#: Seconds until a connection, or an answer, is given up.
TIMEOUT = 10.0
SCHEMES = ("http", "https")
_AGENT = "relay-web (dead man's switch)"
#: At most one call is on its way in this process, however slow the other side is.
_calling = threading.Lock()


class WithinHttp(urllib.request.HTTPRedirectHandler):
    """Follows a redirect within the same scheme or from http to https: the secret never travels more openly."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if newurl.partition(":")[0].lower() not in ("https", req.type):
            raise urllib.error.URLError(f"it redirects from {req.type} to something else")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https alone: the usual one would also open files."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        WithinHttp(),
    ):
        opener.add_handler(handler)
    return opener


def call_due(now: datetime) -> threading.Thread | None:
    """Call the address in a thread of its own, if it is time and all is well. Cheap where it is not.

    Never waits for the other side, and raises nothing of it.
    """
    installation = Installation.objects.filter(pk=1).exclude(dead_man_address="").first()
    if installation is None or not _time_for(installation, now) or _calling.locked():
        return None
    if not all_is_well(now):
        return None
    try:
        # Taking this turn is a write, so a database that is full or read-only stops the calls
        turn = Installation.objects.filter(pk=1, dead_man_called_at=installation.dead_man_called_at)
        if not turn.update(dead_man_called_at=now):
            return None  # another process took it
        address = decrypt(installation.dead_man_address)
    except DatabaseError:
        log.warning("the dead man's address is not called: the database cannot be written")
        return None
    except UnreadableSecretError as error:
        Installation.objects.filter(pk=1).update(dead_man_error=f"The address cannot be read: {error}")
        return None
    thread = threading.Thread(target=_call, args=(address,), name="dead-man", daemon=True)
    thread.start()
    return thread


def all_is_well(now: datetime) -> bool:
    """Whether every host's poller speaks. Where there is none, nobody watches anything."""
    watching = watches(now)
    return bool(watching.every) and not watching.silent


def _time_for(installation: Installation, now: datetime) -> bool:
    last = installation.dead_man_called_at
    return last is None or now - last >= timedelta(minutes=installation.dead_man_minutes) or last > now


def _call(address: str) -> None:
    with _calling:
        error = call(address)
        try:
            Installation.objects.filter(pk=1).exclude(dead_man_error=error).update(dead_man_error=error)
        except DatabaseError:
            log.warning("what became of the call of the dead man's address cannot be stored")
        finally:
            connection.close()


def call(address: str, timeout: float | None = None) -> str:
    """GET the address; return what went wrong, "" if nothing did. The words never hold the address: it is a secret."""
    if address.partition(":")[0].lower() not in SCHEMES:
        return "the address is no http address"
    try:
        request = urllib.request.Request(address, headers={"User-Agent": _AGENT})  # noqa: S310 - checked above
        with _opener().open(request, timeout=timeout or TIMEOUT) as response:
            response.read(1024)
            return "" if 200 <= response.status < 300 else f"it answered {response.status}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except TimeoutError:
        return f"no answer within {timeout or TIMEOUT:g} s"
    except urllib.error.URLError as error:
        return _why(error.reason, timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _why(error, timeout)


def _why(reason: object, timeout: float | None) -> str:
    """Say why without what a library puts into its own words, which may be the address."""
    if isinstance(reason, TimeoutError):
        return f"no answer within {timeout or TIMEOUT:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return f"it cannot be reached: {reason.strerror}"
    if isinstance(reason, str) and reason.startswith("it "):
        return reason
    return f"it cannot be called ({type(reason).__name__})"
