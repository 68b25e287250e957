"""Who may press which button, for templates."""

from __future__ import annotations

from typing import Any

from django import template

from workers.remediation.actions import ACTIONS, Action

register = template.Library()


def _denial(context: Any, action: Action) -> str:
    """Why the one who looks may not do that. A pushed fragment is everybody's: the browser denies it there."""
    user = getattr(context.get("request"), "user", None)
    if user is None or user.has_perm(action.full_permission):
        return ""
    return "Your role may not do that; ask an operator or an admin"


@register.simple_tag(takes_context=True)
def may_not(context: Any, action: Action) -> str:
    return _denial(context, action)


@register.simple_tag(takes_context=True)
def may_do(context: Any, name: str) -> str:
    """As ``may_not``, for an action by its name."""
    return _denial(context, ACTIONS[name])


@register.simple_tag(takes_context=True)
def allowed(context: Any) -> str:
    """The names of the actions that the one who looks may do, for the browser."""
    user = getattr(context.get("request"), "user", None)
    return " ".join(name for name, action in ACTIONS.items() if user and user.has_perm(action.full_permission))
