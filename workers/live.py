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
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import close_old_connections, connections
from django.utils import timezone

from . import door, fragments
from .models import Change
from .outbox import Entry, Outbox, Replaced, open_outbox
from .renderings import (
    MANY,
    activity_text,
    alerts_of,
    arrive,
    count,
    count_of_incidents,
    events_waiting,
    findings_of,
    host_list,
    incidents,
    pulse,
    render,
    repaired,
    runs_in_trouble,
    touched,
)
from .screens import View
from .vitals import BEAT, VITALS

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two pulses, and the least time between two that changes ask for.
PULSE, PULSE_AT_MOST = 3.0, 1.0
#: The least time between two counts of the fleet; of events that wait, and of incidents; between two looks at what is
#: odd, and at the alerts. Each takes at most a tenth of the time, however much there is to count.
COUNT_AT_MOST, EVENTS_AT_MOST, INCIDENTS_AT_MOST, FINDINGS_AT_MOST, ALERTS_AT_MOST = 0.25, 0.5, 0.5, 1.0, 1.0
SHARE = 0.1
DOOR_CHECK = 60.0
#: Rows that are rendered before the others get their turn.
CHUNK = 100
#: Frames that may wait for a slow browser. Then it is cut off; when it is back it gets the present state.
BACKLOG = 1000
TRY_AGAIN_LATER = 1013


@dataclass(eq=False)
class Subscriber:
    """One socket: what it shows and how to reach it."""

    send: Callable[[Any], Awaitable[None]]
    close: Callable[[int], Awaitable[None]]
    entry: door.Pass
    view: View = field(default_factory=View)
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


@dataclass
class Paced:
    """Work that is due once something has changed, and not again before its time."""

    work: Callable[[], Awaitable[None]]
    at_most: float  # seconds
    due: bool = False
    after: float = 0.0  # not before this moment of the monotonic clock

    async def look(self) -> None:
        began = time.monotonic()
        if self.due and began >= self.after:
            self.due = False
            await self.work()
            done = time.monotonic()
            self.after = done + max(self.at_most, (done - began) / SHARE)


def frame(text: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": text}


class Hub:
    """Everything live of one process."""

    def __init__(self) -> None:
        self.subscribers: set[Subscriber] = set()
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._turn = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._next_pulse = self._next_door = self._last_pulse = 0.0
        self._counts = Paced(self._count, COUNT_AT_MOST)
        self._events = Paced(self._count_events, EVENTS_AT_MOST)
        self._incidents = Paced(self._count_incidents, INCIDENTS_AT_MOST)
        self._findings = Paced(self._show_findings, FINDINGS_AT_MOST)
        self._alerts = Paced(self._show_alerts, ALERTS_AT_MOST)

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
        self._counts.due = True
        self._events.due |= view.events is not None
        self._incidents.due |= view.incidents is not None
        self._findings.due |= view.integrity is not None
        self._alerts.due |= view.alerts is not None

    async def leave(self, subscriber: Subscriber) -> None:
        """Let a socket go; with the last one the tail stops."""
        self.subscribers.discard(subscriber)
        if self.subscribers or self._task is None:
            return
        task, self._task = self._task, None
        if self._beat:
            self._beat.cancel()
        VITALS.fall_silent()
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
        self._listen_to_the_loop()

    def _listen_to_the_loop(self, due: float | None = None) -> None:
        """Note how late the event loop calls back, for as long as somebody listens."""
        loop = asyncio.get_running_loop()
        if due is not None:
            VITALS.beat(loop.time() - due)
        after = loop.time() + BEAT
        self._beat = loop.call_at(after, self._listen_to_the_loop, after)

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
                VITALS.tail = self._outbox.sequence.high
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
            due = min(self._next_pulse, self._next_door, self._counts.after if self._counts.due else self._next_pulse)
            # somebody who joins meanwhile wants to be counted for: never wait for longer than counts may lie apart
            entries = await outbox.wait(min(COUNT_AT_MOST, max(0.0, due - time.monotonic())))
            if entries:
                await self._publish(entries)
                VITALS.handed = (entries[-1].id, timezone.now())
                VITALS.tail = outbox.sequence.high
            await self._timers(time.monotonic())

    async def _timers(self, now: float) -> None:
        if now >= self._next_pulse:
            self._last_pulse, self._next_pulse = now, now + PULSE
            async with self._turn:
                self._summarise(self.subscribers, await self._run(pulse, self._position()))
        for paced in (self._counts, self._events, self._incidents, self._findings, self._alerts):
            await paced.look()
        if now >= self._next_door:
            self._next_door = now + DOOR_CHECK
            await self._check_door()

    async def _publish(self, entries: Iterable[Entry]) -> None:
        """Render what changed, once, and hand it to those who show it."""
        changed, repairs, troubles = set(), set(), set()
        for entry in entries:
            if entry.kind == Change.Kind.WORKER and entry.key is not None:
                changed.add(entry.key)
            elif entry.kind == Change.Kind.REMEDIATION and entry.key is not None:
                repairs.add(entry.key)
            elif entry.kind == Change.Kind.INCIDENT and entry.key is not None:
                troubles.add(entry.key)
            elif entry.kind == Change.Kind.EVENTS:
                self._events.due = True
            elif entry.kind == Change.Kind.FINDINGS:
                self._findings.due = True
            elif entry.kind == Change.Kind.POLICY:
                self._summarise(
                    [each for each in self.subscribers if each.view.policies], {"news": fragments.something_new()}
                )
                changed |= {each.view.worker for each in self.subscribers if each.view.worker is not None}
            elif entry.kind == Change.Kind.PROCESSES and any(each.view.processes for each in self.subscribers):
                async with self._turn:
                    text = await self._run(host_list)
                    self._summarise([each for each in self.subscribers if each.view.processes], {"processes": text})
            elif entry.kind in (Change.Kind.POLLER, Change.Kind.ALERT):
                self._next_pulse = min(self._next_pulse, self._last_pulse + PULSE_AT_MOST)
                self._alerts.due |= entry.kind == Change.Kind.ALERT
        async with self._turn:
            pass  # what somebody shows who is just being let in is known only then
        if (repairs or changed) and any(each.view.shows_repairs for each in self.subscribers):
            await self._publish_repairs(repairs, changed)
        if troubles:
            await self._publish_incidents(troubles, changed)
        if not changed:
            return
        self._counts.due = True
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
                    if repair.shown_by(subscriber.view):
                        for message in messages:
                            subscriber.push(message)
                    listed = subscriber.view.audit or (repair.again and subscriber.view.batch == repair.batch)
                    if listed and repair.new and repair.pk in keys:
                        subscriber.push(frame(fragments.something_new()))

    async def _publish_incidents(self, keys: set[int], workers: set[int]) -> None:
        """Render incidents that changed, for the lists and pages that show them; a worker's page as a whole."""
        self._incidents.due = True
        listed = frozenset().union(*(each.view.troubles for each in self.subscribers))
        alone = {each.view.incident for each in self.subscribers if each.view.incident is not None}
        runs = {each.view.worker for each in self.subscribers if each.view.worker is not None} - workers
        if MANY not in keys:
            listed, alone = listed & keys, alone & keys
        async with self._turn:
            rows, cards = await self._run(incidents, listed, alone)
            runs = await self._run(runs_in_trouble, keys, runs) if runs else runs
            for subscriber in list(self.subscribers):
                view = subscriber.view
                for key in view.troubles & rows.keys():
                    subscriber.push(frame(rows[key]))
                if view.incident in cards:
                    subscriber.push(frame(cards[view.incident]))
        if runs:
            async with self._turn:
                self._hand_out(*await self._run(render, [], sorted(runs)))

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

    def _who_shows(self, what: Callable[[View], T | None]) -> list[tuple[T, list[Subscriber]]]:
        """Everything of one kind that somebody has open, each once, with those who do."""
        found: dict[T, list[Subscriber]] = defaultdict(list)
        for subscriber in self.subscribers:
            if (shown := what(subscriber.view)) is not None:
                found[shown].append(subscriber)
        return list(found.items())

    async def _count(self) -> None:
        """Count the fleet once for each view that somebody has open, and say so where it differs."""
        for query, several in self._who_shows(lambda view: view.query):
            async with self._turn:
                texts, pills = await self._run(count, query, {each.view.shown or () for each in several})
                for each in several:
                    if each.view.query == query and (each.view.shown or ()) in pills:  # it may show another by now
                        self._summarise([each], {**texts, "pill": pills[each.view.shown or ()]})

    async def _count_events(self) -> None:
        """Say on each page of the stream how many events wait, and on each worker's page what the logs say of it."""
        for key, several in self._who_shows(lambda view: view.worker):
            async with self._turn:
                self._summarise(several, await self._run(activity_text, key))
        for query, reading in self._who_shows(lambda view: view.events):
            for newest in {each.view.newest for each in reading}:
                async with self._turn:
                    text = await self._run(events_waiting, query, newest)
                    same = [each for each in reading if (each.view.events, each.view.newest) == (query, newest)]
                    self._summarise(same, {"pill": text})

    async def _count_incidents(self) -> None:
        """Count incidents once for each view that somebody has open, and say on each page how many came since."""
        for query, several in self._who_shows(lambda view: view.incidents):
            async with self._turn:
                texts, pills = await self._run(count_of_incidents, query, {each.view.newest for each in several})
                for each in several:
                    if each.view.incidents == query and each.view.newest in pills:
                        self._summarise([each], {**texts, "pill": pills[each.view.newest]})

    async def _show_findings(self) -> None:
        """Show what is odd once for each view that somebody has open."""
        for query, several in self._who_shows(lambda view: view.integrity):
            async with self._turn:
                texts = await self._run(findings_of, query)
                self._summarise([each for each in several if each.view.integrity == query], texts)

    async def _show_alerts(self) -> None:
        """Show the alerts once for each view that somebody has open."""
        for query, several in self._who_shows(lambda view: view.alerts):
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


def _fresh(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    close_old_connections()
    try:
        return work(*args, **kwargs)
    finally:
        close_old_connections()
