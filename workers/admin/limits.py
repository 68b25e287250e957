"""The limits of the verdict."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from workers.health import LIMITS, Limits
from workers.models import Limit
from workers.setting_rules import LONGEST_LIMIT, check_limits, in_minutes

from .base import Setting, SettingForm


class LimitForm(SettingForm):
    """One limit: which one, and how long."""

    name = forms.ChoiceField(
        choices=[(name, f"{name}: {meaning}") for name, (meaning, _) in LIMITS.items()],
        help_text="It holds for every worker of every host, from the next look of their pollers on. Where none is set "
        "here, the PM daemon's own configuration holds, else "
        + ", ".join(f"{name} {in_minutes(getattr(Limits(), name).total_seconds())}" for name in LIMITS)
        + ".",
    )
    seconds = forms.FloatField(
        min_value=1,
        max_value=LONGEST_LIMIT,
        help_text="In seconds; 600 is ten minutes. late_after must not be longer than stalled_after.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "name" in self.fields:
            self.fields["name"].disabled = True

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        name, seconds = cleaned.get("name"), cleaned.get("seconds")
        if name and seconds:
            others = dict(Limit.objects.exclude(name=name).values_list("name", "seconds"))
            try:
                check_limits({**others, name: seconds})
            except ValidationError as error:
                self.add_error("seconds", error)
        return cleaned


@admin.register(Limit)
class LimitAdmin(Setting):
    form = LimitForm
    list_display = ["name", "seconds", "long", "meaning"]
    ordering = ["name"]

    @admin.display(description="that is")
    def long(self, limit: Limit) -> str:
        return in_minutes(limit.seconds)

    @admin.display(description="when")
    def meaning(self, limit: Limit) -> str:
        return LIMITS[limit.name][0] if limit.name in LIMITS else "unknown to this version"

    def delete_model(self, request: HttpRequest, obj: Limit) -> None:
        super().delete_model(request, obj)
        self.warn(request)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        super().delete_queryset(request, queryset)
        self.warn(request)

    def warn(self, request: HttpRequest) -> None:
        """Say so where what is left makes no sense against the defaults; then the shorter of both holds for both."""
        try:
            check_limits(dict(Limit.objects.values_list("name", "seconds")))
        except ValidationError as error:
            self.message_user(request, f"{error.messages[0]} Until then the shorter holds for both.", messages.WARNING)
