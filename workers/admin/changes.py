"""Who changed which setting. Nobody changes that."""

from __future__ import annotations

from django.contrib import admin

from workers.models import SettingChange

from .base import ReadOnly


@admin.register(SettingChange)
class SettingChangeAdmin(ReadOnly):
    list_display = ["at", "actor", "address", "setting", "field", "old", "new"]
    list_filter = ["actor", "field"]
    search_fields = ["setting", "actor", "field", "old", "new"]
    search_help_text = "A part of the setting, of its field or value, or of who changed it."
    date_hierarchy = "at"
    ordering = ["-at", "-id"]
