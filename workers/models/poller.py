"""The poll process of a host: how far it can be trusted, and what it looks at beside the specs."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class PollerQuerySet(models.QuerySet["Poller"]):
    def on_duty(self) -> PollerQuerySet:
        """Those that ought to watch, in order of host: a retired host's silence is nobody's concern."""
        return self.filter(retired_at=None).order_by("host")


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

    targets = models.JSONField(
        default=dict, help_text="Minutes until a repair, by priority, as health-alerts.json says."
    )

    prevention = models.JSONField(
        default=dict, help_text="What the fleet's own configuration, alerts and other daemons say, as it was read last."
    )
    disk_free_bytes = models.BigIntegerField(null=True, help_text="Where the home lies.")
    disk_total_bytes = models.BigIntegerField(null=True)
    retired_at = models.DateTimeField(
        null=True, help_text="Since when nobody is expected to watch it; its poller takes that back by starting."
    )

    objects = PollerQuerySet.as_manager()

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
