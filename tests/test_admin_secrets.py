"""Secrets in forms of the admin, on a setting that must have one: a channel, in an admin of the test's own."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.test import RequestFactory

from workers.admin.base import Setting
from workers.models import Channel, SettingChange
from workers.secrets_at_rest import decrypt

pytestmark = pytest.mark.django_db
SECRET = "json://relay:s3cret-w0rd@127.0.0.1:9/hook"


def form_of(data: dict[str, Any] | None = None, channel: Channel | None = None) -> Any:
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser(f"root{User.objects.count()}")
    return Setting(Channel, AdminSite()).get_form(request, channel)(data, instance=channel)


def values(**changes: Any) -> dict[str, Any]:
    return {"name": "ops", "enabled": "on", "least_severity": "2", "address": "", **changes}


@pytest.fixture
def channel() -> Channel:
    Channel.objects.create(name="ops", address=SECRET)
    return Channel.objects.get()


def test_a_new_setting_needs_its_secret() -> None:
    assert form_of(values()).errors == {"address": ["This field is required."]}
    assert form_of({**values(), "address-remove": "on"}).errors == {"address": ["This field is required."]}
    assert form_of(values(address=SECRET)).is_valid()


def test_what_is_left_empty_stays(channel: Channel) -> None:
    form = form_of(values(name="operations"), channel)
    assert form.is_valid(), form.errors
    assert form.changed_data == ["name"]
    form.save()
    assert decrypt(Channel.objects.get().address) == SECRET


def test_another_one_takes_its_place(channel: Channel) -> None:
    form = form_of(values(address="json://127.0.0.1:9/new"), channel)
    assert form.changed_data == ["address"]
    form.save()
    assert decrypt(Channel.objects.get().address) == "json://127.0.0.1:9/new"


def test_one_that_is_needed_cannot_be_removed(channel: Channel) -> None:
    form = form_of({**values(), "address-remove": "on"}, channel)
    form.save()
    assert decrypt(Channel.objects.get().address) == SECRET
    assert "Remove it" not in str(form)


def test_the_form_never_holds_the_secret(channel: Channel) -> None:
    stored = str(Channel.objects.get().address)
    for form in (form_of(None, channel), form_of(values(address=SECRET, name=""), channel)):
        page = str(form)
        assert "One is stored." in page
        assert "s3cret" not in page
        assert stored not in page


def test_an_admin_that_saves_in_its_own_way_is_recorded_all_the_same(channel: Channel) -> None:
    class Own(Setting):
        def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
            Channel.objects.filter(pk=obj.pk).update(enabled=False)

    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    own, form = Own(Channel, AdminSite()), form_of(values(), channel)
    assert form.is_valid()
    changed = own.save_form(request, form, change=True)
    own.save_model(request, changed, form, change=True)
    own.save_related(request, form, [], change=True)
    assert list(SettingChange.objects.values_list("setting", "field", "old", "new")) == [
        ("channel ops", "enabled", "yes", "no")
    ]
