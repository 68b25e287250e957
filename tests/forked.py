"""A process that has Django in its memory and forks for each command, where a fresh interpreter would take a second.

It reads one JSON object per line and answers with the exit code of the command that it describes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .running import ROOT, Place

START = "import django; django.setup(); from tests.forked import serve; serve()"


class Forker:
    """Runs commands of manage.py in forks of one process."""

    def __init__(self, process: subprocess.Popen[str], migrated: Path) -> None:
        self.process, self.migrated = process, migrated

    def run(self, place: Place, *words: str) -> subprocess.CompletedProcess[str]:
        folder = place.database.parent
        out, err = folder / "stdout", folder / "stderr"
        asked = {
            "words": words,
            "home": place.environment.get("COMMIT_RELAY_HOME"),
            "database": str(place.database),
            "state": place.environment["XDG_STATE_HOME"],
            "stdout": str(out),
            "stderr": str(err),
        }
        if not place.database.exists():
            place.database.write_bytes(self.migrated.read_bytes())
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


@contextmanager
def forker(folder: Path) -> Iterator[Forker]:
    place = Place(folder, None)
    environment = {**place.environment, "DJANGO_SETTINGS_MODULE": "relay_web.settings"}
    done = subprocess.run([sys.executable, "manage.py", "migrate"], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(
        [sys.executable, "-c", START], cwd=ROOT, env=environment, stdin=-1, stdout=-1, text=True, bufsize=1
    )
    try:
        yield Forker(process, place.database)
    finally:
        process.communicate()


# -- in the process that forks


def serve() -> None:
    from workers.management.commands import remediate  # noqa: F401 - read once, for all forks

    for line in sys.stdin:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(_carry_out(json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _carry_out(asked: dict[str, Any]) -> int:
    from django.conf import settings
    from django.core.management import execute_from_command_line
    from django.db import connections

    from workers.remediation import ground
    from workers.remediation.steps import memory, start

    for number, name in enumerate(("stdout", "stderr"), 1):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    settings.RELAY_HOME = Path(asked["home"])
    settings.RELAY_STATE = Path(asked["state"])
    settings.DATABASES["default"]["NAME"] = connections["default"].settings_dict["NAME"] = asked["database"]
    ground.Patience.__init__.__defaults__ = (0.5, 1.0, 1.5, 5.0, 1.0)  # grace, death, start, command, settle
    ground.Ground.__init__.__defaults__ = (ground.Patience(), *ground.Ground.__init__.__defaults__[1:])  # type: ignore
    memory.QUIET = start.STEADY = 0.1
    code = 0
    try:
        execute_from_command_line(["manage.py", *asked["words"]])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code
