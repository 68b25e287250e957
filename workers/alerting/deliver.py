"""Sends what is queued, through apprise: one thread for each channel, so that a slow one holds up no other.

Each message is claimed by a conditional update before it is sent: two processes never send the same. The claim is also
the time of the next try, so nothing is lost where the process dies: what it was sending at that moment is sent again
after :data:`CLAIM`, once more than needed if it had got through. That one is all that can double.

A channel that fails is tried again after a growing delay; meanwhile what follows waits behind it, so that the order is
kept. When it is back it gets what waited, one by one, or as one message where it is more than :data:`MOST_ONE_BY_ONE`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import unquote

from django.db import connections, transaction
from django.db.models import F, Q

from workers.models import Change, Channel, Delivery
from workers.secrets_at_rest import Sealed, UnreadableSecretError
from workers.sql import announce

from . import messages

logger = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = timedelta(minutes=1), timedelta(hours=1)
GIVEN_UP_AFTER = timedelta(days=3)
#: Seconds that one message may take, and for how long it is claimed.
TIME_LIMIT, CLAIM = 30.0, timedelta(minutes=2)
MOST_ONE_BY_ONE = 20
#: Messages that one round of a channel looks at.
MOST_AT_ONCE = 500
_State = Delivery.State
#: `send(address, subject, body)` raises NotSentError.
Send = Callable[[str, str, str], None]


class NotSentError(Exception):
    """It did not get through; the message says why, without secrets."""


def delay(tries: int) -> timedelta:
    """How long to wait after so many failures in a row."""
    return min(FIRST_DELAY * 2 ** min(tries - 1, 30), LONGEST_DELAY)


class Post:
    """Sends what is due in one database. ``clock`` says what time it is in the threads."""

    def __init__(self, send: Send | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._send = send or through_apprise
        self._clock = clock
        self._busy: dict[int, threading.Thread] = {}

    def send_due(self, now: datetime) -> None:
        """Start a thread for each channel for which something is due, unless one runs. Raises DatabaseError."""
        self._busy = {key: thread for key, thread in self._busy.items() if thread.is_alive()}
        due = Delivery.objects.filter(state=_State.QUEUED, next_try_at__lte=now, channel__enabled=True).order_by()
        for key in set(due.values_list("channel", flat=True)) - set(self._busy):
            thread = threading.Thread(target=self._serve, args=(key,), name=f"channel {key}", daemon=True)
            self._busy[key] = thread
            thread.start()

    def join(self, seconds: float = 60.0) -> None:
        """Wait until nothing is being sent."""
        for thread in list(self._busy.values()):
            thread.join(seconds)

    def _serve(self, key: int) -> None:
        try:
            while serve(key, self._send, self._clock):
                pass
        except Exception:  # a thread has nobody to tell; the next round tries again
            logger.exception("Channel %s could not be served", key)
        finally:
            connections.close_all()


def serve(key: int, send: Send, clock: Callable[[], datetime]) -> bool:
    """Send the next message of a channel, or what waited as one; False where there is nothing more to do now."""
    now = clock()
    channel = Channel.objects.filter(pk=key, enabled=True).first()
    if channel is None:
        return False
    tried = Delivery.objects.filter(channel=key, state=_State.QUEUED, tries__gt=0, next_try_at__lte=now)
    with transaction.atomic():
        if tried.filter(created_at__lte=now - GIVEN_UP_AFTER).update(state=_State.GIVEN_UP):
            announce(Change.Kind.ALERT, [0], now)
    batch = _claim(key, now)
    if not batch:
        return False
    error = _try(channel, batch, send, now)
    _note(channel, batch, error, clock())
    return not error


def _claim(key: int, now: datetime) -> list[Delivery]:
    """Take what is to be sent next: a test before all others, else the first in order, or many if many wait."""
    with transaction.atomic():
        queued = Delivery.objects.filter(channel=key, state=_State.QUEUED)
        ready = list(queued.filter(next_try_at__lte=now).order_by("pk")[:MOST_AT_ONCE])
        batch = [each for each in ready if each.key.startswith(Delivery.TEST)][:1]
        if not batch:
            if queued.filter(tries__gt=0, next_try_at__gt=now).exclude(key__startswith=Delivery.TEST).exists():
                return []  # the first of them waits for its next try, and the rest for the first
            batch = ready if len(ready) > MOST_ONE_BY_ONE else ready[:1]
        keys = [each.pk for each in batch]
        mine = queued.filter(pk__in=keys, next_try_at__lte=now)
        taken = mine.update(next_try_at=now + CLAIM, tries=F("tries") + 1)
        if taken != len(keys):  # somebody else sends for this channel
            transaction.set_rollback(True)
            return []
    for each in batch:
        each.tries += 1
    return batch


def _try(channel: Channel, batch: Sequence[Delivery], send: Send, now: datetime) -> str:
    """Send it; the error in words, "" where it got through."""
    try:
        address = reveal(channel)
    except UnreadableSecretError as unreadable:
        return f"The address cannot be read: {unreadable}"
    subject, body = messages.of_waiting(batch, now)
    attempt = Attempt(lambda: send(address, subject, body), lambda: _got_through(batch))
    return scrub(attempt.outcome(TIME_LIMIT), address)[:500]


def reveal(channel: Channel) -> str:
    """The address of a channel, as it was entered. Raises UnreadableSecretError."""
    return cast(Sealed, channel.address).reveal()


def _note(channel: Channel, batch: Sequence[Delivery], error: str, now: datetime) -> None:
    """Store how it went, with the message and with its channel, and say so to the pages."""
    rows = Delivery.objects.filter(pk__in=[each.pk for each in batch], state=_State.QUEUED)
    channels = Channel.objects.filter(pk=channel.pk)
    with transaction.atomic():
        if error:
            tries = max(each.tries for each in batch)
            rows.update(next_try_at=now + delay(tries), error=error)
            channels.filter(failing_since=None).update(failing_since=now)
            channels.update(last_error=error)
        else:
            rows.update(state=_State.SENT, sent_at=now, error="")
            channels.update(last_sent_at=now, failing_since=None, last_error="")
            # the channel is back: what failed before need not wait for its time
            behind = Delivery.objects.filter(channel=channel.pk, state=_State.QUEUED, tries__gt=0)
            behind.exclude(key__startswith=Delivery.TEST).update(next_try_at=now)
        announce(Change.Kind.ALERT, sorted({each.alert_id or 0 for each in batch}), now)


def _got_through(batch: Sequence[Delivery]) -> None:
    """It came through after its time limit, when it had been put down as failed: it is not sent again."""
    try:
        rows = Delivery.objects.filter(Q(state=_State.QUEUED), pk__in=[each.pk for each in batch])
        rows.filter(tries=batch[0].tries).update(state=_State.SENT, sent_at=datetime.now(UTC), error="")
    finally:
        connections.close_all()


@dataclass(eq=False)
class Attempt:
    """One try in a thread of its own, since nothing else puts an end to a server that answers for ever."""

    work: Callable[[], None]
    late: Callable[[], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: bool = False
    _error: str | None = None

    def outcome(self, seconds: float) -> str:
        """Wait for it, for at most so long; the error in words."""
        thread = threading.Thread(target=self._run, name="message", daemon=True)
        thread.start()
        thread.join(seconds)
        with self._lock:
            self._over = True
            return f"No answer within {seconds:g} s" if self._error is None else self._error

    def _run(self) -> None:
        error = ""
        try:
            self.work()
        except NotSentError as failure:
            error = str(failure) or "It was not sent"
        except Exception as failure:  # of some plugin; what it says is scrubbed by the caller
            error = f"{type(failure).__name__}: {failure}"
        with self._lock:
            self._error, late = error, self._over
        if late and not error:
            with contextlib.suppress(Exception):  # then it is sent once more
                self.late()


# -- apprise


_library = threading.Lock()


def _apprise() -> Any:
    """Load apprise, which costs half a second and tens of megabytes, when the first message is sent and not before.

    What it logs may hold addresses, so it logs to nobody but :class:`_Listener`.
    """
    with _library:
        import apprise

        log = logging.getLogger("apprise")
        log.propagate = False
        log.setLevel(logging.DEBUG)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings hold whole addresses
        return apprise


def understood(address: str) -> bool:
    """Whether apprise knows what to do with an address."""
    return _apprise().Apprise.instantiate(address, suppress_exceptions=True) is not None


def through_apprise(address: str, subject: str, body: str) -> None:
    """Send one message. Raises NotSentError."""
    apprise = _apprise()
    service = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    if service is None:
        raise NotSentError("apprise does not understand the address")
    # By default it waits 4 s for an answer, and a slow server that had taken the message would get it again
    service.socket_connect_timeout, service.socket_read_timeout = TIME_LIMIT / 3, TIME_LIMIT * 0.9
    listener = _Listener()
    log = logging.getLogger("apprise")
    log.addHandler(listener)
    try:
        done = service.notify(body=body, title=subject, body_format=apprise.NotifyFormat.TEXT)
    finally:
        log.removeHandler(listener)
    if not done:
        raise NotSentError(listener.text or "It was not taken, and no reason was given")


class _Listener(logging.Handler):
    """What apprise says in this thread of why it failed. Of its many words for developers only the exceptions."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == self._thread and (record.levelno >= logging.WARNING or "xception" in text):
            self._said.append(" ".join(text.split()))

    @property
    def text(self) -> str:
        return "; ".join(dict.fromkeys(self._said))


def scrub(text: str, address: str) -> str:
    """Take out of a text whatever an address is made of: its name, its password, tokens, its path."""
    pieces = re.split(r"[/:@?&=,#;]+", address.partition("://")[2])
    secrets = {each for piece in pieces for each in (piece, unquote(piece)) if len(each) > 2}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "•••")
    return text


send_due = Post().send_due
