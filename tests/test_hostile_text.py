"""Who writes into the coordination directory may write anything: reading it takes time in proportion to its length."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.coordination import edits
from workers.coordination.parser import Hole, holes, parse_spec
from workers.coordination.redaction import redact_text
from workers.coordination.streams import _Stretch
from workers.coordination.tasks import TASK_ID

ACTIVE = "coordination/worker-specs/active/worker-1.json"
#: Around a part that is repeated: what stands before it, and behind it.
SPECS = {
    "blanks behind a colon": ('{"a":', " ", "x}"),
    "tabs and line ends behind a colon": ('{"a":', "\t\n", "x}"),
    "blanks behind a key": ('{"a"', " ", "x}"),
    "escaped quotes in a text without end": ('{"a":"', '\\"', ""),
    "escaped quotes in front of half an escape": ('{"a":"', '\\"', "\\"),
    "backslashes": ('{"a":', "\\", '"}'),
    "keys without values": ("{", '"a":   ', "}"),
    "secrets inside secrets": ('{"a":', '"token=\\"', ""),
}


def spec(data: str) -> object:
    return parse_spec(data.encode(), ACTIVE)


def blanks(data: str) -> object:
    return edits.fill_blanks(data.encode())


READERS: dict[str, tuple[Callable[[str], object], tuple[str, str, str]]] = {
    **{f"a spec: {name}": (spec, shape) for name, shape in SPECS.items()},
    **{f"its blanks: {name}": (blanks, shape) for name, shape in SPECS.items()},
    "a line: backslashes in a secret": (redact_text, ('token=\\"', "\\", "x")),
    "a line: escapes in a secret": (redact_text, ('token="', '\\"', "")),
    "output: tasks without a number": (TASK_ID.findall, ("", "task-", "")),
    "output: tasks without a name": (TASK_ID.findall, ("", "task-..", "1")),
}


def seconds(read: Callable[[str], object], text: str) -> float:
    def once() -> float:
        begin = time.thread_time()
        read(text)
        return time.thread_time() - begin

    return min(once() for _ in range(3))


@pytest.mark.parametrize("name", READERS)
def test_eight_times_the_text_takes_some_eight_times_as_long(name: str) -> None:
    read, (before, part, behind) = READERS[name]
    short, long = (before + part * (size // len(part)) + behind for size in (3_000, 24_000))
    # Of a time too short to be measured nothing follows; squared, it would be 64 times as long
    assert seconds(read, long) < 24 * max(seconds(read, short), 0.0005)


@pytest.mark.parametrize(
    "line",
    [',{"time":"","a":[\n{"b":1}\n', '{"a":[\n{"b":1}\n,\n', '{"time":"" ', 'x{"time":"2","x":"y"}'],
)
def test_a_log_that_looks_like_records_everywhere_is_looked_at_closely_for_a_while_only(line: str) -> None:
    """Each place may cost a thousand times what it is long, so it is the sum that has a limit."""
    stretch = _Stretch(('"x\n' + line * (2**20 // len(line))).encode(), 0, 0, ended=True)
    stretch.parse(at_end=True)
    assert stretch.position == len(stretch.data)
    assert stretch.effort < 40 * 2**20


#: Blank values as they were first defined: plain to read, and slow.
_PLAINLY = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\s*:([ \t]*)(?=\s*[,}]))?', re.DOTALL)


@given(st.text(alphabet='"\\:, }x\n\t', max_size=30))
def test_blank_values_are_found_where_their_plain_definition_finds_them(text: str) -> None:
    plainly = [Hole(match[1], *match.span(2)) for match in _PLAINLY.finditer(text) if match[2] is not None]
    assert holes(text) == plainly


def test_the_digits_of_a_secret_inside_json_are_hidden_up_to_its_own_end() -> None:
    assert redact_text('token=\\"ab\\\\cd\\" and more') == 'token=\\"[redacted]\\" and more'
