"""One run of one worker, its documents, and the history of its verdict."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.http import urlencode

from workers.health import Health

HEALTH_CHOICES = [(health.value, health.label) for health in Health]


class Worker(models.Model):
    """One run of one worker on one host: (host, worker_id, created_at). Ids are reused; runs are not."""

    # Which run
    host = models.CharField(max_length=255)
    worker_id = models.CharField(max_length=255)
    created_at = models.DateTimeField(null=True, help_text="As the spec says.")
    run_key = models.CharField(max_length=600, help_text="created_at in UTC, or the path where no time could be read.")

    # What its spec says
    path = models.TextField(help_text="Relative to the home.")
    directory = models.TextField(help_text="Below worker-specs: active, completed, archived/2025-11-16, …")
    live = models.BooleanField(default=False, help_text="Its spec lies in active/.")
    file_mtime = models.DateTimeField(null=True)
    worker_type = models.CharField(max_length=100, blank=True)
    task_id = models.CharField(max_length=255, blank=True)
    task_type = models.CharField(max_length=100, blank=True)
    master = models.CharField(max_length=100, blank=True)
    status = models.CharField(max_length=100, blank=True, help_text="The spec's own word, an open set.")
    priority = models.CharField(max_length=50, blank=True)
    description = models.TextField(blank=True)
    retry_of = models.CharField(max_length=255, blank=True, help_text="The task that its task is to do again.")
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    time_limit_minutes = models.FloatField(null=True)
    time_limit_source = models.CharField(max_length=100, blank=True)
    token_budget = models.BigIntegerField(null=True)
    tokens_used = models.BigIntegerField(null=True)
    error = models.TextField(blank=True)
    problem_line = models.IntegerField(null=True, help_text="Where an unreadable file stops being JSON.")
    problem_column = models.IntegerField(null=True)
    problem_excerpt = models.TextField(blank=True)

    # What was seen of it in this attempt
    attempt = models.IntegerField(default=1)
    attempt_began = models.DateTimeField(null=True, help_text="Signs of life from before are another attempt's.")
    first_seen_at = models.DateTimeField()
    seen_alive_at = models.DateTimeField(null=True, help_text="Last time a process of its own was seen.")
    process_gone_at = models.DateTimeField(null=True, help_text="When the process that was seen was found gone.")
    last_checkin_at = models.DateTimeField(null=True)
    last_checkin_source = models.TextField(blank=True)
    progress_pct = models.FloatField(null=True)
    progress_changed_at = models.DateTimeField(null=True)
    last_log_at = models.DateTimeField(null=True)
    last_log_path = models.TextField(blank=True)
    last_cpu_at = models.DateTimeField(null=True, help_text="Last time its tree used more than 1 % of a core.")
    pid = models.IntegerField(null=True)
    pid_start_ticks = models.BigIntegerField(null=True)
    told_pid = models.BigIntegerField(null=True, help_text="The pid that its spec names.")
    told_pid_at = models.DateTimeField(null=True, help_text="When the spec had been written that named it first.")
    pid_found_by = models.CharField(max_length=100, blank=True)
    process_count = models.IntegerField(default=0)
    processes = models.JSONField(default=list, help_text="The process tree: pid, parent, start, command line, user.")
    cpu_percent = models.FloatField(null=True, help_text="Of one core, whole tree, since the sample before.")
    rss_bytes = models.BigIntegerField(null=True)
    sampled_at = models.DateTimeField(null=True)

    # What the PM daemon says
    pm_health = models.CharField(max_length=50, blank=True)
    pm_disagrees = models.BooleanField(default=False)

    # The verdict
    health = models.CharField(max_length=20, choices=HEALTH_CHOICES)
    severity = models.SmallIntegerField(help_text="0 is worst; the order of pages.")
    health_since = models.DateTimeField()
    as_of = models.DateTimeField(help_text="When the verdict was last formed.")
    reasons = models.JSONField(default=list)
    remedy = models.TextField(blank=True, help_text="What would turn it healthy.")
    overdue = models.BooleanField(default=False)
    not_checking_in = models.BooleanField(default=False)
    stuck = models.CharField(max_length=40, blank=True, help_text="In what way it is not getting on, though it lives.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "worker_id", "run_key"], name="one_row_per_run"),
        ]
        indexes: ClassVar = [
            models.Index(
                "live",
                "severity",
                models.F("overdue").desc(),
                models.F("not_checking_in").desc(),
                "health_since",
                "id",
                name="fleet_order",
            ),
            models.Index(fields=["live", "health", "worker_type", "master", "host"], name="fleet_facets"),
            models.Index("live", "health", Coalesce("ended_at", "health_since"), name="ended_by_health"),
            models.Index(fields=["worker_id"], name="by_worker_id"),
            models.Index(fields=["task_id"], name="by_task"),
        ]

    def __str__(self) -> str:
        return self.worker_id

    def get_absolute_url(self) -> str:
        """Return the page of this very run, also when a later run has the same id."""
        url = reverse("worker", args=[self.worker_id])
        return url if self.live else f"{url}?{urlencode({'run': self.pk})}"

    @property
    def main_reason(self) -> str:
        """The first reason, which decided."""
        return self.reasons[0]["text"] if self.reasons else ""


class WorkerDocument(models.Model):
    """The redacted spec and PM entry of a run. Apart from :class:`Worker`, whose table every list reads."""

    worker = models.OneToOneField(Worker, on_delete=models.CASCADE, primary_key=True, related_name="documents")
    spec = models.JSONField(null=True)
    pm_entry = models.JSONField(null=True)
    changes = models.JSONField(default=list, help_text="The last changes of single fields of the spec, newest first.")

    def __str__(self) -> str:
        return f"documents of {self.worker_id}"


class HealthChange(models.Model):
    """One change of verdict of one run. History; kept."""

    worker = models.ForeignKey(Worker, on_delete=models.CASCADE, related_name="health_changes")
    at = models.DateTimeField()
    attempt = models.IntegerField(default=1)
    old = models.CharField(max_length=20, blank=True)
    new = models.CharField(max_length=20, choices=HEALTH_CHOICES)
    reason = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["worker", "at"]), models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{self.worker_id}: {self.old or 'new'} to {self.new}"
