"""From the outbox to the sockets: what changed is rendered once, and the same text handed to everybody who shows it.

One :class:`Hub` per web process. Its task starts with the first subscriber and ends with the last. Whatever reads the
database or renders runs in one thread, in the order in which it was asked for, so that no older text can overtake a
newer one; the event loop only looks at the outbox and hands out text.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import close_old_connections, connection, connections
from django.http import QueryDict
from django.utils import timezone

from . import door, fragments, queries
from .models import Change, Remediation, Worker
from .outbox import PATIENCE, Entry, Outbox, Replaced, open_outbox
from .queries import SIZES, FleetQuery
from .queries.alerts import AlertsQuery
from .queries.alerts import alerts as read_alerts
from .queries.events import EventQuery, activity_of, waiting
from .queries.integrity import IntegrityQuery
from .queries.integrity import integrity as read_integrity
from .queries.processes import host_processes
from .remediation.queries import batch_view, cards_of, worker_repairs

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two pulses, and the least time between two that changes ask for.
PULSE, PULSE_AT_MOST = 3.0, 1.0
#: The least time between two counts of the fleet. Counting takes at most a tenth of the time, however large the fleet.
COUNT_AT_MOST, COUNT_SHARE = 0.25, 0.1
DOOR_CHECK = 60.0
#: The least time between two counts of events that wait.
EVENTS_AT_MOST = 0.5
#: The least time between two looks at what is odd, and at the alerts.
FINDINGS_AT_MOST = ALERTS_AT_MOST = 1.0
#: Cards of remediations that one page may show.
MOST_CARDS = 50
#: Rows that are rendered before the others get their turn.
CHUNK = 100
#: Frames that may wait for a slow browser. Then it is cut off; when it is back it gets the present state.
BACKLOG = 1000
TRY_AGAIN_LATER = 1013


@dataclass(frozen=True)
class View:
    """What a browser shows, as it says in the query string of its socket."""

    query: FleetQuery | None = None  # a fleet page
    shown: tuple[int, ...] | None = None  # the rows on it, in order; None: as its query says
    worker: int | None = None  # a worker page
    everything: bool = False  # every worker that changes
    remediations: frozenset[int] = frozenset()  # cards on the page
    batch: int | None = None  # an act on many
    audit: bool = False  # the list of remediations
    processes: bool = False  # the processes of the hosts
    integrity: IntegrityQuery | None = None  # what is odd in the coordination directories
    alerts: AlertsQuery | None = None  # whom what was told
    events: EventQuery | None = None  # the stream of events
    newest: int = 0  # the newest event that was stored when the stream was rendered
    since: int | None = None  # the position of the outbox that it was rendered at

    @property
    def shows_repairs(self) -> bool:
        return bool(self.remediations or self.batch or self.audit or self.worker)

    def shows(self, repair: Repair) -> bool:
        """Whether the page may show this remediation somewhere."""
        mine = repair.pk in self.remediations or (self.batch is not None and self.batch == repair.batch)
        return self.audit or mine or self.worker in repair.workers

    @classmethod
    def parse(cls, query_string: str) -> View:
        """Read it. `view=…` and the page's own query string limit it; `shown` and `since` say what is on the screen."""
        params = QueryDict(query_string)
        since = _integer(params.get("since", ""))
        if set(params) <= {"since"}:
            return cls(everything=True, since=since)
        cards = frozenset(_integers(params.get("remediation", ""))[:MOST_CARDS])
        if "worker" in params:
            return cls(worker=_integer(params["worker"]), remediations=cards, since=since)
        if params.get("view") == "events":
            return cls(events=EventQuery.parse(params), newest=_integer(params.get("newest", "")) or 0, since=since)
        if params.get("view") == "alerts":
            return cls(alerts=AlertsQuery.parse(params), since=since)
        if params.get("view") == "integrity":
            return cls(integrity=IntegrityQuery.parse(params), remediations=cards, since=since)
        if "batch" in params:
            return cls(batch=_integer(params["batch"]), since=since)
        if params.get("view", "fleet" if "remediation" not in params else "card") != "fleet":
            shown = params.get("view")
            return cls(remediations=cards, audit=shown == "remediations", processes=shown == "processes", since=since)
        shown = params.get("shown")
        keys = None if shown is None else tuple(_integers(shown)[: SIZES[-1]])
        return cls(FleetQuery.parse(params), keys, remediations=cards, since=since)


def _integers(text: str) -> list[int]:
    return [key for part in text.split(",") if (key := _integer(part)) is not None]


def _integer(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


@dataclass(frozen=True, slots=True)
class Repair:
    """A remediation that changed, as text, and what it is about."""

    pk: int
    workers: frozenset[int]
    batch: int | None
    new: bool
    again: bool  # a preview of an act on many, in the place of one that had become wrong
    texts: tuple[str, ...]


@dataclass(eq=False)
class Subscriber:
    """One socket: what it shows and how to reach it."""

    send: Callable[[Any], Awaitable[None]]
    close: Callable[[int], Awaitable[None]]
    entry: door.Pass
    view: View = View()
    keys: frozenset[int] = frozenset()
    sent: dict[str, str] = field(default_factory=dict)  # the last of each summary by name, without what ticks
    _waiting: list[dict[str, Any]] | None = None  # None: nothing is being sent

    def push(self, message: dict[str, Any]) -> None:
        """Send without waiting for anybody: what cannot leave at once is sent by a task of this socket's own."""
        if self._waiting is None:
            sending = self.send(message).__await__()
            try:
                pending = next(sending)
            except StopIteration:
                return
            except Exception:
                logger.debug("a socket could not be written to", exc_info=True)
                return
            self._waiting = []
            _keep(asyncio.ensure_future(self._drain(sending, pending)))
        elif len(self._waiting) < BACKLOG:
            self._waiting.append(message)
        else:
            self._waiting.clear()
            _keep(asyncio.ensure_future(self.close(TRY_AGAIN_LATER)))

    async def _drain(self, sending: Any, pending: Any) -> None:
        try:
            await _Started(sending, pending)
            while self._waiting:
                await self.send(self._waiting.pop(0))
        except Exception:
            logger.debug("a socket could not be written to", exc_info=True)
        finally:
            self._waiting = None


class _Started:
    """The rest of an awaitable that has already run up to its first wait."""

    def __init__(self, sending: Any, pending: Any) -> None:
        self.sending, self.pending = sending, pending

    def __await__(self) -> Any:
        yield self.pending
        yield from self.sending


_tasks: set[asyncio.Future[Any]] = set()


def _keep(task: asyncio.Future[Any]) -> None:
    """Hold on to a task until it is done, since the loop does not."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def frame(text: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": text}


class Hub:
    """Everything live of one process."""

    def __init__(self) -> None:
        self.subscribers: set[Subscriber] = set()
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._turn = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._next_pulse = self._next_count = self._next_door = self._last_pulse = 0.0
        self._uncounted = False
        self._events_due = False
        self._next_events = 0.0
        self._findings_due = False
        self._next_findings = 0.0
        self._alerts_due = False
        self._next_alerts = 0.0

    # Coming and going

    async def join(self, subscriber: Subscriber, view: View) -> None:
        """Let a socket in, or show it something else, and bring it up to date."""
        self.subscribers.add(subscriber)
        if self._task is None:
            self._start()
        await self._ready.wait()
        async with self._turn:
            subscriber.view, texts = await self._run(arrive, view)
            subscriber.keys = frozenset(subscriber.view.shown or ())
            subscriber.sent.clear()
            for text in texts:
                subscriber.push(frame(text))
            self._summarise([subscriber], await self._run(pulse, self._position()))
        self._uncounted = True
        self._events_due = self._events_due or view.events is not None
        self._findings_due = self._findings_due or view.integrity is not None
        self._alerts_due = self._alerts_due or view.alerts is not None

    async def leave(self, subscriber: Subscriber) -> None:
        """Let a socket go; with the last one the tail stops."""
        self.subscribers.discard(subscriber)
        if self.subscribers or self._task is None:
            return
        task, self._task = self._task, None
        thread, self._thread = self._thread, None
        self._ready.clear()
        task.cancel()
        if thread:
            thread.submit(connections.close_all)
            thread.shutdown(wait=False)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def _start(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live")
        now = time.monotonic()
        self._next_pulse, self._next_door = now + PULSE, now + DOOR_CHECK
        self._task = asyncio.create_task(self._tail())

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something with the database, in the one thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: _fresh(work, *args, **kwargs))

    def _position(self) -> int:
        return self._outbox.sequence.position if self._outbox else 0

    # The tail

    async def _tail(self) -> None:
        """Follow the outbox for as long as somebody listens; errors are waited out, with a ceiling."""
        position, delay = None, 0.5
        while True:
            try:
                self._outbox = await open_outbox(position)
                self._ready.set()
                delay = 0.5
                await self._follow(self._outbox)
            except Replaced:
                position = None
                self._send_away()
            except Exception:
                logger.exception("the live tail failed; trying again in %.1f s", delay)
                position = self._position() or None
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            finally:
                if self._outbox:
                    await self._outbox.close()

    async def _follow(self, outbox: Outbox) -> None:
        while True:
            due = min(self._next_pulse, self._next_door, self._next_count if self._uncounted else self._next_pulse)
            # somebody who joins meanwhile wants to be counted for: never wait for longer than counts may lie apart
            entries = await outbox.wait(min(COUNT_AT_MOST, max(0.0, due - time.monotonic())))
            if entries:
                await self._publish(entries)
            await self._timers(time.monotonic())

    async def _timers(self, now: float) -> None:
        if now >= self._next_pulse:
            self._last_pulse, self._next_pulse = now, now + PULSE
            async with self._turn:
                self._summarise(self.subscribers, await self._run(pulse, self._position()))
        if self._uncounted and now >= self._next_count:
            self._uncounted = False
            await self._count()
            took = time.monotonic() - now
            self._next_count = time.monotonic() + max(COUNT_AT_MOST, took / COUNT_SHARE)
        if self._events_due and now >= self._next_events:
            self._events_due, self._next_events = False, now + EVENTS_AT_MOST
            await self._count_events()
        if self._findings_due and now >= self._next_findings:
            self._findings_due, self._next_findings = False, now + FINDINGS_AT_MOST
            await self._show_findings()
        if self._alerts_due and now >= self._next_alerts:
            self._alerts_due, self._next_alerts = False, now + ALERTS_AT_MOST
            await self._show_alerts()
        if now >= self._next_door:
            self._next_door = now + DOOR_CHECK
            await self._check_door()

    async def _publish(self, entries: Iterable[Entry]) -> None:
        """Render what changed, once, and hand it to those who show it."""
        changed, repairs = set(), set()
        for entry in entries:
            if entry.kind == Change.Kind.WORKER and entry.key is not None:
                changed.add(entry.key)
            elif entry.kind == Change.Kind.REMEDIATION and entry.key is not None:
                repairs.add(entry.key)
            elif entry.kind == Change.Kind.EVENTS:
                self._events_due = True
            elif entry.kind == Change.Kind.FINDINGS:
                self._findings_due = True
            elif entry.kind == Change.Kind.PROCESSES and any(each.view.processes for each in self.subscribers):
                async with self._turn:
                    text = await self._run(host_list)
                    self._summarise([each for each in self.subscribers if each.view.processes], {"processes": text})
            elif entry.kind in (Change.Kind.POLLER, Change.Kind.ALERT):
                self._next_pulse = min(self._next_pulse, self._last_pulse + PULSE_AT_MOST)
                self._alerts_due = self._alerts_due or entry.kind == Change.Kind.ALERT
        async with self._turn:
            pass  # what somebody shows who is just being let in is known only then
        if (repairs or changed) and any(each.view.shows_repairs for each in self.subscribers):
            await self._publish_repairs(repairs, changed)
        if not changed:
            return
        self._uncounted = True
        everything = any(subscriber.view.everything for subscriber in self.subscribers)
        rows = changed if everything else changed & frozenset().union(*(each.keys for each in self.subscribers))
        pages = changed & {each.view.worker for each in self.subscribers if each.view.worker is not None}
        keys = sorted(rows | pages)
        for start in range(0, len(keys), CHUNK):
            part = keys[start : start + CHUNK]
            async with self._turn:
                texts, parts = await self._run(
                    render, [key for key in part if key in rows], [key for key in part if key in pages]
                )
                self._hand_out(texts, parts)

    async def _publish_repairs(self, keys: set[int], workers: set[int]) -> None:
        """Render remediations that changed, for the pages that show them, their worker or the act on many."""
        async with self._turn:
            for repair in await self._run(lambda: repaired(touched(keys, workers))):
                messages = [frame(text) for text in repair.texts]
                for subscriber in list(self.subscribers):
                    if subscriber.view.shows(repair):
                        for message in messages:
                            subscriber.push(message)
                    listed = subscriber.view.audit or (repair.again and subscriber.view.batch == repair.batch)
                    if listed and repair.new and repair.pk in keys:
                        subscriber.push(frame(fragments.news_of_remediations()))

    def _hand_out(self, texts: dict[int, str], parts: dict[int, list[str]]) -> None:
        rows = {key: frame(text) for key, text in texts.items()}
        pages = {key: [frame(text) for text in several] for key, several in parts.items()}
        present = frozenset(rows)
        for subscriber in list(self.subscribers):
            view = subscriber.view
            for key in present if view.everything else subscriber.keys & present:
                subscriber.push(rows[key])
            for message in pages.get(view.worker, ()) if view.worker is not None else ():
                subscriber.push(message)

    def _summarise(self, to: Iterable[Subscriber], texts: dict[str, str]) -> None:
        """Send texts that say how things are, where they say something else than the last. A pulse is always sent."""
        messages = [(name, fragments.facts(text), frame(text)) for name, text in texts.items()]
        for subscriber in list(to):
            for name, said, message in messages:
                if name == "pulse" or subscriber.sent.get(name) != said:
                    subscriber.sent[name] = said
                    subscriber.push(message)

    async def _count(self) -> None:
        """Count the fleet once for each view that somebody has open, and say so where it differs."""
        views: dict[FleetQuery, list[Subscriber]] = defaultdict(list)
        for subscriber in self.subscribers:
            if subscriber.view.query is not None:
                views[subscriber.view.query].append(subscriber)
        for query, several in views.items():
            async with self._turn:
                texts, pills = await self._run(count, query, {each.view.shown or () for each in several})
                for each in several:
                    if (each.view.shown or ()) in pills:  # it may have turned the page meanwhile
                        self._summarise([each], {**texts, "pill": pills[each.view.shown or ()]})

    async def _count_events(self) -> None:
        """Say on each page of the stream how many events wait, and on each worker's page what the logs say of it."""
        watched: dict[int, list[Subscriber]] = defaultdict(list)
        for subscriber in self.subscribers:
            if subscriber.view.worker is not None:
                watched[subscriber.view.worker].append(subscriber)
        for key, several in watched.items():
            async with self._turn:
                self._summarise(several, await self._run(activity_text, key))
        pages: dict[tuple[EventQuery, int], list[Subscriber]] = defaultdict(list)
        for subscriber in self.subscribers:
            if subscriber.view.events is not None:
                pages[subscriber.view.events, subscriber.view.newest].append(subscriber)
        for (query, newest), several in pages.items():
            async with self._turn:
                text = await self._run(events_waiting, query, newest)
                self._summarise([each for each in several if each.view.newest == newest], {"pill": text})

    async def _show_findings(self) -> None:
        """Show what is odd once for each view that somebody has open."""
        views: dict[IntegrityQuery, list[Subscriber]] = defaultdict(list)
        for subscriber in self.subscribers:
            if subscriber.view.integrity is not None:
                views[subscriber.view.integrity].append(subscriber)
        for query, several in views.items():
            async with self._turn:
                texts = await self._run(findings_of, query)
                self._summarise([each for each in several if each.view.integrity == query], texts)

    async def _show_alerts(self) -> None:
        """Show the alerts once for each view that somebody has open."""
        views: dict[AlertsQuery, list[Subscriber]] = defaultdict(list)
        for subscriber in self.subscribers:
            if subscriber.view.alerts is not None:
                views[subscriber.view.alerts].append(subscriber)
        for query, several in views.items():
            async with self._turn:
                texts = await self._run(alerts_of, query)
                self._summarise([each for each in several if each.view.alerts == query], texts)

    async def _check_door(self) -> None:
        expired = await self._run(door.expired, [each.entry for each in self.subscribers])
        for subscriber in [each for each in self.subscribers if each.entry in expired]:
            _keep(asyncio.ensure_future(subscriber.close(door.SIGNED_OUT)))

    def _send_away(self) -> None:
        """Another database stands in the place of the one we followed: everybody comes back for the present state."""
        for subscriber in list(self.subscribers):
            _keep(asyncio.ensure_future(subscriber.close(TRY_AGAIN_LATER)))


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of this process (of this event loop, to be exact)."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]


# What runs in the thread


def _fresh(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    close_old_connections()
    try:
        return work(*args, **kwargs)
    finally:
        close_old_connections()


def arrive(view: View) -> tuple[View, list[str]]:
    """Complete a view with the rows that it shows, and render what has changed since it was rendered."""
    if view.query is not None and view.shown is None:
        view = replace(view, shown=tuple(queries.page_keys(view.query, timezone.now())))
    if view.everything and view.since is None:
        return view, []
    changed = changed_since(view.since)
    if view.everything:
        return view, list(render(sorted(changed or ()), [])[0].values())
    rows, pages = render(
        [key for key in view.shown or () if changed is None or key in changed],
        [view.worker] if view.worker is not None and (changed is None or view.worker in changed) else [],
    )
    cards = [text for repair in repaired(missed(view)) for text in repair.texts]
    news = [fragments.news_of_remediations()] if view.audit and changed is None else []
    return view, [*rows.values(), *(text for parts in pages.values() for text in parts), *cards, *news]


def missed(view: View) -> set[int]:
    """The remediations that a page may show as they were before: its cards, and the rows that changed meanwhile."""
    if view.batch is None and not view.audit:
        return set(view.remediations)
    changed = changed_since(view.since, Change.Kind.REMEDIATION)
    if view.batch is None:
        return changed or set()
    mine = set(Remediation.objects.filter(batch=view.batch).values_list("pk", flat=True))
    return mine if changed is None else mine & changed


def changed_since(position: int | None, kind: Change.Kind = Change.Kind.WORKER) -> set[int] | None:
    """Keys of what changed behind a position; None where nobody can tell any more: then all may have."""
    if position is None:
        return None
    outbox = Change.objects.all()
    first, last = outbox.order_by("id").first(), outbox.order_by("-id").first()
    if last is None or first is None:
        return set() if position == 0 else None
    if position > last.pk or position + 1 < first.pk:
        return None
    news = outbox.filter(pk__gt=position)
    if connection.vendor == "postgresql":  # a smaller id may have been committed after the page was rendered
        at = outbox.filter(pk__lte=position).order_by("-id").values_list("at", flat=True).first() or first.at
        news = outbox.filter(pk__gt=position) | outbox.filter(at__gt=at - timedelta(seconds=PATIENCE))
    return {key for key in news.filter(kind=kind).values_list("key", flat=True) if key is not None}


def render(row_keys: list[int], page_keys: list[int]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Render rows and worker pages; one query for the rows, one for the pollers."""
    now = timezone.now()
    rows: dict[int, str] = {}
    if row_keys:
        watching = queries.watches(now)
        for start in range(0, len(row_keys), 500):
            found = {row.worker.pk: row for row in queries.rows(row_keys[start : start + 500], watching, now)}
            rows |= {key: fragments.row(found[key]) for key in row_keys[start : start + 500] if key in found}
    return rows, {key: parts for key in page_keys if (parts := worker_parts(key, now))}


def worker_parts(key: int, now: datetime) -> list[str]:
    worker = Worker.objects.filter(pk=key).first()
    if worker is None:
        return []
    return fragments.worker_parts(queries.worker_page(worker, (), 0, now), worker_repairs(worker, now))


def touched(keys: set[int], workers: set[int]) -> set[int]:
    """Remediations that look different now: those that changed, what they undo or stand in the place of, and those
    whose new task has found its worker."""
    tasks = Worker.objects.filter(pk__in=workers).exclude(task_id="").values_list("task_id", flat=True)
    others = Remediation.objects.filter(pk__in=keys).values_list("undoes", "instead_of")
    found = set(Remediation.objects.filter(new_task_id__in=set(tasks)).values_list("pk", flat=True))
    return keys | found | {key for pair in others for key in pair if key is not None}


def repaired(keys: set[int]) -> list[Repair]:
    """Render remediations, each once, with the sum of the act on many that it belongs to."""
    now = timezone.now()
    found = []
    summaries: dict[int, str] = {}
    for card in cards_of(keys, now) if keys else ():
        it, texts = card.remediation, fragments.remediation(card)
        if it.batch and it.batch_id is not None:
            if it.batch_id not in summaries:
                summaries[it.batch_id] = fragments.batch(batch_view(it.batch, now, whole=False))
            texts.append(summaries[it.batch_id])
        about = frozenset(key for key in (it.worker_id, it.undoes and it.undoes.worker_id) if key)
        new = it.state in (it.State.PLANNING, it.State.PLANNED)
        again = it.batch_id is not None and it.instead_of_id is not None
        found.append(Repair(it.pk, about, it.batch_id, new, again, tuple(texts)))
    return found


def events_waiting(query: EventQuery, newest: int) -> str:
    return fragments.events_waiting(waiting(query, newest), query.with_changes().string)


def activity_text(key: int) -> dict[str, str]:
    worker = Worker.objects.filter(pk=key).first()
    return {"activity": fragments.activity(activity_of(worker), timezone.now())} if worker else {}


def findings_of(query: IntegrityQuery) -> dict[str, str]:
    return fragments.integrity(read_integrity(query, timezone.now()))


def alerts_of(query: AlertsQuery) -> dict[str, str]:
    return fragments.alerts(read_alerts(query, timezone.now()))


def host_list() -> str:
    return fragments.host_list(host_processes(), timezone.now())


def pulse(position: int) -> dict[str, str]:
    now = timezone.now()
    return fragments.pulse(queries.watches(now), position, now)


def count(query: FleetQuery, shown: set[tuple[int, ...]]) -> tuple[dict[str, str], dict[tuple[int, ...], str]]:
    """Count one view, and compare it with what each page shows of it."""
    now = timezone.now()
    texts = fragments.summary(queries.count_fleet(query, now), now)
    compare = queries.news(query, {key for keys in shown for key in keys}, now)
    return texts, {keys: fragments.pill(compare(keys), query.string) for keys in shown}
