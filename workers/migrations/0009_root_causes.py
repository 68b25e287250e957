"""The root causes that a new installation begins with; people edit the list."""

from django.db import migrations

CAUSES = {
    "Rate limited": "The model's provider answered 429 or overloaded, and the worker did not wait it out.",
    "Agent gave up or looped": "The worker repeated itself, or ended without a result.",
    "Waited for a person": "It asked a question that nobody answered.",
    "Bad task or spec": "What it was asked could not be done, or its spec was damaged.",
    "Start failed": "The start script or its environment was at fault.",
    "Host or network": "The machine went down, slept, ran out of memory or disk, or had no network.",
    "Fleet's own daemons": "The PM daemon, a clean-up script or a pull took it for dead or moved its files.",
    "False alarm": "Nothing was wrong: a limit is too tight, or its signs of life were not seen.",
}


def add(apps, schema_editor):
    cause = apps.get_model("workers", "RootCause")
    for name, description in CAUSES.items():
        cause.objects.get_or_create(name=name, defaults={"description": description})


class Migration(migrations.Migration):
    dependencies = [("workers", "0008_incidents")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
