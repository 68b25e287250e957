"""Retiring a host that nobody will watch again: its machine is gone, and its silence would ring for ever.

What was seen of it stays; its runs leave the fleet as gone. Nothing is lost: a poller of that host takes it back into
the watch by starting, and reads its runs anew.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from .health import OVER, Health, Reason, Verdict
from .ingest import RUNS_PER_TRANSACTION, Store
from .lease import Lease
from .models import Change, Finding, HostProcesses, Poller
from .runs import Roster
from .sql import announce, chunks


def retire(host: str, now: datetime) -> int:
    """Take a host out of the watch; return how many of its runs left the fleet with it.

    Raises PlaceTakenError where its poller lives: for this moment, who retires a host stands in the poller's place,
    which alone may write what was observed. Broken off, it is taken up again by retiring the host once more.
    """
    lease = Lease(host)
    lease.acquire()
    try:
        poller = Poller.objects.get(host=host)
        store, roster = Store(host, poller.home), Roster()
        store.load(roster)
        runs = [run for run in roster.runs.values() if run.health not in OVER]
        verdict = Verdict(
            Health.GONE, (Reason(f"Host {host} was retired: nobody watches it any more", "admin"),), "its poller starts"
        )
        for run in runs:
            run.settle(verdict, now)
        for some in chunks(runs, RUNS_PER_TRANSACTION):
            with transaction.atomic():
                store.save_runs(some, None, now)
        with transaction.atomic():
            store.note_gap(poller.last_cycle_at, now, poller.interval_seconds)
            HostProcesses.objects.filter(host=host).delete()
            Finding.objects.filter(host=host).delete()
            Poller.objects.filter(pk=poller.pk, retired_at=None).update(retired_at=now)
            announce(Change.Kind.POLLER, [poller.pk], now)
        return len(runs)
    finally:
        lease.release()
