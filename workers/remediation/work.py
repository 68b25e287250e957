"""What a step is while it is planned and while it is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.models import Remediation, RemediationStep

from .ground import Ground

#: How many processes or files a preview lists.
MOST_SHOWN = 200


class StepFailed(Exception):  # noqa: N818 - it is the step that failed
    """Why a step could not be carried out, in a sentence for people."""


@dataclass(frozen=True)
class Step:
    """One planned step: ``shown`` is for the preview, ``data`` for who carries it out; both without secrets."""

    kind: str
    target: str
    detail: str
    shown: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """One step while it is carried out. Every step can be begun once more after its process was killed in it."""

    remediation: Remediation
    step: RemediationStep
    ground: Ground

    @property
    def token(self) -> str:
        """Part of the names of temporary files, by which they are found again."""
        return f"r{self.remediation.pk}-{self.step.number}"

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.step.data
        return data

    def note(self, **data: Any) -> None:
        """Write down, before or after something is done, what is needed to finish it or to take it back."""
        self.step.data = {**self.step.data, **data}
        self.step.save(update_fields=["data"])


def listed(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: ``1 file``, ``3 files``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def first(items: Sequence[Any]) -> list[Any]:
    return list(items[:MOST_SHOWN])
