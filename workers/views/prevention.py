"""The runbook's preventions on one page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers import queries
from workers.queries.prevention import prevention as read_prevention

from .page import for_viewers, frame


@require_GET
@for_viewers
def prevention(request: HttpRequest) -> HttpResponse:
    """Show how the fleet of one host is set up to prevent failures, and whether that holds."""
    now = timezone.now()
    context = frame(queries.watches(now), queries.outbox_position(), now, "view=none")
    return render(request, "workers/prevention.html", {**context, "it": read_prevention(request.GET, now)})
