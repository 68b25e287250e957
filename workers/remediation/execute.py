"""Carrying out what was asked for: claim it, plan it, and once confirmed do it step by step, with a journal.

Each remediation belongs to one process at a time, named by its pid, start and boot. Who finds one whose process is dead
goes on from the journal: every step can be begun once more.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, close_old_connections, connections, transaction
from django.db.models import Q

from workers.coordination import writer
from workers.coordination.records import ProcessKey
from workers.incident_store import close_recovered
from workers.models import Change, Remediation, RemediationStep
from workers.processes import own_key
from workers.sql import announce

from .actions import ACTIONS, objection
from .ground import Ground, Refusal, Stopped, now
from .plan import Plan, make_plan
from .rights import AUTOPILOT, COMMAND_LINE, why_policy_may_not
from .steps import CARRY_OUT, command
from .work import StepFailed, Work

logger = logging.getLogger(__name__)
AT_ONCE = 4
#: How long a preview waits for its answer: what it shows is old by then.
ANSWERED_WITHIN = timedelta(hours=1)
#: Steps after which the worker's spec says what it is to say, so that it can be judged again.
SETTLED_BY = ("rewrite", "move")
#: Steps after which the rest is done whatever fails of it: the files lie elsewhere, and that has to be said.
MOVED_BY = ("move", "restore", "archive", "unarchive", "mend", "unmend", "quarantine", "bring-back")
State = Remediation.State


class Executor:
    """Plans and carries out the remediations of one host, in one process. Safe for threads."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.key = own_key()
        self.name = ":".join(map(str, self.key))
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="remediation")
        self._busy: dict[int, Future[None]] = {}
        self._lock = Lock()
        self._tidied = float("-inf")

    # -- what there is to do

    def look(self) -> None:
        """Take up everything that waits for this host. Returns at once; the work is done in threads."""
        self._adopt()
        with self._lock:
            self._busy = {pk: future for pk, future in self._busy.items() if not future.done()}
            busy = set(self._busy)
        waiting = Remediation.objects.filter(host=self.ground.host, state__in=(State.PLANNING, State.CONFIRMED))
        mine = Q(executor="") | Q(executor=self.name)
        resumed = Remediation.objects.filter(host=self.ground.host, state=State.RUNNING, executor=self.name)
        todo = {*waiting.filter(mine).values_list("pk", flat=True), *resumed.values_list("pk", flat=True)}
        for pk in sorted(todo - busy):
            self.submit(pk)
        if time.monotonic() - self._tidied > 60:
            self._tidied = time.monotonic()
            lapse(self.ground.host, now())
            open_ones = Remediation.objects.filter(state__in=Remediation.OPEN).values_list("pk", flat=True)
            command.tidy(self.ground, {str(pk) for pk in open_ones})

    def submit(self, pk: int) -> Future[None]:
        """Do what is to be done about one remediation, in a thread."""
        with self._lock:
            self._busy[pk] = self._pool.submit(self._in_thread, pk)
            return self._busy[pk]

    def finish(self) -> None:
        """Wait for everything that was taken up."""
        while True:
            with self._lock:
                waiting = [future for future in self._busy.values() if not future.done()]
            if not waiting:
                return
            waiting[0].result()

    def close(self) -> None:
        """End the threads. What is under way stops at its next wait, and the next process goes on with it."""
        self.ground.stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _in_thread(self, pk: int) -> None:
        close_old_connections()
        try:
            self.attend(pk)
        except Stopped:
            logger.info("Remediation %s is interrupted; the next poller goes on with it", pk)
        except Exception:
            logger.exception("Remediation %s failed in a way that was not foreseen", pk)
        finally:
            connections.close_all()

    def _adopt(self) -> None:
        """Take over what belongs to a process of this host that is dead."""
        held = Remediation.objects.filter(host=self.ground.host, state__in=Remediation.OPEN).exclude(executor="")
        for pk, executor, state in held.exclude(executor=self.name).values_list("pk", "executor", "state"):
            if self._lives(executor):
                continue
            mine = Remediation.objects.filter(pk=pk, executor=executor, state=state)
            if state == State.RUNNING:
                mine.update(executor=self.name)
            elif state != State.PLANNED:
                mine.update(executor="")

    def _lives(self, executor: str) -> bool:
        pid, ticks, boot = executor.split(":", 2)
        return self.ground.alive(ProcessKey(int(pid), int(ticks), boot))

    # -- one remediation

    def attend(self, pk: int) -> None:
        """Plan it, or carry it out, or go on with it, whatever is its turn."""
        remediation = Remediation.objects.select_related("worker", "undoes__worker", "user").get(pk=pk)
        if remediation.state == State.PLANNING and self._claim(remediation, State.PLANNING):
            self._plan(remediation)
        elif remediation.state == State.CONFIRMED and self._claim(remediation, State.RUNNING, started_at=now()):
            self._begin(remediation)
        elif remediation.state == State.RUNNING and remediation.executor == self.name:
            # Without a journal its process was killed before it had begun, and nothing is done yet.
            (self._carry_out if remediation.steps.exists() else self._begin)(remediation)

    def _claim(self, remediation: Remediation, state: State, **values: Any) -> bool:
        """Make it this process's own; False where another was faster."""
        free = Remediation.objects.filter(pk=remediation.pk, state=remediation.state)
        free = free.filter(Q(executor="") | Q(executor=self.name))
        return self._change(remediation, free, state=state, executor=self.name, **values)

    def _change(self, remediation: Remediation, where: Any, **values: Any) -> bool:
        """Change the row where it still is as expected, and tell the pages, in one transaction."""
        with transaction.atomic():
            if not where.update(**values):
                return False
            tell([remediation])
        for name, value in values.items():
            setattr(remediation, name, value)
        return True

    def _move_on(self, remediation: Remediation, state: State, **values: Any) -> bool:
        where = Remediation.objects.filter(pk=remediation.pk, state=remediation.state, executor=self.name)
        return self._change(remediation, where, state=state, **values)

    def _plan(self, remediation: Remediation) -> None:
        try:
            plan = self._fresh_plan(remediation)
        except Refusal as refusal:
            self._refuse(remediation, str(refusal))
            return
        self._move_on(remediation, State.PLANNED, plan=plan.as_json(), planned_at=now(), executor="")

    def _fresh_plan(self, remediation: Remediation) -> Plan:
        """Plan with what is known now. Raises Refusal; errors that nobody foresaw are told as one."""
        action, worker = ACTIONS[remediation.action], remediation.worker
        if action.runs and worker:
            worker.refresh_from_db()
            if worker.host != remediation.host:
                raise Refusal(f"It is on {worker.host} by now")
            if not _acted_on(remediation) and (no_case := objection(action, worker)):
                raise Refusal(no_case)
        try:
            return make_plan(remediation, self.ground)
        except (Refusal, DatabaseError):
            raise
        except Exception as error:  # tried again and again it would fail again and again, and nobody would know
            logger.exception("Remediation %s cannot be planned", remediation.pk)
            raise Refusal(f"It could not be planned: {type(error).__name__}: {error}") from None

    def _refuse(self, remediation: Remediation, why: str) -> None:
        self._move_on(remediation, State.REFUSED, error=why, finished_at=now())

    def _begin(self, remediation: Remediation) -> None:
        """Plan once more: what is carried out is what was shown, or nothing is."""
        if why := self._may_not(remediation):
            self._refuse(remediation, why)
            return
        try:
            plan = self._fresh_plan(remediation)
        except Refusal as refusal:
            self._refuse(remediation, str(refusal))
            return
        shown = (remediation.plan or {}).get("relies_on", {})
        if changed := plan.changed_since(shown):
            with transaction.atomic():
                self._refuse(remediation, f"{changed}, so nothing was done; there is a new preview")
                self._preview_again(remediation, plan)
            return
        with transaction.atomic():
            steps = [
                RemediationStep(
                    remediation=remediation,
                    number=number,
                    kind=step.kind,
                    target=step.target,
                    detail=step.detail,
                    data=step.data,
                )
                for number, step in enumerate(plan.steps)
            ]
            RemediationStep.objects.bulk_create(steps)
            remediation.plan = plan.as_json()
            remediation.save(update_fields=["plan"])
        self._carry_out(remediation)

    @staticmethod
    def _may_not(remediation: Remediation) -> str:
        """Whether who asked has lost the right since; the command line has the system's rights."""
        action = ACTIONS[remediation.action]
        if remediation.user_id is None:
            if remediation.via == AUTOPILOT:
                why = why_policy_may_not(remediation.policy_id, action, now())
                return f"{remediation.actor} may not {action.label.lower()} any more: {why}" if why else ""
            return "" if remediation.via == COMMAND_LINE else f"{remediation.actor} has no account any more"
        user = get_user_model()._default_manager.get(pk=remediation.user_id)
        if user.is_active and user.has_perm(action.full_permission):
            return ""
        return f"{remediation.actor} may not {action.label.lower()} any more"

    @staticmethod
    def _preview_again(remediation: Remediation, plan: Plan) -> None:
        """Leave a new preview in the place of the one that had become wrong."""
        again = Remediation(
            **{name: getattr(remediation, name) for name in _ASKED},
            instead_of=remediation,
            state=State.PLANNED,
            requested_at=now(),
            planned_at=now(),
            plan=plan.as_json(),
        )
        with transaction.atomic():
            again.save()
            tell([again])

    # -- the journal

    def _carry_out(self, remediation: Remediation) -> None:
        """Do each step that is not done yet. The first that fails ends it, but for the last words of what was done."""
        failed = ""
        moved = False
        for step in remediation.steps.order_by("number"):
            if step.finished_at:  # by the process that was killed after it
                moved = moved or (step.kind in MOVED_BY and step.state == RemediationStep.State.DONE)
                failed = failed or (step.detail if step.state == RemediationStep.State.FAILED else "")
                continue
            if failed and not moved:
                self._write(remediation, step, RemediationStep.State.SKIPPED)
                continue
            error = self._do(remediation, step)
            moved = moved or (step.kind in MOVED_BY and not error)
            failed = failed or error
        state = State.FAILED if failed else State.DONE
        if remediation.new_task_id and remediation.worker_id:
            close_recovered(remediation, now())
        self._move_on(remediation, state, error=failed, finished_at=now(), holds=False)

    def _do(self, remediation: Remediation, step: RemediationStep) -> str:
        """Do one step. Return why it failed, "" where it did not."""
        work = Work(remediation, step, self.ground)
        if step.kind in ("stop", *SETTLED_BY) and remediation.worker_id:
            self._hold(remediation, held=True)
        if step.state == RemediationStep.State.RUNNING:  # whoever had it was killed in it
            _sweep(work)
        self._write(remediation, step, RemediationStep.State.RUNNING)
        try:
            detail = CARRY_OUT[step.kind](work)
        except StepFailed as failure:
            return self._fail(remediation, step, str(failure))
        except (Stopped, DatabaseError):  # the step is begun once more
            raise
        except Exception as error:  # tried again and again it would fail again and again, and nobody would know
            logger.exception("Step %s of remediation %s failed in a way that was not foreseen", step, remediation.pk)
            return self._fail(remediation, step, f"{type(error).__name__}: {error}")
        self._write(remediation, step, RemediationStep.State.DONE, detail)
        if step.kind in SETTLED_BY:
            self._hold(remediation, held=False)
        return ""

    def _fail(self, remediation: Remediation, step: RemediationStep, why: str) -> str:
        self._write(remediation, step, RemediationStep.State.FAILED, why)
        self._hold(remediation, held=False)
        return why

    @staticmethod
    def _hold(remediation: Remediation, *, held: bool) -> None:
        if remediation.holds != held:
            remediation.holds = held
            remediation.save(update_fields=["holds"])

    @staticmethod
    def _write(remediation: Remediation, step: RemediationStep, state: str, detail: str = "") -> None:
        step.state = state
        step.detail = detail or step.detail
        if state == RemediationStep.State.RUNNING:
            step.started_at = step.started_at or now()
        else:
            step.finished_at = now()
        with transaction.atomic():
            step.save(update_fields=["state", "detail", "started_at", "finished_at"])
            tell([remediation])


_ASKED = (
    *("host", "action", "worker", "undoes", "batch", "recover", "policy"),
    *("user", "actor", "via", "address", "reason"),
)


def _sweep(work: Work) -> None:
    """Remove the temporary files that a killed process has left of this step."""
    places = (work.data.get(name, "") for name in ("source", "target", "path"))
    for folder in {"coordination", *(place.rpartition("/")[0] for place in places if place)}:
        with contextlib.suppress(writer.WriteError):
            writer.clear(work.ground.layout, folder, work.token)


def _acted_on(remediation: Remediation) -> bool:
    return remediation.steps.exists()


def tell(remediations: Iterable[Remediation]) -> None:
    """Say in the outbox that these have changed, and so what their workers' pages show."""
    remediations = list(remediations)
    moment = now()
    announce(Change.Kind.REMEDIATION, [remediation.pk for remediation in remediations], moment)
    keys = {remediation.worker_id for remediation in remediations if remediation.worker_id}
    keys |= {undone.worker_id for each in remediations if (undone := each.undoes) and undone.worker_id}
    announce(Change.Kind.WORKER, sorted(keys), moment)


def lapse(host: str, moment: datetime) -> None:
    """Withdraw the previews that somebody opened and left: a run of which one is open counts as somebody's work.

    What the autopilot has asked for is its own to let go, or it would take it for a person's no.
    """
    left = Remediation.objects.filter(host=host, state=State.PLANNED, planned_at__lt=moment - ANSWERED_WITHIN)
    for remediation in left.exclude(via=AUTOPILOT).select_related("undoes").defer("plan", "evidence", "output"):
        with transaction.atomic():
            waits = Remediation.objects.filter(pk=remediation.pk, state=State.PLANNED)
            if waits.update(state=State.WITHDRAWN, finished_at=moment, error=Remediation.LAPSED):
                tell([remediation])


def resume(ground: Ground) -> None:
    """Do everything that waits for this host, and wait until it is done."""
    executor = Executor(ground)
    try:
        executor.look()
        executor.finish()
        executor.look()  # what was planned or adopted meanwhile
        executor.finish()
    finally:
        executor.close()


class Desk:
    """Looks for new requests for as long as the poller lives, beside its cycle and not in it."""

    PACE = 0.2  # seconds between two looks
    NET = 1.0  # seconds after which it looks although nobody seems to have written

    def __init__(self, executor: Executor, changed: Callable[[], bool]) -> None:
        self.executor = executor
        self._changed = changed

    def run(self) -> None:
        """Look until the ground is stopped; an error is logged and does not end it."""
        looked = float("-inf")
        while not self.executor.ground.stopping.wait(self.PACE):
            try:
                if self._changed() or time.monotonic() - looked > self.NET:
                    looked = time.monotonic()
                    self.executor.look()
            except Exception:
                logger.exception("Requests for remediations cannot be looked for")
                close_old_connections()
        connections.close_all()
