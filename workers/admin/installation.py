"""The settings that there are once: maintenance, the weekly report, the dead man's switch. And how the database is."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers import reports
from workers.models import Installation, SettingChange
from workers.queries.database import database
from workers.setting_rules import check_http_address, check_zone

from .base import SecretInput, Setting, SettingForm, who_of

CLOCK = "%A, %d %B, %H:%M UTC"


class InstallationForm(SettingForm):
    class Meta:
        widgets = {"report_channels": forms.CheckboxSelectMultiple}
        labels = {
            "maintenance_until": "Until",
            "maintenance_reason": "Reason",
            "report_channels": "Channels",
            "report_weekday": "Weekday",
            "report_hour": "Hour",
            "report_zone": "Time zone",
            "dead_man_address": "Address",
            "dead_man_minutes": "Minutes between calls",
        }
        help_texts = {
            "report_hour": "From 0 to 23. Where it was missed, the report is sent later in the same week.",
            "report_zone": "Like Europe/Berlin. The weeks and the hour are of this zone.",
        }

    def clean_report_zone(self) -> str:
        zone: str = self.cleaned_data["report_zone"]
        check_zone(zone)
        return zone

    def clean_dead_man_address(self) -> Any:
        address = self.cleaned_data["dead_man_address"]
        if address and address is not SecretInput.REMOVE:
            check_http_address(address)
        return address

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        until = cleaned.get("maintenance_until")
        if until and "maintenance_until" in self.changed_data and until <= timezone.now():
            self.add_error("maintenance_until", "That has passed already; give a time to come, or leave it empty.")
        if until and not cleaned.get("maintenance_reason"):
            self.add_error("maintenance_reason", "Say why: whoever waits for an alert in the meantime will ask.")
        return cleaned


@admin.register(Installation)
class InstallationAdmin(Setting):
    """One page that opens at once; it can neither be added to nor deleted."""

    form = InstallationForm
    change_form_template = "admin/workers/installation/change_form.html"
    readonly_fields = ["next_report", "dead_man_state"]
    fieldsets = [
        ("Maintenance", {"fields": ["maintenance_until", "maintenance_reason"]}),
        (
            "Weekly report",
            {
                "fields": ["report_channels", "report_weekday", "report_hour", "report_zone", "next_report"],
                "description": "It says how the last whole week, Monday to Sunday, was.",
            },
        ),
        (
            "Dead man's switch",
            {
                "fields": ["dead_man_address", "dead_man_minutes", "dead_man_state"],
                "description": "The calls stop when a poller is silent or the database cannot be written. Another "
                "service has to notice that: nobody here could tell you.",
            },
        ),
    ]

    @admin.display(description="Next report")
    def next_report(self, installation: Installation) -> str:
        if not any(channel.enabled for channel in installation.report_channels.all()):
            return "Never: no channel that is enabled is chosen."
        now = timezone.now()
        due = reports.next_due(installation, now)
        return "Now." if due <= now else f"{due.strftime(CLOCK)}."

    @admin.display(description="How it does")
    def dead_man_state(self, installation: Installation) -> str:
        if not installation.dead_man_address:
            return "No address is called."
        if installation.dead_man_called_at is None:
            return "It has not been called yet."
        called = f"Called last on {installation.dead_man_called_at.strftime(CLOCK)}"
        return f"{called}: {installation.dead_man_error or 'it answered'}."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return redirect("admin:workers_installation_change", Installation.get().pk)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_GET(self.database_view))
        return [path("database/", view, name="workers_database"), *super().get_urls()]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """A report whose hour had passed when it was set is not one that was missed: the next one is the first."""
        super().save_related(request, form, formsets, change)
        when = ("report_weekday", "report_hour", "report_zone", "report_channels")
        if set(when) & set(form.changed_data) and form.instance.report_channels.exists():
            reports.pass_over(form.instance, timezone.now())

    def response_change(self, request: HttpRequest, obj: Installation) -> HttpResponse:
        if "_send_report" not in request.POST:
            return super().response_change(request, obj)
        now = timezone.now()
        sent = reports.send_now(obj.report_channels.all(), obj, now)
        if sent:
            who = who_of(request)
            SettingChange.objects.create(
                at=now,
                actor=who.name[:150],
                address=who.address[:64],
                setting="installation",
                field="weekly report",
                new=f"asked for at once, for {reports.plural(sent, 'channel', 'channels')}",
            )
            text = f"Saved. The report is on its way to {reports.plural(sent, 'channel', 'channels')}."
            self.message_user(request, text, messages.SUCCESS)
        else:
            text = "Saved, but the report was sent to nobody: choose a channel that is enabled."
            self.message_user(request, text, messages.WARNING)
        return redirect(request.path)

    def database_view(self, request: HttpRequest) -> HttpResponse:
        """Show the database to whoever may see the installation."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Database",
            "opts": self.opts,
            "database": database(timezone.now()),
        }
        return render(request, "admin/workers/database.html", context)
