"""What is remembered.

Every column has one writer: observed state is written by the poller of the row's host (``ingest``), limits by people.
``Change`` is the outbox that pages are pushed from, ``HealthChange`` the history that is kept.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.http import urlencode

from .finding_kinds import KINDS, About, Kind
from .health import Health
from .remediation.actions import ACTIONS

HEALTH_CHOICES = [(health.value, health.label) for health in Health]


class Poller(models.Model):
    """The poll process of one host: the only writer of what is observed there, and how far it can be trusted."""

    host = models.CharField(max_length=255, unique=True)
    home = models.TextField(help_text="The coordination home that this host and database serve.")
    pid = models.IntegerField(null=True)
    boot_id = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField(null=True)
    last_cycle_at = models.DateTimeField(null=True, help_text="End of the last cycle that saw the whole directory.")
    interval_seconds = models.FloatField(default=2.0)
    cycle_ms = models.FloatField(null=True, help_text="How long the last full cycle took.")
    lag_ms = models.FloatField(
        null=True, help_text="From a file's change on disk to its row in the database, last seen."
    )
    error = models.TextField(blank=True, help_text="Why the last cycle failed or what of the home cannot be read.")
    error_since = models.DateTimeField(null=True)
    specs = models.IntegerField(default=0)
    unreadable = models.IntegerField(default=0)
    other = models.IntegerField(default=0)
    pm_seen = models.BooleanField(default=False, help_text="There is a pm-state.json that can be read.")
    pm_pid = models.IntegerField(null=True)
    pm_alive = models.BooleanField(
        null=True, help_text="Whether the pid it names is a living process; unknown if null."
    )
    pm_last_loop = models.DateTimeField(null=True)
    pm_started_at = models.DateTimeField(null=True)
    pm_loops = models.IntegerField(null=True)

    def __str__(self) -> str:
        return self.host


class HostProcesses(models.Model):
    """The processes of one host that are workers', look like it or name one. Written when that changes."""

    host = models.CharField(max_length=255, unique=True)
    at = models.DateTimeField()
    processes = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"processes of {self.host}"


class PollerGap(models.Model):
    """A stretch of time in which no poller watched a host. Nobody may count it as healthy."""

    host = models.CharField(max_length=255)
    began = models.DateTimeField()
    ended = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["host", "began"])]

    def __str__(self) -> str:
        return f"{self.host}: {self.began:%Y-%m-%d %H:%M} to {self.ended:%Y-%m-%d %H:%M}"


class Limit(models.Model):
    """An admin's value for one of ``health.LIMITS``; where there is no row, the PM's or the default holds."""

    name = models.CharField(max_length=64, unique=True)
    seconds = models.FloatField()

    def __str__(self) -> str:
        return f"{self.name} = {self.seconds:g} s"


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


class Change(models.Model):
    """The outbox: one small row for anything that pages must show. Kept an hour."""

    class Kind(models.TextChoices):
        WORKER = "worker"
        POLLER = "poller"
        EVENTS = "events"
        REMEDIATION = "remediation"
        PROCESSES = "processes"
        FINDINGS = "findings"

    kind = models.CharField(max_length=20, choices=Kind.choices)
    key = models.BigIntegerField(null=True, help_text="Primary key of what changed.")
    at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class LogFile(models.Model):
    """How far one coordination log has been read; moves in the same transaction as the rows that were read."""

    host = models.CharField(max_length=255)
    path = models.TextField()
    inode = models.BigIntegerField(default=0)
    generation = models.IntegerField(default=0, help_text="How many files have stood under this path.")
    offset = models.BigIntegerField(default=0)
    head = models.CharField(max_length=64, blank=True)
    head_length = models.IntegerField(default=0)
    records = models.BigIntegerField(default=0)
    damaged = models.BigIntegerField(default=0)
    replaced_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["host", "path"], name="one_cursor_per_log")]

    def __str__(self) -> str:
        return self.path


class LogRelay(models.Model):
    """A question of the web about a worker's log on another host, and the answer of that host's poller, redacted.

    The web writes ``asked`` and ``wanted_until``, the poller the rest. Gone soon after nobody wants it any more.
    """

    host = models.CharField(max_length=255)
    worker = models.ForeignKey(Worker, on_delete=models.CASCADE, related_name="log_relays")
    question = models.TextField(help_text="Which stretch of which file, and what to look for in it.")
    wanted_until = models.DateTimeField()
    asked = models.IntegerField(default=1, help_text="How many times; hosts' clocks differ.")
    answered = models.IntegerField(default=0, help_text="The last time of asking that the answer is for.")
    answer = models.JSONField(null=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["host", "wanted_until"], name="log_relays_wanted")]

    def __str__(self) -> str:
        return f"{self.worker} on {self.host}"


class Event(models.Model):
    """A record of a coordination log. Nothing else is ever stored here."""

    log = models.ForeignKey(LogFile, on_delete=models.CASCADE, related_name="events", db_index=False)
    generation = models.IntegerField()
    offset = models.BigIntegerField(help_text="Bytes from the start of the file.")
    at = models.DateTimeField(null=True, help_text="As the record says.")
    stored_at = models.DateTimeField()
    type = models.CharField(max_length=100, blank=True)
    worker_id = models.CharField(max_length=255, blank=True)
    data = models.TextField(help_text="The whole record, redacted, as JSON.")

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["at", "id"], name="events_by_time"),
            models.Index(fields=["worker_id", "at"], name="events_by_worker"),
            models.Index(fields=["type", "at"], name="events_by_type"),
            models.Index(fields=["log", "at"], name="events_by_log"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.worker_id}".strip()


class EventCount(models.Model):
    """How many records of a type one log held on one day. Survives the events that it counts."""

    log = models.ForeignKey(LogFile, on_delete=models.CASCADE, related_name="counts")
    day = models.DateField(help_text="In UTC, as the records say; the day of storing where they say nothing.")
    type = models.CharField(max_length=100, blank=True)
    count = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["log", "day", "type"], name="one_count_a_day")]

    def __str__(self) -> str:
        return f"{self.day}: {self.count} {self.type}"


class Finding(models.Model):
    """Something odd in the coordination directory: where, what, since when. Removed when it is mended."""

    Kind = Kind

    host = models.CharField(max_length=255)
    kind = models.CharField(max_length=20, choices=[(kind.value, about.title) for kind, about in KINDS.items()])
    path = models.TextField()
    detail = models.TextField()
    worker_id = models.CharField(max_length=255, blank=True, help_text="Whom it is about, where it is about one.")
    line = models.IntegerField(null=True)
    column = models.IntegerField(null=True)
    offset = models.BigIntegerField(null=True)
    length = models.BigIntegerField(null=True)
    excerpt = models.TextField(blank=True)
    blank_only = models.BooleanField(default=False, help_text="Only values are missing, which can be read as null.")
    since = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["host", "kind"])]

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"

    @property
    def about(self) -> About:
        """What the table says of its kind."""
        return KINDS[Kind(self.kind)]


class RemediationBatch(models.Model):
    """One act on many runs: what was asked for, and what was left out and why."""

    action = models.CharField(max_length=40)
    asked = models.TextField(help_text="The filter or the selection, spelt out.")
    ineligible = models.JSONField(default=list, help_text="Runs that are no case for it: worker id and reason.")
    running = models.IntegerField(default=0, help_text="How many runs said running when it was asked for.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    actor = models.CharField(max_length=150)
    requested_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.action} of many #{self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("batch", args=[self.pk])


class Remediation(models.Model):
    """One repair: who asked for it and why, what it was to do, what it did. Never deleted.

    Asked for by the web, the command line or the admin; planned and carried out by a process on the worker's own host,
    which alone writes it from then on, but for the one step from planned to confirmed or withdrawn.
    """

    class State(models.TextChoices):
        PLANNING = "planning"
        PLANNED = "planned"
        CONFIRMED = "confirmed"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        REFUSED = "refused"
        WITHDRAWN = "withdrawn"

    #: A worker has at most one of these: it is going to be touched.
    COMMITTED: ClassVar = (State.CONFIRMED, State.RUNNING)
    OPEN: ClassVar = (State.PLANNING, State.PLANNED, *COMMITTED)

    # What is asked
    host = models.CharField(max_length=255)
    action = models.CharField(max_length=40)
    worker = models.ForeignKey(Worker, null=True, on_delete=models.PROTECT, related_name="remediations")
    undoes = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="undoings")
    instead_of = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, related_name="+", help_text="The preview that had become wrong."
    )
    batch = models.ForeignKey(RemediationBatch, null=True, on_delete=models.PROTECT, related_name="remediations")
    recover = models.BooleanField(default=False, help_text="Its task is recovered in the same act.")

    # By whom
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    actor = models.CharField(max_length=150, help_text="The name at that time; of the operating system for the CLI.")
    via = models.CharField(max_length=20, help_text="browser, admin or command line")
    address = models.CharField(max_length=64, blank=True, help_text="Where the request came from.")
    reason = models.TextField(blank=True)

    # How far it is
    state = models.CharField(max_length=20, choices=State.choices, default=State.PLANNING)
    requested_at = models.DateTimeField()
    planned_at = models.DateTimeField(null=True)
    confirmed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    executor = models.CharField(max_length=120, blank=True, help_text="The process that has it: pid, start, boot.")
    holds = models.BooleanField(default=False, help_text="Its worker is being stopped, and so not judged.")

    # What it is
    plan = models.JSONField(null=True, help_text="Steps, warnings and what all of it relies on.")
    evidence = models.JSONField(null=True, help_text="Ends of the logs and the process tree, from before.")
    output = models.TextField(blank=True, help_text="What the external command printed, redacted.")
    error = models.TextField(blank=True)
    task_id = models.CharField(max_length=255, blank=True, help_text="The task that was recovered.")
    new_task_id = models.CharField(max_length=255, blank=True, help_text="The task that was made for it.")

    class Meta:
        permissions: ClassVar = [(action.permission, f"Can {action.label.lower()}") for action in ACTIONS.values()]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["worker"], condition=models.Q(state__in=["confirmed", "running"]), name="one_repair_at_a_time"
            ),
            models.UniqueConstraint(
                fields=["undoes"],
                condition=models.Q(state__in=["confirmed", "running", "done"]),
                name="undone_at_most_once",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["host", "state"], name="remediations_to_do"),
            models.Index(fields=["worker", "-id"], name="remediations_of_worker"),
            models.Index(fields=["task_id"], name="remediations_of_task"),
            models.Index(fields=["new_task_id"], name="remediations_by_new_task"),
        ]

    def __str__(self) -> str:
        return f"{self.action} #{self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("remediation", args=[self.pk])

    @property
    def open(self) -> bool:
        return self.state in self.OPEN


class RemediationStep(models.Model):
    """One step of a remediation, and the journal of it: written before and after it is done."""

    class State(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        SKIPPED = "skipped"

    remediation = models.ForeignKey(Remediation, on_delete=models.PROTECT, related_name="steps")
    number = models.SmallIntegerField()
    kind = models.CharField(max_length=20)
    target = models.TextField()
    detail = models.TextField(help_text="What it does, or what it did.")
    state = models.CharField(max_length=20, choices=State.choices, default=State.PENDING)
    data = models.JSONField(default=dict, help_text="What it needs to be finished or taken back. No secrets.")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["remediation", "number"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["remediation", "number"], name="one_step_of_a_number")]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"
