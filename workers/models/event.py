"""The coordination logs: how far they were read, their records, and how many there were of each type."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from .worker import Worker


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
