"""What is forgotten after RELAY_EVENT_DAYS beside the events, which the pollers prune: messages, alerts, decisions, and
who signed in.

Incidents and remediations stay for ever, and with them what a policy decided that led to one. So does whatever is not
over: the messages of an alert that lasts say who is to hear of its end, and decisions about a live run are counted.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.db.models import Q, QuerySet

from .models import Alert, Decision, Delivery

#: However short events are kept: pages count what happened in a week.
AT_LEAST = timedelta(days=7)
#: Rows of a kind that are deleted in one transaction, and how many of these in a round; the rest waits for the next.
AT_ONCE, MOST = 500, 20


def prune(now: datetime) -> None:
    """Delete what is too old, a little at a time. Raises DatabaseError."""
    before = now - max(timedelta(days=settings.RELAY_EVENT_DAYS), AT_LEAST)
    _delete(_deliveries(before))
    # Those that still have a message on its way come when that is gone; so the cascade never grows
    _delete(Alert.objects.filter(state=Alert.State.RESOLVED, resolved__lt=before, deliveries=None))
    _delete(Decision.objects.filter(at__lt=before, remediation=None, worker__live=False))
    for signed_in in (AccessLog, AccessAttempt, AccessFailureLog):
        _delete(signed_in._default_manager.filter(attempt_time__lt=before))
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


def _deliveries(before: datetime) -> QuerySet[Delivery]:
    """What was sent or given up, and what waits for a channel that is switched off to tell of an alert long over."""
    ended = Q(state__in=(Delivery.State.SENT, Delivery.State.GIVEN_UP), created_at__lt=before)
    of_nothing_open = Q(alert=None) | Q(alert__state=Alert.State.RESOLVED)
    return Delivery.objects.filter(ended & of_nothing_open | Q(alert__resolved__lt=before))


def _delete(found: QuerySet[Any]) -> None:
    for _ in range(MOST):
        pks = list(found.order_by("pk").values_list("pk", flat=True)[:AT_ONCE])
        found.model._default_manager.filter(pk__in=pks).delete()
        if len(pks) < AT_ONCE:
            return
