"""Following a log that grows fast: how many lines a second arrive with none left out, how late, and at what cost."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import Home

from .figures import Figure
from .site import Site

LOG = "agents/workers/w-1/logs/stdout.log"
RATES, SECONDS = (2_500, 5_000, 7_500, 9_000), 4.0
ASKED = 5_000
_LINE = re.compile(r"line (\d+) ")
_FILLING = "of something that is said over and over again"


def run(directory: Path) -> Iterator[Figure]:
    home = Home(directory / "home")
    home.spec("w-1", status="pending")
    site = Site(directory, home.path)
    most, lags, cpu = 0, [0.0], 0.0
    try:
        site.start(1)
        for rate in RATES:
            home.write(LOG, "start\n")
            before = _cpu_seconds(site.web_pid)
            seen, lags_now = asyncio.run(_follow(site, home.path / LOG, rate))
            used = (_cpu_seconds(site.web_pid) - before) / SECONDS * 100
            if rate == ASKED:
                lags, cpu = lags_now, used
            if seen != list(range(int(rate * SECONDS))):
                break
            most = rate
    finally:
        site.stop()
    yield Figure("lines a second followed, none left out", most, "lines/s", ASKED, more_is_better=True)
    cuts = quantiles(lags, n=100)
    yield Figure(f"from the disk to the page at {ASKED:,} lines/s, p99", cuts[98] * 1000, "ms", 500)
    yield Figure(f"the web process at {ASKED:,} lines/s", cpu, "% of a core", 50)


async def _follow(site: Site, log: Path, rate: int) -> tuple[list[int], list[float]]:
    """Write at that rate; return the lines that arrived and how late each frame's last was."""
    query = urlencode({"run": 1, "file": LOG, "from": len("start\n")})
    address = f"ws://127.0.0.1:{site.port}/ws/log/?{query}"
    written: list[float] = []
    async with connect(address, additional_headers={"Cookie": site.cookie}, compression=None) as browser:
        writing = asyncio.create_task(_write(log, rate, written))
        seen, lags = await _listen(browser, int(rate * SECONDS), written)
        await writing
    return seen, lags


async def _write(log: Path, rate: int, written: list[float]) -> None:
    began = time.perf_counter()
    with log.open("a") as file:
        while len(written) < rate * SECONDS:
            now = time.perf_counter()
            due = min(int(rate * SECONDS), int((now - began) * rate))
            file.write("".join(f"line {number} {_FILLING}\n" for number in range(len(written), due)))
            file.flush()
            written += [now] * (due - len(written))
            await asyncio.sleep(0.01)


async def _listen(browser: ClientConnection, expected: int, written: list[float]) -> tuple[list[int], list[float]]:
    seen: list[int] = []
    lags: list[float] = []
    deadline = time.perf_counter() + SECONDS + 5
    while (not seen or seen[-1] < expected - 1) and time.perf_counter() < deadline:
        try:
            message = str(await asyncio.wait_for(browser.recv(), 1))
        except TimeoutError:
            continue
        await browser.send("drawn")
        seen += [int(number) for number in _LINE.findall(message)]
        if seen:
            lags.append(time.perf_counter() - written[seen[-1]])
    return seen, lags


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
