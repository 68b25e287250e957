"""What was observed: the poller alone writes it, so nobody adds, changes or deletes it here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from workers.models import Event, Finding, HealthChange, LogFile, Poller, PollerGap, Worker
from workers.remediation import ask
from workers.remediation.actions import IN_BULK, OF_A_FILE, Action
from workers.remediation.ask import Person
from workers.remediation.ground import Refusal

from .base import ReadOnly


@admin.register(Worker)
class WorkerAdmin(ReadOnly):
    """Runs. The actions of the list are those of the table, with the same previews, permissions and audit."""

    list_display = ["worker_id", "host", "health", "live", "worker_type", "task_id", "health_since"]
    list_filter = ["live", "health", "host"]
    search_fields = ["worker_id", "task_id"]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        person = Person(request.user.get_username(), "admin", user=request.user)
        allowed = (action for action in (*IN_BULK, *OF_A_FILE) if person.may(action))
        return found | {each.name: (_ask_for(each), each.name, f"{each.label}, with a preview") for each in allowed}


def _ask_for(action: Action) -> Callable[..., HttpResponse | None]:
    """Make the admin's list action out of one of the table."""

    def ask_for(admin: WorkerAdmin, request: HttpRequest, workers: QuerySet[Worker]) -> HttpResponse | None:
        address = request.META.get("REMOTE_ADDR", "")
        person = Person(request.user.get_username(), "admin", user=request.user, address=address)
        selection = ask.select(action, workers.order_by("worker_id"))
        try:
            return redirect(ask.request_many(selection, person, f"{len(selection.cases)} selected in the admin"))
        except Refusal as refusal:
            admin.message_user(request, str(refusal), messages.ERROR)
            return None

    return ask_for


@admin.register(Poller)
class PollerAdmin(ReadOnly):
    list_display = ["host", "home", "pid", "last_cycle_at", "cycle_ms", "specs", "unreadable", "error"]


@admin.register(PollerGap)
class PollerGapAdmin(ReadOnly):
    list_display = ["host", "began", "ended"]


@admin.register(HealthChange)
class HealthChangeAdmin(ReadOnly):
    list_display = ["at", "worker", "old", "new", "reason"]
    list_filter = ["new"]
    list_select_related = ["worker"]
    raw_id_fields = ["worker"]


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = ["at", "type", "worker_id", "log"]
    search_fields = ["=worker_id", "=type"]
    list_select_related = ["log"]


@admin.register(LogFile)
class LogFileAdmin(ReadOnly):
    list_display = ["path", "host", "records", "damaged", "offset", "generation"]


@admin.register(Finding)
class FindingAdmin(ReadOnly):
    list_display = ["path", "kind", "detail", "line", "column", "since"]
    list_filter = ["kind", "host"]
