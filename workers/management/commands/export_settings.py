"""``manage.py export_settings [FILE]``: all settings as one readable file of JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from workers.database import ensure_migrated
from workers.passphrase import ask_twice
from workers.settings_file import SettingsFileError, write


class Command(BaseCommand):
    help = (
        "Write limits, root causes, channels, alert rules, policies and the installation as JSON. People are not in "
        "it, and secrets only with --with-secrets: then encrypted with the passphrase in RELAY_SETTINGS_PASSPHRASE, "
        "or one that is asked for."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", metavar="FILE", help="where to; without it, to the standard output")
        parser.add_argument("--with-secrets", action="store_true", help="also the secrets, encrypted")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_migrated()
        passphrase = ask_twice() if options["with_secrets"] else ""
        try:
            text = write(timezone.now(), passphrase)
        except SettingsFileError as error:
            raise CommandError(str(error)) from None
        if not options["file"]:
            self.stdout.write(text, ending="")
            return
        path = Path(options["file"])
        try:
            _replace(path, text)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}") from None
        self.stderr.write(f"wrote {path}{', secrets included' if passphrase else ', without secrets'}")


def _replace(path: Path, text: str) -> None:
    """Write it aside, readable by its owner alone, and put it in place whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
