"""Every record of a coordination log that can be read is read exactly once, however it was written and torn."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from workers.coordination import streams
from workers.coordination.layout import Layout
from workers.coordination.records import Damage, LogBatch, LogCursor, LogRecord
from workers.coordination.streams import first_cursor, read_log

PATH = "coordination/pm-activity.jsonl"
REAL = Path(__file__).resolve().parents[2] / "shared" / "real-fleet"


class Log:
    """A log on disk and somebody who follows it."""

    def __init__(self, home: Path, path: str = PATH) -> None:
        self.layout = Layout(home)
        self.path = path
        self.file = home / path
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.cursor = LogCursor(path)
        self.records: list[LogRecord] = []
        self.damages: list[Damage] = []
        self.generations: list[int] = []
        self.replaced: list[str] = []

    def append(self, data: bytes | str) -> Log:
        with self.file.open("ab") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return self

    def read(self, limit: int = 4 * 1024 * 1024) -> Log:
        """Read to the end. Bounded: a reader that makes no progress fails."""
        for _ in range(2 * len(self.file.read_bytes() if self.file.exists() else b"") + 50):
            batch = read_log(self.layout, self.path, self.cursor, limit)
            self.take(batch)
            if not batch.more:
                return self
        raise AssertionError("the log has no end")

    def take(self, batch: LogBatch) -> None:
        self.cursor = batch.cursor
        self.records += batch.records
        self.damages += batch.damages
        self.generations += [batch.cursor.generation] * len(batch.records)
        self.replaced += [batch.replaced] if batch.replaced else []

    @property
    def values(self) -> list[Any]:
        return [orjson.loads(record.data) for record in self.records]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


# --- what a record may look like


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a":1}\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a":1}\r\n{"a":2}\r\n', [{"a": 1}, {"a": 2}]),
        ('{"a":1}', [{"a": 1}]),
        ('{}{"a":2}\n', [{}, {"a": 2}]),
        ('{"a":1} {"a":2}\t{"a":3}\n{"a":4}\n', [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]),
        ('{\n  "a": {\n    "b": [\n      {\n        "c": 1\n      }\n    ]\n  }\n}\n', [{"a": {"b": [{"c": 1}]}}]),
        ('\n\n  \n{"a":1}\n\n\n{"a":2}\n\n', [{"a": 1}, {"a": 2}]),
        ('# a comment\n{"a":1}\n  # {"a":9}\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a":1}\n   {"a":2}\n', [{"a": 1}, {"a": 2}]),
        ('{"to":"\ndevelopment"}\n{"a":2}\n', [{"to": "\ndevelopment"}, {"a": 2}]),
        ('{"a":"é😀","b":"}{"}\n', [{"a": "é😀", "b": "}{"}]),
        ('{"a":NaN}\n', [{"a": None}]),
        ('{"a":123456789012345678901234567890}\n', [{"a": 123456789012345678901234567890.0}]),
        ('{"list": [\n{"x":1},\n{"y":2}\n]}\n', [{"list": [{"x": 1}, {"y": 2}]}]),
        ("", []),
        ("\n", []),
        ("# nothing\n", []),
    ],
)
def test_a_record_is_read_however_it_is_written(log: Log, text: str, values: list[Any]) -> None:
    log.append(text).read()
    assert (log.values, log.damages) == (values, [])
    assert log.cursor.offset == len(text.encode())


def test_a_byte_that_is_not_utf8_costs_one_character_and_no_record(log: Log) -> None:
    log.append(b'{"a":"caf\xe9"}\n{"a":2}\n').read()
    assert log.values == [{"a": "caf\ufffd"}, {"a": 2}]


def test_offsets_are_bytes_from_the_start_of_the_file(log: Log) -> None:
    text = '{"ä":1} {"b":2}\n\n  {"c":3}\n{\n"d": 4}\n# x\n{"e":5}\n'.encode()
    log.append(text).read(limit=3)
    assert [text[record.offset : record.offset + 4] for record in log.records] == [
        b'{"\xc3\xa4', b'{"b"', b'{"c"', b'{\n"d', b'{"e"',
    ]  # fmt: skip


def test_the_text_of_a_record_is_its_own_where_nothing_is_secret(log: Log) -> None:
    line = '{"timestamp": "2025-11-20T10:00:00Z",  "event": "x"}'
    log.append(f"{line}\r\n").read()
    assert log.records == [LogRecord(0, datetime(2025, 11, 20, 10, tzinfo=UTC), "x", "", line)]


@pytest.mark.parametrize(
    ("record", "moment", "kind", "worker_id"),
    [
        ({"event": "a", "timestamp": "2025-11-20T10:00:00Z", "worker_id": "w-1"}, 10, "a", "w-1"),
        ({"event_type": "a", "time": "2025-11-20T11:00:00Z"}, 11, "a", ""),
        ({"type": "a", "at": "2025-11-20T12:00:00Z", "data": {"worker_id": "w-2"}}, 12, "a", "w-2"),
        ({"type": "a", "created_at": "2025-11-20T13:00:00Z", "data": '{"worker_id": "w-3"}'}, 13, "a", "w-3"),
        ({"type": "a", "timestamp": "ASAP", "detected_at": "2025-11-20T14:00:00Z", "data": ""}, 14, "a", ""),
        ({"event": 5, "event_type": "", "type": "b", "timestamp": None, "data": "{worker_id"}, None, "b", ""),
        ({"event": ["x"], "worker_id": 7, "data": '{"worker_id": ["x"]}'}, None, "", ""),
        ({"worker_id": "x" * 300, "event": "y" * 300}, None, "y" * 100, ""),
        ({"worker_id": None, "data": '["worker_id"]'}, None, "", ""),
        ({"data": '{"worker_id": "w\\u0000\\ud800"}'}, None, "", "w\ufffd\ufffd"),
    ],
)
def test_type_time_and_worker_are_found_where_fleets_put_them(
    log: Log, record: dict[str, Any], moment: int | None, kind: str, worker_id: str
) -> None:
    log.append(json.dumps(record)).read()
    found = log.records[0]
    assert found.at == (datetime(2025, 11, 20, moment, tzinfo=UTC) if moment else None)
    assert (found.type, found.worker_id) == (kind, worker_id)


def test_secrets_are_redacted_in_every_kind_of_record(log: Log) -> None:
    secret = "abcdef0123456789abcdef"
    log.append(
        f'{{"token":"{secret}","n":1}}\n{{\n"password": "{secret}"\n}}\n{{"data":"{{\\"api_key\\":\\"{secret}\\"}}"}}\n'
        f'{{"tokens_used":5}}{{"x":"Bearer {secret}"}}\n{{"token": "{secret}", broken}}\n'
    ).read()
    assert secret not in str(log.records) + str(log.damages)
    assert log.values[0] == {"token": "[redacted]", "n": 1}
    assert log.values[3] == {"tokens_used": 5}
    assert len(log.damages) == 1


def test_characters_that_postgresql_refuses_are_replaced(log: Log) -> None:
    log.append(b'{"a":"\\u0000\\ud800"}\n{"a":"x\0y"}\n').read()
    assert log.values == [{"a": "\ufffd\ufffd"}, {"a": "x\ufffdy"}]


# --- damage


@pytest.mark.parametrize(
    ("text", "numbers", "damaged"),
    [
        ('{"n":1}\nno json\n{"n":2}\n', [1, 2], ["no json"]),
        ('{"n":1}\n{"x": ,}\n{"n":2}\n', [1, 2], ['{"x": ,}']),
        ('{"n":1}\n{"x": ,}{"n":2}\n', [1, 2], ['{"x": ,}']),
        ('{"n":1}}\n{"n":2}\n', [1, 2], ["}"]),
        ('{"n":1}\n{"torn": "x\n{"n":2}\n', [1, 2], ['{"torn": "x']),
        ('{"n":1}\n{"torn":\n{"n":2}\n', [1, 2], ['{"torn":']),
        ('{"n":1}\n{"torn":[\n{"n":2}\n{"n":3}\n', [1, 2, 3], ['{"torn":[']),
        ('{"torn": "x\\\n{"n":2}\n', [2], ['{"torn": "x\\']),
        ('{\n  "a": ,\n  "list": [\n    {\n      "n": 9\n    }\n  ]\n}\n{"n":2}\n', [2], None),
        ('{\n  "a": 1,\n  "b\n{"n":2}\n', [2], None),
        ('"bare"\n{"n":1}\n', [1], ['"bare"']),
        ("[1, 2]\n123\nnull\n", [], ["[1, 2]\n123\nnull"]),
        ('[\n{"n":1},\n{"n":2}\n]\n', [1, 2], ["[", ",", "]"]),
        ("{'n': 1}\n", [], ["{'n': 1}"]),
        ('\0\0\0\0{"n":1,"type":"x","timestamp":"2025-11-20T10:00:00Z"}\n{"n":2}\n', [1, 2], ["\0\0\0\0"]),
        ('{"a":{"n":9}\n{"n":2}\n', [2], ['{"a":{"n":9}']),
        ('{"a":{"n":9}{"n":2}\n', [2], ['{"a":{"n":9}']),
    ],
)
def test_damage_never_swallows_its_neighbours(
    log: Log, text: str, numbers: list[int], damaged: list[str] | None
) -> None:
    log.append(text).read()
    assert [value["n"] for value in log.values] == numbers
    raw = text.encode()
    found = [raw[damage.offset : damage.offset + damage.length].decode() for damage in log.damages]
    assert found == damaged if damaged is not None else len(found) == 1
    assert log.cursor.offset == len(raw)


def test_a_record_behind_a_torn_one_on_the_same_line_is_found(log: Log) -> None:
    whole = '{"timestamp":"2025-11-20T10:00:00Z","event":"x","data":{"event":"y"}}'
    for cut in range(1, len(whole)):
        log.append(f"{whole[:cut]}{whole}\n")
    log.append(f"{whole}\n").read()
    assert log.values == [json.loads(whole)] * len(whole)
    assert len(log.damages) == len(whole) - 1


def test_damage_says_where_why_and_what(log: Log) -> None:
    log.append('{"n":1}\n{"event": "x", "password": "hunter2", broken}\n{"n":2}\n').read()
    damage = log.damages[0]
    assert (damage.offset, damage.length) == (8, 45)
    assert damage.reason == "Not JSON: a key in double quotes is expected"
    assert damage.excerpt == '{"event": "x", "password": "[redacted]", broken}'


def test_a_record_that_is_nested_too_deeply_is_damage(log: Log) -> None:
    for depth in (150, 900, 50_000):
        log.append('{"a":' + "[" * depth + "]" * depth + "}\n")
    log.append('{"n":1}\n').read()
    assert log.values == [{"n": 1}]
    assert {damage.reason for damage in log.damages} == {"Nested too deeply"}


# --- what is not complete


def test_a_torn_tail_waits_for_its_rest(log: Log) -> None:
    record = '{"timestamp":"2025-11-20T10:00:00Z","event":"é\\n\\u00e9","data":{"n":[1.5,true,null]}}'.encode()
    log.append(b'{"n":1}\n')
    for at in range(len(record)):
        log.append(record[at : at + 1]).read()
        assert len(log.records) == (2 if at == len(record) - 1 else 1)
        assert log.cursor.offset == (8 + len(record) if at == len(record) - 1 else 8)
    assert log.damages == []


def test_a_torn_pretty_record_waits_for_its_rest(log: Log) -> None:
    record = json.dumps({"a": {"b": [{"c": 1}, {"d": "x y"}]}, "e": 2}, indent=2) + "\n"
    for character in record:
        log.append(character).read()
    assert (log.values, log.damages) == ([json.loads(record)], [])


def test_a_line_of_text_waits_for_its_end(log: Log) -> None:
    log.append("no js").read()
    assert log.damages == []
    log.append("on\n").read()
    assert [(damage.offset, damage.length) for damage in log.damages] == [(0, 7)]


def test_a_torn_record_is_torn_for_good_once_a_whole_one_follows(log: Log) -> None:
    log.append('{"event":"torn","data":').read()
    assert (log.records, log.damages) == ([], [])
    log.append('\n{"n":1}\n').read()
    assert log.values == [{"n": 1}]
    assert [(damage.offset, damage.length) for damage in log.damages] == [(0, 23)]


def test_a_record_longer_than_a_batch_is_read_whole(log: Log) -> None:
    log.append(json.dumps({"n": 1, "text": "x" * 100_000}) + '\n{"n":2}\n').read(limit=100)
    assert [value["n"] for value in log.values] == [1, 2]


@pytest.mark.parametrize("size", [4090, 4096, 65_536, 300_000])
def test_a_long_pretty_record_is_read_whole_wherever_it_is_cut(log: Log, size: int) -> None:
    values = [{"words": ["é\\u00e9😀", 12345.678, True, None] * (size // 60), "n": number} for number in (1, 2)]
    data = "".join(json.dumps(value, indent=1, ensure_ascii=value["n"] == 1) + "\n" for value in values).encode()
    for cut in range(4080, 4112):
        log.file.unlink(missing_ok=True)
        log.__init__(log.layout.home)  # type: ignore[misc]
        log.append(data[:cut]).read()
        log.append(data[cut:]).read()
        assert (log.values, log.damages) == (values, [])


def test_a_record_longer_than_memory_allows_is_damage(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_RECORD", 1000)
    log.append('{"n":1}\n{"text":"' + "x" * 5000 + '"}\n{"n":2}\n').read(limit=100)
    assert [value["n"] for value in log.values] == [1, 2]
    assert sum(damage.length for damage in log.damages) == 5011
    assert log.damages[0].offset == 8


def test_a_batch_holds_about_as_much_as_was_asked_for(log: Log) -> None:
    log.append('{"n":12345678}\n' * 1000)
    batch = read_log(log.layout, PATH, log.cursor, limit=1500)
    assert (len(batch.records), batch.more) == (100, True)
    assert batch.cursor.offset == 1500


# --- any stream, in any pieces

KEY = st.sampled_from(["a", "event", "timestamp", "x y", "ü", ""])
TEXT = st.text(max_size=8) | st.sampled_from(["}{", '{"a":1}', "\\", '"', "\n", "// no", "# no", "\x00"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=6,
)


class Piece(NamedTuple):
    """A stretch of a stream, and the records in it."""

    data: bytes
    values: list[Any]


def compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def written(value: dict[str, Any], style: int) -> bytes:
    """Write a record in one of the styles that were found in logs."""
    if style == 0:
        return compact(value)
    if style == 1:
        return json.dumps(value, indent=2).encode()
    if style == 2:
        return json.dumps(value, indent="\t", ensure_ascii=False).encode()
    return compact(value).replace(b"\\n", b"\n")  # raw newlines inside strings


RECORD = st.dictionaries(KEY, VALUE, max_size=4)
SEPARATOR = st.sampled_from([b"\n", b"\r\n", b" ", b"", b"\n\n\n", b"\t\n  ", b"\n# {\n", b"\n  # x\n\n"])


@st.composite
def whole_pieces(draw: st.DrawFn) -> Piece:
    value = draw(RECORD)
    return Piece(written(value, draw(st.integers(0, 3))) + draw(SEPARATOR), [value])


GARBAGE = st.sampled_from(
    [b"no json", b"]", b"}", b"},", b'"bare"', b"123", b"null", b"[1, 2]", b"{bad", b"{'a': 1}", b'{"a": ,"b": 1}',
     b'"', b'{"a":1,}', b'  "key": 1,', b"\xff\xfe", b"\x00\x00", b'{"a": "x" "y"}', b"[", b'{"a":1 {"b":2}', b":"]
)  # fmt: skip


@st.composite
def damaged_pieces(draw: st.DrawFn) -> Piece:
    """A line of garbage, or a record that was torn off, with a newline behind it."""
    if draw(st.booleans()):
        return Piece(draw(GARBAGE) + b"\n", [])
    record = written(draw(RECORD), draw(st.sampled_from([0, 1, 3])))
    return Piece(record[: draw(st.integers(1, max(1, len(record) - 1)))] + b"\n", [])


def same(found: list[Any], wanted: list[Any]) -> bool:
    """Compare as JSON: numbers of more than 64 bits come back as floats, NUL and half pairs as U+FFFD."""
    return [clean(value) for value in found] == [clean(value) for value in wanted]


def clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, str):
        return re.sub("[\0\ud800-\udfff]", "\ufffd", value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def follow(home: Path, data: bytes, cuts: list[int], limit: int) -> Log:
    """Append the data piece by piece, and read after each."""
    log = Log(home)
    log.file.unlink(missing_ok=True)
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for begin, end in pairwise(edges):
        log.append(data[begin:end]).read(limit)
    return log


QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CUTS = st.lists(st.integers(0, 400), max_size=12)
LIMIT = st.sampled_from([1, 7, 50, 300, 4 * 1024 * 1024])


@QUICK
@given(pieces=st.lists(whole_pieces(), max_size=8), cuts=CUTS, limit=LIMIT)
@example(pieces=[Piece(b'{"a":[\n{},\n{}\n]}\n', [{"a": [{}, {}]}])], cuts=list(range(20)), limit=1)
def test_any_stream_in_any_pieces_gives_each_record_once(
    tmp_path: Path, pieces: list[Piece], cuts: list[int], limit: int
) -> None:
    data = b"".join(piece.data for piece in pieces)
    log = follow(tmp_path, data, cuts, limit)
    assert log.damages == []
    assert same(log.values, [value for piece in pieces for value in piece.values])
    assert all(data[record.offset : record.offset + 1] == b"{" for record in log.records)
    assert data[log.cursor.offset :].strip() == b"" or data[log.cursor.offset :].lstrip().startswith(b"#")


@QUICK
@given(pieces=st.lists(whole_pieces() | damaged_pieces(), max_size=8), cuts=CUTS, limit=LIMIT)
def test_any_damage_in_any_pieces_loses_no_record_and_is_counted(
    tmp_path: Path, pieces: list[Piece], cuts: list[int], limit: int
) -> None:
    lines = [Piece(piece.data.rstrip(b" \t\r") + b"\n", piece.values) for piece in pieces]
    last = {"event": "last", "timestamp": "2025-11-20T10:00:00Z"}
    data = b"".join(piece.data for piece in lines) + compact(last) + b"\n"
    log = follow(tmp_path, data, cuts, limit)
    wanted = [clean(value) for piece in lines for value in piece.values if value] + [clean(last)]
    found = [clean(value) for value in log.values]
    for value in wanted:
        assert value in found, (value, data)
        del found[: found.index(value) + 1]
    assert sorted({record.offset for record in log.records}) == [record.offset for record in log.records]
    assert_nothing_is_dropped_in_silence(data, log)


def assert_nothing_is_dropped_in_silence(data: bytes, log: Log) -> None:
    """Whatever is neither a record nor damage is blank, or a comment."""
    decoder = json.JSONDecoder(strict=False)
    text, rest = data.decode("latin-1"), bytearray(data)
    for record in log.records:
        end = decoder.raw_decode(text, record.offset)[1]
        rest[record.offset : end] = b" " * (end - record.offset)
    for damage in log.damages:
        assert rest[damage.offset : damage.offset + damage.length].strip(), "a record was counted as damage too"
        rest[damage.offset : damage.offset + damage.length] = b" " * damage.length
    left = [line for line in rest.split(b"\n") if line.strip(b" \t\r") and not line.strip().startswith(b"#")]
    assert left == [], (left, data)


@QUICK
@given(data=st.binary(max_size=200), cuts=CUTS, limit=LIMIT)
def test_any_bytes_end_somewhere(tmp_path: Path, data: bytes, cuts: list[int], limit: int) -> None:
    log = follow(tmp_path, data, cuts, limit)
    assert log.cursor.offset <= len(data)
    assert all(damage.offset >= 0 and damage.offset + damage.length <= len(data) for damage in log.damages)


# --- another file under the same name


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(log: Log) -> None:
    log.append('{"n":1}\n').read()
    log.append('{"n":2}\n{"n":3,"torn')
    log.file.rename(log.file.with_suffix(".jsonl.1"))
    log.append('{"n":4}\n').read()
    assert [value["n"] for value in log.values] == [1, 2, 4]
    assert log.generations == [0, 0, 1]
    assert log.replaced == ["rotated"]
    assert [(damage.offset, damage.reason) for damage in log.damages] == [(16, "Torn: its end is missing")]


def test_a_log_that_was_moved_into_an_archive_is_read_to_its_end_too(log: Log) -> None:
    log.append('{"n":1}\n').read()
    log.append('{"n":2}\n')
    archive = log.file.parent / "archive" / "2025-11-18"
    archive.mkdir(parents=True)
    log.file.rename(archive / log.file.name)
    log.append('{"n":3}\n').read()
    assert [value["n"] for value in log.values] == [1, 2, 3]


def test_a_rotated_log_is_read_in_bounded_steps(log: Log) -> None:
    log.append('{"n":1}\n').read()
    log.append("".join(f'{{"n":{number}}}\n' for number in range(2, 50)))
    log.file.rename(log.file.with_suffix(".jsonl.1"))
    log.append('{"n":50}\n').read(limit=20)
    assert [value["n"] for value in log.values] == list(range(1, 51))
    assert log.generations == [0] * 49 + [1]


def test_a_log_that_was_moved_away_and_has_no_successor_yet_is_read_on(log: Log) -> None:
    log.append('{"n":1}\n').read()
    moved = log.file.with_suffix(".jsonl.1")
    log.file.rename(moved)
    with moved.open("a") as file:
        file.write('{"n":2}\n{"n":')
    log.read()
    assert (log.damages, log.cursor.generation) == ([], 0)
    with moved.open("a") as file:
        file.write("3}\n")
    log.append('{"n":4}\n').read()
    assert ([value["n"] for value in log.values], log.generations) == ([1, 2, 3, 4], [0, 0, 0, 1])


def test_a_predecessor_that_was_compressed_or_is_no_log_any_more_stops_nothing(log: Log) -> None:
    log.append('{"n":1}\n').read()
    moved = log.file.with_suffix(".jsonl.1")
    log.file.rename(moved)
    with moved.open("r+b") as file:
        file.write(b"\x1f\x8b compressed in place")
    log.append('{"n":2}\n').read()
    assert ([value["n"] for value in log.values], log.generations) == ([1, 2], [0, 1])


def test_a_log_whose_predecessor_is_gone_is_read_from_its_start(log: Log) -> None:
    log.append('{"n":1}\n').read()
    log.file.rename(log.file.with_suffix(".old"))
    log.append('{"n":2}\n')
    log.file.with_suffix(".old").unlink()
    log.read()
    assert ([value["n"] for value in log.values], log.generations) == ([1, 2], [0, 1])


def test_a_truncated_log_is_read_from_its_start(log: Log) -> None:
    log.append('{"n":1}\n{"n":2}\n').read()
    os.truncate(log.file, 0)
    log.append('{"n":3}\n').read()
    assert [value["n"] for value in log.values] == [1, 2, 3]
    assert (log.replaced, log.cursor.generation) == (["truncated"], 1)


def test_a_log_that_was_rewritten_in_place_and_is_longer_now_is_read_from_its_start(log: Log) -> None:
    log.append('{"n":1}\n').read()
    with log.file.open("r+b") as file:
        file.write(b'{"n":2}\n{"n":3}\n')
    log.read()
    assert ([value["n"] for value in log.values], log.replaced) == ([1, 2, 3], ["truncated"])


def test_a_copy_that_took_the_logs_place_goes_on_where_it_was(log: Log) -> None:
    log.append('{"n":1}\n' * 500).read()
    copy = log.file.with_suffix(".tmp")
    copy.write_bytes(log.file.read_bytes() + b'{"n":2}\n')
    copy.replace(log.file)
    log.read()
    assert ([value["n"] for value in log.values][-2:], len(log.values)) == ([1, 2], 501)
    assert (log.replaced, log.cursor.generation) == ([], 0)


def test_a_log_that_was_replaced_by_one_that_only_begins_alike_is_another_log(log: Log) -> None:
    log.append('{"n":1}\n' * 500 + '{"n":2}\n').read()
    other = log.file.with_suffix(".tmp")
    other.write_text('{"n":1}\n' * 400 + '{"n":3}\n' * 200)
    other.replace(log.file)
    log.read()
    assert (len(log.values), log.replaced) == (501 + 600, ["rotated"])


def test_a_renamed_log_goes_on_where_it_was_left(tmp_path: Path) -> None:
    old = Log(tmp_path, "coordination/events/x.jsonl")
    old.append('{"n":1}\n').read()
    left_at = old.cursor
    old.append('{"n":2}\n')
    old.file.rename(old.file.with_name("x-2025-11-20.jsonl"))
    new = Log(tmp_path, "coordination/events/x-2025-11-20.jsonl")
    new.cursor = first_cursor(new.layout, new.path, [left_at])
    new.read()
    old.append('{"n":3}\n').read()
    assert ([value["n"] for value in new.values], [value["n"] for value in old.values]) == ([2], [1, 3])


def test_a_log_that_is_gone_or_no_file_gives_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path)
    empty = LogBatch(log.cursor, [], [], more=False)
    assert read_log(log.layout, PATH, log.cursor) == empty
    os.mkfifo(log.file)
    assert read_log(log.layout, PATH, log.cursor) == empty
    log.file.unlink()
    log.file.mkdir()
    assert read_log(log.layout, PATH, log.cursor) == empty


def test_a_log_that_leads_out_of_the_home_is_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text('{"n":1}\n')
    log = Log(tmp_path / "home")
    log.file.symlink_to(outside)
    assert log.read().records == []


# --- the real fleet


def decode_slowly(data: bytes) -> list[Any]:
    """Read every object of a stream in the plainest way: as text, one after the other, else a line further."""
    text, at, values = data.decode(), 0, []
    decoder = json.JSONDecoder(strict=False)
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            at = text.find("\n", at) + 1 or len(text)
            continue
        if isinstance(value, dict):
            values.append(value)
    return values


@pytest.mark.parametrize("cut", [1, 0.37, 0.81])
@pytest.mark.parametrize("name", ["dashboard-events", "worker-health-metrics", "events/daemon-supervisor-events",
                                  "events/heartbeat-events", "events/zombie-cleanup-events"])  # fmt: skip
def test_the_logs_of_the_real_fleet_are_read_without_loss(tmp_path: Path, name: str, cut: float) -> None:
    real = REAL / "coordination" / f"{name}.jsonl"
    if not real.is_file():
        pytest.skip(f"there is no real fleet at {REAL}")
    data = real.read_bytes()
    log = Log(tmp_path, f"coordination/{name}.jsonl")
    log.append(data[: int(len(data) * cut)]).read(limit=10_000)
    log.append(data[int(len(data) * cut) :]).read()
    assert log.values == decode_slowly(data)
    assert (log.damages, log.cursor.offset) == ([], len(data))


def test_the_reader_keeps_up_with_a_hostile_log(log: Log) -> None:
    parts: list[Callable[[int], bytes]] = [
        lambda n: b'{"a":\n' * n, lambda n: b"{" * n + b"\n", lambda n: b'{"a":[{' * n + b"\n",
        lambda n: b'"' * n + b"\n",
        lambda n: b'{"timestamp":"2025-11-20T10:00:00Z","type":' * (n // 20) + b"\n", lambda n: b"}\n{" * n + b"\n",
    ]  # fmt: skip
    for part in parts:
        log.append(part(2000))
    began = time.perf_counter()
    log.append('{"n":1}\n{"n":2}\n').read()
    assert [value["n"] for value in log.values if "n" in value] == [1, 2]
    assert time.perf_counter() - began < 20  # seconds; it takes one, and what backtracks takes hours
