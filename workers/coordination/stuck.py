"""How a worker's words tell that it is not getting on: it repeats itself, waits for a human, or is rate limited. Pure.

A process that lives and a log that grows do not mean work: a worker that is asked a question, is refused by its model's
provider, or calls the same tool again and again shows signs of life for hours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LINES = 40  # of the end of a log that are looked at
REPEATS = 6  # so many equal lines in a row are no accident
LONGEST_ROUND = 4  # lines
LONGEST_LINE = 300  # characters of a line that are compared and kept
EVIDENCE = 5  # lines


class StuckKind(StrEnum):
    """In what way a worker is not getting on."""

    RATE_LIMITED = "rate limited"
    WAITING = "waiting for a human"
    REPEATING = "repeating itself"


@dataclass(frozen=True, slots=True)
class Stuck:
    """What a worker's words say, and the lines that say it."""

    kind: StuckKind
    text: str  # one plain sentence
    lines: tuple[str, ...]  # redacted, oldest first
    certain: bool = False  # more than its very last line says so; else only a silence after it does


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


#: What the last words of a worker look like: each a habit of one kind of program. The first that fits counts.
PATTERNS: dict[StuckKind, dict[str, re.Pattern[str]]] = {
    StuckKind.RATE_LIMITED: {
        "the words themselves": _any(r"\brate[ _-]?limit(?:ed|ing|s|_error)?\b(?!\s*[:=]?\s*(?:none|ok|off)\b)"),
        "HTTP 429 or 529": _any(r"\b(?:status|code|http|error|returned|response)\b\D{0,12}(?:429|529)\b"),
        "429 in words": _any(r"\btoo many requests\b"),
        "the provider's overload": _any(r"\boverloaded(?:_error)?\b", r"\bserver is busy\b"),
        "a quota that is used up": _any(
            r"\b(?:usage|quota|credit|token)s?\b.{0,30}\b(?:limit|quota)\b.{0,20}\b(?:reached|exceeded|exhausted)\b",
            r"\b(?:insufficient_quota|resource_exhausted)\b",
        ),
        "a wait that was asked for": _any(r"\bretry[- ]after\b"),
    },
    StuckKind.WAITING: {
        "a yes-or-no question": _any(r"[\[(]\s*y(?:es)?\s*/\s*no?\s*[\])]\s*[?:]?\s*$"),
        "a question of the tool": _any(r"^\W*(?:do you want to|would you like|are you sure|shall i|may i)\b.*\?"),
        "a choice": _any(r"^\s*[❯>›]\s*\d+[.)]\s+\S"),
        "a key to be pressed": _any(r"\bpress\b.{0,20}\b(?:enter|return|any key)\b"),
        "waiting, in words": _any(
            r"\b(?:waiting|awaiting|paused|blocked)\b.{0,20}"
            r"\b(?:user|human|approval|confirmation|permission|input|review|answer|operator)\b"
        ),
        "a permission that is missing": _any(
            r"\b(?:requires?|needs?)\b.{0,20}\b(?:approval|permission|confirmation)\b"
        ),
        "a prompt": _any(r"\b(?:password|passphrase|username)\b.{0,60}:\s*$"),
        "a login that has run out": _any(r"\bplease (?:run\b.{0,12}\blogin|log ?in|sign in|authenticate)\b"),
    },
}
_PROLOGUE = re.compile(
    r"^[\s\[(]*(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?[\])]*\s*"
)
_LEVEL = re.compile(r"^[\[(]?(?:DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR)[\])]?\s*[:|-]?\s+")
_TOOL_CALL = re.compile(r"^\W*([A-Z]\w{1,30}\(.*?\))(?=$|\s)")


def recognise(lines: Sequence[str]) -> Stuck | None:
    """Say how a worker is stuck by the last lines of its log, oldest first; None where nothing speaks for it."""
    said = [line[:LONGEST_LINE] for line in lines if line.strip()][-LINES:]
    if not said:
        return None
    for kind, patterns in PATTERNS.items():
        fits = [any(pattern.search(_bare(line)) for pattern in patterns.values()) for line in said[-4:]]
        if fits[-1]:
            return Stuck(kind, _SENTENCES[kind], tuple(said[-EVIDENCE:]), certain=sum(fits) > 1)
    return _repeating(said)


_SENTENCES = {
    StuckKind.RATE_LIMITED: "Its last words say that it is rate limited",
    StuckKind.WAITING: "Its last words say that it waits for a human",
}


def _bare(line: str) -> str:
    """A line without its time and its level."""
    return _LEVEL.sub("", _PROLOGUE.sub("", line))


def _same(line: str) -> str:
    """What two lines must share to be the same: all but the time; of a tool call only the call, not its result."""
    bare = _bare(line).strip()
    call = _TOOL_CALL.match(bare)
    return call[1] if call else bare


def _repeating(said: Sequence[str]) -> Stuck | None:
    keys = [_same(line) for line in said]
    for length in range(1, LONGEST_ROUND + 1):
        rounds = _rounds(keys, length)
        if rounds >= (REPEATS if length == 1 else 4):
            calls = all(_TOOL_CALL.match(key) for key in keys[-length:])
            noun = "tool call" if calls else "line"
            what = f"the same {noun}" if length == 1 else f"the same {length} {noun}s"
            text = f"It repeats {what}: {rounds} times in a row at the end of its log"
            return Stuck(StuckKind.REPEATING, text, tuple(said[-max(length, 2) :]), certain=True)
    return None


def _rounds(keys: Sequence[str], length: int) -> int:
    """How often in a row the last so many keys stand at the end."""
    last, rounds = keys[-length:], 0
    while len(keys) >= (rounds + 1) * length:
        begin = len(keys) - (rounds + 1) * length
        if keys[begin : begin + length] != last:
            break
        rounds += 1
    return rounds
