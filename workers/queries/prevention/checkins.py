"""Check-ins: how often workers of each type check in, and what shows that they live where they do not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db.models import Count, Q

from workers.coordination.parser import bare_type
from workers.detection import Lengths, lengths
from workers.health import RUNNING, Health
from workers.models import Event, Worker

from .said import WORST, Said, Tone, be, joined

#: Workers should check in every 5 to 10 minutes, as the runbook has it.
CHECKIN_DUE = timedelta(minutes=10)
#: Two check-ins of one id that lie further apart are those of two runs.
LONGEST_PAUSE = timedelta(hours=4)
MOST_CHECKINS = 20_000


@dataclass(frozen=True, slots=True)
class Discipline:
    """Whether the workers of one type check in, how often, and what shows that they live where they do not."""

    worker_type: str
    runs: int  # that started in these days
    ever: int  # of these, those that checked in at least once
    pauses: Lengths | None  # between two check-ins, as the log tells; None where it tells of none
    silences: Lengths | None  # between any two signs of life
    running: int  # now
    silent: int  # of these, those that are not checking in
    others: tuple[str, ...]  # signs of life that were seen instead: "log lines", …

    @property
    def share_silent(self) -> float | None:
        return self.silent / self.running if self.running else None

    @property
    def said(self) -> Said:
        if self.runs and not self.ever:
            instead = f"{joined(self.others)} are taken" if self.others else "nothing else was seen of them either"
            return Said(Tone.LOOK, f"Nobody of this type ever checked in; as signs of life {instead}")
        if self.silent:
            return Said(Tone.LOOK, f"{self.silent} of {self.running} running now {be(self.silent)} not checking in")
        if self.pauses and self.pauses.p95 > CHECKIN_DUE:
            return Said(Tone.LOOK, "Irregular: one pause in twenty is longer than the 10 min that are asked for")
        if self.runs and self.ever * 2 < self.runs:
            return Said(Tone.LOOK, f"Only {self.ever} of {self.runs} runs ever checked in")
        if self.pauses:
            return Said(Tone.FINE, "Regular: they check in within 10 min")
        if self.ever:
            return Said(Tone.FINE, "They check in; how regularly, no log says")
        return Said(Tone.UNKNOWN, "No run of it has started in these days")


def kinds_of_runs(host: str, since: datetime) -> list[Any]:
    """Count the runs of the days by type, by the time limit of their spec, and by how they showed that they live."""
    running = Q(live=True, health__in=RUNNING)
    return list(
        Worker.objects.filter(Q(started_at__gte=since) | Q(live=True), host=host)
        .exclude(health=Health.UNREADABLE)
        .values("worker_type", "time_limit_minutes", "time_limit_source")
        .annotate(
            runs=Count("pk"),
            started=Count("pk", filter=Q(started_at__gte=since)),
            ever=Count("pk", filter=Q(started_at__gte=since, last_checkin_at__isnull=False)),
            logged=Count("last_log_at"),
            worked=Count("last_cpu_at"),
            advanced=Count("progress_changed_at"),
            running=Count("pk", filter=running),
            silent=Count("pk", filter=running & Q(not_checking_in=True)),
        )
        .order_by()
    )


def pauses(host: str, since: datetime) -> dict[str, Counter[int]]:
    """How many whole minutes lay between two check-ins of one worker, by its type, as the logs tell."""
    events = Event.objects.filter(log__host=host, type="checkin_received", at__gte=since).exclude(worker_id="")
    newest = list(events.order_by("-at").values_list("worker_id", "at")[:MOST_CHECKINS])
    if not newest:
        return {}
    types = dict(
        Worker.objects.filter(Q(started_at__gte=since) | Q(live=True), host=host)
        .order_by("created_at")
        .values_list("worker_id", "worker_type")
    )
    moments = defaultdict[str, list[datetime]](list)
    for worker_id, at in reversed(newest):
        if at is not None:
            moments[worker_id].append(at)
    found = defaultdict[str, Counter[int]](Counter)
    for worker_id, times in moments.items():
        for before, after in pairwise(times):
            if after - before <= LONGEST_PAUSE:
                found[bare_type(types.get(worker_id, ""))][int((after - before).total_seconds() // 60)] += 1
    return dict(found)


def disciplines(
    rows: list[dict[str, Any]], pauses: Mapping[str, Counter[int]], silences: Mapping[str, Mapping[int, int]]
) -> list[Discipline]:
    """Say of each type how its runs check in; who does not do so comes first."""
    counted = defaultdict[str, Counter[str]](Counter)
    names: dict[str, str] = {}
    for row in rows:
        bare = bare_type(row["worker_type"])
        names.setdefault(bare, row["worker_type"])
        numbers = ("started", "ever", "logged", "worked", "advanced", "running", "silent")
        counted[bare].update({key: row[key] for key in numbers})
    quiet = defaultdict[str, Counter[int]](Counter)
    for worker_type, histogram in silences.items():
        quiet[bare_type(worker_type)].update(histogram)
    words = {"advanced": "changes of progress", "logged": "log lines", "worked": "work on a core"}
    found = [
        Discipline(
            worker_type=names[bare],
            runs=number["started"],
            ever=number["ever"],
            pauses=lengths(pauses.get(bare, {})),
            silences=lengths(quiet.get(bare, {})),
            running=number["running"],
            silent=number["silent"],
            others=tuple(text for key, text in words.items() if number[key]),
        )
        for bare, number in counted.items()
    ]
    return sorted(found, key=lambda each: (WORST.index(each.said.tone), -each.running, each.worker_type))


def answer_disciplines(discipline: list[Discipline]) -> Said:
    running, silent = (sum(getattr(each, name) for each in discipline) for name in ("running", "silent"))
    runs, ever = (sum(getattr(each, name) for each in discipline) for name in ("runs", "ever"))
    if runs and not ever:
        return Said(Tone.LOOK, f"Nobody checks in: none of {runs:,} run{'s' if runs > 1 else ''} ever did")
    if silent:
        return Said(Tone.LOOK, f"{silent:,} of {running:,} running workers {be(silent)} not checking in")
    if running:
        every = f"All {running:,} running workers check in" if running > 1 else "The one worker that runs checks in"
        return Said(Tone.FINE, every)
    return Said(Tone.UNKNOWN, "No worker is running now")
