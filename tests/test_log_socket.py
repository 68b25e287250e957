"""The socket that follows a log: who gets in, what comes, and what happens to those who cannot keep up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client

from tests import factories
from workers import door, follow, logs
from workers.health import Health
from workers.log_desk import LogDesk
from workers.models import LogRelay, Worker

from .conftest import Home, client_of, person
from .log_socket import following
from .markup import flat

pytestmark = pytest.mark.django_db(transaction=True)
T = TypeVar("T")


async def db(work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return await sync_to_async(work)(*args, **kwargs)


@pytest.fixture
def worker(db: None, home: Home, settings: Any) -> Worker:
    settings.RELAY_HOME = home.path
    return factories.add(Health.HEALTHY, worker_id="w-1")


@pytest.fixture
def log(home: Home) -> Path:
    return home.write("agents/workers/w-1/logs/stdout.log", "before\n")


def of(worker: Worker, **more: Any) -> dict[str, Any]:
    return {"run": worker.pk, "file": "agents/workers/w-1/logs/stdout.log", "from": 7, **more}


def write(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def rotate(log: Path) -> None:
    log.rename(log.with_suffix(".1"))
    log.write_text("two\n")


# The door


async def test_it_closes_on_somebody_anonymous_with_4401(worker: Worker, log: Path) -> None:
    async with following(None, **of(worker)) as reader:
        assert await reader.closed() == door.SIGNED_OUT == 4401


async def test_it_closes_on_somebody_without_a_role_with_4403(worker: Worker, log: Path) -> None:
    client = await db(client_of, await db(person, "nobody"))
    async with following(client, **of(worker)) as reader:
        assert await reader.closed() == door.FORBIDDEN == 4403


async def test_it_closes_on_a_page_of_somebody_else_with_4403(as_viewer: Client, worker: Worker, log: Path) -> None:
    async with following(as_viewer, {"origin": "http://evil.example"}, **of(worker)) as reader:
        assert await reader.closed() == door.FORBIDDEN


async def test_it_closes_when_somebody_loses_the_role(
    as_viewer: Client, viewer: User, worker: Worker, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "DOOR_CHECK", 0.2)
    async with following(as_viewer, **of(worker)) as reader:
        write(log, "one\n")
        await reader.frame("one")
        await db(viewer.groups.clear)
        assert await reader.closed() == 4401


@pytest.mark.parametrize("file", ["", "../../etc/passwd", "/etc/passwd", "agents/workers/w-2/logs/stdout.log"])
async def test_only_the_workers_own_logs_are_followed(
    as_viewer: Client, worker: Worker, log: Path, home: Home, file: str
) -> None:
    home.write("agents/workers/w-2/logs/stdout.log", "other\n")
    async with following(as_viewer, run=worker.pk, file=file) as reader:
        assert await reader.closed() == 4404


@pytest.mark.parametrize("run", ["", "x", "999999", "²"])
async def test_a_run_that_is_not_there_is_said(as_viewer: Client, worker: Worker, log: Path, run: str) -> None:
    async with following(as_viewer, **of(worker, run=run)) as reader:
        assert await reader.closed() == 4404


# Following


async def test_what_is_appended_arrives_escaped_and_redacted(as_viewer: Client, worker: Worker, log: Path) -> None:
    async with following(as_viewer, **of(worker)) as reader:
        write(log, "<script>alert(1)</script>\npassword=hunter2\n\x1b[31mERROR: red\x1b[0m\n")
        frame = await reader.frame("red")
        assert "<script>" not in frame
        assert "hunter2" not in frame
        assert '<div class="l error"' in frame
        assert '<span class="ansi-red">ERROR: red</span>' in frame
        assert reader.lines == ["<script>alert(1)</script>", "password=[redacted]", "ERROR: red"]


async def test_who_comes_back_gets_what_was_written_meanwhile(as_viewer: Client, worker: Worker, log: Path) -> None:
    async with following(as_viewer, **of(worker)) as reader:
        write(log, "one\n")
        frame = await reader.frame("one")
    end, identity = frame.split('data-end="')[1].split('"')[0], frame.split('data-identity="')[1].split('"')[0]
    write(log, "two\n")
    async with following(as_viewer, **of(worker, identity=identity, **{"from": end})) as reader:
        await reader.frame("two")
        assert reader.lines == ["two"]


async def test_rotation_is_said_and_followed(as_viewer: Client, worker: Worker, log: Path) -> None:
    async with following(as_viewer, **of(worker)) as reader:
        write(log, "one\n")
        await reader.frame("one")
        rotate(log)
        await reader.frame("two")
        assert reader.lines == ["one", "The log was rotated: here begins the new file.", "two"]


async def test_a_pause_holds_lines_back_and_says_how_much_waits(as_viewer: Client, worker: Worker, log: Path) -> None:
    async with following(as_viewer, **of(worker)) as reader:
        write(log, "one\n")
        await reader.frame("one")
        await reader.say("pause")
        await reader.frame("0 bytes waiting")
        write(log, "two\n")
        await reader.frame("4 bytes waiting")
        assert reader.lines == ["one"]
        await reader.say("go")
        await reader.frame("two")


async def test_a_reader_that_draws_nothing_is_sent_two_frames_and_then_told_what_it_missed(
    as_viewer: Client, worker: Worker, log: Path
) -> None:
    async with following(as_viewer, **of(worker)) as reader:
        reader.draws = False
        write(log, "a\n")
        await reader.frame(">a<")
        write(log, "b\n")
        await reader.frame(">b<")
        write(log, "".join(f"line {number:08}\n" for number in range(100_000)) + "the end\n")
        await reader.quiet()
        reader.draws = True
        await reader.say("drawn")
        await reader.say("drawn")
        await reader.frame("left out here")
        await reader.frame("the end")
        assert len(reader.lines) < 20_000


async def test_frames_come_at_most_ten_a_second_however_fast_the_log_grows(
    as_viewer: Client, worker: Worker, log: Path
) -> None:
    async with following(as_viewer, **of(worker)) as reader:
        write(log, "start\n")
        await reader.frame("start")
        reader.frames.clear()

        async def grow() -> None:
            for number in range(100):
                write(log, "".join(f"line {number}.{part}\n" for part in range(50)))
                await asyncio.sleep(0.01)
            write(log, "the end\n")

        growing = asyncio.create_task(grow())
        began = asyncio.get_running_loop().time()
        await reader.frame("the end", 20)
        elapsed = asyncio.get_running_loop().time() - began
        await growing
        assert len(reader.lines) == 5_001
        assert len(reader.frames) <= elapsed / follow.PACE + 2


async def test_the_file_is_let_go_when_the_browser_leaves(as_viewer: Client, worker: Worker, log: Path) -> None:
    def open_now() -> int:
        return sum(str(entry.resolve()) == str(log) for entry in Path("/proc/self/fd").iterdir())

    async with following(as_viewer, **of(worker)) as reader:
        write(log, "one\n")
        await reader.frame("one")
        assert open_now() == 1
    for _ in range(100):
        if not open_now():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the log is still open")


# A worker on another host


@pytest.fixture
def far(db: None, home: Home, settings: Any) -> Iterator[Worker]:
    """A worker of host-b, whose poller answers about its logs."""
    settings.RELAY_HOME = None
    home.write("agents/workers/w-1/logs/stdout.log", "before\npassword=hunter2\n")
    stopping = threading.Event()
    desk = threading.Thread(target=LogDesk(home.path, "host-b", stopping, lambda: True).run)
    desk.start()
    yield factories.add(Health.HEALTHY, worker_id="w-1", host="host-b")
    stopping.set()
    desk.join()


async def test_a_log_of_another_host_is_followed_through_its_poller(as_viewer: Client, far: Worker, home: Home) -> None:
    log = home.path / "agents/workers/w-1/logs/stdout.log"
    async with following(as_viewer, **of(far, **{"from": log.stat().st_size})) as reader:
        write(log, "one\n")
        await reader.frame("one")
        write(log, "two\n")
        await reader.frame("two")
        log.write_text("anew\n")
        await reader.frame("anew")
        assert reader.lines[-4:] == ["one", "two", "The file was cut short: here it begins anew.", "anew"]


async def test_pages_of_another_hosts_logs_are_answered_redacted(as_viewer: Client, far: Worker) -> None:
    page = flat((await db(as_viewer.get, "/workers/w-1/logs/?q=before")).content.decode())
    assert "relayed by host-b" in page
    assert "password=[redacted]" in page
    assert "1 line with" in page
    assert "Download" not in page
    stored = await db(lambda: [str(row.answer) for row in LogRelay.objects.all()])
    assert stored
    assert "hunter2" not in "".join(stored)


async def test_what_nobody_wants_any_more_is_forgotten(as_viewer: Client, far: Worker) -> None:
    await db(as_viewer.get, "/workers/w-1/logs/")
    assert await db(LogRelay.objects.count) == 1
    await db(lambda: LogRelay.objects.update(wanted_until=factories.datetime(2020, 1, 1, tzinfo=factories.UTC)))
    for _ in range(100):
        if not await db(LogRelay.objects.count):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("still kept")


def test_a_host_without_a_poller_is_said(as_viewer: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PATIENCE", 0.2)
    factories.add(Health.HEALTHY, worker_id="w-1", host="host-c")
    page = as_viewer.get("/workers/w-1/logs/").content.decode()
    assert "the poller of host-c has not answered" in page
