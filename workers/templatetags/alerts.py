"""How an alert looks, and who may do what about it."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workers.alerting.people import MAY

register = template.Library()

#: severity -> (the state whose hue it has, its shape)
LOOKS = {"critical": ("crashed", "▲"), "warning": ("late", "◆"), "info": ("completed", "■")}
DENIED = "Your role may not do that; ask an operator or an admin"


@register.simple_tag
def severity_badge(severity: str) -> SafeString:
    """A severity as shape, word and colour."""
    hue, shape = LOOKS[severity]
    return format_html(
        '<span class="badge {}"><i aria-hidden="true">{}</i>{}</span>', hue, shape, severity.capitalize()
    )


@register.filter
def hue(severity: str) -> str:
    return LOOKS[severity][0]


@register.simple_tag(takes_context=True)
def denial(context: Any, deed: str) -> str:
    """Why the one who looks may not do that. A pushed fragment is everybody's: the browser denies it there."""
    user = getattr(context.get("request"), "user", None)
    return "" if user is None or user.has_perm(MAY[deed]) else DENIED


@register.simple_tag(takes_context=True)
def allowed_deeds(context: Any) -> str:
    """The deeds that the one who looks may do, for the browser."""
    user = getattr(context.get("request"), "user", None)
    return " ".join(deed for deed, permission in MAY.items() if user and user.has_perm(permission))
