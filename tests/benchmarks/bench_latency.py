"""From a file's change on disk to the change in 100 browsers, with 1,000 workers, as it runs for real."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import Home, iso, replace_file

from .figures import Figure
from .site import Site

WORKERS, BROWSERS, CHANGES, PER_SECOND = 1_000, 100, 200, 20
NAMED = re.compile(r'data-worker="([^"]+)"')


def run(directory: Path) -> Iterator[Figure]:
    home = Home(directory / "home")
    created = iso(datetime.now(UTC) - timedelta(hours=1))
    for number in range(WORKERS):
        home.spec(f"w-{number:04d}", status="pending", created_at=created, progress_pct=0)
    site = Site(directory, home.path)
    try:
        site.start(WORKERS)
        lags = asyncio.run(_measure(site, home))
    finally:
        site.stop()
    cuts = quantiles(lags, n=100)
    expected = BROWSERS * CHANGES
    if len(lags) < expected:
        raise RuntimeError(f"only {len(lags)} of {expected} changes arrived")
    yield Figure("disk to 100 browsers, p50", cuts[49] * 1000, "ms", reach=40)
    yield Figure("disk to 100 browsers, p99", cuts[98] * 1000, "ms", reach=120)


async def _measure(site: Site, home: Home) -> list[float]:
    """Change one spec after another; note when each browser hears of it."""
    changed_at: dict[str, float] = {}
    lags: list[float] = []

    async def listen(browser: ClientConnection) -> None:
        heard: set[str] = set()
        async for message in browser:
            match = NAMED.search(str(message)[:600])
            if match and match[1] in changed_at and match[1] not in heard:
                heard.add(match[1])
                lags.append(time.perf_counter() - changed_at[match[1]])

    address = f"ws://127.0.0.1:{site.port}/ws/live/"
    browsers = [
        await connect(address, additional_headers={"Cookie": site.cookie}, compression=None) for _ in range(BROWSERS)
    ]
    listeners = [asyncio.create_task(listen(browser)) for browser in browsers]
    await asyncio.sleep(2)  # what is sent on connecting is over
    for number in range(CHANGES):
        name = f"w-{number:04d}"
        path = home.specs / "active" / f"{name}.json"
        spec = json.loads(path.read_text())
        spec["progress_pct"] = 50
        changed_at[name] = time.perf_counter()
        replace_file(path, json.dumps(spec))
        await asyncio.sleep(1 / PER_SECOND)
    deadline = time.perf_counter() + 10
    while len(lags) < BROWSERS * CHANGES and time.perf_counter() < deadline:
        await asyncio.sleep(0.05)
    for task in listeners:
        task.cancel()
    for browser in browsers:
        await browser.close()
    return lags
