"""The application, as `INSTALLED_APPS` names it."""

from __future__ import annotations

from django.apps import AppConfig


class SpooledConfig(AppConfig):
    """Registers checks and the JSON form of lazy translations.

    Imports no jobs, asks no database and no server: that is for those who need it.
    """

    name = "spooled_contrib.django"
    label = "spooled"
    verbose_name = "Spooled"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.utils.functional import Promise

        from spooled.codec import register_json_form
        from spooled_contrib.django import checks, conf

        # Translations that are looked up when they are read, in payloads and results.
        register_json_form(Promise, str)
        checks.register()
        conf.follow_settings()
