"""Incidents: what went wrong, who is at it, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_POST

from workers import acknowledge as tending
from workers.export import csv_response
from workers.incidents import KINDS, How, Kind
from workers.models import Incident, RootCause
from workers.params import text_of, whole, wholes
from workers.queries.events import moment_param
from workers.queries.incident_query import SORTS, SOURCES, WITHIN, IncidentQuery
from workers.queries.incidents import IncidentRow, every_row, incident_page, rows
from workers.queries.incidents import incidents as read_incidents
from workers.roles import ACKNOWLEDGE

from .page import View, for_viewers, frame

ANOTHER_NOTE = "Somebody else wrote a note meanwhile; it is kept. Yours was: {}"


def for_operators(view: View) -> View:
    """Let only those in who may say something of incidents."""
    allowed: View = permission_required(f"workers.{ACKNOWLEDGE}", raise_exception=True)(view)
    return allowed


@require_GET
@for_viewers
def incidents(request: HttpRequest) -> HttpResponse:
    """Show one page of incidents; to htmx only the list and the counts."""
    around = frame("view=incidents")
    found = read_incidents(IncidentQuery.parse(request.GET), around["now"])
    context = {**around, "found": found, "query": found.query}
    context["counts"] = found.counts
    if request.headers.get("HX-Target") == "incidents":
        parts = [render_to_string("workers/incidents/list.html", context, request)]
        for name in ("states", "kinds"):
            parts.append(render_to_string(f"workers/incidents/{name}.html", {**context, "oob": True}, request))
        response = HttpResponse("".join(parts))
    else:
        choices = {"withins": WITHIN, "sorts": SORTS, "sources": SOURCES, "hows": list(How)}
        help_of = [(kind, KINDS[kind]) for kind in Kind]
        response = render(request, "workers/incidents.html", {**context, **choices, "help_of": help_of})
    patch_vary_headers(response, ["HX-Target"])
    return response


@require_GET
@for_viewers
def incident(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one incident with its moments, what is said of it, and others of the same run or task."""
    around = frame(f"view=incident&incident={pk}")
    page = incident_page(pk, around["now"])
    if page is None:
        raise Http404
    return render(request, "workers/incident.html", {**around, "page": page})


_COLUMNS = (
    *("number", "kind", "worker", "host", "type", "master", "task", "attempt", "state", "began", "began known"),
    *("detected", "acknowledged", "resolved", "how", "repair", "repaired by", "seconds to detect"),
    *("seconds to acknowledge", "seconds to resolve", "seconds in all", "seconds nobody watched", "source", "reports"),
    *("cause", "acknowledged by", "reason", "root cause", "note", "note by", "note written"),
)


@require_GET
@for_viewers
def export(request: HttpRequest) -> Any:
    """All incidents of the filtered list as CSV, in its order, whatever the page."""
    now = timezone.now()
    query = IncidentQuery.parse(request.GET)
    return csv_response(request, "incidents", _COLUMNS, (_csv_row(row) for row in every_row(query, now)))


def _csv_row(row: IncidentRow) -> tuple[Any, ...]:
    it, run = row.incident, row.incident.run
    lengths = (row.time_to_detect, row.time_to_acknowledge, row.time_to_resolve, row.duration, row.unwatched)
    return (
        *(it.pk, it.kind, it.worker_id, it.host),
        *((run.worker_type, run.master, run.task_id) if run else ("", "", "")),
        *(it.attempt, row.state, it.began, "yes" if it.began_known else "no", it.detected, it.acknowledged),
        *(it.resolved, it.how, it.remediation_id, it.remediation.actor if it.remediation else ""),
        *(None if length is None else round(length.total_seconds()) for length in lengths),
        *("log" if it.from_log else "live", it.seen, it.cause, it.acknowledged_by, it.acknowledged_reason),
        *(it.root_cause.name if it.root_cause else "", it.note, it.note_by, it.note_at),
    )


# -- what people say


@require_POST
@for_viewers
@for_operators
def acknowledge_many(request: HttpRequest) -> HttpResponse:
    """Acknowledge the ticked incidents, or the `one` whose button was pressed, with the same reason."""
    asked = [request.POST["one"]] if "one" in request.POST else request.POST.getlist("incident")
    keys = wholes(asked)
    now = timezone.now()
    outcome = tending.acknowledge(keys, request.user.get_username(), _reason(request), now)
    if request.headers.get("HX-Request"):
        shown = rows([*outcome.done, *outcome.kept], timezone.now())
        texts = [
            render_to_string("workers/incidents/row.html", {"row": row, "oob": True, "now": now}, request)
            for row in shown
        ]
        said = render_to_string("workers/incidents/said.html", {"said": outcome.said, "oob": True}, request)
        return HttpResponse("".join([*texts, said]))
    messages.info(request, f"{outcome.said}.")
    query = IncidentQuery.parse(QueryDict(request.POST.get("query", "").lstrip("?")))
    return redirect(f"{reverse('incidents')}{query.string}")


@require_POST
@for_viewers
@for_operators
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Acknowledge one incident from its own page."""

    def say() -> str:
        outcome = tending.acknowledge([pk], request.user.get_username(), _reason(request), timezone.now())
        return outcome.kept.get(pk, "")

    return _say(request, pk, say)


def _reason(request: HttpRequest) -> str:
    return text_of(request.POST, "reason", tending.LONGEST_REASON)


@require_POST
@for_viewers
@for_operators
def take_back(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it be as if nobody had acknowledged it."""
    return _say(request, pk, lambda: "" if tending.take_back(pk, timezone.now()) else "Nobody had acknowledged it")


@require_POST
@for_viewers
@for_operators
def note(request: HttpRequest, pk: int) -> HttpResponse:
    """Replace the note, unless it is another one by now than that which was read."""

    def say() -> str:
        text = text_of(request.POST, "note", tending.LONGEST_NOTE)
        read_at = moment_param(request.POST, "read_at", [])
        written = tending.write_note(pk, request.user.get_username(), text, read_at, timezone.now())
        return "" if written else ANOTHER_NOTE.format(text)

    return _say(request, pk, say)


@require_POST
@for_viewers
@for_operators
def cause(request: HttpRequest, pk: int) -> HttpResponse:
    """Give it a root cause of the list, or none."""
    text = text_of(request.POST, "root_cause")
    chosen = get_object_or_404(RootCause, pk=whole(text)) if text else None

    def say() -> str:
        tending.label(pk, chosen, timezone.now())
        return ""

    return _say(request, pk, say)


def _say(request: HttpRequest, pk: int, say: Callable[[], str]) -> HttpResponse:
    """Do it, and show the incident with what there is to say: its card to htmx, its page otherwise."""
    found = get_object_or_404(Incident, pk=pk)
    said = say()
    if request.headers.get("HX-Request"):
        context = {"page": incident_page(pk, timezone.now()), "said": said}
        return render(request, "workers/incidents/card.html", context)
    if said:
        messages.info(request, f"{said}.")
    return redirect(found)
