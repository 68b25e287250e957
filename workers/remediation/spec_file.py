"""A run's spec as it lies on disk at this moment, and the lines of it that a change would touch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from workers.coordination import edits, writer
from workers.coordination.layout import ACTIVE
from workers.coordination.parser import parse_spec
from workers.coordination.records import Other, Problem, Spec
from workers.coordination.redaction import redact_text
from workers.health import STATUS_RUNNING
from workers.models import Worker

from .ground import Ground, Refusal

STATUS, STARTED = ("status",), ("execution", "started_at")
ERROR, COMPLETED = ("error",), ("execution", "completed_at")
Values = Mapping[edits.Path, Any]


def read_file(worker: Worker, ground: Ground) -> bytes:
    """Return the bytes of a run's file, where it was last seen. Raises Refusal where it is gone or cannot be read."""
    try:
        data = writer.read(ground.layout, worker.path)
    except writer.WriteError as error:
        raise Refusal(str(error)) from None
    if data is None:
        raise Refusal(f"{worker.path} is gone: it has been moved or removed")
    return data


@dataclass(frozen=True)
class SpecFile:
    """The bytes of one spec and what they say."""

    path: str  # relative to the home
    data: bytes
    spec: Spec

    @classmethod
    def of(cls, worker: Worker, ground: Ground) -> SpecFile:
        """Read it from where it was last seen. Raises Refusal where it is not there or belongs to another run."""
        data = read_file(worker, ground)
        content = parse_spec(data, worker.path)
        if isinstance(content, Problem):
            raise Refusal(f"{worker.path} cannot be parsed ({content.reason}); it must be repaired first")
        if isinstance(content, Other) or not is_run(content, worker):
            raise Refusal(f"{worker.path} belongs to another run by now")
        return cls(worker.path, data, content)

    @classmethod
    def spec_of(cls, worker: Worker, ground: Ground) -> Spec | None:
        """What it says, None where it cannot be read."""
        try:
            return cls.of(worker, ground).spec
        except Refusal:
            return None

    @property
    def active(self) -> bool:
        return self.path.startswith(f"{ACTIVE}/")

    @property
    def status(self) -> str:
        return self.spec.status.strip().lower()

    @property
    def running(self) -> bool:
        return self.status in STATUS_RUNNING

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def check(self, values: Values) -> None:
        """Raise Refusal where these values cannot be put into it."""
        try:
            edits.edit(self.data, values)
        except edits.EditError as error:
            raise Refusal(f"{self.path} cannot be changed: {error}") from None

    def diff(self, values: Values) -> list[list[str]]:
        """The lines that change, as pairs of sign and text, redacted."""
        document = json.loads(self.data)
        lines = []
        for path, value in values.items():
            there, old = _find(document, path)
            if there and old == value and type(old) is type(value):
                continue
            if there:
                lines.append(["-", _line(path, old)])
            lines.append(["+", _line(path, value)])
        return lines

    def digests(self, paths: Values) -> dict[str, str]:
        """Tell whether the fields are the same later, without keeping what they hold: it may be a secret."""
        document = json.loads(self.data)
        return {".".join(path): _digest(_find(document, path)[1]) for path in paths}


def is_run(spec: Spec, worker: Worker) -> bool:
    """Whether a spec is of this very run, and not of a later one of the same id."""
    return spec.worker_id == worker.worker_id and spec.created_at == worker.created_at


def fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def as_pairs(values: Values) -> list[list[Any]]:
    """Values by path, as JSON can hold them."""
    return [[list(path), value] for path, value in values.items()]


def from_pairs(pairs: list[list[Any]]) -> dict[edits.Path, Any]:
    return {tuple(path): value for path, value in pairs}


def _find(document: Any, path: edits.Path) -> tuple[bool, Any]:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return False, None
        document = document[key]
    return True, document


def _line(path: edits.Path, value: Any) -> str:
    return redact_text(f'"{".".join(path)}": {json.dumps(value, ensure_ascii=False)}')[:2000]


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
