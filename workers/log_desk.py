"""The poller's side of logs on another host: it answers what the web asks, for as long as somebody wants it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from django.db import close_old_connections, connections
from django.utils import timezone

from .coordination.layout import Layout
from .coordination.log_answers import TAIL, Question, answer
from .logs import WANTED
from .models import LogRelay

logger = logging.getLogger(__name__)


class LogDesk:
    """Looks for questions for as long as the poller lives. A tail is answered again whenever its log has changed."""

    PACE = 0.25  # seconds between two looks, so at most four answers a second
    NET = 2.0  # seconds after which it looks although nobody seems to have written

    def __init__(self, home: Path, host: str, stopping: Event, changed: Callable[[], bool]) -> None:
        self.layout, self.host = Layout(home), host
        self._stopping, self._changed = stopping, changed
        self._seen: dict[int, tuple[float, ...]] = {}  # question -> what its log looked like when it was answered
        self._paths: dict[int, str] = {}

    def run(self) -> None:
        """Look until stopped; an error is logged and does not end it."""
        looked = float("-inf")
        while not self._stopping.wait(self.PACE):
            try:
                if self._changed() or self._seen or time.monotonic() - looked > self.NET:
                    looked = time.monotonic()
                    self.look()
            except Exception:
                logger.exception("Questions about logs cannot be answered")
                close_old_connections()
        connections.close_all()

    def look(self) -> None:
        """Answer what is new, and what has changed since; forget what nobody wants any more."""
        now = timezone.now()
        known = list(LogRelay.objects.filter(host=self.host).select_related("worker").defer("answer"))
        rows = [row for row in known if row.wanted_until > now]
        wanted = {row.pk for row in rows}
        for pk in self._seen.keys() - wanted:
            self._seen.pop(pk)
            self._paths.pop(pk, None)
        if any(row.wanted_until < now - WANTED for row in known):
            LogRelay.objects.filter(host=self.host, wanted_until__lt=now - WANTED).delete()
        for row in rows:
            if row.answered < row.asked or (self._seen.get(row.pk) != self._state(row.pk) and self._is_tail(row)):
                self._answer(row)

    @staticmethod
    def _is_tail(row: LogRelay) -> bool:
        return bool(json.loads(row.question)["part"] == TAIL)

    def _state(self, pk: int) -> tuple[float, ...]:
        """What tells that a log has changed."""
        try:
            status = (self.layout.home / self._paths.get(pk, "")).stat()
        except OSError:
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _answer(self, row: LogRelay) -> None:
        before = self._state(row.pk)
        question, whose = Question.from_text(row.question, row.worker.worker_id)
        found = answer(self.layout, whose, question)
        path = found.listing.on_disk.get(found.log.path, "") if found.log else ""
        # Of another file than before nothing is known from before it was read: it is looked at once more
        self._seen[row.pk] = before if self._paths.get(row.pk) == path else (0.0,)
        self._paths[row.pk] = path
        LogRelay.objects.filter(pk=row.pk).update(answer=found.as_json(), answered=row.asked)
