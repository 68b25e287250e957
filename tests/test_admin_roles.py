"""Who may do what in the admin: every list and every form, as an admin, an operator and a viewer."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client

from workers.admin.base import ReadOnly
from workers.health import Health
from workers.models import Installation, Limit

from . import factories
from .conftest import client_of, person

pytestmark = pytest.mark.django_db
MODELS = [model for model in admin.site._registry if model._meta.app_label in ("workers", "auth")]
OBSERVED = [model for model in MODELS if isinstance(admin.site._registry[model], ReadOnly)]


def address(model: type[Model]) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


@pytest.fixture
def as_staff_operator(db: None) -> Client:
    """An operator whom somebody made staff as well."""
    user = person("staff-operator", "operator")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    return client_of(User.objects.get(pk=user.pk))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_an_admin_sees_every_list_and_may_search_it(as_admin: Client, model: type[Model]) -> None:
    for query in ("", "?q=worker-1", "?q=%00", "?p=99"):
        assert as_admin.get(address(model) + query, follow=True).status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_viewers_and_operators_are_sent_away_from_every_list(
    as_viewer: Client, as_operator: Client, model: type[Model]
) -> None:
    for client, login in ((as_viewer, "/admin/login/"), (as_operator, "/admin/login/"), (Client(), "/accounts/login/")):
        for page in ("", "add/", "1/change/", "1/delete/"):
            answer = client.get(address(model) + page)
            assert (answer.status_code, answer["Location"].split("?")[0]) == (302, login)
            assert client.post(address(model) + page, {"name": "x"}).status_code == 302


@pytest.mark.parametrize("model", OBSERVED, ids=lambda model: model.__name__)
def test_nobody_adds_changes_or_deletes_what_was_observed(admin_client: Client, model: type[Model]) -> None:
    """Not even a superuser, which `admin_client` is."""
    assert admin_client.get(f"{address(model)}add/").status_code == 403
    assert admin_client.post(f"{address(model)}add/", {}).status_code == 403
    page = admin_client.get(address(model)).content.decode()
    assert 'value="delete_selected"' not in page


def test_an_operator_who_is_staff_sees_the_fleet_but_changes_no_setting(as_staff_operator: Client) -> None:
    factories.add(Health.ZOMBIE)
    limit = Limit.objects.create(name="late_after", seconds=60)
    Installation.get()
    assert as_staff_operator.get("/admin/workers/worker/").status_code == 200
    assert as_staff_operator.get("/admin/workers/installation/database/").status_code == 200
    assert (
        as_staff_operator.post("/admin/workers/limit/add/", {"name": "stalled_after", "seconds": 5}).status_code == 403
    )
    for page in (f"limit/{limit.pk}", "installation/1"):
        answer = as_staff_operator.post(f"/admin/workers/{page}/change/", {"seconds": 1, "report_hour": 3})
        assert answer.status_code == 403
        assert as_staff_operator.post(f"/admin/workers/{page}/delete/", {"post": "yes"}).status_code == 403
    assert as_staff_operator.get("/admin/auth/user/").status_code == 403
    assert Limit.objects.get().seconds == 60


def test_staff_without_a_role_do_not_see_the_database(db: None) -> None:
    client = client_of(User.objects.create_user("nobody", is_staff=True))
    for page in ("installation/database/", "installation/", "worker/", "settingchange/"):
        assert client.get(f"/admin/workers/{page}").status_code == 403
    assert "Database:" not in client.get("/admin/").content.decode()


def test_an_admin_reaches_the_database_and_the_installation_from_the_first_page(as_admin: Client) -> None:
    page = as_admin.get("/admin/").content.decode()
    for link in (
        "/admin/workers/installation/",
        "/admin/workers/installation/database/",
        "/admin/workers/settingchange/",
    ):
        assert f'href="{link}"' in page
    assert 'href="/"' in page, "there is a way back to the site"


def test_what_a_role_may_do_is_not_changed_in_the_admin(admin_client: Client) -> None:
    role, own = Group.objects.get(name="viewer"), Group.objects.create(name="night shift")
    assert admin_client.post(f"/admin/auth/group/{role.pk}/change/", {"name": "viewers"}).status_code == 403
    assert admin_client.post(f"/admin/auth/group/{role.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"/admin/auth/group/{own.pk}/change/", {"name": "day shift"}).status_code == 302
    assert set(Group.objects.values_list("name", flat=True)) == {"viewer", "operator", "admin", "day shift"}


def test_an_admin_does_not_make_or_touch_a_superuser(as_admin: Client) -> None:
    root = User.objects.create_superuser("root", password="root")
    assert as_admin.post(f"/admin/auth/user/{root.pk}/change/", {"username": "mine"}).status_code == 403
    assert as_admin.post(f"/admin/auth/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403
    changed = as_admin.post(
        f"/admin/auth/user/{root.pk}/password/", {"password1": "c0rrect horse", "password2": "c0rrect horse"}
    )
    assert changed.status_code == 403
    assert User.objects.get(pk=root.pk).check_password("root")
