"""A value in JSON text is changed, and every byte that nobody asked to change stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.coordination.edits import EditError, Path, Splice, apply, edit, invert, remove_member, set_value

SPEC = b"""{
  "worker_id": "worker-implementation-001",
  "status": "running",
  "task":   {"title": "Pr\xc3\xbcfen \xf0\x9f\x94\xa7", "tags":["a","b"]},
  "execution": {
    "started_at": "2025-12-04T10:00:00Z",
    "pid": 4711
  },
  "heartbeat": {},
  "results": null
}
"""


def changed(data: bytes, path: Path, value: Any) -> bytes:
    splice = set_value(data, path, value)
    assert splice
    return apply(data, [splice])


def removed(data: bytes, path: Path) -> bytes:
    splice = remove_member(data, path)
    assert splice
    return apply(data, [splice])


# --- setting a value --------------------------------------------------------------------------------------------------


def test_a_value_is_replaced_and_nothing_else() -> None:
    assert changed(SPEC, ("status",), "failed") == SPEC.replace(b'"running"', b'"failed"')
    assert changed(SPEC, ("execution", "started_at"), None) == SPEC.replace(b'"2025-12-04T10:00:00Z"', b"null")


def test_a_splice_says_at_which_byte() -> None:
    splice = set_value(SPEC, ("execution", "pid"), 1)
    assert splice == Splice(SPEC.index(b"4711"), b"4711", b"1")  # behind characters of two and of four bytes


def test_a_value_that_is_there_already_is_no_change() -> None:
    assert set_value(SPEC, ("status",), "running") is None
    assert set_value(SPEC, ("results",), None) is None
    assert set_value(SPEC, ("task", "tags"), ["a", "b"]) is None
    assert set_value(b'{"a": {"x": 1, "y": 1e2}}', ("a",), {"y": 100.0, "x": 1}) is None
    assert edit(SPEC, {("status",): "running", ("execution", "pid"): 4711}) == (SPEC, [])


@pytest.mark.parametrize(("old", "new"), [("1", True), ("true", 1), ("1", 1.0), ("0", False), ("0.0", -0.0)])
def test_values_that_only_python_takes_for_equal_are_different(old: str, new: Any) -> None:
    assert changed(f'{{"a": {old}}}'.encode(), ("a",), new) == f'{{"a": {json.dumps(new)}}}'.encode()


def test_a_new_key_comes_last_and_is_indented_like_the_others() -> None:
    after = changed(SPEC, ("execution", "completed_at"), "2025-12-04T11:00:00Z")
    assert after == SPEC.replace(b'"pid": 4711', b'"pid": 4711,\n    "completed_at": "2025-12-04T11:00:00Z"')
    after = changed(SPEC, ("error",), "Zombie worker – no process found")
    line = ',\n  "error": "Zombie worker – no process found"'.encode()
    assert after == SPEC.replace(b'"results": null', b'"results": null' + line)


def test_a_new_key_joins_the_line_of_the_others() -> None:
    after = changed(SPEC, ("task", "x"), 1)
    assert after == SPEC.replace(b'["a","b"]}', b'["a","b"], "x":1}')


def test_an_empty_object_is_filled_as_its_surroundings_are_written() -> None:
    after = changed(SPEC, ("heartbeat", "sequence"), 0)
    assert after == SPEC.replace(b"{},", b'{\n    "sequence": 0\n  },')
    assert changed(b'{"a":{}}', ("a", "b"), 1) == b'{"a":{"b":1}}'
    assert changed(b"{}", ("a",), 1) == b'{"a": 1}'
    assert changed(b" { } \n", ("a",), 1) == b' {"a": 1} \n'
    assert changed(b"{\n}\n", ("a",), 1) == b'{\n  "a": 1\n}\n'


def test_missing_parents_and_null_parents_are_made() -> None:
    after = changed(SPEC, ("results", "cleanup", "by"), "relay")
    assert after == SPEC.replace(b"null", b'{\n    "cleanup": {\n      "by": "relay"\n    }\n  }')
    assert changed(b'{"a": 1}', ("b", "c"), 2) == b'{"a": 1, "b": {"c": 2}}'


def test_an_object_is_written_as_its_surroundings_are() -> None:
    state = b'{\n\t"monitored_workers": {\n\t\t"w-1": {\n\t\t\t"a": 1\n\t\t}\n\t}\n}'
    after = changed(state, ("monitored_workers", "w-2"), {"a": 2, "b": []})
    assert after == state.replace(b"\t\t}\n", b'\t\t},\n\t\t"w-2": {\n\t\t\t"a": 2,\n\t\t\t"b": []\n\t\t}\n')


def test_line_breaks_of_windows_stay() -> None:
    data = b'{\r\n  "a": {\r\n    "b": 1\r\n  }\r\n}\r\n'
    assert changed(data, ("a", "c"), 2) == data.replace(b"1\r\n", b'1,\r\n    "c": 2\r\n')
    assert changed(data, ("d",), [1]) == data.replace(b"  }\r\n", b'  },\r\n  "d": [\r\n    1\r\n  ]\r\n')


def test_odd_but_valid_formats_survive() -> None:
    assert changed(b'{"a" : 1 ,"b" : 2 }', ("c",), 3) == b'{"a" : 1 ,"b" : 2 ,"c" : 3 }'
    assert changed(b'{ "a"\n:\n1\n, "b"\n:\n2 }', ("c",), {"d": 3}) == b'{ "a"\n:\n1\n, "b"\n:\n2\n, "c": {"d": 3} }'


def test_of_keys_that_stand_twice_the_last_counts() -> None:
    data = b'{"status": "running", "x": {"a": 1}, "status": "pending", "x": {"a": 2}}'
    assert changed(data, ("status",), "failed") == data.replace(b"pending", b"failed")
    assert changed(data, ("x", "a"), 3) == data.replace(b"2", b"3")
    assert set_value(data, ("status",), "pending") is None


def test_keys_that_are_written_with_escapes_are_found() -> None:
    assert changed(b'{"\\u0073tatus": 1}', ("status",), 2) == b'{"\\u0073tatus": 2}'
    assert changed(b'{"a\\"}": 1, "b": 2}', ('a"}',), 3) == b'{"a\\"}": 3, "b": 2}'


def test_what_cannot_be_encoded_is_escaped() -> None:
    assert changed(b'{"a": 1}', ("a",), "x\ud800y") == b'{"a": "x\\ud800y"}'
    assert changed(b"{}", ("\udfff",), 1) == b'{"\\udfff": 1}'
    assert changed(b'{"\\ud800": 1}', ("\ud800",), 2) == b'{"\\ud800": 2}'


def test_numbers_of_any_length_are_left_alone() -> None:
    data = b'{"n": ' + b"9" * 5000 + b', "m": 18446744073709551617, "x": 1e999}'
    assert changed(data, ("x",), 0) == data.replace(b"1e999", b"0")
    assert changed(data, ("m",), 2**64 + 2) == data.replace(b"617", b"618")
    assert changed(data, ("n",), 1) == data.replace(b"9" * 5000, b"1")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_parent_of_another_type_is_refused_by_name() -> None:
    for path in [("status", "x"), ("task", "tags", "x"), ("execution", "pid", "x", "y")]:
        with pytest.raises(EditError, match=f"“{'.'.join(path[: 1 if path[0] == 'status' else 2])}” is no object"):
            set_value(SPEC, path, 1)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{\n  "a": ,\n}', r"value missing for “a” \(line 2, column 8\)"),
        (b'{"a": 1', r"ends before it is complete \(line 1, column 8\)"),
        (b"\xef\xbb\xbf{}", r"byte order mark \(line 1, column 1\)"),
        (b'{"a":\n "\xff"}', r"Not UTF-8: .*\(line 2, column 3\)"),
        (b'{"a": NaN}', r"NaN and Infinity are no JSON numbers \(line 1, column 7\)"),
        (b'{"a": 1} x', r"more text behind its end \(line 1, column 10\)"),
        (b"\n [1]", r"no object \(line 2, column 2\)"),
        (b"", "empty"),
    ],
)
def test_a_text_that_is_no_strict_json_object_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(EditError, match=sentence):
        set_value(data, ("a",), 1)
    with pytest.raises(EditError, match=sentence):
        remove_member(data, ("a",))


@pytest.mark.parametrize("levels", [101, 5_000, 200_000])
def test_deep_nesting_is_refused(levels: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = f'{{"a": {opening * levels}1{closing * levels}}}'.encode()
        with pytest.raises(EditError, match="deep"):
            set_value(deep, ("b",), 1)


def test_a_value_that_json_cannot_say_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    for value in (float("nan"), float("inf"), object(), {1, 2}, circle, deep, b"bytes"):
        with pytest.raises(EditError, match="cannot be written as JSON"):
            set_value(SPEC, ("x",), value)


def test_no_path_is_refused() -> None:
    with pytest.raises(EditError, match="No key"):
        set_value(SPEC, (), 1)
    with pytest.raises(EditError, match="No key"):
        remove_member(SPEC, ())


def test_a_splice_is_not_made_where_something_else_stands() -> None:
    splices = [Splice(1, b'"a"', b'"b"')]
    assert apply(b'{"a": 1}', splices) == b'{"b": 1}'
    for other in (b'{ "a": 1}', b"{}", b""):
        with pytest.raises(EditError, match="At byte 1 stands something else"):
            apply(other, splices)
    for offset in (-1, 3):
        with pytest.raises(EditError):
            apply(b"{}", [Splice(offset, b"", b"x")])


# --- removing a member ------------------------------------------------------------------------------------------------


def test_a_member_goes_with_its_comma_and_white_space() -> None:
    data = b'{\n  "a": 1,\n  "b": {"c": 2},\n  "d": 3\n}\n'
    assert removed(data, ("a",)) == b'{\n  "b": {"c": 2},\n  "d": 3\n}\n'
    assert removed(data, ("b",)) == b'{\n  "a": 1,\n  "d": 3\n}\n'
    assert removed(data, ("d",)) == b'{\n  "a": 1,\n  "b": {"c": 2}\n}\n'
    assert removed(data, ("b", "c")) == data.replace(b'{"c": 2}', b"{}")
    assert removed(b'{\n  "a": 1\n}', ("a",)) == b"{}"


def test_a_member_that_is_not_there_is_no_change() -> None:
    for path in [("x",), ("x", "y"), ("status", "x"), ("results", "x"), ("heartbeat", "x"), ("task", "tags", "a")]:
        assert remove_member(SPEC, path) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a":1, "b":2, "a":3}', '{"b":2}'),
        ('{"a":1, "a":2, "b":3}', '{"b":3}'),
        ('{"b":1, "a":2, "a":3}', '{"b":1}'),
        ('{"b":1, "a":2, "é":3, "a":4, "d":5}', '{"b":1, "é":3, "d":5}'),
        ('{ "a":1, "a":2 }', "{}"),
    ],
)
def test_a_key_that_stands_twice_is_gone_altogether(before: str, after: str) -> None:
    splice = remove_member(before.encode(), ("a",))
    assert splice
    assert apply(before.encode(), [splice]).decode() == after
    assert apply(after.encode(), invert([splice])).decode() == before


# --- whatever the document and its format -----------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "ключ", "🔧", "\ud800", 'q"\\', ""]) | st.text(max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.just("half \udc00 pair"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=3), max_size=5)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(tuple)
FORMATS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 1, 2, 4, "\t"]),
        "separators": st.tuples(st.sampled_from([",", ", ", " , "]), st.sampled_from([":", ": ", " : ", "\t:\n"])),
    }
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Draw a document, written somehow."""
    ascii_only = draw(st.booleans())
    text = json.dumps(draw(DOCUMENTS), ensure_ascii=ascii_only, **draw(FORMATS))
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"]))) + draw(st.sampled_from(["", "\n", " \n\n"]))
    return text.encode("utf-8", "backslashreplace")  # half a pair becomes its own escape


@st.composite
def texts_with_path(draw: st.DrawFn) -> tuple[bytes, Path]:
    """Draw a document and a path, more often than not to something that is there."""
    data, path = draw(texts()), draw(PATHS)
    inner: Any = json.loads(data)
    there: Path = ()
    while isinstance(inner, dict) and inner and len(there) < 3:
        key = draw(st.sampled_from(list(inner)))
        there, inner = (*there, key), inner[key]
    if there and draw(st.booleans()):
        path = there[: draw(st.integers(1, 3))]
    return data, path


def exactly(value: Any) -> str:
    return json.dumps(value)  # keeps the order of keys, and tells True from 1


def set_in(document: dict[str, Any], path: Path, value: Any) -> bool:
    """Do to a document what an edit does to its text; False where a parent is no object."""
    inner = document
    for key in path[:-1]:
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            return False
    if path[-1] not in inner or json.dumps(inner[path[-1]], sort_keys=True) != json.dumps(value, sort_keys=True):
        inner[path[-1]] = value
    return True


def assert_undone(before: bytes, after: bytes, splices: list[Splice]) -> None:
    assert apply(before, splices) == after
    assert apply(after, invert(splices)) == before


@given(texts_with_path(), VALUES)
def test_a_value_is_set_in_any_document(drawn: tuple[bytes, Path], value: Any) -> None:
    before, path = drawn
    document = json.loads(before)
    if not set_in(document, path, value):
        with pytest.raises(EditError, match="is no object"):
            set_value(before, path, value)
        return
    after, splices = edit(before, {path: value})
    assert exactly(json.loads(after)) == exactly(document)
    assert len(splices) <= 1
    assert_undone(before, after, splices)
    assert set_value(after, path, value) is None


@given(texts(), st.dictionaries(PATHS, VALUES, max_size=4))
def test_many_values_are_set_one_after_another(before: bytes, values: dict[Path, Any]) -> None:
    document = json.loads(before)
    if not all(set_in(document, path, value) for path, value in values.items()):
        with pytest.raises(EditError):
            edit(before, values)
        return
    after, splices = edit(before, values)
    assert exactly(json.loads(after)) == exactly(document)
    assert_undone(before, after, splices)


@given(texts_with_path())
def test_a_member_is_removed_from_any_document(drawn: tuple[bytes, Path]) -> None:
    before, path = drawn
    document = inner = json.loads(before)
    for key in path[:-1]:
        inner = inner.get(key) if isinstance(inner, dict) else None
    splice = remove_member(before, path)
    if not isinstance(inner, dict) or path[-1] not in inner:
        assert splice is None
        return
    del inner[path[-1]]
    assert splice
    after = apply(before, [splice])
    assert exactly(json.loads(after)) == exactly(document)
    assert_undone(before, after, [splice])
    assert remove_member(after, path) is None


@given(texts_with_path(), VALUES)
def test_a_new_member_removed_again_leaves_the_members_as_they_were(drawn: tuple[bytes, Path], value: Any) -> None:
    before, (key, *_) = drawn
    document = json.loads(before)
    if key in document:
        return
    after = removed(changed(before, (key,), value), (key,))
    if document:
        assert after == before
    else:
        assert json.loads(after) == {}
