"""The runbook's four preventions: time limits, check-ins, daemons, alerts. What the fleet says, and what is so."""

from .limits import Took, remarks_on
from .page import Prevention, PreventionQuery, prevention
from .said import Said, Tone

__all__ = ["Prevention", "PreventionQuery", "Said", "Tone", "Took", "prevention", "remarks_on"]
