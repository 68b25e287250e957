"""The logs of one worker: to be read, searched and downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET

from workers import logs, queries
from workers.models import Worker
from workers.queries.logs import CARD, MORE, LogPage, LogQuery, log_page
from workers.streaming import streamed

from .page import for_viewers, frame


@require_GET
@for_viewers
def worker_logs(request: HttpRequest, worker_id: str) -> HttpResponse:
    """Show one log of a run: its end, or the place that is asked for. `part=lines`: only lines, for the browser."""
    now = timezone.now()
    page = queries.find_run(worker_id, request.GET.get("run", ""), now)
    if page is None:
        raise Http404
    query = LogQuery.parse(request.GET)
    shown = read_page(page.worker, query, MORE if "part" in request.GET else None)
    context = {**frame(now=now, position=page.position), "page": page, "logs": shown}
    name = "lines" if request.GET.get("part") == "lines" else "page"
    if request.headers.get("HX-Target") == "found":
        name = "found"
    response = render(request, f"workers/logs/{name}.html", context, status=_status(shown))
    patch_vary_headers(response, ["HX-Target"])
    return response


def _status(shown: LogPage) -> int:
    """A file that is none of the worker's logs is not found; one that cannot be read is, and the page says why."""
    return 404 if shown.query.file and shown.log is None and shown.answer.listing.logs else 200


@require_GET
@for_viewers
def card(request: HttpRequest, worker_id: str) -> HttpResponse:
    """Show the end of the newest log, for a worker's page that did not wait for another host."""
    now = timezone.now()
    page = queries.find_run(worker_id, request.GET.get("run", ""), now)
    if page is None:
        raise Http404
    return render(request, "workers/logs/card.html", {"logs": card_of(page.worker), "page": page, "now": now})


def read_page(worker: Worker, query: LogQuery, most: int | None = None) -> LogPage:
    """Ask for what a page shows."""
    question = query.question(most) if most else query.question()
    return log_page(worker, logs.whose(worker), query, logs.ask(worker, question), here=logs.is_here(worker))


def card_of(worker: Worker) -> LogPage:
    """What the worker's page shows of its logs."""
    return read_page(worker, LogQuery(), CARD)


def card_at_once(worker: Worker) -> LogPage | None:
    """The same without waiting for anybody; None where another host has to be asked, or an id that is no address."""
    return card_of(worker) if worker.worker_id and logs.is_here(worker) else None


@require_GET
@for_viewers
def download(request: HttpRequest, worker_id: str) -> HttpResponseBase:
    """Send a whole log as text, redacted, a step at a time."""
    page = queries.find_run(worker_id, request.GET.get("run", ""), timezone.now())
    if page is None:
        raise Http404
    if not logs.is_here(page.worker):
        return HttpResponse(f"Only {page.worker.host} itself has this log.\n", status=409, content_type="text/plain")
    file = LogQuery.parse(request.GET).file
    text = logs.text(page.worker, file)
    if not isinstance(text, Iterator):
        return HttpResponse(f"{text.reason}\n", status=404, content_type="text/plain; charset=utf-8")
    response = streamed(request, text, "text/plain; charset=utf-8")
    response["Content-Disposition"] = content_disposition_header(True, _file_name(page.worker, file, timezone.now()))
    return response


def _file_name(worker: Worker, file: str, now: datetime) -> str:
    name = file.rpartition("/")[2]
    return f"{worker.worker_id}-{now:%Y%m%dT%H%M%SZ}-{name}" + ("" if name.endswith((".log", ".txt")) else ".txt")
