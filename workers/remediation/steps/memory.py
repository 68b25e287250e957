"""The PM daemon's memory: ``pm-state.json``, which a daemon rewrites that takes no lock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from workers.coordination import edits, writer
from workers.coordination.layout import PM_STATE
from workers.coordination.redaction import redact
from workers.remediation.ground import Ground
from workers.remediation.work import Step, StepFailed, Work

PACE = 0.05  # seconds between two looks
QUIET = 0.4  # seconds for which the entry has to stay away (or there) before it is believed


def plan_forget(worker_id: str, ground: Ground) -> list[Step]:
    if not ground.layout.pm_state.exists():
        return []
    shown = {"path": PM_STATE, "diff": [["-", f'"monitored_workers.{worker_id}": {{…}}']]}
    detail = f"Take the entry of {worker_id}, whichever run it describes, out of"
    return [Step("forget", PM_STATE, detail, shown, {"worker_id": worker_id})]


def plan_remember(worker_id: str, entry: dict[str, Any]) -> Step:
    shown = {"path": PM_STATE, "diff": [["+", f'"monitored_workers.{worker_id}": {{…}}']]}
    detail = f"Put the entry of {worker_id} back, unless there is one, into"
    return Step("remember", PM_STATE, detail, shown, {"worker_id": worker_id, "entry": entry})


def forget(work: Work) -> str:
    """Take the entry out, look whether it stays out, and say so if the daemon puts it back."""
    worker_id = work.data["worker_id"]

    def change(data: bytes) -> bytes | None:
        entry = _entries(data).get(worker_id)
        splice = edits.remove_member(data, ("monitored_workers", worker_id))
        if splice is None:
            return None
        if not work.data.get("taken"):
            kept = redact(entry) if isinstance(entry, dict) else None
            work.note(taken=True, entry=kept if kept == entry else None)  # what held a secret cannot be put back
        return edits.apply(data, [splice])

    settled, times = _until_quiet(work, change)
    if not work.data.get("taken"):
        return f"There was no entry of {worker_id}"
    again = f"; the PM daemon had put it back {'once' if times == 2 else f'{times - 1} times'}" if times > 1 else ""
    if not settled:
        return f"Taken out, but the PM daemon keeps putting {worker_id} back; it forgets it once the spec is gone"
    return f"Taken out{again}"


def remember(work: Work) -> str:
    worker_id, entry = work.data["worker_id"], work.data["entry"]

    def change(data: bytes) -> bytes | None:
        if worker_id in _entries(data):
            return None
        splice = edits.set_value(data, ("monitored_workers", worker_id), entry)
        return edits.apply(data, [splice]) if splice else None

    _, times = _until_quiet(work, change)
    return "Put back" if times else "There is an entry already"


def _entries(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    entries = document.get("monitored_workers") if isinstance(document, dict) else None
    return entries if isinstance(entries, dict) else {}


def _until_quiet(work: Work, change: Callable[[bytes], bytes | None]) -> tuple[bool, int]:
    """Apply a change until the file has said so for a while; False where it does not within our patience.

    Also returns how often it was applied: more than once where the daemon took it back.
    """
    layout, ground = work.ground.layout, work.ground
    end = time.monotonic() + ground.patience.settle
    quiet_since, trouble, times = None, "", 0
    while time.monotonic() < end:
        try:
            data = writer.read(layout, PM_STATE)
            if data is None:
                return True, times
            changed = change(data)
            if changed is None:
                quiet_since = quiet_since or time.monotonic()
                if time.monotonic() - quiet_since >= QUIET:
                    return True, times
            else:
                quiet_since = None
                writer.replace(layout, PM_STATE, changed, expected=data, token=work.token)
                times += 1
            trouble = ""
        except writer.ChangedError:
            quiet_since = None
            continue  # the daemon was faster: at once once more
        except (ValueError, edits.EditError) as error:  # half written, or left empty by two writers
            quiet_since, trouble = None, f"{PM_STATE} cannot be parsed ({error}), so the entry was left alone"
        except writer.WriteError as error:
            raise StepFailed(str(error)) from None
        ground.wait(PACE)
    if trouble:
        raise StepFailed(trouble)
    return False, times
