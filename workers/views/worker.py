"""The page of one worker."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workers import queries
from workers.remediation.queries import worker_repairs

from .page import for_viewers, frame


@require_GET
@for_viewers
def worker(request: HttpRequest, worker_id: str = "") -> HttpResponse:
    """Show the live run of an id, else its newest; `?run=` asks for an earlier one."""
    now = timezone.now()
    run = request.GET.get("run", "")
    page = queries.find_run(worker_id, run, now)
    watches = queries.watches(now)
    if page is None:
        context = {"worker_id": worker_id, "run": run, "similar": queries.similar_ids(worker_id)}
        around = frame(watches, queries.outbox_position(), now, "view=none")
        return render(request, "workers/unknown.html", {**around, **context}, status=404)
    around = frame(watches, page.position, now, f"worker={page.worker.pk}")
    repairs = worker_repairs(page.worker, now)
    return render(request, "workers/worker.html", {**around, "page": page, "repairs": repairs})
