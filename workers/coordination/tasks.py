"""What the coordination directory knows of a task: what it is about, and which tasks are queued.

Two of three specs carry no description of their own, so it is looked up where fleets keep it. Source:
coordination-format.md, section 2, the last entry of the precedence list for descriptions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .files import read_whole
from .layout import Layout, is_path_part
from .parser import TEXT_LENGTH, load
from .records import Problem
from .redaction import storable

LARGEST = 8 * 1024 * 1024  # bytes of one file
MOST_FILES = 400  # handoffs that are opened for one question
_DESCRIPTION = ("description", "task_description", "title", "task_title", "instructions", "objective")
_INSIDE = ("context", "task_data", "scope", "metadata")
_ID = ("id", "task_id")
#: How a fleet's scripts write a task's id in what they print.
TASK_ID = re.compile(r"\btask[-_](?=[\w.-]{0,250}?\d)[\w-]+(?:\.[\w-]+)*", re.IGNORECASE)


def describe_task(layout: Layout, task_id: str) -> tuple[str, str]:
    """Find what a task is about. Return the text and the path that it came from, or two empty texts."""
    for path in _places(layout, task_id):
        for entry in _entries(_read(layout, path)):
            if task_id in (entry.get(key) for key in _ID) and (text := describes(entry)):
                return storable(text[:TEXT_LENGTH]), layout.relative(path)
    return "", ""


def queued_tasks(layout: Layout) -> dict[str, dict[str, Any]]:
    """Return the entries of ``coordination/task-queue.json`` by id; none where it is not there or cannot be read."""
    found = {}
    for entry in _entries(_read(layout, layout.task_queue)):
        task_id = next((value for key in _ID if isinstance(value := entry.get(key), str) and value), None)
        if task_id:
            found[task_id] = entry
    return found


def _places(layout: Layout, task_id: str) -> Iterator[Path]:
    """Yield the files in which a task may stand, the likeliest first."""
    yield layout.task_queue
    if is_path_part(f"{task_id}.json"):
        yield layout.coordination / "tasks" / f"{task_id}.json"
    yield from sorted(layout.coordination.glob("task-queue*.json?*"))
    handoffs = layout.coordination.glob("masters/*/handoffs/*.json*")
    by_name = sorted(handoffs, key=lambda path: (task_id not in path.name, path.name))
    yield from islice(by_name, MOST_FILES)


def _read(layout: Layout, path: Path) -> Any:
    if not layout.inside(path):
        return None
    read = read_whole(os.fspath(path), LARGEST)
    if read is None or isinstance(read, Problem):
        return None
    document = load(read[0])
    return None if isinstance(document, Problem) else document


def _entries(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a document, the outer ones first."""
    level = [document]
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                yield item
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below


def describes(entry: dict[str, Any]) -> str:
    """What an entry of a queue or a handoff says that its task is about; "" where it does not."""
    for place in (entry, *(inner for key in _INSIDE if isinstance(inner := entry.get(key), dict))):
        for key in _DESCRIPTION:
            value = place.get(key)
            if isinstance(value, str) and value.strip() and value != "null":
                return value
    return ""
