"""What a command line is taken for: work, or somebody who only looks on."""

from __future__ import annotations

import pytest

from workers.coordination.commands import Kind, read_command

ID = "worker-001"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("claude -p --dangerously-skip-permissions", Kind.WORK),
        ("node /usr/local/bin/claude -p", Kind.WORK),
        ("/bin/bash ./execute.sh", Kind.WORK),
        ("bash -euo pipefail ./execute.sh", Kind.WORK),
        ("bash -s", Kind.PROMPT),
        ("bash", Kind.PROMPT),
        ("-zsh", Kind.PROMPT),
        ("bash -l", Kind.PROMPT),
        ("/bin/bash --init-file /usr/share/code/shell.sh -i", Kind.PROMPT),
        ("bash -O extglob", Kind.PROMPT),
        ("python3", Kind.PROMPT),
        ("python3 -m http.server", Kind.WORK),
        ("python3 -c pass", Kind.WORK),
        ("sh -c claude", Kind.WORK),
        ("sh -c tail_-f_x", Kind.WORK),
        ("tail -f x", Kind.VIEWER),
        ("/usr/bin/vim.basic x", Kind.VIEWER),
        ("sudo -u bob tail -f x", Kind.VIEWER),
        ("timeout 60 claude -p", Kind.WORK),
        ("xargs -n1 scripts/start-worker.sh", Kind.VIEWER),
        ("/home/relay/scripts/worker-heartbeat-emitter.sh worker-001 77", Kind.COMPANION),
        ("/bin/bash /home/relay/scripts/worker-heartbeat.sh worker-001", Kind.COMPANION),
        ("/bin/bash /home/relay/scripts/heartbeat-monitor-daemon.sh", Kind.WORK),
        ("tmux new-session -d -s worker-001", Kind.MULTIPLEXER),
        ("SCREEN -dmS worker-001", Kind.MULTIPLEXER),
        ("", Kind.WORK),
    ],
)
def test_the_kind_of_a_command(line: str, kind: Kind) -> None:
    assert read_command(line.split()).kind is kind


@pytest.mark.parametrize(
    "argv", [["script", "-qfc", "tail -f stdout.log"], ["curl", "-N", f"http://relay/workers/{ID}/"]]
)
def test_who_only_looks_on_by_other_means_is_a_viewer_too(argv: list[str]) -> None:
    assert read_command(argv).kind is Kind.VIEWER


def test_a_shell_whose_script_begins_with_a_viewer_is_one() -> None:
    assert read_command(["bash", "-c", "tail -f logs/stdout.log | grep ERROR"]).kind is Kind.VIEWER


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["start-worker.sh", ID], True),
        (["/bin/bash", f"/home/relay/agents/workers/{ID}/execute.sh"], True),
        (["run", f"agents/workers/{ID}"], True),
        (["run", f"{ID}.json"], False),
        (["run", f"{ID}0"], False),
        (["run", f"--worker={ID}"], False),
        (["claude", f"Look into agents/workers/{ID}/logs"], False),
        (["claude", "x" * 300 + f" {ID}"], False),
        (["sh", "-c", "ps aux | grep $1", "_", ID], False),
        (["bash", "-lc", f"run {ID}", ID], False),
        (["bash", "-c", "-l", f"run {ID}"], False),
        (["sudo", "tail", "-f", ID], False),
        (["run", f"http://127.0.0.1:8000/workers/{ID}/"], False),
        (["script", "-qfc", f"run {ID}"], False),
    ],
)
def test_an_id_is_a_whole_argument_or_a_part_of_a_path(argv: list[str], named: bool) -> None:
    assert (ID in read_command(argv).words) is named


def test_the_home_itself_names_nobody_and_may_hold_blanks() -> None:
    home = f"/home/my fleet/{ID}"
    words = read_command(["bash", f"{home}/agents/workers/worker-002/execute.sh"], [home]).words
    assert "worker-002" in words
    assert ID not in words


def test_what_stands_behind_c_is_kept_to_see_whom_it_mentions() -> None:
    assert ID in read_command(["sh", "-c", "ps aux | grep $1", "_", f"{ID}.json"]).script
