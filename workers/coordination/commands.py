"""What the command line of a process says of it: work, or somebody who only looks on.

The launchers of the fleet, its viewers and its heartbeat emitters are told apart by their arguments alone. Pure: it
knows argument lists, no processes. Source of the rules: DESIGN, section 3, "Which process is the worker's".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from posixpath import basename

from .files import printable


class Kind(StrEnum):
    """What a process is there for."""

    WORK = "a program"
    PROMPT = "a shell prompt"
    VIEWER = "a viewer"
    COMPANION = "a heartbeat emitter"
    MULTIPLEXER = "a terminal multiplexer"


_TO_READ = """tail head less more most cat tac bat nl od xxd hexdump strings grep egrep fgrep zgrep rg ag ack jq yq
    fx gron sed awk gawk mawk cut sort uniq wc tr tee column diff cmp colordiff delta watch multitail lnav ccze"""
_TO_EDIT = """vi vim vim.basic vim.tiny vim.gtk3 nvim view vimdiff nano pico emacs emacsclient emacs-gtk emacs-nox ed ex
    joe micro hx helix kak mcedit gedit kate kwrite subl sublime_text code code-insiders codium cursor zed"""
_TO_FIND_AND_MOVE = """ls ll exa eza tree find fd fdfind locate stat file du df ncdu ranger nnn lf mc touch mkdir rmdir
    rm cp mv ln chmod chown rsync scp sftp ssh mosh tar gzip gunzip zip unzip zstd sha256sum md5sum realpath readlink
    git tig"""
_TO_BROWSE = """curl wget http https xh lynx w3m links firefox chromium chrome google-chrome xdg-open open gh docker
    podman kubectl"""
_TO_WATCH = """ps pgrep pkill kill killall pidof pstree top htop btop atop lsof fuser gdb strace ltrace perf inotifywait
    inotifywatch entr fswatch journalctl systemctl"""
_TO_HAND_ON = "xargs parallel emit-event.sh create-task.sh"  # what they start is looked at for itself
#: Commands that look at a worker's files, move them about or hand its id on. None of them does its work.
VIEWERS = frozenset(f"{_TO_BROWSE} {_TO_READ} {_TO_EDIT} {_TO_FIND_AND_MOVE} {_TO_WATCH} {_TO_HAND_ON}".split())
MULTIPLEXERS = frozenset({"tmux", "screen", "SCREEN", "zellij", "byobu", "tmate", "dtach", "abduco"})
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "tcsh", "csh"})
INTERPRETER = re.compile(r"(?:python|pypy|node|nodejs|perl|ruby|deno|bun|php|lua)[\d.]*")
#: Commands that stay as the parent of the command in their arguments.
WRAPPERS = frozenset(
    {
        "sudo",
        "doas",
        "su",
        "runuser",
        "timeout",
        "time",
        "stdbuf",
        "busybox",
        "nice",
        "nohup",
        "setsid",
        "env",
        "unbuffer",
    }
)
#: Longer arguments are prose.
LONGEST_WORD = 255  # characters, as long as a file name may be


@dataclass(frozen=True, slots=True)
class Command:
    """What was made of one argument list."""

    kind: Kind
    name: str  # of the program, or of the script that a shell or an interpreter runs
    path: str  # where it was started from, as far as the arguments say
    words: frozenset[str]  # whole arguments and path components: where an exact id is looked for
    script: str = ""  # the text behind a shell's -c and what follows it; an id in there proves nothing

    @property
    def barren(self) -> bool:
        """Whether what it starts is no work either: the ``sleep`` of an emitter, what ``watch`` repeats."""
        return self.kind is Kind.COMPANION or (self.kind is Kind.VIEWER and self.name == "watch")


def read_command(argv: Sequence[str], homes: Sequence[str] = ()) -> Command:
    """Tell what a command line is. ``homes`` are the paths of the coordination home, which may hold blanks."""
    if not argv:
        return Command(Kind.WORK, "", "", frozenset())
    name, path = basename(argv[0]).lstrip("-"), argv[0]
    inline = None
    if name in SHELLS:
        path, inline = _shell(argv)
        if inline is not None:
            return _inline(name, inline)
    elif INTERPRETER.fullmatch(name):
        path = _program(argv)
        if len(argv) == 1:
            return Command(Kind.PROMPT, name, argv[0], frozenset())
    elif name == "script" and (text := _recorded(argv)):
        return _inline(name, text)
    elif name in WRAPPERS and any(basename(arg) in VIEWERS for arg in argv[1:]):
        return Command(Kind.VIEWER, name, path, frozenset())
    if not path and name in SHELLS:
        return Command(Kind.PROMPT, name, argv[0], frozenset())
    name = printable(basename(path) or name)
    return Command(_kind(name), name, path or argv[0], frozenset(_words(argv, homes)))


def _kind(name: str) -> Kind:
    if name in MULTIPLEXERS or name.startswith("tmux:"):
        return Kind.MULTIPLEXER
    if "heartbeat-emitter" in name or name.endswith("heartbeat.sh"):
        return Kind.COMPANION
    return Kind.VIEWER if name in VIEWERS else Kind.WORK


def _shell(argv: Sequence[str]) -> tuple[str, list[str] | None]:
    """Find what a shell runs: the path of a script, "" for none, or all that stands behind ``-c``."""
    inline, skip = False, False
    for position, arg in enumerate(argv[1:], start=1):
        if skip:
            skip = False
        elif arg == "--":
            continue
        elif arg in ("--rcfile", "--init-file"):
            skip = True
        elif arg[:1] in ("-", "+") and len(arg) > 1:
            flags = "" if arg.startswith("--") else arg[1:]
            inline = inline or "c" in flags
            skip = flags.endswith(("o", "O"))  # -o pipefail, -O extglob
        else:
            return (arg, None) if not inline else ("", list(argv[position:]))
    return "", [] if inline else None


def _recorded(argv: Sequence[str]) -> list[str]:
    """Find the text that ``script -c`` hands to a shell."""
    for position, arg in enumerate(argv[1:], start=1):
        if arg.startswith("-") and not arg.startswith("--") and arg.endswith("c"):
            return list(argv[position + 1 : position + 2])
        if arg.startswith("--command="):
            return [arg.partition("=")[2]]
    return []


def _program(argv: Sequence[str]) -> str:
    """Find the script or module that an interpreter runs, "" where its text is an argument."""
    for arg in argv[1:]:
        if arg in ("-c", "-e", "--eval"):
            break
        if not arg.startswith("-"):
            return arg
    return ""


def _inline(shell: str, script: list[str]) -> Command:
    """Judge ``sh -c …``: its arguments name nobody, as with the runbook's ``sh -c '…' _ worker-001.json``."""
    first = script[0].split(maxsplit=1)[:1] if script else []
    kind = Kind.VIEWER if first and basename(first[0]) in VIEWERS else Kind.WORK
    return Command(kind, shell, shell, frozenset(), "\n".join(script))


def _words(argv: Sequence[str], homes: Sequence[str]) -> Iterator[str]:
    """Yield whole arguments, and the components of those that are paths. A prompt is prose, whatever it mentions."""
    for arg in argv:
        if len(arg) <= LONGEST_WORD:
            yield arg
        path = next((arg.removeprefix(f"{home}/") for home in homes if arg.startswith(f"{home}/")), arg)
        if "/" in path and "://" not in path and not re.search(r"\s", path):
            yield from filter(None, path.split("/"))
