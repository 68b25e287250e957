"""``manage.py poll``: arguments, signals and back-off around ``cycle.Cycle``."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, close_old_connections
from django.db.models import Count
from tqdm import tqdm

from workers import attendant
from workers.checks import HOME
from workers.cycle import Cycle, Interrupted, Report
from workers.database import ensure_migrated
from workers.ingest import ForeignHomeError
from workers.lease import Lease, PlaceTakenError
from workers.log_desk import LogDesk
from workers.models import Poller, Worker
from workers.outbox import news
from workers.remediation.execute import Desk, Executor, resume
from workers.remediation.ground import Ground
from workers.watch import Alarm, FileWatch, on_orphaned, on_signals

logger = logging.getLogger("workers.poll")
BACKOFF_CEILING_SECONDS = 60.0
TERMINATED = 143  # exit code of one that was told to end before it was done


class Command(BaseCommand):
    requires_system_checks = [HOME]
    help = "Watch the coordination directory and keep the database in step with it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="read everything to its end, judge, store, and end")
        parser.add_argument("--json", action="store_true", help="with --once: one JSON object as the last line")
        parser.add_argument("--until-stdin-closes", action="store_true", help="end when the parent process is gone")

    def handle(self, *args: Any, **options: Any) -> None:
        home = settings.RELAY_HOME
        if home is None:
            raise CommandError("no home to poll: set COMMIT_RELAY_HOME to the directory that holds coordination/")
        # Ten thousand runs stay for as long as the poller does; the collector's usual rounds would visit each of them.
        gc.set_threshold(100_000, 50, 100)
        alarm = Alarm()
        on_signals(alarm)
        if options["until_stdin_closes"]:
            on_orphaned(alarm)
        lease = Lease(settings.RELAY_HOST)
        ensure_migrated()
        try:
            lease.acquire()
            if options["once"]:
                self._once(home, alarm, as_json=options["json"])
            else:
                self._loop(home, alarm, lease)
        except (PlaceTakenError, ForeignHomeError) as error:
            raise CommandError(str(error)) from None
        except Interrupted:
            sys.exit(TERMINATED)
        finally:
            lease.release()

    # -- once

    def _once(self, home: Path, alarm: Alarm, *, as_json: bool) -> None:
        resume(Ground.here(home))  # what a killed process has left half done, before it is looked at
        cycle = _cycle(home, alarm)
        with Bar() as bar:
            cycle.start(now())
            report = cycle.run_once(now(), progress=bar)
            while cycle.uncertain and not report.error:
                again = cycle.run_once(now())
                report.events, report.damaged = report.events + again.events, report.damaged + again.damaged
                report.seconds += again.seconds
        health = _by_health(settings.RELAY_HOST)
        if report.error:
            self.stderr.write(report.error)
        if as_json:
            self.stdout.write(orjson.dumps(_summary(report, health)).decode())
        else:
            self.stdout.write(
                f"{report.specs} specs, {report.unreadable} unreadable, {report.other} other files; "
                f"{report.events} new events, {report.damaged} damaged stretches of log; {report.seconds:.2f} s"
            )
            self.stdout.write(", ".join(f"{count} {name}" for name, count in health.items()) or "no live runs")
        if report.error:
            sys.exit(1)

    # -- for good

    def _loop(self, home: Path, alarm: Alarm, lease: Lease) -> None:
        """Poll until stopped. An error throws the resident state away; the next try starts from the database."""
        logger.info("Polling %s for host %s every %g s", home, settings.RELAY_HOST, settings.RELAY_POLL_SECONDS)
        delay = settings.RELAY_POLL_SECONDS
        executor = Executor(Ground.here(home, alarm.stopped))
        desk = threading.Thread(target=Desk(executor, news()).run, name="remediation desk", daemon=True)
        logs = threading.Thread(
            target=LogDesk(home, settings.RELAY_HOST, alarm.stopped, news()).run, name="log desk", daemon=True
        )
        desk.start()
        logs.start()
        minding = attendant.start("poller", alarm.stopped)
        try:
            self._poll(home, alarm, lease, delay)
        finally:
            executor.close()
            desk.join()
            logs.join()
            minding.join(1)  # a round takes far less; it is a thread that ends with the process

    def _poll(self, home: Path, alarm: Alarm, lease: Lease, delay: float) -> None:
        while not alarm.stopped.is_set():
            watch = FileWatch(alarm, [home / "coordination", home / "agents" / "workers"])
            try:
                cycle = _cycle(home, alarm)
                cycle.start(now())
                watch.start()
                while not alarm.stopped.is_set():
                    self._between_timers(cycle, alarm)
                    lease.check()
                    delay = settings.RELAY_POLL_SECONDS
            except ForeignHomeError:
                raise
            except Interrupted:
                return
            except Exception as error:  # whatever it is, it is shown in the page and tried again
                logger.exception("The cycle failed; trying again in %g s", delay)
                _show(error)
                close_old_connections()
                alarm.pause(delay)
                delay = min(delay * 2, BACKOFF_CEILING_SECONDS)
            finally:
                watch.stop()

    def _between_timers(self, cycle: Cycle, alarm: Alarm) -> None:
        """Look at everything once, then at what changes until the timer is due."""
        due = time.monotonic() + settings.RELAY_POLL_SECONDS
        cycle.run_once(now())
        while not alarm.stopped.is_set() and (left := due - time.monotonic()) > 0:
            if paths := alarm.wait(left):
                cycle.run_once(now(), paths=paths)


def _cycle(home: Path, alarm: Alarm) -> Cycle:
    kept = timedelta(days=settings.RELAY_EVENT_DAYS)
    return Cycle(home, settings.RELAY_HOST, settings.RELAY_POLL_SECONDS, alarm.stopped, kept)


class Bar:
    """A progress bar, if the output is a terminal and it takes long enough to be worth one."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self.__exit__()
            self._what = what
            self._bar = tqdm(desc=what, total=total or None, unit_scale=True, delay=1, disable=None, file=sys.stderr)
        self._bar.update(done - self._bar.n)


def now() -> datetime:
    return datetime.now(UTC)


def _show(error: Exception) -> None:
    """Put the error where the page shows it, if the database takes it."""
    text = f"The poller's cycle fails: {type(error).__name__}: {error}"[:2000]
    try:
        rows = Poller.objects.filter(host=settings.RELAY_HOST)
        rows.exclude(error=text).update(error=text, error_since=now())
    except DatabaseError:
        logger.warning("The error cannot be shown in the page: the database does not take it")


def _by_health(host: str) -> dict[str, int]:
    rows = Worker.objects.filter(host=host, live=True).values_list("health").annotate(n=Count("pk")).order_by("-n")
    return dict(rows)


def _summary(report: Report, health: dict[str, int]) -> dict[str, object]:
    """The object of ``--json``, as contracted in DESIGN, section 3."""
    return {
        "specs": report.specs,
        "unreadable": report.unreadable,
        "other": report.other,
        "workers": health,
        "events": report.events,
        "damaged": report.damaged,
        "seconds": round(report.seconds, 4),
    }
