"""What happened in a period: the page, its tables as files, and the report of a week."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers import queries
from workers.export import csv_response
from workers.incidents import KINDS
from workers.queries.history import TABLES, Week, unhurried
from workers.queries.history import history as read_history
from workers.queries.history import report as read_report
from workers.queries.period import Period

from .page import for_viewers, frame


@require_GET
@for_viewers
def history(request: HttpRequest) -> HttpResponse:
    """Show a period."""
    now = timezone.now()
    position = queries.outbox_position()
    with unhurried():
        found = read_history(Period.parse(request.GET, now))
        context = {**frame(queries.watches(now), position, now, "view=none"), "found": found, "kinds": KINDS.items()}
        return render(request, "workers/history.html", context)


@require_GET
@for_viewers
def export(request: HttpRequest) -> StreamingHttpResponse:
    """Answer with one table of the page as a file."""
    name = request.GET.get("table", "incidents")
    if name not in TABLES:
        raise Http404(f"There is no table {name[:40]}; there are {', '.join(TABLES)}")
    found = read_history(Period.parse(request.GET, timezone.now()))
    table, period = TABLES[name], found.period
    days = f"{period.since.astimezone(period.tz):%Y-%m-%d}-{period.until.astimezone(period.tz):%Y-%m-%d}"
    return csv_response(f"history-{name}-{days}", table.header, table.rows(found.figures))


@require_GET
@for_viewers
def report(request: HttpRequest) -> HttpResponse:
    """Show a week as a document for paper and mail."""
    now = timezone.now()
    position = queries.outbox_position()
    week = Week.parse(request.GET, now)
    address = request.build_absolute_uri(request.path + week.string)
    with unhurried():
        context = {"report": read_report(week), "week": week, "address": address}
        context |= frame(queries.watches(now), position, now, "view=none")
        return render(request, "workers/history/report.html", context)
