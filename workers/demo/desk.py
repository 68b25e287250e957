"""The demo's spawner and registry: writes new specs into ``active/`` and files those that have ended."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from . import specs
from .fleet import SPECS, as_bytes
from .stand_ins import ACTIVE, DASHBOARD, append_record, local_time, read_json, write_json

#: How many specs of each directory, and how many worker directories, are kept beside what is live.
KEEP = {"completed": 400, "failed": 80, "zombie": 40, "archived": 120, "archive-*": 40, "stuck": 20}
KEEP_WORKER_DIRECTORIES = 80


class Desk:
    """Everything the demo does with spec files. A file that somebody else has changed meanwhile is left alone."""

    def __init__(self, home: Path, rng: Random) -> None:
        self.home, self.rng = home, rng
        self.numbers: dict[str, int] = {}  # kind -> highest number given so far

    def path(self, worker_id: str) -> Path:
        return self.home / ACTIVE / f"{worker_id}.json"

    def new_spec(self, kind: str, created: datetime, task: specs.Task | None = None) -> dict[str, Any]:
        """Make a pending spec with an id that is free; one in six has had an earlier run, as in real fleets."""
        task = task or specs.make_task(self.rng, kind)
        worker_id = specs.next_id(self.rng, self.numbers, kind)
        old = sorted((self.home / SPECS / "completed").glob(f"worker-{kind}-*.json"))
        if old and self.rng.random() < 1 / 6:
            worker_id = self.rng.choice(old).stem
        while self.path(worker_id).exists():
            worker_id = specs.next_id(self.rng, self.numbers, kind)
        return specs.make_spec(self.rng, worker_id, task, created)

    def spawn(
        self, now: datetime, *, status: str = "pending", broken: bool = False, task: specs.Task | None = None
    ) -> None:
        """Write a new spec into ``active/``; a broken one as the real spawner does when a shell variable is not set."""
        spec = self.new_spec(task.kind if task else specs.any_kind(self.rng), now, task)
        spec["status"] = status
        text = as_bytes(spec).decode()
        temporary = self.path(spec["worker_id"]).with_suffix(".tmp")
        temporary.write_text(specs.with_blanks(text) if broken else text)
        temporary.replace(self.path(spec["worker_id"]))
        if not broken:
            self.tell("task_assigned", spec["worker_id"])

    def unchanged(self, worker_id: str, stamp: int) -> bool:
        """Whether the live spec is still the one whose mtime (ns) was ``stamp``."""
        try:
            return self.path(worker_id).stat().st_mtime_ns == stamp
        except FileNotFoundError:
            return False

    def file(self, spec: dict[str, Any], directory: str) -> None:
        """Move a spec out of ``active/``, as it says now. An earlier run of its id there goes to the archive."""
        path = self.path(spec["worker_id"])
        target = self.home / SPECS / directory / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            archive = self.home / SPECS / f"archived/{datetime.now(UTC):%Y-%m-%d}"
            archive.mkdir(parents=True, exist_ok=True)
            target.replace(archive / f"{path.stem}-{time.time_ns()}.json")
        write_json(target, spec)
        path.unlink(missing_ok=True)

    def tell(self, event: str, worker_id: str) -> None:
        """Append an event of the worker daemon to the dashboard's log."""
        data = {"worker_id": worker_id, "source": "worker-daemon"}
        append_record(self.home / DASHBOARD, {"timestamp": local_time(), "type": event, "data": data})

    def resume(self, now: datetime) -> None:
        """Go on in a directory of an earlier demo: its past stays, what it left running is put away as cancelled."""
        for path in sorted((self.home / ACTIVE).glob("*.json")):
            spec = read_json(path)
            if spec is None or spec.get("worker_id") != path.stem:
                path.unlink()
                continue
            specs.end(spec, now, "cancelled", "The demo fleet was stopped")
            self.file(spec, f"archived/{now:%Y-%m-%d}")
        for path in (self.home / "coordination/worker-checkins").glob("*.json"):
            path.unlink()
        for path in (self.home / SPECS).rglob("worker-*-*.json"):
            kind, _, number = path.stem.removeprefix("worker-").partition("-")
            if kind in specs.TITLES and number.isdecimal():
                self.numbers[kind] = max(self.numbers.get(kind, 0), int(number))

    def prune(self, live: Iterable[str]) -> None:
        """Remove the oldest of what has ended, so that a demo left on for a night stays small."""
        for name, keep in KEEP.items():
            for path in _all_but_youngest((self.home / SPECS).glob(f"{name}/**/*.json"), keep):
                path.unlink(missing_ok=True)
        ended = [path for path in (self.home / "agents/workers").iterdir() if path.is_dir() and path.name not in live]
        for path in _all_but_youngest(ended, KEEP_WORKER_DIRECTORIES):
            shutil.rmtree(path, ignore_errors=True)


def _all_but_youngest(paths: Iterable[Path], keep: int) -> list[Path]:
    dated = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            dated.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(dated)[:-keep]]
