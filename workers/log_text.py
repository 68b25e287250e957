"""Lines of a log as HTML: the one place that knows, for pages, searches and the live socket.

Written out and no template: a log may grow by thousands of lines a second, and a template takes ten times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from django.utils.safestring import SafeString, mark_safe

from .coordination.log_lines import Line, Run

_OTHER_RUN = {
    "earlier": "by its time it is about an earlier run of this id",
    "later": "by its time it is about a later run of this id",
}


def lines_html(lines: Iterable[Line], words: str = "", at: int | None = None) -> SafeString:
    """Every line an element with its offset. ``words`` are marked in them, and the line at a place is named `at`."""
    wanted = re.compile(re.escape(escape(words)), re.IGNORECASE) if words else None
    return mark_safe("".join([_line(line, wanted, at) for line in lines]))  # noqa: S308 - escaped run by run


def chunk(lines: Iterable[Line], end: int, identity: str) -> str:
    """What is sent to those who follow: lines, and where the next begin."""
    lines = list(lines)
    return (
        f'<div class="chunk" data-end="{end}" data-identity="{escape(identity)}" data-lines="{len(lines)}">'
        f"{lines_html(lines)}</div>"
    )


def waiting(count: int) -> str:
    """How much has come while somebody has paused."""
    return f"<output data-waiting>{byte_count(count)} waiting</output>"


def byte_count(count: int) -> str:
    """A size on disk: `812 bytes`, `14 kB`, `2.1 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} byte{'' if count == 1 else 's'}"


def _line(line: Line, wanted: re.Pattern[str] | None, at: int | None) -> str:
    offset, runs, error, left_out, overwritten, other_run, note = line
    if note:
        return f'<div class="l note">{escape(line.text)}</div>'
    text = "".join([_run(run, wanted) for run in runs])
    if overwritten:
        text = f'<i class="cut">{overwritten:,} overwritten · </i>{text}'
    if left_out:
        text += f'<i class="cut"> … {left_out:,} more bytes of this line</i>'
    names = f"l{' error' if error else ''}{' other' if other_run else ''}{' here' if offset == at else ''}"
    name = ' id="at"' if offset == at else ""
    title = f' title="{_OTHER_RUN[other_run]}"' if other_run else ""
    return f'<div class="{names}" data-o="{offset}"{name}{title}>{text}</div>'


def _run(run: Run, wanted: re.Pattern[str] | None) -> str:
    text = escape(run.text)
    if wanted:
        text = wanted.sub(r"<mark>\g<0></mark>", text)
    if not run.style:
        return text
    return f'<span class="{" ".join([f"ansi-{name}" for name in run.style.split()])}">{text}</span>'
