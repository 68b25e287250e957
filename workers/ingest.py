"""Records and verdicts become rows, in one transaction a cycle.

Rows are written by plain SQL in bulk: at a cold start, tens of thousands of model instances would cost more than all
the reading. The poller of a host is the only writer of that host's observed rows, so nothing here has to be merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import orjson
from django.db import connection, models, transaction

from .coordination.files import moment_of
from .coordination.records import CheckIn, Damage, LogBatch, LogCursor, LogRecord, Problem, Process, ProcessSample, Spec
from .health import PM_SILENT_AFTER, Health, Memory
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
    Worker,
    WorkerDocument,
)
from .ownership import Sighting
from .runs import Roster, Run, RunKey, directory_of

T = TypeVar("T")
Row = tuple[Any, ...]
PROCESSES_KEPT = 1_000
CHANGES_OF_SPEC = 30
CHANGES_KEPT = timedelta(hours=1)
#: A chunk of rows holds the write lock for well under 200 ms.
RUNS_PER_TRANSACTION = 1_500

KEY_FIELDS = ("id", "host", "worker_id", "run_key", "first_seen_at")
#: A change of one of these is shown in the pages, so it goes to the outbox.
SHOWN_FIELDS = (
    *("created_at", "path", "directory", "live", "worker_type", "task_id", "master", "status", "priority"),
    *("description", "retry_of", "started_at", "ended_at", "time_limit_minutes", "time_limit_source", "token_budget"),
    *("tokens_used", "error", "problem_line", "problem_column", "problem_excerpt", "attempt", "attempt_began"),
    *("process_gone_at", "last_checkin_at", "last_checkin_source", "progress_pct", "pid", "pid_found_by"),
    *("pm_health", "pm_disagrees", "health", "severity", "health_since", "reasons", "remedy", "overdue"),
    *("not_checking_in", "stuck"),
)
#: These move all the time; pages ask for what they show of them.
QUIET_FIELDS = (
    *("file_mtime", "seen_alive_at", "progress_changed_at", "last_log_at", "last_log_path", "last_cpu_at"),
    *("pid_start_ticks", "process_count", "processes", "cpu_percent", "rss_bytes", "sampled_at", "as_of"),
)


class ForeignHomeError(Exception):
    """The host already stands for another home in this database."""


# -- plain SQL -------------------------------------------------------------------------------------------------------


def _moment(value: datetime | None) -> Any:
    """A time as the database takes it without going through a model field."""
    if value is None or not _sqlite():
        return value
    return value.isoformat(" ")[:-6]  # all times are in UTC, so what is cut off is +00:00


@cache
def _sqlite() -> bool:
    """Whether times go in as text. Asked for every value, so the connection is only asked once."""
    return connection.vendor == "sqlite"


def _json(value: object) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode()


def _columns(model: type[models.Model], names: Iterable[str]) -> list[str]:
    columns = {field.name: field.column for field in model._meta.concrete_fields}
    return [connection.ops.quote_name(columns[name] or name) for name in names]


def insert(model: type[models.Model], names: Sequence[str], rows: Iterable[Row]) -> None:
    """Insert rows of adapted values in the order of the named fields."""
    if not (rows := list(rows)):
        return
    columns = _columns(model, names)
    places = ", ".join(["%s"] * len(columns))
    sql = f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


def update(model: type[models.Model], names: Sequence[str], rows: Iterable[Row]) -> None:
    """Update rows by primary key, which is the last value of each row."""
    if not (rows := list(rows)):
        return
    columns = ", ".join(f"{column} = %s" for column in _columns(model, names))
    (key,) = _columns(model, [model._meta.pk.name])
    sql = f"UPDATE {model._meta.db_table} SET {columns} WHERE {key} = %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


def reserve_ids(model: type[models.Model], count: int) -> list[int]:
    """Reserve primary keys, so that rows which refer to one another can be inserted in bulk."""
    if not count:
        return []
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
            first = (row[0] if (row := cursor.fetchone()) else 0) + 1
            return list(range(first, first + count))
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", [table, count])
        return [row[0] for row in cursor.fetchall()]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most the given size."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def announce(kind: Change.Kind, keys: Sequence[int], now: datetime) -> None:
    """Put rows into the outbox, in the transaction that makes them true; on PostgreSQL wake the tails as well."""
    if not keys:
        return
    insert(Change, ("kind", "key", "at"), [(kind.value, key, _moment(now)) for key in keys])
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("NOTIFY relay_change")


# -- rows ------------------------------------------------------------------------------------------------------------


def _shown(run: Run, pm_last_loop: datetime | None, now: datetime) -> Row:
    """The values of SHOWN_FIELDS."""
    verdict, seen, memory = run.verdict, run.file, run.memory
    assert verdict is not None  # noqa: S101 - for the type checker; only judged runs are stored
    judged = (
        *(verdict.health.value, verdict.health.severity, _moment(run.health_since)),
        *(_json([reason.as_json() for reason in verdict.reasons]), verdict.remedy),
        *(verdict.overdue, verdict.not_checking_in, verdict.stuck),
    )
    if seen is None and run.stored:  # its file is gone; what it said stays
        return tuple(
            False if name == "live" else value
            for name, value in zip(SHOWN_FIELDS, (*run.stored[: -len(judged)], *judged), strict=True)
        )
    spec = run.spec or Spec(worker_id=run.key.worker_id, created_at=None)
    problem = seen.content if seen and isinstance(seen.content, Problem) else None
    path = seen.path if seen else _last(run, "path", "")
    main = run.processes.main
    checkin = verdict.last_checkin
    if checkin is None and not verdict.health.running:  # while it runs, only those of this attempt count
        checkin = max(run.checkins(), key=lambda sign: sign.at, default=None)
    pm_silent = pm_last_loop is None or now - pm_last_loop > PM_SILENT_AFTER
    return (
        *(_moment(spec.created_at), path, directory_of(path)[:1000], bool(seen) and run.live),
        *(spec.worker_type[:100], spec.task_id[:255], spec.master[:100], spec.status[:100], spec.priority[:50]),
        *(spec.description, spec.retry_of[:255], _moment(spec.started_at), _moment(spec.ended_at)),
        *(spec.time_limit_minutes, spec.time_limit_source[:100], spec.token_budget, spec.tokens_used, spec.error),
        *((problem.line, problem.column, problem.excerpt) if problem else (None, None, "")),
        *(memory.attempt, _moment(memory.attempt_began), _moment(memory.process_gone_at)),
        *((_moment(checkin.at), checkin.source) if checkin else (None, "")),
        *(memory.progress_pct, main.pid if main else memory.pid, run.processes.found_by[:100]),
        *(_pm_health(run, pm_silent), verdict.pm_disagrees),
        *judged,
    )


def _last(run: Run, name: str, default: Any) -> Any:
    """A value as last stored, for a run whose file is gone."""
    return run.stored[SHOWN_FIELDS.index(name)] if run.stored else default


def _pm_health(run: Run, silent: bool) -> str:
    """What the PM daemon says: nothing where it does not know this run, and unknown where it has been silent."""
    if run.pm is None:
        return ""
    return "unknown" if silent else run.pm.health_state[:50]


def _quiet(run: Run, now: datetime) -> Row:
    """The values of QUIET_FIELDS."""
    seen, memory, sample = run.file, run.memory, run.sample
    log = run.traces.log if run.traces else None
    main = run.processes.main
    return (
        _moment(moment_of(seen.stamp)) if seen else None,
        *(_moment(memory.seen_alive_at), _moment(memory.progress_changed_at)),
        *((_moment(log.at), log.source) if log else (None, "")),
        *(_moment(memory.last_cpu_at), main.key.start_ticks if main else None, len(run.processes.tree)),
        _json([_process(process, sample) for process in run.processes.tree[:200]]),
        *((sample.cpu_percent, sample.rss_bytes, _moment(sample.at)) if sample else (None, None, None)),
        _moment(now),
    )


def _process(process: Process, sample: ProcessSample | None = None) -> dict[str, object]:
    cpu, rss = sample.parts.get(process.pid, (None, None)) if sample else (None, None)
    used = {} if sample is None else {"cpu_percent": None if cpu is None else round(cpu, 1), "rss_bytes": rss}
    return used | {
        "pid": process.pid,
        "ppid": process.ppid,
        "command": " ".join(process.argv)[:1000] or process.name,
        "cwd": process.cwd,
        "user": process.user,
        "ours": process.ours,
        "started_at": process.started_at.isoformat(),
    }


def changes_of(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Yield the fields in which two versions of a spec differ. Heartbeats are check-ins and shown as such."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after and path:
            yield {"field": path, "old": before, "new": after}
        return
    for key in {**before, **after}:
        if not path and key == "heartbeat":
            continue
        yield from changes_of(before.get(key), after.get(key), f"{path}.{key}" if path else key)


# -- the store -------------------------------------------------------------------------------------------------------


class Store:
    """The database as the poller of one host sees it."""

    def __init__(self, host: str, home: str) -> None:
        self.host = host
        self.home = home
        self.poller_id = 0
        self.error = ""
        self.cursors: dict[str, LogCursor] = {}  # by path
        self.log_ids: dict[str, int] = {}
        self.processes: list[dict[str, Any]] | None = None  # as written last
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
            self.poller_id, self.error = poller.pk, poller.error
            self.note_gap(poller.last_cycle_at, now, poller.interval_seconds)
            Poller.objects.filter(pk=poller.pk).update(
                pid=pid, boot_id=boot_id, started_at=now, interval_seconds=interval
            )

    def note_gap(self, last: datetime | None, now: datetime, interval: float) -> None:
        """Remember a stretch in which nobody looked, if it was longer than three intervals."""
        if last and (now - last).total_seconds() > max(3 * interval, 6):
            # While every cycle fails, each new try sees the same gap grow
            PollerGap.objects.update_or_create(host=self.host, began=last, defaults={"ended": now})

    def load(self, roster: Roster) -> None:
        """Take up what earlier pollers of this host knew: runs and cursors of logs."""
        names = (*KEY_FIELDS, *SHOWN_FIELDS, *QUIET_FIELDS)
        sql = f"SELECT {', '.join(_columns(Worker, names))} FROM {Worker._meta.db_table} WHERE host = %s"  # noqa: S608
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.host])
            for row in iter(cursor.fetchone, None):
                values = dict(zip(names, row, strict=True))
                roster.restore(_restore(values), values["path"], bool(values["live"]))
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
        for run in runs:
            shown = _shown(run, pm_last_loop, now)
            if shown == run.stored:
                continue
            if run.pk in new:
                key = (run.pk, self.host, run.key.worker_id, run.key.created, _moment(run.first_seen_at))
                inserts.append((*key, *shown, *_quiet(run, now)))
            else:
                updates.append((run.key.worker_id, run.key.created, *shown, *_quiet(run, now), run.pk))
            if change := _health_change(run, now, first=run.pk in new):
                history.append(change)
            run.stored = shown
        insert(Worker, (*KEY_FIELDS, *SHOWN_FIELDS, *QUIET_FIELDS), inserts)
        update(Worker, ("worker_id", "run_key", *SHOWN_FIELDS, *QUIET_FIELDS), updates)
        insert(HealthChange, ("worker", "at", "attempt", "old", "new", "reason"), history)
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
                    changed.append((again[pk], _json([*news, *log][:CHANGES_OF_SPEC]), pk))
        update(WorkerDocument, ("spec", "changes"), changed)
        update(WorkerDocument, ("pm_entry",), [(text, pk) for pk, text in entries.items() if pk not in new])
        self.documented |= new

    def save_samples(self, runs: Sequence[Run], now: datetime) -> None:
        """Write what moves all the time. Nothing is announced: pages ask for it."""
        update(Worker, QUIET_FIELDS, [(*_quiet(run, now), run.pk) for run in runs if run.pk])

    def save_processes(self, sightings: Sequence[Sighting], ids: Mapping[Any, Run], now: datetime) -> None:
        """Write which processes have to do with workers, if that has changed."""
        rows = [
            {
                **_process(each.process),
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
        stamp = _moment(now)
        insert(
            Event,
            ("log", "generation", "offset", "at", "stored_at", "type", "worker_id", "data"),
            [
                (pk, cursor.generation, offset, _moment(at), stamp, kind[:100], worker[:255], data)
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
                _moment(now),
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

    def prune(self, now: datetime) -> None:
        """Empty the outbox of what no page can still be waiting for."""
        Change.objects.filter(at__lt=now - CHANGES_KEPT).delete()


def _read_moment(value: Any) -> datetime | None:
    """The inverse of ``_moment``: SQLite gives times back without the zone, which is always UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _restore(row: dict[str, Any]) -> Run:
    """Make the run of a row as the poller before left it. Its file is read anew, as every file is after a start."""
    moments = {name: _read_moment(value) for name, value in row.items() if name.endswith(("_at", "_since", "_began"))}
    known = row | {name: _moment(value) for name, value in moments.items()} | {"reasons": _canonical(row["reasons"])}
    first_seen = moments["first_seen_at"]
    assert first_seen is not None  # noqa: S101 - the column cannot be null
    return Run(
        key=RunKey(row["worker_id"], row["run_key"]),
        first_seen_at=first_seen,
        pk=row["id"],
        started_at=moments["started_at"],
        health=Health(row["health"]),
        health_since=moments["health_since"],
        stored=tuple(known[name] for name in SHOWN_FIELDS),
        checkin=_restored_checkin(row, moments["last_checkin_at"]),
        memory=Memory(
            attempt=row["attempt"],
            attempt_began=moments["attempt_began"],
            first_seen_at=first_seen,
            seen_alive_at=moments["seen_alive_at"],
            process_gone_at=moments["process_gone_at"],
            pid=row["pid"],
            progress_pct=row["progress_pct"],
            progress_changed_at=moments["progress_changed_at"],
            last_cpu_at=moments["last_cpu_at"],
        ),
    )


def _restored_checkin(row: dict[str, Any], at: datetime | None) -> CheckIn | None:
    """The last check-in; the PM daemon may have deleted its file since."""
    return CheckIn(row["worker_id"], at, row["last_checkin_source"]) if at else None


def _canonical(reasons: Any) -> str:
    """Reasons as ``_shown`` writes them: a database may give the keys back in another order."""
    parsed = orjson.loads(reasons) if isinstance(reasons, str) else reasons
    names = ("text", "source", "side", "at")
    return _json(
        [
            {name: reason.get(name) for name in names} | ({"lines": reason["lines"]} if "lines" in reason else {})
            for reason in parsed
        ]
    )


def _health_change(run: Run, now: datetime, *, first: bool) -> Row | None:
    """The row of history, where the verdict differs from the stored one."""
    verdict = run.verdict
    assert verdict is not None  # noqa: S101 - for the type checker; only judged runs are stored
    old = _last(run, "health", "")
    if old == verdict.health.value:
        return None
    at = run.health_since if first else now
    return run.pk, _moment(at), run.memory.attempt, old, verdict.health.value, verdict.reasons[0].text
