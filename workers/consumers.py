"""The live socket: lets people in at the door and connects them with the hub."""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from . import door
from .live import Subscriber, View, hub


class LiveConsumer(AsyncWebsocketConsumer):
    """One browser. A refusal is accepted first: a refused handshake is 1006 to browsers, which they retry for ever."""

    subscriber: Subscriber | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the socket; leave the hub however it ends, also when the server is stopped."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.subscriber:
                await hub().leave(self.subscriber)

    async def connect(self) -> None:
        await self.accept()
        if not door.same_origin(self.scope["headers"]):
            await self.close(code=door.FORBIDDEN)
            return
        entry = await database_sync_to_async(door.show_pass)(self.scope)
        if isinstance(entry, int):
            await self.close(code=entry)
            return
        self.subscriber = Subscriber(send=self.base_send, close=self.close, entry=entry)
        await hub().join(self.subscriber, View.parse(self.scope["query_string"].decode("latin1")))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """The page shows something else now: the message is a query string like that of the handshake."""
        if self.subscriber and text_data and len(text_data) < 10_000:
            await hub().join(self.subscriber, View.parse(text_data))

    async def disconnect(self, code: int) -> None:
        if self.subscriber:
            await hub().leave(self.subscriber)
