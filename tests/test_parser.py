"""A file becomes a record or a problem that says where to look; whatever is in it, nothing is raised."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.coordination.parser import (
    MAX_DEPTH,
    parse_checkin,
    parse_heartbeat,
    parse_pid,
    parse_pm_heartbeat,
    parse_pm_state,
    parse_spec,
    parse_status,
    parse_time,
)
from workers.coordination.records import CheckIn, Other, PmDaemon, PmState, Problem, Spec, StatusFile

ACTIVE = "coordination/worker-specs/active/w-1.json"
FAILED = "coordination/worker-specs/failed/w-1.json"
REAL = Path(__file__).resolve().parents[2] / "shared" / "real-fleet"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def spec_of(path: str = ACTIVE, **values: Any) -> Spec:
    """Parse a spec of the usual shape in which dotted keys (``a__b``) are set to the values."""
    document: dict[str, Any] = {
        "worker_id": "w-1",
        "worker_type": "implementation-worker",
        "task_id": "task-1",
        "status": "running",
        "created_at": "2025-11-20T10:00:00Z",
        "context": {},
        "resources": {},
    }
    for name, value in values.items():
        target, keys = document, name.split("__")
        for key in keys[:-1]:
            target = target.setdefault(key, {})
        target[keys[-1]] = value
    parsed = parse_spec(json.dumps(document).encode(), path)
    assert isinstance(parsed, Spec), parsed
    return parsed


def problem_of(data: bytes | str, path: str = ACTIVE) -> Problem:
    parsed = parse_spec(data if isinstance(data, bytes) else data.encode(), path)
    assert isinstance(parsed, Problem), parsed
    return parsed


# --- times


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-11-16T17:28:45-0600", utc(2025, 11, 16, 23, 28, 45)),
        ("2025-11-14T12:54:03.772Z", utc(2025, 11, 14, 12, 54, 3, 772000)),
        ("2025-10-31T19:55:00Z", utc(2025, 10, 31, 19, 55)),
        ("2025-11-08T10:57:50-06:00", utc(2025, 11, 8, 16, 57, 50)),
        ("2025-11-20T22:37:02.875179+00:00", utc(2025, 11, 20, 22, 37, 2, 875179)),
        ("2025-11-20T22:37:02.875179123Z", utc(2025, 11, 20, 22, 37, 2, 875179)),
        ("2025-11-27", utc(2025, 11, 27)),
        ("2025-11-11T08:13:10", utc(2025, 11, 11, 8, 13, 10)),
        ("2025-11-11 08:13:10 -0600", utc(2025, 11, 11, 14, 13, 10)),
        ("2025-11-11 08:13:10 UTC", utc(2025, 11, 11, 8, 13, 10)),
        ("2025-11-11t08:13:10z", utc(2025, 11, 11, 8, 13, 10)),
        (" 2025-11-11T08:13:10Z\n", utc(2025, 11, 11, 8, 13, 10)),
        (1763691776, utc(2025, 11, 21, 2, 22, 56)),
        (1763691776000, utc(2025, 11, 21, 2, 22, 56)),
        (1763691776.5, utc(2025, 11, 21, 2, 22, 56, 500000)),
        ("1763691776", utc(2025, 11, 21, 2, 22, 56)),
        ("1763691776000", utc(2025, 11, 21, 2, 22, 56)),
        ("2000-01-01T00:00:00Z", utc(2000, 1, 1)),
        ("2100-12-31T23:59:59Z", utc(2100, 12, 31, 23, 59, 59)),
    ],
)
def test_a_time_is_read_as_utc_in_every_format_that_fleets_write(text: object, moment: datetime) -> None:
    parsed = parse_time(text)
    assert parsed == moment
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    ["", "null", "timestamp", "ISO timestamp", "$(date -Iseconds)", "ASAP - now", "18:00", "daily at midnight", None,
     True, [], {}, 0, -1, 5, 9999, 1e300, float("nan"), float("inf"), "1999-12-31T23:59:59Z", "2101-01-01T00:00:00Z",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2025-13-01T00:00:00Z", "2025-02-30", "9" * 5000,
     "१२३४"],
)  # fmt: skip
def test_a_placeholder_or_an_absurd_time_is_none(value: object) -> None:
    assert parse_time(value) is None


@given(st.text() | JSON)
def test_a_time_never_raises(value: object) -> None:
    assert parse_time(value) is None or isinstance(parse_time(value), datetime)


def test_ten_thousand_huge_texts_in_time_keys_are_not_kept_in_memory() -> None:
    from workers.coordination import parser

    for number in range(40_000):
        parse_time(f"no time {number}")
    assert len(parser._TIMES) <= 16384


# --- specs: what is taken from where


def test_a_spec_of_family_a_is_read() -> None:
    spec = spec_of(
        created_by="development-master",
        status="pending",
        context__priority="high",
        context__task_description="Write the guide",
        resources={"token_budget": 10000, "timeout_minutes": 45, "max_retries": 1},
        execution={"started_at": None, "completed_at": None, "tokens_used": 0, "session_id": None},
        results={"status": None},
    )
    assert (spec.worker_id, spec.worker_type, spec.task_id, spec.status) == (
        "w-1",
        "implementation-worker",
        "task-1",
        "pending",
    )
    assert (spec.master, spec.priority, spec.description) == ("development", "high", "Write the guide")
    assert (spec.time_limit_minutes, spec.time_limit_source) == (45, "resources.timeout_minutes")
    assert (spec.token_budget, spec.tokens_used) == (10000, 0)
    assert (spec.created_at, spec.started_at, spec.ended_at) == (utc(2025, 11, 20, 10), None, None)
    assert spec.oddities == ()


def test_a_spec_of_family_b_is_read() -> None:
    spec = spec_of(
        parent_master="security",
        created_by="security-master",
        task_data={
            "title": "Scan it",
            "priority": "medium",
            "status": "assigned",
            "context": {"description": "Scan all"},
        },
        resources={"token_allocation": 15000, "time_limit_minutes": 60},
        execution={"started_at": "2025-11-20T10:05:00-0600"},
        completed_at="2025-11-20T17:00:00Z",
    )
    assert (spec.master, spec.priority, spec.description, spec.status) == ("security", "medium", "Scan all", "running")
    assert (spec.time_limit_minutes, spec.time_limit_source) == (60, "resources.time_limit_minutes")
    assert (spec.token_budget, spec.tokens_used) == (15000, None)
    assert (spec.started_at, spec.ended_at) == (utc(2025, 11, 20, 16, 5), utc(2025, 11, 20, 17))


PRECEDENCE: dict[str, tuple[list[str], list[Any], Callable[[Spec], Any]]] = {
    "ended": (
        ["execution__completed_at", "execution__ended_at", "completed_at", "failed_at", "cleanup__cleaned_at",
         "zombie_detected_at"],
        [f"2025-11-2{day}T00:00:00Z" for day in range(1, 7)],
        lambda spec: spec.ended_at and spec.ended_at.isoformat().replace("+00:00", "Z"),
    ),
    "time limit": (
        ["resources__time_limit_minutes", "resources__timeout_minutes"], [30, 40], lambda spec: spec.time_limit_minutes
    ),
    "token budget": (
        ["resources__token_budget", "resources__token_allocation", "token_budget__allocated"], [1, 2, 3],
        lambda spec: spec.token_budget,
    ),
    "tokens used": (
        ["execution__tokens_used", "heartbeat__health__tokens_used"], [1, 2], lambda spec: spec.tokens_used
    ),
    "priority": (
        ["context__priority", "task_data__priority", "priority"], ["high", "low", "normal"], lambda spec: spec.priority
    ),
    "master": (["parent_master", "created_by"], ["one", "two"], lambda spec: spec.master),
    "description": (
        ["task_data__description", "task_data__context__description", "task_data__title", "task_title",
         "context__task_description", "context__task_title", "context__instructions", "scope__description",
         "scope__objective"],
        list("abcdefghi"), lambda spec: spec.description,
    ),
    "error": (
        ["execution__error", "failure_reason", "error", "zombie_reason", "cleanup__reason", "execution__notes"],
        list("abcdef"), lambda spec: spec.error,
    ),
    "progress": (
        ["progress_pct", "execution__progress_pct", "progress", "heartbeat__progress_pct",
         "heartbeat__health__progress_pct"],
        [1.0, 2.0, 3.0, 4.0, 5.0], lambda spec: spec.progress_pct,
    ),
    "pid": (["execution__pid", "pid"], [11, 12], lambda spec: spec.pid),
    "host": (
        ["execution__host", "execution__hostname", "host", "hostname"], list("abcd"), lambda spec: spec.host
    ),
}  # fmt: skip


@pytest.mark.parametrize("wanted", PRECEDENCE)
@pytest.mark.parametrize("unusable", [None, "", "null", [1], True])
def test_the_first_usable_value_wins(wanted: str, unusable: Any) -> None:
    keys, values, read = PRECEDENCE[wanted]
    for first in range(len(keys)):
        filled = {
            key: value if at >= first else unusable for at, (key, value) in enumerate(zip(keys, values, strict=True))
        }
        spec = spec_of(**filled)
        assert read(spec) == values[first], keys[first]
        odd = [oddity for oddity in spec.oddities if keys[max(first - 1, 0)].replace("__", ".") in oddity]
        assert bool(odd) == (first > 0 and unusable not in (None, "", "null"))
    assert not read(spec_of(**dict.fromkeys(keys, unusable))) or wanted == "time limit"


def test_the_heartbeat_fields_are_check_ins_newest_first() -> None:
    spec = spec_of(
        heartbeat={"last_heartbeat": "2025-11-20T10:10:00Z", "last_seen": "2025-11-20T10:30:00Z"},
        execution__last_heartbeat="2025-11-20T04:20:00-0600",
    )
    assert [(sign.at, sign.source) for sign in spec.checkins] == [
        (utc(2025, 11, 20, 10, 30), f"{ACTIVE}#heartbeat.last_seen"),
        (utc(2025, 11, 20, 10, 20), f"{ACTIVE}#execution.last_heartbeat"),
        (utc(2025, 11, 20, 10, 10), f"{ACTIVE}#heartbeat.last_heartbeat"),
    ]


@pytest.mark.parametrize(
    ("worker_type", "minutes", "source"),
    [
        ("scan", 15, "default for scan"), ("scan-worker", 15, "default for scan"),
        ("fix-worker", 20, "default for fix"),
        ("analysis-worker", 15, "default for analysis"), ("implementation-worker", 45, "default for implementation"),
        ("test-worker", 20, "default for test"), ("review-worker", 15, "default for review"),
        ("pr-worker", 10, "default for pr"), ("documentation-worker", 20, "default for documentation"),
        ("Scan_Worker", 15, "default for scan"), ("feature-implementer", 60, "default"), ("", 60, "default"),
    ],
)  # fmt: skip
def test_without_a_limit_the_type_gives_one(worker_type: str, minutes: float, source: str) -> None:
    spec = spec_of(worker_type=worker_type)
    assert (spec.time_limit_minutes, spec.time_limit_source) == (minutes, source)


def test_progress_is_kept_between_0_and_100() -> None:
    assert [spec_of(progress_pct=value).progress_pct for value in (-5, 0, 55.5, 100, 250)] == [0, 0, 55.5, 100, 100]


def test_the_notes_of_a_completed_worker_are_no_error() -> None:
    assert spec_of(status="completed", execution__notes="all done").error == ""
    assert spec_of(status="failed", execution__notes="out of memory").error == "out of memory"


# --- specs: odd values


@pytest.mark.parametrize(
    ("values", "oddity"),
    [
        ({"status": 5}, "“status” is a number where text is expected"),
        ({"task_id": ["x"]}, "“task_id” is a list where text is expected"),
        ({"execution": "soon"}, "“execution” is text where an object is expected"),
        ({"resources__time_limit_minutes": "60"}, "“resources.time_limit_minutes” is text where a number is expected"),
        ({"resources__time_limit_minutes": -1}, "“resources.time_limit_minutes” is not between 0.001 and 527040"),
        ({"resources__token_budget": True}, "“resources.token_budget” is true or false where a number is expected"),
        ({"created_at": "ASAP"}, "“created_at” holds no time that can be read"),
        ({"created_at": "1970-01-01T00:00:00Z"}, "“created_at” holds no time that can be read"),
        ({"execution__started_at": "2900-01-01T00:00:00Z"}, "“execution.started_at” holds no time that can be read"),
        ({"execution__started_at": "2025-11-20T09:00:00Z"}, "“execution.started_at” is before “created_at”"),
        (
            {"execution__started_at": "2025-11-20T11:00:00Z", "completed_at": "2025-11-16T11:00:00Z"},
            "“completed_at” is before “execution.started_at”",
        ),
        ({"failed_at": "2025-11-16T11:00:00Z"}, "“failed_at” is before “created_at”"),
        ({"pid": 5_000_000}, "“pid” is not between 1 and 4194304"),
        ({"status": "x" * 101}, "“status” is longer than 100 characters and shown cut"),
    ],
)
def test_an_odd_value_is_named_and_passed_over(values: dict[str, Any], oddity: str) -> None:
    assert spec_of(**values).oddities == (oddity,)


def test_a_start_a_moment_before_creation_is_not_odd() -> None:
    assert spec_of(execution__started_at="2025-11-20T09:59:30Z").oddities == ()


def test_a_file_whose_name_is_not_its_id_keeps_its_id() -> None:
    spec = spec_of("coordination/worker-specs/archived/w-1-launcher-bug-1762964226.json")
    assert (spec.worker_id, spec.oddities) == ("w-1", ("Its file name is not its id",))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "“worker_id” is empty"), ("", "“worker_id” is empty"), ("null", "“worker_id” is empty"),
        (7, "“worker_id” is a number"), (["w-1"], "“worker_id” is a list"),
        ("x" * 256, "“worker_id” is longer than 255 characters"),
    ],
)  # fmt: skip
def test_an_unusable_id_gives_way_to_the_file_name(value: object, said: str) -> None:
    spec = spec_of("coordination/worker-specs/active/from-the-name.json", worker_id=value)
    assert spec.worker_id == "from-the-name"
    assert spec.oddities == (f"{said}; its file name is taken as its id",)


def test_the_longest_id_that_fits_is_used() -> None:
    assert spec_of(worker_id="x" * 255).worker_id == "x" * 255


def test_values_are_small_enough_for_the_columns_that_hold_them() -> None:
    long = "x" * 1_000_000
    spec = spec_of(
        task_id=long, status=long, worker_type=long, parent_master=long, context__priority=long, host=long, error=long,
        resources__token_budget=10**30, execution__tokens_used=2**63,
    )  # fmt: skip
    assert len(spec.task_id) <= 255
    assert max(map(len, (spec.status, spec.worker_type, spec.master))) <= 100
    assert len(spec.priority) <= 50
    assert len(spec.host) <= 255
    assert len(spec.error) <= 20_000
    assert (spec.token_budget, spec.tokens_used) == (None, None)
    orjson.dumps(spec.document)


def test_a_token_is_redacted_before_anything_is_stored() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ3In0.abcdef0123456789"
    spec = spec_of(
        identity={"token": "not-a-real-token-0123456789abcdef", "trust_level": 50}, execution__error=f"bad {jwt}"
    )
    assert spec.document["identity"] == {"token": "[redacted]", "trust_level": 50}
    assert spec.error == "bad [redacted]"
    assert spec_of(execution__tokens_used=54000).document["execution"]["tokens_used"] == 54000


def test_characters_that_cannot_be_stored_are_replaced() -> None:
    spec = spec_of(status="run\0ning", task_title="half \ud800 pair")
    assert (spec.status, spec.description) == ("run\ufffdning", "half \ufffd pair")
    json.dumps(spec.document, ensure_ascii=False).encode()


# --- what is no spec


@pytest.mark.parametrize(
    ("path", "document", "what"),
    [
        ("templates/scan-worker.json", {"worker_type": "scan", "status": "x", "worker_id": "w"}, "a template"),
        ("reports/r.json", {"worker_type": "scan", "status": "x", "worker_id": "w"}, "a report"),
        ("archived/failed-1/MANIFEST.json", {"archived_at": "x"}, "a manifest"),
        ("archived/x.json", {"worker_id": "w", "status": "failed"}, "JSON without the keys of a worker spec"),
        ("archived/x.json", {"worker_type": "scan", "status": "failed"}, "JSON without the keys of a worker spec"),
        ("active/x.json", {"note": 1}, "JSON without the keys of a worker spec"),
        ("active/x.json", [], "JSON, but a list and no object"),
        ("active/x.json", None, "JSON, but null and no object"),
        ("completed/x.json", "text", "JSON, but text and no object"),
    ],
)
def test_json_that_is_no_spec_is_called_what_it_is(path: str, document: object, what: str) -> None:
    assert parse_spec(json.dumps(document).encode(), f"coordination/worker-specs/{path}") == Other(what)


@pytest.mark.parametrize("document", [{"worker_id": "w-1"}, {"status": "running"}, {"worker_type": "scan"}])
def test_in_active_any_sign_of_a_spec_will_do(document: dict[str, str]) -> None:
    assert isinstance(parse_spec(json.dumps(document).encode(), ACTIVE), Spec)


@pytest.mark.parametrize("missing", ["worker_id", "created_at"])
def test_in_an_archive_type_and_status_and_one_of_id_and_creation_make_a_spec(missing: str) -> None:
    document = {"worker_id": "w-1", "worker_type": "scan", "status": "failed", "created_at": "2025-11-20T10:00:00Z"}
    del document[missing]
    assert isinstance(parse_spec(json.dumps(document).encode(), FAILED), Spec)


# --- what cannot be parsed


def test_a_blank_value_is_pointed_at_and_read_as_null_only_to_show() -> None:
    text = (
        '{\n  "worker_id": "dev-worker-1",\n  "task_data": {"status": "assigned", "title": "a: , b"},\n'
        '  "context": {\n    "skills_required": ,\n    "x": 1\n  },\n  "resources": {"token_allocation": },\n'
        '  "status": "pending"\n}\n'
    )
    problem = problem_of(text)
    assert (problem.reason, problem.line, problem.column) == ("Not JSON: value missing for “skills_required”", 5, 24)
    assert problem.excerpt == '"skills_required": ,'
    assert problem.reading
    assert (problem.reading.worker_id, problem.reading.status) == ("dev-worker-1", "pending")
    assert problem.reading.description == "a: , b"
    assert problem.reading.document["resources"] == {"token_allocation": None}


@pytest.mark.parametrize(
    ("text", "reason", "line", "column"),
    [
        ('{"a":\n}', "value missing for “a”", 1, 6),
        ('{"a":  \n\n  ,"b":1}', "value missing for “a”", 1, 8),
        ('{"ü\\"x": ,"b": 1}', 'value missing for “ü\\"x”', 1, 10),
        ('{"a": [1, ,2]}', "value missing", 1, 11),
        ('{"a": 1,\n "b": high}', "what stands there for “b” is no JSON value", 2, 7),
        ('{"a": NaN}', "NaN and Infinity are no JSON numbers", 1, 7),
        ('{"a": "NaN", "b": -Infinity}', "NaN and Infinity are no JSON numbers", 1, 19),
        ('{"a": 1} {"b": 2}', "there is more text behind its end", 1, 10),
        ("No known issue\n{}", "it does not begin like JSON", 1, 1),
        ('{"a": 1 "b": 2}', "a comma or a closing bracket is missing", 1, 9),
        ('{"a" 1}', "a colon is missing behind a key", 1, 6),
        ("{'a': 1}", "a key in double quotes is expected", 1, 2),
        ('{"a": "x\ny"}', "a raw control character stands in a text", 1, 9),
        ('{"a": "x\\y"}', "a backslash in a text escapes nothing", 1, 9),
        ('{"a": "x', "a text has no closing quote", 1, 7),
        ('{"a": {"b": 1},\n', "the file ends before it is complete", 1, 16),
        ('{"a":', "the file ends before it is complete", 1, 6),
        ("\ufeff{}", "it begins with a byte order mark", 1, 1),
    ],
)
def test_a_broken_file_says_what_is_wrong_and_where(text: str, reason: str, line: int, column: int) -> None:
    problem = problem_of(text)
    assert (problem.reason, problem.line, problem.column) == (f"Not JSON: {reason}", line, column)


@pytest.mark.parametrize("data", [b"", b" \n", b"\n"])
def test_an_empty_file_is_called_empty(data: bytes) -> None:
    assert problem_of(data) == Problem("The file is empty")


def test_bytes_that_are_not_utf8_are_named_with_their_place() -> None:
    problem = problem_of(b'{"worker_id": "w-1",\n "note": "\xc3\xa4 caf\xe9"}')
    assert problem.reason == "Not UTF-8: byte 0xe9 at offset 37 is part of no character"
    assert (problem.line, problem.column) == (2, 16)
    assert "\ufffd" in problem.excerpt


def test_json_that_is_nested_too_deeply_is_a_problem() -> None:
    deep = '{"worker_id":"w-1","x":' + "[" * 5000 + "]" * 5000 + "}"
    assert problem_of(deep).reason == f"Nested more than {MAX_DEPTH} levels deep"
    middling = '{"worker_id":"w-1","token":' + "[" * 500 + '"x"' + "]" * 500 + "}"
    assert problem_of(middling).reason == f"Nested more than {MAX_DEPTH} levels deep"


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert isinstance(spec_of(deliverables=[[] for _ in range(1000)]), Spec)


def test_numbers_that_only_python_reads_do_no_harm() -> None:
    spec = parse_spec(b'{"worker_id":"w-1","a":1e999,"b":123456789012345678901234567890,"c":"\\ud800"}', ACTIVE)
    assert isinstance(spec, Spec)
    orjson.dumps(spec.document)


def test_an_excerpt_shows_no_secret() -> None:
    secret = "abcdefghijklmnopqrstuvwxyz0123456789"
    for text in (
        f'{{"identity": {{"token": "{secret}"}}, "x": ,"y": 1}}',
        f'{{"x": , "token": "{secret}"}}',
        f'{{"token": "{secret}',
        f'{{"token": {secret}}}',
        f'{{"x": 1, "token": "{secret * 5}" "y": 1}}',
    ):
        problem = problem_of(text)
        assert not any(secret[at : at + 8] in str(problem) for at in range(len(secret) - 8)), problem


def test_a_reading_is_redacted_too() -> None:
    problem = problem_of('{"worker_id": "w-1", "identity": {"token": "abc"}, "x": }')
    assert problem.reading
    assert problem.reading.document["identity"]["token"] == "[redacted]"


@given(st.binary(max_size=300))
@example(b'{"a":' * 100_000)
@example(b"[" * 100_000)
@example(b'{"worker_id":"w","status":' + b"9" * 5000 + b"}")
def test_no_bytes_raise(data: bytes) -> None:
    for path in (ACTIVE, FAILED):
        assert isinstance(parse_spec(data, path), Spec | Problem | Other)
    moment = utc(2025, 11, 20)
    assert isinstance(parse_pm_state(data), PmState | Problem)
    assert isinstance(parse_pm_heartbeat(data), PmDaemon | Problem)
    assert isinstance(parse_checkin(data, "a/b.json", moment), CheckIn | Problem)
    assert isinstance(parse_heartbeat(data, "a/b.json", moment, "w"), CheckIn | Problem)
    assert isinstance(parse_status(data, "a/b.json", MTIME), StatusFile | Problem)
    assert isinstance(parse_pid(data), int | Problem)


KEYS = st.sampled_from(
    ["worker_id", "worker_type", "task_id", "status", "created_at", "execution", "resources", "heartbeat", "health",
     "context", "task_data", "cleanup", "scope", "token_budget", "started_at", "completed_at", "time_limit_minutes",
     "timeout_minutes", "tokens_used", "progress", "pid", "host", "error", "priority", "token", "last_heartbeat",
     "pm_daemon", "monitored_workers", "configuration", "w-1", "last_loop", "timestamp", "progress_pct", "exit_code"]
)  # fmt: skip
DOCUMENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just("2025-11-20T10:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=40,
)


@given(st.dictionaries(KEYS, DOCUMENT, max_size=12))
def test_no_json_raises_and_everything_can_be_stored(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()  # with NaN and half pairs, as Python writers leave them
    spec = parse_spec(data, ACTIVE)
    moment = utc(2025, 11, 20)
    state = parse_pm_state(data)
    parse_pm_heartbeat(data)
    parse_checkin(data, "coordination/worker-checkins/x.json", moment)
    parse_heartbeat(data, "x", moment, "w")
    parse_status(data, "x", MTIME)
    if isinstance(spec, Spec):
        orjson.dumps(spec.document)
        assert "\0" not in spec.status + spec.worker_id + spec.error
        assert spec.worker_id
        assert len(spec.worker_id) <= 255
    if isinstance(state, PmState):
        for entry in state.entries.values():
            orjson.dumps(entry.document)


# --- the PM daemon, check-ins and what workers write


def test_the_pm_state_is_read() -> None:
    state = parse_pm_state(
        json.dumps(
            {
                "pm_daemon": {"pid": 36883, "last_loop": "2025-11-26T10:26:16-0600", "loops_completed": 3, "note": "n"},
                "monitored_workers": {
                    "w-1": {
                        "worker_id": "w-1", "task_id": "t", "registered_at": "2025-11-08T10:32:11-0600",
                        "started_at": None, "last_checkin": "2025-11-08T16:40:00Z", "checkin_count": 2,
                        "health_state": "stalled", "progress_pct": 40,
                    }
                },
                "configuration": {"late_after_minutes": 15, "name": "x", "on": True},
            }
        ).encode()
    )  # fmt: skip
    assert isinstance(state, PmState)
    assert (state.daemon.pid, state.daemon.loops_completed, state.daemon.note) == (36883, 3, "n")
    assert state.daemon.last_loop == utc(2025, 11, 26, 16, 26, 16)
    entry = state.entries["w-1"]
    assert (entry.health_state, entry.checkin_count, entry.progress_pct) == ("stalled", 2, 40)
    assert (entry.started_at, entry.last_checkin) == (None, utc(2025, 11, 8, 16, 40))
    assert state.configuration == {"late_after_minutes": 15}
    assert state.oddities == ()


def test_pm_entries_that_are_no_objects_are_odd_and_lose_no_neighbour() -> None:
    state = parse_pm_state(
        b'{"monitored_workers": {"a": 5, "b": {"health_state": "healthy", "checkin_count": "3"}, "": {}},'
        b' "pm_daemon": []}'
    )
    assert isinstance(state, PmState)
    assert list(state.entries) == ["b"]
    assert state.oddities == (
        "“pm_daemon” is a list where an object is expected",
        "“monitored_workers.a” is a number where an object is expected",
        "b: “checkin_count” is text where a number is expected",
        "A key of “monitored_workers” is empty or longer than 255 characters",
    )


def test_an_empty_pm_state_is_a_problem() -> None:
    assert parse_pm_state(b"") == Problem("The file is empty")
    assert parse_pm_state(b"[]") == Problem("JSON, but a list and no object")


def test_a_stopped_pm_daemon_says_so_in_its_heartbeat() -> None:
    data = b'{"daemon": "pm-daemon", "pid": null, "timestamp": null, "status": "stopped", "loop_count": 0}'
    assert parse_pm_heartbeat(data) == PmDaemon(loops_completed=0, status="stopped")


MTIME = utc(2025, 11, 20, 12)
CHECKIN = "coordination/worker-checkins/w-1-20251120T115900Z.json"


@pytest.fixture
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.delenv("TZ", raising=False)
    time.tzset()


def checkin_at(timestamp: object) -> datetime:
    checkin = parse_checkin(json.dumps({"worker_id": "w-1", "timestamp": timestamp}).encode(), CHECKIN, MTIME)
    assert isinstance(checkin, CheckIn)
    return checkin.at


def test_a_check_in_is_read() -> None:
    data = {"worker_id": "w-1", "timestamp": "2025-11-20T11:59:00Z", "status": "in_progress", "progress_pct": 140,
            "current_step": "tests"}  # fmt: skip
    assert parse_checkin(json.dumps(data).encode(), CHECKIN, MTIME) == CheckIn(
        "w-1", utc(2025, 11, 20, 11, 59), CHECKIN, "in_progress", 100.0, "tests"
    )


def test_a_check_in_without_a_usable_time_is_as_old_as_its_file() -> None:
    assert [checkin_at(value) for value in (None, "", "timestamp", "2099-01-01T00:00:00Z", 5)] == [MTIME] * 5


def test_a_check_in_from_the_future_is_as_old_as_its_file() -> None:
    assert checkin_at("2025-11-20T12:00:59Z") == MTIME + timedelta(seconds=59)
    assert checkin_at("2025-11-20T12:01:01Z") == MTIME


def test_local_time_with_a_literal_z_is_seen_through(local_time: Callable[[str], None]) -> None:
    local_time("America/Chicago")
    assert checkin_at("2025-11-20T06:00:00Z") == MTIME
    assert checkin_at("2025-11-20T06:00:00-0600") == MTIME
    assert checkin_at("2025-11-20T06:10:00Z") == utc(2025, 11, 20, 6, 10)
    local_time("UTC")
    assert checkin_at("2025-11-20T06:00:00Z") == utc(2025, 11, 20, 6)


def test_a_check_in_without_an_id_is_its_file_names() -> None:
    checkin = parse_checkin(b'{"status": "started"}', CHECKIN, MTIME)
    assert isinstance(checkin, CheckIn)
    assert checkin.worker_id == "w-1"


def test_a_heartbeat_has_free_text_for_progress() -> None:
    data = b'{"timestamp": "2025-11-20T11:59:00Z", "status": "running", "progress": "half way", "worker_id": "other"}'
    heartbeat = parse_heartbeat(data, "agents/workers/w-1/heartbeat.json", MTIME, "w-1")
    assert isinstance(heartbeat, CheckIn)
    assert (heartbeat.worker_id, heartbeat.step, heartbeat.progress_pct) == ("w-1", "half way", None)


def test_a_status_file_is_read() -> None:
    data = b'{"status": "failed", "timestamp": "2025-11-20T11:59:00Z", "exit_code": 137, "error": "password=x gone"}'
    assert parse_status(data, "s", MTIME) == StatusFile(
        "failed", utc(2025, 11, 20, 11, 59), "s", 137, "password=[redacted] gone"
    )


@pytest.mark.parametrize(("data", "pid"), [(b"1", 1), (b" 4711\n", 4711), (b"4194304", 4194304)])
def test_a_pid_file_holds_one_pid(data: bytes, pid: int) -> None:
    assert parse_pid(data) == pid


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"0", b"-1", b"4194305", b"12 13", b"12\n13", b"0x10", b"1.5", b"pid=5", b"\xff", "١٢".encode(),
     b"9" * 5000],
)  # fmt: skip
def test_anything_else_is_no_pid(data: bytes) -> None:
    assert isinstance(parse_pid(data), Problem)


# --- the real fleet


@pytest.fixture(scope="module")
def real_specs() -> dict[str, bytes]:
    if not REAL.is_dir():
        pytest.skip(f"there is no real fleet at {REAL}")
    files = (REAL / "coordination" / "worker-specs").rglob("*.json")
    return {os.fspath(path.relative_to(REAL)): path.read_bytes() for path in files}


def test_every_file_of_the_real_fleet_is_accounted_for(real_specs: dict[str, bytes]) -> None:
    parsed = {path: parse_spec(data, path) for path, data in real_specs.items()}
    kinds = [type(content).__name__ for content in parsed.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"Spec": 101, "Problem": 6, "Other": 2}
    active = {path: content for path, content in parsed.items() if "/active/" in path}
    assert len(active) == 12
    for path, content in active.items():
        if isinstance(content, Problem):
            line = real_specs[path].decode().splitlines()[(content.line or 0) - 1]
            assert line[: (content.column or 0) - 1].rstrip().endswith(":"), path
            assert content.reading
            assert content.reading.worker_id == Path(path).stem
            assert content.reading.status == "pending"
        else:
            json.loads(real_specs[path])


def test_the_real_fleet_has_ordinary_times_limits_and_no_secrets(real_specs: dict[str, bytes]) -> None:
    specs = [spec for path, data in real_specs.items() if isinstance(spec := parse_spec(data, path), Spec)]
    assert all(spec.created_at and spec.worker_type and spec.status and spec.time_limit_minutes for spec in specs)
    text = orjson.dumps([spec.document for spec in specs]).decode()
    assert "not-a-real-token" not in text
    assert text.count("[redacted]") == sum(b'"token":' in data for data in real_specs.values()) - sum(
        b'"token":' in data and isinstance(parse_spec(data, path), Problem) for path, data in real_specs.items()
    )
    assert sum(oddity == "Its file name is not its id" for spec in specs for oddity in spec.oddities) == 3


def test_the_real_pm_state_is_read_without_oddities() -> None:
    if not REAL.is_dir():
        pytest.skip(f"there is no real fleet at {REAL}")
    state = parse_pm_state((REAL / "coordination" / "pm-state.json").read_bytes())
    assert isinstance(state, PmState)
    assert state.oddities == ()
    assert len(state.entries) == 59
    assert all(entry.checkin_count == 0 and entry.last_checkin is None for entry in state.entries.values())
