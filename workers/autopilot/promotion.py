"""What people decide about a policy: that it may act, that it may not any more, that it goes on after it has stopped.

Each is an explicit act of somebody who is named, and is kept among the changes of settings.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from workers.models import Change, Policy, SettingChange
from workers.sql import announce
from workers.who import Who

from .rounds import attend

#: For how long a policy has to be watched in shadow before it may act, unless somebody types the word.
SHADOW_AT_LEAST = timedelta(days=1)
WORD = "promote"
PERMISSION = "workers.promote_policy"


class NotYet(Exception):  # noqa: N818 - no error: the answer to a request
    """Why it is not done, in a sentence for people."""


def needs_word(policy: Policy, now: datetime) -> bool:
    """Whether it has not been in shadow for long enough to be trusted without a word."""
    return now - policy.mode_since < SHADOW_AT_LEAST


def promote(policy: Policy, who: Who, now: datetime, word: str = "") -> None:
    """Let a policy act. Raises NotYet."""
    if policy.mode != Policy.Mode.SHADOW:
        raise NotYet(f"Only a policy in shadow can be promoted; this one is {policy.mode} by now")
    if policy.tripped_at:
        raise NotYet("It has stopped itself; let it go on in shadow first")
    if needs_word(policy, now) and word.strip().lower() != WORD:
        raise NotYet(f"It has been in shadow for less than a day; type “{WORD}” to let it act all the same")
    values = {"mode": Policy.Mode.ACTIVE, "mode_since": now, "promoted_at": now, "promoted_by": who.name[:150]}
    _change(policy, who, now, "mode", policy.mode, Policy.Mode.ACTIVE, values)


def demote(policy: Policy, who: Who, now: datetime) -> None:
    """Put a policy into shadow: it only notes from now on. What it has asked for and was not begun is let go."""
    _set_mode(policy, who, now, Policy.Mode.SHADOW)


def turn_off(policy: Policy, who: Who, now: datetime) -> None:
    """Let a policy not even note anything."""
    _set_mode(policy, who, now, Policy.Mode.OFF)


def reset(policy: Policy, who: Who, now: datetime) -> None:
    """Let a policy go on that has stopped itself, in the mode in which it was. Raises NotYet."""
    if not policy.tripped_at:
        raise NotYet("It has not stopped itself")
    values = {"tripped_at": None, "tripped_why": "", "reset_at": now, "reset_by": who.name[:150]}
    _change(policy, who, now, "stopped itself", policy.tripped_why, "", values)


def _set_mode(policy: Policy, who: Who, now: datetime, mode: Policy.Mode) -> None:
    if policy.mode == mode:
        raise NotYet(f"It is {'in shadow' if mode == Policy.Mode.SHADOW else mode.value} already")
    _change(policy, who, now, "mode", policy.mode, mode, {"mode": mode, "mode_since": now})
    attend(now)


def _change(policy: Policy, who: Who, now: datetime, field: str, old: str, new: str, values: dict[str, Any]) -> None:
    """Change the row where it still is as it was read, and write down who did."""
    with transaction.atomic():
        free = Policy.objects.filter(pk=policy.pk, mode=policy.mode, tripped_at=policy.tripped_at)
        if not free.update(**values):
            raise NotYet("Somebody has changed it at this very moment; look again")
        setting = f"policy {policy.name}"
        SettingChange.objects.create(
            at=now, actor=who.name[:150], address=who.address[:64], setting=setting, field=field, old=old, new=new
        )
        announce(Change.Kind.POLICY, [policy.pk], now)
    policy.refresh_from_db()
