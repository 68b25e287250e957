"""What was observed: the poller alone writes it, so nobody adds, changes or deletes it here.

Every list is quick at a hundred thousand runs and a million events: it is read in the order of an index, searched in
indexes, and never counted to its end. What would read a whole table is not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from workers.lease import PlaceTakenError
from workers.models import (
    Event,
    EventCount,
    Finding,
    HealthChange,
    HostProcesses,
    LogFile,
    Mark,
    Poller,
    PollerGap,
    Silence,
    Worker,
    WorkerDocument,
)
from workers.models.worker import HEALTH_CHOICES
from workers.remediation import ask
from workers.remediation.actions import IN_BULK, OF_A_FILE, Action
from workers.remediation.ask import Person
from workers.remediation.ground import Refusal
from workers.retirement import retire
from workers.setting_changes import Value, record

from .base import HostFilter, LatelyFilter, ReadOnly, link, link_list, linked, who_of

WORKERS = "admin:workers_worker_changelist"
EVENTS = "admin:workers_event_changelist"


def run_links(worker: Worker) -> SafeString:
    """The pages about one run: its own, and what else is stored of it."""
    links = [
        linked("Its page", worker.get_absolute_url()),
        link("Events", EVENTS, q=worker.worker_id),
        link("Incidents", "admin:workers_incident_changelist", run__id__exact=worker.pk),
        link("Changes of health", "admin:workers_healthchange_changelist", worker__id__exact=worker.pk),
        link("Remediations", "admin:workers_remediation_changelist", worker__id__exact=worker.pk),
        linked("Logs", reverse("worker-logs", args=[worker.worker_id])),
        link("Runs of its id", WORKERS, q=worker.worker_id),
    ]
    return link_list(links)


class Narrowing(admin.SimpleListFilter):
    """Narrows the list of runs to keys that an index holds, which come in order and need no sorting.

    Asked plainly, the database would sort all the runs it finds, or read every one.
    """

    def narrowed(self, value: str) -> QuerySet:
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        value = self.value()
        return queryset.filter(pk__in=self.narrowed(value).order_by().values("pk")) if value else queryset


class LiveFilter(Narrowing):
    title = parameter_name = "live"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "Live"), ("0", "Of the past")]

    def narrowed(self, value: str) -> QuerySet:
        return Worker.objects.filter(live=value == "1")


class HealthFilter(Narrowing):
    title = parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return HEALTH_CHOICES

    def narrowed(self, value: str) -> QuerySet:
        return Worker.objects.filter(live__in=[True, False], health=value)  # `live` comes first in the index


class RunHostFilter(HostFilter, Narrowing):
    def narrowed(self, value: str) -> QuerySet:
        return Worker.objects.filter(host=value)

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return Narrowing.queryset(self, request, queryset)


class DocumentInline(admin.StackedInline):
    model = WorkerDocument
    fields = ["spec", "pm_entry", "changes"]
    verbose_name_plural = "its documents, redacted"
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Worker)
class WorkerAdmin(ReadOnly):
    """Runs. The actions of the list are those of the table, with the same previews, permissions and audit."""

    list_display = ["worker_id", "host", "health", "worker_type", "task_id", "health_since", "elsewhere"]
    list_filter = [LiveFilter, HealthFilter, RunHostFilter]
    search_beginnings = ["worker_id", "task_id"]
    search_help_text = "How its id or its task begins, in exactly these letters."
    ordering = ["-id"]
    sortable_by = ["worker_id"]
    inlines = [DocumentInline]
    fieldsets = [
        (None, {"fields": ("pages", "worker_id", "host", "created_at", "run_key")}),
        (
            "The verdict",
            {
                "fields": (
                    *("health", "health_since", "as_of", "remedy", "reasons", "overdue", "not_checking_in"),
                    *("stuck", "severity"),
                )
            },
        ),
        (
            "What its spec says",
            {
                "fields": (
                    *("path", "directory", "live", "file_mtime", "worker_type", "task_id", "task_type", "master"),
                    *("status", "priority", "description", "retry_of", "started_at", "ended_at", "error"),
                    *("time_limit_minutes", "time_limit_source", "token_budget", "tokens_used"),
                    *("problem_line", "problem_column", "problem_excerpt"),
                )
            },
        ),
        (
            "What was seen of it in this attempt",
            {
                "fields": (
                    *("attempt", "attempt_began", "first_seen_at", "seen_alive_at", "process_gone_at"),
                    *("last_checkin_at", "last_checkin_source", "progress_pct", "progress_changed_at"),
                    *("last_log_at", "last_log_path", "last_cpu_at", "pid", "pid_start_ticks", "pid_found_by"),
                    *("process_count", "processes", "cpu_percent", "rss_bytes", "sampled_at"),
                )
            },
        ),
        ("What the PM daemon says", {"fields": ("pm_health", "pm_disagrees")}),
    ]
    readonly_fields = ["pages"]

    @admin.display(description="More of it")
    def pages(self, worker: Worker) -> SafeString:
        return run_links(worker)

    @admin.display(description="more of it")
    def elsewhere(self, worker: Worker) -> SafeString:
        events = link("Events", EVENTS, q=worker.worker_id)
        return link_list([linked("Page", worker.get_absolute_url()), events])

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        person = Person(request.user.get_username(), "admin", user=request.user)
        allowed = (action for action in (*IN_BULK, *OF_A_FILE) if person.may(action))
        return found | {each.name: (_ask_for(each), each.name, f"{each.label}, with a preview") for each in allowed}


def _ask_for(action: Action) -> Callable[..., HttpResponse | None]:
    """Make the admin's list action out of one of the table."""

    def ask_for(admin: WorkerAdmin, request: HttpRequest, workers: QuerySet[Worker]) -> HttpResponse | None:
        address = request.META.get("REMOTE_ADDR", "")
        person = Person(request.user.get_username(), "admin", user=request.user, address=address)
        selection = ask.select(action, workers.order_by("worker_id")[: ask.MOST_AT_ONCE + 1])
        try:
            return redirect(ask.request_many(selection, person, f"{len(selection.cases)} selected in the admin"))
        except Refusal as refusal:
            admin.message_user(request, str(refusal), messages.ERROR)
            return None

    return ask_for


@admin.register(HealthChange)
class HealthChangeAdmin(ReadOnly):
    list_display = ["at", "of", "old", "new", "attempt", "reason"]
    list_display_links = ["at"]
    list_filter = [LatelyFilter]
    list_select_related = ["worker"]
    ordering = ["-at", "-id"]
    sortable_by = ["at"]
    raw_id_fields = ["worker"]
    search_whole = ["worker__worker_id"]
    search_help_text = "The whole id of a worker."

    @admin.display(description="worker")
    def of(self, change: HealthChange) -> SafeString:
        return link(change.worker, "admin:workers_worker_change", change.worker_id)


class TypeFilter(admin.SimpleListFilter):
    """The types that were counted: the events themselves are never read for them."""

    title = parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        types = EventCount.objects.order_by("type").values_list("type", flat=True).distinct()
        return [(name, name) for name in types if name]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(type=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = ["at", "type", "worker", "source", "stored_at"]
    list_filter = [LatelyFilter, TypeFilter, "log"]
    list_select_related = ["log"]
    ordering = ["-at", "-id"]
    sortable_by = ["at"]
    search_whole = ["worker_id"]
    search_help_text = "The whole id of a worker, or a whole type."
    fields = ["at", "type", "worker", "log", "generation", "offset", "stored_at", "data"]
    readonly_fields = ["worker"]

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        """Look for one or the other: both at once would be sorted by time, a quarter of a million of one type."""
        if EventCount.objects.filter(type=(term := search_term.strip())).exists() and term:
            return queryset.filter(type=term), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="worker")
    def worker(self, event: Event) -> SafeString | str:
        return link(event.worker_id, WORKERS, q=event.worker_id) if event.worker_id else "–"

    @admin.display(description="log")
    def source(self, event: Event) -> SafeString:
        return link(event.log, "admin:workers_logfile_change", event.log_id)


@admin.register(LogFile)
class LogFileAdmin(ReadOnly):
    list_display = ["path", "host", "records", "damaged", "offset", "generation", "events"]
    list_filter = [HostFilter]
    search_fields = ["path"]
    ordering = ["path", "host"]
    readonly_fields = ["events"]

    @admin.display(description="stored of it")
    def events(self, log: LogFile) -> SafeString:
        counts = link("Counts", "admin:workers_eventcount_changelist", log__id__exact=log.pk)
        return link_list([link("Events", EVENTS, log__id__exact=log.pk), counts])


@admin.register(EventCount)
class EventCountAdmin(ReadOnly):
    list_display = ["day", "type", "count", "log"]
    list_filter = ["log"]
    list_select_related = ["log"]
    search_whole = ["type"]
    search_help_text = "A whole type."
    date_hierarchy = "day"
    ordering = ["-day", "type", "id"]


@admin.register(Poller)
class PollerAdmin(ReadOnly):
    list_display = [
        *("host", "home", "pid", "last_cycle_at", "cycle_ms", "specs", "unreadable", "error", "retired_at", "workers")
    ]
    search_fields = ["host", "home"]
    ordering = ["host"]
    readonly_fields = ["workers"]
    actions = ["retire_hosts"]

    @admin.display(description="of this host")
    def workers(self, poller: Poller) -> SafeString:
        gaps = link("Unwatched", "admin:workers_pollergap_changelist", host=poller.host)
        return link_list([link("Workers", WORKERS, host=poller.host), gaps])

    def has_retire_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workers.change_installation")

    @admin.action(permissions=["retire"], description="Retire hosts that no poller will watch again")
    def retire_hosts(self, request: HttpRequest, queryset: QuerySet[Poller]) -> None:
        for poller in queryset.order_by("host"):
            now = timezone.now()
            try:
                left = retire(poller.host, now)
            except PlaceTakenError as refusal:
                self.message_user(request, f"Host {poller.host} is watched: {refusal}.", messages.ERROR)
                continue
            was, is_now = {"retired": Value("")}, {"retired": Value(f"{now:%Y-%m-%d %H:%M} UTC")}
            record(who_of(request), f"host {poller.host}", was, is_now, now)
            runs = f"{left} run{'' if left == 1 else 's'}"
            said = f"Host {poller.host} is retired, and {runs} left the fleet with it."
            self.message_user(request, f"{said} Its poller takes it back by starting.")


@admin.register(PollerGap)
class PollerGapAdmin(ReadOnly):
    list_display = ["host", "began", "ended", "length"]
    list_display_links = ["began"]
    list_filter = [HostFilter]
    date_hierarchy = "began"
    ordering = ["-began", "-id"]

    @admin.display(description="for how long nobody watched")
    def length(self, gap: PollerGap) -> str:
        return str(gap.ended - gap.began).partition(".")[0]


@admin.register(HostProcesses)
class HostProcessesAdmin(ReadOnly):
    list_display = ["host", "at", "count"]
    ordering = ["host"]

    @admin.display(description="processes")
    def count(self, seen: HostProcesses) -> int:
        return len(seen.processes)


@admin.register(Finding)
class FindingAdmin(ReadOnly):
    list_display = ["path", "kind", "detail", "worker", "line", "column", "since"]
    list_filter = ["kind", HostFilter]
    search_fields = ["path", "detail", "=worker_id"]
    search_help_text = "A part of the path or of what is wrong, or the whole id of a worker."
    date_hierarchy = "since"
    ordering = ["-since", "-id"]

    @admin.display(description="worker")
    def worker(self, finding: Finding) -> SafeString | str:
        return link(finding.worker_id, WORKERS, q=finding.worker_id) if finding.worker_id else "–"


@admin.register(Mark)
class MarkAdmin(ReadOnly):
    list_display = ["at", "host", "kind", "text"]
    list_filter = ["kind", HostFilter]
    search_fields = ["text"]
    date_hierarchy = "at"
    ordering = ["-at", "-id"]


@admin.register(Silence)
class SilenceAdmin(ReadOnly):
    list_display = ["day", "host", "worker_type", "minutes", "count"]
    list_filter = [HostFilter]
    search_whole = ["worker_type"]
    search_help_text = "A whole type of worker."
    date_hierarchy = "day"
    ordering = ["-day", "minutes", "id"]
