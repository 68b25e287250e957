"""The kinds of steps. Each module plans its kind and carries it out, so that the preview and the deed cannot differ."""

from __future__ import annotations

from collections.abc import Callable

from workers.remediation.work import Work

from . import archive, damaged, event, evidence, memory, spec, start, stop, task

#: kind -> what carries it out: returns what was done, in words; raises StepFailed. Can be begun again at any time.
CARRY_OUT: dict[str, Callable[[Work], str]] = {
    "evidence": evidence.keep,
    "stop": stop.stop,
    "rewrite": spec.rewrite,
    "move": spec.move,
    "restore": spec.restore,
    "forget": memory.forget,
    "remember": memory.remember,
    "event": event.append,
    "emit": event.emit,
    "start": start.start,
    "watch": start.watch,
    "create-task": task.create,
    "archive": archive.archive,
    "unarchive": archive.unarchive,
    "mend": damaged.mend,
    "unmend": damaged.unmend,
    "quarantine": damaged.set_aside,
    "bring-back": damaged.bring_back,
}
