"""A browser that follows a log, without a browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any
from urllib.parse import urlencode

from django.test import Client

from .sockets import Socket, opened


class Reader(Socket):
    """One socket, and the lines that came over it."""

    draws = True  # says so of every frame, as the page does

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

    async def seen(self, text: str) -> None:
        if self.draws and "chunk" in text:
            await self.say("drawn")


@asynccontextmanager
async def following(
    client: Client | None, headers: dict[str, str] | None = None, **query: Any
) -> AsyncIterator[Reader]:
    """Open the socket of a log as somebody."""
    async with opened(client, f"/ws/log/?{urlencode(query)}", **(headers or {})) as communicator:
        yield Reader(communicator)
