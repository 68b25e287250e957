"""The table of actions. Buttons, bulk bar, command line, admin, roles and executor all read this and nothing else.

Source: DESIGN, section 3, "Remediations": the runbook's resolution steps A to E, and the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from workers.health import RUNNING, Health


class Candidate(Protocol):
    """What is asked of a run before anything is planned: a row of workers has it."""

    live: bool
    health: str


@dataclass(frozen=True)
class Action:
    """One thing that can be done about a run, or about a host where ``runs`` is False."""

    name: str  # as the command line says it
    label: str  # as buttons say it
    hint: str  # what it does, in four words
    permission: str  # codename of a permission of the app
    from_health: frozenset[Health] = frozenset()
    live: bool = True  # only of live runs
    runs: bool = True
    undoable: bool = False
    may_recover: bool = False  # its task can be recovered in the same act
    of_file: bool = False  # of an unreadable file as it is, wherever it lies; no process is touched
    event: str = ""  # what it appends to the dashboard's events
    done: str = ""  # what has happened when it is done

    @property
    def full_permission(self) -> str:
        return f"workers.{self.permission}"


RESTART = Action(
    name="restart",
    label="Restart",
    hint="stop, reset, start again",
    permission="restart_worker",
    from_health=frozenset({Health.PENDING, Health.LATE, Health.STALLED, Health.ZOMBIE, Health.CRASHED}),
    done="restarted",
)
CLEAN_UP = Action(
    name="clean-up",
    label="Clean up",
    hint="file a dead worker as failed",
    permission="clean_up_worker",
    from_health=frozenset({Health.ZOMBIE, Health.CRASHED}),
    undoable=True,
    may_recover=True,
    event="worker_zombie_cleaned",
    done="cleaned up",
)
FORCE_FAIL = Action(
    name="force-fail",
    label="Force fail",
    hint="stop it, mark it failed",
    permission="force_fail_worker",
    from_health=RUNNING | {Health.PENDING},
    undoable=True,
    may_recover=True,
    event="worker_force_failed",
    done="failed by hand",
)
RECOVER_TASK = Action(
    name="recover-task",
    label="Recover task",
    hint="queue its task once more",
    permission="recover_task",
    from_health=frozenset({Health.FAILED}),
    live=False,
    done="recovered",
)
REPAIR_SPEC = Action(
    name="repair-spec",
    label="Repair spec",
    hint="write null for missing values",
    permission="repair_spec",
    from_health=frozenset({Health.UNREADABLE}),
    live=False,
    undoable=True,
    of_file=True,
    event="worker_spec_repaired",
    done="repaired",
)
QUARANTINE = Action(
    name="quarantine",
    label="Quarantine",
    hint="set the file aside, unchanged",
    permission="quarantine_spec",
    from_health=frozenset({Health.UNREADABLE}),
    live=False,
    undoable=True,
    of_file=True,
    event="worker_spec_quarantined",
    done="in quarantine",
)
ARCHIVE_FAILED = Action(
    name="archive-failed",
    label="Archive failed",
    hint="put failed/ away, with a manifest",
    permission="archive_failed",
    live=False,
    runs=False,
    undoable=True,
    event="failed_workers_archived",
    done="archived",
)
UNDO = Action(
    name="undo",
    label="Undo",
    hint="put the files back",
    permission="undo_remediation",
    live=False,
    runs=False,
    event="remediation_undone",
    done="undone",
)
ACTIONS = {
    action.name: action
    for action in (RESTART, CLEAN_UP, FORCE_FAIL, RECOVER_TASK, REPAIR_SPEC, QUARANTINE, ARCHIVE_FAILED, UNDO)
}
#: Those that stand beside a run, in the order of their buttons.
OF_A_RUN = tuple(action for action in ACTIONS.values() if action.runs and not action.of_file)
#: Those that stand beside it besides, while its file cannot be parsed.
OF_A_FILE = tuple(action for action in ACTIONS.values() if action.of_file)
#: Those that many runs can be selected for.
IN_BULK = (RESTART, CLEAN_UP, FORCE_FAIL, RECOVER_TASK)


def objection(action: Action, run: Candidate) -> str:
    """Say in a sentence why this run is no case for the action; "" where it is one."""
    health = Health(run.health)
    if health in action.from_health and (run.live or not action.live):
        return ""
    if health is Health.UNREADABLE:
        return "Its file cannot be parsed, so it must be repaired first"
    if action.of_file:
        return "Its file can be parsed, so nothing has to be done about it"
    if action.live and not run.live:
        return "This run is over; only a live one can be acted on"
    if not action.live and run.live:
        return "Only after it has failed"
    *others, last = sorted(action.from_health, key=lambda state: -state.severity)
    return f"Only for {', '.join(others)}{' or ' if others else ''}{last} workers"


def first_aid(health: Health) -> Action | None:
    """What is usually done about this state: the one button of a row; None where nothing is to be repaired."""
    if health in CLEAN_UP.from_health:
        return CLEAN_UP
    return RESTART if health is Health.STALLED else None
