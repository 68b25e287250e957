"""People and their roles."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from workers import roles
from workers.setting_changes import NOTHING, state_of

from .base import Recorded

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(Recorded, UserAdmin):
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

    def record(self, request: HttpRequest, setting: Any, before: Any) -> None:
        """Whoever has the role admin is staff; that too is recorded."""
        staff = setting.is_superuser or setting.groups.filter(name=roles.ADMIN).exists()
        if setting.is_staff != staff:
            User.objects.filter(pk=setting.pk).update(is_staff=staff)
        super().record(request, setting, before)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        """Django's page; it saves by itself."""
        user = self.get_object(request, id)
        with transaction.atomic():
            before = state_of(user) if user else NOTHING
            response = super().user_change_password(request, id, form_url)
            if user:
                super().record(request, user, before)
        return response


@admin.register(Group)
class RoleAdmin(Recorded, GroupAdmin):
    """Groups of people. What the roles may do is written in :mod:`workers.roles`, and set anew at every migrate."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not self._is_role(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not self._is_role(obj)

    def _is_role(self, obj: Any) -> bool:
        return obj is not None and obj.name in roles.ROLES
