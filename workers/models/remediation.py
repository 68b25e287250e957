"""Repairs: what was asked for, by whom, and the journal of what was done. Never deleted."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse

from workers.remediation.actions import ACTIONS

from .worker import Worker


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
    #: What is said of a preview that was opened and left: no person has withdrawn it.
    LAPSED: ClassVar = "Nobody confirmed it within an hour"

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
    via = models.CharField(max_length=20, help_text="browser, admin, command line or autopilot")
    policy = models.ForeignKey(
        "Policy",
        null=True,
        on_delete=models.PROTECT,
        related_name="remediations",
        help_text="Of the autopilot.",
    )
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

    @property
    def lapsed(self) -> bool:
        return self.state == self.State.WITHDRAWN and self.error == self.LAPSED


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
