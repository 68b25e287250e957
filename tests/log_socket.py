"""A browser that follows a log, without a browser."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any
from urllib.parse import urlencode

from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import Client


class Reader:
    """One socket, and the lines that came over it."""

    def __init__(self, communicator: WebsocketCommunicator, draws: bool = True) -> None:
        self.communicator = communicator
        self.draws = draws  # says so of every frame, as the page does
        self.frames: list[str] = []

    @property
    def lines(self) -> list[str]:
        """The lines as a page would hold them: one that comes again replaces the last."""
        held: list[tuple[str, str]] = []
        for frame in self.frames:
            for offset, text in re.findall(r'<div class="l[^"]*"(?: data-o="(\d+)")?[^>]*>(.*?)</div>', frame):
                if held and offset and held[-1][0] == offset:
                    held.pop()
                held.append((offset, unescape(re.sub("<[^>]+>", "", text))))
        return [text for _, text in held]

    async def until(self, pattern: str, seconds: float = 5.0) -> str:
        """Wait for a frame in which the pattern is found."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(self.communicator.output_queue.get(), left)
            except TimeoutError:
                break
            text = str(message.get("text", message))
            self.frames.append(text)
            if self.draws and "chunk" in text:
                await self.say("drawn")
            if re.search(pattern, text):
                return text
        raise AssertionError(f"no frame like {pattern!r} among {[text[:120] for text in self.frames[-5:]]}")

    async def quiet(self, seconds: float = 0.6) -> None:
        try:
            frame = await self.until("", seconds)
        except AssertionError:
            return
        raise AssertionError(f"not quiet: {frame[:200]}")

    async def say(self, word: str) -> None:
        await self.communicator.send_to(word)

    async def closed(self, seconds: float = 5.0) -> int:
        deadline = time.monotonic() + seconds
        while True:
            message = await self.communicator.receive_output(deadline - time.monotonic())
            if message["type"] == "websocket.close":
                return int(message["code"])


@asynccontextmanager
async def following(
    client: Client | None, headers: dict[str, str] | None = None, **query: Any
) -> AsyncIterator[Reader]:
    """Open the socket of a log as somebody."""
    from relay_web.asgi import application

    given = {"host": "localhost", **(headers or {})}
    if client:
        name = settings.SESSION_COOKIE_NAME
        given["cookie"] = f"{name}={client.cookies[name].value}"
    raw = [(key.encode(), value.encode()) for key, value in given.items()]
    communicator = WebsocketCommunicator(application, f"/ws/log/?{urlencode(query)}", headers=raw)
    accepted, _ = await communicator.connect(timeout=10)
    assert accepted, "a refused handshake reaches browsers as 1006, which they retry for ever"
    try:
        yield Reader(communicator)
    finally:
        await communicator.disconnect()
