"""The limits of the verdict."""

from __future__ import annotations

from django import forms
from django.contrib import admin

from workers.health import LIMITS
from workers.models import Limit


class LimitForm(forms.ModelForm):
    """One limit: which one, and how long."""

    name = forms.ChoiceField(choices=[(name, f"{name}: {meaning}") for name, (meaning, _) in LIMITS.items()])
    seconds = forms.FloatField(min_value=1, max_value=365 * 86400, help_text="In seconds; 600 is ten minutes.")


@admin.register(Limit)
class LimitAdmin(admin.ModelAdmin):
    form = LimitForm
    list_display = ["name", "seconds"]
