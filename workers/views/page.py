"""What all pages share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.http import HttpResponseBase
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from workers import queries
from workers.door import VIEW
from workers.queries import Watches
from workers.queries.lights import lights

View = Callable[..., HttpResponseBase]


def for_viewers(view: View) -> View:
    """Let only those in who may see the fleet; everybody else gets the page that says whom to ask."""
    allowed: View = permission_required(VIEW, raise_exception=True)(view)
    return allowed


def frame(
    view: str = "view=none",
    *,
    now: datetime | None = None,
    position: int | None = None,
    watches: Watches | None = None,
) -> dict[str, Any]:
    """The context of header, banners and lights. ``view`` is what the page asks of the live socket.

    Called before the page's own reads, unless it is given a ``position`` that was: the page then shows at least what
    that position of the outbox stands for, and is pushed all that comes after it. Lights are read where a template
    shows them: an answer to htmx is only a part of the page.
    """
    position = queries.outbox_position() if position is None else position
    now = now or timezone.now()
    seen = queries.watches(now) if watches is None else watches
    shown = SimpleLazyObject(lambda: lights(seen, now))
    return {"watches": seen, "lights": shown, "position": position, "now": now, "view": view}
