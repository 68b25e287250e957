"""Nobody may ever see a secret of the fleet, and everybody the numbers that only look like one."""

from __future__ import annotations

import json
import random
import string
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.coordination.redaction import (
    MARK,
    Secrecy,
    key_secrecy,
    may_hold_secret,
    redact,
    redact_text,
    redacted_slice,
)

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ3b3JrZXItMSJ9.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nq8sZ\n-----END RSA PRIVATE KEY-----"

SECRET_KEYS = [
    "token", "Token", "TOKEN", "access_token", "accessToken", "access-token", "auth_token", "authToken",
    "refresh_token", "GITHUB_TOKEN", "id_token", "accesstoken", "token_value", "token2", "token_2", "bearer",
    "password", "passwd", "passWord", "db_password", "DB_PASSWORD", "password_hash", "passphrase", "PGPASSWORD",
    "secret", "secrets", "client_secret", "clientSecret", "clientsecret", "aws_secret_access_key", "secret_key_base",
    "api_key", "apiKey", "apikey", "API_KEY", "x-api-key", "X-Api-Key", "api.key", "ANTHROPIC_API_KEY", "api_keys",
    "private_key", "privateKey", "privatekey", "ssh_key", "signing_key", "encryption_key",
    "authorization", "Authorization", "authorization_header", "auth", "credentials", "credential", "google_credentials",
    "cookie", "Cookie", "Set-Cookie", "setcookie", "session_cookie",
    "access_tokens", "authTokens", "refresh_tokens", "passwords", "pwd", "db_pass", "jwt", "session_jwt",
]  # fmt: skip
PLAIN_KEYS = [
    "tokens_used", "token_budget", "token_allocation", "tokens_remaining", "tokensUsed", "tokens", "max_tokens",
    "token_count", "total_tokens", "tokens_reclaimed", "token_budget_id", "tokenizer", "secretary", "secret_name",
    "password_policy", "password_changed_at", "author", "authored_by", "authentication", "key", "keyboard",
    "primary_key", "keywords", "session_id", "api", "api_version", "cookies_enabled", "public_key", "monkey",
    "task_id", "status", "bearer_count", "private", "credential_type", "",
]  # fmt: skip


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_text_under_a_secret_key_is_redacted(key: str) -> None:
    assert redact({key: "hunter2"}) == {key: MARK}


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_text_under_a_key_that_only_contains_the_word_stays(key: str) -> None:
    assert redact({key: "hunter2", "n": 1}) == {key: "hunter2", "n": 1}


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_the_quick_look_misses_no_secret_key(key: str) -> None:
    for text in (json.dumps({key: "x"}), json.dumps({"data": json.dumps({key: "x"})}), f'{{"{key}" : "x"}}'):
        assert may_hold_secret(text.encode()), text


@pytest.mark.parametrize(
    "record",
    [
        {"tokens_used": 54000, "token_budget": 10000, "token_allocation": 15000, "max_tokens": 4096},
        {"task_id": "task-1762553453", "worker_id": "risk-worker-12345678", "path": "/home/relay/disk-0123456789"},
        {"author": "development-master", "spiffe_id": "spiffe://cortex/workers/w-1", "at": "2025-11-20T20:23:41-0600"},
        {"event": "worker_stalled", "data": {"minutes_since_checkin": 25}, "keywords": ["Bash", "JSON", "Implement"]},
    ],
)
def test_ordinary_records_need_no_closer_look(record: dict[str, Any]) -> None:
    assert not may_hold_secret(orjson.dumps(record))
    assert redact(record) == record


def test_numbers_and_nulls_are_no_secrets_but_under_a_clearly_secret_key() -> None:
    before = {"token": 5, "cookie": None, "password": None, "api_key": None, "auth": False, "secret": True}
    assert redact(before) == before
    assert redact({"password": 1234, "api_key": 1.5}) == {"password": MARK, "api_key": MARK}


def test_an_empty_secret_stays_visible_as_empty() -> None:
    assert redact({"token": "", "password": "null", "secret": " "}) == {"token": "", "password": "null", "secret": " "}


def test_everything_below_a_secret_key_is_redacted() -> None:
    before = {"credentials": {"user": "relay", "parts": ["a", {"b": "c"}], "port": 22}, "secrets": ["x", "y"]}
    after = {"credentials": {"user": MARK, "parts": [MARK, {"b": MARK}], "port": MARK}, "secrets": [MARK, MARK]}
    assert redact(before) == after


def test_a_token_object_keeps_its_counts() -> None:
    assert redact({"token": {"allocated": 5, "value": "abc"}}) == {"token": {"allocated": 5, "value": MARK}}


def test_named_values_are_judged_by_their_name() -> None:
    before = {"env": [{"name": "GITHUB_TOKEN", "value": "abc"}, {"name": "HOME", "value": "/root"}]}
    assert redact(before)["env"] == [{"name": "GITHUB_TOKEN", "value": MARK}, {"name": "HOME", "value": "/root"}]


def test_the_argument_behind_an_option_is_redacted() -> None:
    argv = ["claude", "--api-key", "abc", "--max-tokens", "500", "--token=abc", "-p"]
    assert redact(argv) == ["claude", "--api-key", MARK, "--max-tokens", "500", f"--token={MARK}", "-p"]


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (JWT, MARK),
        (f"got {JWT}, thanks", f"got {MARK}, thanks"),
        ("Bearer abc123xyz", f"Bearer {MARK}"),
        ('curl -H "Authorization: Bearer abc.def" x', f'curl -H "Authorization: {MARK}" x'),
        ("Authorization: Basic dXNlcjpwYXNz", f"Authorization: {MARK}"),
        ("key sk-ant-api03-AbCdEf012345 used", f"key {MARK} used"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", MARK),
        ("github_pat_11ABCDEFG0abcdef", MARK),
        ("AKIAIOSFODNN7EXAMPLE", MARK),
        ("posted with xoxb-123456789012-abcdef", f"posted with {MARK}"),
        ("glpat-abcdefgh12345678", MARK),
        ("hf_abcdefghijklmnop", MARK),
        (PEM, MARK),
        (f"x {PEM} y", f"x {MARK} y"),
        (PEM[:40], MARK),  # cut off
        ("password=hunter2 user=me", f"password={MARK} user=me"),
        ("PASSWORD = 'a b c'; ls", f"PASSWORD = '{MARK}'; ls"),
        ("login --password hunter2 --user me", f"login --password {MARK} --user me"),
        ("--token abc", f"--token {MARK}"),
        ("-token abc", f"-token {MARK}"),
        ("--api-key=abc,x", f"--api-key={MARK},x"),
        ("env GITHUB_TOKEN=abc SECRET=y run", f"env GITHUB_TOKEN={MARK} SECRET={MARK} run"),
        ('{"token": "a\\"b", "tokens_used": 5}', f'{{"token": "{MARK}", "tokens_used": 5}}'),
        ('{\\"token\\":\\"abc\\",\\"n\\":1}', f'{{\\"token\\":\\"{MARK}\\",\\"n\\":1}}'),
        ("{'password': 'x', 'n': 1}", f"{{'password': '{MARK}', 'n': 1}}"),
        ('"token": "no end', f'"token": "{MARK}'),
        ("git clone https://me:abc@github.com/x", f"git clone https://{MARK}@github.com/x"),
        ("https://ghp_abcdef@github.com/x", f"https://{MARK}@github.com/x"),
        ("postgres://relay:pw@db/relay", f"postgres://{MARK}@db/relay"),
        ("Cookie: a=b; c=d", f"Cookie: {MARK}"),
        ("Set-Cookie: sid=31d4d96e407aad42; Path=/", f"Set-Cookie: {MARK}"),
    ],
)  # fmt: skip
def test_what_looks_like_a_credential_is_redacted_in_any_text(text: str, redacted: str) -> None:
    assert redact_text(text) == redacted
    assert redact({"note": text})["note"] == redacted
    assert may_hold_secret(orjson.dumps({"note": text}))


@pytest.mark.parametrize(
    "text",
    [
        "task-1762553453",
        "disk-1234567890abcdef",
        "the bearer token is missing",
        "bearer authentication failed",
        "used 500 tokens of 10000",
        "tokens_used=5 token_budget: 10000 max_tokens=4096",
        "token: 5",
        "token=null password: none",
        "ssh://git@github.com/x",
        "mail me@example.org",
        "spiffe://cortex/workers/worker-implementation-001",
        "secret_name=db-login",
        "key=value author: me",
        "keyJoinedTable.column.name",
        "",
    ],
)
def test_text_that_people_want_stays(text: str) -> None:
    assert redact_text(text) == text


def test_redaction_of_what_is_redacted_changes_nothing() -> None:
    once = redact_text(f'password=x --token y "secret": "z" Bearer abc123 https://a:b@c {JWT}')
    assert redact_text(once) == once


def test_a_cut_through_a_secret_shows_none_of_it() -> None:
    text = f'{{"id": "w-1", "token": "{JWT}", "status": "pending"}}'
    for begin in range(len(text)):
        cut = redacted_slice(text, begin, begin + 20)
        assert not any(JWT[at : at + 6] in cut for at in range(len(JWT) - 6)), begin


def test_characters_that_postgresql_refuses_are_replaced() -> None:
    assert redact_text("a\0b\ud800c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"
    assert redact({"a\0": ["\udfff"]}) == {"a\ufffd": ["\ufffd"]}
    assert may_hold_secret(b'{"a": "\\u0000"}')
    assert may_hold_secret(b'{"a": "\\uD83d"}')


def test_a_key_hidden_behind_escapes_is_found() -> None:
    assert may_hold_secret(b'{"\\u0074oken": "abc"}')


def test_numbers_that_json_has_not_become_null() -> None:
    assert redact({"x": float("nan"), "y": float("inf"), "z": 1.5}) == {"x": None, "y": None, "z": 1.5}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_redaction_takes_any_json_and_keeps_its_shape(value: Any) -> None:
    assert type(redact(value)) is type(value) or value != value or value in (float("inf"), float("-inf"))


@given(st.text(), st.sampled_from(["token", "client_secret", "PASSWORD", "apiKey", "authorization"]))
def test_a_secret_is_nowhere_in_what_is_stored(noise: str, key: str) -> None:
    secret = "".join(random.Random(noise).choices(string.ascii_letters, k=24))
    for document in ({key: secret}, {"a": [{key: {"b": secret}}]}, {"data": orjson.dumps({key: secret}).decode()}):
        document = {noise.encode(errors="replace").decode(): noise.encode(errors="replace").decode(), **document}
        data = orjson.dumps(document)
        assert may_hold_secret(data)
        assert secret not in json.dumps(redact(document))
        assert secret not in redact_text(data.decode()) or '"' in noise or "\\" in noise


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "a=" * 100_000,
        '"a":[' * 50_000,
        "\\" * 100_000,
        '"token":[' * 2000,
        "://" * 50_000,
        "eyJ" * 50_000,
        "{" * 100_000,
        "--a " * 50_000,
    ],
)
def test_a_long_hostile_text_is_redacted_in_linear_time(text: str) -> None:
    began = time.perf_counter()
    redact_text(text)
    assert time.perf_counter() - began < 10  # seconds; it takes one at most, and what backtracks takes hours


def test_a_secret_key_says_how_much_it_hides() -> None:
    assert (key_secrecy("token"), key_secrecy("password"), key_secrecy("status")) == tuple(map(Secrecy, (1, 2, 0)))
