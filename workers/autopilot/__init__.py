"""What may be repaired without a person: only noted in shadow; once promoted done, within bounds, like any repair."""

from .rounds import decide

__all__ = ["decide"]
