"""The fleet as it was: one past moment, or two of them compared. Nothing here is live, and nothing acts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from workers.queries import SIZES
from workers.queries.comparison import Comparison, compare
from workers.queries.paging import sizes
from workers.queries.past import Past, PastQuery, past_fleet


def past(request: HttpRequest) -> HttpResponse | tuple[str, ...]:
    """Show the moment that is asked for; where none can be shown, return why not, for the page of the present.

    The context has no watches, so the page has no live mark and opens no socket.
    """
    now = timezone.now()
    query = PastQuery.parse(request.GET, now)
    if query.present:
        return query.ignored
    if query.with_:
        shown = compare(query, now)
        return render(request, "workers/past/compared.html", {"compared": shown, **_around(shown)})
    moment = past_fleet(query, now)
    return render(request, "workers/past/moment.html", {"past": moment, **_around(moment)})


def _around(shown: Past | Comparison) -> dict[str, Any]:
    query = shown.query
    return {"query": query, "sizes": sizes(query, shown.matching, SIZES), "pager": shown.pager, "now": shown.now}
