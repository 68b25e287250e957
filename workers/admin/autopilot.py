"""Policies in the admin: their bounds are editable, their mode is not: that takes the page of the autopilot."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone

from workers.models import Change, Decision, Policy
from workers.sql import announce

from .base import ReadOnly, Setting

#: What a policy was watched doing in shadow. With another of these it is another policy.
DEFINING = frozenset({"action", "health", "worker_type", "after_minutes"})


@admin.register(Policy)
class PolicyAdmin(Setting):
    """A policy that is made here begins in shadow; one that is to do something else goes back there."""

    list_display = ["name", "mode", "action", "health", "worker_type", "after_minutes", "tripped_at"]
    list_filter = ["mode", "action"]
    readonly_fields = ["mode", "mode_since", "promoted_at", "promoted_by", "tripped_at", "tripped_why"]
    fieldsets = [
        (None, {"fields": ["name", "action", ("health", "worker_type"), "after_minutes"]}),
        ("Bounds for one worker", {"fields": [("most_tries", "delay_factor")]}),
        ("Bounds for all", {"fields": [("most_an_hour", "most_percent"), "breaker_failures"]}),
        ("Quiet hours", {"fields": [("quiet_from", "quiet_until", "quiet_zone")]}),
        ("How it is", {"fields": [*readonly_fields]}),
    ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """One that acts is demoted first; one that has repaired anything stays, for the audit."""
        kept = obj is not None and (obj.mode == Policy.Mode.ACTIVE or obj.remediations.exists())
        return super().has_delete_permission(request, obj) and not kept

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Many are not deleted at once."""
        return {}

    def save_model(self, request: HttpRequest, obj: Policy, form: Any, change: bool) -> None:
        columns = [name for name in form.changed_data if name not in self.readonly_fields]
        if change and DEFINING & set(columns):
            if obj.mode == Policy.Mode.ACTIVE:
                obj.mode = Policy.Mode.SHADOW
                messages.warning(request, "It does something else now, so it is back in shadow until it is promoted.")
            obj.mode_since = timezone.now()
            columns += ["mode", "mode_since"]
        # Whoever decides may trip it at this very moment, so nothing else is written
        obj.save(update_fields=columns if change else None)
        announce(Change.Kind.POLICY, [obj.pk], timezone.now())


@admin.register(Decision)
class DecisionAdmin(ReadOnly):
    """What was decided: nobody adds, changes or removes a row of it here."""

    list_display = ["at", "policy", "worker", "verdict", "number", "why"]
    list_filter = ["policy", "verdict", "rule"]
    list_select_related = ["policy", "worker"]
    raw_id_fields = ["worker", "remediation"]
    ordering = ["-at", "-id"]
    sortable_by = ["at"]
