"""System checks: what is configured in a way that will disappoint, with an id and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib import admin
from django.core import checks

#: The tag of what the commands check that serve no pages.
HOME = "home"


def register() -> None:
    checks.register(check_home, HOME)
    checks.register(check_admin, checks.Tags.admin)
    checks.register(check_https, checks.Tags.security, deploy=True)


def check_home(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn where a home is set that holds no coordination directory."""
    home = settings.RELAY_HOME
    if home is None or settings.RELAY_DEMO or (home / "coordination").is_dir():
        return []
    return [
        checks.Warning(
            f"{home} has no coordination directory",
            hint="Point COMMIT_RELAY_HOME at the directory that holds coordination/worker-specs.",
            id="workers.W001",
        )
    ]


def check_admin(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check the admin with its pages loaded, which Django's own check takes for granted (relay_web/settings.py)."""
    import_module(settings.ROOT_URLCONF)
    return admin.site.check(app_configs)


def check_https(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn where a deployment is reached by plain http."""
    if settings.RELAY_URL.startswith("https://"):
        return []
    return [
        checks.Warning(
            "RELAY_URL is no https address, so sign-ins travel in the clear",
            hint="Put a proxy with TLS in front and set RELAY_URL=https://…",
            id="workers.W002",
        )
    ]
