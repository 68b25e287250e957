"""How shares and lengths of time are written in tables. What nobody can know is a dash with a word."""

from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def percent(share: float | None, instead: str = "nothing to count") -> str | SafeString:
    """`61.2 %` of a share; a little more than nothing, or less than all, is not rounded to it. A dash for None."""
    if share is None:
        return dash(instead)
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    if share >= 1000:
        return "> 100,000 %"
    return f"{share * 100:,.1f}".removesuffix(".0") + " %"


@register.filter
def took(duration: timedelta | None, instead: str = "nothing to count") -> str | SafeString:
    """A length of time in its two largest units: `40 s`, `6 min`, `3 h 5 min`, `2 d 4 h`. A dash for None."""
    if duration is None:
        return dash(instead)
    rest = round(duration.total_seconds())
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(f"{number:,} {unit}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or "0 s"


def dash(word: str) -> SafeString:
    return format_html('<span class="none">— <small>{}</small></span>', word)
