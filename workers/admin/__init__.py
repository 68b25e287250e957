"""The admin: what was observed is read-only, settings and people are editable."""

from __future__ import annotations

from django.contrib import admin

from . import alerting, autopilot, changes, incidents, installation, limits, observed, people, remediations

__all__ = [
    "alerting",
    "autopilot",
    "changes",
    "incidents",
    "installation",
    "limits",
    "observed",
    "people",
    "remediations",
]

admin.site.site_header = admin.site.site_title = "Relay Web"
admin.site.index_title = "Administration"
