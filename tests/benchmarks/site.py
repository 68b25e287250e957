"""The whole product as processes of its own, with somebody logged in."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from pathlib import Path

from tests.running import Place, children, until

from .django_here import set_up


class Site:
    """``manage.py relay`` on a home, its port, and a session cookie of a viewer."""

    def __init__(self, directory: Path, home: Path, poll_seconds: float = 2.0) -> None:
        self.place = Place(directory, home)
        self.place.environment["RELAY_POLL_SECONDS"] = str(poll_seconds)
        self.place.environment["DATABASE_URL"] = f"sqlite:///{directory / 'bench.sqlite3'}"
        self.place.database = directory / "bench.sqlite3"
        set_up(directory)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.place.environment["SECRET_KEY"] = _secret()
        self.cookie = _session_cookie()
        self.process: subprocess.Popen[str] | None = None

    def start(self, expected_workers: int) -> None:
        """Start and wait until the site answers and the whole fleet is stored."""
        self.place.start("relay", "--port", str(self.port))
        self.process = self.place.processes[-1]
        until(self._answers, 60, "an answer of the site")
        until(
            lambda: self.place.query("SELECT COUNT(*) FROM workers_worker WHERE live")[0][0] >= expected_workers,
            120,
            "the first poll",
        )

    @property
    def web_pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def poller_pid(self) -> int:
        (pid,) = [pid for pid in children(self.web_pid) if "poll" in Path(f"/proc/{pid}/cmdline").read_text()]
        return pid

    def stop(self) -> None:
        self.place.stop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/accounts/login/", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def _secret() -> str:
    from django.conf import settings

    return str(settings.SECRET_KEY)


def _session_cookie() -> str:
    """Log a viewer in without a browser; return the Cookie header."""
    from django.conf import settings
    from django.contrib.auth.models import Group, User
    from django.test import Client

    user = User.objects.create_user("bench")
    user.groups.set([Group.objects.get(name="viewer")])
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    name = settings.SESSION_COOKIE_NAME
    return f"{name}={client.cookies[name].value}"
