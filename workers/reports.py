"""The weekly report by mail: when it is due, what it says, and that each channel gets it once.

A week is one of ISO 8601, Monday to Sunday, in the time zone of the installation. The report of a week is due at the
set hour of the set day of the week after it. A missed hour is made up for until that week is over; then the next
report is due, and nobody reads two at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q
from django.db.models.functions import Coalesce

from . import incidents, measures
from .charts.units import duration as in_words
from .health import Health
from .incidents import How, Kind
from .models import Channel, Delivery, Incident, Installation, Worker
from .queries.vigil import vigils

#: Tasks that failed again and again, and error texts, of which so many are named.
OFFENDERS = 5
#: What counts as the end of a run.
ENDS = (Health.COMPLETED, Health.FAILED, Health.CANCELLED)
DAY = timedelta(days=1)
RUNS = ("run", "runs")


@dataclass(frozen=True, slots=True)
class Week:
    """One week of ISO 8601, by its Monday, in a time zone."""

    monday: date
    zone: str = "UTC"

    @classmethod
    def of(cls, moment: datetime, zone: str) -> Week:
        day = moment.astimezone(_zone(zone)).date()
        return cls(day - DAY * day.weekday(), zone)

    @property
    def before(self) -> Week:
        return Week(self.monday - 7 * DAY, self.zone)

    @property
    def name(self) -> str:
        """`2026-W47`. Its year is that of its Thursday."""
        year, week, _ = self.monday.isocalendar()
        return f"{year}-W{week:02}"

    @property
    def since(self) -> datetime:
        return self.moment(0, 0)

    @property
    def until(self) -> datetime:
        return self.moment(7, 0)

    def moment(self, day: int, hour: int) -> datetime:
        """An hour of a day of it; an hour that is skipped when clocks are put forward is the one after it."""
        local = datetime.combine(self.monday + DAY * day, time(hour), _zone(self.zone))
        return local.astimezone(UTC)

    @property
    def label(self) -> str:
        last = self.monday + 6 * DAY
        return f"Monday {self.monday:%d %B} to Sunday {last:%d %B %Y}, {self.zone}"


def _zone(name: str) -> ZoneInfo:
    """The zone of that name; UTC where this machine does not know it any more."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


# -- when


def due_week(installation: Installation, now: datetime) -> Week | None:
    """The week whose report is to be sent now, though it has not been; None where there is none."""
    this = Week.of(now, installation.report_zone)
    if now < this.moment(installation.report_weekday, installation.report_hour):
        return None
    last = this.before
    return None if installation.report_sent_for == last.monday else last


def next_due(installation: Installation, now: datetime) -> datetime:
    """When the next report is sent: now, where one was missed."""
    if due_week(installation, now):
        return now
    this = Week.of(now, installation.report_zone)
    planned = this.moment(installation.report_weekday, installation.report_hour)
    return planned if planned > now else this.moment(installation.report_weekday + 7, installation.report_hour)


def send_due(now: datetime) -> int:
    """Queue the report that is due, if one is; return for how many channels. Cheap where none is: one small query."""
    installation = Installation.objects.filter(pk=1).first()
    week = due_week(installation, now) if installation else None
    if installation is None or week is None:
        return 0
    channels = list(installation.report_channels.filter(enabled=True))
    if not channels:
        return 0
    subject, body = subject_of(week), body_of(week, now)  # outside of the transaction: it reads for a while
    with transaction.atomic():
        unsent = Q(report_sent_for=None) | ~Q(report_sent_for=week.monday)
        if not Installation.objects.filter(unsent, pk=1).update(report_sent_for=week.monday):
            return 0  # another process was quicker
        return queue(channels, f"report-{week.name}", subject, body, now)


def send_now(channels: Iterable[Channel], installation: Installation, now: datetime) -> int:
    """Queue the report of the last whole week again, whenever it was sent; return for how many channels."""
    week = Week.of(now, installation.report_zone).before
    key = f"report-{week.name}-asked-{now:%Y%m%dT%H%M%S}"
    return queue([each for each in channels if each.enabled], key, subject_of(week), body_of(week, now), now)


def pass_over(installation: Installation, now: datetime) -> Week | None:
    """Let the report that would be due at this moment count as sent: its hour was set when it had already passed."""
    week = due_week(installation, now)
    if week:
        Installation.objects.filter(pk=installation.pk).update(report_sent_for=week.monday)
    return week


def queue(channels: Iterable[Channel], key: str, subject: str, body: str, now: datetime) -> int:
    """Put a message on its way through each channel; the same key goes through one only once."""
    before = Delivery.objects.filter(key=key).count()
    rows = [
        Delivery(channel=channel, key=key, subject=subject, body=body, created_at=now, next_try_at=now)
        for channel in channels
    ]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)
    return Delivery.objects.filter(key=key).count() - before


# -- what it says


def subject_of(week: Week) -> str:
    return f"Relay Web: the fleet in week {week.name}"


def body_of(week: Week, now: datetime) -> str:
    """The report in plain words. Its figures are of what happened within the week, as far as somebody watched."""
    found = _incidents(week.since, week.until)
    parts = [
        [f"The fleet in week {week.name}", f"{week.label}."],
        _unwatched(week, now),
        _runs(week),
        _troubles(found, now),
        _times(found),
        _offenders(week),
        ["All of it, and how it compares:", report_address(week)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def report_address(week: Week) -> str:
    """The page of that week. Without RELAY_URL nobody knows under which name this site is reached from elsewhere."""
    path = f"/history/report/?week={week.name}"
    path += f"&zone={week.zone}" if week.zone != "UTC" else ""
    return f"{settings.RELAY_URL}{path}" if settings.RELAY_URL else f"{path} (set RELAY_URL to make this a link)"


def _unwatched(week: Week, now: datetime) -> list[str]:
    """Say for how long nobody watched: what happened then is in no figure."""
    until = min(week.until, now)
    lines = []
    for vigil in vigils(week.since, until, now).every:
        blind = sum((gap.length for gap in vigil.blind(week.since, until)), timedelta())
        if blind:
            lines.append(f"Nobody watched {vigil.host} for {duration(blind)} of {duration(until - week.since)}.")
    if lines:
        return [*lines, "What happened then is in no figure below, unless the fleet's own logs say it."]
    return ["Every host was watched all week."] if Worker.objects.exists() else ["No worker has been seen yet."]


def _ended(since: datetime, until: datetime) -> dict[Health, int]:
    """How many runs ended in a stretch of time, by their end."""
    ended = (
        Worker.objects.filter(live__in=[True, False], health__in=ENDS)
        .annotate(ended=Coalesce("ended_at", "health_since"))
        .filter(ended__gte=since, ended__lt=until)
    )
    counts = ended.order_by().values_list("health").annotate(n=Count("pk"))
    return Counter({Health(health): number for health, number in counts})


def _runs(week: Week) -> list[str]:
    ended, before = _ended(week.since, week.until), _ended(week.before.since, week.before.until)
    if not sum(ended.values()):
        return ["No run ended in this week."]
    rate, was = (measures.success_rate(Counter(each).elements()) for each in (ended, before))
    lines = [
        f"{plural(sum(ended.values()), *RUNS)} ended: {ended[Health.COMPLETED]} completed, {ended[Health.FAILED]} "
        f"failed, {ended[Health.CANCELLED]} cancelled."
    ]
    if rate is None:
        lines.append("Rate of success: none, since none completed or failed.")
    else:
        compared = f"the week before: {was:.0%}" if was is not None else "the week before had no such run"
        lines.append(f"Rate of success: {rate:.0%} of those that completed or failed ({compared}).")
    return lines


def _incidents(since: datetime, until: datetime) -> list[incidents.Incident]:
    """The incidents that were detected in a stretch of time."""
    rows = Incident.objects.filter(detected__gte=since, detected__lt=until).order_by("detected", "id")
    return [
        incidents.Incident(
            worker_id=row.worker_id,
            run="",
            kind=Kind(row.kind),
            began=row.began,
            detected=row.detected,
            began_known=row.began_known,
            acknowledged=row.acknowledged,
            resolved=row.resolved,
            how=How(row.how) if row.how else None,
            cause=row.cause,
        )
        for row in rows.iterator(chunk_size=2000)
    ]


def _troubles(found: list[incidents.Incident], now: datetime) -> list[str]:
    if not found:
        return ["No incident was detected."]
    kinds = Counter(each.kind for each in found)
    named = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    last = sum(each.resolved is None for each in found)
    lasting = f"{last} of them last to this day." if last != 1 else "One of them lasts to this day."
    lines = [f"{plural(len(found), 'incident', 'incidents')} detected: {named}. {lasting if last else ''}".rstrip()]
    shapes = measures.by_shape(each.cause for each in found)[:OFFENDERS]
    if shapes:
        lines += ["Most frequent causes:", *(f"  {each.times} × {_line(each.example)}" for each in shapes)]
    return lines


def _times(found: list[incidents.Incident]) -> list[str]:
    if not found:
        return []
    lasts = ("to detect", measures.time_to_detect(found)), ("to resolve", measures.time_to_resolve(found))
    return [f"Time {name}: {_spread(spread)}" for name, spread in lasts]


def _spread(spread: measures.Spread | None) -> str:
    if spread is None:
        return "– (no case of which it is known)"
    cases = plural(spread.cases, "case", "cases")
    return f"half within {duration(spread.median)}, nine of ten within {duration(spread.p90)} ({cases})."


def _offenders(week: Week) -> list[str]:
    failed = (
        Worker.objects.filter(live__in=[True, False], health=Health.FAILED)
        .annotate(ended=Coalesce(F("ended_at"), F("health_since")))
        .filter(ended__gte=week.since, ended__lt=week.until)
        .values_list("task_id", "worker_id", "ended", "error", "retry_of")
    )
    failures, retries = [], {}
    for task_id, worker_id, ended, error, retry_of in failed:
        failures.append(measures.Failure(task_id, worker_id, ended, error))
        if retry_of:
            retries[task_id] = retry_of
    found = measures.repeat_offenders(failures, lambda task_id: retries.get(task_id, ""))
    if not found:
        return []
    lines = [
        f"  {each.task_id}: failed {len(each.failures)} times; last: {_line(each.failures[-1].error or 'no word')}"
        for each in found[:OFFENDERS]
    ]
    more = len(found) - OFFENDERS
    return ["Tasks that failed again and again:", *lines, *([f"  and {more} more"] if more > 0 else [])]


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:99]}…"


def plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def duration(length: timedelta) -> str:
    return in_words(length.total_seconds())
