"""Secrets are taken out before anything is stored: by whole key names, and by what looks like a credential in a text.

``tokens_used`` is a number that people want and ``identity.token`` a bearer token that nobody may see, so a key is
judged by its last words and never by a substring. Characters that PostgreSQL cannot store go the same way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from typing import Any

MARK = "[redacted]"


class Secrecy(IntEnum):
    """How much a key says about the values below it."""

    NONE = 0
    TEXT = 1  # text is secret, a number is a count: `token`
    ALL = 2  # a number is secret too: `password`


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ALL_WORDS = frozenset(
    {"password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "apikey", "credential", "credentials"}
)
_ALL_ENDINGS = ("password", "passwd", "passphrase")  # PGPASSWORD
_TEXT_WORDS = frozenset({"token", "jwt", "pass", "cookie", "cookies", "authorization", "bearer"})
_TOKEN_KINDS = frozenset({"access", "auth", "refresh", "session", "api", "bearer", "id"})  # and not `total_tokens`
_KEY_KINDS = frozenset({"api", "private", "access", "secret", "signing", "encryption", "ssh", "auth"})
#: Words behind a secret's name that still mean the secret itself, unlike `token_budget` or `secret_name`.
_TRAILING = frozenset({"value", "hash", "string", "header", "base64", "base", "raw", "encrypted"})
_WRITTEN_TOGETHER = {
    **dict.fromkeys(("accesstoken", "authtoken", "refreshtoken", "sessiontoken", "apitoken"), Secrecy.TEXT),
    **dict.fromkeys(("setcookie", "auth"), Secrecy.TEXT),
    **dict.fromkeys(("privatekey", "secretkey", "accesskey", "clientsecret", "appsecret"), Secrecy.ALL),
}


@lru_cache(maxsize=8192)
def key_secrecy(name: str) -> Secrecy:
    """Judge a key (``accessToken``, ``X-Api-Key``, ``GITHUB_TOKEN``) by its last words."""
    words = [word.lower() for word in _WORD.findall(name[-200:])]
    while len(words) > 1 and (words[-1] in _TRAILING or words[-1].isdigit()):
        words.pop()
    if not words:
        return Secrecy.NONE
    if (
        words[-1] in _ALL_WORDS
        or words[-1].endswith(_ALL_ENDINGS)
        or (words[-1] in {"key", "keys"} and len(words) > 1 and words[-2] in _KEY_KINDS)
    ):
        return Secrecy.ALL
    if words[-1] in _TEXT_WORDS or (words[-1] == "tokens" and words[-2:-1] and words[-2] in _TOKEN_KINDS):
        return Secrecy.TEXT
    if "".join(words[-2:]) in _ALL_WORDS:  # passWord
        return Secrecy.ALL
    return _WRITTEN_TOGETHER.get("".join(words), Secrecy.NONE)


# --- what may hold a secret at all ------------------------------------------------------------------------------------

# Each begins with a literal, which the regular expression engine finds at half a nanosecond per byte: faster than `in`.
_AS_WRITTEN = (
    re.compile(rb"eyJ"),
    re.compile(rb"A(?:KIA|SIA|Iza)"),
    re.compile(rb"://[^/\s@\"]{1,256}@"),
    re.compile(rb"\\u(?:00[0-7]|[dD][89a-fA-F])"),  # NUL, half a pair, or a letter that hides a key
)
_IN_LOWER_CASE = (
    re.compile(rb"token(?:[_-]?[0-9]+)?(?:[\"'\\:=\s]|[_-]?(?:value|hash|string|header|base|raw|encrypted))"),
    re.compile(
        rb"tokens(?:(?<=access.tokens)|(?<=accesstokens)|(?<=auth.tokens)|(?<=authtokens)|(?<=refresh.tokens)"
        rb"|(?<=refreshtokens)|(?<=session.tokens)|(?<=sessiontokens)|(?<=api.tokens)|(?<=apitokens)"
        rb"|(?<=bearer.tokens)|(?<=bearertokens)|(?<=id[_-]tokens)|(?<=idtokens))"
    ),
    re.compile(rb"pass(?:[_-]?word|wd|phrase|[\"'\\]{0,4}\s*[:=])"),
    re.compile(rb"auth(?:oriz|[\"'\\:=])"),
    re.compile(
        rb"key(?:(?<=api.key)|(?<=apikey)|(?<=private.key)|(?<=privatekey)|(?<=access.key)|(?<=accesskey)"
        rb"|(?<=signing.key)|(?<=signingkey)|(?<=encryption.key)|(?<=encryptionkey)|(?<=ssh.key)|(?<=sshkey)"
        rb"|(?<=auth.key)|(?<=authkey))"
    ),
    re.compile(rb"sk-(?<![a-z0-9]sk-)[a-z0-9]"),  # and not `task-`
    re.compile(rb"gh[pousr]_"),
    *map(re.compile, (rb"secret", rb"pwd", rb"jwt", rb"glpat-", rb"hf_", rb"xox", rb"credential", rb"cookie")),
    *map(re.compile, (rb"bearer", rb"github_pat_")),
)


def may_hold_secret(data: bytes) -> bool:
    """Say whether JSON text needs :func:`redact` at all. A false yes costs time; a false no there is not."""
    if any(pattern.search(data) for pattern in _AS_WRITTEN):
        return True
    low = data.lower()
    return any(pattern.search(low) for pattern in _IN_LOWER_CASE)


# --- text -------------------------------------------------------------------------------------------------------------

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
#: What is a credential wherever it stands. Where there is a group, only the group is.
_CREDENTIALS = (
    re.compile(r"(?<![A-Za-z0-9_-])eyJ[\w-]{4,}(?:\.[\w-]*){1,4}=*"),
    re.compile(r"(?i)\bbearer\s+(?!(?:token|auth|scheme|header|credential)\w*\b)([\w.~+/-]{4,}=*)"),
    re.compile(r"(?<![A-Za-z0-9_-])sk-(?:(?=[\w-]*[0-9])[\w-]{6,}|\w{16,})"),
    re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_|github_pat_)\w{4,}"),
    re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{12,}"),
    re.compile(r"(?<![A-Za-z0-9])AIza[\w-]{30,}"),
    re.compile(r"(?<![A-Za-z0-9])(?:xox[abeoprs]-|glpat-|hf_)[\w-]{8,}"),
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"://(?!git@)([^/\s@\"']{1,256})@"),
)
_NAME = re.compile(r"(?<![\w.-])(?:--?)?([A-Za-z_][\w.-]{0,80})(?:\\*[\"'])?\s*[:=]\s*")
_VALUE = re.compile(
    r"\\++\"(.*?)(?:(?<!\\)\\++\"|\Z)"  # JSON inside a JSON string; a run of backslashes is looked at once, as a whole
    r"|\"((?:[^\"\\]++|\\.)*+)|'([^']*)|\[([^\]]*)|\{([^}]*)"
    r"|((?:(?:bearer|basic|token|digest)\s+)?[^\s\"',;&})\]]+)",
    re.DOTALL | re.IGNORECASE,
)
_HEADER = re.compile(r"(?i)\b(?:set-)?(?:cookie|authorization)\s*:\s*([^\r\n\"']+)")
_OPTION = re.compile(
    r"(?<![\w-])--?(?P<name>[A-Za-z][\w-]{0,80})(?:\\*[\"'],?)?\s+(?:\\*[\"'])?(?P<value>[^\s\"'\\,-][^\s\"'\\]*)"
)
_HARMLESS = frozenset({"null", "none", "true", "false"})
_REDACTED = (MARK.strip("[]"), MARK.lstrip("["))
_NUMBER = re.compile(r"[-+]?[0-9][0-9.,_]*\Z")


def storable(text: str) -> str:
    """Replace NUL and lone surrogates, which PostgreSQL refuses, by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def redact_text(text: str) -> str:
    """Redact free text: a log line, a command line, a piece of broken JSON."""
    text = storable(text)
    if not _is_suspect(text):
        return text
    pieces, end = [], 0
    for begin, stop in secret_spans(text):
        pieces += [text[end:begin], MARK]
        end = stop
    return "".join([*pieces, text[end:]])


def _is_suspect(text: str) -> bool:
    """Say quickly whether a text is worth a closer look. Written out: a loop or a pattern takes three times as long."""
    low = text.lower()
    return (
        "token" in low
        or "pass" in low
        or "secret" in low
        or "key" in low
        or "credential" in low
        or "cookie" in low
        or "auth" in low
        or "bearer" in low
        or "eyj" in low
        or ("sk-" in low and low.count("sk-") != low.count("task-"))
        or "gh" in low
        or "github_pat" in low
        or "akia" in low
        or "asia" in low
        or "aiza" in low
        or "pwd" in low
        or "jwt" in low
        or "xox" in low
        or "glpat" in low
        or "hf_" in low
        or ("@" in low and "://" in low)
    )


def redacted_slice(text: str, begin: int, end: int) -> str:
    """Cut ``text[begin:end]`` out with what is secret there redacted, also where the cut goes through a secret."""
    pieces, at = [], begin
    for start, stop in secret_spans(text):
        if start < end and stop > begin:
            pieces += [text[at : max(start, at)], MARK]
            at = min(stop, end)
    return storable("".join([*pieces, text[at:end]]))


def secret_spans(text: str) -> list[tuple[int, int]]:
    """Find the stretches of a text that nobody may see, in order and without overlap."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(_find_spans(text)):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif begin < end:
            merged.append((begin, end))
    return merged


def _find_spans(text: str) -> Iterator[tuple[int, int]]:
    for pattern in _CREDENTIALS:
        for match in pattern.finditer(text):
            yield match.span(pattern.groups)
    for match in _HEADER.finditer(text):
        yield match.span(1)
    for match in _OPTION.finditer(text):
        if _gives_away(match["name"], match["value"]):
            yield match.span("value")
    at = 0
    while name := _NAME.search(text, at):
        at = name.end()
        value = _VALUE.match(text, at) if key_secrecy(name[1]) else None
        if value and value.lastindex and _gives_away(name[1], value[value.lastindex]):
            yield value.span(value.lastindex)
            at = value.end()


def _gives_away(name: str, value: str) -> bool:
    secrecy = key_secrecy(name)
    if secrecy is Secrecy.NONE or not value or value.lower() in _HARMLESS or value.lstrip("[") in _REDACTED:
        return False
    return secrecy is Secrecy.ALL or not _NUMBER.match(value)


# --- parsed JSON ------------------------------------------------------------------------------------------------------


def redact(value: Any) -> Any:
    """Redact parsed JSON into a new value. In a list, what follows ``--token`` is secret too."""
    return _redact(value, Secrecy.NONE)


def _redact(value: Any, secrecy: Secrecy) -> Any:
    if isinstance(value, str):
        if not secrecy:
            return redact_text(value)
        return value if value.strip().lower() in ("", "null") else MARK
    if isinstance(value, dict):
        named = value.get("name", value.get("key"))  # {"name": "GITHUB_TOKEN", "value": "…"}
        redacted = {}
        for key, item in value.items():
            shown, own = _key(key)
            if key == "value":
                own = key_secrecy(named) if isinstance(named, str) else Secrecy.NONE
            redacted[shown] = _redact(item, max(secrecy, own))
        return redacted
    if isinstance(value, list):
        return [_redact(item, max(secrecy, _option_before(value, place))) for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    if isinstance(value, int | float) and not isinstance(value, bool) and secrecy is Secrecy.ALL:
        return MARK
    return value


@lru_cache(maxsize=8192)
def _key(key: str) -> tuple[str, Secrecy]:
    """A key as it may be stored, and what it says of its value."""
    return redact_text(key), key_secrecy(key)


def _option_before(items: list[Any], place: int) -> Secrecy:
    """Judge an element of an argument list by the option in front of it."""
    before = items[place - 1] if place else None
    if isinstance(before, str) and before.startswith("-") and "=" not in before and len(before) < 80:
        return key_secrecy(before)
    return Secrecy.NONE
