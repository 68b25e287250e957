"""What charts ask of the words for states."""

from __future__ import annotations

from django import template

from workers.health import Health

from .relay import SHAPES

register = template.Library()


@register.filter
def glyph(css: str) -> str:
    """The shape of the state whose class this is; nothing for what is no state."""
    return SHAPES[Health(css)] if css in list(Health) else ""
