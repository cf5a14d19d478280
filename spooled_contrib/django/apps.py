"""The application, as `INSTALLED_APPS` names it."""

from __future__ import annotations

from django.apps import AppConfig


class SpooledConfig(AppConfig):
    """Registers checks. Imports no jobs, asks no database and no server: that is for those who need it."""

    name = "spooled_contrib.django"
    label = "spooled"
    verbose_name = "Spooled"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from spooled_contrib.django import checks, conf

        checks.register()
        conf.follow_settings()
