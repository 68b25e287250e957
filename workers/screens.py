"""What a browser shows, as it says in the query string of its socket: that alone is sent to it."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import QueryDict

from .params import whole, wholes
from .queries import SIZES, FleetQuery
from .queries.alerts import AlertsQuery
from .queries.events import EventQuery
from .queries.incident_query import IncidentQuery
from .queries.incidents import PAGE as INCIDENTS
from .queries.integrity import IntegrityQuery

#: Cards of remediations that one page may show.
MOST_CARDS = 50


@dataclass(frozen=True)
class View:
    """What a browser shows, as it says in the query string of its socket."""

    query: FleetQuery | None = None  # a fleet page
    shown: tuple[int, ...] | None = None  # the rows on it, in order; None: as its query says
    worker: int | None = None  # a worker page
    everything: bool = False  # every worker that changes
    remediations: frozenset[int] = frozenset()  # cards on the page
    batch: int | None = None  # an act on many
    audit: bool = False  # the list of remediations
    policies: bool = False  # the autopilot
    processes: bool = False  # the processes of the hosts
    integrity: IntegrityQuery | None = None  # what is odd in the coordination directories
    alerts: AlertsQuery | None = None  # whom what was told
    events: EventQuery | None = None  # the stream of events
    incidents: IncidentQuery | None = None  # a list of incidents
    troubles: frozenset[int] = frozenset()  # the rows of it
    incident: int | None = None  # the page of one incident
    newest: int = 0  # the newest event, or incident, that was stored when the list was rendered
    position: int | None = None  # the position of the outbox that it was rendered at

    @property
    def shows_repairs(self) -> bool:
        return bool(self.remediations or self.batch or self.audit or self.worker)

    @classmethod
    def parse(cls, query_string: str) -> View:
        """Read it. `view=…` and the page's own query string limit it; `shown` and `position` say what it has."""
        params = QueryDict(query_string)
        position = whole(params.get("position", ""))
        if set(params) <= {"position"}:
            return cls(everything=True, position=position)
        cards = frozenset(wholes(params.get("remediation", "").split(","))[:MOST_CARDS])
        if "worker" in params:
            return cls(worker=whole(params["worker"]), remediations=cards, position=position)
        if params.get("view") == "events":
            return cls(events=EventQuery.parse(params), newest=whole(params.get("newest", "")) or 0, position=position)
        if params.get("view") == "incidents":
            rows = frozenset(wholes(params.get("rows", "").split(","))[:INCIDENTS])
            newest = whole(params.get("newest", "")) or 0
            return cls(incidents=IncidentQuery.parse(params), troubles=rows, newest=newest, position=position)
        if params.get("view") == "incident":
            return cls(incident=whole(params.get("incident", "")), position=position)
        if params.get("view") == "alerts":
            return cls(alerts=AlertsQuery.parse(params), position=position)
        if params.get("view") == "integrity":
            return cls(integrity=IntegrityQuery.parse(params), remediations=cards, position=position)
        if "batch" in params:
            return cls(batch=whole(params["batch"]), position=position)
        if params.get("view", "fleet" if "remediation" not in params else "card") != "fleet":
            shown = params.get("view")
            return cls(
                remediations=cards,
                audit=shown == "remediations",
                policies=shown == "autopilot",
                processes=shown == "processes",
                position=position,
            )
        shown = params.get("shown")
        keys = None if shown is None else tuple(wholes(shown.split(","))[: SIZES[-1]])
        return cls(FleetQuery.parse(params), keys, remediations=cards, position=position)
