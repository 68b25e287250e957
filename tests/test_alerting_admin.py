"""The admin of rules, channels and limits: what cannot be is refused in words; secrets go in and never come out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from workers.alerting.checks import rule_errors
from workers.models import Alert, AlertRule, Channel, Delivery

pytestmark = pytest.mark.django_db
RULES, CHANNELS = "/admin/workers/alertrule/", "/admin/workers/channel/"
ADDRESS = "json://relay:s3cret-w0rd@127.0.0.1:9/hook"


def rule(**fields: Any) -> dict[str, Any]:
    values = {"name": "mine", "kind": "zombies", "severity": 2, "enabled": "on", "cycles": 1, "quiet_zone": "UTC"}
    return {**values, **fields}


def channel(**fields: Any) -> dict[str, Any]:
    return {"name": "ops", "address": ADDRESS, "enabled": "on", "least_severity": 2, **fields}


HEALTH = {"kind": "health", "health": "stalled", "minutes": 30}
RATE = {"kind": "failure-rate", "threshold": 50, "minutes": 60}


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({}, {}),
        ({"threshold": 10}, {}),
        (HEALTH, {}),
        ({**HEALTH, "health": ""}, {"health"}),
        ({**HEALTH, "minutes": ""}, {"minutes"}),
        ({**HEALTH, "minutes": 0}, {}),
        ({**HEALTH, "health": "completed"}, {"health"}),
        ({**HEALTH, "health": "gone"}, {"health"}),
        ({**HEALTH, "threshold": 3}, {"threshold"}),
        ({"health": "zombie"}, {"health"}),
        ({"kind": "mass", "threshold": 50, "at_least": 3}, {}),
        ({"kind": "mass"}, {"threshold"}),
        ({"kind": "mass", "threshold": 100}, {"threshold"}),
        ({"kind": "mass", "threshold": -1}, {"threshold"}),
        ({"kind": "mass", "threshold": 50, "minutes": 5}, {"minutes"}),
        (RATE, {}),
        ({**RATE, "minutes": ""}, {"minutes"}),
        ({**RATE, "threshold": ""}, {"threshold"}),
        ({"kind": "pm-silent"}, {"minutes"}),
        ({"kind": "poller-silent", "minutes": 0}, {"minutes"}),
        ({"kind": "poller-silent", "minutes": 1, "worker_type": "scan"}, {"worker_type"}),
        ({"kind": "damaged"}, {"threshold"}),
        ({"quiet_from": "22:00", "quiet_until": "07:00", "quiet_zone": "Europe/Berlin"}, {}),
        ({"quiet_from": "22:00"}, {"quiet_until"}),
        ({"quiet_until": "22:00"}, {"quiet_from"}),
        ({"quiet_from": "22:00", "quiet_until": "22:00"}, {"quiet_until"}),
        ({"quiet_zone": "Mars/Olympus"}, {"quiet_zone"}),
        ({"quiet_zone": "../../etc/passwd"}, {"quiet_zone"}),
        ({"muted_until_0": "2026-11-24", "muted_until_1": "12:00"}, {"muted_reason"}),
        ({"cycles": 0}, {"cycles"}),
    ],
)
def test_a_rule_that_cannot_be_is_refused(as_admin: Client, fields: dict[str, Any], refused: set[str]) -> None:
    answer = as_admin.post(f"{RULES}add/", rule(**fields))
    errors = answer.context["adminform"].form.errors if answer.status_code == 200 else {}
    assert set(errors) == set(refused)
    assert AlertRule.objects.filter(name="mine").exists() == (not refused)


def test_a_kind_that_is_none_is_the_fields_own_error() -> None:
    assert rule_errors({"kind": "weather"}) == {}


def test_an_address_goes_in_and_never_comes_out(as_admin: Client) -> None:
    assert as_admin.post(f"{CHANNELS}add/", channel()).status_code == 302
    it = Channel.objects.get()
    assert it.address.reveal() == ADDRESS  # type: ignore[attr-defined]
    change = f"{CHANNELS}{it.pk}/change/"
    for address in (change, CHANNELS, f"{CHANNELS}{it.pk}/history/"):
        shown = as_admin.get(address).content.decode()
        assert "s3cret" not in shown
        assert str(it.address) not in shown
    Channel.objects.update(last_error="written meanwhile")
    assert as_admin.post(change, channel(name="renamed", address="")).status_code == 302
    it.refresh_from_db()
    assert (it.name, it.last_error) == ("renamed", "written meanwhile")
    assert it.address.reveal() == ADDRESS, "left empty it stays"  # type: ignore[attr-defined]
    as_admin.post(change, channel(address="json://127.0.0.1/other"))
    it.refresh_from_db()
    assert it.address.reveal() == "json://127.0.0.1/other"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("address", "words"), [("", "This field is required"), ("pigeon://roof", "does not understand")]
)
def test_an_address_that_leads_nowhere_is_refused(as_admin: Client, address: str, words: str) -> None:
    answer = as_admin.post(f"{CHANNELS}add/", channel(address=address))
    assert words in answer.content.decode()
    assert not Channel.objects.exists()


def test_the_page_of_a_channel_sends_a_test(as_admin: Client) -> None:
    it = Channel.objects.create(name="ops", address=ADDRESS)
    shown = as_admin.get(f"{CHANNELS}{it.pk}/change/").content.decode()
    assert f'action="/alerts/channels/{it.pk}/test/"' in shown
    assert "Send a test" not in as_admin.get(f"{CHANNELS}add/").content.decode()


def test_an_operator_edits_no_rules(as_operator: Client) -> None:
    assert as_operator.get(RULES).status_code == 302


def test_what_was_raised_and_what_was_sent_is_listed_and_changed_by_nobody(as_admin: Client) -> None:
    it = Channel.objects.create(name="ops", address=ADDRESS)
    moment = datetime(2026, 11, 24, 12, tzinfo=UTC)
    alert = Alert.objects.create(rule_name="Zombies", severity=2, summary="12 <b>zombies</b>", began=moment)
    sent = Delivery.objects.create(
        channel=it, alert=alert, key="1", subject="12 zombies", created_at=moment, next_try_at=moment, error="refused"
    )
    for name, row, words in (("alert", alert, "12 &lt;b&gt;zombies"), ("delivery", sent, "refused")):
        shown = as_admin.get(f"/admin/workers/{name}/").content.decode()
        assert words in shown
        assert "s3cret" not in shown
        assert as_admin.post(f"/admin/workers/{name}/{row.pk}/change/", {"state": "sent"}).status_code == 403
        assert as_admin.get(f"/admin/workers/{name}/add/").status_code == 403
