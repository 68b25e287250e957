"""``manage.py remediate``: the same plans and the same execution as behind the buttons, in this very process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from workers import queries
from workers.checks import HOME
from workers.cycle import Cycle
from workers.database import ensure_migrated
from workers.health import Health
from workers.ingest import ForeignHomeError
from workers.lease import Lease, PlaceTakenError
from workers.models import Remediation, Worker
from workers.remediation import ask
from workers.remediation.actions import ACTIONS, ARCHIVE_FAILED, UNDO
from workers.remediation.ask import Person
from workers.remediation.execute import Executor
from workers.remediation.ground import Ground, Refusal
from workers.remediation.plan import make_plan
from workers.system_user import system_user

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 3


class Command(BaseCommand):
    requires_system_checks = [HOME]
    help = (
        "Repair workers: restart, clean-up, force-fail, recover-task, repair-spec, quarantine, archive-failed, undo. "
        "Exit code: 0 all done, 1 any failed, 3 any refused, 2 bad usage or unknown id."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", metavar="ACTION", choices=list(ACTIONS), help=", ".join(ACTIONS))
        parser.add_argument(
            "ids", nargs="*", metavar="ID", help="worker ids; of an earlier run ID@CREATED_AT or its path"
        )
        parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
        parser.add_argument("--all-zombies", action="store_true", help="instead of ids: every zombie of this host")
        parser.add_argument("--recover", action="store_true", help="with clean-up and force-fail: queue the task again")
        parser.add_argument("--expect", type=int, metavar="N", help="how many there are, where it is many")
        parser.add_argument("--reason", default="", help="goes into the audit, and into the error of a forced failure")
        parser.add_argument(
            "--yes", action="store_true", help="do not ask; also answers the question of a second retry"
        )
        parser.add_argument("--json", action="store_true", help="one JSON array as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        home = settings.RELAY_HOME
        if home is None:
            raise CommandError(
                "no home: set COMMIT_RELAY_HOME to the directory that holds coordination/", returncode=USAGE
            )
        self.options, self.action = options, ACTIONS[options["action"]]
        self._check_usage()
        ensure_migrated()
        self._poll_unless_somebody_does(home)
        self.executor = Executor(Ground.here(home))
        try:
            code, results = self._run()
        finally:
            self.executor.close()
        self._poll_unless_somebody_does(home)
        if options["json"]:
            self.stdout.write(orjson.dumps(results).decode())
        if code:
            sys.exit(code)

    # -- what is asked for

    def _check_usage(self) -> None:
        options, takes_none = self.options, self.action is ARCHIVE_FAILED
        if options["all_zombies"] and (options["ids"] or not self.action.runs):
            raise CommandError("--all-zombies stands instead of ids, for an action on workers", returncode=USAGE)
        if takes_none and options["ids"]:
            raise CommandError("archive-failed takes no id: it is about all of failed/", returncode=USAGE)
        if not takes_none and not options["ids"] and not options["all_zombies"]:
            raise CommandError(f"{self.action.name} needs at least one id", returncode=USAGE)
        if options["recover"] and not self.action.may_recover:
            raise CommandError("--recover goes with clean-up and force-fail", returncode=USAGE)

    def _poll_unless_somebody_does(self, home: Path) -> None:
        """Bring the database up to date with the directory, which a poller that runs does anyway."""
        lease = Lease(settings.RELAY_HOST)
        try:
            lease.acquire()
        except PlaceTakenError:
            return
        try:
            cycle = Cycle(home, settings.RELAY_HOST, settings.RELAY_POLL_SECONDS)
            cycle.start(timezone.now())
            report = cycle.run_once(timezone.now())
            while cycle.uncertain and not report.error:
                cycle.run_once(timezone.now())
        except ForeignHomeError as error:
            raise CommandError(str(error), returncode=USAGE) from None
        finally:
            lease.release()
        if report.error:
            raise CommandError(report.error, returncode=USAGE)

    def _drafts(self) -> Iterator[Remediation]:
        """Make a request for each, unsaved, in the name of this process; one that is refused says so."""
        values = {"executor": self.executor.name}
        if self.action is ARCHIVE_FAILED:
            yield self._draft(None, lambda: ask.draft_for_host(self.action, self.person, settings.RELAY_HOST, **values))
        elif self.action is UNDO:
            for undone in self._undone():
                yield self._draft(None, partial(ask.draft_undo, self.person, undone, **values))
        else:
            for worker in self.workers:
                make = partial(ask.draft, self.action, self.person, worker, recover=self.options["recover"], **values)
                yield self._draft(worker, make)

    def _draft(self, worker: Worker | None, make: Callable[[], Remediation]) -> Remediation:
        try:
            return make()
        except Refusal as refusal:
            moment = timezone.now()
            return Remediation(
                host=worker.host if worker else settings.RELAY_HOST,
                action=self.action.name,
                worker=worker,
                state=Remediation.State.REFUSED,
                error=str(refusal),
                requested_at=moment,
                finished_at=moment,
                **self.person.signed(),
            )

    def _find_workers(self) -> list[Worker]:
        if self.options["all_zombies"]:
            zombies = Worker.objects.filter(host=settings.RELAY_HOST, live=True, health=Health.ZOMBIE)
            return list(zombies.order_by("worker_id"))
        found = {name: queries.run_by_name(name, settings.RELAY_HOST) for name in dict.fromkeys(self.options["ids"])}
        if unknown := [name for name, worker in found.items() if worker is None]:
            raise CommandError(f"no worker has the id {', '.join(unknown)}; nothing was done", returncode=USAGE)
        return [worker for worker in found.values() if worker]

    def _undone(self) -> list[Remediation]:
        found = []
        for name in dict.fromkeys(self.options["ids"]):
            key = name.removeprefix("#")
            undone = Remediation.objects.filter(pk=int(key)).first() if key.isascii() and key.isdigit() else None
            if undone is None:
                raise CommandError(f"no remediation has the number {name}; nothing was done", returncode=USAGE)
            found.append(undone)
        return found

    # -- doing it

    def _run(self) -> tuple[int, list[dict[str, Any]]]:
        self.person = Person(system_user(), "command line", reason=self.options["reason"])
        self.workers = self._find_workers() if self.action.runs else []
        self._check_guard()
        remediations = list(self._drafts())
        if self.options["dry_run"]:
            for remediation in remediations:
                self._plan(remediation)
        else:
            remediations = [ask.place(remediation) for remediation in remediations]
            self._attend(remediations)
        for remediation in remediations:
            self._show(remediation)
        planned = [each for each in remediations if each.state == Remediation.State.PLANNED]
        if self.options["dry_run"]:
            return (DONE if len(planned) == len(remediations) else REFUSED), [_result(each) for each in remediations]
        if planned and not self._agreed(planned):
            for remediation in planned:
                ask.withdraw(remediation, self.person)
            raise CommandError("nothing was done", returncode=REFUSED)
        self._confirm(planned)
        self._attend(planned)
        for remediation in planned:
            self._say_result(remediation)
        return self._code(remediations), [_result(each) for each in remediations]

    def _attend(self, remediations: list[Remediation]) -> None:
        """Plan them, or carry them out, four at a time."""
        done = [self.executor.submit(each.pk) for each in remediations if each.open]
        for future in done:
            future.result()
        for remediation in remediations:
            remediation.refresh_from_db()

    def _check_guard(self) -> None:
        selection = ask.select(self.action, self.workers)
        if not self.action.runs or self.options["dry_run"]:
            return
        if selection.guard and self.options["expect"] is None:
            raise CommandError(
                f"{selection.guard}. Give --expect {len(selection.eligible)} to go on all the same", returncode=REFUSED
            )
        if self.options["expect"] is not None and self.options["expect"] != len(selection.eligible):
            raise CommandError(
                f"--expect {self.options['expect']}, but there are {len(selection.eligible)}; nothing was done",
                returncode=REFUSED,
            )

    def _agreed(self, planned: list[Remediation]) -> bool:
        """Ask on a terminal; where nobody sits there, as in cron, the command itself is the agreement."""
        nobody_there = sys.stdin is None or not sys.stdin.isatty()
        if self.options["yes"] or self.options["json"] or nobody_there:
            return True
        self.stdout.write(f"{self.action.label} {len(planned)}? [y/N] ", ending="")
        self.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _confirm(self, planned: list[Remediation]) -> None:
        for remediation in planned:
            try:
                ask.confirm(remediation, self.person, answered=self.options["yes"], executor=self.executor.name)
            except Refusal as refusal:
                Remediation.objects.filter(pk=remediation.pk, state=Remediation.State.PLANNED).update(
                    state=Remediation.State.REFUSED, error=str(refusal), finished_at=timezone.now()
                )
                remediation.refresh_from_db()

    def _plan(self, remediation: Remediation) -> None:
        """Plan for a dry run, which leaves no trace."""
        if remediation.state == Remediation.State.REFUSED:
            return
        try:
            remediation.plan = make_plan(remediation, self.executor.ground).as_json()
            remediation.state = Remediation.State.PLANNED
        except Refusal as refusal:
            remediation.state, remediation.error = Remediation.State.REFUSED, str(refusal)

    # -- what is printed

    def _say(self, text: str) -> None:
        if not self.options["json"]:
            self.stdout.write(text)

    def _show(self, remediation: Remediation) -> None:
        name = _name(remediation) or remediation.host
        self._say(f"{ACTIONS[remediation.action].label} {name}{f' (#{remediation.pk})' if remediation.pk else ''}")
        plan = remediation.plan or {}
        for number, step in enumerate(plan.get("steps", ()), start=1):
            self._say(f"  {number}. {step['detail']}: {step['target']}")
            for process in step["shown"].get("processes", ()):
                self._say(f"       {process['pid']} {process['command']}")
            for sign, line in step["shown"].get("diff", ()):
                self._say(f"       {sign} {line}")
        for warning in plan.get("warnings", ()):
            self._say(f"  ! {warning}")
        if plan.get("asks"):
            self._say(f"  ? {plan['asks']}")
        if remediation.state == Remediation.State.REFUSED:
            self._say(f"  refused: {remediation.error}")

    def _say_result(self, remediation: Remediation) -> None:
        name = _name(remediation) or remediation.host
        self._say(f"{name}: {remediation.state}{f' ({remediation.error})' if remediation.error else ''}")
        for step in remediation.steps.all():
            self._say(f"  {step.state}: {step.detail}")

    @staticmethod
    def _code(remediations: list[Remediation]) -> int:
        states = {each.state for each in remediations}
        if Remediation.State.FAILED in states:
            return FAILED
        return REFUSED if states - {Remediation.State.DONE} else DONE


def _result(remediation: Remediation) -> dict[str, Any]:
    """One remediation as contracted in DESIGN, section 3."""
    steps = [
        {"kind": step.kind, "target": step.target, "detail": step.detail, "state": step.state}
        for step in (remediation.steps.all() if remediation.pk else ())
    ] or [
        {"kind": step["kind"], "target": step["target"], "detail": step["detail"], "state": "pending"}
        for step in (remediation.plan or {}).get("steps", ())
    ]
    return {
        "id": remediation.pk,
        "worker_id": _name(remediation),
        "action": remediation.action,
        "state": remediation.state,
        "steps": steps,
        "error": remediation.error,
    }


def _name(remediation: Remediation) -> str | None:
    """The id of the worker that it is about, also through what is undone."""
    worker = remediation.worker or (remediation.undoes.worker if remediation.undoes else None)
    return worker.worker_id if worker else None
