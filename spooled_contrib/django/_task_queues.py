"""Which queues Django Tasks use, without needing Django Tasks to be there."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string


def task_queues() -> set[str]:
    """The queues of all Spooled backends in `settings.TASKS`.

    Raises:
        ImportError: A backend cannot be imported.
    """
    configured = getattr(settings, "TASKS", None) or {}
    if not any(_may_be_ours(str(entry.get("BACKEND", ""))) for entry in configured.values()):
        return set()
    from spooled_contrib.django.tasks import SpooledBackend, task_backends

    queues: set[str] = set()
    for alias in configured:
        backend = task_backends[alias]
        if isinstance(backend, SpooledBackend):
            queues |= backend.queues or {"default"}
    return queues


def _may_be_ours(path: str) -> bool:
    if path.startswith("spooled_contrib.django."):
        return True
    if not path or path.startswith(("django.tasks.", "django_tasks.")):
        return False
    # A subclass of the user's.
    return any(base.__module__ == "spooled_contrib.django.tasks" for base in import_string(path).__mro__)
