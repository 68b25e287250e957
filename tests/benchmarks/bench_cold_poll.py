"""A cold ``poll --once`` of 10,000 specs and 60,000 events, against reading, parsing and inserting the same."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import orjson

from tests.running import Place
from workers.demo.fleet import write_fleet

from .figures import Figure

TABLES = (
    *("workers_worker", "workers_workerdocument", "workers_healthchange", "workers_change"),
    *("workers_event", "workers_finding", "workers_incident"),
)


def run(directory: Path) -> Iterator[Figure]:
    home = directory / "home"
    write_fleet(home, workers=10_000, events=60_000, seed=1, now=datetime.now(UTC))
    # A single run swings by a fifth on a shared machine: the round with the middle ratio of three counts
    rounds = sorted((_round(directory / str(number), home) for number in range(3)), key=lambda pair: pair[0] / pair[1])
    seconds, floor = rounds[1]
    yield Figure(
        name="cold poll, 10,000 specs and 60,000 events",
        value=seconds,
        unit="s",
        floor=floor,
        floor_name="orjson over the same files, raw executemany of the same rows",
        reach=3.5,
    )


def _round(directory: Path, home: Path) -> tuple[float, float]:
    """Poll into a fresh database, and measure the floor right behind it."""
    directory.mkdir()
    place = Place(directory, home)
    place.run("migrate", "-v0")
    seconds = place.json("poll", "--once")["seconds"]
    return seconds, _read_and_parse(home) + _insert_same_rows(place.database, directory / "floor.sqlite3")


def _read_and_parse(home: Path) -> float:
    began = time.perf_counter()
    for path in (home / "coordination" / "worker-specs").rglob("*.json"):
        try:
            orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError:
            continue
    for path in (home / "coordination").rglob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
    return time.perf_counter() - began


def _insert_same_rows(source: Path, target: Path) -> float:
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA journal_mode=WAL")
        copy.execute("PRAGMA synchronous=NORMAL")
        for (sql,) in original.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type DESC"
        ):
            copy.execute(sql)
        rows = {table: original.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
        began = time.perf_counter()
        for table, content in rows.items():
            if content:
                copy.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(content[0]))})", content)
        copy.commit()
        return time.perf_counter() - began
