"""What all pages share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.http import HttpResponseBase

from workers.door import VIEW
from workers.queries import Watches

View = Callable[..., HttpResponseBase]


def for_viewers(view: View) -> View:
    """Let only those in who may see the fleet; everybody else gets the page that says whom to ask."""
    allowed: View = permission_required(VIEW, raise_exception=True)(view)
    return allowed


def frame(watches: Watches, position: int, now: datetime, view: str) -> dict[str, Any]:
    """The context of header and banners. ``view`` is what the page asks of the live socket."""
    return {"watches": watches, "position": position, "now": now, "view": view}
