"""Whom to tell of what: rules, the alerts that they raise, the channels, and what is on its way through them."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from workers.secrets_at_rest import SecretField

from .worker import HEALTH_CHOICES


class Severity(models.IntegerChoices):
    INFO = 1, "info"
    WARNING = 2, "warning"
    CRITICAL = 3, "critical"


class Channel(models.Model):
    """Where people are told: mail, Slack, a webhook … by an address that apprise understands."""

    name = models.CharField(max_length=80, unique=True)
    address = SecretField(
        help_text="An apprise address, such as mailto://user:password@example.com, slack://… or json://host/path. "
        "It is stored encrypted and never shown again; leave the field empty to keep it."
    )
    enabled = models.BooleanField(default=True)
    least_severity = models.SmallIntegerField(
        choices=Severity.choices, default=Severity.WARNING, help_text="What is less severe is not sent here."
    )
    # How it does, written by whoever sends
    last_sent_at = models.DateTimeField(null=True, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    last_error = models.TextField(blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertRule(models.Model):
    """When somebody is told, and how often."""

    class Kind(models.TextChoices):
        ZOMBIES = "zombies", "So many zombies at once"
        MASS = "mass", "So large a share of the fleet lost at once"
        HEALTH = "health", "A worker in a state for longer than"
        FAILURE_RATE = "failure-rate", "So large a share of runs failed"
        PM_SILENT = "pm-silent", "The PM daemon is silent for longer than"
        POLLER_SILENT = "poller-silent", "A poller is silent for longer than"
        DAMAGED = "damaged", "So many files cannot be read"
        AUTOPILOT = "autopilot", "A policy of the autopilot stopped itself"

    name = models.CharField(max_length=120, unique=True)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    enabled = models.BooleanField(default=True)
    threshold = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="For counts: fires at this many (zombies: empty takes the fleet's own number, else 10). "
        "For shares: above this many percent.",
    )
    at_least = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="For shares: only where at least so many are lost, or have ended.",
    )
    health = models.CharField(
        max_length=20, choices=HEALTH_CHOICES, blank=True, help_text="For “a worker in a state”: which."
    )
    minutes = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(60 * 24 * 366)],
        help_text="For how long; for the share of failed runs: among those that ended in the last so many minutes.",
    )
    worker_type = models.CharField(max_length=100, blank=True, help_text="Only workers of this type; empty: all.")
    master = models.CharField(max_length=100, blank=True, help_text="Only workers of this master; empty: all.")
    severity = models.SmallIntegerField(choices=Severity.choices, default=Severity.WARNING)
    cycles = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="It must hold at so many looks in a row before anybody is told, and not hold at as many before it "
        "is over.",
    )
    resolve_notice = models.BooleanField(default=True, help_text="Tell also when it is over.")
    repeat_minutes = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Tell again after so many minutes while it lasts and nobody has acknowledged it; empty: never.",
    )
    quiet_from = models.TimeField(null=True, blank=True, help_text="Nobody is told from this time of day …")
    quiet_until = models.TimeField(null=True, blank=True, help_text="… until this one; what lasts is told then.")
    quiet_zone = models.CharField(max_length=64, default="UTC", help_text="Time zone of these, like Europe/Berlin.")
    muted_until = models.DateTimeField(null=True, blank=True)
    muted_reason = models.CharField(max_length=200, blank=True)
    channels = models.ManyToManyField(Channel, blank=True, related_name="rules", help_text="None: only in the browser.")

    class Meta:
        ordering: ClassVar = ["-severity", "name"]

    def __str__(self) -> str:
        return self.name


class Alert(models.Model):
    """One time that a rule held for one cause, from its first look to its end. Kept as long as events."""

    class State(models.TextChoices):
        PENDING = "pending", "holds, but not for long enough"
        FIRING = "firing", "firing"
        RESOLVED = "resolved", "over"

    rule = models.ForeignKey(AlertRule, null=True, on_delete=models.SET_NULL, related_name="alerts")
    rule_name = models.CharField(max_length=120)
    cause = models.CharField(max_length=255, help_text="What groups it: a host, a worker type, or nothing.", blank=True)
    severity = models.SmallIntegerField(choices=Severity.choices)
    state = models.CharField(max_length=20, choices=State.choices, default=State.PENDING)
    summary = models.CharField(max_length=300, help_text="One sentence.")
    workers = models.JSONField(default=list, help_text="The first of the workers that it is about.")
    count = models.IntegerField(default=1, help_text="How many it is about.")
    began = models.DateTimeField()
    fired = models.DateTimeField(null=True)
    resolved = models.DateTimeField(null=True)
    looks = models.IntegerField(default=1, help_text="Looks in a row at which it held; negative: at which it did not.")
    told = models.DateTimeField(null=True, help_text="When people were told last.")
    times_told = models.IntegerField(default=0)
    held_back = models.CharField(max_length=100, blank=True, help_text="Why people have not been told of it yet.")
    acknowledged = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_reason = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["rule", "cause"],
                condition=models.Q(state__in=["pending", "firing"]),
                name="one_open_alert_a_cause",
            )
        ]
        indexes: ClassVar = [models.Index(fields=["state", "-began"], name="alerts_by_state")]
        permissions: ClassVar = [("acknowledge_alert", "Can acknowledge alerts")]

    def __str__(self) -> str:
        return f"{self.rule_name} #{self.pk}"


class Delivery(models.Model):
    """One message on its way through one channel. It is tried again until it is sent or it is too old."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"
        GIVEN_UP = "given up"

    TEST = "test "  # how the keys of tests begin

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    alert = models.ForeignKey(Alert, null=True, on_delete=models.CASCADE, related_name="deliveries")
    key = models.CharField(max_length=120, help_text="Which message it is: the same is never queued twice.")
    subject = models.CharField(max_length=200)
    body = models.TextField()
    state = models.CharField(max_length=20, choices=State.choices, default=State.QUEUED)
    created_at = models.DateTimeField()
    next_try_at = models.DateTimeField()
    tries = models.IntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [models.UniqueConstraint(fields=["channel", "key"], name="each_message_once")]
        indexes: ClassVar = [models.Index(fields=["state", "next_try_at"], name="deliveries_to_do")]

    def __str__(self) -> str:
        return f"{self.subject} to {self.channel}"
