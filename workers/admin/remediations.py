"""The audit of repairs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from workers.models import Remediation, RemediationBatch, RemediationStep

from .base import ReadOnly


class StepInline(admin.TabularInline):
    model = RemediationStep
    fields = ["number", "kind", "target", "detail", "state", "started_at", "finished_at"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Remediation)
class RemediationAdmin(ReadOnly):
    """The audit: nobody adds, changes or removes a row of it here."""

    list_display = ["id", "action", "worker", "host", "state", "actor", "via", "requested_at"]
    list_filter = ["state", "action", "via"]
    search_fields = ["=worker__worker_id", "actor", "reason"]
    list_select_related = ["worker"]
    date_hierarchy = "requested_at"
    inlines = [StepInline]


@admin.register(RemediationBatch)
class RemediationBatchAdmin(ReadOnly):
    list_display = ["id", "action", "asked", "actor", "requested_at"]
