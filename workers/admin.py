"""The admin: what was observed is read-only, limits and people are editable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from . import admin_alerting, roles
from .health import LIMITS
from .models import (
    Event,
    Finding,
    HealthChange,
    Limit,
    LogFile,
    Poller,
    PollerGap,
    Remediation,
    RemediationBatch,
    RemediationStep,
    Worker,
)
from .remediation import ask
from .remediation.actions import IN_BULK, OF_A_FILE, Action
from .remediation.ask import Person
from .remediation.ground import Refusal

admin.site.site_header = admin.site.site_title = "Relay Web"
admin.site.index_title = "Administration"


class ReadOnly(admin.ModelAdmin):
    """Observed data: the poller alone writes it. Lists never count a big table."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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


class LimitForm(forms.ModelForm):
    """One limit: which one, and how long."""

    name = forms.ChoiceField(choices=[(name, f"{name}: {meaning}") for name, (meaning, _) in LIMITS.items()])
    seconds = forms.FloatField(min_value=1, max_value=365 * 86400, help_text="In seconds; 600 is ten minutes.")

    def clean(self) -> dict[str, Any]:
        """Refuse a worker that is stalled before it is late."""
        values: dict[str, Any] = super().clean() or {}
        if {"name", "seconds"} <= set(values):
            others = admin_alerting.other_limits(values["name"])
            if error := admin_alerting.limit_error(values["name"], values["seconds"], others):
                self.add_error("seconds", error)
        return values


@admin.register(Limit)
class LimitAdmin(admin.ModelAdmin):
    form = LimitForm
    list_display = ["name", "seconds"]


admin.site.unregister(User)


@admin.register(User)
class PersonAdmin(UserAdmin):
    """People and their roles. Who is in the group admin may come in here; only a superuser makes or changes another."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        kept = ("is_staff", "last_login", "date_joined")
        return kept if request.user.is_superuser else (*kept, "is_superuser", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def _may_touch(self, request: HttpRequest, obj: Any) -> bool:
        return obj is None or request.user.is_superuser or not obj.is_superuser

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Whoever has the role admin is staff."""
        super().save_related(request, form, formsets, change)
        user = form.instance
        staff = user.is_superuser or user.groups.filter(name=roles.ADMIN).exists()
        if user.is_staff != staff:
            User.objects.filter(pk=user.pk).update(is_staff=staff)
