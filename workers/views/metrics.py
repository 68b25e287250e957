"""What Prometheus scrapes, and who may."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from workers.metrics import exposition

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
#: What a proxy adds. Behind one everybody seems to come from this machine.
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")
PLAIN = "text/plain; charset=utf-8"


@require_safe
@login_not_required
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Show all metrics in the text format to whoever has the token; where none is set, to this machine itself."""
    token = settings.RELAY_METRICS_TOKEN
    if token and not _has(request, token):
        challenge = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        return HttpResponse("Send the bearer token that RELAY_METRICS_TOKEN holds.\n", PLAIN, 401, headers=challenge)
    if not token and not _is_from_here(request):
        return HttpResponse("Only from this machine itself, unless RELAY_METRICS_TOKEN is set.\n", PLAIN, 403)
    return HttpResponse(exposition(timezone.now()), CONTENT_TYPE_PLAIN_0_0_4)


def _has(request: HttpRequest, token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and constant_time_compare(given.strip(), token)


def _is_from_here(request: HttpRequest) -> bool:
    proxied = any(name in request.headers for name in FORWARDED)
    return request.META.get("REMOTE_ADDR") in LOOPBACK and not proxied
