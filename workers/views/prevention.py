"""The runbook's preventions on one page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from workers.queries.prevention import prevention as read_prevention

from .page import for_viewers, frame


@require_GET
@for_viewers
def prevention(request: HttpRequest) -> HttpResponse:
    """Show how the fleet of one host is set up to prevent failures, and whether that holds."""
    around = frame()
    found = read_prevention(request.GET, around["now"])
    return render(request, "workers/prevention.html", {**around, "it": found})
