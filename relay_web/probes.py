"""Probes: is this process alive, and is it of use? For those who start it anew or send it visitors.

They are answered before anything else looks at the request: no login, no session, no redirect to https, and whatever
name the probe calls us by. A kubelet or a load balancer asks by the address of the machine, which ALLOWED_HOSTS does
not hold; it would take the refusal for a death and restart a process that is well. That costs nothing: the answer is
the same for every name, holds no link and says nothing of the fleet.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

LIVE, READY = "/healthz", "/healthz/ready"


class ProbeMiddleware:
    """Answers `GET /healthz` on the event loop itself: a process whose threads are all busy is alive, too."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        path = request.path_info.removesuffix("/")
        if path not in (LIVE, READY):
            return self.get_response(request)
        ready = path == READY or "ready" in request.GET
        if iscoroutinefunction(self):
            return _answer_soon(request, ready)
        return answer(request, readiness() if ready else None)


async def _answer_soon(request: HttpRequest, ready: bool) -> HttpResponseBase:
    return answer(request, await sync_to_async(readiness)() if ready else None)


def readiness() -> dict[str, str]:
    """What keeps this process from being of use, by the name of the check; "" where that is well."""
    from workers.readiness import checks  # models: not before the apps are there

    return checks()


def answer(request: HttpRequest, checks: dict[str, str] | None) -> HttpResponse:
    """200 with ``{"status": "ok"}``, or 503 where a check fails, with the state and the reason of each check."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    bad = any((checks or {}).values())
    body: dict[str, Any] = {"status": "bad" if bad else "ok"}
    if checks is not None:
        body["checks"] = {
            name: {"status": "bad", "reason": reason} if reason else {"status": "ok"} for name, reason in checks.items()
        }
    text = json.dumps(body).encode()
    response = HttpResponse(
        b"" if request.method == "HEAD" else text,
        status=503 if bad else 200,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "Content-Length": str(len(text))},
    )
    # Django logs every 503 as an error, and probes come every few seconds: who asked has been told.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
