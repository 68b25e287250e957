"""What went wrong, and the labels that people give to why."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString

from workers.models import Incident, RootCause

from .base import HostFilter, LatelyFilter, ReadOnly, Setting, link, linked


class DetectedFilter(LatelyFilter):
    column = "detected"


@admin.register(Incident)
class IncidentAdmin(ReadOnly):
    """It is acknowledged, noted and labelled on its own page."""

    list_display = ["detected", "kind", "of", "host", "resolved", "how", "acknowledged_by", "root_cause", "page"]
    list_filter = [DetectedFilter, "kind", "from_log", "root_cause", "how", HostFilter]
    list_select_related = ["root_cause"]
    search_fields = ["worker_id", "cause", "note", "acknowledged_by"]
    search_help_text = "A part of a worker's id, of the cause, of a note, or of who acknowledged it."
    date_hierarchy = "detected"
    ordering = ["-detected", "-id"]
    sortable_by = ["detected"]
    raw_id_fields = ["run", "remediation"]

    @admin.display(description="worker")
    def of(self, incident: Incident) -> SafeString | str:
        if incident.run_id is None:
            return incident.worker_id
        return link(incident.worker_id, "admin:workers_worker_change", incident.run_id)

    @admin.display(description="page")
    def page(self, incident: Incident) -> SafeString:
        return linked("Open", incident.get_absolute_url())


@admin.register(RootCause)
class RootCauseAdmin(Setting):
    """The labels that incidents can be given."""

    list_display = ["name", "description"]
    search_fields = ["name", "description"]
