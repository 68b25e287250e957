"""The page of one worker."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers import queries
from workers.autopilot.page import notices
from workers.params import text_of
from workers.queries.events import activity_of
from workers.queries.incidents import incidents_of_run
from workers.remediation.queries import worker_repairs

from .logs import card_at_once
from .page import for_viewers, frame


@require_GET
@for_viewers
def worker(request: HttpRequest, worker_id: str = "") -> HttpResponse:
    """Show the live run of an id, else its newest; `?run=` asks for an earlier one."""
    now = timezone.now()
    run = request.GET.get("run", "")
    page = queries.find_run(worker_id, run, now)
    if page is None:
        context = {"worker_id": worker_id, "run": run, "similar": queries.similar_ids(worker_id)}
        return render(request, "workers/unknown.html", {**frame(now=now), **context}, status=404)
    around = frame(f"worker={page.worker.pk}", now=now, position=page.position)
    repairs = worker_repairs(page.worker, now)
    about = {"page": page, "repairs": repairs, "notices": notices(page.worker, now)}
    about |= {"logs": card_at_once(page.worker), "activity": activity_of(page.worker)}
    about["troubles"] = incidents_of_run(page.worker, now)
    return render(request, "workers/worker.html", {**around, **about})


@require_GET
@for_viewers
def activity(request: HttpRequest, worker_id: str) -> HttpResponse:
    """Show what the logs say of one run, narrowed to a `source` or a `type`; without htmx as a part of its page."""
    page = queries.find_run(worker_id, request.GET.get("run", ""), timezone.now())
    if page is None:
        raise Http404
    narrowed = {name: text_of(request.GET, name) for name in ("source", "type")}
    if not request.headers.get("HX-Request"):
        query = urlencode({"worker": worker_id, **{name: value for name, value in narrowed.items() if value}})
        return redirect(f"{reverse('events')}?{query}")
    context = {"activity": activity_of(page.worker, **narrowed), "now": timezone.now()}
    return render(request, "workers/worker/activity_list.html", context)
