"""The admin of rules and channels: what cannot be is refused in words, and an address is never shown again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from .alerting.deliver import understood
from .health import Health, Limits
from .models import AlertRule, Channel, Limit

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
#: States in which no live worker is, so that none is in it for long.
OVER = {Health.FAILED, Health.COMPLETED, Health.CANCELLED, Health.GONE}
Errors = dict[str, str]


def rule_errors(values: dict[str, Any]) -> Errors:
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
    if "health" not in errors and values.get("health") in OVER:
        errors["health"] = "A worker in this state is over, and no live worker is in it for long"
    if kind in (_KIND.MASS, _KIND.FAILURE_RATE) and (values.get("threshold") or 0) >= 100:
        errors["threshold"] = "A share is never more than 100 percent; give less"
    if kind != _KIND.HEALTH and "minutes" in given and not values["minutes"]:
        errors["minutes"] = "It has to be more than nothing"
    return errors | _quiet_errors(values) | _mute_errors(values)


def _quiet_errors(values: dict[str, Any]) -> Errors:
    begins, ends = values.get("quiet_from"), values.get("quiet_until")
    errors = {}
    if (begins is None) != (ends is None):
        errors["quiet_from" if begins is None else "quiet_until"] = "Give both ends of the quiet hours, or neither"
    elif begins is not None and begins == ends:
        errors["quiet_until"] = "It begins and ends at the same time; switch the rule off to hear nothing of it"
    if not is_zone(values.get("quiet_zone") or ""):
        errors["quiet_zone"] = "No such time zone; give one like Europe/Berlin, or UTC"
    return errors


def _mute_errors(values: dict[str, Any]) -> Errors:
    if values.get("muted_until") and not values.get("muted_reason"):
        return {"muted_reason": "Say why it is muted: others read it"}
    return {}


def is_zone(name: str) -> bool:
    """Whether a time zone of that name is known."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a path, a directory, nothing
        return False
    return True


def limit_error(name: str, seconds: float, others: dict[str, float]) -> str:
    """Say what is wrong with a limit beside the others that are set: late may not come after stalled."""
    defaults = {"late_after": Limits().late_after, "stalled_after": Limits().stalled_after}
    values = {each: others.get(each, default.total_seconds()) for each, default in defaults.items()} | {name: seconds}
    if values["late_after"] <= values["stalled_after"]:
        return ""
    late, stalled = (timedelta(seconds=values[each]) for each in ("late_after", "stalled_after"))
    return f"A worker would be stalled ({stalled}) before it is late ({late}); set the other one first"


class AlertRuleForm(forms.ModelForm):
    """One rule; what its kind does not need stays empty."""

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        for name, error in rule_errors(values).items():
            if name not in self.errors:
                self.add_error(name, error)
        return values


class ChannelForm(forms.ModelForm):
    """One channel; its address goes in and never comes out."""

    address = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "size": 80}),
        help_text=Channel._meta.get_field("address").help_text,
    )

    def clean_address(self) -> Any:
        address = self.cleaned_data["address"].strip()
        if not address:
            if self.instance.pk:
                return self.instance.address  # as it lies in the database
            raise ValidationError("Say where to send to")
        if not understood(address):
            raise ValidationError(
                "Apprise does not understand this address; it begins with a service, like mailto:// or json://"
            )
        return address


@admin.register(AlertRule)
class AlertRuleAdmin(admin.ModelAdmin):
    form = AlertRuleForm
    list_display = ["name", "kind", "severity", "enabled", "threshold", "minutes", "muted_until"]
    list_filter = ["kind", "severity", "enabled"]
    search_fields = ["name"]
    filter_horizontal = ["channels"]
    fieldsets = [
        (None, {"fields": ["name", "kind", "severity", "enabled"]}),
        (
            "When it fires",
            {"fields": ["threshold", "at_least", "health", "minutes", "worker_type", "master", "cycles"]},
        ),
        ("Who is told, and how often", {"fields": ["channels", "repeat_minutes", "resolve_notice"]}),
        (
            "When nobody is told",
            {"fields": [("quiet_from", "quiet_until", "quiet_zone"), "muted_until", "muted_reason"]},
        ),
    ]


@admin.register(Channel)
class ChannelAdmin(admin.ModelAdmin):
    """Channels. A button of the page sends a test; how it does is shown live among the alerts."""

    form = ChannelForm
    list_display = ["name", "enabled", "least_severity", "last_sent_at", "failing_since", "last_error"]
    fields = ["name", "address", "enabled", "least_severity", "last_sent_at", "failing_since", "last_error"]
    readonly_fields = ["last_sent_at", "failing_since", "last_error"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Leave alone what whoever sends has written meanwhile."""
        if change:
            obj.save(update_fields=["name", "address", "enabled", "least_severity"])
        else:
            super().save_model(request, obj, form, change)


def other_limits(name: str) -> dict[str, float]:
    """The limits that admins have set, but for this one."""
    return dict(Limit.objects.exclude(name=name).values_list("name", "seconds"))
