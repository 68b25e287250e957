"""What is kept of a worker before it is touched: the ends of its logs and its process tree."""

from __future__ import annotations

from typing import Any

from workers.coordination.layout import Layout
from workers.coordination.log_files import WorkerLog, find_logs, open_log
from workers.coordination.records import Problem
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
    found = find_logs(ground.layout, worker_id)
    own = [log for log in found.logs if log.path.endswith(".log") and not log.shared and not log.problem]
    ends = (_end(ground.layout, log, found.on_disk[log.path]) for log in own[:MOST_LOGS])
    return [end for end in ends if end]


def _end(layout: Layout, log: WorkerLog, path: str) -> dict[str, Any] | None:
    file = open_log(layout, path)
    if isinstance(file, Problem):
        return None
    with file:
        try:
            size = file.size()
            text = file.read(max(0, size - BYTES), BYTES).decode(errors="replace")
        except OSError:
            return None
    lines = redact_text(text).splitlines()[-LINES:]
    if not lines:
        return None
    return {"path": log.path, "bytes": size, "lines": [line[:LONGEST_LINE] for line in lines]}
