"""A question about a worker's logs, and its answer: the same whether the web reads or the poller of another host."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from .layout import Layout
from .log_files import Listing, OpenLog, WorkerLog, find_logs, names_exactly, open_log
from .log_lines import Line, Run
from .logs import STEP, Choice, Found, Piece, after, around, before, search
from .parser import parse_time
from .records import Problem

#: What part of a log is asked for.
TAIL, BEFORE, AFTER, AT = "tail", "before", "after", "at"


@dataclass(frozen=True, slots=True)
class Whose:
    """The run whose logs these are."""

    worker_id: str
    since: datetime | None = None  # created_at
    until: datetime | None = None  # when the next run of this id was created


@dataclass(frozen=True, slots=True)
class Question:
    """Which stretch of which log, and what to look for in it."""

    file: str = ""  # "": the one that says most about now
    part: str = TAIL
    offset: int = 0
    most: int = 300  # lines
    words: str = ""
    errors: bool = False
    search_before: int | None = None

    @property
    def searches(self) -> bool:
        return bool(self.words or self.errors)

    def as_text(self, whose: Whose) -> str:
        """Write it down for another host, always in the same words."""
        run = {name: str(value or "") for name, value in (("since", whose.since), ("until", whose.until))}
        return json.dumps({**asdict(self), **run}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str, worker_id: str) -> tuple[Question, Whose]:
        values = json.loads(text)
        since, until = (parse_time(values.pop(name)) for name in ("since", "until"))
        return cls(**values), Whose(worker_id, since, until)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read. ``problem``: why the log that was asked for is not shown."""

    listing: Listing
    log: WorkerLog | None = None
    piece: Piece | None = None
    found: Found | None = None
    identity: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "logs": [asdict(log) for log in self.listing.logs],
            "complete": self.listing.complete,
            "path": self.log.path if self.log else "",
            "piece": self.piece and {**self.piece._asdict(), "lines": [list(line) for line in self.piece.lines]},
            "found": self.found and {**self.found._asdict(), "lines": [list(line) for line in self.found.lines]},
            "identity": self.identity,
            "problem": self.problem,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Answer:
        listing = Listing(tuple(WorkerLog(**log) for log in values["logs"]), values["complete"])
        piece, found = values["piece"], values["found"]
        return cls(
            listing=listing,
            log=listing.get(values["path"]) if values["path"] else None,
            piece=piece and Piece(**{**piece, "lines": _lines(piece["lines"])}),
            found=found and Found(**{**found, "lines": _lines(found["lines"])}),
            identity=values["identity"],
            problem=values["problem"],
        )


def _lines(values: list[list[Any]]) -> tuple[Line, ...]:
    return tuple(Line(offset, tuple(Run(*run) for run in runs), *rest) for offset, runs, *rest in values)


def answer(layout: Layout, whose: Whose, question: Question) -> Answer:
    """Read what is asked for."""
    listing = find_logs(layout, whose.worker_id)
    wanted = question.file or newest(layout, whose, listing)
    log = listing.get(wanted)
    if log is None:
        return Answer(listing, problem=f"no log of this worker is called {wanted}" if wanted else "")
    opened = open_of(layout, listing, log)
    if isinstance(opened, Problem):
        return Answer(listing, log, problem=opened.reason)
    with opened:
        try:
            return _read(opened, Answer(listing, log, identity=opened.identity), question, choice_of(whose, log))
        except OSError as error:  # a disk that fails, a file that another host has removed
            return Answer(listing, log, problem=f"it cannot be read: {(error.strerror or 'unknown error').lower()}")


def _read(opened: OpenLog, known: Answer, question: Question, choice: Choice) -> Answer:
    if question.part == BEFORE:
        piece = before(opened, question.offset, question.most, choice)
    elif question.part == AFTER:
        piece = after(opened, question.offset, question.most, choice)
    elif question.part == AT:
        piece = around(opened, question.offset, question.most, choice)
    else:
        piece = before(opened, None, question.most, choice)
    found = None
    if question.searches:
        found = search(opened, question.words, question.search_before, choice, errors=question.errors)
    return replace(known, piece=piece, found=found)


def open_of(layout: Layout, listing: Listing, log: WorkerLog) -> OpenLog | Problem:
    """Open one of the logs of a listing: nothing that anybody asks for ever becomes a path."""
    return Problem(log.problem) if log.problem else open_log(layout, listing.on_disk[log.path])


def choice_of(whose: Whose, log: WorkerLog) -> Choice:
    """Which lines of a log are the run's."""
    return Choice(names_exactly(whose.worker_id), whose.since, whose.until) if log.shared else Choice()


def newest(layout: Layout, whose: Whose, listing: Listing) -> str:
    """The log that says most about now: the newest with something in it, no companion's, and of this run if any is."""
    own = [log for log in listing.logs if not log.shared and not log.problem]
    if own:
        return max(own, key=lambda log: _weight(whose, log)).path
    for log in sorted(listing.logs, key=lambda log: -log.mtime):
        if log.shared and not log.problem and _is_named_at_its_end(layout, whose, listing, log):
            return log.path
    return ""


def _weight(whose: Whose, log: WorkerLog) -> tuple[bool, bool, bool, bool, float]:
    own_words = not log.companion and log.name.endswith((".log", ".txt"))
    return not is_earlier(whose, log), log.size > 0, own_words, not log.companion, log.mtime


def is_earlier(whose: Whose, log: WorkerLog) -> bool:
    """Whether a log was last written before the run was created, give or take a minute."""
    return whose.since is not None and log.mtime < whose.since.timestamp() - 60


def is_later(whose: Whose, log: WorkerLog) -> bool:
    """Whether a later run of this id may have written to it as well."""
    return whose.until is not None and log.mtime >= whose.until.timestamp() - 60


def _is_named_at_its_end(layout: Layout, whose: Whose, listing: Listing, log: WorkerLog) -> bool:
    opened = open_of(layout, listing, log)
    if isinstance(opened, Problem):
        return False
    with opened:
        size = opened.size()
        return names_exactly(whose.worker_id).search(opened.read(max(0, size - STEP), STEP)) is not None
