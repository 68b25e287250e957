"""Two columns that rules and alerts were short of, and the rules that a new installation begins with."""

import django.core.validators
from django.db import migrations, models

from workers.alerting.defaults import add


class Migration(migrations.Migration):
    dependencies = [("workers", "0013_starting_policies")]
    operations = [
        migrations.AddField(
            model_name="alert",
            name="held_back",
            field=models.CharField(
                blank=True, default="", help_text="Why people have not been told of it yet.", max_length=100
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="alertrule",
            name="at_least",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="For shares: only where at least so many are lost, or have ended.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AlterField(
            model_name="alertrule",
            name="kind",
            field=models.CharField(
                choices=[
                    ("zombies", "So many zombies at once"),
                    ("mass", "So large a share of the fleet lost at once"),
                    ("health", "A worker in a state for longer than"),
                    ("failure-rate", "So large a share of runs failed"),
                    ("pm-silent", "The PM daemon is silent for longer than"),
                    ("poller-silent", "A poller is silent for longer than"),
                    ("damaged", "So many files cannot be read"),
                    ("autopilot", "A policy of the autopilot stopped itself"),
                ],
                max_length=20,
            ),
        ),
        migrations.AlterField(
            model_name="alertrule",
            name="threshold",
            field=models.FloatField(
                blank=True,
                help_text="For counts: fires at this many (zombies: empty takes the fleet's own number, else 10). "
                "For shares: above this many percent.",
                null=True,
                validators=[django.core.validators.MinValueValidator(0)],
            ),
        ),
        migrations.RunPython(add, migrations.RunPython.noop),
    ]
