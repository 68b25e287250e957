"""What those may do who ask without an account: the command line, which the system has let in, and the autopilot."""

from __future__ import annotations

from datetime import datetime

from workers.models import Installation, Policy

from .actions import Action

COMMAND_LINE = "command line"
AUTOPILOT = "autopilot"


def why_policy_may_not(key: int | None, action: Action, now: datetime) -> str:
    """Say why a policy may not do that at this moment; "" where it may. Asked again just before it is done."""
    policy = Policy.objects.filter(pk=key).first() if key else None
    if policy is None:
        return "its policy is not there any more"
    if policy.action != action.name:
        return f"its policy is to {policy.get_action_display().lower()}"
    if policy.mode != Policy.Mode.ACTIVE:
        return f"its policy is {'in shadow' if policy.mode == Policy.Mode.SHADOW else 'off'}"
    if policy.tripped_at:
        return f"its policy has stopped itself: {policy.tripped_why}"
    until = Installation.objects.filter(maintenance_until__gt=now).values_list("maintenance_until", flat=True).first()
    return f"there is maintenance until {until:%Y-%m-%d %H:%M} UTC" if until else ""
