"""Troubles of runs become rows: opened and closed with the verdicts, in the transaction that stores them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Q

from . import incidents
from .health import Health
from .incidents import How, Kind, Turn, overlap
from .models import Change, Incident, PollerGap, Remediation
from .sql import Row, announce, chunks, insert, moment, reserve_ids

FIELDS = (
    *("host", "run", "worker_id", "kind", "attempt", "began", "began_known", "detected", "resolved", "how"),
    *("cause", "unwatched_seconds", "from_log", "seen", "number"),
    *("acknowledged_by", "acknowledged_reason", "note", "note_by"),
)
ACKNOWLEDGEMENT = ("acknowledged", "acknowledged_by", "acknowledged_reason")
NOTE = ("note", "note_by", "note_at")
#: A repair that ended no longer ago than this may have brought a turn about of a run that was in no trouble.
JUST_NOW = timedelta(minutes=5)
#: A query names so many keys at most.
AT_ONCE = 500


class Turned(NamedTuple):
    """A run whose verdict changed."""

    pk: int
    turn: Turn
    new: bool  # seen for the first time: nothing of it is stored
    tasks: tuple[str, ...] = ()  # what it has done, where it completed: its task, and the one it was to do again


def tell(keys: Sequence[int], now: datetime) -> None:
    """Put incidents into the outbox; of very many only that there are: no page shows each of them."""
    announce(Change.Kind.INCIDENT, keys if len(keys) <= AT_ONCE else [0], now)


def row_of(host: str, pk: int | None, incident: incidents.Incident) -> Row:
    """The values of FIELDS; what people say of it is still empty."""
    return (
        *(host, pk, incident.worker_id, incident.kind.value, incident.attempt, moment(incident.began)),
        *(incident.began_known, moment(incident.detected), moment(incident.resolved), incident.how or ""),
        *(incident.cause, incident.unwatched.total_seconds(), incident.from_log, incident.seen),
        incident.number if incident.from_log else None,
        *("", "", "", ""),
    )


class IncidentStore:
    """The incidents of one host, as its poller sees them live."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._done: dict[str, datetime] = {}  # tasks that a run of this cycle has completed, and when

    def follow(self, turned: Sequence[Turned], now: datetime) -> None:
        """Open and close what these changes of verdict open and close. Runs in a transaction of the caller."""
        open_now = self._open_of([each.pk for each in turned if not each.new])
        repairs = self._repairs_of(open_now, [each for each in turned if not each.new], now)
        opened: list[tuple[int, incidents.Incident]] = []
        closed: list[tuple[Incident, incidents.Incident, Remediation | None]] = []
        for each in turned:
            stored = open_now.get(each.pk, {})
            repair = repairs.get(each.pk)
            turn = replace(each.turn, remediated=True) if repair else each.turn
            followed = incidents.follow([_lasting(row) for row in stored.values()], turn)
            closed += [(stored[it.kind], it, repair) for it in followed.closed]
            opened += [(each.pk, it) for it in followed.opened]
            for task in each.tasks:
                self._done[task] = max(turn.at, self._done.get(task, turn.at))
        self._close(closed, now)
        self._insert(opened, now)
        new = {each.pk for each in turned if each.new}
        hide_told([pk for pk, it in opened if it.resolved is None and pk not in new], now)

    def settle_tasks(self, now: datetime) -> None:
        """Close failures whose task a run has completed since. Runs in a transaction, once all runs are stored."""
        done, self._done = self._done, {}
        failed = Incident.objects.filter(host=self.host, kind=Kind.FAILED, resolved=None)
        if not done or not failed.exists():
            return
        keys = []
        for tasks in chunks(done, AT_ONCE):
            for row in failed.filter(run__task_id__in=tasks).values_list("pk", "run__task_id", "detected"):
                key, ended = row[0], done[row[1]]
                if ended >= row[2]:
                    Incident.objects.filter(pk=key).update(resolved=ended, how=How.COMPLETED)
                    keys.append(key)
        tell(keys, now)

    # -- what is stored

    @staticmethod
    def _open_of(runs: Iterable[int]) -> dict[int, dict[Kind, Incident]]:
        found: dict[int, dict[Kind, Incident]] = defaultdict(dict)
        for pks in chunks(runs, AT_ONCE):
            for row in Incident.objects.filter(run__in=pks, resolved=None, from_log=False):
                found[row.run_id or 0][Kind(row.kind)] = row
        return found

    @staticmethod
    def _repairs_of(
        open_now: Mapping[int, Mapping[Kind, Incident]], turned: Sequence[Turned], now: datetime
    ) -> dict[int, Remediation]:
        """The newest repair that brought each turn about: begun since the trouble was seen, or over a moment ago."""
        wanted = [each.pk for each in turned if each.pk in open_now or each.turn.new is Health.FAILED]
        carried_out = Remediation.objects.filter(
            state__in=(Remediation.State.RUNNING, Remediation.State.DONE), started_at__isnull=False
        ).select_related("undoes")
        found: dict[int, Remediation] = {}
        for pks in chunks(wanted, AT_ONCE):
            for repair in carried_out.filter(Q(worker__in=pks) | Q(undoes__worker__in=pks)).order_by("pk"):
                pk = repair.worker_id or (repair.undoes and repair.undoes.worker_id) or 0
                began = repair.started_at or now
                since = min((row.detected for row in open_now.get(pk, {}).values()), default=None)
                if began >= since if since else (repair.finished_at or now) >= now - JUST_NOW:
                    found[pk] = repair
        return found

    # -- changes

    def _close(self, closed: Sequence[tuple[Incident, incidents.Incident, Remediation | None]], now: datetime) -> None:
        if not closed:
            return
        since = min(it.began for _, it, _ in closed)
        gaps = list(PollerGap.objects.filter(host=self.host, ended__gt=since).values_list("began", "ended"))
        for row, it, repair in closed:
            Incident.objects.filter(pk=row.pk).update(
                resolved=it.resolved,
                how=it.how or "",
                remediation=repair if it.how is How.REMEDIATION else None,
                unwatched_seconds=overlap(it.began, it.resolved or now, gaps).total_seconds(),
            )
        tell([row.pk for row, _, _ in closed], now)

    def _insert(self, opened: Sequence[tuple[int, incidents.Incident]], now: datetime) -> None:
        keys = reserve_ids(Incident, len(opened))
        rows = [(key, *row_of(self.host, pk, it)) for key, (pk, it) in zip(keys, opened, strict=True)]
        insert(Incident, ("id", *FIELDS), rows)
        tell(keys, now)


def close_recovered(remediation: Remediation, now: datetime) -> None:
    """Close the failure of a run whose task was recovered: somebody does it again. For who carries the recovery out."""
    failed = Incident.objects.filter(run=remediation.worker_id, kind=Kind.FAILED, resolved=None)
    with transaction.atomic():
        keys = list(failed.values_list("pk", flat=True))
        failed.update(resolved=now, how=How.REMEDIATION, remediation=remediation)
        tell(keys, now)


def _lasting(row: Incident) -> incidents.Incident:
    return incidents.Incident(
        worker_id=row.worker_id,
        run=str(row.run_id or ""),
        kind=Kind(row.kind),
        began=row.began,
        detected=row.detected,
        began_known=row.began_known,
        attempt=row.attempt,
    )


def hide_told(runs: Iterable[int], now: datetime) -> None:
    """Let what was seen live stand for what a log says of the same trouble: one trouble is one row.

    The live one then was detected when the first of both said so. Runs in a transaction of the caller.
    """
    touched: list[int] = []
    for pks in chunks(runs, AT_ONCE):
        both: dict[tuple[int, str], tuple[list[Incident], list[Incident]]] = defaultdict(lambda: ([], []))
        for row in Incident.objects.filter(run__in=pks):
            both[row.run_id or 0, row.kind][row.from_log].append(row)
        for live, logged in both.values():
            for row in logged:
                seen = next((each for each in live if _overlap(each, row)), None)
                if seen is None:
                    continue
                touched += [row.pk, seen.pk]
                changes: dict[str, Any] = {}
                if row.detected < seen.detected:
                    changes["detected"] = seen.detected = max(row.detected, seen.began)
                if row.acknowledged and not seen.acknowledged:  # what people said of it goes with it
                    changes |= {name: getattr(row, name) for name in ACKNOWLEDGEMENT}
                if row.note and not seen.note:
                    changes |= {name: getattr(row, name) for name in NOTE}
                if row.root_cause_id and not seen.root_cause_id:
                    changes["root_cause_id"] = row.root_cause_id
                row.delete()
                if changes:
                    Incident.objects.filter(pk=seen.pk).update(**changes)
    tell(touched, now)


def _overlap(live: Incident, logged: Incident) -> bool:
    """Whether both are the same trouble, as far as their times go. An end that a log writes is up to a loop late."""
    slack = timedelta(minutes=5)
    ends = [each.resolved for each in (live, logged)]
    return (ends[0] is None or logged.detected <= ends[0] + slack) and (ends[1] is None or live.began <= ends[1])
