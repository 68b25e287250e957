"""Real ends of channels: a webhook and a mail server on this machine, which can be down, slow or refuse."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """What every receiver has: a port that stays its own, what it was told, and how it behaves."""

    def __init__(self) -> None:
        self.got: list[str] = []  # subjects, in order
        self.bodies: list[str] = []
        self.refuses = False
        self.tried = 0
        self.open = threading.Event()  # clear: it takes the message and does not answer
        self.open.set()
        self._server: Any = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Come up, again on the same port."""
        self._server = self.server()
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Go down: who comes is turned away by the kernel."""
        self.open.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, subject: str, body: str) -> bool:
        """Whether the message is accepted."""
        self.tried += 1
        self.open.wait(20)
        if self.refuses:
            return False
        self.got.append(subject)
        self.bodies.append(body)
        return True

    def server(self) -> Any:
        raise NotImplementedError

    @property
    def address(self) -> str:
        raise NotImplementedError


class Webhook(Receiver):
    @property
    def address(self) -> str:
        return f"json://relay:s3cret-w0rd@127.0.0.1:{self.port}/hook/t0ken-in-the-path"

    def server(self) -> Any:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = 200 if receiver.take(said["title"], said["message"]) else 500
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        return Server(("127.0.0.1", self.port), Handler)


class MailServer(Receiver):
    """Speaks just enough SMTP to take a message."""

    @property
    def address(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?to=ops@example.com&from=relay@example.com"

    def server(self) -> Any:
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

            def handle(self) -> None:
                self.say("220 here")
                while line := self.rfile.readline():
                    word = line.strip().upper().split(b" ")[0]
                    if word == b"EHLO":
                        self.say("250 here")
                    elif word == b"DATA":
                        self.say("354 go on")
                        self.say("250 taken" if receiver.take(*self.message()) else "554 refused")
                    elif word == b"QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 ok")

            def message(self) -> tuple[str, str]:
                import email
                import email.policy

                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
                parsed = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                body = parsed.get_body(("plain", "html"))
                return str(parsed["Subject"]), str(body.get_content()) if body else ""

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        return Server(("127.0.0.1", self.port), Handler)
