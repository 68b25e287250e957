"""Markup as a browser reads it, however a template lays it out."""

from __future__ import annotations


def flat(markup: str) -> str:
    """The markup with one space wherever there is white space, and none around it all."""
    return " ".join(markup.split())
