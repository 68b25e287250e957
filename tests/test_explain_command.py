"""``manage.py explain``: why, in a terminal."""

from __future__ import annotations

from .conftest import Home
from .running import Place


def test_it_says_the_verdict_with_its_reasons_and_their_sources(place: Place, home: Home) -> None:
    home.spec("w-1")
    place.run("poll", "--once")
    said = place.run("explain", "w-1").stdout
    assert "w-1 is zombie" in said
    assert "+ Spec says running, but it has no process" in said
    assert "coordination/worker-specs/active/w-1.json#execution.started_at" in said
    assert "What would turn it healthy: a process of its own" in said


def test_as_json_it_is_one_object_and_nothing_else(place: Place, home: Home) -> None:
    home.spec("w-1")
    place.run("poll", "--once")
    found = place.json("explain", "w-1")
    assert (found["worker_id"], found["health"]) == ("w-1", "zombie")
    assert found["reasons"][0]["side"] == "for"


def test_an_id_that_nobody_has_is_bad_usage(place: Place, home: Home) -> None:
    home.spec("w-1")
    place.run("poll", "--once")
    done = place.run("explain", "w-2", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no worker has the id w-2" in done.stderr


def test_an_earlier_run_is_named_by_its_creation(place: Place, home: Home) -> None:
    home.spec("w-1", status="pending", execution__started_at=None)
    home.spec("w-1", directory="failed", status="failed", created_at="2025-11-20T09:00:00-0600")
    place.run("poll", "--once")
    assert place.json("explain", "w-1")["health"] == "pending"
    assert place.json("explain", "w-1@2025-11-20T15:00:00Z")["health"] == "failed"
