"""Static files, served without leaving the event loop."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise for a chain of asynchronous middleware.

    WhiteNoise itself is synchronous, and one such link makes every request wait in a thread for the event loop. When
    the server is stopped meanwhile, the loop is gone, the thread waits for ever, and the process never ends.
    """

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(get_response, *args, **kwargs)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        answer: HttpResponseBase | Awaitable[HttpResponseBase] = super().__call__(request)
        return _ready(answer) if iscoroutinefunction(self) and isinstance(answer, HttpResponseBase) else answer


async def _ready(response: HttpResponseBase) -> HttpResponseBase:
    return response
