"""Which queues Django Tasks use, without needing Django Tasks to be there."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import autodiscover_modules, import_string


def task_queues() -> set[str]:
    """Return the queues of all Spooled backends in `settings.TASKS`.

    A backend with `QUEUES: []` takes any queue. Its queues are "default" and those of the tasks that are declared: the
    `tasks` modules of all installed apps are imported to find them.

    Raises:
        ImportError: A backend cannot be imported.
        Exception: What a broken `tasks` module raises.
    """
    backends = _backends()
    if all(backends.values()):
        return {name for queues in backends.values() for name in queues}
    autodiscover_modules("tasks")
    from spooled_contrib.django.tasks import declared_queues

    return {
        name
        for alias, queues in backends.items()
        for name in queues or {"default", *declared_queues.get(alias, ())}
    }


def takes_any_queue() -> bool:
    """Return whether a Spooled backend has `QUEUES: []`, so that a task may come on a queue that nothing declares."""
    return not all(_backends().values())


def _backends() -> dict[str, set[str]]:
    """Return the queues of each Spooled backend by its alias, as the settings have them."""
    configured = getattr(settings, "TASKS", None) or {}
    if not any(_may_be_ours(str(entry.get("BACKEND", ""))) for entry in configured.values()):
        return {}
    from spooled_contrib.django.tasks import SpooledBackend, task_backends

    backends = {alias: task_backends[alias] for alias in configured}
    return {alias: one.queues for alias, one in backends.items() if isinstance(one, SpooledBackend)}


def _may_be_ours(path: str) -> bool:
    if path.startswith("spooled_contrib.django."):
        return True
    if not path or path.startswith(("django.tasks.", "django_tasks.")):
        return False
    # A subclass of the user's.
    return any(base.__module__ == "spooled_contrib.django.tasks" for base in import_string(path).__mro__)
