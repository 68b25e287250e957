"""Records and verdicts become rows, in one transaction a cycle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import orjson
from django.db import connection, models, transaction

from .coordination.records import Damage, LogBatch, LogCursor, LogRecord
from .health import Health, poller_silent_after
from .incident_store import IncidentStore, Turned
from .models import (
    Change,
    Event,
    EventCount,
    Finding,
    HealthChange,
    HostProcesses,
    Limit,
    LogFile,
    Poller,
    PollerGap,
    Remediation,
    Silence,
    Worker,
    WorkerDocument,
)
from .ownership import Sighting
from .rows import (
    KEY_FIELDS,
    QUIET_FIELDS,
    SHOWN_FIELDS,
    changes_of,
    health_change,
    process_value,
    quiet_values,
    restore,
    shown_values,
    turn_of,
)
from .runs import Roster, Run
from .sql import announce, as_json, chunks, columns_of, insert, moment, reserve_ids, update

PROCESSES_KEPT = 1_000
CHANGES_OF_SPEC = 30
CHANGES_KEPT = timedelta(hours=1)
#: Events that are pruned in one transaction, and so many of these in a row.
EVENTS_PER_TRANSACTION, PRUNED_AT_ONCE = 500, 40
#: A chunk of rows holds the write lock for well under 200 ms.
RUNS_PER_TRANSACTION = 1_500


class ForeignHomeError(Exception):
    """The host already stands for another home in this database."""


class Store:
    """The database as the poller of one host sees it."""

    def __init__(self, host: str, home: str) -> None:
        self.host = host
        self.home = home
        self.poller_id = 0
        self.error = ""
        self.incidents = IncidentStore(host)
        self.cursors: dict[str, LogCursor] = {}  # by path
        self.log_ids: dict[str, int] = {}
        self.processes: list[dict[str, Any]] | None = None  # as written last
        self.prevention: dict[str, Any] = {}  # as written last
        self.documented: set[int] = set()  # workers that have a row of documents

    # -- start

    def register(self, pid: int, boot_id: str, interval: float, now: datetime) -> None:
        """Enter this poller under its host. Raises ForeignHomeError where the host stands for another home."""
        with transaction.atomic():
            poller, made = Poller.objects.get_or_create(host=self.host, defaults={"home": self.home})
            if not made and poller.home != self.home:
                raise ForeignHomeError(
                    f"host “{self.host}” already stands for {poller.home} in this database; "
                    f"give {self.home} another RELAY_HOST, or another DATABASE_URL"
                )
            self.poller_id, self.error, self.prevention = poller.pk, poller.error, poller.prevention
            self.note_gap(poller.last_cycle_at, now, poller.interval_seconds)
            Poller.objects.filter(pk=poller.pk).update(
                pid=pid, boot_id=boot_id, started_at=now, interval_seconds=interval, retired_at=None
            )

    def note_gap(self, last: datetime | None, now: datetime, interval: float) -> bool:
        """Remember a stretch in which nobody looked, if its poller was silent; return whether it was."""
        if last is None or now - last <= poller_silent_after(interval):
            return False
        # While every cycle fails, each new try sees the same gap grow
        PollerGap.objects.update_or_create(host=self.host, began=last, defaults={"ended": now})
        return True

    def save_silences(self, silences: Mapping[tuple[date, str, int], int]) -> None:
        """Add silences that ended to the counts of their days: (day, worker type, minutes)."""
        known = {
            (row.day, row.worker_type, row.minutes): row.pk
            for row in Silence.objects.filter(host=self.host, day__in={day for day, _, _ in silences})
        }
        for key, number in silences.items():
            if key in known:
                Silence.objects.filter(pk=known[key]).update(count=models.F("count") + number)
            else:
                day, kind, minutes = key
                Silence.objects.create(host=self.host, day=day, worker_type=kind, minutes=minutes, count=number)

    def load(self, roster: Roster) -> None:
        """Take up what earlier pollers of this host knew: runs and cursors of logs."""
        names = (*KEY_FIELDS, *SHOWN_FIELDS, *QUIET_FIELDS)
        sql = f"SELECT {', '.join(columns_of(Worker, names))} FROM {Worker._meta.db_table} WHERE host = %s"  # noqa: S608
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.host])
            for row in iter(cursor.fetchone, None):
                values = dict(zip(names, row, strict=True))
                roster.restore(restore(values), values["path"], bool(values["live"]))
        self.documented = set(WorkerDocument.objects.filter(worker__host=self.host).values_list("pk", flat=True))
        seen = HostProcesses.objects.filter(host=self.host).values_list("processes", flat=True).first()
        self.processes = seen
        for log in LogFile.objects.filter(host=self.host):
            self.log_ids[log.path] = log.pk
            self.cursors[log.path] = LogCursor(
                log.path, log.inode, log.generation, log.offset, log.head, log.head_length
            )

    @staticmethod
    def limits() -> dict[str, float]:
        """The admin's limits, in seconds."""
        return dict(Limit.objects.values_list("name", "seconds"))

    def held(self) -> set[int]:
        """The runs that are being stopped by a remediation at this moment: what happens to them is no crash."""
        held = Remediation.objects.filter(host=self.host, state=Remediation.State.RUNNING, holds=True)
        return set(held.values_list("worker_id", flat=True))

    # -- runs

    def save_runs(self, runs: Sequence[Run], pm_last_loop: datetime | None, now: datetime) -> int:
        """Write the runs whose rows differ from what is stored, with their history and outbox; return how many.

        Runs in a transaction of the caller, who throws all resident state away if that fails.
        """
        fresh = [run for run in runs if not run.pk]
        for run, pk in zip(fresh, reserve_ids(Worker, len(fresh)), strict=True):
            run.pk = pk
        new = {run.pk for run in fresh}
        inserts, updates, history = [], [], []
        turned: list[Turned] = []
        for run in runs:
            shown = shown_values(run, pm_last_loop, now)
            if shown == run.stored:
                continue
            if run.pk in new:
                key = (run.pk, self.host, run.key.worker_id, run.key.created, moment(run.first_seen_at))
                inserts.append((*key, *shown, *quiet_values(run, now)))
            else:
                updates.append((run.key.worker_id, run.key.created, *shown, *quiet_values(run, now), run.pk))
            if change := health_change(run, now, first=run.pk in new):
                history.append(change)
            if turn := turn_of(run, now, first=run.pk in new):
                turned.append(Turned(run.pk, turn, run.pk in new, _tasks_done(run)))
            run.stored = shown
        insert(Worker, (*KEY_FIELDS, *SHOWN_FIELDS, *QUIET_FIELDS), inserts)
        update(Worker, ("worker_id", "run_key", *SHOWN_FIELDS, *QUIET_FIELDS), updates)
        insert(HealthChange, ("worker", "at", "attempt", "old", "new", "reason"), history)
        self.incidents.follow(turned, now)
        announce(Change.Kind.WORKER, [*[row[0] for row in inserts], *[row[-1] for row in updates]], now)
        return len(inserts) + len(updates)

    def save_documents(self, specs: dict[int, str], entries: dict[int, str | None], now: datetime) -> None:
        """Write redacted specs and PM entries, as JSON text by worker, and what has changed in a spec."""
        new = {pk for pk in (*specs, *entries) if pk not in self.documented}
        insert(
            WorkerDocument,
            ("worker", "spec", "pm_entry", "changes"),
            [(pk, specs.get(pk), entries.get(pk), "[]") for pk in new],
        )
        again = {pk: text for pk, text in specs.items() if pk not in new}
        changed = []
        for pks in chunks(again, 500):
            for pk, before, log in WorkerDocument.objects.filter(pk__in=pks).values_list("pk", "spec", "changes"):
                after = orjson.loads(again[pk])
                if before != after:
                    news = [{"at": now.isoformat(), **change} for change in changes_of(before, after)]
                    changed.append((again[pk], as_json([*news, *log][:CHANGES_OF_SPEC]), pk))
        update(WorkerDocument, ("spec", "changes"), changed)
        update(WorkerDocument, ("pm_entry",), [(text, pk) for pk, text in entries.items() if pk not in new])
        self.documented |= new

    def save_samples(self, runs: Sequence[Run], now: datetime) -> None:
        """Write what moves all the time. Nothing is announced: pages ask for it."""
        update(Worker, QUIET_FIELDS, [(*quiet_values(run, now), run.pk) for run in runs if run.pk])

    def save_processes(self, sightings: Sequence[Sighting], ids: Mapping[Any, Run], now: datetime) -> None:
        """Write which processes have to do with workers, if that has changed."""
        rows = [
            {
                **process_value(each.process),
                "part": each.part,
                "worker": ids[each.run].pk if each.run in ids else None,
                "worker_id": ids[each.run].key.worker_id if each.run in ids else "",
                "mentions": list(each.mentions[:20]),
            }
            for each in sightings[:PROCESSES_KEPT]
        ]
        if rows == self.processes:
            return
        self.processes = rows
        HostProcesses.objects.update_or_create(host=self.host, defaults={"at": now, "processes": rows})
        announce(Change.Kind.PROCESSES, [self.poller_id], now)

    # -- logs

    def save_log(self, batch: LogBatch, now: datetime) -> None:
        """Store records, damage and the cursor behind them: in one transaction, so that each is stored exactly once."""
        cursor = batch.cursor
        pk = self.log_ids.get(cursor.path) or LogFile.objects.create(host=self.host, path=cursor.path).pk
        stamp = moment(now)
        insert(
            Event,
            ("log", "generation", "offset", "at", "stored_at", "type", "worker_id", "data"),
            [
                (pk, cursor.generation, offset, moment(at), stamp, kind[:100], worker[:255], data)
                for offset, at, kind, worker, data in batch.records
            ],
        )
        self._count(pk, batch.records, now)
        if batch.replaced:  # what was damaged is no longer under this name
            Finding.objects.filter(host=self.host, kind=Finding.Kind.DAMAGED_LOG, path=cursor.path).delete()
        self._save_damages(cursor.path, batch.damages, now)
        LogFile.objects.filter(pk=pk).update(
            inode=cursor.inode,
            generation=cursor.generation,
            offset=cursor.offset,
            head=cursor.head,
            head_length=cursor.head_length,
            records=models.F("records") + len(batch.records),
            damaged=models.F("damaged") + len(batch.damages),
            **({"replaced_at": now} if batch.replaced else {}),
        )
        if batch.records or batch.damages:
            announce(Change.Kind.EVENTS, [pk], now)
        if batch.damages or batch.replaced:
            announce(Change.Kind.FINDINGS, [self.poller_id], now)
        self.log_ids[cursor.path], self.cursors[cursor.path] = pk, cursor

    @staticmethod
    def _count(log: int, records: Sequence[LogRecord], now: datetime) -> None:
        """Add the records to the counts of their days."""
        counts = Counter(((record.at or now).date(), record.type[:100]) for record in records)
        known = {
            (row.day, row.type): row.pk
            for row in EventCount.objects.filter(log=log, day__in={day for day, _ in counts}).only("day", "type")
        }
        for key, number in counts.items():
            if key in known:
                EventCount.objects.filter(pk=known[key]).update(count=models.F("count") + number)
        new = [
            EventCount(log_id=log, day=key[0], type=key[1], count=number)
            for key, number in counts.items()
            if key not in known
        ]
        EventCount.objects.bulk_create(new)

    def _save_damages(self, path: str, damages: Sequence[Damage], now: datetime) -> None:
        names = ("host", "kind", "path", "detail", "offset", "length", "excerpt", "since", "worker_id", "blank_only")
        kind = Finding.Kind.DAMAGED_LOG.value
        rows = [
            (
                self.host,
                kind,
                path,
                damage.reason,
                damage.offset,
                damage.length,
                damage.excerpt,
                moment(now),
                "",
                False,
            )
            for damage in damages
        ]
        if rows:
            insert(Finding, names, rows)

    # -- poller

    def save_poller(self, *, error: str, error_since: datetime, **values: Any) -> None:
        """Write the poller's row. An error that goes on keeps the time at which it began; pages hear of its changes."""
        if error != self.error:
            values |= {"error": error, "error_since": error_since if error else None}
            self.error = error
            announce(Change.Kind.POLLER, [self.poller_id], error_since)
        Poller.objects.filter(pk=self.poller_id).update(**values)

    def save_prevention(self, document: dict[str, Any], now: datetime) -> None:
        """Write how the fleet is set up to prevent failures, if that has changed."""
        if document == self.prevention:
            return
        self.prevention = document
        Poller.objects.filter(pk=self.poller_id).update(prevention=document)
        announce(Change.Kind.POLLER, [self.poller_id], now)

    def prune(self, now: datetime, events_kept: timedelta, breathe: Callable[[], None] = lambda: None) -> None:
        """Empty the outbox of what no page can still be waiting for, and the stream of what was stored too long ago."""
        Change.objects.filter(at__lt=now - CHANGES_KEPT).delete()
        for _ in range(PRUNED_AT_ONCE):
            breathe()
            # Keys rise with the time of storing, so the oldest are found without an index of their own
            oldest = Event.objects.order_by("pk").values_list("pk", "stored_at")[:EVENTS_PER_TRANSACTION]
            pks = [pk for pk, stored_at in oldest if stored_at < now - events_kept]
            Event.objects.filter(pk__in=pks).delete()
            if len(pks) < EVENTS_PER_TRANSACTION:
                break


def _tasks_done(run: Run) -> tuple[str, ...]:
    """The tasks that a completed run has done: its own, and the one that this was to do again."""
    if run.health is not Health.COMPLETED or run.spec is None:
        return ()
    return tuple(task for task in (run.spec.task_id, run.spec.retry_of) if task)
