"""What went wrong, when, and what became of it; and what is counted so that it outlives the records it came from."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.urls import reverse

from workers.incidents import How, Kind

from .remediation import Remediation
from .worker import Worker


class RootCause(models.Model):
    """A label for why incidents happen, from a list that people edit."""

    name = models.CharField(max_length=80, unique=True, help_text="As lists and charts show it; three words at most.")
    description = models.TextField(blank=True, help_text="When to choose it, for those who label incidents.")

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Incident(models.Model):
    """One continuous trouble of one run of one kind; what its moments mean, :data:`workers.incidents.KINDS` says.

    What was observed is written by the poller of its host, what people say of it by the web: they share no column.
    """

    # What was observed
    host = models.CharField(max_length=255)
    run = models.ForeignKey(
        Worker,
        null=True,
        on_delete=models.SET_NULL,
        related_name="incidents",
        db_index=False,
        help_text="None: no spec is known.",
    )
    worker_id = models.CharField(max_length=255)
    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value.capitalize()) for kind in Kind])
    attempt = models.IntegerField(default=1)
    began = models.DateTimeField()
    began_known = models.BooleanField(default=True, help_text="Otherwise it began, for all we know, when it was seen.")
    detected = models.DateTimeField()
    resolved = models.DateTimeField(null=True)
    how = models.CharField(max_length=30, blank=True, choices=[(how.value, how.value) for how in How])
    remediation = models.ForeignKey(
        Remediation,
        null=True,
        on_delete=models.PROTECT,
        related_name="incidents",
        db_index=False,
        help_text="What resolved it.",
    )
    cause = models.TextField(blank=True, help_text="The reason of the verdict, or what the log says.")
    unwatched_seconds = models.FloatField(default=0, help_text="How much of it nobody watched, once it is over.")
    from_log = models.BooleanField(default=False, help_text="Read out of the fleet's logs, not seen live.")
    seen = models.IntegerField(default=1, help_text="At how many moments it was reported.")
    number = models.BigIntegerField(null=True, help_text="Which of those that were read from this host's logs.")

    # What people say of it
    acknowledged = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_reason = models.TextField(blank=True)
    note = models.TextField(blank=True)
    note_by = models.CharField(max_length=150, blank=True)
    note_at = models.DateTimeField(null=True)
    root_cause = models.ForeignKey(
        RootCause, null=True, on_delete=models.SET_NULL, related_name="incidents", db_index=False
    )

    class Meta:
        permissions: ClassVar = [("acknowledge_incident", "Can acknowledge, note and label incidents")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "kind"],
                condition=models.Q(resolved__isnull=True, from_log=False),
                name="one_open_incident_a_kind",
            ),
            models.UniqueConstraint(
                fields=["host", "number"], condition=models.Q(from_log=True), name="one_row_per_logged_incident"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["detected", "id"], name="incidents_by_time"),
            models.Index(fields=["run", "kind"], name="incidents_of_run"),
            models.Index(
                fields=["detected", "id"], condition=models.Q(resolved__isnull=True), name="incidents_that_last"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.worker_id} {self.kind} #{self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("incident", args=[self.pk])


class Fold(models.Model):
    """How far the events of a host have been folded into incidents, and what must be remembered to go on."""

    host = models.CharField(max_length=255, unique=True)
    position = models.BigIntegerField(default=0, help_text="The last event that was taken.")
    state = models.TextField(help_text="What :class:`workers.folding.Past` knows, as JSON.")

    def __str__(self) -> str:
        return f"{self.host} up to event {self.position}"


class Mark(models.Model):
    """A moment that explains what comes after it: the PM daemon started, or a limit was changed."""

    class Kind(models.TextChoices):
        PM_START = "pm-start", "PM daemon started"
        LIMIT = "limit", "Limit changed"

    host = models.CharField(max_length=255)
    at = models.DateTimeField()
    kind = models.CharField(max_length=20, choices=Kind.choices)
    text = models.TextField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["host", "kind", "at"], name="one_mark_a_moment")]

    def __str__(self) -> str:
        return f"{self.text} at {self.at:%Y-%m-%d %H:%M}"


class Silence(models.Model):
    """How many silences of a length ended by themselves on one day, by worker type: what limits are suggested from.

    A silence is the time between two signs of life of one attempt, of a minute or more. Those of runs that never came
    back are no row here; they are incidents.
    """

    host = models.CharField(max_length=255)
    day = models.DateField(help_text="In UTC, the day on which it ended.")
    worker_type = models.CharField(max_length=100, blank=True)
    minutes = models.IntegerField(help_text="Its length in whole minutes, rounded down.")
    count = models.IntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "day", "worker_type", "minutes"], name="one_count_of_silences")
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.count} × {self.minutes} min of {self.worker_type}"
