"""Secrets of settings, as they may lie in the database: encrypted with a key that is made from ``SECRET_KEY``."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models
from django.utils.encoding import force_bytes

_PURPOSE = b"relay-web secrets at rest"


class UnreadableSecretError(Exception):
    """It was encrypted with another ``SECRET_KEY``; it has to be entered again."""


@cache
def _cipher(keys: tuple[str | bytes, ...]) -> MultiFernet:
    """The cipher of now, and those of keys that held before (``SECRET_KEY_FALLBACKS``)."""
    derived = (hashlib.scrypt(force_bytes(key), salt=_PURPOSE, n=2**12, r=8, p=1, dklen=32) for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])


def _here() -> MultiFernet:
    return _cipher((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


def encrypt(text: str) -> str:
    return _here().encrypt(text.encode()).decode() if text else ""


def decrypt(token: str) -> str:
    """Raises UnreadableSecretError."""
    if not token:
        return ""
    try:
        return _here().decrypt(token.encode()).decode()
    except InvalidToken:
        raise UnreadableSecretError("it was stored with another SECRET_KEY; enter it again") from None


class SecretField(models.TextField):
    """A text that lies encrypted in the database, and is read by :func:`reveal` alone: nothing shows it by chance."""

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None or isinstance(value, Sealed) else Sealed(encrypt(str(value)))

    def from_db_value(self, value: Any, *_: Any) -> Any:
        return None if value is None else Sealed(value)


class Sealed(str):
    """What stands in the database of a secret."""

    __slots__ = ()

    def reveal(self) -> str:
        """Raises UnreadableSecretError."""
        return decrypt(str.__str__(self))

    def __repr__(self) -> str:
        return "<a secret>"
