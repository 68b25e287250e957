"""What a rule must be to make sense, for the forms of the admin and for settings that are imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from workers.health import OVER
from workers.models import AlertRule
from workers.setting_rules import check_zone

_KIND = AlertRule.Kind
#: kind -> the fields without which it says nothing
NEEDS = {
    _KIND.ZOMBIES: (),
    _KIND.MASS: ("threshold",),
    _KIND.HEALTH: ("health", "minutes"),
    _KIND.FAILURE_RATE: ("threshold", "minutes"),
    _KIND.PM_SILENT: ("minutes",),
    _KIND.POLLER_SILENT: ("minutes",),
    _KIND.DAMAGED: ("threshold",),
    _KIND.AUTOPILOT: (),
}
#: field -> the kinds for which it means something
MEANT_FOR = {
    "health": {_KIND.HEALTH},
    "threshold": {_KIND.ZOMBIES, _KIND.MASS, _KIND.FAILURE_RATE, _KIND.DAMAGED},
    "at_least": {_KIND.MASS, _KIND.FAILURE_RATE},
    "minutes": {_KIND.HEALTH, _KIND.FAILURE_RATE, _KIND.PM_SILENT, _KIND.POLLER_SILENT},
    "worker_type": {_KIND.ZOMBIES, _KIND.MASS, _KIND.HEALTH, _KIND.FAILURE_RATE},
    "master": {_KIND.ZOMBIES, _KIND.MASS, _KIND.HEALTH, _KIND.FAILURE_RATE},
}
Errors = dict[str, str]


def rule_errors(values: Mapping[str, Any]) -> Errors:
    """Say what cannot be about a rule, by field. Pure."""
    kind = values.get("kind")
    if kind not in NEEDS:
        return {}
    label = _KIND(kind).label.lower()
    given = {name for name in MEANT_FOR if values.get(name) not in (None, "")}
    errors = {name: f"This kind needs it: “{label}”" for name in NEEDS[kind] if name not in given}
    errors |= {
        name: f"It means nothing for “{label}”; leave it empty"
        for name, kinds in MEANT_FOR.items()
        if name in given and kind not in kinds
    }
    if "health" not in errors and values.get("health") in OVER:  # no live worker is in it, so none for long
        errors["health"] = "A worker in this state is over, and no live worker is in it for long"
    if kind in (_KIND.MASS, _KIND.FAILURE_RATE) and (values.get("threshold") or 0) >= 100:
        errors["threshold"] = "A share is never more than 100 percent; give less"
    if kind != _KIND.HEALTH and "minutes" in given and not values["minutes"]:
        errors["minutes"] = "It has to be more than nothing"
    return errors | _quiet_errors(values) | _mute_errors(values)


def _quiet_errors(values: Mapping[str, Any]) -> Errors:
    begins, ends = values.get("quiet_from"), values.get("quiet_until")
    errors = {}
    if (begins is None) != (ends is None):
        errors["quiet_from" if begins is None else "quiet_until"] = "Give both ends of the quiet hours, or neither"
    elif begins is not None and begins == ends:
        errors["quiet_until"] = "It begins and ends at the same time; switch the rule off to hear nothing of it"
    try:
        check_zone(values.get("quiet_zone") or "")
    except ValidationError as error:
        errors["quiet_zone"] = error.messages[0]
    return errors


def _mute_errors(values: Mapping[str, Any]) -> Errors:
    if values.get("muted_until") and not values.get("muted_reason"):
        return {"muted_reason": "Say why it is muted: others read it"}
    return {}
