"""How one text leaves for very many browsers: the part of Daphne's WebSocket protocol that the fan-out depends on.

Daphne encodes the text and builds the frame anew for each socket, and Twisted hands each to the event loop (two system
calls and a turn of the loop) before anything is sent. For one text to 1,000 sockets that took three times as long as
``websockets.broadcast``. Here a text that is sent again is a frame already, and it is written at once where nothing is
queued before it; whatever cannot leave at once goes the usual way. See tests/benchmarks/bench_fanout.py.
"""

from __future__ import annotations

import struct
from typing import Any

from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

#: Bytes that may wait for a browser that does not read. Then it is cut off; when it is back it gets the present state.
MOST_WAITING = 8_000_000
_TEXT_FRAME = 0x81  # the last frame of a text message


def frame(payload: bytes) -> bytes:
    """Build an unmasked text frame. Source: RFC 6455, section 5.2."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", _TEXT_FRAME, length) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", _TEXT_FRAME, 126, length) + payload
    return struct.pack("!BBQ", _TEXT_FRAME, 127, length) + payload


class _LastFrame:
    """The frame of the text that was sent last, which is nearly always the one that is sent next."""

    text = ""
    data = frame(b"")

    @classmethod
    def of(cls, text: str) -> bytes:
        if text is not cls.text:
            cls.text, cls.data = text, frame(text.encode())
        return cls.data


class EagerWebSocketProtocol(WebSocketProtocol):
    """Sends text at once, and gives up browsers that do not read."""

    def serverSend(self, content: Any, binary: bool = False) -> None:  # noqa: N802 - Daphne's name
        if binary or self.state != self.STATE_OPEN or self.send_queue:
            super().serverSend(content, binary)
            return
        transport, data = self.transport, _LastFrame.of(content)
        waiting = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        if waiting > MOST_WAITING:
            transport.abortConnection()
            return
        sent = 0
        if not waiting and transport.connected and not transport.disconnecting:
            done = transport.writeSomeData(data)
            sent = done if isinstance(done, int) else 0  # else it is lost, which the usual way finds out, too
        if sent < len(data):
            transport.write(data[sent:])


def install() -> None:
    """Let every WebSocket of this process be served so; `protocol` is where Twisted's factories say by whom."""
    WebSocketFactory.protocol = EagerWebSocketProtocol
