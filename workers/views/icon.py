"""The icon of the tab, in the hue of a state. Its colours are read out of tokens.css, where alone they are written."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET

from workers.health import TROUBLED, Health

_TOKEN = re.compile(r"--([a-z]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
#: A full disc where all is well, a ring where something ended or waits, a square where somebody should look.
_DISC, _RING, _SQUARE = (
    '<circle cx="8" cy="8" r="6"/>',
    '<circle cx="8" cy="8" r="5" class="ring"/>',
    '<rect x="2" y="2" width="12" height="12" rx="3"/>',
)
#: Over every state: somebody should be here already.
_TRIANGLE = '<path d="M8 1 15.5 14.5H.5z"/>'


@cache
def _hues() -> dict[str, tuple[str, str]]:
    text = Path(settings.BASE_DIR, "static", "tokens.css").read_text()
    return {name: (light, dark) for name, light, dark in _TOKEN.findall(text)}


@require_GET
@login_not_required
@cache_control(max_age=86400, public=True)
def icon(request: HttpRequest, state: str) -> HttpResponse:
    """Draw the icon of a state; "calm" is that of a fleet without trouble, "alert" of a critical alert."""
    if state not in ("calm", "alert", *Health):
        raise Http404
    health = {"calm": Health.HEALTHY, "alert": Health.CRASHED}.get(state) or Health(state)
    light, dark = _hues()[health]
    shape = _SQUARE if health in TROUBLED - {Health.UNKNOWN} else _DISC if health is Health.HEALTHY else _RING
    shape = _TRIANGLE if state == "alert" else shape
    style = (
        f"*{{fill:{light};stroke:none}}.ring{{fill:none;stroke:{light};stroke-width:3}}"
        f"@media(prefers-color-scheme:dark){{*{{fill:{dark}}}.ring{{fill:none;stroke:{dark}}}}}"
    )
    body = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><style>{style}</style>{shape}</svg>'
    return HttpResponse(body, content_type="image/svg+xml")
