"""What is kept of a worker before it is touched: the ends of its logs and its process tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workers.coordination.files import printable
from workers.coordination.layout import AGENTS_WORKER_LOGS, Layout
from workers.coordination.redaction import redact_text
from workers.models import Worker
from workers.processes import describe
from workers.remediation.ground import Ground, now
from workers.remediation.spec_file import SpecFile
from workers.remediation.work import Step, Work, listed

LINES, BYTES = 40, 16_384  # of the end of each log
MOST_LOGS = 12
LONGEST_LINE = 1_000


def plan(worker: Worker) -> Step:
    return Step("evidence", worker.worker_id, "Keep the ends of its logs and its process tree with this record")


def keep(work: Work) -> str:
    """Keep what is there now; what cannot be read is left out, since it must not stand in the way of a repair."""
    worker = work.remediation.worker
    assert worker is not None  # noqa: S101 - for the type checker; planned with one
    found = work.ground.look(worker, SpecFile.spec_of(worker, work.ground), worker.file_mtime)
    logs = log_ends(work.ground, worker.worker_id)
    processes = [describe(process) for process in (*found.tree, *found.companions)]
    work.remediation.evidence = {"at": now().isoformat(), "logs": logs, "processes": processes}
    work.remediation.save(update_fields=["evidence"])
    return f"Kept the ends of {listed(len(logs), 'log')} and {listed(len(processes), 'process', 'processes')}"


def log_ends(ground: Ground, worker_id: str) -> list[dict[str, Any]]:
    """Read the last lines of each log that is the worker's own, redacted, the newest first."""
    paths = sorted(_logs(ground.layout, worker_id), key=_mtime, reverse=True)[:MOST_LOGS]
    return [end for path in paths if (end := _end(ground.layout, path))]


def _logs(layout: Layout, worker_id: str) -> list[Path]:
    own = layout.worker_dir(worker_id)
    if not own:
        return []
    dated = Path(layout.home, AGENTS_WORKER_LOGS)
    found = [*Path(own, "logs").glob("*.log"), *Path(own).glob("*.log")]
    with_date = [date / worker_id for date in dated.iterdir()] if dated.is_dir() else []
    found += [path for folder in with_date if folder.is_dir() for path in folder.glob("*.log")]
    return [path for path in found if path.is_file() and layout.inside(path)]


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _end(layout: Layout, path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - BYTES))
            text = file.read(BYTES).decode(errors="replace")
    except OSError:
        return None
    lines = redact_text(text).splitlines()[-LINES:]
    if not lines:
        return None
    return {"path": printable(layout.relative(path)), "bytes": size, "lines": [line[:LONGEST_LINE] for line in lines]}
