"""The admin of rules and channels: what cannot be is refused in words, and an address is never shown again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError

from workers.alerting.checks import rule_errors
from workers.alerting.deliver import understood
from workers.models import Alert, AlertRule, Channel, Delivery

from .base import LatelyFilter, ReadOnly, SecretInput, Setting, SettingForm


class AlertRuleForm(SettingForm):
    """One rule; what its kind does not need stays empty."""

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        for name, error in rule_errors(values).items():
            if name not in self.errors:
                self.add_error(name, error)
        return values


class ChannelForm(SettingForm):
    """One channel; its address goes in and never comes out."""

    def clean_address(self) -> Any:
        address = self.cleaned_data["address"]
        if address and address is not SecretInput.REMOVE and not understood(address):
            raise ValidationError(
                "Apprise does not understand this address; it begins with a service, like mailto:// or json://"
            )
        return address


@admin.register(AlertRule)
class AlertRuleAdmin(Setting):
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
class ChannelAdmin(Setting):
    """Channels. A button of the page sends a test; how it does is shown live among the alerts."""

    form = ChannelForm
    list_display = ["name", "enabled", "least_severity", "last_sent_at", "failing_since", "last_error"]
    fields = ["name", "address", "enabled", "least_severity", "last_sent_at", "failing_since", "last_error"]
    readonly_fields = ["last_sent_at", "failing_since", "last_error"]


class BeganFilter(LatelyFilter):
    column = "began"


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    """What was raised. It is acknowledged on the page of alerts."""

    list_display = ["began", "rule_name", "summary", "severity", "state", "times_told", "acknowledged_by", "resolved"]
    list_filter = [BeganFilter, "state", "severity", "rule"]
    search_fields = ["rule_name", "summary", "acknowledged_by"]
    ordering = ["-id"]
    sortable_by = []


class QueuedFilter(LatelyFilter):
    column = "created_at"


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly):
    """What was sent, is on its way, or was given up, and why."""

    list_display = ["created_at", "channel", "subject", "state", "tries", "next_try_at", "sent_at", "error"]
    list_filter = [QueuedFilter, "state", "channel"]
    list_select_related = ["channel"]
    search_fields = ["subject"]
    ordering = ["-id"]
    sortable_by = []
