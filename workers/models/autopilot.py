"""What may be repaired without a person, within which bounds, and what was decided."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils import timezone

from workers.remediation.actions import ACTIONS

from .remediation import Remediation
from .worker import HEALTH_CHOICES, Worker


class Policy(models.Model):
    """What is done about workers in a state, after which time, how often, and how many at most."""

    class Mode(models.TextChoices):
        OFF = "off", "off"
        SHADOW = "shadow", "shadow: only note what would be done"
        ACTIVE = "active", "active: do it"

    class Action(models.TextChoices):
        CLEAN_UP = "clean-up", "Clean up"
        RESTART = "restart", "Restart"

    name = models.CharField(max_length=120, unique=True)
    mode = models.CharField(
        max_length=10, choices=Mode.choices, default=Mode.SHADOW, help_text="Begins in shadow; promoting is an act."
    )
    action = models.CharField(max_length=20, choices=Action.choices)
    health = models.CharField(max_length=20, choices=HEALTH_CHOICES, help_text="Of workers in this state.")
    worker_type = models.CharField(max_length=100, blank=True, help_text="Only workers of this type; empty: all.")
    after_minutes = models.FloatField(
        default=10, validators=[MinValueValidator(0)], help_text="When they have been in it for so long."
    )
    most_tries = models.PositiveSmallIntegerField(
        default=3, validators=[MinValueValidator(1), MaxValueValidator(20)], help_text="For one worker, in a day."
    )
    delay_factor = models.FloatField(
        default=2,
        validators=[MinValueValidator(1), MaxValueValidator(10)],
        help_text="The wait before each next try grows by it.",
    )
    most_an_hour = models.PositiveSmallIntegerField(
        default=10, validators=[MinValueValidator(1)], help_text="Of all workers together."
    )
    most_percent = models.FloatField(
        default=10,
        validators=[MinValueValidator(0.1), MaxValueValidator(50)],
        help_text="When more of the running fleet is a case at once, nothing is done: that means something else.",
    )
    breaker_failures = models.PositiveSmallIntegerField(
        default=3, validators=[MinValueValidator(1)], help_text="After so many failures in a row it stops itself."
    )
    quiet_from = models.TimeField(null=True, blank=True, help_text="Nothing is done from this time of day …")
    quiet_until = models.TimeField(null=True, blank=True, help_text="… until this one.")
    quiet_zone = models.CharField(max_length=64, default="UTC")
    mode_since = models.DateTimeField(default=timezone.now, editable=False)
    promoted_at = models.DateTimeField(null=True, editable=False)
    promoted_by = models.CharField(max_length=150, blank=True, editable=False)
    tripped_at = models.DateTimeField(null=True, editable=False, help_text="When it stopped itself.")
    tripped_why = models.TextField(blank=True, editable=False)
    reset_at = models.DateTimeField(null=True, editable=False, help_text="Failures from before do not count any more.")
    reset_by = models.CharField(max_length=150, blank=True, editable=False)

    class Meta:
        verbose_name_plural = "policies"
        ordering: ClassVar = ["name"]
        permissions: ClassVar = [("promote_policy", "Can let a policy act")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("policy", args=[self.pk])

    @property
    def after(self) -> timedelta:
        return timedelta(minutes=self.after_minutes)

    def clean(self) -> None:
        """Refuse what could never be carried out, and half of a time of day."""
        errors = {}
        action = ACTIONS.get(self.action)
        if action and self.health and self.health not in action.from_health:
            states = ", ".join(sorted(action.from_health))
            errors["health"] = f"“{action.label}” is only for workers that are: {states}."
        if (self.quiet_from is None) != (self.quiet_until is None):
            errors["quiet_until"] = "Give both times, or none."
        elif self.quiet_from is not None and self.quiet_from == self.quiet_until:
            errors["quiet_until"] = "These are the same time, so nothing would ever be quiet."
        if self.quiet_zone not in available_timezones():
            errors["quiet_zone"] = "There is no such time zone; they are called like Europe/Berlin."
        if errors:
            raise ValidationError(errors)


class Decision(models.Model):
    """What a policy decided about one worker: would do, does, or holds back, and why."""

    class Verdict(models.TextChoices):
        WOULD = "would", "would have done it"
        DOES = "does", "does it"
        HELD_BACK = "held back", "held back"

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="decisions")
    worker = models.ForeignKey(Worker, on_delete=models.CASCADE, related_name="+")
    attempt = models.IntegerField(default=1)
    at = models.DateTimeField()
    verdict = models.CharField(max_length=20, choices=Verdict.choices)
    why = models.CharField(max_length=300)
    rule = models.CharField(max_length=20, blank=True, help_text="Which bound has held it back.")
    number = models.IntegerField(default=1, help_text="Which try of this worker it is.")
    remediation = models.ForeignKey(Remediation, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["policy", "worker", "verdict", "number"],
                condition=models.Q(verdict__in=["would", "does"]),
                name="one_decision_a_try",
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["policy", "-at"], name="decisions_by_policy"),
            models.Index(fields=["worker", "-at"], name="decisions_of_worker"),
        ]

    def __str__(self) -> str:
        return f"{self.policy} {self.verdict} {self.worker_id}"
