"""What somebody sees who may not do something."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from workers import roles


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say what is missing and who can give it."""
    groups: list[str] = []
    if request.user.is_authenticated:
        groups = list(request.user.groups.order_by("name").values_list("name", flat=True))
    admins = User.objects.filter(Q(is_superuser=True) | Q(groups__name=roles.ADMIN), is_active=True).distinct()
    names = [user.get_full_name() or user.get_username() for user in admins.order_by("username")[:5]]
    return render(request, "403.html", {"groups": groups, "admins": names}, status=403)
