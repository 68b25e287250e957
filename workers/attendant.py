"""The one process that minds rules, messages and policies, for each database.

Every poller and every web process has a thread that could do it; one of them leads, by a row that it renews. When it is
gone, however it went, another takes over within :data:`LEASE`: so a silent poller is noticed by the web.

What is minded is the table :data:`ROUNDS`. A part that fails is logged, shown and tried again in the next round; the
others do not notice. Times come from the clocks of the hosts, which may differ by less than the lease.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections
from django.db.models import Q
from django.utils.module_loading import import_string

from .models import Attendant

logger = logging.getLogger(__name__)

ROUND_SECONDS = 3.0
#: For how long a leader leads, and with how much of it left it renews that.
LEASE, RENEW = timedelta(seconds=15), timedelta(seconds=10)
#: What is done in each round, in this order: functions `(now) -> None` by name, loaded when they are first needed.
#: Each has to cost next to nothing when nothing has changed.
ROUNDS: list[str] = [
    "workers.autopilot.decide",
    "workers.alerting.evaluate.look",
    "workers.reports.send_due",
    "workers.alerting.deliver.send_due",
    "workers.dead_man.call_due",
    "workers.retention.prune",
]


#: What need not be asked in every round, in seconds: nobody waits for these, and asking costs a little each time.
EVERY = {
    "workers.autopilot.decide": 10.0,
    "workers.reports.send_due": 30.0,
    "workers.dead_man.call_due": 10.0,
    "workers.retention.prune": 600.0,
}


class Minder:
    """Takes part in the leadership, and does the rounds while it leads."""

    def __init__(self, kind: str, rounds: list[str] | None = None) -> None:
        self.name = f"{settings.RELAY_HOST} {kind} {os.getpid()} {secrets.token_hex(4)}"[-200:]
        self._rounds = ROUNDS if rounds is None else rounds
        self._until: datetime | None = None  # it leads until then
        self._error = ""  # as it is stored
        self._took = 0.0
        self._done: dict[str, datetime] = {}  # when each of EVERY was done last

    def round(self, now: datetime) -> bool:
        """Do one round, if this is the one that leads. Raises DatabaseError where leading cannot be settled."""
        if not self._leads(now):
            return False
        began = time.monotonic()
        errors = [error for name in list(self._rounds) if self._is_due(name, now) and (error := self._do(name, now))]
        self._took = 1000 * (time.monotonic() - began)
        text = "\n".join(errors)[:4000]
        if text != self._error:
            Attendant.objects.filter(process=self.name).update(error=text)
            self._error = text
        return True

    def _is_due(self, name: str, now: datetime) -> bool:
        last = self._done.get(name)
        if name in EVERY and last is not None and timedelta() <= now - last < timedelta(seconds=EVERY[name]):
            return False
        self._done[name] = now
        return True

    def resign(self) -> None:
        """Let the next one lead at once."""
        if self._until is not None:
            self._until = None
            Attendant.objects.filter(process=self.name).update(until=datetime.now(UTC))

    def _leads(self, now: datetime) -> bool:
        """Lead, or go on leading, by a conditional update: there is one row, and one name in it."""
        if self._until is not None and self._until - now > RENEW:
            return True
        mine = Q(process=self.name) | Q(until__lt=now)
        values = {"process": self.name, "until": now + LEASE, "last_round_at": now, "round_ms": self._took}
        fresh = self._until is None
        row = Attendant.objects.filter(pk=1)
        if fresh and not row.filter(mine).exists():  # most often somebody leads: asking takes no lock
            if row.exists():
                return False
            _, made = Attendant.objects.get_or_create(pk=1, defaults=values)
            led = made
        else:
            led = row.filter(mine).update(**values, **({"error": ""} if fresh else {})) == 1
        self._until = now + LEASE if led else None
        if led and fresh:
            self._error = ""
            logger.info("This process minds alerts and messages from now on (%s)", self.name)
        return led

    def _do(self, name: str, now: datetime) -> str:
        try:
            import_string(name)(now)
        except Exception as error:  # whatever it is: the other parts go on
            text = f"{name}: {type(error).__name__}: {error}"
            if text not in self._error:
                logger.exception("A round failed: %s", name)
            return text
        return ""


def mind(minder: Minder, stopped: threading.Event) -> None:
    """Do rounds until stopped. What the database refuses is said once, and tried again."""
    said = ""
    while not stopped.wait(ROUND_SECONDS):
        close_old_connections()
        try:
            minder.round(datetime.now(UTC))
            said = ""
        except DatabaseError as error:
            if str(error) != said:
                logger.warning("The database cannot be minded at present: %s", error)
            said = str(error)
        except Exception:
            logger.exception("A round of the attendant failed")
        finally:
            close_old_connections()
    try:
        minder.resign()
    except DatabaseError:
        logger.debug("nobody could be told that another may lead", exc_info=True)
    finally:
        connections.close_all()


def start(kind: str, stopped: threading.Event) -> threading.Thread:
    """Take part from a thread of this process."""
    thread = threading.Thread(target=mind, args=(Minder(kind), stopped), name="attendant", daemon=True)
    thread.start()
    return thread


def when_serving() -> None:
    """Take part as soon as this process serves the site, which only Daphne's event loop can tell.

    Where the application is only imported, by a test or a command, no event loop of Twisted's is there or none is run.
    """
    reactor = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        return
    stopped = threading.Event()
    call: Callable[..., object] = reactor.callWhenRunning
    call(start, "web", stopped)
    reactor.addSystemEventTrigger("before", "shutdown", stopped.set)
