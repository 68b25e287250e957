"""What wakes the poller: changes in its directories, also in those that come later or come anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.watch import Alarm, FileWatch

from .conftest import Home
from .running import Place, until


@pytest.fixture
def alarm(tmp_path: Path) -> Iterator[Alarm]:
    """Rung by whatever changes in ``one`` and ``two/below``, of which only ``one`` is there."""
    (tmp_path / "one").mkdir()
    alarm = Alarm()
    watch = FileWatch(alarm, [tmp_path / "one", tmp_path / "two" / "below"])
    watch.start()
    until(lambda: _touched(alarm, tmp_path / "one"), what="a watch that stands")
    yield alarm
    watch.stop()


def _touched(alarm: Alarm, directory: Path) -> bool:
    """Write a new file into a directory; whether it is heard of."""
    path = directory / f"file-{len(list(directory.iterdir()))}"
    path.touch()
    while heard := alarm.wait(1):  # what changed before may be heard of first
        if str(path) in heard:
            return True
    return False


def test_a_directory_that_comes_later_is_reported_and_watched(alarm: Alarm, tmp_path: Path) -> None:
    late = tmp_path / "two" / "below"
    late.mkdir(parents=True)
    until(lambda: str(late) in alarm.wait(1), what="the new directory")
    assert _touched(alarm, late)
    assert _touched(alarm, tmp_path / "one")


def test_one_that_goes_and_comes_again_is_watched_again(alarm: Alarm, tmp_path: Path) -> None:
    one = tmp_path / "one"
    shutil.move(one, tmp_path / "away")
    one.mkdir()
    until(lambda: _touched(alarm, one), what="the directory that came anew is watched")


def test_one_that_has_gone_leaves_the_others_watched(alarm: Alarm, tmp_path: Path) -> None:
    late = tmp_path / "two" / "below"
    late.mkdir(parents=True)
    until(lambda: _touched(alarm, late), what="the new directory is watched")
    shutil.rmtree(tmp_path / "one")
    until(lambda: _touched(alarm, late), what="the other one is watched still")


def test_directories_of_workers_that_are_made_after_the_start_wake_the_poller(place: Place, home: Home) -> None:
    for name in ("late-directory-1", "late-directory-2"):
        home.spec(name)
    crashed = "SELECT 1 FROM workers_worker WHERE health = 'crashed' AND worker_id ="
    place.start("poll", RELAY_POLL_SECONDS="3600")
    until(lambda: len(place.query("SELECT 1 FROM workers_worker WHERE health = 'zombie'")) == 2)
    home.write("agents/workers/late-directory-1/status.json", '{"status": "failed"}')
    until(lambda: place.query(f"{crashed} 'late-directory-1'"), what="what came with the directory")
    home.write("agents/workers/late-directory-2/status.json", '{"status": "failed"}')
    until(lambda: place.query(f"{crashed} 'late-directory-2'"), what="what changed in it later")
