"""The past out of the logs: what the records of a host are folded into, kept in step with the rows of its events.

What is remembered to go on with is stored once in a while, with the last event that it holds. A poller that starts
takes what came behind that out of the database again, and finds the same incidents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from .coordination.records import LogRecord
from .folding import Lookup, Past, RunFacts, newest_before
from .incident_store import FIELDS, hide_told, row_of, tell
from .incidents import Incident as Told
from .marks import pm_start, save_marks
from .models import Event, Fold, Incident, LogFile
from .runs import Roster, Run
from .spells import SAME_LOOP
from .sql import chunks, insert, reserve_ids, update

#: How often what is remembered is stored; until then it can be had again from the events.
STORE_EVERY = timedelta(minutes=1)
#: What was over for so long is let go of: the remembered stays small, and what is stored of it stays as it is.
FORGET_AFTER = timedelta(days=1)
#: More records than this are not held in memory, but read again from the database, in order of time.
MOST_HELD = 100_000
ROWS_AT_ONCE = 1_500
_SAID = ("detected", "began", "began_known", "resolved", "how", "cause", "unwatched_seconds", "seen")

Held = tuple[str, LogRecord]  # the path of a log, and a record of it
Breathe = Callable[[], None]


class FoldStore:
    """What the logs of one host tell of troubles."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.past = Past()
        self.position = -1  # the last event that was taken; -1: none ever
        self.held: list[Held] | None = []  # records of this cycle; None: too many, or some of before
        self._first = True
        self._starts: list[datetime] = []  # of the PM daemon, not stored yet
        self._stored_at: datetime | None = None
        self._looked_at: datetime | None = None  # when it was last looked at which are told of no more

    def load(self) -> None:
        """Take up what the poller before remembered."""
        row = Fold.objects.filter(host=self.host).first()
        if row:
            self.past, self.position, self._first = Past.from_json(row.state), row.position, False
        if self._events().filter(pk__gt=self.position).exists():
            self.held = None

    def hold(self, path: str, records: Iterable[LogRecord]) -> None:
        """Keep records that were just stored until their turn."""
        if self.held is None:
            return
        self.held += [(path, each) for each in records]
        if len(self.held) > MOST_HELD:
            self.held = None

    def fold(self, roster: Roster, now: datetime, breathe: Breathe, progress: Callable[[int, int], None]) -> None:
        """Fold what is new into incidents and store them."""
        if self.held:
            self.held.sort(key=lambda each: each[1].at or now)
        records: Iterable[Held] = self.held if self.held is not None else self._read(breathe)
        total = len(self.held) if self.held is not None else self._events().filter(pk__gt=self.position).count()
        if total:
            facts = _facts(roster, None if self.held is None else {each[1].worker_id for each in self.held})
            self._take(records, newest_before(facts), now, breathe, lambda done: progress(done, total))
            # Not the largest key by an aggregate: that would read every event
            self.position = self._events().order_by("-pk").values_list("pk", flat=True).first() or self.position
        self.held = []
        self.past.settle(now)
        self._take_ancient(roster, now)
        if self._starts:
            with transaction.atomic():
                save_marks(self.host, map(pm_start, self._starts))
            self._starts.clear()
        if self.past.touched or total:
            self._save(now, breathe)
        if total and (self._stored_at is None or now - self._stored_at >= STORE_EVERY):
            self.remember(now)

    def remember(self, now: datetime) -> None:
        """Store what has to be known to go on, if anything was ever read."""
        if self.position < 0 or self.held is None:
            return
        self.past.forget(now - FORGET_AFTER)
        self._stored_at = now
        values = {"position": self.position, "state": self.past.as_json().decode()}
        Fold.objects.update_or_create(host=self.host, defaults=values)

    # -- taking

    def _take(
        self,
        records: Iterable[Held],
        lookup: Lookup,
        now: datetime,
        breathe: Breathe,
        progress: Callable[[int], None],
    ) -> None:
        for number, (path, record) in enumerate(records):
            self.past.take(path, record, lookup, now)
            if record.type == "pm_started" and record.at and record.at <= now:
                self._starts.append(record.at)
            if number % 5_000 == 0:
                breathe()
                progress(number)

    def _events(self) -> Any:
        return Event.objects.filter(log__host=self.host)

    def _read(self, breathe: Breathe) -> Iterator[Held]:
        """Read the events that were not taken, in order of time, in bounded memory."""
        paths = dict(LogFile.objects.filter(host=self.host).values_list("pk", "path"))
        if not paths:
            return
        logs = ", ".join(map(str, paths))
        sql = (
            "SELECT log_id, at, type, worker_id, CASE WHEN type = 'worker_failed' THEN data ELSE '' END "  # noqa: S608
            f"FROM workers_event WHERE id > %s AND log_id IN ({logs}) ORDER BY at, id"
        )
        with connection.chunked_cursor() as cursor:
            cursor.execute(sql, [self.position])
            while rows := cursor.fetchmany(2_000):
                breathe()
                for log, at, kind, worker_id, data in rows:
                    yield paths[log], LogRecord(0, _moment(at), kind, worker_id, data)

    def _take_ancient(self, roster: Roster, now: datetime) -> None:
        """Fold troubles that came to light long after their time, as when an old log is put back, for themselves."""
        ancient, self.past.ancient = sorted(self.past.ancient, key=lambda each: each[1].at or now), []
        if not ancient:
            return
        apart = Past()
        for path, record in ancient:
            apart.take(path, record, newest_before(_facts(roster, {record.worker_id})), now)
        apart.settle()
        new = []
        for each in apart.incidents():
            stored = Incident.objects.filter(host=self.host, run=_run(each), worker_id=each.worker_id, kind=each.kind)
            known = stored.filter(detected__lte=(each.resolved or each.detected) + SAME_LOOP)
            if not known.exclude(resolved__lt=each.detected - SAME_LOOP).exists():
                self.past.numbers += 1
                new.append(replace(each, number=self.past.numbers))
        with transaction.atomic():
            self._save_part(new, now)

    # -- storing

    def _save(self, now: datetime, breathe: Breathe) -> None:
        """Write the incidents that may have changed: those told of, and those that are told of no more."""
        ids, self.past.touched = self.past.touched, set()
        if self._looked_at is None or now - self._looked_at >= STORE_EVERY:
            self._looked_at = now
            ids |= set(self.past.troubled())
        if self._first:  # whatever an interrupted first pass has left is numbered otherwise
            with transaction.atomic():
                Incident.objects.filter(host=self.host, from_log=True).delete()
        for part in chunks(self.past.incidents(ids), ROWS_AT_ONCE):
            breathe()
            with transaction.atomic():
                self._save_part(part, now)
        self._first = False

    def _save_part(self, told: Sequence[Told], now: datetime) -> None:
        numbers = [each.number for each in told]
        known: dict[int | None, tuple[Any, ...]] = {}
        if not self._first:
            stored = Incident.objects.filter(host=self.host, from_log=True)
            for several in chunks(numbers, 500):
                found = stored.filter(number__in=several).values_list("number", "pk", *_SAID)
                known |= {row[0]: row[1:] for row in found}
        new = [each for each in told if each.number not in known]
        keys = reserve_ids(Incident, len(new))
        rows = [(key, *row_of(self.host, _run(each), each)) for key, each in zip(keys, new, strict=True)]
        insert(Incident, ("id", *FIELDS), rows)
        changed = [each for each in told if each.number in known and _values(each) != known[each.number][1:]]
        columns = [FIELDS.index(name) for name in _SAID]
        updates = []
        for each in changed:
            row = row_of(self.host, _run(each), each)
            updates.append((*(row[column] for column in columns), known[each.number][0]))
        update(Incident, _SAID, updates)
        hide_told({run for each in (*new, *changed) if (run := _run(each)) is not None}, now)
        tell([*keys, *(row[-1] for row in updates)], now)


def _run(told: Told) -> int | None:
    return int(told.run) if told.run else None


def _values(told: Told) -> tuple[Any, ...]:
    return (
        *(told.detected, told.began, told.began_known, told.resolved, told.how or "", told.cause),
        *(told.unwatched.total_seconds(), told.seen),
    )


def _moment(value: Any) -> datetime | None:
    """A time out of a plain cursor: SQLite keeps it as text in UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _facts(roster: Roster, ids: set[str] | None) -> dict[str, list[RunFacts]]:
    """What is known of the runs of these ids, or of all."""
    found: dict[str, list[RunFacts]] = {}
    for key, run in roster.runs.items():
        if run.pk and (ids is None or key.worker_id in ids):
            found.setdefault(key.worker_id, []).append(_of_run(run))
    return found


def _of_run(run: Run) -> RunFacts:
    spec = run.spec
    if spec is None:  # its file is gone
        created = None if run.key.created.startswith("at ") else datetime.fromisoformat(run.key.created)
        return RunFacts(str(run.pk), created, run.started_at)
    limit = timedelta(minutes=spec.time_limit_minutes) if spec.time_limit_minutes else None
    return RunFacts(str(run.pk), spec.created_at, spec.started_at, limit)
