"""The audit of repairs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from workers.models import Remediation, RemediationBatch, RemediationStep

from .base import LatelyFilter, ReadOnly, link, link_list, linked


class StepInline(admin.TabularInline):
    model = RemediationStep
    fields = ["number", "kind", "target", "detail", "state", "started_at", "finished_at"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RequestedFilter(LatelyFilter):
    column = "requested_at"


@admin.register(Remediation)
class RemediationAdmin(ReadOnly):
    """The audit: nobody adds, changes or removes a row of it here."""

    list_display = ["id", "action", "run", "host", "state", "actor", "via", "requested_at"]
    list_filter = ["state", "action", "via", RequestedFilter]
    search_whole = ["worker__worker_id", "actor", "task_id", "new_task_id"]
    search_help_text = "The whole id of a worker or of a task, or who asked for it."
    list_select_related = ["worker"]
    ordering = ["-id"]
    inlines = [StepInline]
    readonly_fields = ["pages"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return ["pages", *(field for field in super().get_fields(request, obj) if field != "pages")]

    @admin.display(description="worker")
    def run(self, remediation: Remediation) -> SafeString | str:
        if remediation.worker_id is None:
            return "–"
        return link(remediation.worker, "admin:workers_worker_change", remediation.worker_id)

    @admin.display(description="More of it")
    def pages(self, remediation: Remediation) -> SafeString:
        links = [linked("Its page", remediation.get_absolute_url())]
        if remediation.worker:
            links.append(linked("Page of its worker", remediation.worker.get_absolute_url()))
        return link_list(links)


@admin.register(RemediationBatch)
class RemediationBatchAdmin(ReadOnly):
    list_display = ["id", "action", "asked", "actor", "requested_at", "pages"]
    list_filter = ["action"]
    search_fields = ["actor", "asked"]
    date_hierarchy = "requested_at"
    ordering = ["-id"]
    readonly_fields = ["pages"]

    @admin.display(description="More of it")
    def pages(self, batch: RemediationBatch) -> SafeString:
        repairs = link("Its remediations", "admin:workers_remediation_changelist", batch__id__exact=batch.pk)
        return link_list([linked("Its page", batch.get_absolute_url()), repairs])
