"""``make bench``: every figure of DESIGN, section 6. Names as arguments run only those: ``… cold_poll fanout``."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path

NAMES = (
    *("cold_poll", "idle_cycle", "zombies", "latency", "fanout"),
    *("fleet_page", "events", "history", "admin", "log_follow", "idle"),
)


def main() -> int:
    """Run the benchmarks; the exit code counts the figures that were missed."""
    for name in [name for name in os.environ if name.startswith(("RELAY_", "COMMIT_RELAY", "DATABASE_", "CORTEX_"))]:
        del os.environ[name]
    missed = 0
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory(prefix=f"relay-bench-{name}-") as directory:
            module = importlib.import_module(f"tests.benchmarks.bench_{name}")
            for figure in module.run(Path(directory)):
                print(figure, flush=True)
                missed += not figure.reached
    return missed


if __name__ == "__main__":
    sys.exit(main())
