"""What the hub's thread does: it reads what changed, and renders it once for everybody who shows it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

from . import fragments, queries
from .autopilot.page import notices
from .models import Change, Remediation, Worker
from .outbox import PATIENCE
from .queries import FleetQuery
from .queries.alerts import AlertsQuery
from .queries.alerts import alerts as read_alerts
from .queries.events import EventQuery, activity_of, waiting
from .queries.incident_query import IncidentQuery
from .queries.incidents import (
    count_incidents,
    incident_page,
    incidents_of_run,
    runs_of,
    waiting_incidents,
)
from .queries.incidents import rows as incident_rows
from .queries.integrity import IntegrityQuery
from .queries.integrity import integrity as read_integrity
from .queries.lights import lights as read_lights
from .queries.lights import measure_push
from .queries.processes import host_processes
from .remediation.queries import batch_sum, cards_of, worker_repairs
from .screens import View
from .vitals import VITALS


@dataclass(frozen=True, slots=True)
class Repair:
    """A remediation that changed, as text, and what it is about."""

    pk: int
    workers: frozenset[int]
    batch: int | None
    new: bool
    again: bool  # a preview of an act on many, in the place of one that had become wrong
    texts: tuple[str, ...]

    def shown_by(self, view: View) -> bool:
        """Whether a page may show this remediation somewhere."""
        mine = self.pk in view.remediations or (view.batch is not None and view.batch == self.batch)
        return view.audit or mine or view.worker in self.workers


def arrive(view: View) -> tuple[View, list[str]]:
    """Complete a view with the rows that it shows, and render what has changed since it was rendered."""
    if view.query is not None and view.shown is None:
        view = replace(view, shown=tuple(queries.page_keys(view.query, timezone.now())))
    if view.everything and view.position is None:
        return view, []
    changed = changed_since(view.position)
    if view.everything:
        return view, list(render(sorted(changed or ()), [])[0].values())
    rows, pages = render(
        [key for key in view.shown or () if changed is None or key in changed],
        [view.worker] if view.worker is not None and (changed is None or view.worker in changed) else [],
    )
    cards = [text for repair in repaired(missed(view)) for text in repair.texts]
    decided = view.policies and changed_since(view.position, Change.Kind.POLICY) != set()
    news = [fragments.something_new()] if decided or (view.audit and changed is None) else []
    troubles = incidents_missed(view)
    return view, [*rows.values(), *(text for parts in pages.values() for text in parts), *cards, *news, *troubles]


def incidents_missed(view: View) -> list[str]:
    """Incidents that a page may show as they were before."""
    shown = view.troubles | ({view.incident} if view.incident else set())
    changed = changed_since(view.position, Change.Kind.INCIDENT) if shown else set()
    keys = shown if changed is None or MANY in changed else shown & changed
    texts = incidents(keys & view.troubles, {view.incident} & keys if view.incident else set())
    return [text for several in texts for text in several.values()]


def missed(view: View) -> set[int]:
    """The remediations that a page may show as they were before: its cards, and the rows that changed meanwhile."""
    if view.batch is None and not view.audit:
        return set(view.remediations)
    changed = changed_since(view.position, Change.Kind.REMEDIATION)
    if view.batch is None:
        return changed or set()
    mine = set(Remediation.objects.filter(batch=view.batch).values_list("pk", flat=True))
    return mine if changed is None else mine & changed


def changed_since(position: int | None, kind: Change.Kind = Change.Kind.WORKER) -> set[int] | None:
    """Keys of what changed behind a position; None where nobody can tell any more: then all may have."""
    if position is None:
        return None
    outbox = Change.objects.all()
    first, last = outbox.order_by("id").first(), outbox.order_by("-id").first()
    if last is None or first is None:
        return set() if position == 0 else None
    if position > last.pk or position + 1 < first.pk:
        return None
    news = outbox.filter(pk__gt=position)
    if connection.vendor == "postgresql":  # a smaller id may have been committed after the page was rendered
        at = outbox.filter(pk__lte=position).order_by("-id").values_list("at", flat=True).first() or first.at
        news = outbox.filter(pk__gt=position) | outbox.filter(at__gt=at - timedelta(seconds=PATIENCE))
    return {key for key in news.filter(kind=kind).values_list("key", flat=True) if key is not None}


def render(row_keys: list[int], page_keys: list[int]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Render rows and worker pages; one query for the rows, one for the pollers."""
    now = timezone.now()
    rows: dict[int, str] = {}
    if row_keys:
        watching = queries.watches(now)
        for start in range(0, len(row_keys), 500):
            found = {row.worker.pk: row for row in queries.rows(row_keys[start : start + 500], watching, now)}
            rows |= {key: fragments.row(found[key]) for key in row_keys[start : start + 500] if key in found}
    return rows, {key: parts for key in page_keys if (parts := worker_parts(key, now))}


def worker_parts(key: int, now: datetime) -> list[str]:
    worker = Worker.objects.filter(pk=key).first()
    if worker is None:
        return []
    page, troubles = queries.worker_page(worker, (), 0, now), incidents_of_run(worker, now)
    return fragments.worker_parts(page, worker_repairs(worker, now), troubles, notices(worker, now))


def touched(keys: set[int], workers: set[int]) -> set[int]:
    """Remediations that look different now: those that changed, what they undo or stand in the place of, and those
    whose new task has found its worker."""
    tasks = Worker.objects.filter(pk__in=workers).exclude(task_id="").values_list("task_id", flat=True)
    others = Remediation.objects.filter(pk__in=keys).values_list("undoes", "instead_of")
    found = set(Remediation.objects.filter(new_task_id__in=set(tasks)).values_list("pk", flat=True))
    return keys | found | {key for pair in others for key in pair if key is not None}


def repaired(keys: set[int]) -> list[Repair]:
    """Render remediations, each once, with the sum of the act on many that it belongs to."""
    now = timezone.now()
    found = []
    summaries: dict[int, list[str]] = {}
    for card in cards_of(keys, now) if keys else ():
        it, texts = card.remediation, fragments.remediation(card)
        if it.batch and it.batch_id is not None:
            if it.batch_id not in summaries:
                summaries[it.batch_id] = fragments.batch(batch_sum(it.batch))
            texts += summaries[it.batch_id]
        about = frozenset(key for key in (it.worker_id, it.undoes and it.undoes.worker_id) if key)
        new = it.state in (it.State.PLANNING, it.State.PLANNED)
        again = it.batch_id is not None and it.instead_of_id is not None
        found.append(Repair(it.pk, about, it.batch_id, new, again, tuple(texts)))
    return found


#: The key in the outbox that stands for more incidents than any page shows.
MANY = 0


def incidents(row_keys: Collection[int], page_keys: Collection[int]) -> tuple[dict[int, str], dict[int, str]]:
    """Render incidents as rows of a list, and as the card of their own pages."""
    now = timezone.now()
    rows = {each.incident.pk: fragments.incident_row(each) for each in incident_rows(row_keys, now)} if row_keys else {}
    rows |= {key: fragments.incident_gone(key) for key in row_keys if key not in rows}
    pages = {key: page for key in page_keys if (page := incident_page(key, now))}
    return rows, {key: fragments.incident_card(page) for key, page in pages.items()}


def count_of_incidents(query: IncidentQuery, newest: set[int]) -> tuple[dict[str, str], dict[int, str]]:
    """Count one view of incidents, and for each page of it what came since that was read."""
    now = timezone.now()
    new = {key: fragments.incidents_waiting(waiting_incidents(query, key, now), query) for key in newest}
    return fragments.incident_counts(count_incidents(query, now)), new


def runs_in_trouble(keys: Collection[int], among: Collection[int]) -> set[int]:
    """Which of these runs have an incident among those that changed; all, where very many did."""
    return set(among) if MANY in keys else runs_of(keys, among)


def events_waiting(query: EventQuery, newest: int) -> str:
    return fragments.events_waiting(waiting(query, newest), query)


def activity_text(key: int) -> dict[str, str]:
    worker = Worker.objects.filter(pk=key).first()
    return {"activity": fragments.activity(activity_of(worker), timezone.now())} if worker else {}


def alerts_of(query: AlertsQuery) -> dict[str, str]:
    return fragments.alerts(read_alerts(query, timezone.now()))


def findings_of(query: IntegrityQuery) -> dict[str, str]:
    return fragments.integrity(read_integrity(query, timezone.now()))


def host_list() -> str:
    return fragments.host_list(host_processes(), timezone.now())


def pulse(position: int) -> dict[str, str]:
    now = timezone.now()
    watching = queries.watches(now)
    measure_push(VITALS, now)
    return fragments.pulse(watching, read_lights(watching, now), position, now)


def count(query: FleetQuery, shown: set[tuple[int, ...]]) -> tuple[dict[str, str], dict[tuple[int, ...], str]]:
    """Count one view, and compare it with what each page shows of it."""
    now = timezone.now()
    texts = fragments.summary(queries.count_fleet(query, now), now)
    compare = queries.news(query, {key for keys in shown for key in keys}, now)
    return texts, {keys: fragments.pill(compare(keys), query) for keys in shown}
