"""What the templates of charts ask for: the words for states, and tips."""

from __future__ import annotations

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workers.charts.parts import Spot
from workers.health import Health

from .relay import SHAPES

register = template.Library()


@register.filter
def glyph(css: str) -> str:
    """The shape of the state whose class this is; nothing for what is no state."""
    return SHAPES[Health(css)] if css in list(Health) else ""


@register.simple_tag
def tip(spot: Spot) -> SafeString:
    """What a spot says when it is pointed at. A page has hundreds, and as a template each took ten times as long."""
    said = ((value.key.look, value.key.name, value.text) for value in spot.values)
    lines = format_html_join("", '<span class="{}"><i></i>{}<em>{}</em></span>', said)
    if spot.total and spot.values:
        lines += format_html("<span>Total<em>{}</em></span>", spot.total)
    elif spot.total:
        lines += format_html('<span class="only"><em>{}</em></span>', spot.total)
    place = '<div class="tip" aria-hidden="true" style="left:{0}%;translate:-{0}%;bottom:{1}px"><b>{2}</b>{3}</div>'
    return format_html(place, spot.middle, spot.lift, spot.title, lines)
