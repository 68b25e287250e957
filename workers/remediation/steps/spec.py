"""Changing, moving and restoring a spec. It exists at every instant, whole, in at least one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, TypeVar

from workers.coordination import edits, writer
from workers.coordination.layout import SPECS
from workers.coordination.parser import load, parse_spec
from workers.coordination.records import Spec
from workers.coordination.redaction import may_hold_secret, redact_text, storable
from workers.remediation.ground import Ground, Refusal
from workers.remediation.spec_file import SpecFile, Values, as_pairs, fingerprint, from_pairs, is_run
from workers.remediation.work import Step, StepFailed, Work

FAILED = f"{SPECS}/failed"
TRIES = 60  # a worker's heartbeat may rewrite its spec again and again; each try takes what it says by then
PACE = 0.02  # seconds
T = TypeVar("T")


def plan_rewrite(file: SpecFile, values: Values) -> list[Step]:
    """Plan to change a spec where it lies; nothing to do where it says so already."""
    file.check(values)
    if not (diff := file.diff(values)):
        return []
    data = {"path": file.path, "values": as_pairs(values)}
    detail = "Let the spec say that nobody has started it:"
    return [Step("rewrite", file.path, detail, {"path": file.path, "diff": diff}, data)]


def plan_move(file: SpecFile, values: Values, ground: Ground) -> Step:
    """Plan to move a spec to ``failed/``, changed."""
    file.check(values)
    target = f"{FAILED}/{file.name}"
    detail = "Move the spec, with these changes, to"
    if (ground.layout.home / target).exists():
        detail = "Move the spec, with these changes, to (the earlier file of that name is kept under another)"
    shown = {"path": target, "diff": file.diff(values)}
    return Step("move", target, detail, shown, {"source": file.path, "target": target, "values": as_pairs(values)})


def rewrite(work: Work) -> str:
    """Change the spec where it lies, whatever else of it changes meanwhile."""
    values, path = from_pairs(work.data["values"]), work.data["path"]

    def attempt() -> bool:
        data = _own(work, path)
        changed, splices = edits.edit(data, values)
        if splices:
            writer.replace(work.ground.layout, path, changed, expected=data, token=work.token)
        return not splices

    def settled() -> bool:
        return attempt() or (_pause(work.ground) and attempt())  # a writer that had read before us may come after us

    _again_and_again(work, settled, f"{path} is rewritten by somebody else all the time")
    return f"{path} says {values.get(('status',), 'so')}"


def _pause(ground: Ground) -> bool:
    ground.wait(PACE)
    return True


def move(work: Work) -> str:
    """Write the changed spec to its new place, then take the old one away; what it says by then goes along."""
    layout, data = work.ground.layout, work.data
    source, target = data["source"], data["target"]

    def attempt() -> bool:
        present = writer.read(layout, source)
        if present is None:
            if _is_ours(work, target):
                return True
            raise StepFailed(f"{source} is gone, and somebody else has moved it: nothing was changed")
        _check_run(work, source, present)
        changed, splices = edits.edit(present, from_pairs(data["values"]))
        if not _is_ours(work, target):
            writer.set_aside(layout, target, announce=lambda aside: work.note(aside=aside))
        before = [*work.data.get("written_before", ()), work.data.get("written")][-5:]
        work.note(written_before=before, **_inverse(present, changed, splices))
        _put(work, target, changed)
        writer.remove(layout, source, expected=present)
        return False  # look once more: a writer that had read it before may bring it back

    try:
        _again_and_again(work, attempt, f"{source} is rewritten by somebody else all the time")
    except StepFailed:
        _put_aside_back(work, target)
        raise
    aside = work.data.get("aside")
    return f"Moved to {target}" + (f"; the earlier one is {PurePosixPath(aside).name} now" if aside else "")


def _put_aside_back(work: Work, target: str) -> None:
    """Give the earlier file its name again where nothing came into its place."""
    with suppress(writer.WriteError, writer.ChangedError):
        if work.data.get("aside"):
            writer.rename(work.ground.layout, work.data["aside"], target)


def _put(work: Work, target: str, data: bytes) -> None:
    """Let the target say this: new, or in place of what this very step has put there."""
    present = writer.read(work.ground.layout, target)
    if present is None:
        writer.place(work.ground.layout, target, data, token=work.token, like=work.data["source"])
    elif present != data:
        if not _is_ours(work, target):
            raise writer.ChangedError(f"{target} was put there by somebody else meanwhile")
        writer.replace(work.ground.layout, target, data, expected=present, token=work.token)


def _is_ours(work: Work, target: str) -> bool:
    """Whether what lies there was put there by this step."""
    present = writer.read(work.ground.layout, target)
    known = {work.data.get("written"), *work.data.get("written_before", ())}
    return present is not None and fingerprint(present) in known


def _inverse(before: bytes, after: bytes, splices: list[edits.Splice]) -> dict[str, Any]:
    """What is needed to take an edit back without keeping the file: the edit, and what both sides looked like."""
    secret = any(_holds_secret(splice.old) for splice in splices)
    kept = [] if secret else [[s.offset, s.old.decode(), s.new.decode()] for s in splices]
    return {"splices": kept, "secret": secret, "original": fingerprint(before), "written": fingerprint(after)}


def _holds_secret(value: bytes) -> bool:
    """Whether a value that is replaced may not be kept; a text is looked at as it reads, not as it is escaped."""
    if not may_hold_secret(value):
        return False
    text = load(value)
    return not isinstance(text, str) or redact_text(text) != storable(text)


def _own(work: Work, path: str) -> bytes:
    data = writer.read(work.ground.layout, path)
    if data is None:
        raise StepFailed(f"{path} is gone: somebody has moved or removed it")
    _check_run(work, path, data)
    return data


def _check_run(work: Work, path: str, data: bytes) -> None:
    worker = work.remediation.worker
    content = parse_spec(data, path)
    if worker and isinstance(content, Spec) and not is_run(content, worker):
        raise StepFailed(f"{path} belongs to another run by now; it was left alone")
    if not isinstance(content, Spec):
        raise writer.ChangedError(f"{path} cannot be parsed at this moment")


def _again_and_again(work: Work, attempt: Callable[[], bool], why_not: str) -> None:
    """Try until it holds. Somebody who writes at the same moment is no reason to give up at once."""
    last = ""
    for _ in range(TRIES):
        try:
            if attempt():
                return
        except writer.ChangedError as error:
            last = f" ({error})"
        except (writer.WriteError, edits.EditError) as error:
            raise StepFailed(str(error)) from None
        work.ground.wait(PACE)
    raise StepFailed(f"{why_not}, so it could not be changed{last}")


# -- the way back


def plan_restore(data: Mapping[str, Any], diff: list[list[str]], ground: Ground) -> Step:
    """Plan to put a spec back to the byte. Raises Refusal where somebody has changed it since."""
    source, target = data["target"], data["source"]
    original_of(data, ground)
    if (ground.layout.home / target).exists():
        raise Refusal(f"{target} is there again, so nothing can be put back into its place")
    lines = [["+" if sign == "-" else "-", text] for sign, text in diff]
    detail = f"Take {source} away and put the spec back, to the byte as it was, to"
    kept = {
        name: data[name] for name in ("source", "target", "splices", "original", "written", "aside") if name in data
    }
    return Step("restore", target, detail, {"path": target, "diff": lines}, kept)


def original_of(data: Mapping[str, Any], ground: Ground) -> bytes:
    """Rebuild a spec from what lies in ``failed/`` and the inverse edit. Raises Refusal unless it is the original."""
    path = data["target"]
    if data.get("secret"):
        raise Refusal("What it said before held a secret, which is stored nowhere, so it cannot be put back from here")
    try:
        present = writer.read(ground.layout, path)
    except writer.WriteError as error:
        raise Refusal(str(error)) from None
    if present is None:
        raise Refusal(f"{path} is gone: somebody has moved or removed it since")
    if fingerprint(present) != data["written"]:
        raise Refusal(f"{path} has been changed since, and putting it back would lose that")
    splices = [edits.Splice(offset, old.encode(), new.encode()) for offset, old, new in data["splices"]]
    original = edits.apply(present, edits.invert(splices))
    if fingerprint(original) != data["original"]:
        raise Refusal(f"{path} cannot be turned back into what it was, to the byte")
    return original


def restore(work: Work) -> str:
    """Put the original into its place, then take the changed one away; and the earlier file of that name back."""
    layout, data = work.ground.layout, work.data
    changed, place = data["target"], data["source"]
    try:
        present = writer.read(layout, place)
        if present is None or fingerprint(present) != data["original"]:
            original = original_of(data, work.ground)
            writer.place(layout, place, original, token=work.token, like=changed)
        left = writer.read(layout, changed)
        if left is not None and fingerprint(left) == data["written"]:
            writer.remove(layout, changed, expected=left)
        if data.get("aside"):
            with suppress(writer.ChangedError):  # it has gone, or somebody has taken its old place since
                writer.rename(layout, data["aside"], changed)
    except (Refusal, writer.WriteError, writer.ChangedError) as error:
        raise StepFailed(str(error)) from None
    return f"{place} is what it was, to the byte"
