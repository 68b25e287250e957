"""How shares and lengths of time are written in tables. What nobody can know is a dash with a word."""

from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workers.charts import units

register = template.Library()


@register.filter
def percent(share: float | None, instead: str = "nothing to count") -> str | SafeString:
    """`61.2 %` of a share; a little more than nothing, or less than all, is not rounded to it. A dash for None."""
    if share is None:
        return dash(instead)
    return "> 100,000 %" if share >= 1000 else units.percent(share)


@register.filter
def took(duration: timedelta | None, instead: str = "nothing to count") -> str | SafeString:
    """A length of time in its two largest units: `40 s`, `6 min`, `3 h 5 min`, `2 d 4 h`. A dash for None."""
    if duration is None:
        return dash(instead)
    return units.duration(round(duration.total_seconds()))


def dash(word: str) -> SafeString:
    return format_html('<span class="none">— <small>{}</small></span>', word)
