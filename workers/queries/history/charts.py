"""The drawings of a period's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from workers.charts import SECONDS, SHARE, Columns, Heat, Lines, Mark, Series, Shares, Target
from workers.health import OVER, Health
from workers.incidents import Kind
from workers.measures import Spread
from workers.queries.period import GROUPS, Period

from .figures import Figures, Slot

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS = tuple(str(hour) for hour in range(24))
#: From the foot up, so that the worst lies on top.
KINDS = (Kind.OVERDUE, Kind.STALLED, Kind.FAILED, Kind.ZOMBIE, Kind.CRASHED)
#: The class of a kind, which gives it its colour; what is overdue has none of its own and takes that of what is late.
CSS = {kind: kind.value for kind in Kind} | {Kind.OVERDUE: "late"}
#: In the order in which a bar shows them: what went well first, what nobody saw last.
SPENT = (
    *(Health.HEALTHY, Health.PENDING, Health.LATE, Health.STALLED, Health.ZOMBIE, Health.CRASHED),
    *(Health.UNREADABLE, Health.UNKNOWN),
)


def incidents_url(period: Period, **asked: str) -> str:
    """The list behind a number. "" where it cannot be narrowed like the number: incidents know no type of task."""
    if period.task_type:
        return ""
    return f"/incidents/?{urlencode({'state': 'all', **asked, **period.filters})}"


def failures(figures: Figures) -> Columns:
    """Incidents of each day or hour, by kind."""
    series = []
    for kind in KINDS:
        counts = [
            None if summary is None else kinds[kind]
            for summary, kinds in zip(figures.by_slot, figures.kinds_by_slot, strict=True)
        ]
        if any(counts) or kind is not Kind.OVERDUE:
            links = [incidents_url(figures.period, kind=kind.value, **_ends(figures, slot)) for slot in figures.slots]
            series.append(Series(kind.value.capitalize(), counts, CSS[kind], links))
    return Columns(
        f"Incidents per {_by(figures).lower()}",
        _labels(figures),
        series,
        names=_names(figures),
        by=_by(figures),
        marks=_marks(figures),
        key="incidents",
        empty="Nobody watched in this time.",
    )


def success(figures: Figures) -> Lines:
    """The success rate of each day or hour."""
    return Lines(
        f"Success rate per {_by(figures).lower()}",
        _labels(figures),
        [Series("Success rate", [summary.success if summary else None for summary in figures.by_slot])],
        note="of the runs that completed or failed",
        unit=SHARE,
        names=_names(figures),
        by=_by(figures),
        marks=_marks(figures),
        key="success",
        empty="No run completed or failed in this time, so there is no rate.",
    )


def to_detect(figures: Figures) -> Lines:
    return _times(figures, "Time to detect", "detect", "of incidents of which it is known when they began")


def to_acknowledge(figures: Figures) -> Lines:
    return _times(figures, "Time to acknowledge", "acknowledge", "of incidents that somebody acknowledged")


def to_repair(figures: Figures) -> Lines:
    """The time to repair, with the targets that the fleet has set itself."""
    targets = [
        Target(minutes * 60, f"{priority}: {SECONDS.write(minutes * 60)}")
        for priority, minutes in figures.facts.targets.items()
    ]
    return _times(figures, "Time to repair", "resolve", "of incidents that ended", targets)


def when(figures: Figures) -> Heat:
    """Incidents by weekday and hour."""
    return Heat(
        "When it happens",
        HOURS,
        [Series(day, row) for day, row in zip(DAYS, figures.heat, strict=True)],
        note=f"incidents by weekday and hour, {figures.period.zone}",
        names=tuple(f"{hour:02}:00" for hour in range(24)),
        by="Day",
        css="zombie",
        key="when",
        empty="Nobody watched in this time.",
    )


def health(figures: Figures) -> Shares:
    """Shares of time in each health, of each group or of all runs."""
    shares = figures.health[:12]
    held = [each for each in SPENT if each is Health.UNKNOWN or any(each in share.spent for share in shares)]
    group = GROUPS.get(figures.period.group, "")
    note = f"by {group}" if group else "of all runs that had not ended"
    if len(figures.health) > len(shares):
        note += f", the {len(shares)} with most time of {len(figures.health)}"
    return Shares(
        "Time in each health",
        [share.name for share in shares],
        [
            Series(
                "Unknown, or nobody watched" if each is Health.UNKNOWN else each.label,
                [share.spent.get(each, timedelta()).total_seconds() for share in shares],
                each.value,
            )
            for each in held
            if each not in OVER
        ],
        note=note,
        unit=SECONDS,
        by=group.capitalize() or "Of",
        key="health",
        empty="No run was followed in this time.",
    )


def _times(figures: Figures, title: str, name: str, note: str, targets: Sequence[Target] = ()) -> Lines:
    spreads: list[Spread | None] = [getattr(summary, name) if summary else None for summary in figures.by_slot]
    seconds: Callable[[timedelta], float] = timedelta.total_seconds
    return Lines(
        f"{title} per {_by(figures).lower()}",
        _labels(figures),
        [
            Series("Median", [each and seconds(each.median) for each in spreads]),
            Series("9 of 10 within", [each and seconds(each.p90) for each in spreads]),
        ],
        note=note,
        unit=SECONDS,
        names=_names(figures),
        by=_by(figures),
        targets=targets,
        key=name,
        empty="No incident of this time has this figure.",
    )


def _by(figures: Figures) -> str:
    return "Hour" if figures.period.hourly else "Day"


def _labels(figures: Figures) -> list[str]:
    if figures.period.hourly:
        return [f"{slot.began.hour}" for slot in figures.slots]
    short = len(figures.slots) <= 31
    return [f"{slot.began.day}" if short else f"{slot.began.day} {slot.began:%b}" for slot in figures.slots]


def _names(figures: Figures) -> list[str]:
    return [slot_name(figures.period, slot) for slot in figures.slots]


def slot_name(period: Period, slot: Slot) -> str:
    """A day or an hour in full."""
    day = f"{slot.began:%a} {slot.began.day} {slot.began:%b}"
    return f"{day} {slot.began:%H:%M}" if period.hourly else day


def _ends(figures: Figures, slot: Slot) -> dict[str, str]:
    """When a slot begins and ends as far as the period reaches, as a query string says it."""
    since = max(slot.began.astimezone(UTC), figures.period.since)
    return {"since": _stamp(since), "until": _stamp(min(slot.ended, figures.period.until))}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _marks(figures: Figures) -> list[Mark]:
    slots, zone = figures.slots, figures.period.tz
    found = []
    for mark in figures.facts.marks:
        index = next((number for number, slot in enumerate(slots) if mark.at < slot.ended), len(slots) - 1)
        slot = slots[index]
        part = (mark.at - slot.began) / (slot.ended - slot.began)
        local = mark.at.astimezone(zone)
        found.append(Mark(index + part, mark.text, f"{local.day} {local:%b %H:%M}"))
    return found
