"""The fleet as it was: one past moment, or two of them compared. Nothing here is live, and nothing acts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from workers.queries import SIZES
from workers.queries.comparison import compare
from workers.queries.past import PastQuery, past_fleet


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
        context = {"compared": shown, **_around(shown.query, shown.pages, shown.matching)}
        return render(request, "workers/past/compared.html", {**context, "now": now})
    moment = past_fleet(query, now)
    context = {"past": moment, **_around(moment.query, moment.pages, moment.matching)}
    return render(request, "workers/past/moment.html", {**context, "now": now})


def _around(query: PastQuery, pages: int, matching: int) -> dict[str, Any]:
    page = query.page
    return {
        "query": query,
        "pager": pages > 1
        and {
            "pages": pages,
            "before": query.with_changes(page=page - 1).string if page > 1 else None,
            "after": query.with_changes(page=page + 1).string if page < pages else None,
        },
        "sizes": matching > SIZES[0]
        and [(size, query.with_changes(size=size).string, size == query.size) for size in SIZES],
    }
