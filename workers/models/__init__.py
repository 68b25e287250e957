"""What is remembered.

Every column has one writer: observed state is written by the poller of the row's host (``ingest``), limits by people.
``Change`` is the outbox that pages are pushed from, ``HealthChange`` the history that is kept.
"""

from .administration import Attendant, Installation, SettingChange
from .alerting import Alert, AlertRule, Channel, Delivery, Severity
from .autopilot import Decision, Policy
from .event import Event, EventCount, LogFile, LogRelay
from .finding import Finding
from .history import Fold, Incident, Mark, RootCause, Silence
from .outbox import Change
from .poller import HostProcesses, Limit, Poller, PollerGap
from .remediation import Remediation, RemediationBatch, RemediationStep
from .worker import HealthChange, Worker, WorkerDocument

__all__ = [
    "Alert",
    "AlertRule",
    "Attendant",
    "Change",
    "Channel",
    "Decision",
    "Delivery",
    "Event",
    "EventCount",
    "Finding",
    "Fold",
    "HealthChange",
    "HostProcesses",
    "Incident",
    "Installation",
    "Limit",
    "LogFile",
    "LogRelay",
    "Mark",
    "Policy",
    "Poller",
    "PollerGap",
    "Remediation",
    "RemediationBatch",
    "RemediationStep",
    "RootCause",
    "SettingChange",
    "Severity",
    "Silence",
    "Worker",
    "WorkerDocument",
]
