"""Who was told of what, and what people do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_POST

from workers.alerting import people
from workers.alerting.people import MAY, RefusedError
from workers.models import Alert, AlertRule, Channel
from workers.params import text_of
from workers.queries.alerts import SEVERITIES, AlertsQuery
from workers.queries.alerts import alerts as read_alerts
from workers.who import Who

from .page import for_viewers, frame


@require_GET
@for_viewers
def alerts(request: HttpRequest) -> HttpResponse:
    """Show the open alerts, one page of the past ones, and the channels; to htmx only the list."""
    around = frame("view=alerts")
    found = read_alerts(AlertsQuery.parse(request.GET), around["now"])
    context = {**around, "found": found, "query": found.query}
    context["severities"] = list(SEVERITIES)
    if request.headers.get("HX-Target") == "alerts":
        response = HttpResponse(render_to_string("workers/alerts/list.html", context, request))
    else:
        response = render(request, "workers/alerts.html", context)
    patch_vary_headers(response, ["HX-Target"])
    return response


@require_POST
@for_viewers
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Say that somebody sees to an alert: `reason`."""
    alert = get_object_or_404(Alert, pk=pk)
    return _do(
        request, "acknowledge-alert", lambda who: people.acknowledge(alert, who, _reason(request), timezone.now())
    )


@require_POST
@for_viewers
def mute(request: HttpRequest, pk: int) -> HttpResponse:
    """Mute a rule `for` an hour, until tomorrow, or no longer: `hour`, `tomorrow`, `end`; with a `reason`."""
    rule = get_object_or_404(AlertRule, pk=pk)
    now = timezone.now()
    until = {"hour": now + timedelta(hours=1), "tomorrow": people.tomorrow(rule.quiet_zone, now), "end": None}
    length = request.POST.get("for", "")

    def do(who: Who) -> None:
        if length not in until:
            raise RefusedError("Say for how long")
        people.mute(rule, until[length], who, _reason(request), now)

    return _do(request, "mute-rule", do)


@require_POST
@for_viewers
def test(request: HttpRequest, pk: int) -> HttpResponse:
    """Send a test to a channel."""
    channel = get_object_or_404(Channel, pk=pk)

    def do(who: Who) -> None:
        people.test(channel, who, timezone.now())

    return _do(request, "test-channel", do)


def _reason(request: HttpRequest) -> str:
    return text_of(request.POST, "reason", people.REASON)


def _do(request: HttpRequest, deed: str, do: Callable[[Who], None]) -> HttpResponse:
    """Do it where the role allows, and show the page again: what it changed is seen there."""
    if not request.user.has_perm(MAY[deed]):
        raise PermissionDenied("Your role may not do that; ask an operator or an admin")
    try:
        do(Who(request.user.get_username(), request.META.get("REMOTE_ADDR", "")))
    except RefusedError as refusal:
        messages.error(request, str(refusal))
    return redirect("alerts")
