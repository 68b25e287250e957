"""The rules that a new installation begins with. People edit them; nothing puts one back that was deleted."""

from __future__ import annotations

from typing import Any

#: Fields of `AlertRule`. Looks are about 2 s apart, so what flaps faster than `cycles` of them is one alert.
RULES: tuple[dict[str, Any], ...] = (
    {"name": "Mass death", "kind": "mass", "severity": 3, "threshold": 50, "at_least": 3, "cycles": 2},
    {"name": "Poller silent", "kind": "poller-silent", "severity": 3, "minutes": 1},
    # No threshold: the fleet's own number, where its health-alerts.json has one, else that of its PM script.
    {"name": "Too many zombies", "kind": "zombies", "severity": 2, "cycles": 3},
    {"name": "Stalled for long", "kind": "health", "health": "stalled", "severity": 2, "minutes": 30, "cycles": 5},
    {"name": "PM daemon silent", "kind": "pm-silent", "severity": 2, "minutes": 10, "cycles": 3},
    {
        **{"name": "Many runs fail", "kind": "failure-rate", "severity": 2, "cycles": 5},
        **{"threshold": 50, "at_least": 5, "minutes": 60},
    },
    {"name": "Autopilot stopped itself", "kind": "autopilot", "severity": 2},
    {"name": "Damaged files", "kind": "damaged", "severity": 1, "threshold": 1, "cycles": 5},
)


def add(apps: Any, schema_editor: Any) -> None:
    """Add those whose name is free. A step of a migration."""
    rules = apps.get_model("workers", "AlertRule").objects.using(schema_editor.connection.alias)
    for fields in RULES:
        rules.get_or_create(name=fields["name"], defaults=fields)
