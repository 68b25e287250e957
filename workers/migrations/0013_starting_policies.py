"""The policies that a new installation begins with. All are in shadow: they note what they would do, and do nothing."""

from django.db import migrations

POLICIES = (
    {
        "name": "Clean up zombies",
        "action": "clean-up",
        "health": "zombie",
        "after_minutes": 30,
        "most_tries": 3,
    },
    {
        "name": "Restart crashed workers",
        "action": "restart",
        "health": "crashed",
        "after_minutes": 5,
        "most_tries": 2,
    },
)


def add(apps, schema_editor):
    policy = apps.get_model("workers", "Policy")
    for values in POLICIES:
        policy.objects.get_or_create(name=values["name"], defaults={**values, "mode": "shadow"})


class Migration(migrations.Migration):
    dependencies = [("workers", "0012_autopilot")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
