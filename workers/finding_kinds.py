"""The table of what can be odd in a coordination directory. Page, admin and command line read this and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .remediation.actions import CLEAN_UP, FORCE_FAIL, QUARANTINE, REPAIR_SPEC, Action


class Kind(StrEnum):
    """What is odd, the most urgent first: the order of pages."""

    UNREADABLE = "unreadable"
    TWO_RUNS = "two-runs"
    REAPPEARED = "reappeared"
    DUPLICATE = "duplicate"
    UNREADABLE_FILE = "unreadable-file"
    UNMONITORED = "no-pm-entry"
    NO_SPEC = "no-spec"
    FUTURE = "future"
    NAME = "name"
    ODD = "odd"
    DAMAGED_LOG = "damaged log"
    ORPHAN = "orphan"
    PUT_AWAY = "put-away"
    OTHER = "other"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class About:
    """What people are told about one kind."""

    title: str
    meaning: str
    remedy: str  # what to do about it
    actions: tuple[Action, ...] = ()  # those of the table of actions that fit
    tone: str = "late"  # the state whose hue it has
    shape: str = "▲"


KINDS: dict[Kind, About] = {
    Kind.UNREADABLE: About(
        "Unreadable spec",
        "A spec that is not JSON: no program of the fleet sees its worker, and nothing can be done about it as one.",
        "Repair it where only values are missing (“key”: ,): each becomes null. Otherwise correct the file in an "
        "editor, or move it into quarantine, unchanged.",
        (REPAIR_SPEC, QUARANTINE),
        "unreadable",
        "≠",
    ),
    Kind.TWO_RUNS: About(
        "Two live runs of one id",
        "Two specs in active/ say the same worker id. Logs, check-ins and the PM daemon's entry cannot be told apart.",
        "Find out which of them really runs, and force-fail the other, or give it another id while nobody runs it.",
        (FORCE_FAIL,),
        "crashed",
    ),
    Kind.REAPPEARED: About(
        "Back after clean-up",
        "A run that was cleaned up or force-failed lies in active/ again: a git pull, a heartbeat emitter or another "
        "script has brought its spec back.",
        "Stop what brings it back (an emitter that still runs, an uncommitted move), then clean it up once more.",
        (CLEAN_UP, FORCE_FAIL),
        "crashed",
    ),
    Kind.DUPLICATE: About(
        "The same run in two places",
        "Two files are the same run: the same id, created at the same moment. It is live if one lies in active/.",
        "Compare the two and remove the one that is out of date.",
    ),
    Kind.UNREADABLE_FILE: About(
        "Another unreadable file",
        "A file or directory beside the specs that cannot be read: the PM daemon's, a check-in, a log or what a worker "
        "leaves. What it said before is believed until it can be read again.",
        "Give the poller's user the right to read it, or let who writes it write it anew.",
        tone="unreadable",
        shape="≠",
    ),
    Kind.UNMONITORED: About(
        "Running without PM entry",
        "Its spec says running and the PM daemon is at work, but watches it not, or an earlier run of the same id. It "
        "will neither warn about this worker nor notice its end.",
        "The PM daemon takes a worker up whose spec in active/ says running and when it started; where it keeps an old "
        "entry of the id, remove that from pm-state.json.",
    ),
    Kind.NO_SPEC: About(
        "PM entry without spec",
        "The PM daemon watches an id of which no spec lies anywhere below worker-specs. It never forgets one "
        "by itself, and goes on reporting it as stalled.",
        "Remove the entry from pm-state.json while the PM daemon is stopped, or bring the spec back.",
    ),
    Kind.FUTURE: About(
        "Time in the future",
        "A moment that is yet to come: a clock is ahead, or a local time says that it is UTC. It is not believed.",
        "Correct the clock of the host that wrote it, or the script's time zone; it goes when the moment has passed.",
    ),
    Kind.NAME: About(
        "Name is not the id",
        "The file is not called like the worker it describes, and the fleet's scripts look workers up by that name.",
        "Rename the file to <id>.json where no file of that name is there; in an archive it does no harm.",
    ),
    Kind.ODD: About(
        "Odd value",
        "A value of the wrong type or out of bounds, or times in an impossible order. It is passed over.",
        "Correct the value, or the script that wrote it.",
    ),
    Kind.DAMAGED_LOG: About(
        "Damaged stretch of a log",
        "Bytes of an event log out of which no record can be read. What lies before and behind them was read.",
        "Nothing can be won back. Look at the file around that offset to learn who wrote it.",
    ),
    Kind.ORPHAN: About(
        "Worker directory without spec",
        "A directory below agents/workers that belongs to no spec: its worker was never known, or the spec is gone.",
        "Look whether a process still works in it (page Processes); then remove it or move it away.",
        tone="pending",
        shape="○",
    ),
    Kind.PUT_AWAY: About(
        "Directory put away as a zombie's",
        "The fleet's clean-up script has moved this worker's directory below agents/workers/zombies.",
        "Nothing, or remove it when nobody needs its logs any more. While it is there the script cannot put a later "
        "worker of that id away.",
        tone="pending",
        shape="○",
    ),
    Kind.OTHER: About(
        "JSON that is no spec",
        "A file among the specs that is a manifest, a template, a report or something else. It is counted apart.",
        "Nothing where it belongs there; scripts that count *.json count it as a worker.",
        tone="pending",
        shape="○",
    ),
    Kind.QUARANTINED: About(
        "In quarantine",
        "An unreadable spec that was set aside in worker-specs/quarantine, unchanged, where it disturbs nobody.",
        "Undo the quarantine from its remediation to have it back, or remove the file when nobody needs it.",
        tone="pending",
        shape="○",
    ),
}
