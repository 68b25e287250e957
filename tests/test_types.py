"""How each worker type did: figures worked out by hand, and runs whose specs tell nonsense."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from workers.export import csv_response
from workers.health import Health
from workers.measures import Use, use
from workers.models import Worker
from workers.queries.period import Period
from workers.queries.types import HEADER, TypeRow, Types, table, worker_types

from . import factories
from .markup import flat

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 30, 9, 30, tzinfo=UTC)


def period(query: str = "") -> Period:
    return Period.parse(QueryDict(query), NOW)


def run(number: int, health: Health = Health.COMPLETED, took: float | None = 10, **fields: Any) -> Worker:
    """Store a run of type `scan` that ended an hour ago and took so many minutes; None: nobody knows when it began."""
    ended = NOW - timedelta(hours=1)
    began = None if took is None else ended - timedelta(minutes=took)
    values: dict[str, Any] = {
        **{"worker_id": f"w-{number}", "worker_type": "scan", "created_at": ended - timedelta(days=1)},
        **{"started_at": began, "ended_at": ended, "time_limit_minutes": None, "token_budget": None},
        **{"tokens_used": None, "health_since": ended, "run_key": str(number)},
    }
    worker = factories.build(health, number, NOW, **{**values, **fields})
    worker.save()
    return worker


def row(types: Types, name: str = "scan") -> TypeRow:
    return next(each for each in types.rows if each.worker_type == name)


def drawn(types: Types) -> str:
    return flat(render_to_string("workers/history/types.html", {"types": types}))


def test_each_type_has_its_outcomes_and_durations() -> None:
    for number, took in enumerate((10, 20, 30, 40), 1):
        run(number, took=took)
    run(5, Health.FAILED, took=100)
    run(6, Health.CANCELLED, took=1)
    run(7, Health.FAILED, worker_type="fix", took=3)
    types = worker_types(period())
    scan, fix = row(types), row(types, "fix")
    assert [each.worker_type for each in types.rows] == ["scan", "fix"]
    assert (scan.runs, scan.completed, scan.failed, scan.cancelled, scan.lasting) == (6, 4, 1, 1, 0)
    assert scan.success == 4 / 5
    assert scan.durations is not None
    assert scan.durations.median == timedelta(minutes=25)  # of 1 10 20 30 40 100
    assert scan.durations.p90 == timedelta(minutes=100)  # the sixth of six
    assert (fix.success, fix.runs) == (0.0, 1)
    assert (types.total.runs, types.total.success) == (7, 4 / 6)
    page = drawn(types)
    assert page.count("All types") == 1
    assert "66.7 %" in page
    assert "1 h 40 min" in page


def test_what_it_used_of_its_limit() -> None:
    for number, took in enumerate((15, 30, 60, 61), 1):
        run(number, took=took, time_limit_minutes=60)
    run(5, took=500, time_limit_minutes=None)
    run(6, took=500, time_limit_minutes=0)
    time_use = row(worker_types(period())).time
    assert time_use is not None
    assert (time_use.cases, time_use.median, time_use.over) == (4, 0.75, 1)  # exactly its limit is not over it
    assert time_use.p95 == 61 / 60
    assert time_use.share_over == 0.25


def test_what_it_used_of_its_tokens() -> None:
    run(1, token_budget=1000, tokens_used=500)
    run(2, token_budget=1000, tokens_used=1001)
    run(3, token_budget=1000, tokens_used=0)
    run(4, token_budget=0, tokens_used=700)
    run(5, token_budget=1000, tokens_used=-5)
    run(6, token_budget=1000)
    run(7, tokens_used=1000)
    tokens = row(worker_types(period())).tokens
    assert tokens == Use(3, 0.5, 1.001, 1)


def test_absurd_token_counts_are_shown_and_break_nothing() -> None:
    run(1, token_budget=1, tokens_used=2**63 - 1)
    types = worker_types(period())
    assert (tokens := row(types).tokens) is not None
    assert tokens.over == 1
    assert "&gt; 100,000 %" in drawn(types)


@pytest.mark.parametrize(
    "times",
    [
        {"started_at": None},
        {"started_at": NOW, "ended_at": NOW - timedelta(hours=1)},
        {"started_at": NOW - timedelta(hours=2), "ended_at": None},
    ],
    ids=["no start", "start after end", "no end"],
)
def test_a_run_without_usable_times_has_no_duration(times: dict[str, Any]) -> None:
    run(1, time_limit_minutes=60, **times)
    found = worker_types(period())
    scan = row(found)
    assert (scan.completed, scan.untimed, scan.durations, scan.time) == (1, 1, None, None)
    assert "1 without usable times" in drawn(found)
    assert "1 of 1 ended run has no usable times" in drawn(found)


def test_a_run_of_no_time_took_none() -> None:
    run(1, took=0)
    scan = row(worker_types(period()))
    assert (scan.untimed, scan.durations and scan.durations.median) == (0, timedelta())


def test_a_run_belongs_to_the_stretch_in_which_it_began_or_ended() -> None:
    since, until = NOW - timedelta(days=7), NOW
    second = timedelta(seconds=1)
    run(1, ended_at=since, started_at=since - timedelta(days=1))  # the first moment is in it
    run(2, ended_at=since - second, started_at=since - timedelta(days=1))
    run(3, Health.HEALTHY, started_at=since, ended_at=None)
    run(4, Health.HEALTHY, started_at=since - second, ended_at=None)
    run(5, ended_at=until, started_at=until - second)  # began in it; it ended just after it
    run(6, ended_at=until + second, started_at=until)
    scan = row(worker_types(period()))
    assert (scan.runs, scan.completed, scan.lasting) == (3, 1, 2)
    assert scan.durations is not None
    assert scan.durations.cases == 1


def test_a_run_that_lasts_has_no_rate() -> None:
    run(1, Health.HEALTHY, started_at=NOW - timedelta(hours=1), ended_at=None)
    types = worker_types(period())
    assert (row(types).success, row(types).lasting) == (None, 1)
    assert "none ended so" in drawn(types)
    assert "not told" in drawn(types)
    assert "0 %" not in drawn(types)


def test_each_filter_narrows() -> None:
    run(1, master="security", host="host-a", task_type="audit")
    run(2, worker_type="fix", master="security", host="host-b", task_type="patch")
    for query, ids in {
        "worker_type=fix": ["fix"],
        "master=security&host=host-a": ["scan"],
        "task_type=patch": ["fix"],
        "host=nowhere": [],
    }.items():
        assert [each.worker_type for each in worker_types(period(query)).rows] == ids, query


def test_without_runs_it_says_so() -> None:
    assert "No run began or ended in the last 7 days." in drawn(worker_types(period()))
    filtered = drawn(worker_types(period("host=h")))
    assert "that fits the filter" in filtered
    assert "<table" not in filtered


def test_a_hostile_type_is_only_text() -> None:
    run(1, worker_type="<script>alert(1)</script>")
    run(2, worker_type="")
    page = drawn(worker_types(period()))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "no type given" in page


def test_the_file_has_a_line_a_type_under_its_header() -> None:
    run(1, took=30, time_limit_minutes=60, token_budget=10, tokens_used=5)
    run(2, Health.FAILED, took=None, worker_type="=cmd()")
    response = csv_response(RequestFactory().get("/"), "types", HEADER, table(worker_types(period())))
    lines = b"".join(response.streaming_content).decode().splitlines()  # type: ignore[arg-type]
    assert lines[0].startswith("worker_type,runs,completed")
    assert lines[1] == "'=cmd(),1,0,1,0,0,0.0,0,1,,,0,,,,0,,"
    assert lines[2] == "scan,1,1,0,0,0,1.0,1,0,1800,1800,1,0.5,0.5,0,1,0.5,0"
    assert {line.count(",") for line in lines} == {len(HEADER) - 1}


def test_use_of_nothing_is_nothing() -> None:
    assert use([]) is None
    assert use([(5, 0), (5, -1), (-1, 5)]) is None
    assert use([(n, 20) for n in range(1, 21)]) == Use(20, 0.525, 0.95, 0)  # the 19th of 20


def test_ten_thousand_runs_are_one_quick_query() -> None:
    ended = NOW - timedelta(hours=1)
    workers = [
        factories.build(
            *(Health.FAILED if number % 5 == 0 else Health.COMPLETED, number, NOW),
            **{"created_at": ended, "started_at": ended - timedelta(seconds=number), "ended_at": ended},
            run_key=str(number),
        )
        for number in range(10_000)
    ]
    Worker.objects.bulk_create(workers, batch_size=500)
    took = []
    with CaptureQueriesContext(
        connection,
    ) as queries:
        types = worker_types(period())
    for _ in range(5):
        began = time.perf_counter()
        worker_types(period())
        took.append(time.perf_counter() - began)
    assert (len(queries), types.total.runs) == (1, 10_000)
    assert min(took) < 0.25  # about 50 ms on a quiet machine
