"""``manage.py import_settings FILE``: settings from a file of ``export_settings``, all of them or none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from workers.database import ensure_migrated
from workers.models import Channel, SettingChange
from workers.passphrase import ask_once
from workers.settings_file import PassphraseNeededError, SettingsFileError, load
from workers.system_user import system_user
from workers.who import Who


class Command(BaseCommand):
    help = (
        "Add and change settings as a file says. What is not in it stays. Everything is checked first, and what is "
        "wrong is named; then all of it is changed in one transaction. Policies come in as shadows."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="as export_settings writes it; - for the standard input")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_migrated()
        name, dry_run = options["file"], options["dry_run"]
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{name} cannot be read: {error.strerror}", returncode=2) from None
        except UnicodeDecodeError as error:
            raise CommandError(f"{name} is no text in UTF-8: byte {error.start} is none", returncode=2) from None
        who = Who(system_user(), "command line")
        try:
            try:
                changes = load(text, who, dry_run=dry_run)
            except PassphraseNeededError:
                changes = load(text, who, dry_run=dry_run, passphrase=ask_once())
        except SettingsFileError as error:
            wrong = "".join(f"\n  {name}: {problem}" for problem in error.problems)
            raise CommandError(f"nothing was changed:{wrong}") from None
        for change in changes:
            self.stdout.write(_line(change))
        count = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
        self.stdout.write(f"{count}; this was a dry run: nothing was changed" if dry_run else count)
        self._say_what_is_missing()

    def _say_what_is_missing(self) -> None:
        for channel in Channel.objects.filter(enabled=False):
            if not channel.address:
                self.stderr.write(f"channel {channel} is off until somebody enters its address in the admin")


def _line(change: SettingChange) -> str:
    if not change.field:
        return f"{change.setting}: {'added' if change.new else 'removed'}: {change.new or change.old}"
    if change.old and change.new:
        return f"{change.setting}: {change.field}: {change.old} → {change.new}"
    return f"{change.setting}: {change.field}: {change.new or f'{change.old} → empty'}"
