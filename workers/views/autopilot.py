"""The autopilot: what each policy does, and the acts by which people let it act or stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from workers.autopilot import promotion
from workers.autopilot.page import policies as read_policies
from workers.autopilot.promotion import PERMISSION, WORD, NotYet
from workers.models import Installation, Policy
from workers.params import text_of
from workers.who import Who

from .page import View, for_viewers, frame

for_promoters = permission_required(PERMISSION, raise_exception=True)


def _frame() -> dict[str, Any]:
    around = frame("view=autopilot")
    until = Installation.objects.filter(maintenance_until__gt=around["now"]).first()
    return {**around, "maintenance": until}


@require_GET
@for_viewers
def policies(request: HttpRequest) -> HttpResponse:
    """Show every policy: what it does, what it has done or would have, and how that turned out."""
    context = _frame()
    return render(request, "workers/autopilot.html", {**context, "policies": read_policies(context["now"])})


@require_GET
@for_viewers
def policy(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one policy, and for one in shadow what would happen at this moment if it were promoted."""
    context = _frame()
    found = read_policies(context["now"], key=pk)
    if not found:
        raise Http404("no such policy")
    shadow = found[0].policy.mode == Policy.Mode.SHADOW
    promoted = read_policies(context["now"], key=pk, as_active=True)[0] if shadow else None
    return render(request, "workers/policy.html", {**context, "shown": found[0], "promoted": promoted, "word": WORD})


Act = Callable[[HttpRequest, Policy, Who], str]


def _act(act: Act) -> View:
    """Make a view of something that is done to a policy; it says what was done, or why not."""

    @require_POST
    @for_viewers
    @for_promoters
    def view(request: HttpRequest, pk: int) -> HttpResponse:
        found = get_object_or_404(Policy, pk=pk)
        who = Who(request.user.get_username(), request.META.get("REMOTE_ADDR", ""))
        try:
            messages.success(request, f"{found.name}: {act(request, found, who)}")
        except NotYet as refusal:
            messages.error(request, f"{found.name}: {refusal}.")
        return redirect(found)

    return view


@_act
def promote(request: HttpRequest, found: Policy, who: Who) -> str:
    """Let it act."""
    promotion.promote(found, who, timezone.now(), text_of(request.POST, "word"))
    return "it acts from now on."


@_act
def demote(request: HttpRequest, found: Policy, who: Who) -> str:
    """Let it only note what it would do."""
    promotion.demote(found, who, timezone.now())
    return "it is in shadow from now on: it notes what it would do, and does nothing."


@_act
def turn_off(request: HttpRequest, found: Policy, who: Who) -> str:
    """Let it not even note anything."""
    promotion.turn_off(found, who, timezone.now())
    return "it is off."


@_act
def reset(request: HttpRequest, found: Policy, who: Who) -> str:
    """Let it go on after it has stopped itself."""
    promotion.reset(found, who, timezone.now())
    return "it goes on."
