"""Django's Tasks, from Django 6 or from the package `django-tasks` below it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import TaskError
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    try:
        importlib.import_module("django.tasks")
        ROOT = "django.tasks"
    except ModuleNotFoundError:
        ROOT = "django_tasks"

    def _module(name: str) -> Any:
        try:
            return importlib.import_module(f"{ROOT}{name}")
        except ModuleNotFoundError as error:
            raise ImproperlyConfigured(
                'Django Tasks need Django 6, or the package django-tasks below it: pip install "django-tasks>=0.12"'
            ) from error

    _base, _exceptions, _signals = _module(".base"), _module(".exceptions"), _module(".signals")
    BaseTaskBackend = _module(".backends.base").BaseTaskBackend
    Task, TaskContext, TaskError = _base.Task, _base.TaskContext, _base.TaskError
    TaskResult, TaskResultStatus = _base.TaskResult, _base.TaskResultStatus
    # The package's name for it differs.
    InvalidTask = getattr(_exceptions, "InvalidTask", None) or _exceptions.InvalidTaskError
    TaskResultDoesNotExist = _exceptions.TaskResultDoesNotExist
    task_enqueued, task_finished, task_started = (
        _signals.task_enqueued,
        _signals.task_finished,
        _signals.task_started,
    )
    task_backends = _module("").task_backends

__all__ = [
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]
