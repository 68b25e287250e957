from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"
    verbose_name = "Fleet"

    def ready(self) -> None:
        """Register the system checks and keep the groups in step after every migrate."""
        from . import checks, roles

        checks.register()
        roles.connect(self)
