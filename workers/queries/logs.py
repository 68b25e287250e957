"""A page of logs: what its address asks for, and what it shows of the answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from workers.coordination.log_answers import (
    AFTER,
    AT,
    BEFORE,
    TAIL,
    Answer,
    Question,
    Whose,
    is_earlier,
    is_later,
)
from workers.coordination.log_files import WorkerLog
from workers.models import Worker
from workers.params import LONGEST_PATH, text_of, whole

#: Lines of a page, of its card on the worker's page, and of what is loaded before or behind.
PAGE, CARD, MORE = 500, 40, 500


@dataclass(frozen=True)
class LogQuery:
    """One view of a worker's logs, as a query string says it."""

    file: str = ""
    at: int | None = None  # a place that a link leads to
    before: int | None = None
    after: int | None = None
    q: str = ""
    errors: bool = False
    back: int | None = None  # a search goes on from here

    @classmethod
    def parse(cls, params: QueryDict) -> LogQuery:
        """Read a query string. What cannot be used is left out."""
        numbers = {name: whole(text_of(params, name)) for name in ("at", "before", "after", "back")}
        return cls(
            file=text_of(params, "file", LONGEST_PATH, stripped=False),
            q=text_of(params, "q", 200),
            errors=params.get("errors", "") == "1",
            **numbers,
        )

    @property
    def at_the_end(self) -> bool:
        """Whether it shows the end of the log, which can be followed."""
        return self.at is None and self.before is None and self.after is None

    @property
    def searches(self) -> bool:
        return bool(self.q or self.errors)

    def question(self, most: int = PAGE) -> Question:
        """What has to be read for it."""
        part, offset = TAIL, 0
        for name, value in ((AT, self.at), (BEFORE, self.before), (AFTER, self.after)):
            if value is not None:
                part, offset = name, value
                break
        return Question(self.file, part, offset, most, self.q, self.errors, self.back)


@dataclass(frozen=True, slots=True)
class ShownLog:
    """One file of the list."""

    log: WorkerLog
    whose: Whose
    chosen: bool
    href: str

    @property
    def folder(self) -> str:
        return self.log.path.rpartition("/")[0]

    @property
    def written(self) -> datetime | None:
        return datetime.fromtimestamp(min(max(self.log.mtime, 0.0), 4e9), UTC) if self.log.mtime else None

    @property
    def run(self) -> str:
        """What is to be known about the run that it is of."""
        if self.log.shared or self.log.problem:
            return ""
        if is_earlier(self.whose, self.log):
            return "last written before this run was created: of an earlier run"
        if is_later(self.whose, self.log):
            return "a later run of this id may have written to it too"
        return ""


@dataclass(frozen=True, slots=True)
class LogPage:
    """The logs of one run, one of them open."""

    worker: Worker
    whose: Whose
    query: LogQuery
    answer: Answer
    here: bool  # read from this host's disk

    @property
    def logs(self) -> list[ShownLog]:
        chosen = self.log.path if self.log else ""
        return [self._shown(log, log.path == chosen) for log in self.answer.listing.logs]

    @property
    def own(self) -> list[ShownLog]:
        return [shown for shown in self.logs if not shown.log.shared]

    @property
    def shared(self) -> list[ShownLog]:
        return [shown for shown in self.logs if shown.log.shared]

    @property
    def log(self) -> WorkerLog | None:
        return self.answer.log

    @property
    def shown(self) -> ShownLog | None:
        return self._shown(self.log, True) if self.log else None

    @property
    def follows(self) -> bool:
        return self.query.at_the_end and self.answer.piece is not None

    @property
    def earlier(self) -> str:
        """Where the lines in front of these are, "" where there are none."""
        piece = self.answer.piece
        return self._href(before=piece.begin) if piece and piece.begin > 0 else ""

    @property
    def later(self) -> str:
        piece = self.answer.piece
        return self._href(after=piece.end) if piece and piece.end < piece.size else ""

    @property
    def end(self) -> str:
        return self._href()

    @property
    def download(self) -> str:
        return self._address("worker-log-download", file=self.log.path) if self.log and self.here else ""

    @property
    def hits(self) -> list[tuple[str, Any]]:
        """What was found, each with the address of its place."""
        found = self.answer.found
        asked = {"q": self.query.q, "errors": self.query.errors and 1}
        return [(self._href(at=line.offset, **asked) + "#at", line) for line in found.lines] if found else []

    @property
    def further(self) -> str:
        """Where the search goes on, "" where all has been looked at."""
        found = self.answer.found
        if not found or not found.looked_to:
            return ""
        return self._href(q=self.query.q, errors=self.query.errors and 1, back=found.looked_to)

    @property
    def run(self) -> str:
        """The key of a run that is not the one its id leads to."""
        return "" if self.worker.live else str(self.worker.pk)

    def _shown(self, log: WorkerLog, chosen: bool) -> ShownLog:
        return ShownLog(log, self.whose, chosen, self._address("worker-logs", file=log.path))

    def _href(self, **more: Any) -> str:
        return self._address("worker-logs", file=self.log.path if self.log else "", **more)

    def _address(self, name: str, **given: Any) -> str:
        kept = {key: value for key, value in {"run": self.run, **given}.items() if value not in (None, "", False)}
        return reverse(name, args=[self.worker.worker_id]) + (f"?{urlencode(kept)}" if kept else "")


def log_page(worker: Worker, whose: Whose, query: LogQuery, answer: Answer, *, here: bool) -> LogPage:
    """Lay out an answer."""
    if answer.log:
        query = replace(query, file=answer.log.path)
    return LogPage(worker, whose, query, answer, here)
