"""Finding 200 zombies: a resident poller against the runbook's own loop on the same fleet."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conftest import Home, iso

from .django_here import set_up
from .figures import Figure, timed

#: The loop of the runbook, section 5, word for word in what it does.
LOOP = """
find "$COMMIT_RELAY_HOME/coordination/worker-specs/active" -name "*.json" -exec sh -c '
  status=$(jq -r ".status" "$1")
  if [ "$status" = "running" ]; then
    worker_id=$(jq -r ".worker_id" "$1")
    if ! ps aux | grep -q "$worker_id"; then echo "ZOMBIE: $worker_id"; fi
  fi' _ {} \\;
"""


def run(directory: Path) -> Iterator[Figure]:
    home = Home(directory / "home")
    for number in range(200):
        home.spec(f"worker-{number:03d}", execution__started_at=iso(datetime.now(UTC) - timedelta(minutes=20)))
    set_up(directory)
    from workers.cycle import Cycle
    from workers.health import Health
    from workers.models import Worker

    cycle = Cycle(home.path, "bench", 2.0)
    cycle.start(datetime.now(UTC))
    cycle.run_once(datetime.now(UTC))
    found = Worker.objects.filter(health=Health.ZOMBIE).count()
    if found != 200:
        raise RuntimeError(f"found {found} of 200 zombies")
    value = timed(lambda: cycle.run_once(datetime.now(UTC)), rounds=21)
    if not shutil.which("jq"):
        print("skipped  the runbook's loop needs jq, which is not here")
        return
    began = time.perf_counter()
    done = subprocess.run(
        ["bash", "-c", LOOP],
        env={"PATH": "/usr/bin:/bin", "COMMIT_RELAY_HOME": str(home.path)},
        capture_output=True,
        text=True,
    )
    loop = time.perf_counter() - began
    print(f"         the runbook's loop found {done.stdout.count('ZOMBIE')} of 200 zombies")
    yield Figure(
        name="find 200 zombies",
        value=value,
        unit="s",
        floor=loop,
        floor_name="the runbook's loop",
        reach=500,
        more_is_better=True,
    )
