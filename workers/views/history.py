"""What happened in a period: the page, its tables as files, and the report of a week."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers.export import csv_response
from workers.incidents import KINDS
from workers.queries import detector, types
from workers.queries.detector import detector as read_detector
from workers.queries.history import TABLES, Week, unhurried
from workers.queries.history import history as read_history
from workers.queries.history import report as read_report
from workers.queries.period import Period
from workers.queries.types import worker_types

from .page import for_viewers, frame

#: The tables of the cards that are asked for last.
MEASURED: dict[str, tuple[Sequence[str], Callable[[Period], Iterable[Sequence[Any]]]]] = {
    "types": (types.HEADER, lambda period: types.table(worker_types(period))),
    "detector": (detector.CALLS_HEADER, lambda period: detector.calls_table(read_detector(period))),
    "limits": (detector.LIMITS_HEADER, lambda period: detector.limits_table(read_detector(period))),
}


@require_GET
@for_viewers
def history(request: HttpRequest) -> HttpResponse:
    """Show a period."""
    around = frame()
    with unhurried():
        found = read_history(Period.parse(request.GET, around["now"]))
        return render(request, "workers/history.html", {**around, "found": found, "kinds": KINDS.items()})


@require_GET
@for_viewers
def more(request: HttpRequest) -> HttpResponse:
    """Show what of a period lies further down the page; to htmx only the cards, which the page asks for by itself."""
    around = frame()
    name = "more_part" if request.headers.get("HX-Target") == "more" else "more"
    with unhurried():
        found = read_history(Period.parse(request.GET, around["now"]))
        context = {**around, "found": found, "period": found.period}
        return render(request, f"workers/history/{name}.html", context)


@require_GET
@for_viewers
def measured(request: HttpRequest) -> HttpResponse:
    """Show how the worker types and our own detector did; to htmx only the cards, which the page asks for last."""
    around = frame()
    name = "measured_cards" if request.headers.get("HX-Target") == "measured" else "measured"
    period = Period.parse(request.GET, around["now"])
    with unhurried():
        context = {
            **around,
            "period": period,
            "types": worker_types(period),
            "detector": read_detector(period),
            "export": period.string.replace("?", "&", 1),
        }
        return render(request, f"workers/history/{name}.html", context)


@require_GET
@for_viewers
def export(request: HttpRequest) -> StreamingHttpResponse:
    """Answer with one table of the page as a file."""
    name = request.GET.get("table", "incidents")
    if name not in TABLES and name not in MEASURED:
        raise Http404(f"There is no table {name[:40]}; there are {', '.join([*TABLES, *MEASURED])}")
    period = Period.parse(request.GET, timezone.now())
    days = f"{period.since.astimezone(period.tz):%Y-%m-%d}-{period.until.astimezone(period.tz):%Y-%m-%d}"
    if name in MEASURED:
        header, rows = MEASURED[name]
        return csv_response(request, f"history-{name}-{days}", header, rows(period))
    table = TABLES[name]
    return csv_response(request, f"history-{name}-{days}", table.header, table.rows(read_history(period).figures))


@require_GET
@for_viewers
def report(request: HttpRequest) -> HttpResponse:
    """Show a week as a document for paper and mail."""
    around = frame()
    week = Week.parse(request.GET, around["now"])
    address = request.build_absolute_uri(request.path + week.string)
    with unhurried():
        context = {**around, "report": read_report(week), "week": week, "address": address}
        return render(request, "workers/history/report.html", context)
