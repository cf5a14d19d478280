"""System checks: what `manage.py check` says about SPOOLED and the jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from spooled_contrib.django import conf
from spooled_contrib.django._jobs import describe_duplicate, registry

DEVELOPMENT_KEY = "sp_test_development-key-for-local-use-only-0000"
"""The embedded server's public key; whoever knows this file knows it."""


def register() -> None:
    """Have Django run the checks."""
    checks.register(check_settings, "spooled")
    checks.register(check_jobs, "spooled")
    checks.register(check_databases, "spooled")


def check_settings(**_: Any) -> Iterable[checks.CheckMessage]:
    """Return whether SPOOLED makes sense, and a worker could connect."""
    try:
        current = conf.current()
        current.make_middleware()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), hint="docs/django.md lists the settings.", id="spooled.E001")]
    found: list[checks.CheckMessage] = []
    if not current.api_key:
        # A warning, because images are built and migrations made where secrets are not; a worker refuses to start.
        found.append(
            checks.Warning(
                "SPOOLED has no API key.",
                hint="Set SPOOLED['API_KEY'] or the environment variable SPOOLED_API_KEY.",
                id="spooled.W002",
            )
        )
    elif current.api_key == DEVELOPMENT_KEY and not settings.DEBUG:
        found.append(
            checks.Warning(
                "SPOOLED['API_KEY'] is the embedded server's development key, which is public, and DEBUG is off.",
                hint="Use a key of your own: anybody knows this one.",
                id="spooled.W001",
            )
        )
    if current.base_url and not _is_address(current.base_url):
        found.append(
            checks.Error(
                f"SPOOLED['BASE_URL'] is no address: {current.base_url!r}.",
                hint="It looks like https://spooled.example.org or http://127.0.0.1:8080.",
                id="spooled.E003",
            )
        )
    return found


def check_databases(**_: Any) -> Iterable[checks.CheckMessage]:
    """Return whether connections that are kept between jobs are looked at before they are used again."""
    return [
        checks.Warning(
            f"DATABASES[{alias!r}] keeps connections (CONN_MAX_AGE) without CONN_HEALTH_CHECKS.",
            hint="A connection that the database has closed between two jobs fails the second one. "
            "Set CONN_HEALTH_CHECKS to True.",
            id="spooled.W003",
        )
        for alias, database in settings.DATABASES.items()
        if database.get("CONN_MAX_AGE", 0) != 0
        and not database.get("CONN_HEALTH_CHECKS", False)
        and "sqlite" not in str(database.get("ENGINE"))
    ]


def check_jobs(**_: Any) -> Iterable[checks.CheckMessage]:
    """Return whether every job can be found and has a queue of its own kind. A broken module raises its own error."""
    try:
        queues = conf.current().queues
    except ImproperlyConfigured:
        return []  # E001 says it
    jobs = registry.discover()
    found: list[checks.CheckMessage] = [
        checks.Error(
            f"{describe_duplicate(first, second)}.",
            hint='Give one of them a job type of its own: @job("queue", "type").',
            id="spooled.E004",
        )
        for first, second in registry.duplicates()
    ]
    found += [
        checks.Error(
            f"{one.path} is on queue {one.queue_name!r}, which SPOOLED['QUEUES'] does not have.",
            hint=f"It has {', '.join(sorted(queues)) or 'none'}.",
            id="spooled.E005",
        )
        for one in jobs
        if queues is not None and one.queue_name not in queues
    ]
    return found


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
