"""Answers that are too large to be held: sent a block at a time, as they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

BLOCK = 65_536  # characters that are sent at once


def streamed(request: HttpRequest, parts: Iterable[str], content_type: str) -> StreamingHttpResponse:
    """Answer with a text whose parts are read while it is sent.

    An asynchronous server would read a plain iterator to its end before it sends the first byte.
    """
    blocks = _Blocks(parts)
    content = _InTurns(blocks) if isinstance(request, ASGIRequest) else blocks
    return StreamingHttpResponse(content, content_type=content_type)


class _Blocks(Iterator[str]):
    """Parts joined to blocks that are worth a turn of the event loop."""

    def __init__(self, parts: Iterable[str]) -> None:
        self._parts: Iterator[str] | None = iter(parts)

    def __next__(self) -> str:
        held: list[str] = []
        size = 0
        while size < BLOCK and self._parts is not None and (part := next(self._parts, None)) is not None:
            held.append(part)
            size += len(part)
        if not held:
            raise StopIteration
        return "".join(held)

    def close(self) -> None:
        """Let go of what the parts are read from, also when somebody stopped reading half-way."""
        self._parts = None


class _InTurns(AsyncIterator[str]):
    """Reads each block in the request's own thread, which has the database's cursor, and lets it be sent in between."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks

    async def __anext__(self) -> str:
        block = await sync_to_async(self._read)()
        if block is None:
            raise StopAsyncIteration
        return block

    def _read(self) -> str | None:
        return next(self._blocks, None)

    def close(self) -> None:
        """Called by the server, in that same thread."""
        self._blocks.close()
