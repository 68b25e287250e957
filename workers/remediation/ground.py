"""What plans and their execution stand on: one home, the processes of its host, the fleet's commands, and patience."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from workers.coordination.layout import Layout
from workers.coordination.records import ProcessKey, Spec, WorkerProcesses
from workers.coordination.redaction import storable
from workers.coordination.traces import TraceReader
from workers.health import RUN_TOLERANCE
from workers.models import Worker
from workers.ownership import ProcessTable, make_claim

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Refusal(Exception):  # noqa: N818 - no error of ours: the answer to a request
    """Why it cannot be done, in a sentence for people. Nothing has been touched."""


class NotAllowed(Refusal):
    """This person may not do that."""


class Stopped(Exception):  # noqa: N818 - no error: this process ends, and the next one goes on from the journal
    """This process is to end now."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in seconds."""

    grace: float = 10.0  # between SIGTERM and SIGKILL
    death: float = 5.0  # after SIGKILL
    start: float = 60.0  # until a worker that was started runs
    command: float = 60.0  # for a command that is to return
    settle: float = 3.0  # for a PM daemon that puts an entry back


@dataclass
class Ground:
    """The place where remediations are planned and carried out. Safe for threads."""

    layout: Layout
    host: str
    commands: Mapping[str, Sequence[str]]
    state: Path  # for what commands print; never in the home
    patience: Patience = Patience()
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._processes = ProcessTable(self.layout.home, self.host)
        self._lock = threading.Lock()

    @classmethod
    def here(cls, home: Path, stopping: threading.Event | None = None) -> Ground:
        """The ground of this installation's settings."""
        return cls(
            layout=Layout(home),
            host=settings.RELAY_HOST,
            commands=settings.RELAY_COMMANDS,
            state=settings.RELAY_STATE / "remediations",
            stopping=stopping or threading.Event(),
        )

    def wait(self, seconds: float) -> None:
        """Let time pass. Raises Stopped."""
        if self.stopping.wait(seconds):
            raise Stopped

    @staticmethod
    def exists(path: str) -> bool:
        """Whether anything stands at an absolute path, wherever it leads."""
        return os.path.lexists(path)

    # -- processes

    def look(self, worker: Worker, spec: Spec | None, written_at: datetime | None) -> WorkerProcesses:
        """Look at this moment for the processes of a run. Only what is not another run's own is found.

        ``written_at`` is when the spec was written; a pid that it named before has been true since then only.
        """
        live = Worker.objects.filter(host=self.host, live=True).order_by()
        rows = list(live.values_list("pk", "worker_id", "pid", "pid_start_ticks", "process_gone_at"))
        others = [(pid, ticks) for pk, _, pid, ticks, gone_at in rows if pid and not gone_at and pk != worker.pk]
        if spec and spec.pid and spec.pid == worker.told_pid:
            written_at = worker.told_pid_at
        now = time.time()
        traces = TraceReader(self.layout).look({worker.worker_id}, now, {worker.worker_id}).get(worker.worker_id)
        born = spec.created_at if spec else None
        if born and born > worker.first_seen_at + RUN_TOLERANCE:  # it was seen before that
            born = None
        claim = make_claim(self.layout, worker.worker_id, spec, born, written_at, traces)
        with self._lock:
            self._processes.refresh(now)
            theirs = {
                pid
                for pid, ticks in others
                if (entry := self._processes.entries.get(pid)) and entry.process.key.start_ticks == ticks
            }
            return self._processes.match(claim, theirs, {worker_id for _, worker_id, *_ in rows})

    def alive(self, key: ProcessKey) -> bool:
        return self._processes.alive(key)

    # -- commands

    def command(self, name: str, values: Mapping[str, str]) -> list[str]:
        """Fill a command's template: each placeholder becomes part of one argument, whatever it holds, without a shell.

        Raises Refusal where the program is not there.
        """
        words = [_PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), word) for word in self.commands[name]]
        if not words:
            raise Refusal(f"{name} is set to nothing, so there is no command to run")
        words = [_argument(word) for word in words]
        program = words[0]
        found = shutil.which(str(self.layout.home / program)) if "/" in program else shutil.which(program)
        if found is None:
            raise Refusal(f"{program} is not there or cannot be executed; put it into the home, or set {name}")
        return [found, *words[1:]]


def _argument(word: str) -> str:
    """Replace what no process can be given as an argument; the bytes of a file's name stay, whatever they are."""
    try:
        return word.replace("\0", "\ufffd") if os.fsencode(word) else word
    except UnicodeEncodeError:
        return storable(word)


def now() -> datetime:
    return datetime.now(UTC)
