"""The admin: what was observed and what was done is read-only there; repairs go through the one table."""

from __future__ import annotations

import pytest
from django.test import Client

from workers.health import Health
from workers.models import Remediation, RemediationBatch

from . import factories

pytestmark = pytest.mark.django_db
WORKERS = "/admin/workers/worker/"


def test_the_list_of_workers_offers_the_actions_of_the_table(as_admin: Client) -> None:
    factories.add(Health.ZOMBIE)
    page = as_admin.get(WORKERS).content.decode()
    for action in ("restart", "clean-up", "force-fail", "recover-task"):
        assert f'<option value="{action}">' in page


def test_an_action_of_the_list_leads_to_the_previews_of_those_that_are_a_case_for_it(as_admin: Client) -> None:
    zombie, healthy = factories.add(Health.ZOMBIE, 1), factories.add(Health.HEALTHY, 2)
    chosen = {"action": "clean-up", "_selected_action": [zombie.pk, healthy.pk]}
    answer = as_admin.post(WORKERS, chosen)
    batch = RemediationBatch.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == batch.get_absolute_url()
    remediation = Remediation.objects.get()
    assert (remediation.worker, remediation.state, remediation.via) == (zombie, "planning", "admin")
    assert [left_out["worker_id"] for left_out in batch.ineligible] == [healthy.worker_id]


def test_nobody_changes_or_removes_a_record_of_the_audit(as_admin: Client) -> None:
    worker = factories.add(Health.ZOMBIE)
    as_admin.post(WORKERS, {"action": "clean-up", "_selected_action": [worker.pk]})
    remediation = Remediation.objects.get()
    address = f"/admin/workers/remediation/{remediation.pk}/"
    assert as_admin.get(f"{address}change/").status_code == 200
    assert as_admin.post(f"{address}delete/", {"post": "yes"}).status_code == 403
    assert as_admin.post(f"{address}change/", {"reason": "another"}).status_code == 403
    assert Remediation.objects.get().reason == remediation.reason
