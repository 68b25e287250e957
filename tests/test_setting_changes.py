"""Who changed which setting: every kind of change leaves its rows, in the transaction that makes it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client, RequestFactory

from workers.models import AlertRule, Channel, Installation, Limit, SettingChange
from workers.setting_changes import recorded
from workers.who import Who

from .conftest import person

pytestmark = pytest.mark.django_db
SECRET = "json://relay:s3cret-w0rd@127.0.0.1:9/hook"
MARA = Who("mara", "10.0.0.7")


def rows() -> list[tuple[str, str, str, str]]:
    return list(SettingChange.objects.order_by("id").values_list("setting", "field", "old", "new"))


def user_form(user: User, **changes: Any) -> dict[str, Any]:
    values = {"username": user.username, "first_name": "", "last_name": "", "email": "", "is_active": "on"}
    groups = changes.pop("groups", list(user.groups.values_list("pk", flat=True)))
    return {**values, "groups": groups, **changes}


def test_adding_changing_and_deleting_a_limit(as_admin: Client) -> None:
    as_admin.post("/admin/workers/limit/add/", {"name": "late_after", "seconds": "300"}, REMOTE_ADDR="10.1.2.3")
    limit = Limit.objects.get()
    as_admin.post(f"/admin/workers/limit/{limit.pk}/change/", {"name": "late_after", "seconds": "420"})
    as_admin.post(f"/admin/workers/limit/{limit.pk}/delete/", {"post": "yes"})
    assert rows() == [
        ("limit late_after", "", "", "name: late_after; seconds: 300"),
        ("limit late_after", "seconds", "300", "420"),
        ("limit late_after", "", "name: late_after; seconds: 420", ""),
    ]
    first = SettingChange.objects.order_by("id")[0]
    assert (first.actor, first.address) == ("admin", "10.1.2.3")


def test_deleting_several_at_once(as_admin: Client) -> None:
    limits = [Limit.objects.create(name=name, seconds=900).pk for name in ("late_after", "stalled_after")]
    chosen = {"action": "delete_selected", "_selected_action": limits, "post": "yes"}
    as_admin.post("/admin/workers/limit/", chosen)
    assert not Limit.objects.exists()
    assert {(setting, new) for setting, _, _, new in rows()} == {("limit late_after", ""), ("limit stalled_after", "")}


def test_saving_without_a_change_leaves_no_row(as_admin: Client) -> None:
    limit = Limit.objects.create(name="late_after", seconds=300)
    as_admin.post(f"/admin/workers/limit/{limit.pk}/change/", {"name": "late_after", "seconds": "300"})
    assert rows() == []


def test_a_form_that_is_refused_leaves_no_row(as_admin: Client) -> None:
    as_admin.post("/admin/workers/limit/add/", {"name": "late_after", "seconds": "0"})
    assert rows() == []


def test_roles_that_are_given_and_taken(as_admin: Client) -> None:
    user = person("noor", "viewer")
    operator, chief = Group.objects.get(name="operator"), Group.objects.get(name="admin")
    url = f"/admin/auth/user/{user.pk}/change/"
    assert as_admin.post(url, user_form(user, groups=[operator.pk])).status_code == 302
    assert rows() == [("user noor", "groups added", "", "operator"), ("user noor", "groups removed", "viewer", "")]
    as_admin.post(url, user_form(user, groups=[operator.pk, chief.pk]))
    assert rows()[2:] == [("user noor", "is_staff", "no", "yes"), ("user noor", "groups added", "", "admin")]


def test_a_person_who_is_made_and_the_password_that_is_set(as_admin: Client) -> None:
    password = "correct horse battery"
    made = {"username": "ines", "usable_password": "true", "password1": password, "password2": password}
    as_admin.post("/admin/auth/user/add/", made)
    ines = User.objects.get(username="ines")
    ((setting, field, old, new),) = rows()
    assert (setting, field, old) == ("user ines", "", "")
    assert "password: (a secret)" in new
    assert "pbkdf2" not in new
    another = "another horse battery"
    again = {"usable_password": "true", "password1": another, "password2": another}
    as_admin.post(f"/admin/auth/user/{ines.pk}/password/", again)
    assert rows()[1:] == [("user ines", "password", "", "changed")]
    as_admin.post(f"/admin/auth/user/{ines.pk}/password/", {**again, "password2": "not the same"})
    assert len(rows()) == 2, "a refused password is no change"


def test_a_group_of_ones_own(admin_client: Client) -> None:
    admin_client.post("/admin/auth/group/add/", {"name": "night shift"})
    admin_client.post(f"/admin/auth/group/{Group.objects.get(name='night shift').pk}/change/", {"name": "day shift"})
    assert rows() == [
        ("group night shift", "", "", "name: night shift"),
        ("group day shift", "name", "night shift", "day shift"),
    ]


def test_a_secret_is_only_said_to_have_changed() -> None:
    channel = Channel.objects.create(name="ops", address=SECRET)
    with recorded(MARA, channel):
        channel.address = SECRET.replace("w0rd", "other")
        channel.save()
    with recorded(MARA, channel):
        channel.delete()
    assert rows()[0] == ("channel ops", "address", "", "changed")
    assert rows()[1][2].startswith("name: ops; address: (a secret)")
    assert not any("s3cret" in value or "gAAAA" in value for row in rows() for value in row)


def test_channels_of_a_rule_and_words_for_choices() -> None:
    rule = AlertRule.objects.create(name="Zombies", kind="zombies", threshold=3)
    ops, chat = (Channel.objects.create(name=name, address=SECRET) for name in ("ops", "chat"))
    with recorded(MARA, rule):
        rule.channels.set([ops, chat])
        rule.severity, rule.enabled, rule.threshold = 3, False, 2.5
        rule.save()
    assert set(rows()) == {
        ("alert rule Zombies", "channels added", "", "chat, ops"),
        ("alert rule Zombies", "severity", "warning", "critical"),
        ("alert rule Zombies", "enabled", "yes", "no"),
        ("alert rule Zombies", "threshold", "3", "2.5"),
    }


def test_a_change_that_is_rolled_back_was_none() -> None:
    limit = Limit.objects.create(name="late_after", seconds=300)
    with transaction.atomic():
        with recorded(MARA, limit):
            Limit.objects.update(seconds=400)
        transaction.set_rollback(True)
    assert (rows(), Limit.objects.get().seconds) == ([], 300)


def test_a_change_and_its_row_are_stored_together_or_not_at_all(
    admin_user: User, monkeypatch: pytest.MonkeyPatch, as_admin: Client
) -> None:
    """Where the row cannot be stored, the setting is not changed either."""
    limit = Limit.objects.create(name="late_after", seconds=300)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(SettingChange.objects, "bulk_create", full)
    with pytest.raises(OSError, match="no space"):
        as_admin.post(f"/admin/workers/limit/{limit.pk}/change/", {"name": "late_after", "seconds": "420"})
    assert Limit.objects.get().seconds == 300


def test_what_is_recorded_can_be_searched_and_never_changed(as_admin: Client) -> None:
    as_admin.post("/admin/workers/limit/add/", {"name": "late_after", "seconds": "300"})
    Installation.get()
    row = SettingChange.objects.get()
    page = "/admin/workers/settingchange/"
    assert "limit late_after" in as_admin.get(f"{page}?q=late_after").content.decode()
    assert "0 setting changes" in as_admin.get(f"{page}?q=stalled").content.decode()
    assert "limit late_after" in as_admin.get(f"{page}?at__year={row.at.year}").content.decode()
    assert as_admin.get(f"{page}{row.pk}/change/").status_code == 200
    assert as_admin.post(f"{page}{row.pk}/change/", {"actor": "somebody else"}).status_code == 403
    assert as_admin.post(f"{page}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    assert not admin.site._registry[SettingChange].has_delete_permission(request)
