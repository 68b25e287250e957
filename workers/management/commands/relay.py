"""``manage.py relay``: migrate, Daphne, and the poller as a child; one port, one command."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand, CommandParser

from workers import setup

DEMO_ROLES = ("viewer", "operator", "admin")


class Command(BaseCommand):
    help = "Run the whole product: the site and the poller. With --demo on a living demo fleet of its own."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--bind", default="127.0.0.1", help="the address to listen on (default: this machine only)")
        parser.add_argument("--demo", action="store_true", help="on a demo fleet with a database of its own")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["port"] < 65536:
            raise CommandError(f"--port {options['port']} is no port; give one between 1 and 65535")
        _refuse_taken_port(options["bind"], options["port"])
        if options["demo"] and not settings.RELAY_DEMO:
            self._again_as_demo()
        call_command("migrate", verbosity=0, interactive=False)
        settings.ALLOWED_HOSTS.append(_shown(options["bind"]))  # the address that is printed has to answer
        # Daphne takes over the process' event loop when it is imported, which no other command may have to bear.
        from workers.supervisor import Child, serve

        url = settings.RELAY_URL or f"http://{_shown(options['bind'])}:{options['port']}"
        children = []
        home = settings.RELAY_HOME
        if settings.RELAY_DEMO:
            arguments = ["demo_fleet", str(home), "--until-stdin-closes"]
            children.append(Child("demo fleet", arguments, dict(os.environ), self._say))
            self._demo_accounts()
        elif setup.is_needed():
            self._say(f"Nobody can log in yet. Make the first account: {url}/setup/{setup.setup_link_token()}/")
        if home:
            children.append(Child("poller", ["poll", "--until-stdin-closes"], dict(os.environ), self._say))
        else:
            self._say("No home is set, so nothing is polled. Set COMMIT_RELAY_HOME, or try: manage.py relay --demo")
        serve(options["bind"], options["port"], children, lambda: self._say(f"Relay Web is at {url}"))
        self._say("Stopped.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    # -- the demo

    def _again_as_demo(self) -> None:
        """Start over with a home, a database and a secret that are the demo's alone."""
        place = settings.RELAY_STATE / "demo"
        _hold(settings.RELAY_STATE)
        shutil.rmtree(place, ignore_errors=True)
        home = place / "home"
        home.mkdir(mode=0o700, parents=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("CORTEX_HOME", "SECRET_KEY")}
        environment |= {
            "RELAY_DEMO": "1",
            "COMMIT_RELAY_HOME": str(home),
            "DATABASE_URL": f"sqlite:///{place / 'demo.sqlite3'}",
            "RELAY_HOST": "demo",
        }
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - ourselves again

    def _demo_accounts(self) -> None:
        """Make the demo's accounts, and only ever in the demo's own database."""
        from django.contrib.auth.models import Group, User

        if Path(settings.DATABASES["default"]["NAME"]).parent != settings.RELAY_STATE / "demo":
            raise CommandError("demo accounts are for the demo's own database alone; unset RELAY_DEMO")
        password = secrets.token_urlsafe(9)
        for role in DEMO_ROLES:
            user, _ = User.objects.get_or_create(username=role)
            user.set_password(password)
            user.is_staff = role == "admin"
            user.save()
            user.groups.set([Group.objects.get(name=role)])
        self._say(f"Demo. Log in as {', '.join(DEMO_ROLES)} with the password {password}")


def _hold(state: Path) -> None:
    """Make this the only demo of this state directory for as long as the process lives, also as another program."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CommandError(
            "another demo runs already; stop it first, or give this one another XDG_STATE_HOME"
        ) from None


def _refuse_taken_port(bind: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise CommandError(f"cannot listen on {bind}, port {port}: {error.strerror}; try another --port") from None


def _shown(bind: str) -> str:
    if bind in ("0.0.0.0", "::"):  # noqa: S104 - what the operator asked for; this is only the address to print
        return socket.gethostname()
    return f"[{bind}]" if ":" in bind else bind
