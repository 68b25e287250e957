"""Who changed which setting. Nobody changes that."""

from __future__ import annotations

from django.contrib import admin
from django.template.defaultfilters import truncatechars

from workers.models import SettingChange

from .base import ReadOnly

#: Characters of a value in the list; its page has all of it.
SHOWN = 120


@admin.register(SettingChange)
class SettingChangeAdmin(ReadOnly):
    list_display = ["at", "actor", "address", "setting", "field", "was", "became"]
    list_filter = ["actor", "field"]
    search_fields = ["setting", "actor", "field", "old", "new"]
    search_help_text = "A part of the setting, of its field or value, or of who changed it."
    date_hierarchy = "at"
    ordering = ["-at", "-id"]

    @admin.display(description="old")
    def was(self, change: SettingChange) -> str:
        return truncatechars(change.old, SHOWN)

    @admin.display(description="new")
    def became(self, change: SettingChange) -> str:
        return truncatechars(change.new, SHOWN)
