"""What is odd in the coordination directories, for the page and its pushes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When
from django.http import QueryDict

from workers.finding_kinds import KINDS, About, Kind
from workers.health import Health
from workers.models import Finding, Worker
from workers.params import positive, text_of
from workers.remediation.actions import Action, objection

from .paging import Pager, on_a_page, pager, pages_of

PAGE = 50
NOT_BLANK_ONLY = "More than missing values is damaged here; correct it in an editor, or quarantine it"


@dataclass(frozen=True)
class IntegrityQuery:
    """One view of what is odd, as a query string says it. Equal queries show the same."""

    kind: str = ""
    host: str = ""
    q: str = ""
    page: int = 1
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict) -> IntegrityQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        ignored: list[str] = []
        kind, page = text_of(params, "kind"), positive(params, "page", ignored) or 1
        if kind and kind not in list(Kind):
            ignored.append(f"the kind “{kind[:40]}”, which is none")
            kind = ""
        return cls(kind, text_of(params, "host"), text_of(params, "q"), page, tuple(ignored))

    def with_changes(self, **changes: Any) -> IntegrityQuery:
        """The same view with something else; every change but that of the page leads to the first one."""
        return replace(self, **{"page": 1, "ignored": (), **changes})

    @property
    def string(self) -> str:
        """The shortest query string that says this, with its question mark."""
        given = {"kind": self.kind, "host": self.host, "q": self.q, "page": self.page if self.page > 1 else ""}
        kept = {name: value for name, value in given.items() if value}
        return f"?{urlencode(kept)}" if kept else ""

    @property
    def filtered(self) -> bool:
        return bool(self.kind or self.host or self.q)

    @property
    def about(self) -> About | None:
        return KINDS[Kind(self.kind)] if self.kind else None


@dataclass(frozen=True, slots=True)
class Deed:
    """A repair beside a finding: pressed or, with a reason, not."""

    action: Action
    objection: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding with the run that it is about."""

    finding: Finding
    worker: Worker | None  # whose file it is
    namesake: Worker | None  # else a run of the id that it names
    first: bool  # of its kind on this page

    @property
    def deeds(self) -> list[Deed]:
        """The repairs of the table that fit, where its run is a case for them."""
        run = self.worker
        if run is None:
            return []
        cases = [action for action in self.finding.about.actions if not objection(action, run)]
        return [Deed(action, why_no_repair(action, self.finding)) for action in cases]


def why_no_repair(action: Action, finding: Finding | None) -> str:
    """Say why an unreadable file is no case for its repair; "" where it is one."""
    mends = action.name == "repair-spec"
    return NOT_BLANK_ONLY if mends and not (finding and finding.blank_only) else ""


@dataclass(frozen=True, slots=True)
class KindCount:
    """One kind with how many of it there are, and where a click on it leads."""

    kind: Kind
    about: About
    count: int
    on: bool
    href: str


@dataclass(frozen=True, slots=True)
class Integrity:
    """The page: everything that it shows, from a constant number of queries."""

    query: IntegrityQuery
    kinds: tuple[KindCount, ...]
    hosts: tuple[tuple[str, int], ...]
    rows: tuple[FindingRow, ...]
    total: int  # whatever the filter
    matching: int
    now: datetime

    @property
    def pager(self) -> Pager:
        return pager(self.query, pages_of(self.matching, PAGE))

    @property
    def searched(self) -> int:
        """How many there are of all kinds, with the rest of the filter."""
        return sum(kind.count for kind in self.kinds)


def integrity(query: IntegrityQuery, now: datetime) -> Integrity:
    """Read one page of findings."""
    counted = Finding.objects.filter(_search(query)).values_list("kind", "host").annotate(n=Count("pk")).order_by()
    groups = list(counted)
    total = Finding.objects.count()
    by_kind, by_host = Counter[str](), Counter[str]()
    for kind, host, number in groups:
        by_kind[kind] += number if query.host in ("", host) else 0
        by_host[host] += number if query.kind in ("", kind) else 0
    matching = by_kind[query.kind] if query.kind else sum(by_kind.values())
    query = on_a_page(query, pages_of(matching, PAGE))
    shown = list(_matching(query)[(query.page - 1) * PAGE : query.page * PAGE])
    return Integrity(
        query=query,
        kinds=tuple(_count(query, kind, by_kind[kind]) for kind in KINDS if by_kind[kind] or kind == query.kind),
        hosts=tuple(sorted({**by_host, **({query.host: by_host[query.host]} if query.host else {})}.items())),
        rows=tuple(_rows(shown)),
        total=total,
        matching=matching,
        now=now,
    )


def _search(query: IntegrityQuery) -> Q:
    condition = Q()
    for word in query.q.split()[:8]:
        condition &= (
            Q(path__icontains=word)
            | Q(detail__icontains=word)
            | Q(worker_id__icontains=word)
            | Q(excerpt__icontains=word)
        )
    return condition


def _matching(query: IntegrityQuery) -> QuerySet[Finding]:
    """The findings of a view, the most urgent kind first."""
    found = Finding.objects.filter(_search(query))
    found = found.filter(kind=query.kind) if query.kind else found
    found = found.filter(host=query.host) if query.host else found
    rank = Case(
        *(When(kind=kind.value, then=Value(number)) for number, kind in enumerate(KINDS)),
        default=Value(len(KINDS)),
        output_field=IntegerField(),
    )
    return found.order_by(rank, "path", "host", "offset", "pk")


def _count(query: IntegrityQuery, kind: Kind, number: int) -> KindCount:
    on = query.kind == kind
    return KindCount(kind, KINDS[kind], number, on, query.with_changes(kind="" if on else kind.value).string or "?")


def _rows(found: Iterable[Finding]) -> Iterable[FindingRow]:
    """Join findings with their runs, in one query."""
    found = list(found)
    ids = {each.worker_id for each in found if each.worker_id}
    columns = ("host", "worker_id", "path", "live", "health", "created_at")
    runs = Worker.objects.filter(worker_id__in=ids).only(*columns).order_by("live", "created_at", "pk")
    by_path, by_id = {}, {}
    for run in runs:  # the live one last: it counts
        by_path[run.host, run.path] = by_id[run.host, run.worker_id] = run
    kind = ""
    for each in found:
        worker = by_path.get((each.host, each.path))
        yield FindingRow(each, worker, by_id.get((each.host, each.worker_id)), each.kind != kind)
        kind = each.kind


def damage_of(worker: Worker) -> Finding | None:
    """What is known of the file of an unreadable run."""
    if worker.health != Health.UNREADABLE:
        return None
    kinds = (Kind.UNREADABLE, Kind.QUARANTINED)
    return Finding.objects.filter(host=worker.host, kind__in=kinds, path=worker.path).first()
