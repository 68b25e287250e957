"""The page of alerts: what is open, what is past, and how the channels do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Max
from django.http import QueryDict

from workers.models import Alert, AlertRule, Attendant, Channel, Delivery, Severity
from workers.params import positive, text_of

from .lights import attendant
from .paging import Pager, on_a_page, pager, pages_of

PAGE = 50
#: Open alerts that a page shows.
MOST_OPEN = 200
SEVERITIES = {Severity(value).label: value for value in reversed(Severity.values)}


@dataclass(frozen=True)
class AlertsQuery:
    """One view of the alerts, as a query string says it. Equal queries show the same."""

    severity: str = ""
    rule: str = ""  # its name
    page: int = 1  # of those that are past
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, params: QueryDict) -> AlertsQuery:
        """Read a query string. What cannot be used is left out and named in ``ignored``; nothing raises."""
        ignored: list[str] = []
        severity, page = text_of(params, "severity"), positive(params, "page", ignored) or 1
        if severity and severity not in SEVERITIES:
            ignored.append(f"the severity “{severity[:40]}”, which is none")
            severity = ""
        return cls(severity, text_of(params, "rule", 120), page, tuple(ignored))

    def with_changes(self, **changes: Any) -> AlertsQuery:
        """The same view with something else; every change but that of the page leads to the first one."""
        return replace(self, **{"page": 1, "ignored": (), **changes})

    @property
    def string(self) -> str:
        """The shortest query string that says this, with its question mark."""
        given = {"severity": self.severity, "rule": self.rule, "page": self.page if self.page > 1 else ""}
        kept = {name: value for name, value in given.items() if value}
        return f"?{urlencode(kept)}" if kept else ""

    @property
    def filtered(self) -> bool:
        return bool(self.severity or self.rule)


@dataclass(frozen=True, slots=True)
class Way:
    """How the messages of one alert did in one channel."""

    channel: str
    sent: int
    queued: int
    given_up: int
    error: str

    @property
    def state(self) -> str:
        """In a word: "sent", "waits", "given up"."""
        return "waits" if self.queued else "given up" if self.given_up else "sent"


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert as the page shows it."""

    alert: Alert
    ways: tuple[Way, ...]
    now: datetime

    @property
    def open(self) -> bool:
        return self.alert.state == Alert.State.FIRING

    @property
    def severity(self) -> str:
        return Severity(self.alert.severity).label

    @property
    def muted(self) -> bool:
        rule = self.alert.rule
        return bool(rule and rule.muted_until and rule.muted_until > self.now)

    @property
    def more(self) -> int:
        """Workers that are not named."""
        return max(0, self.alert.count - len(self.alert.workers)) if self.alert.workers else 0


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One channel, how it does, and its last test."""

    channel: Channel
    waiting: int
    test: Delivery | None


@dataclass(frozen=True, slots=True)
class Alerts:
    """The page: everything that it shows, from a constant number of queries."""

    query: AlertsQuery
    open: tuple[AlertRow, ...]
    past: tuple[AlertRow, ...]
    open_count: int
    past_count: int
    rules: tuple[str, ...]  # names, for the filter
    watching: int  # rules that are switched on
    channels: tuple[ChannelRow, ...]
    attendant: Attendant | None  # the process that minds them, or did last
    now: datetime

    @property
    def minded(self) -> bool:
        """Whether some process looks and sends now."""
        return self.attendant is not None and self.attendant.until >= self.now

    @property
    def pager(self) -> Pager:
        return pager(self.query, pages_of(self.past_count, PAGE))

    @property
    def unheard(self) -> int:
        """Open ones that nobody has acknowledged."""
        return sum(1 for row in self.open if row.alert.acknowledged is None)


def alerts(query: AlertsQuery, now: datetime) -> Alerts:
    """Read the open alerts and one page of the past ones."""
    found = Alert.objects.select_related("rule").exclude(state=Alert.State.PENDING)
    if query.severity:
        found = found.filter(severity=SEVERITIES[query.severity])
    if query.rule:
        found = found.filter(rule_name=query.rule)
    firing, over = found.filter(state=Alert.State.FIRING), found.filter(state=Alert.State.RESOLVED)
    past_count = over.count()
    query = on_a_page(query, pages_of(past_count, PAGE))
    opened = list(firing.order_by("-severity", "-fired", "-pk")[:MOST_OPEN])
    past = list(over.order_by("-resolved", "-pk")[(query.page - 1) * PAGE : query.page * PAGE])
    ways = _ways([*opened, *past])
    rules = list(AlertRule.objects.order_by("name").values_list("name", "enabled"))
    return Alerts(
        query=query,
        open=tuple(AlertRow(each, ways.get(each.pk, ()), now) for each in opened),
        past=tuple(AlertRow(each, ways.get(each.pk, ()), now) for each in past),
        open_count=len(opened),
        past_count=past_count,
        rules=tuple(sorted({name for name, _ in rules} | ({query.rule} if query.rule else set()))),
        watching=sum(1 for _, enabled in rules if enabled),
        channels=_channels(),
        attendant=attendant(),
        now=now,
    )


def _ways(shown: Iterable[Alert]) -> dict[int, tuple[Way, ...]]:
    """How the messages of these alerts did; one query."""
    rows = Delivery.objects.filter(alert__in=[each.pk for each in shown]).order_by("channel__name", "pk")
    grouped: dict[int, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for alert, channel, state, error in rows.values_list("alert", "channel__name", "state", "error"):
        grouped[alert or 0][channel].append((state, error))
    return {
        alert: tuple(_way(channel, several) for channel, several in by_channel.items())
        for alert, by_channel in grouped.items()
    }


def _way(channel: str, several: list[tuple[str, str]]) -> Way:
    states = [state for state, _ in several]
    return Way(
        channel=channel,
        sent=states.count(Delivery.State.SENT),
        queued=states.count(Delivery.State.QUEUED),
        given_up=states.count(Delivery.State.GIVEN_UP),
        error=next((error for _, error in reversed(several) if error), ""),
    )


def _channels() -> tuple[ChannelRow, ...]:
    """Every channel with its newest test and what waits for it; three queries, of which none reads a message."""
    every = list(Channel.objects.order_by("name"))
    of_tests = Delivery.objects.filter(key__startswith=Delivery.TEST).order_by().values("channel")
    newest = Delivery.objects.filter(pk__in=of_tests.annotate(newest=Max("pk")).values("newest"))
    tests = {each.channel_id: each for each in newest.defer("body")}
    queued = Delivery.objects.filter(state=Delivery.State.QUEUED).order_by().values_list("channel")
    waiting = dict(queued.annotate(Count("pk")))
    return tuple(ChannelRow(each, waiting.get(each.pk, 0), tests.get(each.pk)) for each in every)
