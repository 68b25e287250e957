"""A worker that lives and is not getting on: told by its own words, with the lines as evidence."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from workers.coordination.stuck import PATTERNS, StuckKind, recognise
from workers.cycle import Cycle
from workers.models import Worker

from .conftest import Home, iso

STAMP = "[2025-11-16T07:24:50-0600] "
EXAMPLES = {
    StuckKind.RATE_LIMITED: {
        "the words themselves": "WARN: Rate limited, waiting 60 s",
        "HTTP 429 or 529": "ERROR: API returned 529",
        "429 in words": "Too Many Requests",
        "the provider's overload": '{"type":"overloaded_error","message":"Overloaded"}',
        "a quota that is used up": "Claude usage limit reached",
        "a wait that was asked for": "retry-after: 120",
    },
    StuckKind.WAITING: {
        "a yes-or-no question": "Overwrite src/app.py? [y/N]",
        "a question of the tool": "Do you want to proceed?",
        "a choice": "❯ 1. Yes",
        "a key to be pressed": "Press Enter to continue…",
        "waiting, in words": "INFO: Waiting for user approval",
        "a permission that is missing": "Bash(rm -rf build) requires approval",
        "a prompt": "Password for https://git.example.com:",
        "a login that has run out": "Invalid API key · Please run /login",
    },
}
CASES = [(kind, name, line) for kind, lines in EXAMPLES.items() for name, line in lines.items()]


@pytest.mark.parametrize(("kind", "name", "line"), CASES, ids=lambda value: str(value)[:40])
def test_each_pattern_of_the_table_is_recognised(kind: StuckKind, name: str, line: str) -> None:
    assert PATTERNS[kind][name].search(line)
    found = recognise(["INFO: Read(src/app.py) 212 lines", STAMP + line])
    assert found is not None
    assert found.kind is kind
    assert found.lines[-1] == STAMP + line


def test_every_pattern_has_an_example() -> None:
    assert {kind: set(lines) for kind, lines in EXAMPLES.items()} == {
        kind: set(found) for kind, found in PATTERNS.items()
    }


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["", "  "],
        ["INFO: Bash(pytest -q) 429 passed in 4.29s"],
        ["ERROR: API returned 529 overloaded_error, retry 1 of 5 in 2 s", "INFO: Retry succeeded after 2 s"],
        ["INFO: Edit(src/rate_limiter.py) +18 -7"],
        ["Do you want to proceed?", "INFO: yes"],
        ["INFO: rate limit: none"],
        [f"Step {number} of 100" for number in range(30)],
        ["INFO: same"] * 5,
        [f"INFO: Read(src/file{number}.py) 10 lines" for number in range(20)],
    ],
)
def test_ordinary_words_say_nothing(lines: list[str]) -> None:
    assert recognise(lines) is None


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"[2025-11-16T07:24:{n:02}-0600] INFO: polling" for n in range(6)], "the same line: 6 times"),
        ([f"INFO: Bash(pytest -q) 86 passed in {n}.12s" for n in range(8)], "the same tool call: 8 times"),
        (["Read(a.py) ok", "Edit(a.py) failed"] * 4, "the same 2 tool calls: 4 times"),
        (["one", "two", "three"] * 5, "the same 3 lines: 5 times"),
    ],
)
def test_who_repeats_itself_is_recognised(lines: list[str], said: str) -> None:
    found = recognise(["INFO: begun", *lines])
    assert found is not None
    assert (found.kind, found.certain) == (StuckKind.REPEATING, True)
    assert said in found.text


@pytest.mark.django_db
def test_it_is_a_reason_and_a_mark_with_the_lines_as_evidence_and_goes_when_it_goes_on(home: Home) -> None:
    home.spec("w-1", execution__started_at=iso(datetime.now(UTC) - timedelta(minutes=2)))
    log = "agents/workers/w-1/logs/stdout.log"
    home.append(log, "INFO: begun\nAllow Bash(rm -rf build)? [y/N]\n")
    with subprocess.Popen(["sleep", "600"], cwd=home.path / "agents/workers/w-1") as process:
        try:
            cycle = Cycle(home.path, "host-a", 2.0)
            cycle.start(datetime.now(UTC))
            cycle.run_once(datetime.now(UTC))
            assert Worker.objects.get().stuck == "", "somebody may answer at once"
            cycle.run_once(datetime.now(UTC) + timedelta(seconds=62))
            worker = Worker.objects.get()
            assert (worker.health, worker.stuck) == ("healthy", "waiting for a human")
            (reason,) = [reason for reason in worker.reasons if "lines" in reason]
            assert (reason["source"], reason["side"]) == (log, "against")
            assert reason["lines"] == ["INFO: begun", "Allow Bash(rm -rf build)? [y/N]"]
            home.append(log, "INFO: yes, going on\n")
            cycle.run_once(datetime.now(UTC) + timedelta(seconds=64))
            assert Worker.objects.get().stuck == ""
        finally:
            process.kill()


@pytest.mark.django_db
def test_a_worker_that_checks_in_as_blocked_says_so_too(home: Home) -> None:
    now = datetime.now(UTC)
    home.spec("w-1", execution__started_at=iso(now - timedelta(minutes=2)))
    home.write(
        f"coordination/worker-checkins/w-1-{now:%Y%m%dT%H%M%S}Z.json",
        f'{{"worker_id":"w-1","timestamp":"{iso(now)}","status":"blocked","current_step":"waiting for approval"}}',
    )
    directory = home.path / "agents/workers/w-1"
    directory.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"], cwd=directory) as process:
        try:
            cycle = Cycle(home.path, "host-a", 2.0)
            cycle.start(now)
            cycle.run_once(datetime.now(UTC))
        finally:
            process.kill()
    assert Worker.objects.get().stuck == "waiting for a human"
