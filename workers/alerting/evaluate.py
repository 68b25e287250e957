"""From what is stored to alerts: reads the facts, looks with every rule, stores what changed and queues the messages.

Alerts, their messages and the word to the pages are one transaction. Whoever minds the database calls :func:`look`; an
alert is only changed as it was read, so a second process that does the same for a moment changes and tells nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, Max, Q
from django.db.models.functions import Coalesce

from workers.health import RUNNING, Health, poller_silent_after
from workers.models import Alert, AlertRule, Change, Channel, Delivery, Installation, Policy, Poller, Worker
from workers.quiet import Quiet
from workers.sql import announce

from . import messages
from .lifecycle import Hindrance, Standing, State, Telling, hindrance, next_repeat, step
from .rules import (
    LOST,
    Cause,
    Ended,
    Facts,
    Found,
    Group,
    Kind,
    Rule,
    Seen,
    Severity,
    Stopped,
    Watcher,
    becoming,
    find,
)

#: However quiet it is, a look is taken after this: runs leave the window of a failure rate by themselves.
AT_LATEST = timedelta(seconds=30)
#: A look that was remembered for longer may have been followed by one of another process.
REMEMBERED = timedelta(seconds=10)
_OPEN = (Alert.State.PENDING, Alert.State.FIRING)


@dataclass(frozen=True, slots=True)
class Settings:
    """What people have set, as it is now."""

    rules: tuple[Rule, ...]
    least: Mapping[int, int]  # channel -> what is less severe is not sent there
    maintenance_until: datetime | None


@dataclass(frozen=True, slots=True)
class Memo:
    """What the last full look saw, and when the next is due although nothing of it has changed."""

    seen: tuple[object, ...]
    due: datetime


class Eye:
    """Looks at one database again and again, and only at what may have changed."""

    def __init__(self) -> None:
        self._memo: Memo | None = None
        self._last: datetime | None = None  # when it was asked for a look

    def look(self, now: datetime) -> bool:
        """Take one look; False where nothing could have changed since the last. Raises DatabaseError."""
        settings = read_settings()
        watchers = _watchers(now)
        newest = Change.objects.aggregate(last=Max("id"))["last"]
        said = tuple(replace(each, last=None, pm_last=None) for each in watchers)
        seen = (newest, settings.rules, settings.maintenance_until, said)
        memo, self._memo = self._memo, None  # gone where this look fails
        last, self._last = self._last, now
        known = last is not None and last <= now <= last + REMEMBERED
        if memo and known and memo.seen == seen and now < memo.due:
            self._memo = memo
            return False
        due = _look(settings, watchers, now)
        self._memo = Memo(seen, due)
        return True


look = Eye().look


def _look(settings: Settings, watchers: tuple[Watcher, ...], now: datetime) -> datetime:
    """Take one look at everything; return when time alone may change something."""
    facts = _facts(settings.rules, watchers, now)
    found = {rule.key: find(rule, facts, now) for rule in settings.rules}
    mass = [rule for rule in settings.rules if rule.kind is Kind.MASS and found[rule.key].causes]
    stored = list(Alert.objects.filter(state__in=_OPEN))
    moves = list(_moves(settings, found, mass, stored, now))
    if any(move.changed for move in moves):
        with transaction.atomic():
            _store(moves, settings, now)
    due: list[datetime | None] = [
        now + AT_LATEST,
        *_silences(settings.rules, watchers),
        *becoming(settings.rules, facts),
    ]
    due += [rule.muted_until for rule in settings.rules] + [settings.maintenance_until]
    due += [rule.quiet.end(now) for rule in settings.rules if rule.quiet]
    for move in moves:
        if move.after and move.after.state is not State.RESOLVED and move.rule:
            waits = move.after.settled or move.blind
            due.append(next_repeat(move.after, move.rule) if waits else now)
    return min(moment for moment in due if moment and moment >= now)


@dataclass(slots=True)
class Move:
    """One alert and what becomes of it."""

    rule: Rule | None
    cause: str
    alert: Alert | None  # as it was read
    before: Standing | None
    after: Standing | None
    telling: Telling | None
    about: Cause | None
    hindrance: Hindrance
    blind: bool = False  # nobody can say whether it holds

    @property
    def changed(self) -> bool:
        return self.before != self.after or self.telling is not None or self._says_else

    @property
    def _says_else(self) -> bool:
        alert, about = self.alert, self.about
        if alert is None or about is None:
            return False
        told = (alert.summary, alert.count, tuple(alert.workers), alert.severity)
        return told != (about.summary, about.count, about.workers, about.severity)


def _moves(
    settings: Settings, found: Mapping[int, Found], mass: list[Rule], stored: list[Alert], now: datetime
) -> Iterable[Move]:
    opened = {(alert.rule_id, alert.cause): alert for alert in stored}
    for rule in settings.rules:
        causes, blind = found[rule.key].causes, found[rule.key].blind
        why = hindrance(rule, now, settings.maintenance_until, mass)
        for cause in {*causes, *(name for key, name in opened if key == rule.key)}:
            alert = opened.pop((rule.key, cause), None)
            before = _standing(alert) if alert else None
            held = True if cause in causes else None if blind else False
            after = step(before, held, rule, now, why)
            yield Move(rule, cause, alert, before, after.standing, after.telling, causes.get(cause), why, held is None)
    for alert in opened.values():  # its rule was deleted or switched off: nobody minds it any more, nobody is told
        before = _standing(alert)
        after_all = None if before.state is State.PENDING else replace(before, state=State.RESOLVED, resolved=now)
        yield Move(None, alert.cause, alert, before, after_all, None, None, Hindrance())


def _store(moves: list[Move], settings: Settings, now: datetime) -> None:
    """Write what changed, queue what is told, and say so to the pages; in a transaction."""
    told: list[Told] = []
    changed: list[int] = []
    for move in moves:
        if not move.changed:
            continue
        alert = _write(move)
        if alert is None:
            continue
        if move.after and move.after.state is not State.PENDING:  # pages show none that are only pending
            changed.append(alert.pk)
        if move.telling and move.rule:
            told.append(Told(alert, move.rule, move.telling, move.hindrance))
    _queue(told, settings, now)
    announce(Change.Kind.ALERT, changed, now)


def _write(move: Move) -> Alert | None:
    """Store one alert as it stands now; None where another process was there first."""
    after, alert = move.after, move.alert
    if alert is None:
        if after is None or move.rule is None or move.about is None:
            return None
        try:
            with transaction.atomic():
                return Alert.objects.create(
                    rule_id=move.rule.key, rule_name=move.rule.name, cause=move.cause, **_columns(after, move.about)
                )
        except IntegrityError:  # it is open already, or its rule has just been deleted
            return None
    as_read = Alert.objects.filter(
        pk=alert.pk, state=alert.state, looks=alert.looks, told=alert.told, acknowledged=alert.acknowledged
    )
    if after is None:
        return alert if as_read.delete()[0] else None
    columns = _columns(after, move.about)
    if not as_read.update(**columns):
        return None
    for name, value in columns.items():
        setattr(alert, name, value)
    return alert


def _columns(after: Standing, about: Cause | None) -> dict[str, object]:
    """The columns that a look writes. What people say of an alert, the web writes."""
    columns: dict[str, object] = {
        name: getattr(after, name)
        for name in ("began", "looks", "fired", "resolved", "told", "times_told", "held_back")
    }
    columns["state"] = after.state.value
    if about:
        columns |= {"summary": about.summary, "count": about.count, "workers": list(about.workers)}
        columns["severity"] = int(about.severity)
    return columns


def _standing(alert: Alert) -> Standing:
    return Standing(
        began=alert.began,
        state=State(alert.state),
        looks=alert.looks,
        fired=alert.fired,
        resolved=alert.resolved,
        told=alert.told,
        times_told=alert.times_told,
        acknowledged=alert.acknowledged is not None,
        held_back=alert.held_back,
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What people are told of one alert."""

    alert: Alert
    rule: Rule
    telling: Telling
    hindrance: Hindrance


def _queue(told: list[Told], settings: Settings, now: datetime) -> None:
    """Queue one message for each channel that is to be told. The same is never queued twice."""
    over = [each.alert.pk for each in told if each.telling is Telling.OVER]
    heard: dict[int | None, set[int]] = defaultdict(set)  # who heard that it began
    if over:
        for about, channel in Delivery.objects.filter(alert__in=over).values_list("alert", "channel"):
            heard[about].add(channel)
    rows = []
    for each in told:
        alert, ended = each.alert, each.telling is Telling.OVER
        channels = (heard[alert.pk] & set(settings.least)) if ended else each.rule.channels
        subject, body = messages.of_alert(alert, each.telling)
        # The end of what people were told before the quiet hours is told when these are past
        first = each.hindrance.until if ended and each.hindrance.until else now
        rows += [
            Delivery(
                channel_id=channel,
                alert=alert,
                key=f"alert {alert.pk} {each.telling.value} {alert.times_told}",
                subject=subject,
                body=body,
                created_at=first,
                next_try_at=first,
            )
            for channel in sorted(channels)
        ]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)


# -- reading


def read_settings() -> Settings:
    """Read rules, channels and maintenance: four small queries."""
    channels = dict(Channel.objects.filter(enabled=True).order_by().values_list("pk", "least_severity"))
    reach: dict[int, list[int]] = defaultdict(list)
    through = AlertRule.channels.through.objects.values_list("alertrule_id", "channel_id")
    for rule_key, channel in through:
        reach[rule_key].append(channel)
    maintenance = Installation.objects.values_list("maintenance_until", flat=True).first()
    rules = AlertRule.objects.filter(enabled=True).order_by("pk")
    return Settings(tuple(_rule(rule, reach[rule.pk], channels) for rule in rules), channels, maintenance)


def _rule(rule: AlertRule, reach: list[int], least: Mapping[int, int]) -> Rule:
    return Rule(
        key=rule.pk,
        name=rule.name,
        kind=Kind(rule.kind),
        severity=Severity(rule.severity),
        threshold=rule.threshold,
        at_least=rule.at_least,
        health=rule.health,
        minutes=rule.minutes,
        worker_type=rule.worker_type,
        master=rule.master,
        cycles=rule.cycles,
        resolve_notice=rule.resolve_notice,
        repeat_minutes=rule.repeat_minutes,
        quiet=Quiet.between(rule.quiet_from, rule.quiet_until, rule.quiet_zone),
        muted_until=rule.muted_until,
        channels=frozenset(key for key in reach if key in least and least[key] <= rule.severity),
    )


def _watchers(now: datetime) -> tuple[Watcher, ...]:
    columns = ("host", "last_cycle_at", "started_at", "interval_seconds", "pm_seen", "pm_last_loop", "unreadable")
    found = []
    rows = Poller.objects.on_duty().values_list(*columns, "prevention__zombie_threshold")
    for host, last, started, interval, pm_seen, pm_last, unreadable, said in rows:
        silent = last is None or now - last > poller_silent_after(interval)
        least = float(said) if isinstance(said, int | float) and said > 0 else None
        found.append(Watcher(host, last or started, silent, pm_seen, pm_last, unreadable, least))
    return tuple(found)


def _facts(rules: tuple[Rule, ...], watchers: tuple[Watcher, ...], now: datetime) -> Facts:
    """Read what the rules ask for: at most four queries, however many rules there are."""
    kinds = {rule.kind for rule in rules}
    states = {rule.health for rule in rules if rule.kind is Kind.HEALTH}
    states |= {Health.ZOMBIE} if Kind.ZOMBIES in kinds else set()
    states |= set(LOST) if Kind.MASS in kinds else set()
    live = Worker.objects.filter(live__in=(True,)).order_by()
    columns = ("pk", "worker_id", "host", "health", "worker_type", "master", "health_since")
    workers = live.filter(health__in=sorted(states)).values_list(*columns) if states else ()
    groups: Iterable[tuple[str, str, str, str, int]] = ()
    if Kind.MASS in kinds:
        running = live.filter(health__in=sorted(RUNNING))
        groups = running.values_list("host", "health", "worker_type", "master").annotate(n=Count("pk"))
    windows = {rule.minutes for rule in rules if rule.kind is Kind.FAILURE_RATE and rule.minutes}
    return Facts(
        watchers=watchers,
        workers=tuple(Seen(*row) for row in workers),
        groups=tuple(Group(*row) for row in groups),
        ended=tuple(_ended(windows, now)) if windows else (),
        stopped=tuple(_stopped()) if Kind.AUTOPILOT in kinds else (),
    )


def _stopped() -> Iterable[Stopped]:
    tripped = Policy.objects.exclude(mode=Policy.Mode.OFF).exclude(tripped_at=None).order_by("name")
    return (Stopped(*row) for row in tripped.values_list("name", "tripped_why"))


def _ended(windows: set[float], now: datetime) -> Iterable[Ended]:
    """Count the runs that failed and completed in each window; one query for all of them."""
    spans = sorted(windows)
    over = Worker.objects.filter(health__in=(Health.COMPLETED, Health.FAILED), live__in=(False, True)).order_by()
    over = over.alias(over=Coalesce("ended_at", "health_since")).filter(over__gte=now - timedelta(minutes=spans[-1]))
    counts = {
        f"in{number}": Count("pk", filter=Q(over__gte=now - timedelta(minutes=minutes)))
        for number, minutes in enumerate(spans)
    }
    rows: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for row in over.values("worker_type", "master", "health").annotate(**counts):
        rows[row["worker_type"], row["master"]][row["health"]] = row
    for (kind, master), by_health in rows.items():
        failed, completed = by_health.get(Health.FAILED, {}), by_health.get(Health.COMPLETED, {})
        for number, minutes in enumerate(spans):
            yield Ended(minutes, kind, master, failed.get(f"in{number}", 0), completed.get(f"in{number}", 0))


def _silences(rules: tuple[Rule, ...], watchers: tuple[Watcher, ...]) -> Iterable[datetime]:
    """When silences that last are long enough for a rule: silence changes no row."""
    for rule in rules:
        for watcher in watchers:
            last = {Kind.PM_SILENT: watcher.pm_last, Kind.POLLER_SILENT: watcher.last}.get(rule.kind)
            if last is not None:
                yield last + rule.span
