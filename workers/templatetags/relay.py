"""How a state, a moment and a quantity look. The one place that knows; pages and pushes use the same tags."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from workers.health import Health
from workers.incidents import Kind
from workers.models import Worker

register = template.Library()

SHAPES = {
    Health.HEALTHY: "●",
    Health.LATE: "◐",
    Health.STALLED: "◔",
    Health.ZOMBIE: "◌",
    Health.CRASHED: "✕",
    Health.PENDING: "○",
    Health.UNREADABLE: "≠",
    Health.FAILED: "–",
    Health.COMPLETED: "✓",
    Health.CANCELLED: "⊘",
    Health.GONE: "∅",
    Health.UNKNOWN: "?",
    "unwatched": "▨",  # of a past moment: nobody looked
    "new": "+",  # of two moments that are compared: not there at the first
}
LABELS = {**{state.value: state.label for state in Health}, "unwatched": "Unwatched", "new": "Not there yet"}
_BADGES = {
    state: format_html('<span class="badge {}"><i aria-hidden="true">{}</i>{}</span>', state, shape, LABELS[state])
    for state, shape in SHAPES.items()
}
#: Overdue is a mark and no state of a run, but an incident like the others.
_TROUBLES = {Kind.OVERDUE: ("◷", "Overdue")}
MISSING = SafeString('<span class="none">—</span>')


@register.simple_tag
def badge(state: str) -> SafeString:
    """A state as shape, word and colour."""
    return _BADGES[state]


@register.simple_tag
def trouble(kind: str) -> SafeString:
    """A kind of incident as shape, word and colour: that of the state it is named after."""
    if kind not in _TROUBLES:
        return _BADGES[Health(kind)]
    return format_html('<span class="badge {}"><i aria-hidden="true">{}</i>{}</span>', kind, *_TROUBLES[Kind(kind)])


@register.filter
def trouble_shape(kind: str) -> str:
    return _TROUBLES[Kind(kind)][0] if kind in _TROUBLES else SHAPES[Health(kind)]


@register.filter
def seconds(length: timedelta | None) -> float:
    """A length of time as ``span`` takes it."""
    return length.total_seconds() if length is not None else 0.0


@register.filter
def shape(state: str) -> str:
    return SHAPES[state]


@register.filter
def label(state: str) -> str:
    return LABELS[state]


@register.simple_tag
def age(moment: datetime | None, now: datetime, suffix: str = " ago") -> SafeString:
    """How long ago that was; ticks in the browser. A dash where it never was."""
    if moment is None:
        return MISSING
    return format_html(
        '<time datetime="{}" data-age="{}" title="{}">{}</time>',
        stamp(moment),
        suffix,
        readable(moment),
        ago(moment, now, suffix),
    )


@register.simple_tag
def due(moment: datetime, now: datetime) -> SafeString:
    """In how long that will be; ticks in the browser."""
    left = (moment - now).total_seconds()
    text = f"in {span(left)}" if left > 0 else "now"
    return format_html('<time datetime="{}" data-due title="{}">{}</time>', stamp(moment), readable(moment), text)


@register.simple_tag
def moment(value: datetime | None, now: datetime) -> SafeString:
    """A point in time; browsers show it in their own zone."""
    if value is None:
        return MISSING
    return format_html(
        '<time datetime="{}" data-clock title="{}">{}</time>', stamp(value), readable(value), clock(value, now)
    )


@register.simple_tag
def minutes(began: datetime | None, now: datetime, ended: datetime | None = None) -> SafeString:
    """The whole minutes since a start, which tick in the browser unless there was an end."""
    if began is None:
        return MISSING
    text = f"{max(0, int(((ended or now) - began).total_seconds() // 60)):,}"
    if ended:
        return format_html("{}", text)
    return format_html(
        '<time datetime="{}" data-minutes title="started {}">{}</time>', stamp(began), readable(began), text
    )


@register.filter
def span(seconds: float) -> str:
    """A length of time in its largest unit that is not zero: `12 s`, `47 min`, `5 h`, `3 d`. As in ticks.js."""
    for unit, size, limit in (("s", 1, 60), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds // 86400)} d"


@register.filter
def megabytes(count: int) -> str:
    """A size in memory: `212 MB`, `1.4 GB`."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


@register.filter
def as_lines(lines: Iterable[str]) -> str:
    """Lines of a log, one below the other."""
    return "\n".join(lines)


@register.filter
def pretty(document: object) -> str:
    """JSON as people read it."""
    return json.dumps(document, indent=2, ensure_ascii=False)


@register.simple_tag
def source_link(source: str, worker: Worker) -> SafeString:
    """Where a reason comes from, as a link to where that is shown on the worker's page."""
    path = source.partition("#")[0]
    if path.endswith(".log"):
        which = urlencode([("file", path), ("run", worker.pk)])
        address = f"{reverse('worker-logs', args=[worker.worker_id])}?{which}"
    elif path == worker.path or path.startswith("coordination/pm-state"):
        address = "#documents"
    elif path.startswith("/proc/") or path.startswith("processes") or path.endswith(".pid"):
        address = "#processes"
    else:
        address = "#timeline" if path.startswith("seen by") else "#activity-card"
    return format_html('<a class="source" href="{}">{}</a>', address, source)


@register.simple_tag
def then(moment: datetime) -> str:
    """The address of the fleet as it was at that very moment, microseconds included: the change of it has happened."""
    return f"{reverse('fleet')}?at={exact(moment)}"


@register.filter
def exact(moment: datetime) -> str:
    """ISO 8601 in UTC with every digit that is known."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@register.filter
def utc(moment: datetime, about: datetime | None = None) -> str:
    """A point in time as pages of the past show it: in UTC whoever reads; without its date on the day of ``about``."""
    moment = moment.astimezone(UTC)
    day = about is None or about.astimezone(UTC).date() != moment.date()
    return moment.strftime("%Y-%m-%d %H:%M:%S" if day else "%H:%M:%S")


@register.filter
def parsed(text: str | None) -> datetime | None:
    """A moment out of the JSON that reasons and processes are kept in."""
    try:
        return datetime.fromisoformat(text) if text else None
    except (ValueError, TypeError):
        return None


def ago(moment: datetime, now: datetime, suffix: str = " ago") -> str:
    seconds = (now - moment).total_seconds()
    if seconds < -60:
        return f"in {span(-seconds)}" if suffix == " ago" else span(0)
    return span(max(0, seconds)) + suffix


def clock(value: datetime, now: datetime) -> str:
    value = value.astimezone(UTC)
    return value.strftime("%H:%M UTC" if value.date() == now.astimezone(UTC).date() else "%Y-%m-%d %H:%M UTC")


@register.filter
def stamp(moment: datetime | None) -> str:
    """ISO 8601 in UTC, to the millisecond: what browsers compute with. "" where there is no moment."""
    if moment is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
