"""A spec that cannot be parsed, as its bytes lie on disk at this moment, and what can be done about them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath

from workers.coordination import edits
from workers.coordination.files import megabytes
from workers.coordination.layout import ACTIVE, QUARANTINE
from workers.coordination.parser import Hole, holes, line_around, parse_spec
from workers.coordination.reader import LARGEST_SPEC
from workers.coordination.records import Problem, Spec
from workers.coordination.redaction import storable
from workers.models import Remediation, Worker

from .ground import Ground, Refusal
from .spec_file import fingerprint, is_run, read_file

LONGEST_NAME = 255  # bytes


@dataclass(frozen=True)
class DamagedFile:
    """The bytes of one file and why they are no spec."""

    path: str  # relative to the home
    data: bytes
    problem: Problem

    @classmethod
    def of(cls, worker: Worker, ground: Ground) -> DamagedFile:
        """Read it from where it was last seen. Raises Refusal where it is gone, whole by now, or another run's."""
        data = read_file(worker, ground)
        if len(data) > LARGEST_SPEC:
            what = f"{megabytes(len(data))} long: files of more than {megabytes(LARGEST_SPEC)} are not read"
            return cls(worker.path, data, Problem(what))
        content = parse_spec(data, worker.path)
        if not isinstance(content, Problem):
            raise Refusal(f"{worker.path} can be parsed by now, so nothing has to be done about it")
        if content.reading and worker.created_at and not is_run(content.reading, worker):
            raise Refusal(f"{worker.path} belongs to another run by now")
        return cls(worker.path, data, content)

    @property
    def digest(self) -> str:
        return fingerprint(self.data)

    def filled(self) -> tuple[list[edits.Splice], Spec]:
        """The changes that let each missing value be null, and what it says then. Raises Refusal if that is no spec."""
        try:
            splices = edits.fill_blanks(self.data) if len(self.data) <= LARGEST_SPEC else []
        except edits.EditError as error:
            raise Refusal(_too_damaged(self.path, str(error))) from None
        if not splices:
            raise Refusal(_too_damaged(self.path, self.problem.reason))
        content = parse_spec(edits.apply(self.data, splices), self.path)
        if isinstance(content, Problem):
            raise Refusal(_too_damaged(self.path, content.reason))
        if not isinstance(content, Spec):
            raise Refusal(f"{self.path} would be {content.what} with null for its missing values, and no spec")
        return splices, content

    def blanks(self) -> list[tuple[int, Hole]]:
        """The missing values with their lines."""
        text = self.data.decode(errors="replace")
        found, line, at = [], 1, 0
        for hole in holes(text):
            line, at = line + text.count("\n", at, hole.start), hole.start
            found.append((line, hole))
        return found

    def diff(self, splices: list[edits.Splice]) -> list[list[str]]:
        """The lines that change, as pairs of sign and text, redacted; of a long line what stands around the place."""
        before, after = self.data.decode("utf-8-sig"), edits.apply(self.data, splices).decode()
        lines: list[list[str]] = []
        shift = 0
        for hole in holes(before):
            pair = [
                ["-", line_around(before, hole.start)],
                ["+", line_around(after, hole.start + shift)],
            ]
            shift += len(" null") - (hole.end - hole.start)
            lines += pair if pair != lines[-2:] else []
        marked = [["-", "a byte order mark in front of it"]] if self.data.startswith(b"\xef\xbb\xbf") else []
        return marked + lines

    @property
    def quarantined(self) -> bool:
        return self.path.startswith(f"{QUARANTINE}/")

    def place_in_quarantine(self, remediation: Remediation, ground: Ground) -> str:
        """Name a place there that is free; the same one as often as the same request is planned."""
        ending = f"-malformed-{int(remediation.requested_at.timestamp())}"
        stem = os.fsencode(PurePosixPath(self.path).name.removesuffix(".json"))
        stem = stem[: LONGEST_NAME - len(ending) - len("-99.json")]
        name = f"{QUARANTINE}/{stem.decode(errors='ignore')}{ending}"
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        return next(f"{each}.json" for each in names if not ground.exists(f"{ground.layout.home}/{each}.json"))


def what_it_sets_off(spec: Spec, path: str) -> list[str]:
    """What people should know before a spec can be read again: others read it too."""
    status = spec.status.strip().lower()
    if not path.startswith(f"{ACTIVE}/") or status not in ("pending", "running"):
        return []
    if status == "pending":
        return ["It says pending: once it can be parsed, the fleet's worker daemon may start it"]
    return ["It says running: once it can be parsed, it is judged by whether a process of its own lives"]


def said_of(blanks: list[tuple[int, Hole]]) -> str:
    """List missing values by key and line: ``“a” (line 3) and “b” (line 4)``."""
    names = [f"“{storable(hole.key)[:80]}” (line {line})" for line, hole in blanks]
    shown = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _too_damaged(path: str, why: str) -> str:
    reason = f"{why[:1].lower()}{why[1:]}" if not why.startswith(("JSON", "UTF", "Not JSON")) else why
    return (
        f"{path} is damaged by more than missing values ({reason}), so it cannot be repaired from here; "
        "correct it in an editor, or move it into quarantine"
    )
