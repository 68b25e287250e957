"""What is odd becomes rows: written where it is new or looks different, removed where it is mended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Q

from .coordination.layout import AGENTS_WORKERS
from .finding_kinds import Kind
from .integrity import ACROSS, Found
from .models import Change, Finding, Remediation
from .remediation.actions import CLEAN_UP, FORCE_FAIL
from .sql import announce, chunks, insert, reserve_ids, update

#: What may change of a finding while it stays the same one.
SHOWN = ("line", "column", "excerpt", "worker_id", "blank_only")


class Key(NamedTuple):
    """What a finding is known again by."""

    path: str
    kind: str
    detail: str


class Known(NamedTuple):
    pk: int
    shown: tuple[Any, ...]


@dataclass(slots=True)
class Difference:
    """What has to be written."""

    mended: list[int] = field(default_factory=list)
    changed: list[tuple[Any, ...]] = field(default_factory=list)
    new: list[Found] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.mended or self.changed or self.new)


class FindingStore:
    """The findings of one host as the database has them; damaged stretches of logs apart, which come with the log."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.of_files: dict[str, dict[Key, Known]] = {}  # by path: what files show by themselves
        self.across: dict[Key, Known] = {}

    def load(self) -> None:
        """Take up what earlier pollers of this host have found."""
        stored = Finding.objects.filter(host=self.host).exclude(kind=Kind.DAMAGED_LOG)
        for pk, path, kind, detail, *shown in stored.values_list("pk", "path", "kind", "detail", *SHOWN):
            key, known = Key(path, kind, detail), Known(pk, tuple(shown))
            if kind in ACROSS or path.startswith(f"{AGENTS_WORKERS.partition('/')[0]}/"):
                self.across[key] = known
            else:
                self.of_files.setdefault(path, {})[key] = known

    def save(self, found: Mapping[str, list[Found]], key: int, now: datetime) -> None:
        """Make what each of these paths shows be exactly this; what stays keeps its age. ``key`` is the poller's."""
        known = {each: seen for path in found for each, seen in self.of_files.pop(path, {}).items()}
        self._write(known, (each for several in found.values() for each in several), key, now)
        for each, seen in known.items():
            self.of_files.setdefault(each.path, {})[each] = seen

    def save_across(self, found: Iterable[Found], key: int, now: datetime) -> None:
        """Make what was found across files be exactly this."""
        self._write(self.across, found, key, now)

    def forget_log(self, path: str, key: int, now: datetime) -> None:
        """Take back the damage of a log that is gone."""
        damaged = Finding.objects.filter(host=self.host, kind=Kind.DAMAGED_LOG, path=path)
        if damaged.delete()[0]:
            announce(Change.Kind.FINDINGS, [key], now)

    def handled(self, now: datetime) -> dict[int, str]:
        """The live runs that a clean-up or a force-fail has moved to ``failed/`` before this cycle began."""
        taken_back = Q(undoings__state=Remediation.State.DONE)
        done = Remediation.objects.filter(
            host=self.host,
            state=Remediation.State.DONE,
            action__in=(CLEAN_UP.name, FORCE_FAIL.name),
            worker__live=True,
            finished_at__lt=now,
        ).exclude(taken_back)
        return {
            worker: f"{action.capitalize()} #{pk}"
            for worker, action, pk in done.order_by("pk").values_list("worker_id", "action", "pk")
            if worker
        }

    def _write(self, known: dict[Key, Known], found: Iterable[Found], key: int, now: datetime) -> None:
        """Write the difference, and let ``known`` say what is stored then."""
        wanted = {Key(each.path, each.kind.value, each.detail): each for each in found}
        differs = Difference(mended=[known.pop(each).pk for each in [*known] if each not in wanted])
        for each, thing in wanted.items():
            before, shown = known.get(each), tuple(getattr(thing, name) for name in SHOWN)
            if before is None:
                differs.new.append(thing)
            elif before.shown != shown:
                differs.changed.append((*shown, before.pk))
                known[each] = Known(before.pk, shown)
        if not differs:
            return
        for pks in chunks(differs.mended, 500):
            Finding.objects.filter(pk__in=pks).delete()
        update(Finding, SHOWN, differs.changed)
        known.update(self._insert(differs.new, now))
        announce(Change.Kind.FINDINGS, [key], now)

    def _insert(self, new: list[Found], now: datetime) -> dict[Key, Known]:
        rows, known, since = [], {}, connection.ops.adapt_datetimefield_value(now)
        for pk, each in zip(reserve_ids(Finding, len(new)), new, strict=True):
            shown = tuple(getattr(each, name) for name in SHOWN)
            rows.append((pk, self.host, each.kind.value, each.path, each.detail, since, *shown))
            known[Key(each.path, each.kind.value, each.detail)] = Known(pk, shown)
        insert(Finding, ("id", "host", "kind", "path", "detail", "since", *SHOWN), rows)
        return known
