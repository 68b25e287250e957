"""The outbox: what pages must show, for the web processes that push it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Change(models.Model):
    """The outbox: one small row for anything that pages must show. Kept an hour."""

    class Kind(models.TextChoices):
        WORKER = "worker"
        POLLER = "poller"
        EVENTS = "events"
        REMEDIATION = "remediation"
        PROCESSES = "processes"
        FINDINGS = "findings"
        INCIDENT = "incident"
        ALERT = "alert"
        POLICY = "policy"

    kind = models.CharField(max_length=20, choices=Kind.choices)
    key = models.BigIntegerField(null=True, help_text="Primary key of what changed.")
    at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
