"""Who may press which button, for templates."""

from __future__ import annotations

from typing import Any

from django import template

from workers.remediation.actions import ACTIONS, Action
from workers.roles import ACKNOWLEDGE

register = template.Library()

#: What buttons name in `data-needs` -> the permission: the actions of the table, and what is said of incidents.
PERMISSIONS = {
    **{name: action.full_permission for name, action in ACTIONS.items()},
    "acknowledge": f"workers.{ACKNOWLEDGE}",
}


def _denial(context: Any, permission: str) -> str:
    """Why the one who looks may not do that. A pushed fragment is everybody's: the browser denies it there."""
    user = getattr(context.get("request"), "user", None)
    if user is None or user.has_perm(permission):
        return ""
    return "Your role may not do that; ask an operator or an admin"


@register.simple_tag(takes_context=True)
def may_not(context: Any, action: Action) -> str:
    return _denial(context, action.full_permission)


@register.simple_tag(takes_context=True)
def may_do(context: Any, name: str) -> str:
    """As ``may_not``, for an action by its name, or for "acknowledge"."""
    return _denial(context, PERMISSIONS[name])


@register.simple_tag(takes_context=True)
def allowed(context: Any) -> str:
    """The names of what the one who looks may do, for the browser."""
    user = getattr(context.get("request"), "user", None)
    return " ".join(name for name, permission in PERMISSIONS.items() if user and user.has_perm(permission))
