"""The stream of events."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET

from workers.queries.events import EventQuery
from workers.queries.events import events as read_events

from .page import for_viewers, frame


@require_GET
@for_viewers
def events(request: HttpRequest) -> HttpResponse:
    """Show one page of the stream; to htmx only the list."""
    around = frame("view=events")
    found = read_events(EventQuery.parse(request.GET))
    context = {**around, "events": found, "query": found.query}
    part = request.headers.get("HX-Target") == "stream"
    response = render(request, "workers/events/list.html" if part else "workers/events.html", context)
    patch_vary_headers(response, ["HX-Target"])
    return response
