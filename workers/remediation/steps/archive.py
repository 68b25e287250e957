"""Putting ``failed/`` away into a dated directory with a manifest, and taking it out again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from workers.coordination import writer
from workers.coordination.layout import SPECS
from workers.coordination.parser import parse_spec
from workers.coordination.records import Spec
from workers.remediation.ground import Ground, Refusal, now
from workers.remediation.work import Step, StepFailed, Work, first, listed

from .spec import FAILED

MANIFEST = "MANIFEST.json"


def plan(ground: Ground, shown_before: Mapping[str, Any] | None = None) -> Step:
    """Plan to archive what lies in ``failed/`` now. Raises Refusal where there is nothing.

    ``shown_before`` is the data of this step in a preview: what has come into ``failed/`` since is left there.
    """
    if not ground.layout.inside(ground.layout.failed):
        raise Refusal(f"{FAILED} leads out of the home, so nothing in it is touched")
    try:
        names = sorted(os.listdir(ground.layout.failed))  # noqa: PTH208 - names only
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise Refusal(f"{FAILED} cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    files = [[name, *stamp] for name in names if (stamp := _stamp(ground.layout.failed / name))]
    if shown_before:
        wanted = {name for name, *_ in shown_before["files"]}
        files = [entry for entry in files if entry[0] in wanted]
    if not files:
        raise Refusal("There is nothing in failed/ to be archived")
    target = shown_before["target"] if shown_before else _free_folder(ground)
    shown = {"files": first([name for name, _, _ in files]), "count": len(files)}
    detail = f"Move {listed(len(files), 'file')} of failed/, with a manifest, to"
    data = {"files": files, "target": target, "path": f"{target}/{MANIFEST}"}
    return Step("archive", f"{target}/", detail, shown, data)


def _free_folder(ground: Ground) -> str:
    """Name a directory that is not there yet: two archives of one second do not share one."""
    name = f"{SPECS}/archived/failed-{now():%Y%m%d-%H%M%S}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(name for name in names if not os.path.lexists(ground.layout.home / name))


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a regular file that can be named; None for anything else."""
    try:
        path.name.encode()
        stat = path.lstat()
    except (OSError, UnicodeEncodeError):
        return None
    if path.name.startswith(".") or not path.is_file() or path.is_symlink():
        return None
    return [stat.st_size, stat.st_mtime_ns]


def archive(work: Work) -> str:
    """Move each file that is still what it was in the preview; the manifest comes first, so that none is unlisted."""
    layout, data = work.ground.layout, work.data
    target = data["target"]
    try:
        if writer.read(layout, f"{target}/{MANIFEST}") is None:
            manifest = json.dumps(_manifest(work), indent=2, ensure_ascii=False) + "\n"
            writer.place(layout, f"{target}/{MANIFEST}", manifest.encode(), token=work.token)
        moved, left = list(data.get("moved", ())), []
        for name, *stamp in data["files"]:
            if _stamp(layout.failed / name) == stamp:  # first, since a rename that was killed has left both names
                writer.rename(layout, f"{FAILED}/{name}", f"{target}/{name}")
            if _stamp(layout.home / target / name) != stamp:
                left.append(name)
            elif [name, *stamp] not in moved:
                moved.append([name, *stamp])
    except (writer.WriteError, writer.ChangedError) as error:
        raise StepFailed(str(error)) from None
    finally:
        work.note(moved=[entry for entry in data["files"] if _stamp(layout.home / target / entry[0]) == entry[1:]])
    kept = f"; {listed(len(left), 'file')} changed meanwhile and stayed: {', '.join(left[:5])}" if left else ""
    return f"Moved {listed(len(moved), 'file')} to {target}{kept}"


def _manifest(work: Work) -> dict[str, Any]:
    workers = []
    for name, size, _ in work.data["files"]:
        entry: dict[str, Any] = {"file": name, "bytes": size}
        with contextlib.suppress(writer.WriteError):
            data = writer.read(work.ground.layout, f"{FAILED}/{name}")
            spec = parse_spec(data, f"{FAILED}/{name}") if data else None
            if isinstance(spec, Spec):
                entry |= {"worker_id": spec.worker_id, "task_id": spec.task_id, "status": spec.status}
                entry |= {"error": spec.error} if spec.error else {}
        workers.append(entry)
    return {
        "archived_at": f"{now():%Y-%m-%dT%H:%M:%SZ}",
        "archived_by": f"relay-web, for {work.remediation.actor}",
        "reason": work.remediation.reason,
        "total_workers": len(workers),
        "workers": workers,
    }


# -- the way back


def plan_unarchive(data: Mapping[str, Any], ground: Ground) -> Step:
    """Plan to move the files back. Raises Refusal where one was changed, or another took its place."""
    folder, moved = data["target"], data["moved"]
    for name, *stamp in moved:
        if _stamp(ground.layout.home / folder / name) != stamp:
            raise Refusal(f"{folder}/{name} has been changed, moved or removed since")
        if os.path.lexists(ground.layout.failed / name):
            raise Refusal(f"{FAILED}/{name} is there again, so the archived one cannot be put back into its place")
    shown = {"files": first([name for name, _, _ in moved]), "count": len(moved)}
    detail = f"Remove the manifest of {folder} and move {listed(len(moved), 'file')} back to"
    return Step("unarchive", f"{FAILED}/", detail, shown, {"target": folder, "moved": moved})


def unarchive(work: Work) -> str:
    layout, folder = work.ground.layout, work.data["target"]
    try:
        for name, *stamp in work.data["moved"]:
            if _stamp(layout.home / folder / name) == stamp or _stamp(layout.failed / name) != stamp:
                writer.rename(layout, f"{folder}/{name}", f"{FAILED}/{name}")
        manifest = writer.read(layout, f"{folder}/{MANIFEST}")
        if manifest is not None:
            writer.remove(layout, f"{folder}/{MANIFEST}", expected=manifest)
    except (writer.WriteError, writer.ChangedError) as error:
        raise StepFailed(str(error)) from None
    with contextlib.suppress(OSError):  # somebody has put something into it
        (layout.home / folder).rmdir()
    return f"{listed(len(work.data['moved']), 'file')} are back in failed/"
