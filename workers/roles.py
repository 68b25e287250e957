"""Who may do what: groups, kept in step with the table below after every migrate."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from .remediation.actions import ACTIONS

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"

ACKNOWLEDGE, ACKNOWLEDGE_ALERT = "acknowledge_incident", "acknowledge_alert"

#: role -> its permissions: "view" stands for seeing everything, "repair" for every action of the table, "users" for
#: managing people, "limits" for the limits, "acknowledge" for what people say of incidents and alerts, "causes" for the
#: labels of incidents, "installation" for the settings that there are once, "policies" for what the autopilot may do,
#: "alerts" for rules and channels.
ROLES = {
    VIEWER: ("view",),
    OPERATOR: ("view", "repair", "acknowledge"),
    ADMIN: ("view", "repair", "acknowledge", "users", "limits", "causes", "installation", "policies", "alerts"),
}


def connect(app: AppConfig) -> None:
    post_migrate.connect(synchronise, sender=app, dispatch_uid="workers.roles")


def synchronise(using: str = "default", **kwargs: Any) -> None:
    """Give each group exactly the permissions of its role. Members stay as they are."""
    from django.apps import apps
    from django.contrib.auth.management import create_permissions
    from django.contrib.auth.models import Group, Permission

    for label in ("auth", "workers"):
        create_permissions(apps.get_app_config(label), verbosity=0, using=using)
    permissions = Permission.objects.using(using).filter(content_type__app_label__in=["auth", "workers"])
    meaning = {
        "view": permissions.filter(content_type__app_label="workers", codename__startswith="view_"),
        "repair": permissions.filter(
            content_type__app_label="workers", codename__in=[action.permission for action in ACTIONS.values()]
        ),
        "users": permissions.filter(content_type__model__in=["user", "group"]),
        "limits": permissions.filter(content_type__model="limit"),
        "acknowledge": permissions.filter(
            content_type__app_label="workers", codename__in=(ACKNOWLEDGE, ACKNOWLEDGE_ALERT)
        ),
        "alerts": permissions.filter(content_type__model__in=["alertrule", "channel"]),
        "causes": permissions.filter(content_type__model="rootcause"),
        "installation": permissions.filter(content_type__model="installation"),
        "policies": permissions.filter(content_type__model="policy"),
    }
    for role, names in ROLES.items():
        group, _ = Group.objects.using(using).get_or_create(name=role)
        group.permissions.set([permission for name in names for permission in meaning[name]])
