"""Who may decide about policies, for templates."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.safestring import SafeString

from workers.autopilot.promotion import PERMISSION

register = template.Library()


@register.simple_tag(takes_context=True)
def promoters_only(context: Any) -> SafeString:
    """What disables a button for everybody else, and says why. The server refuses anyway."""
    user = getattr(context.get("request"), "user", None)
    if user is not None and user.has_perm(PERMISSION):
        return SafeString("")
    return SafeString(' disabled title="Only an admin may do that"')
