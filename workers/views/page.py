"""What all pages share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.http import HttpResponseBase
from django.utils.functional import SimpleLazyObject

from workers.door import VIEW
from workers.queries import Watches
from workers.queries.lights import lights

View = Callable[..., HttpResponseBase]


def for_viewers(view: View) -> View:
    """Let only those in who may see the fleet; everybody else gets the page that says whom to ask."""
    allowed: View = permission_required(VIEW, raise_exception=True)(view)
    return allowed


def frame(watches: Watches, position: int, now: datetime, view: str) -> dict[str, Any]:
    """The context of header, banners and lights. ``view`` is what the page asks of the live socket.

    Lights are read where a template shows them: an answer to htmx is only a part of the page.
    """
    shown = SimpleLazyObject(lambda: lights(watches, now))
    return {"watches": watches, "lights": shown, "position": position, "now": now, "view": view}
