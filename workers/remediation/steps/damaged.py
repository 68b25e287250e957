"""Repairing or setting aside a file that cannot be parsed. What counts is its bytes: nobody knows what it means."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from workers.coordination import edits, writer
from workers.coordination.layout import Layout
from workers.remediation.damaged_file import DamagedFile, said_of
from workers.remediation.ground import Ground, Refusal
from workers.remediation.spec_file import fingerprint
from workers.remediation.work import Step, StepFailed, Work

# -- writing null for missing values


def plan_mend(file: DamagedFile, splices: list[edits.Splice]) -> Step:
    """Plan to write null for each missing value. What is taken away are blanks, so it may be kept for the way back."""
    data = {
        "path": file.path,
        "splices": [[splice.offset, splice.old.decode(), splice.new.decode()] for splice in splices],
        "original": file.digest,
        "written": fingerprint(edits.apply(file.data, splices)),
    }
    detail = f"Write null for the missing value{'s' if len(file.blanks()) > 1 else ''} of {said_of(file.blanks())} in"
    return Step("mend", file.path, detail, {"path": file.path, "diff": file.diff(splices)}, data)


def mend(work: Work) -> str:
    path = work.data["path"]
    _rewrite(work, _splices(work.data), was=work.data["original"], becomes=work.data["written"])
    return f"{path} can be parsed"


def plan_unmend(data: Mapping[str, Any], diff: list[list[str]], ground: Ground) -> Step:
    """Plan to put the bytes back as they were. Raises Refusal where somebody has changed the file since."""
    _expect(ground.layout, data["path"], data["written"])
    lines = [["+" if sign == "-" else "-", text] for sign, text in diff]
    detail = "Put the file back, to the byte as it was, at"
    return Step("unmend", data["path"], detail, {"path": data["path"], "diff": lines}, dict(data))


def unmend(work: Work) -> str:
    splices = edits.invert(_splices(work.data))
    _rewrite(work, splices, was=work.data["written"], becomes=work.data["original"])
    return f"{work.data['path']} is what it was, to the byte"


def _splices(data: Mapping[str, Any]) -> list[edits.Splice]:
    return [edits.Splice(offset, old.encode(), new.encode()) for offset, old, new in data["splices"]]


def _rewrite(work: Work, splices: list[edits.Splice], *, was: str, becomes: str) -> None:
    """Change a file that says what it said in the preview; where it says the new text already, it is done."""
    layout, path = work.ground.layout, work.data["path"]
    try:
        present = writer.read(layout, path)
        if present is None:
            raise StepFailed(f"{path} is gone: somebody has moved or removed it")
        if fingerprint(present) == becomes:
            return
        if fingerprint(present) != was:
            raise StepFailed(f"{path} has been changed since the preview; it was left alone")
        writer.replace(layout, path, edits.apply(present, splices), expected=present, token=work.token)
    except (writer.WriteError, writer.ChangedError, edits.EditError) as error:
        raise StepFailed(str(error)) from None


# -- setting aside


def plan_set_aside(file: DamagedFile, target: str) -> Step:
    data = {"source": file.path, "target": target, "original": file.digest}
    return Step("quarantine", target, "Move the file, unchanged, to", {"path": target}, data)


def set_aside(work: Work) -> str:
    _move(work, work.data["source"], work.data["target"])
    return f"Moved to {work.data['target']}"


def plan_bring_back(data: Mapping[str, Any], ground: Ground) -> Step:
    """Plan to move the file back. Raises Refusal where it was changed, or another took its place."""
    source, target = data["target"], data["source"]
    _expect(ground.layout, source, data["original"])
    if ground.exists(f"{ground.layout.home}/{target}"):
        raise Refusal(f"{target} is there again, so nothing can be put back into its place")
    kept = {"source": source, "target": target, "original": data["original"]}
    return Step("bring-back", target, "Move the file, unchanged, back to", {"path": target}, kept)


def bring_back(work: Work) -> str:
    _move(work, work.data["source"], work.data["target"])
    return f"{work.data['target']} is there again, to the byte as it was"


def _move(work: Work, source: str, target: str) -> None:
    """Move a file that is what it was in the preview, over nothing; a move that was killed half-way is finished."""
    layout, wanted = work.ground.layout, work.data["original"]
    try:
        present = writer.read(layout, source)
        if present is None:
            _expect(layout, target, wanted)  # moved before this process was killed
            return
        if fingerprint(present) != wanted:
            raise StepFailed(f"{source} has been changed since the preview; it was left alone")
        writer.rename(layout, source, target)
        moved = writer.read(layout, target)
        if moved is not None and fingerprint(moved) != wanted:  # somebody wrote it between our look and our move
            with suppress(writer.WriteError, writer.ChangedError):
                writer.rename(layout, target, source)
            raise StepFailed(f"{source} was changed at this very moment; it was left alone")
    except (Refusal, writer.WriteError, writer.ChangedError) as error:
        raise StepFailed(str(error)) from None


def _expect(layout: Layout, path: str, digest: str) -> None:
    """Raise Refusal unless a file is what it was."""
    try:
        present = writer.read(layout, path)
    except writer.WriteError as error:
        raise Refusal(str(error)) from None
    if present is None:
        raise Refusal(f"{path} is gone: somebody has moved or removed it since")
    if fingerprint(present) != digest:
        raise Refusal(f"{path} has been changed since, and putting it back would lose that")
