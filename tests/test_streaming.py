"""What is exported or downloaded is sent as it is read, by the server that we run: nothing is held as a whole."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIRequest
from django.test import Client, RequestFactory

from workers.export import csv_response
from workers.models import Remediation
from workers.streaming import BLOCK, streamed

from . import factories
from .conftest import client_of, person

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
ROWS = 4_000


class Source:
    """Parts of a text, and what became of the reading."""

    def __init__(self, parts: int) -> None:
        self.parts, self.read, self.closed = parts, 0, False
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[str]:
        try:
            for _ in range(self.parts):
                self.read += 1
                self.threads.add(threading.get_ident())
                yield "x" * 1024
        finally:
            self.threads.add(threading.get_ident())
            self.closed = True


async def test_a_block_is_sent_before_the_next_is_read_and_all_in_one_thread() -> None:
    """A cursor of the database belongs to the thread that has opened it."""
    source = Source(1000)
    async with ThreadSensitiveContext():  # as the server has it around each request
        mine = await sync_to_async(threading.get_ident)()
        response = streamed(ASGIRequest(SCOPE, io.BytesIO()), source, "text/plain")
        sizes = []
        async for part in response:
            sizes.append(len(part))
            assert source.read * 1024 == sum(sizes)
        await sync_to_async(response.close)()
    assert (sum(sizes), max(sizes), len(sizes)) == (1000 * 1024, BLOCK, 16)
    assert source.threads == {mine}


async def test_a_browser_that_goes_away_ends_the_reading() -> None:
    source = Source(1000)
    async with ThreadSensitiveContext():
        response = streamed(ASGIRequest(SCOPE, io.BytesIO()), source, "text/plain")
        assert await anext(aiter(response))
        await sync_to_async(response.close)()
    assert (source.read, source.closed, len(source.threads)) == (64, True, 1)


def test_another_server_gets_it_in_blocks_as_well() -> None:
    source = Source(100)
    response = streamed(RequestFactory().get("/"), source, "text/plain")
    content = iter(response)
    assert (len(next(content)), source.read) == (BLOCK, 64)
    assert (len(b"".join(content)), source.closed) == (36 * 1024, True)


def test_a_table_without_rows_has_its_head() -> None:
    response = csv_response(RequestFactory().get("/"), "none", ("one", "two"), ())
    assert response.getvalue() == b"one,two\r\n"


def add_rows() -> Client:
    factories.poller()
    same = {"host": factories.HOST, "action": "archive-failed", "actor": "kim", "via": "browser", "state": "done"}
    moment = datetime.now(UTC)
    rows = [Remediation(reason=f"{number} {'x' * 100}", requested_at=moment, **same) for number in range(ROWS)]
    Remediation.objects.bulk_create(rows)
    return client_of(person("reader", "viewer"))


@pytest.mark.django_db(transaction=True)
async def test_an_export_leaves_the_server_in_parts() -> None:
    """The whole way, through all middleware: ours, sessions and Django's own handler."""
    from relay_web.asgi import application

    client = await sync_to_async(add_rows)()
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    headers = [(b"host", b"localhost"), (b"cookie", cookie.encode())]
    scope = {**SCOPE, "path": "/remediations/export.csv", "headers": headers}
    communicator = ApplicationCommunicator(application, scope)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        await communicator.send_input({"type": "http.request", "body": b""})
        start = await communicator.receive_output(30)
        parts = []
        while (message := await communicator.receive_output(30)).get("more_body"):
            parts.append(message["body"])
        await communicator.wait()
    assert start["status"] == 200
    assert [str(each.message) for each in warned if "StreamingHttpResponse" in str(each.message)] == []
    assert len(b"".join(parts).splitlines()) == 1 + ROWS
    assert len(parts) > 5
