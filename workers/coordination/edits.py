"""JSON text changed in place: one value is set or one member goes, and every other byte stays as somebody wrote it.

Formatting, key order, unknown keys and keys that stand twice (the last one counts, as for every parser) are the
fleet's own, and a spec that was parsed and written anew would differ from its neighbours in every line. A change is a
:class:`Splice`, small enough to be kept: its inverse brings the original back to the byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .parser import holes, load
from .records import Problem

#: The keys that lead to a value, from the outermost object inwards.
Path = tuple[str, ...]
#: Blank values that are filled in one file.
MOST_BLANKS = 500


class EditError(Exception):
    """Why a text is not edited, in one plain sentence."""


class Splice(NamedTuple):
    """At byte ``offset``, ``old`` becomes ``new``."""

    offset: int
    old: bytes
    new: bytes


def set_value(data: bytes, path: Path, value: Any) -> Splice | None:
    """Give the value at a path, and the objects that lead there, to a document that may lack them.

    A new member comes last in its object and is indented like the others; a parent that is null becomes an object.
    None where the value already is that one. EditError where the text is no strict JSON object, a parent is something
    else than an object, or the value is nothing that JSON can say.
    """
    text = _text_of(data)
    found, style = _outermost(text), _OUTSIDE
    for depth, key in enumerate(path, 1):
        rest = path[depth:]
        style = _style_of(text, found, style)
        member = found.last(key)
        if member is None:
            return _insert(text, found, style, key, _nested(rest, value))
        if not rest or member.value is None:
            return _replace(text, member, style, _nested(rest, value))
        if not isinstance(member.value, dict):
            raise EditError(f"“{_name(path[:depth])}” is no object, so “{_name(path)}” cannot be set")
        found = _object(text, member.value_start)
    raise EditError("No key is named whose value is to be set")


def remove_member(data: bytes, path: Path) -> Splice | None:
    """Take a member out, with its comma and white space; each of them where its key stands more than once.

    None where there is none. EditError where the text is no strict JSON object.
    """
    text = _text_of(data)
    if not path:
        raise EditError("No key is named that is to be removed")
    found = _outermost(text)
    for key in path[:-1]:
        member = found.last(key)
        if member is None or not isinstance(member.value, dict):
            return None
        found = _object(text, member.value_start)
    return _without(text, found, path[-1])


def fill_blanks(data: bytes) -> list[Splice]:
    """Give blank values (``"x": ,``) null, and take away a byte order mark, one change behind another.

    Empty where there are none. EditError where the text is not UTF-8, or more values are missing than anybody reviews.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise EditError(f"Byte {error.start} is part of no UTF-8 character") from error
    found = holes(text)
    if len(found) > MOST_BLANKS:
        raise EditError(f"{len(found):,} values are missing, which is no slip any more")
    marked = bool(found) and text.startswith(_BYTE_ORDER_MARK)
    splices = [_splice(text, 0, 1, "")] if marked else []
    offset, at = 0, int(marked)  # of the text as it is by then, in bytes, and of the original, in characters
    for hole in found:
        offset += len(text[at : hole.start].encode())
        splices.append(Splice(offset, text[hole.start : hole.end].encode(), _NULL))
        offset, at = offset + len(_NULL), hole.end
    return splices


def edit(data: bytes, values: Mapping[Path, Any]) -> tuple[bytes, list[Splice]]:
    """Set several values, one after another; EditError, and nothing is done, where one of them cannot be set."""
    splices = []
    for path, value in values.items():
        if splice := set_value(data, path, value):
            data = apply(data, [splice])
            splices.append(splice)
    return data, splices


def apply(data: bytes, splices: Sequence[Splice]) -> bytes:
    """Make changes one after another. EditError where something else stands in the place of what one would change."""
    for offset, old, new in splices:
        end = offset + len(old)
        if not 0 <= offset <= len(data) or data[offset:end] != old:
            raise EditError(f"At byte {offset} stands something else than what is to be changed")
        data = data[:offset] + new + data[end:]
    return data


def invert(splices: Sequence[Splice]) -> list[Splice]:
    """Return the changes that undo these: ``apply(apply(data, splices), invert(splices)) == data``."""
    return [Splice(offset, new, old) for offset, old, new in reversed(splices)]


# --- where things stand: offsets in characters, not in bytes ----------------------------------------------------------


class _Member(NamedTuple):
    """One ``"key": value`` of an object."""

    key: str
    start: int  # of the key
    key_end: int
    value_start: int
    end: int  # of the value
    value: Any


class _Object(NamedTuple):
    start: int  # of its opening brace
    end: int  # of its closing brace
    members: list[_Member]

    def last(self, key: str) -> _Member | None:
        return next((member for member in reversed(self.members) if member.key == key), None)


def _whole_number(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:  # more than 4,300 digits
        return float(digits)


_DECODER = json.JSONDecoder(parse_int=_whole_number)
_SPACE = re.compile(r"[ \t\n\r]*")
_BYTE_ORDER_MARK, _NULL = "\ufeff", b" null"


def _text_of(data: bytes) -> str:
    """Decode a text that is known to be a JSON object from here on, so that nobody who walks it has to look again."""
    document = load(data)
    if isinstance(document, Problem):
        where = f" (line {document.line}, column {document.column})" if document.line else ""
        raise EditError(document.reason + where)
    text = data.decode()
    if not isinstance(document, dict):
        at = _after_space(text, 0)
        line_start = text.rfind("\n", 0, at) + 1
        raise EditError(f"JSON, but no object (line {text.count(chr(10), 0, at) + 1}, column {at - line_start + 1})")
    return text


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _outermost(text: str) -> _Object:
    return _object(text, _after_space(text, 0))


def _object(text: str, start: int) -> _Object:
    """Find the members of the object that begins at an offset."""
    members: list[_Member] = []
    at = _after_space(text, start + 1)
    while text[at] != "}":
        members.append(_member(text, at))
        at = _after_space(text, members[-1].end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return _Object(start, at, members)


def _member(text: str, start: int) -> _Member:
    key, key_end = _DECODER.raw_decode(text, start)
    value_start = _after_space(text, _after_space(text, key_end) + 1)
    value, end = _DECODER.raw_decode(text, value_start)
    return _Member(key, start, key_end, value_start, end, value)


# --- how members are written ------------------------------------------------------------------------------------------

_LINE = re.compile(r"\r?\n[ \t]*\Z")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


class _Style(NamedTuple):
    """How the members of one object are written."""

    line: str  # the line break and indentation before each of them; "" where they share a line
    unit: str  # what one level more is indented by
    comma: str  # all that stands between two of them
    colon: str

    def inside(self) -> _Style:
        """Return how the members of an object within would be written."""
        if not self.line:
            return self._replace(comma=_in_one_line(self.comma))
        line = self.line + self.unit
        return self._replace(line=line, comma="," + line)


_OUTSIDE = _Style("", "  ", ", ", ": ")


def _style_of(text: str, found: _Object, outer: _Style) -> _Style:
    """See how an object's members are written; an empty one is written as its surroundings are."""
    if found.members:
        return _style_seen(text, found)
    broken = _LINE.search(text, found.start + 1, found.end)
    return (outer._replace(line=broken[0]) if broken and not outer.line else outer).inside()


def _style_seen(text: str, found: _Object) -> _Style:
    last = found.members[-1]
    colon = text[last.key_end : last.value_start]
    if "\n" in colon:
        colon = ": "
    if len(found.members) > 1:
        comma = text[found.members[-2].end : last.start]
    else:
        lead = text[found.start + 1 : last.start]
        comma = "," + (lead if "\n" in lead else " " if colon[-1] == " " else "")
    line = _LINE.search(comma)
    closing = _LINE.search(text, last.end, found.end)
    if not line:
        return _Style("", "  ", comma, colon)
    unit = line[0].removeprefix(closing[0]) if closing and line[0].startswith(closing[0]) else "  "
    return _Style(line[0], unit, comma, colon)


def _in_one_line(comma: str) -> str:
    return ", " if "\n" in comma else comma


def _write(value: Any, style: _Style) -> str:
    """Write a value as it stands behind a key of such an object; EditError for what JSON cannot say."""
    separators = ("," if style.line else _in_one_line(style.comma), style.colon)
    indent = style.unit if style.line else None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    except (TypeError, ValueError, RecursionError) as error:
        raise EditError(f"The new value cannot be written as JSON: {error}") from error
    text = _HALF_A_PAIR.sub(lambda half: f"\\u{ord(half[0]):04x}", text.replace("\n", style.line))
    if isinstance(problem := load(text.encode()), Problem):
        raise EditError(f"The new value cannot be written as JSON: {problem.reason}")
    return text


# --- changes ----------------------------------------------------------------------------------------------------------


def _insert(text: str, found: _Object, style: _Style, key: str, value: Any) -> Splice:
    member = _write(key, style) + style.colon + _write(value, style)
    if found.members:
        end = found.members[-1].end
        return _splice(text, end, end, style.comma + member)
    return _splice(text, found.start + 1, found.end, style.line + member + style.line.removesuffix(style.unit))


def _replace(text: str, member: _Member, style: _Style, value: Any) -> Splice | None:
    written = _write(value, style)
    if _exactly(_DECODER.decode(written)) == _exactly(member.value):
        return None
    return _splice(text, member.value_start, member.end, written)


def _without(text: str, found: _Object, key: str) -> Splice | None:
    """Take out all members of a key in one change: were one left, it would be the one that counts."""
    members = found.members
    gone = [number for number, member in enumerate(members) if member.key == key]
    if not gone:
        return None
    if len(gone) == len(members):
        return _splice(text, found.start + 1, found.end, "")
    first_kept = next(number for number, member in enumerate(members) if member.key != key)
    cuts = [(members[0].start, members[first_kept].start)] if first_kept else []
    cuts += [(members[number - 1].end, members[number].end) for number in gone if number > first_kept]
    between = "".join(text[end:start] for (_, end), (start, _) in pairwise(cuts))
    return _splice(text, cuts[0][0], cuts[-1][1], between)


def _splice(text: str, start: int, end: int, new: str) -> Splice:
    return Splice(len(text[:start].encode()), text[start:end].encode(), new.encode())


def _nested(path: Path, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _exactly(value: Any) -> str:
    """Write a value so that two are equal where JSON says the same: in Python ``True == 1 == 1.0``."""
    return json.dumps(value, sort_keys=True)


def _name(path: Path) -> str:
    return ".".join(path).encode("utf-8", "backslashreplace").decode()
