"""The fleet page, and the CPU and memory of its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET

from workers import fragments, queries
from workers.params import wholes
from workers.queries import SIZES, SORTS, Fleet, FleetQuery
from workers.queries.paging import sizes
from workers.remediation.actions import IN_BULK

from .page import for_viewers, frame
from .past import past

#: Parts of the page outside the list that a new list changes too.
AROUND = ("tiles", "facets", "shown", "state", "kept")


@require_GET
@for_viewers
def fleet(request: HttpRequest) -> HttpResponse:
    """Show the fleet; to htmx only the list and what changes with it. `?at=` shows it as it was."""
    then = past(request) if request.GET.get("at", "").strip() else ()
    if isinstance(then, HttpResponse):
        return then
    shown = queries.fleet(FleetQuery.parse(request.GET), timezone.now())
    shown = replace(shown, ignored=(*then, *shown.ignored))
    context = _context(shown)
    if request.headers.get("HX-Target") == "list":
        parts = [render_to_string("workers/fleet/list.html", context, request)]
        parts += [render_to_string(f"workers/fleet/{name}.html", {**context, "oob": True}) for name in AROUND]
        response = HttpResponse("".join(parts), headers={"HX-Push-Url": reverse("fleet") + shown.query.string})
    else:
        response = render(request, "workers/fleet.html", context)
    patch_vary_headers(response, ["HX-Target"])
    return response


def _context(shown: Fleet) -> dict[str, Any]:
    query, counts = shown.query, shown.counts
    return {
        **frame("view=fleet", now=shown.now, position=shown.position, watches=shown.watches),
        "fleet": shown,
        "query": query,
        "counts": counts,
        "title": counts.title,
        "bulk": IN_BULK,
        "columns": [_column(query, name) for name in SORTS],
        "sizes": sizes(query, counts.matching, SIZES),
        "runs_href": query.with_changes(runs="" if query.runs else "all").string,
    }


def _column(query: FleetQuery, name: str) -> dict[str, str]:
    """The head of a column: where a click leads, and the order that holds now."""
    sort = query.sort or "health"
    order = {name: "ascending", f"-{name}": "descending"}.get(sort, "")
    return {"label": SORTS[name].label, "href": query.sorted_by(name).string, "order": order}


@require_GET
@for_viewers
def usage(request: HttpRequest) -> HttpResponse:
    """CPU and memory of the rows that a page shows: `?runs=1,2,3`. Sampled values are never pushed."""
    now = timezone.now()
    keys = wholes(request.GET.get("runs", "").split(","))[: SIZES[-1]]
    shown = queries.rows(keys, queries.watches(now), now)
    return HttpResponse(fragments.usage(row for row in shown if row.worker.pid and not row.lost))
