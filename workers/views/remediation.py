"""Asking for repairs, previews, the audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_filters
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from workers import queries
from workers.export import csv_response
from workers.models import Poller, Remediation, RemediationBatch, Worker
from workers.params import text_of, whole, wholes
from workers.queries import FleetQuery
from workers.remediation import ask
from workers.remediation.actions import ACTIONS, IN_BULK
from workers.remediation.ask import MOST_AT_ONCE, Person
from workers.remediation.ground import NotAllowed, Refusal
from workers.remediation.queries import LARGE, Card, batch_view, card, rows

from .page import for_viewers, frame

PAGE = 50
LONGEST_REASON = 2_000


def person(request: HttpRequest) -> Person:
    """Who sits at the browser, and why they ask."""
    return Person(
        name=request.user.get_username(),
        via="browser",
        user=request.user,
        address=request.META.get("REMOTE_ADDR", ""),
        reason=text_of(request.POST, "reason", LONGEST_REASON),
    )


def _answer(request: HttpRequest, pk: int, status: int = 200) -> HttpResponse:
    """Show a remediation where it was asked for: its card to htmx, its own page otherwise."""
    if request.headers.get("HX-Request"):
        return render(request, "workers/remediation/card.html", {"card": card(pk, timezone.now())}, status=status)
    return redirect("remediation", pk)


def _refused(request: HttpRequest, refusal: Refusal, back: str) -> HttpResponse:
    if isinstance(refusal, NotAllowed):
        raise PermissionDenied(str(refusal))
    if request.headers.get("HX-Request"):
        return render(request, "workers/remediation/refused.html", {"refusal": refusal, "back": back})
    messages.error(request, str(refusal))
    return redirect(back)


@require_POST
@for_viewers
def new(request: HttpRequest) -> HttpResponse:
    """Ask for the preview of one action: `action`, and `run` or `undoes` or `host`."""
    action = ACTIONS.get(request.POST.get("action", ""))
    if action is None:
        raise Http404("no such action")
    back = reverse("fleet")
    try:
        if action.name == "undo":
            undone = get_object_or_404(Remediation, pk=_key(request.POST, "undoes"))
            back = undone.get_absolute_url()
            remediation = ask.place(ask.draft_undo(person(request), undone))
        elif not action.runs:
            host = get_object_or_404(Poller, host=text_of(request.POST, "host")).host
            remediation = ask.place(ask.draft_for_host(action, person(request), host))
        else:
            worker = get_object_or_404(Worker, pk=_key(request.POST, "run"))
            back = worker.get_absolute_url()
            remediation = ask.request(action, person(request), worker, recover="recover" in request.POST)
            if "instead" in request.POST:  # the preview without the recovery is of no use any more
                others = Remediation.objects.filter(pk=_key(request.POST, "instead"), worker=worker)
                for other in others.filter(state=Remediation.State.PLANNED):
                    ask.withdraw(other, person(request))
    except Refusal as refusal:
        return _refused(request, refusal, back)
    return _answer(request, remediation.pk)


def _key(params: QueryDict, name: str) -> int:
    number = whole(params.get(name, ""))
    if number is None:
        raise Http404(f"{name} is no number")
    return number


@require_POST
@for_viewers
def confirm(request: HttpRequest, pk: int) -> HttpResponse:
    """Let a preview be carried out."""
    return _decide(request, pk, lambda it, who: ask.confirm(it, who, answered="answered" in request.POST))


@require_POST
@for_viewers
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a request back that has not begun."""
    return _decide(request, pk, ask.withdraw)


def _decide(request: HttpRequest, pk: int, decide: Callable[[Remediation, Person], None]) -> HttpResponse:
    remediation = get_object_or_404(Remediation, pk=pk)
    try:
        decide(remediation, person(request))
    except Refusal as refusal:
        return _refused(request, refusal, remediation.get_absolute_url())
    return _answer(request, pk)


@require_GET
@for_viewers
def remediation(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one remediation with its plan, its journal, its evidence and what was printed."""
    around = frame(f"remediation={pk}")
    shown = card(pk, around["now"])
    if shown is None:
        raise Http404
    return render(request, "workers/remediation.html", {**around, "card": shown})


# -- the audit


VIA = ("browser", "admin", "command line", "autopilot")


def _text(label: str) -> forms.TextInput:
    return forms.TextInput({"type": "search", "placeholder": label, "aria-label": label})


def _select(label: str) -> forms.Select:
    return forms.Select({"aria-label": label})


def _date() -> forms.DateInput:
    return forms.DateInput({"type": "date"})


class RemediationFilter(django_filters.FilterSet):
    """What the list can be narrowed to."""

    worker = django_filters.CharFilter(method="of_worker", max_length=255, widget=_text("Worker"))
    actor = django_filters.CharFilter(lookup_expr="icontains", max_length=150, widget=_text("Who"))
    action = django_filters.ChoiceFilter(
        choices=[(name, action.label) for name, action in ACTIONS.items()],
        empty_label="All actions",
        widget=_select("Action"),
    )
    state = django_filters.ChoiceFilter(
        choices=Remediation.State.choices, empty_label="All states", widget=_select("State")
    )
    via = django_filters.ChoiceFilter(
        choices=[(via, via) for via in VIA], empty_label="From anywhere", widget=_select("From")
    )
    since = django_filters.DateFilter(field_name="requested_at", lookup_expr="date__gte", widget=_date())
    until = django_filters.DateFilter(field_name="requested_at", lookup_expr="date__lte", widget=_date())

    class Meta:
        model = Remediation
        fields = ("worker", "actor", "action", "state", "via", "since", "until")

    def of_worker(self, remediations: QuerySet[Remediation], name: str, value: str) -> QuerySet[Remediation]:
        about = Q(worker__worker_id__icontains=value) | Q(undoes__worker__worker_id__icontains=value)
        return remediations.filter(about)


def _filtered(request: HttpRequest) -> RemediationFilter:
    return RemediationFilter(request.GET, Remediation.objects.order_by("-pk"))


@require_GET
@for_viewers
def remediations(request: HttpRequest) -> HttpResponse:
    """List what was done and asked for, newest first."""
    around = frame("view=remediations")
    filtered = _filtered(request)
    found = filtered.qs if filtered.is_valid() else Remediation.objects.none()
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    kept = request.GET.copy()
    for name in [name for name in kept if name == "page" or not kept[name]]:
        del kept[name]
    context = {
        **around,
        "filter": filtered,
        "cards": rows(page, around["now"]),
        "page": page,
        "kept": kept.urlencode(),
        "hosts": [watch.poller.host for watch in around["watches"].every],
    }
    return render(request, "workers/remediations.html", context)


_COLUMNS = (
    *("number", "requested", "confirmed", "finished", "action", "worker", "host", "state", "by", "via", "address"),
    *("reason", "plan", "result", "error", "task", "new task", "batch"),
)


@require_GET
@for_viewers
def export(request: HttpRequest) -> Any:
    """The filtered list as CSV, every row with its plan and its result."""
    filtered = _filtered(request)
    found = filtered.qs if filtered.is_valid() else Remediation.objects.none()
    whole = found.select_related("worker", "undoes__worker").prefetch_related("steps")
    every = whole.defer(*LARGE, *(f"undoes__{name}" for name in ("plan", *LARGE))).iterator(chunk_size=500)
    now = timezone.now()
    return csv_response(request, "remediations", _COLUMNS, (_csv_row(Card(each, None, now)) for each in every))


def _csv_row(shown: Card) -> tuple[Any, ...]:
    each = shown.remediation
    plan = [f"{step['detail']}: {step['target']}" for step in (each.plan or {}).get("steps", [])]
    result = [f"{step.state}: {step.detail}" for step in each.steps.all()]
    return (
        *(each.pk, each.requested_at, each.confirmed_at, each.finished_at, each.action, shown.subject, each.host),
        *(each.state, each.actor, each.via, each.address, each.reason, "\n".join(plan), "\n".join(result)),
        *(each.error, each.task_id, each.new_task_id, each.batch_id),
    )


# -- many at once


@require_POST
@for_viewers
def new_batch(request: HttpRequest) -> HttpResponse:
    """Ask for the previews of one action on the selected `run`s, or on `all` that match `query`."""
    action = next((each for each in IN_BULK if each.name == request.POST.get("action")), None)
    if action is None:
        raise Http404("no such action for many")
    try:
        workers, asked = _selected(request)
        batch = ask.request_many(ask.select(action, workers), person(request), asked)
    except Refusal as refusal:
        return _refused(request, refusal, reverse("fleet"))
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": batch.get_absolute_url()})
    return redirect(batch)


def _selected(request: HttpRequest) -> tuple[list[Worker], str]:
    """The runs that are meant, and how that was said. All that match are counted again: the number must still hold."""
    if "all" not in request.POST:
        keys = wholes(request.POST.getlist("run"))[:MOST_AT_ONCE]
        if not keys:
            raise Refusal("Nothing is selected")
        return list(Worker.objects.filter(pk__in=keys).order_by("worker_id")), f"{len(keys)} selected by hand"
    query = FleetQuery.parse(QueryDict(request.POST.get("query", "").lstrip("?")))
    found = list(queries.all_of(query, timezone.now())[: MOST_AT_ONCE + 1])
    if len(found) > MOST_AT_ONCE:
        raise Refusal(f"More than {MOST_AT_ONCE:,} match; narrow the filter")
    if (told := request.POST.get("all", "")) != str(len(found)):
        raise Refusal(f"{len(found)} match by now, not {told[:9]}; look again, then select them anew")
    return found, f"all {len(found)} that match “{query.words or 'live workers'}”"


@require_GET
@for_viewers
def batch(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one act on many: who is eligible and who is not, then how each comes along."""
    around = frame(f"batch={pk}")
    found = get_object_or_404(RemediationBatch, pk=pk)
    shown = batch_view(found, around["now"], request.GET.get("page", ""))
    return render(request, "workers/batch.html", {**around, "batch": shown})


@require_POST
@for_viewers
def confirm_batch(request: HttpRequest, pk: int) -> HttpResponse:
    """Let all previews of a batch be carried out; beyond the guard only with their number."""
    found = get_object_or_404(RemediationBatch, pk=pk)
    try:
        refused = ask.confirm_many(
            found,
            person(request),
            expect=whole(text_of(request.POST, "expect")),
            answered="answered" in request.POST,
        )
        for why in refused[:20]:
            messages.warning(request, why)
    except Refusal as refusal:
        return _refused(request, refusal, found.get_absolute_url())
    return redirect(found)


@require_POST
@for_viewers
def withdraw_batch(request: HttpRequest, pk: int) -> HttpResponse:
    """Take back what has not begun."""
    found = get_object_or_404(RemediationBatch, pk=pk)
    for each in found.remediations.filter(state__in=("planning", "planned", "confirmed")):
        try:
            ask.withdraw(each, person(request))
        except NotAllowed as refusal:
            raise PermissionDenied(str(refusal)) from None
        except Refusal as refusal:
            messages.warning(request, str(refusal))
    return redirect(found)
