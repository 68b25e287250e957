"""The sockets: they let people in at the door, and connect them with the hub or with a log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.http import QueryDict

from . import door, logs
from .follow import Follows, Session
from .live import Subscriber, hub
from .params import LONGEST_PATH, text_of, whole
from .screens import View
from .vitals import VITALS

logger = logging.getLogger(__name__)


class Consumer(AsyncWebsocketConsumer):
    """One browser. A refusal is accepted first: a refused handshake is 1006 to browsers, which they retry for ever."""

    async def connect(self) -> None:
        await self.accept()
        if not door.same_origin(self.scope["headers"]):
            await self.close(code=door.FORBIDDEN)
            return
        entry = await database_sync_to_async(door.show_pass)(self.scope)
        if isinstance(entry, int):
            await self.close(code=entry)
            return
        await self.enter(entry)

    async def enter(self, entry: door.Pass) -> None:
        """Serve somebody who may see the fleet."""
        raise NotImplementedError

    async def leave(self) -> None:
        """Let go of whatever was taken. It is called however the socket ends, also when the server is stopped."""
        raise NotImplementedError

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        VITALS.sockets += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            VITALS.sockets -= 1
            await self.leave()


class LiveConsumer(Consumer):
    """One browser that sees the fleet live."""

    subscriber: Subscriber | None = None

    async def enter(self, entry: door.Pass) -> None:
        self.subscriber = Subscriber(send=self.base_send, close=self.close, entry=entry)
        await hub().join(self.subscriber, View.parse(self.scope["query_string"].decode("latin1")))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """The page shows something else now: the message is a query string like that of the handshake."""
        if self.subscriber and text_data and len(text_data) < 10_000:
            await hub().join(self.subscriber, View.parse(text_data))

    async def leave(self) -> None:
        if self.subscriber:
            await hub().leave(self.subscriber)


class LogConsumer(Consumer):
    """One browser that follows a log. Who may see the fleet may see its logs."""

    NO_SUCH_LOG = 4404
    session: Session | None = None
    task: asyncio.Task[None] | None = None

    async def enter(self, entry: door.Pass) -> None:
        follower = await database_sync_to_async(_follower)(QueryDict(self.scope["query_string"].decode("latin1")))
        if follower is None:
            await self.close(code=self.NO_SUCH_LOG)
            return

        async def may_stay() -> bool:
            return not await database_sync_to_async(door.expired)([entry])

        self.session = Session(follower, self._send_text, may_stay)
        self.task = asyncio.create_task(self._follow(self.session))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.session and text_data:
            self.session.hear(text_data[:20])

    async def leave(self) -> None:
        if self.task:
            self.task.cancel()
        if self.session:
            self.session.close()

    async def _send_text(self, text: str) -> None:
        await self.send(text_data=text)

    async def _follow(self, session: Session) -> None:
        try:
            await session.run()
            await self.close(code=door.SIGNED_OUT)
        except Exception:
            logger.exception("A log cannot be followed")
            await self.close(code=1011)


def _follower(params: QueryDict) -> Follows | None:
    """Find the run and the log that a browser names. Reads the database."""
    worker = logs.run_by_key(params.get("run", ""))
    if worker is None:
        return None
    file, identity = text_of(params, "file", LONGEST_PATH, stripped=False), text_of(params, "identity", 64)
    return logs.follow(worker, file, whole(params.get("from", "")), identity)
