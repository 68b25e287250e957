"""A timer cycle over 10,000 unchanged specs, against ``scandir`` and ``stat`` of the same files and a list of pids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

from workers.demo.fleet import write_fleet

from .django_here import set_up
from .figures import Figure, timed


def run(directory: Path) -> Iterator[Figure]:
    home = directory / "home"
    write_fleet(home, workers=10_000, events=1_000, seed=1, now=datetime.now(UTC))
    set_up(directory)
    from workers.cycle import Cycle

    cycle = Cycle(home, "bench", 2.0)
    cycle.start(datetime.now(UTC))
    for _ in range(3):
        cycle.run_once(datetime.now(UTC))
    value = timed(lambda: cycle.run_once(datetime.now(UTC)), rounds=21)
    floor = timed(lambda: (_stat_all(str(home / "coordination" / "worker-specs")), psutil.pids()), rounds=21)
    yield Figure(
        name="idle cycle, 10,000 specs",
        value=value * 1000,
        unit="ms",
        floor=floor * 1000,
        floor_name="scandir and stat of the same files, list of pids",
        reach=2,
    )


def _stat_all(directory: str) -> int:
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                count += _stat_all(entry.path)
            else:
                entry.stat(follow_symlinks=False)
                count += 1
    return count
