"""Time limits: what is configured for each worker type, and what its runs really took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workers.coordination.parser import bare_type, default_time_limit
from workers.health import LIMITS, Limits, effective_limits
from workers.measures import use
from workers.models import Limit

from .said import ENOUGH, WORST, Said, Tone, have, worst

#: What the PM daemon takes for a time limit that its key does not give.
PM_READS, PM_OTHERWISE = "resources.time_limit_minutes", 60


@dataclass(frozen=True, slots=True)
class Took:
    """What the runs of a type really took, and how many of them longer than a limit."""

    runs: int
    p50: timedelta
    p95: timedelta
    over: int

    @property
    def share_over(self) -> float:
        return self.over / self.runs


@dataclass(frozen=True, slots=True)
class TypeLimit:
    """The time limit of one worker type, where it comes from, and whether it fits."""

    worker_type: str
    minutes: float
    source: str
    took: Took | None  # None: no run with usable times ended
    remarks: tuple[Said, ...]
    description: str = ""

    @property
    def said(self) -> Said:
        return worst(self.remarks)


def remarks_on(minutes: float, took: Took | None) -> list[Said]:
    """Say whether a limit fits what runs took."""
    if took is None:
        return [Said(Tone.UNKNOWN, "No run of it has ended in these days: nothing says whether it fits")]
    if took.runs < ENOUGH:
        few = f"Only {took.runs} run{'s' if took.runs > 1 else ''} ended: too few to say whether it fits"
        return [Said(Tone.UNKNOWN, few)]
    if took.share_over >= 0.5:
        whole = "Every run takes" if took.over == took.runs else "Half of its runs or more take"
        return [Said(Tone.BAD, f"{whole} longer than its limit: it is too short, or they get stuck")]
    if took.share_over >= 0.1:
        return [Said(Tone.LOOK, f"One run in {round(1 / took.share_over)} takes longer than its limit")]
    if took.p95 * 4 < timedelta(minutes=minutes):
        text = f"Nearly all runs end within a quarter of it: one that hangs is overdue only after {minutes:g} min"
        return [Said(Tone.LOOK, text)]
    return [Said(Tone.FINE, "It fits what runs took")]


@dataclass(frozen=True, slots=True)
class OwnLimit:
    """A limit of ours, and where it comes from."""

    name: str
    value: timedelta
    meaning: str
    source: str


def type_limits(
    said: Mapping[str, Any], rows: list[dict[str, Any]], taken: Mapping[str, list[float]]
) -> list[TypeLimit]:
    """Put together what is configured, what specs say and what runs took, for every type that any of them knows."""
    listed = defaultdict[str, list[dict[str, Any]]](list)
    for entry in said.get("types", ()):
        listed[bare_type(entry["type"])].append(entry)
    of_specs = defaultdict[str, Counter[tuple[float, str]]](Counter)
    names: dict[str, str] = {}
    for row in rows:
        name = bare_type(row["worker_type"])
        names.setdefault(name, row["worker_type"])
        if row["time_limit_minutes"] is not None:
            of_specs[name][row["time_limit_minutes"], row["time_limit_source"]] += row["runs"]
    minutes_of = defaultdict[str, list[float]](list)
    for worker_type, minutes in taken.items():
        names.setdefault(bare_type(worker_type), worker_type)
        minutes_of[bare_type(worker_type)] += minutes
    found = []
    for bare in {*listed, *names}:
        entries = listed.get(bare, [])
        name = names.get(bare) or (entries[0]["type"] if entries else bare)
        found.append(_type(name, entries, of_specs.get(bare, Counter()), minutes_of.get(bare, [])))
    return sorted(found, key=lambda each: (WORST.index(each.said.tone), each.worker_type))


def _type(
    name: str, entries: list[dict[str, Any]], of_specs: Counter[tuple[float, str]], minutes: list[float]
) -> TypeLimit:
    limits = [(entry["minutes"], entry["source"]) for entry in entries if entry["minutes"] is not None]
    given = Counter[float]()
    for (limit, source), runs in of_specs.items():
        if not source.startswith("default"):
            given[limit] += runs
    usual = given.most_common(1)[0] if given else None
    if limits:
        limit, source = limits[0]
    elif usual:
        limit, number = usual
        source = f"the specs: {number} of {sum(of_specs.values())} say so"
    else:
        limit, word = default_time_limit(name)
        source = f"{word} of the fleet's launcher; neither a list of types nor a spec gives one"
    took = _took(minutes, limit)
    remarks = remarks_on(limit, took)
    for other, path in limits[1:]:
        if other != limit:
            remarks.append(Said(Tone.LOOK, f"{path} says {other:g} min"))
    if limits and usual and usual[0] != limit:
        text = (
            f"Its specs say {usual[0]:g} min ({usual[1]} run{'s' if usual[1] > 1 else ''}), and a run's own spec holds"
        )
        remarks.append(Said(Tone.LOOK, text))
    unread = sum(runs for (value, source), runs in of_specs.items() if source != PM_READS and value != PM_OTHERWISE)
    if unread:
        whose = "a run" if unread == 1 else f"{unread} runs"
        text = f"The PM daemon takes {PM_OTHERWISE} min for {whose}, since it reads only {PM_READS}"
        remarks.append(Said(Tone.LOOK, text))
    description = next((entry["description"] for entry in entries if entry["description"]), "")
    return TypeLimit(name, limit, source, took, tuple(remarks), description)


def _took(minutes: list[float], limit: float) -> Took | None:
    measured = use((each, 1.0) for each in minutes)
    if measured is None:
        return None
    p50, p95 = (timedelta(minutes=each) for each in (measured.median, measured.p95))
    return Took(measured.cases, p50, p95, sum(each > limit for each in minutes))


def answer_types(types: list[TypeLimit]) -> Said:
    if not types:
        return Said(Tone.UNKNOWN, "No type of worker is known yet")
    bad, look = ([each for each in types if each.said.tone is tone] for tone in (Tone.BAD, Tone.LOOK))
    if bad or look:
        number = len(bad) + len(look)
        text = (
            f"{number} of {len(types)} type{'s' if len(types) > 1 else ''} {have(number)} a limit that asks for a look"
        )
        return Said(Tone.BAD if bad else Tone.LOOK, text)
    if all(each.said.tone is Tone.UNKNOWN for each in types):
        return Said(Tone.UNKNOWN, "Too few runs have ended to say whether limits fit")
    return Said(Tone.FINE, "Limits fit what runs took")


def own_limits(numbers: Mapping[str, float]) -> Iterable[OwnLimit]:
    limits: Limits = effective_limits(dict(Limit.objects.values_list("name", "seconds")), numbers)
    for name, (meaning, _) in LIMITS.items():
        source = limits.sources[name]
        words = "ours, since neither an admin nor the PM daemon's configuration gives one"
        yield OwnLimit(name.replace("_", " "), getattr(limits, name), meaning, words if source == "default" else source)
