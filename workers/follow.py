"""A browser that follows a log: a look every tenth of a second at most, and no more than it can take in.

The browser says of each frame when it has drawn it. While two are on their way nothing is read, so that a slow or
hidden page costs nothing; when it is back it goes on where it was, or with the end of the log, and is told what it has
missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from . import log_text
from .coordination.log_follow import News

T = TypeVar("T")
#: Seconds between two frames, and between two looks at a log in which nothing happens.
PACE, IDLE_PACE, IDLE_AFTER = 0.1, 0.25, 3.0
DOOR_CHECK = 60.0
WAITING_PACE = 1.0
MOST_ON_THE_WAY = 2  # frames
_threads = ThreadPoolExecutor(4, thread_name_prefix="log")


class Follows(Protocol):
    """What can be looked at for news, here or on another host."""

    def look(self) -> News: ...

    def waiting(self) -> int: ...

    def close(self) -> None: ...


class Session:
    """One browser and one log."""

    def __init__(
        self,
        follower: Follows,
        send: Callable[[str], Awaitable[None]],
        may_stay: Callable[[], Awaitable[bool]],
    ) -> None:
        self._follower, self._send, self._may_stay = follower, send, may_stay
        self._paused = False
        self._on_the_way = 0
        self._free = asyncio.Event()
        self._free.set()
        self._told = -1

    def hear(self, word: str) -> None:
        """Take what the browser says: `drawn`, `pause` or `go`."""
        if word == "drawn":
            self._on_the_way = max(0, self._on_the_way - 1)
        elif word in ("pause", "go"):
            self._paused = word == "pause"
            self._told = -1
        if self._paused or self._on_the_way < MOST_ON_THE_WAY:
            self._free.set()

    async def run(self) -> None:
        """Follow until the browser leaves or may not stay; returns in the latter case."""
        loop = asyncio.get_running_loop()
        door, busy = loop.time() + DOOR_CHECK, loop.time()
        while True:
            now = loop.time()
            if now >= door:
                door = now + DOOR_CHECK
                if not await self._may_stay():
                    return
            if self._paused:
                await self._tell_waiting()
            elif self._on_the_way < MOST_ON_THE_WAY and await self._look():
                busy = now
            await self._rest(now, PACE if loop.time() - busy < IDLE_AFTER else IDLE_PACE)

    async def _look(self) -> bool:
        news = await self._in_thread(self._follower.look)
        if not news.lines:
            return False
        self._on_the_way += 1
        await self._send(log_text.chunk(news.lines, news.end, news.identity))
        return True

    async def _tell_waiting(self) -> None:
        count = await self._in_thread(self._follower.waiting)
        if count != self._told:
            self._told = count
            await self._send(log_text.waiting(count))

    async def _rest(self, since: float, pace: float) -> None:
        """Wait for the next look; while nothing may be sent, until the browser says something."""
        loop = asyncio.get_running_loop()
        if self._paused or self._on_the_way >= MOST_ON_THE_WAY:
            self._free.clear()
            try:
                await asyncio.wait_for(self._free.wait(), WAITING_PACE)
            except TimeoutError:
                return
        await asyncio.sleep(max(0.0, since + pace - loop.time()))

    @staticmethod
    async def _in_thread(work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(_threads, work)

    def close(self) -> None:
        """Let the log go, once nobody looks at it any more."""
        _threads.submit(self._follower.close)
