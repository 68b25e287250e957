"""The client's side of one of our sockets, without a browser."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import Client

from .markup import flat


class Socket:
    """One socket, and the frames that came over it."""

    def __init__(self, communicator: WebsocketCommunicator) -> None:
        self.communicator = communicator
        self.frames: list[str] = []

    async def frame(self, pattern: str, seconds: float = 5.0) -> str:
        """Wait for a frame in which the pattern is found; earlier ones are kept in ``frames``."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:  # not by the communicator, which ends the application when nothing comes
                message = await asyncio.wait_for(self.communicator.output_queue.get(), left)
            except TimeoutError:
                break
            text = str(message.get("text", message))
            self.frames.append(text)
            await self.seen(text)
            if re.search(pattern, flat(text)):
                return flat(text)
        raise AssertionError(f"no frame like {pattern!r} among {[text[:120] for text in self.frames[-20:]]}")

    async def seen(self, text: str) -> None:
        """Do what the page does with a frame that came."""

    async def quiet(self, pattern: str = "", seconds: float = 0.5) -> None:
        """Nothing like the pattern comes for so long."""
        try:
            frame = await self.frame(pattern, seconds)
        except AssertionError:
            return
        raise AssertionError(f"not quiet: {frame[:200]}")

    async def say(self, words: str) -> None:
        await self.communicator.send_to(words)

    async def closed(self, seconds: float = 5.0) -> int:
        """Wait for the socket to be closed and return the code."""
        deadline = time.monotonic() + seconds
        while True:
            message = await self.communicator.receive_output(deadline - time.monotonic())
            if message["type"] == "websocket.close":
                return int(message["code"])


@asynccontextmanager
async def opened(client: Client | None, path: str, **headers: str) -> AsyncIterator[WebsocketCommunicator]:
    """Open a socket as somebody, or as nobody."""
    from relay_web.asgi import application

    given = {"host": "localhost", **headers}
    if client:
        name = settings.SESSION_COOKIE_NAME
        given["cookie"] = f"{name}={client.cookies[name].value}"
    raw = [(key.encode(), value.encode()) for key, value in given.items()]
    communicator = WebsocketCommunicator(application, path, headers=raw)
    accepted, _ = await communicator.connect(timeout=10)
    assert accepted, "a refused handshake reaches browsers as 1006, which they retry for ever"
    try:
        yield communicator
    finally:
        await communicator.disconnect()
