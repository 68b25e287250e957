"""What the pages of the admin are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection, models, transaction
from django.db.models import QuerySet
from django.forms.utils import flatatt
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from workers.models import Poller
from workers.secrets_at_rest import SecretField
from workers.setting_changes import NOTHING, name_of, record, state_of
from workers.who import Who

#: Rows of a list are counted up to this many.
COUNTED = 10_000


class MoreThan(int):
    """A count that was given up at this number, and says so."""

    def __str__(self) -> str:
        return f"more than {int(self):,}"


class BoundedPaginator(Paginator):
    """Counts at most COUNTED rows: of a million, nobody turns the last page, and counting them takes seconds."""

    @cached_property
    def count(self) -> int:
        found: Any = self.object_list
        counted: int = found.order_by()[: COUNTED + 1].count()
        return MoreThan(COUNTED) if counted > COUNTED else counted


class ReadOnly(admin.ModelAdmin):
    """Observed data: the poller alone writes it. Lists never count a big table, and never count for filters."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    list_per_page = 50
    #: Columns that are looked up by how they begin, in an index.
    search_beginnings: Sequence[str] = ()
    #: Columns that are looked up by the whole of them, in an index.
    search_whole: Sequence[str] = ()

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return (*self.search_beginnings, *self.search_whole, *self.search_fields)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        """Search in indexes where it says so: Django's own `^` and `=` ignore case, and so read every row."""
        if not (self.search_beginnings or self.search_whole):
            return super().get_search_results(request, queryset, search_term)
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        found = models.Q()
        for column in self.search_whole:
            found |= models.Q(**{column: term})
        for column in self.search_beginnings:
            if connection.vendor == "sqlite":  # whose LIKE uses no index, and whose order is that of the bytes
                found |= models.Q(**{f"{column}__gte": term, f"{column}__lt": f"{term}\U0010ffff"})
            else:
                found |= models.Q(**{f"{column}__startswith": term})
        return queryset.filter(found), False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


# -- lists


class HostFilter(admin.SimpleListFilter):
    """The hosts that have a poller. The distinct values of a big table would be read from all of it."""

    title = parameter_name = "host"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(host, host) for host in Poller.objects.order_by("host").values_list("host", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(host=self.value()) if self.value() else queryset


class LatelyFilter(admin.SimpleListFilter):
    """How lately. A date hierarchy would read the whole table for its first and its last day."""

    title = "time"
    parameter_name = "within"
    column = "at"
    SPANS = (
        ("1h", "The last hour", timedelta(hours=1)),
        ("24h", "The last 24 hours", timedelta(hours=24)),
        ("7d", "The last 7 days", timedelta(days=7)),
        ("30d", "The last 30 days", timedelta(days=30)),
    )

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, label, _ in self.SPANS]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        span = next((span for name, _, span in self.SPANS if name == self.value()), None)
        return queryset.filter(**{f"{self.column}__gte": timezone.now() - span}) if span else queryset


def link(text: Any, view: str, *args: Any, **query: Any) -> SafeString:
    """A link to a page of the site or of the admin, with a query string."""
    return linked(text, reverse(view, args=args) + (f"?{urlencode(query)}" if query else ""))


def linked(text: Any, address: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', address, text)


def link_list(links: Iterable[SafeString]) -> SafeString:
    joined = SafeString(" · ")
    return SafeString(joined.join(links))


# -- settings


class SecretInput(forms.PasswordInput):
    """Never shows what is stored, only that something is; one that may be empty can be removed."""

    REMOVE = object()

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        written = super().value_from_datadict(data, files, name)
        return self.REMOVE if not written and data.get(f"{name}-remove") and not self.is_required else written

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        attributes = {**self.attrs, **(attrs or {}), "type": "password", "name": name, "autocomplete": "new-password"}
        attributes.setdefault("class", "vTextField")
        field = format_html("<input{}>", flatatt(attributes))
        if not value or value is self.REMOVE:
            return field
        remove = format_html(' <label class="inline"><input type="checkbox" name="{}-remove"> Remove it</label>', name)
        note = format_html('<span class="stored">One is stored.</span>{}', "" if self.is_required else remove)
        return format_html("{} {}", field, note)


class SecretFormField(forms.CharField):
    """A secret of a setting: what is left empty stays as it is. For forms of :class:`SettingForm`."""

    widget = SecretInput

    def clean(self, value: Any) -> Any:
        return value if value is SecretInput.REMOVE else super().clean(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


class SettingForm(forms.ModelForm):
    """A form of a setting; the base of every form that has a secret in it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if isinstance(field, SecretFormField):
                field.widget.is_required = field.required
                if getattr(self.instance, name, ""):
                    field.required = False
                field.widget.attrs.pop("required", None)

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name, field in self.fields.items():
            if isinstance(field, SecretFormField) and name in cleaned:
                if cleaned[name] is SecretInput.REMOVE:
                    cleaned[name] = ""
                elif not cleaned[name]:
                    cleaned[name] = getattr(self.instance, name)
        return cleaned


def who_of(request: HttpRequest) -> Who:
    return Who(request.user.get_username(), request.META.get("REMOTE_ADDR", ""))


class Recorded(admin.ModelAdmin):
    """Records every change that is made here, in the transaction that makes it. For settings and people alike."""

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        # Nothing is written yet; the rest of it, like roles, is saved after this and compared then
        request._before = state_of(form.instance) if change else NOTHING  # type: ignore[attr-defined]
        return super().save_form(request, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        self.record(request, form.instance, request._before)  # type: ignore[attr-defined]

    def record(self, request: HttpRequest, setting: Any, before: Any) -> None:
        record(who_of(request), name_of(setting), before, state_of(setting))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            record(who_of(request), name_of(obj), state_of(obj), NOTHING)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        with transaction.atomic():
            for each in queryset:
                record(who_of(request), name_of(each), state_of(each), NOTHING)
            super().delete_queryset(request, queryset)


class Setting(Recorded):
    """What an admin sets. Its secrets are never shown, and stay where their field is left empty."""

    form = SettingForm
    formfield_overrides = {SecretField: {"form_class": SecretFormField, "widget": SecretInput}}

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write what the form holds and no other column: those are written by whoever sends, calls or decides."""
        columns = [each.name for each in obj._meta.concrete_fields if each.name in form.fields and not each.primary_key]
        obj.save(update_fields=columns if change else None)
