"""One change to 1,000 sockets, until the last has it, against ``websockets.broadcast`` of the same bytes.

Both servers are processes of their own; the listener is one loop over plain sockets, so that it is never the slow part.
"""

from __future__ import annotations

import asyncio
import base64
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.conftest import Home

from .figures import Figure
from .site import Site

SOCKETS, ROUNDS = 1_000, 15


def run(directory: Path) -> Iterator[Figure]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8 * SOCKETS), most))  # servers inherit it
    home = Home(directory / "home")
    home.spec("w-1", status="pending")
    site = Site(directory, home.path)
    try:
        site.start(1)
        ours, whole, floor, size = _measure(site)
    finally:
        site.stop()
    name = f"one change to {SOCKETS:,} sockets, from the first to the last ({whole * 1000:.0f} ms from the commit on)"
    yield Figure(name, ours * 1000, "ms", 1.5, floor * 1000, f"websockets.broadcast of the same {size} bytes")


class Listeners:
    """Many sockets of one process, and when a frame that names a worker reached each."""

    def __init__(self, port: int, path: str, cookie: str) -> None:
        self.poll = select.epoll()
        self.sockets = {}
        for _ in range(SOCKETS):
            connection = _handshake(port, path, cookie)
            self.sockets[connection.fileno()] = connection
            self.poll.register(connection, select.EPOLLIN)

    def drain(self, seconds: float) -> None:
        """Read what comes until nothing comes for so long."""
        while ready := self.poll.poll(seconds):
            for number, _ in ready:
                self.sockets[number].recv(1 << 18)

    def until_last(self, trigger: Callable[[], object]) -> tuple[float, float, int]:
        """Seconds from the first socket to the last, and from the trigger to the last, and the bytes of the frame."""
        waiting, first, size = set(self.sockets), 0.0, 0
        trigger()
        began = time.perf_counter()
        while waiting:
            ready = self.poll.poll(10)
            if not ready:
                raise RuntimeError(f"{len(waiting)} sockets heard nothing")
            for number, _ in ready:
                data = self.sockets[number].recv(1 << 18)
                if b"data-worker" in data:
                    first = first or time.perf_counter()
                    size = size or len(data)
                    waiting.discard(number)
        ended = time.perf_counter()
        return ended - first, ended - began, size

    def close(self) -> None:
        for connection in self.sockets.values():
            connection.close()
        self.poll.close()


def _handshake(port: int, path: str, cookie: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nCookie: {cookie}\r\n\r\n"
    )
    connection.sendall(request.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    if b" 101 " not in answer:
        raise RuntimeError(answer.decode("latin1"))
    return connection


def _measure(site: Site) -> tuple[float, float, float, int]:
    """Change one row, as a poller does, and broadcast as much, in turns: whatever else the machine does meets both."""
    from tests import factories
    from workers.models import Worker

    worker = Worker.objects.get()
    ours = Listeners(site.port, "/ws/live/", site.cookie)
    spreads, wholes, floors = [], [], []
    ours.drain(0.3)
    *_, size = ours.until_last(lambda: factories.change(worker, progress_pct=1))
    with closing(ours), _floor(size) as (theirs, go):
        for number in range(ROUNDS):
            ours.drain(0.3)
            spread, whole, _ = ours.until_last(lambda progress=number: factories.change(worker, progress_pct=progress))
            spreads.append(spread)
            wholes.append(whole)
            theirs.drain(0.1)
            floors.append(theirs.until_last(go)[0])
    return median(spreads), median(wholes), median(floors), size


@contextmanager
def _floor(size: int) -> Iterator[tuple[Listeners, Callable[[], object]]]:
    """A server that broadcasts frames of that size, as many listeners, and what makes it broadcast."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.bench_fanout", str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin = server.stdin

        def go() -> None:
            stdin.write(b"go\n")
            stdin.flush()

        listeners = Listeners(int(server.stdout.readline()), "/", "")
        try:
            yield listeners, go
        finally:
            listeners.close()
            server.terminate()


async def _floor_server(size: int) -> None:
    """Broadcast a frame of that size for each line on stdin."""
    connections: set[ServerConnection] = set()

    async def listen(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()

    text = '<tr data-worker="w-1">'.ljust(size - 4)
    async with serve(listen, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            broadcast(connections, text)


if __name__ == "__main__":
    asyncio.run(_floor_server(int(sys.argv[1])))
