"""What is odd in the coordination directories, and what can be done about it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET

from workers.queries.integrity import IntegrityQuery
from workers.queries.integrity import integrity as read_integrity

from .page import for_viewers, frame


@require_GET
@for_viewers
def integrity(request: HttpRequest) -> HttpResponse:
    """Show one page of findings; to htmx only the list and the counts."""
    around = frame("view=integrity")
    found = read_integrity(IntegrityQuery.parse(request.GET), around["now"])
    context = {**around, "found": found, "query": found.query}
    if request.headers.get("HX-Target") == "findings":
        counts = render_to_string("workers/integrity/kinds.html", {**context, "oob": True}, request)
        response = HttpResponse(render_to_string("workers/integrity/list.html", context, request) + counts)
    else:
        response = render(request, "workers/integrity.html", context)
    patch_vary_headers(response, ["HX-Target"])
    return response
