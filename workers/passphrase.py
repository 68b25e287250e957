"""The passphrase of a file of settings: from the environment, else from whoever sits at the terminal."""

from __future__ import annotations

import getpass
import os
import sys

from django.core.management import CommandError

VARIABLE = "RELAY_SETTINGS_PASSPHRASE"
SHORTEST = 8


def ask_once() -> str:
    """Raises CommandError where there is neither a variable nor a terminal."""
    if given := os.environ.get(VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise CommandError(f"a passphrase is needed; set {VARIABLE}")
    return getpass.getpass("Passphrase of the secrets: ")


def ask_twice() -> str:
    """One to encrypt with: long enough, and typed twice the same. Raises CommandError."""
    passphrase = ask_once()
    if len(passphrase) < SHORTEST:
        raise CommandError(f"the passphrase is too short; give at least {SHORTEST} characters")
    if not os.environ.get(VARIABLE) and getpass.getpass("The same again: ") != passphrase:
        raise CommandError("the two passphrases differ")
    return passphrase
