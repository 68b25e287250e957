"""What an idle fleet costs: 1,000 specs of which 100 have living processes, nothing changes, one browser is open."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from websockets.sync.client import connect

from tests.conftest import Home, iso

from .figures import Figure
from .site import Site

SECONDS = 30


def run(directory: Path) -> Iterator[Figure]:
    home = Home(directory / "home")
    now = datetime.now(UTC)
    sleepers = []
    for number in range(1_000):
        running = number < 100
        home.spec(
            f"w-{number:04d}",
            status="running" if running else "pending",
            execution__started_at=iso(now - timedelta(minutes=2)) if running else None,
        )
        if running:
            directory_of_worker = home.path / "agents" / "workers" / f"w-{number:04d}"
            directory_of_worker.mkdir(parents=True)
            sleepers.append(subprocess.Popen(["sleep", "600"], cwd=directory_of_worker))
    site = Site(directory, home.path)
    try:
        site.start(1_000)
        address = f"ws://127.0.0.1:{site.port}/ws/live/"
        with connect(address, additional_headers={"Cookie": site.cookie}, ping_interval=None):
            time.sleep(12)  # young processes are looked at more often
            processes = {"web": psutil.Process(site.web_pid), "poller": psutil.Process(site.poller_pid)}
            before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
            began = time.monotonic()
            time.sleep(SECONDS)
            elapsed = time.monotonic() - began
            for name, process in processes.items():
                share = (sum(process.cpu_times()[:2]) - before[name]) / elapsed * 100
                yield Figure(f"idle {name}, 1,000 specs, 100 live", share, "% of a core", reach=2)
                memory = process.memory_info().rss / 1e6
                yield Figure(f"idle {name}, memory", memory, "MB", reach=150)
    finally:
        site.stop()
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
