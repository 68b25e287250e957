"""The whole product in one process tree: Daphne here, the poller (and the demo fleet) as supervised children.

Children hold the read end of a pipe as stdin and end when it closes, so nothing survives this process, however it dies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from daphne.server import Server  # first: it installs the asyncio reactor
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
FIRST_DELAY_SECONDS = 1.0
DELAY_CEILING_SECONDS = 30.0
#: A child that ran this long was well; the next delay starts from the beginning.
WELL_AFTER_SECONDS = 60.0
GRACE_SECONDS = 1.5


class Child(ProcessProtocol):
    """One child process, restarted with growing delay whenever it ends by itself."""

    def __init__(self, name: str, arguments: Sequence[str], environment: dict[str, str], say: Callable[[str], None]):
        self.name = name
        self._arguments = [sys.executable, str(MANAGE), *arguments]
        self._environment = environment
        self._say = say
        self._delay = FIRST_DELAY_SECONDS
        self._began = 0.0
        self._ended: Deferred[None] | None = None
        self._retry: object = None

    def start(self) -> None:
        self._retry = None
        self._began = reactor.seconds()
        reactor.spawnProcess(
            self, self._arguments[0], self._arguments, env=self._environment, childFDs={0: "w", 1: 1, 2: 2}
        )

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        if self._ended is not None:
            self._ended.callback(None)
            return
        if reactor.seconds() - self._began > WELL_AFTER_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        self._say(f"The {self.name} ended ({reason.getErrorMessage()}); starting it again in {self._delay:g} s")
        self._retry = reactor.callLater(self._delay, self.start)
        self._delay = min(self._delay * 2, DELAY_CEILING_SECONDS)

    def stop(self) -> Deferred[None]:
        """Ask it to end, insist after the grace; the Deferred fires when it is gone."""
        self._ended = Deferred()
        if self._retry is not None:
            self._retry.cancel()  # type: ignore[attr-defined]
            self._ended.callback(None)
        else:
            self._signal("TERM")
            insist = reactor.callLater(GRACE_SECONDS, self._signal, "KILL")
            self._ended.addCallback(lambda _: insist.cancel() if insist.active() else None)
        return self._ended

    def _signal(self, name: str) -> None:
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            return


def serve(bind: str, port: int, children: Sequence[Child], ready: Callable[[], None]) -> None:
    """Serve the site and keep the children alive until SIGINT or SIGTERM; return when all of them are gone."""
    from relay_web.asgi import application

    host = bind.replace(":", r"\:")
    server = Server(
        application,
        endpoints=[f"tcp:port={port}:interface={host}"],
        server_name="relay-web",
        ready_callable=ready,
        application_close_timeout=1,
    )
    for child in children:
        reactor.callWhenRunning(child.start)
        reactor.addSystemEventTrigger("before", "shutdown", child.stop)
    server.run()
