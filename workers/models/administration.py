"""What an admin sets that holds for the whole installation, who changed which setting, and who minds it all."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from workers.secrets_at_rest import SecretField

from .alerting import Channel


class Installation(models.Model):
    """The settings that there are once. There is one row."""

    maintenance_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then nobody is told of alerts, and the autopilot does nothing."
    )
    maintenance_reason = models.CharField(max_length=200, blank=True)
    report_channels = models.ManyToManyField(
        Channel, blank=True, related_name="+", help_text="Where the weekly report is sent."
    )
    report_weekday = models.PositiveSmallIntegerField(
        default=0,
        choices=list(enumerate(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"))),
    )
    report_hour = models.PositiveSmallIntegerField(default=8, validators=[MaxValueValidator(23)])
    report_zone = models.CharField(max_length=64, default="UTC", help_text="Time zone of it, like Europe/Berlin.")
    report_sent_for = models.DateField(null=True, editable=False, help_text="The Monday of the week sent last.")
    dead_man_address = SecretField(
        blank=True,
        help_text="An http address that is called while all is well, so that another service can tell when "
        "it is not. Stored encrypted; leave empty to keep it.",
    )
    dead_man_minutes = models.FloatField(default=5, validators=[MinValueValidator(1)])
    dead_man_called_at = models.DateTimeField(null=True, editable=False)
    dead_man_error = models.TextField(blank=True, editable=False)

    class Meta:
        verbose_name_plural = "installation"

    def __str__(self) -> str:
        return "Installation"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.pk = 1
        super().save(*args, **kwargs)

    @classmethod
    def get(cls) -> Installation:
        return cls.objects.get_or_create(pk=1)[0]


class SettingChange(models.Model):
    """Who changed which field of which setting, from what to what. Never of secrets what they are. Never deleted."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    address = models.CharField(max_length=64, blank=True)
    setting = models.CharField(max_length=200, help_text="Which one, in words.")
    field = models.CharField(max_length=100, blank=True, help_text="Empty: all of it was added or removed.")
    old = models.TextField(blank=True)
    new = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["-at"], name="setting_changes_by_time")]

    def __str__(self) -> str:
        return f"{self.setting} {self.field}"


class Attendant(models.Model):
    """The process that minds rules, messages and policies at present: one for each database, poller or web."""

    process = models.CharField(max_length=200, help_text="Host, what it is, pid and a random part.")
    until = models.DateTimeField(help_text="Others take over after this.")
    last_round_at = models.DateTimeField(null=True)
    round_ms = models.FloatField(null=True)
    error = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.process
