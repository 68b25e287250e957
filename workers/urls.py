"""The addresses of the pages and of the live socket."""

from typing import Any, cast

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path, register_converter
from django.urls.converters import IntConverter

from . import consumers
from .params import MOST_DIGITS
from .views import alerts, autopilot, logs
from .views import incidents as troubles
from .views import remediation as repairs
from .views.components import components
from .views.events import events
from .views.fleet import fleet, usage
from .views.history import export as history_export
from .views.history import history
from .views.history import measured as history_measured
from .views.history import more as history_more
from .views.history import report as history_report
from .views.icon import icon
from .views.integrity import integrity
from .views.metrics import metrics
from .views.prevention import prevention
from .views.processes import processes
from .views.setup import setup
from .views.worker import activity, worker


class AnyText:
    """A part of an address that may hold anything: worker ids come from files, slashes and line ends included.

    But for NUL: no id has one, and a database may refuse to look for it.
    """

    regex = r"[^\0]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class Key(IntConverter):
    """The number of a row. One of more digits is none of any, and a database may refuse to look for it."""

    regex = f"[0-9]{{1,{MOST_DIGITS}}}"


register_converter(AnyText, "any")
register_converter(Key, "key")

urlpatterns = [
    path("", fleet, name="fleet"),
    path("usage/", usage, name="usage"),
    path("workers/", worker, name="run"),
    path("workers/<any:worker_id>/logs/", logs.worker_logs, name="worker-logs"),
    path("workers/<any:worker_id>/logs/card/", logs.card, name="worker-log-card"),
    path("workers/<any:worker_id>/logs/download/", logs.download, name="worker-log-download"),
    path("workers/<any:worker_id>/activity/", activity, name="activity"),
    path("workers/<any:worker_id>/", worker, name="worker"),
    path("incidents/", troubles.incidents, name="incidents"),
    path("incidents/export.csv", troubles.export, name="incidents-export"),
    path("incidents/acknowledge/", troubles.acknowledge_many, name="incidents-acknowledge"),
    path("incidents/<key:pk>/", troubles.incident, name="incident"),
    path("incidents/<key:pk>/acknowledge/", troubles.acknowledge, name="incident-acknowledge"),
    path("incidents/<key:pk>/take-back/", troubles.take_back, name="incident-take-back"),
    path("incidents/<key:pk>/note/", troubles.note, name="incident-note"),
    path("incidents/<key:pk>/cause/", troubles.cause, name="incident-cause"),
    path("processes/", processes, name="processes"),
    path("events/", events, name="events"),
    path("history/", history, name="history"),
    path("history/export.csv", history_export, name="history-export"),
    path("history/more/", history_more, name="history-more"),
    path("history/measured/", history_measured, name="history-measured"),
    path("history/report/", history_report, name="history-report"),
    path("alerts/", alerts.alerts, name="alerts"),
    path("alerts/<key:pk>/acknowledge/", alerts.acknowledge, name="alert-acknowledge"),
    path("alerts/rules/<key:pk>/mute/", alerts.mute, name="rule-mute"),
    path("alerts/channels/<key:pk>/test/", alerts.test, name="channel-test"),
    path("integrity/", integrity, name="integrity"),
    path("prevention/", prevention, name="prevention"),
    path("remediations/", repairs.remediations, name="remediations"),
    path("remediations/export.csv", repairs.export, name="remediations-export"),
    path("remediations/new/", repairs.new, name="remediation-new"),
    path("remediations/many/", repairs.new_batch, name="batch-new"),
    path("remediations/many/<key:pk>/", repairs.batch, name="batch"),
    path("remediations/many/<key:pk>/confirm/", repairs.confirm_batch, name="batch-confirm"),
    path("remediations/many/<key:pk>/withdraw/", repairs.withdraw_batch, name="batch-withdraw"),
    path("remediations/<key:pk>/", repairs.remediation, name="remediation"),
    path("remediations/<key:pk>/confirm/", repairs.confirm, name="remediation-confirm"),
    path("remediations/<key:pk>/withdraw/", repairs.withdraw, name="remediation-withdraw"),
    path("autopilot/", autopilot.policies, name="autopilot"),
    path("autopilot/<key:pk>/", autopilot.policy, name="policy"),
    path("autopilot/<key:pk>/promote/", autopilot.promote, name="policy-promote"),
    path("autopilot/<key:pk>/demote/", autopilot.demote, name="policy-demote"),
    path("autopilot/<key:pk>/off/", autopilot.turn_off, name="policy-off"),
    path("autopilot/<key:pk>/reset/", autopilot.reset, name="policy-reset"),
    path("components/", components, name="components"),
    path("icon/<str:state>.svg", icon, name="icon"),
    path("metrics", metrics, name="metrics"),  # /healthz is answered before any address is looked at: relay_web.probes
    path("setup/<str:token>/", setup, name="setup"),
    path("accounts/login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
]
# Django's stubs know views alone; Channels routes ASGI applications by the same patterns.
websocket_urlpatterns: list[Any] = [
    path("ws/live/", cast(Any, consumers.LiveConsumer.as_asgi())),
    path("ws/log/", cast(Any, consumers.LogConsumer.as_asgi())),
]
