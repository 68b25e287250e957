"""What is odd in the coordination directory."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from workers.finding_kinds import KINDS, About, Kind


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
