"""What a page is made of, as text: the same templates for the page, the htmx reply and the push.

A pushed fragment is one element per frame: parsed inside a `<template>`, a frame that starts with a `<div>` would lose
a `<tr>` that follows it, silently. What tells of one view says of which in `data-query`: a page that shows another by
now leaves it (static/js/live.js).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.template.loader import get_template

from .autopilot.page import Notices
from .queries import Counts, FleetQuery, News, Row, Watches, WorkerPage
from .queries.alerts import Alerts
from .queries.events import Activity, EventQuery
from .queries.incident_query import IncidentQuery
from .queries.incidents import Counts as IncidentCounts
from .queries.incidents import IncidentPage, IncidentRow
from .queries.integrity import Integrity
from .queries.lights import Light
from .queries.processes import HostView
from .remediation.queries import BatchView, Card, WorkerRepairs

#: The parts of a worker's page, each pushed as one frame; `templates/workers/worker/<name>.html`.
WORKER_PARTS = (
    *("state", "head", "why", "timeline", "facts", "processes", "documents"),
    *("autopilot", "remediate", "remediations", "incidents"),
)
_TICKING = re.compile(r"(<time [^>]*>)[^<]*(?=</time>)|data-(?:now|position)=\"[^\"]*\"")


def facts(text: str) -> str:
    """A fragment without what only ticks: two that are equal in this need not be sent twice."""
    return _TICKING.sub(r"\1", text)


def row(shown: Row) -> str:
    return get_template("workers/fleet/row.html").render({"row": shown, "oob": True})


def worker_parts(page: WorkerPage, repairs: WorkerRepairs, troubles: list[IncidentRow], notices: Notices) -> list[str]:
    context = {"page": page, "repairs": repairs, "troubles": troubles, "notices": notices, "oob": True}
    return [get_template(f"workers/worker/{name}.html").render(context) for name in WORKER_PARTS]


def remediation(card: Card) -> list[str]:
    """A remediation as a card and as a row of a list: a page shows one of them, or neither."""
    names = ("card", "row")
    return [get_template(f"workers/remediation/{name}.html").render({"card": card, "oob": True}) for name in names]


def batch(view: BatchView) -> list[str]:
    """How far an act on many is, and what its guard says of those that are left."""
    names = ("summary", "guard")
    return [get_template(f"workers/remediation/{name}.html").render({"batch": view, "oob": True}) for name in names]


def activity(found: Activity, now: datetime) -> str:
    """What the logs say of a worker."""
    return get_template("workers/worker/activity_list.html").render({"activity": found, "now": now, "oob": True})


def host_list(hosts: list[HostView], now: datetime) -> str:
    """The processes of all hosts."""
    return get_template("workers/processes/list.html").render({"hosts": hosts, "now": now, "oob": True})


def integrity(found: Integrity) -> dict[str, str]:
    """What is odd, as one view shows it, and how much of each kind there is."""
    return _render(("integrity/kinds", "integrity/list"), {"found": found, "query": found.query})


def incident_row(row: IncidentRow) -> str:
    return get_template("workers/incidents/row.html").render({"row": row, "oob": True})


def incident_gone(key: int) -> str:
    """Take the row of one away that was told of by a log and is seen live now: one trouble is one row."""
    return f'<tr id="incident-{key}" hx-swap-oob="delete"></tr>'


def incident_card(page: IncidentPage) -> str:
    """One incident on its own page."""
    return get_template("workers/incidents/card.html").render({"page": page, "oob": True})


def incident_counts(counts: IncidentCounts) -> dict[str, str]:
    """How many incidents a view has, by state and by kind."""
    return _render(("incidents/states", "incidents/kinds"), {"counts": counts})


def incidents_waiting(number: int, query: IncidentQuery) -> str:
    context = {"waiting": number, "query": query, "href": query.with_changes().string or "?", "oob": True}
    return get_template("workers/incidents/pill.html").render(context)


def alerts(found: Alerts) -> dict[str, str]:
    """The alerts as one view shows them, and how the channels do."""
    return _render(("alerts/list", "alerts/channels"), {"found": found, "query": found.query, "now": found.now})


def events_waiting(number: int, query: EventQuery) -> str:
    context = {"waiting": number, "query": query, "href": query.with_changes().string, "oob": True}
    return get_template("workers/events/pill.html").render(context)


def something_new() -> str:
    return get_template("workers/remediation/news.html").render({"new": True, "oob": True})


def pulse(watches: Watches, lights: Sequence[Light], position: int, now: datetime) -> dict[str, str]:
    """How alive the pollers are, whether the bell rings, and how the product itself does, for every page."""
    context = {"watches": watches, "lights": lights, "position": position, "now": now}
    return _render(("pulse", "bell", "banners", "fleet/daemon", "lights"), context)


def summary(counts: Counts, now: datetime) -> dict[str, str]:
    """The counts of a view: tiles, how many of how many, the tab's title and icon."""
    return _render(("fleet/tiles", "fleet/shown", "fleet/state"), {"counts": counts, "now": now})


def _render(names: Iterable[str], context: dict[str, Any]) -> dict[str, str]:
    return {name: get_template(f"workers/{name}.html").render({**context, "oob": True}) for name in names}


def pill(found: News, query: FleetQuery) -> str:
    context = {"news": found, "query": query, "href": query.string or "?", "oob": True}
    return get_template("workers/fleet/pill.html").render(context)


def usage(shown: Iterable[Row]) -> str:
    """CPU and memory of rows, for the page that asks for them."""
    template = get_template("workers/fleet/usage.html")
    return "".join(template.render({"worker": each.worker, "oob": True}) for each in shown)
