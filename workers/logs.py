"""Where a worker's logs are read: on this host from the disk; on another one by its poller, which is asked here.

A question to another host is a row, and so is the answer. It is kept for as long as somebody wants it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import close_old_connections
from django.db.models import F
from django.utils import timezone

from .coordination.layout import Layout
from .coordination.log_answers import Answer, Question, Whose, answer, choice_of, open_of
from .coordination.log_files import Listing, OpenLog, find_logs, open_log
from .coordination.log_follow import MOST_LINES, Follower, News
from .coordination.log_lines import Line, note
from .coordination.logs import Choice, text_of
from .coordination.records import Problem
from .models import LogRelay, Worker
from .params import whole

#: How long a page waits for another host, and how long that keeps an answer up to date when nobody asks again.
PATIENCE, WANTED = 3.0, timedelta(seconds=20)
_PACE = 0.05
#: Lines that another host sends for one who follows.
RELAYED_LINES = 300


def whose(worker: Worker) -> Whose:
    """The run, and when the next one of its id began: ids are reused, and so are their directories."""
    later = Worker.objects.filter(host=worker.host, worker_id=worker.worker_id, created_at__gt=worker.created_at)
    until = later.order_by("created_at").values_list("created_at", flat=True).first() if worker.created_at else None
    return Whose(worker.worker_id, worker.created_at, until)


def run_by_key(key: str) -> Worker | None:
    number = whole(key)
    return None if number is None else Worker.objects.filter(pk=number).first()


def is_here(worker: Worker) -> bool:
    """Whether this process may read the worker's logs from disk."""
    return settings.RELAY_HOME is not None and worker.host == settings.RELAY_HOST


def _layout() -> Layout:
    """The home on this host. Only for workers of which `is_here` is true."""
    return Layout(Path(settings.RELAY_HOME or "/"))


def ask(worker: Worker, question: Question) -> Answer:
    """Read, or let the worker's host read."""
    if is_here(worker):
        return answer(_layout(), whose(worker), question)
    row = want(worker, question.as_text(whose(worker)))
    asked = row.asked
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        row.refresh_from_db()
        if row.answer and row.answered >= asked:
            return Answer.from_json(row.answer)
        time.sleep(_PACE)
    silent = f"the poller of {worker.host} has not answered within {PATIENCE:g} s; is it running?"
    return replace(Answer.from_json(row.answer), problem=silent) if row.answer else Answer(Listing(()), problem=silent)


def want(worker: Worker, question: str) -> LogRelay:
    """Ask the worker's host; what nobody wants any more goes, also if that host's poller is dead."""
    now = timezone.now()
    LogRelay.objects.filter(wanted_until__lt=now - WANTED).delete()
    row = LogRelay.objects.filter(worker=worker, question=question).order_by("pk").first()
    if row is None:
        return LogRelay.objects.create(host=worker.host, worker=worker, question=question, wanted_until=now + WANTED)
    LogRelay.objects.filter(pk=row.pk).update(asked=F("asked") + 1, wanted_until=now + WANTED)
    row.asked += 1
    return row


def follow(worker: Worker, file: str, offset: int | None, identity: str) -> Follower | RelayedFollower | None:
    """Begin to follow one of the worker's logs. None: it has none of that name."""
    if not is_here(worker):
        return RelayedFollower(worker, file, offset, identity)
    layout, run = _layout(), whose(worker)
    listing = find_logs(layout, worker.worker_id)
    log = listing.get(file)
    if log is None:
        return None
    on_disk = listing.on_disk[log.path]
    return Follower(lambda: open_log(layout, on_disk), offset, identity, choice_of(run, log))


def text(worker: Worker, file: str) -> Iterator[str] | Problem:
    """All of one log of this host, redacted, a step at a time; of a shared one the worker's lines."""
    layout, run = _layout(), whose(worker)
    listing = find_logs(layout, worker.worker_id)
    log = listing.get(file)
    opened = open_of(layout, listing, log) if log else Problem("no log of this worker has that name")
    if log is None or isinstance(opened, Problem):
        return Problem(opened.reason) if isinstance(opened, Problem) else Problem("it is gone")
    return _steps(opened, choice_of(run, log))


def _steps(opened: OpenLog, choice: Choice) -> Iterator[str]:
    with opened:
        yield from text_of(opened, opened.size(), choice)


class RelayedFollower:
    """Follows a log of another host by the answers of its poller."""

    def __init__(self, worker: Worker, file: str, offset: int | None, identity: str) -> None:
        self._worker, self._offset, self._identity = worker, offset, identity
        question = Question(file=file, most=RELAYED_LINES)
        self._row = want(worker, question.as_text(whose(worker)))
        self._begin = offset  # of the last line, which may not have ended yet
        self._last: Line | None = None
        self._told = ""
        self._asked = time.monotonic()

    def look(self) -> News:
        """Take what the other host has read since the last look."""
        close_old_connections()
        if time.monotonic() - self._asked > WANTED.total_seconds() / 3:
            self._asked = time.monotonic()
            LogRelay.objects.filter(pk=self._row.pk).update(wanted_until=timezone.now() + WANTED)
        row = LogRelay.objects.filter(pk=self._row.pk).first()
        if row is None:  # the database was emptied, or nobody looked for a long time
            self._row = want(self._worker, self._row.question)
        lines = self._new(Answer.from_json(row.answer)) if row and row.answer else []
        close_old_connections()
        return News(tuple(lines[-MOST_LINES:]), self._offset or 0, self._identity)

    def _new(self, found: Answer) -> list[Line]:
        piece = found.piece
        if piece is None:
            told, self._told = self._told, found.problem
            return [note(f"This log cannot be read now: {found.problem}.")] if found.problem not in ("", told) else []
        self._told = ""
        lines: list[Line] = []
        if self._identity and found.identity != self._identity:
            lines.append(note("The log was rotated or replaced: here begins the file that stands there now."))
            self._begin = 0
        elif self._begin is not None and piece.size < self._begin:
            lines.append(note("The file was cut short: here it begins anew."))
            self._begin = 0
        self._identity, self._offset = found.identity, piece.end
        if self._begin is None:
            self._begin = piece.end
        if piece.begin > self._begin and not lines:
            lines.append(
                note(f"{piece.begin - self._begin:,} bytes left out here: they came faster than they are relayed.")
            )
        new = [line for line in piece.lines if line.offset >= self._begin and line != self._last]
        if new:
            self._begin, self._last = new[-1].offset, new[-1]
        return [*lines, *new]

    def waiting(self) -> int:
        return 0

    def close(self) -> None:
        """Nobody follows by this any more; the row goes when its time is over."""
