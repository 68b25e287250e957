"""``manage.py demo_fleet DIR``: a fleet to look at, to test on and to measure with."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workers.demo import director, fleet


class Command(BaseCommand):
    help = (
        "Write a realistic fleet into DIR, a new or empty directory or one that this command has made before, and keep "
        "it alive with real processes until Ctrl-C. Every process of it ends with this command."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("directory", metavar="DIR", type=Path)
        parser.add_argument("--workers", type=int, default=26, metavar="N", help="live workers (default 26)")
        parser.add_argument("--events", type=int, default=2400, metavar="N", help="past events (default 2400)")
        parser.add_argument(
            "--no-processes", action="store_true", help="write exactly N specs and N events, and return"
        )
        parser.add_argument("--seed", type=int, default=1, metavar="S", help="of everything random (default 1)")
        parser.add_argument(
            "--until-stdin-closes",
            action="store_true",
            help="end, too, at the end of standard input: for a parent that must not leave the fleet behind",
        )

    def handle(self, *, directory: Path, workers: int, events: int, seed: int, **options: Any) -> None:
        if workers < 1 and not options["no_processes"]:
            raise CommandError("--workers must be at least 1.")
        if workers < 0 or events < 0:
            raise CommandError("--workers and --events must not be negative.")
        home = directory.absolute()
        try:
            if options["no_processes"]:
                fleet.write_fleet(home, workers=workers, events=events, seed=seed, now=datetime.now(UTC))
                self._say(f"Wrote {workers} live workers and {events} events, without processes, into {home}.", home)
                return
            stop = _stop_event(until_stdin_closes=options["until_stdin_closes"])
            words = f"Demo fleet of {workers} workers is up in {home}; Ctrl-C ends it and all its processes."
            director.run(
                home, workers=workers, events=events, seed=seed, stop=stop, when_up=lambda: self._say(words, home)
            )
        except fleet.DemoError as error:
            raise CommandError(str(error)) from error

    def _say(self, words: str, home: Path) -> None:
        self.stdout.write(words)
        self.stdout.write(f"Look at it with: COMMIT_RELAY_HOME={home} manage.py relay")
        self.stdout.flush()


def _stop_event(*, until_stdin_closes: bool) -> threading.Event:
    """Return an event that Ctrl-C, SIGTERM and, if wanted, the end of standard input set."""
    stop = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, on_signal)

    def read_to_end() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop.set()

    if until_stdin_closes:
        threading.Thread(target=read_to_end, daemon=True).start()
    return stop
