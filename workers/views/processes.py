"""The processes of the hosts: the runbook's ``ps aux | grep claude``, with an answer to whose they are."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from workers.queries.processes import host_processes

from .page import for_viewers, frame


@require_GET
@for_viewers
def processes(request: HttpRequest) -> HttpResponse:
    """Show every process that is a worker's, looks like one's, or names one."""
    around = frame("view=processes")
    return render(request, "workers/processes.html", {**around, "hosts": host_processes()})
