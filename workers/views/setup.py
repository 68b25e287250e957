"""The page behind the one-time link of a first start."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from workers.door import BACKEND
from workers.setup import AlreadySetUp, FirstAdminForm, refusal


@require_http_methods(["GET", "POST"])
@login_not_required
@never_cache
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Make the first admin, and sign in as that."""
    if problem := refusal(token):
        return render(request, "workers/setup.html", {"problem": problem}, status=403)
    form = FirstAdminForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = form.save()
        except AlreadySetUp:
            return render(request, "workers/setup.html", {"problem": refusal(token)}, status=403)
        login(request, user, backend=BACKEND)
        return redirect("fleet")
    return render(request, "workers/setup.html", {"form": form})
