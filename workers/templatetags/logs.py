"""How lines of a log look in a page; the live socket uses the same function."""

from __future__ import annotations

from collections.abc import Iterable

from django import template
from django.utils.safestring import SafeString

from workers import log_text
from workers.coordination.log_lines import Line

register = template.Library()


@register.simple_tag
def log_lines(lines: Iterable[Line], words: str = "", at: int | None = None) -> SafeString:
    """Lines, with words marked in them, and the place named that a link leads to."""
    return log_text.lines_html(lines, words, at)


@register.simple_tag
def log_line(line: Line, words: str = "") -> SafeString:
    return log_text.lines_html([line], words)


@register.filter
def bytes_of(count: int) -> str:
    return log_text.byte_count(count)
