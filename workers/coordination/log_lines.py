"""One line of a log as it may be shown: colours by name, secrets out, nothing left that a terminal would obey."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .redaction import MARK, redact_text, redacted_slice, secret_spans, storable
from .traces import reads_like_error

LONGEST = 4_000  # characters of a line that are shown
_MARGIN = 2_000  # characters behind them that are looked at, so that no cut goes through a secret unseen
_MOST_BYTES = 4 * (LONGEST + _MARGIN)

COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)([0-9:;<=>?]*)[ -/]*([@-~]?)"  # CSI; colours are those that end in m
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, …
    r"|\x1b[ -/]*[0-~]?"
)
#: Control characters become their pictures; what turns the direction of text round is named and does nothing.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if code != 0x09} | {0x7F: 0x2421}
_PICTURES |= dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029), 0xFFFD)
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(rb"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_LONGEST_KEY = 120  # lines


class Run(NamedTuple):
    """A stretch of a line in one style: names out of a small set, separated by blanks."""

    style: str
    text: str


class Line(NamedTuple):
    """One line. ``note``: these are our words about the log and not its own."""

    offset: int  # of its first byte in the file
    runs: tuple[Run, ...]
    error: bool = False
    left_out: int = 0  # bytes of it that are not shown
    overwritten: int = 0  # states of it that a carriage return had replaced
    other_run: str = ""  # "earlier" or "later" where its time says that it is about another run
    note: bool = False

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)


def note(text: str, offset: int = -1) -> Line:
    return Line(offset, (Run("", text),), note=True)


def unseen(offset: int, length: int) -> Line:
    """The middle of a line whose beginning lies too far away to know whether a secret is in it."""
    return Line(offset, (), left_out=length)


def read_line(raw: bytes, offset: int, *, hidden: bool = False) -> Line:
    """Make a line out of its bytes, without its line end. ``hidden``: it belongs to a private key."""
    if hidden:
        return Line(offset, (Run("", MARK),))
    last, overwritten = _last_state(raw)
    text = last[:_MOST_BYTES].decode("utf-8", "replace")
    plain, styles = (text, []) if text.isprintable() else _take_apart(text)
    runs = _runs(plain, styles)
    shown = "".join(run.text for run in runs)
    cut = len(plain) > LONGEST or len(last) > _MOST_BYTES
    left_out = max(0, len(last) - len(plain[:LONGEST].encode("utf-8", "replace"))) if cut else 0
    return Line(offset, runs, reads_like_error(shown[:LONGEST]), left_out, overwritten)


def _last_state(raw: bytes) -> tuple[bytes, int]:
    """What a terminal would show of a line that was written over itself, and how many states came before."""
    raw = raw.rstrip(b"\r")
    if b"\r" not in raw:
        return raw, 0
    return raw[raw.rindex(b"\r") + 1 :], raw.count(b"\r")


def _runs(plain: str, styles: list[tuple[int, str]]) -> tuple[Run, ...]:
    if not plain:
        return ()
    if not styles:
        text = redact_text(plain) if len(plain) <= LONGEST else redacted_slice(plain[: LONGEST + _MARGIN], 0, LONGEST)
        return (Run("", text),)
    plain = storable(plain[: LONGEST + _MARGIN])
    secrets = secret_spans(plain) if redact_text(plain) != plain else []
    ends = [begin for begin, _ in styles[1:]] + [len(plain)]
    runs: list[Run] = []
    for (begin, style), end in zip(styles, ends, strict=True):
        text = _without(plain, secrets, begin, min(end, LONGEST))
        if text:
            runs.append(Run(style, text))
    return tuple(runs)


def _without(plain: str, secrets: list[tuple[int, int]], begin: int, end: int) -> str:
    """A stretch of a line; a secret that reaches into it is marked where it begins."""
    pieces, at = [], begin
    for first, last in secrets:
        if first < end and last > at:
            pieces += [plain[at : max(first, at)], MARK if first >= begin else ""]
            at = min(last, end)
    return "".join([*pieces, plain[at:end]])


# --- what is not text ------------------------------------------------------------------------------------------------


def _take_apart(text: str) -> tuple[str, list[tuple[int, str]]]:
    """Part the text from the codes in it; where there are colours, say where each style begins."""
    if "\x1b" not in text and not any("\x80" <= character < "\xa0" for character in text):
        return text.translate(_PICTURES), []
    pieces: list[str] = []
    styles: list[tuple[int, str]] = [(0, "")]
    colours, length, at = _Colours(), 0, 0
    for match in _SEQUENCE.finditer(text):
        piece = text[at : match.start()].translate(_PICTURES)
        pieces.append(piece)
        length, at = length + len(piece), match.end()
        if match[2] == "m":
            colours = colours.after(match[1])
            styles.append((length, colours.names))
    pieces.append(text[at:].translate(_PICTURES))
    return "".join(pieces), styles if len(styles) > 1 else []


class _Colours(NamedTuple):
    """What the codes up to here have turned on. Every line begins with nothing: where a log is opened, who knows."""

    front: str = ""
    back: str = ""
    marks: frozenset[str] = frozenset()

    @property
    def names(self) -> str:
        return " ".join([name for name in (self.front, self.back, *sorted(self.marks)) if name])

    def after(self, parameters: str) -> _Colours:
        return _after(self, parameters)


_MARKS = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "struck"}
_ENDS = {21: "bold", 22: "bold dim", 23: "italic", 24: "underline", 27: "inverse", 29: "struck"}


@lru_cache(maxsize=1024)
def _after(colours: _Colours, parameters: str) -> _Colours:
    """Obey one sequence of parameters: ``1;31``, ``38;5;196``, ``48;2;10;20;30``, nothing for all off."""
    codes = [int(part) if part.isdigit() and len(part) < 4 else 0 for part in re.split("[;:]", parameters)]
    at = 0
    while at < len(codes):
        code = codes[at]
        at += 1
        if code == 0:
            colours = _Colours()
        elif code in _MARKS:
            colours = colours._replace(marks=colours.marks | {_MARKS[code]})
        elif code in _ENDS:
            colours = colours._replace(marks=colours.marks - set(_ENDS[code].split()))
        elif 30 <= code <= 37 or 90 <= code <= 97:
            colours = colours._replace(front=COLOURS[code % 10])
        elif 40 <= code <= 47 or 100 <= code <= 107:
            colours = colours._replace(back=f"on-{COLOURS[code % 10]}")
        elif code == 39:
            colours = colours._replace(front="")
        elif code == 49:
            colours = colours._replace(back="")
        elif code in (38, 48, 58):
            name, at = _of_many(codes, at)
            if code == 38:
                colours = colours._replace(front=name)
            elif code == 48:
                colours = colours._replace(back=name and f"on-{name}")
    return colours


def _of_many(codes: list[int], at: int) -> tuple[str, int]:
    """The nearest of our few colours to one of 256 or of 16 million, and where the codes go on."""
    kind = codes[at] if at < len(codes) else 0
    if kind == 5 and at + 1 < len(codes):
        number = min(codes[at + 1], 255)
        if number < 16:
            return COLOURS[number % 8], at + 2
        if number >= 232:
            return ("black" if number < 244 else "white"), at + 2
        number -= 16
        return _nearest(51 * (number // 36), 51 * (number // 6 % 6), 51 * (number % 6)), at + 2
    if kind == 2 and at + 3 < len(codes):
        return _nearest(*codes[at + 1 : at + 4]), at + 4
    return "", len(codes)


def _nearest(red: int, green: int, blue: int) -> str:
    most = max(red, green, blue)
    if most - min(red, green, blue) < 40:
        return "black" if most < 128 else "white"
    return COLOURS[(red * 3 > most * 2) + 2 * (green * 3 > most * 2) + 4 * (blue * 3 > most * 2)]


# --- secrets of several lines -----------------------------------------------------------------------------------------


class Shield:
    """Remembers from line to line whether a private key has begun that has not ended."""

    def __init__(self) -> None:
        self._inside = 0

    def hides(self, raw: bytes) -> bool:
        """Whether this next line belongs to a key. Where it begins, the line itself is left to `redact_text`."""
        if not self._inside:
            if b"-----BEGIN" in raw and (begin := _KEY_BEGINS.search(raw)) and not _KEY_ENDS.search(raw, begin.end()):
                self._inside = _LONGEST_KEY
            return False
        self._inside = 0 if _KEY_ENDS.search(raw) else self._inside - 1
        return True
