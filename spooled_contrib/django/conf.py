"""`settings.SPOOLED`: one dictionary, read when it is needed, so that `override_settings` works."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from spooled.worker import Middleware

KEYS = {
    "API_KEY": "The API key. Default: the environment variable SPOOLED_API_KEY.",
    "BASE_URL": "The server's address. Default: SPOOLED_BASE_URL, else Spooled Cloud.",
    "QUEUES": 'The queues there are, as {"invoices": {"CONCURRENCY": 5}} or a list. Default: any.',
    "CONCURRENCY": "How many jobs of a queue run at the same time in one process, 1 to 100. Default 5.",
    "JOB_MODULES": 'Modules of installed apps that declare jobs. Default ["jobs"].',
    "SHUTDOWN_TIMEOUT": "Seconds that running jobs get when the worker is stopped. Default 30.",
    "MIDDLEWARE": "Dotted paths of spooled.worker.Middleware classes; the first is the outermost. Default [].",
    "OUTBOX": "Whether enqueue_on_commit() writes to the database first, to be sent by the worker. Default False.",
    "CLIENT": 'Further options of the client, such as {"timeout": 10}.',
    "WORKER": 'Further options of the workers, such as {"lease_duration": 60}.',
}

QUEUE_KEYS = ("CONCURRENCY",)

_WORKER_OPTIONS = (
    "poll_interval",
    "lease_duration",
    "heartbeat_fraction",
    "cleanup_grace",
    "timeout_grace",
    "on_stuck",
    "hostname",
    "metadata",
    "transport",
    "wakeups",
)


@dataclass(frozen=True)
class SpooledSettings:
    """The settings, checked. `queues` is None when any queue may be used."""

    api_key: str | None = field(repr=False)
    base_url: str | None
    queues: Mapping[str, int | None] | None
    concurrency: int
    job_modules: tuple[str, ...]
    shutdown_timeout: float
    middleware: tuple[str, ...]
    outbox: bool
    client: Mapping[str, Any]
    worker: Mapping[str, Any]

    def concurrency_of(self, queue_name: str) -> int | None:
        """Return what the settings say about a queue, or None."""
        return None if self.queues is None else self.queues.get(queue_name)

    def make_middleware(self) -> list[Middleware]:
        """Instances of the middleware classes.

        Raises:
            ImproperlyConfigured: One cannot be imported or made.
        """
        made = []
        for path in self.middleware:
            try:
                made.append(import_string(path)())
            except Exception as error:
                raise ImproperlyConfigured(f"SPOOLED['MIDDLEWARE']: {path!r}: {error}") from error
        return made


def current() -> SpooledSettings:
    """The settings as they are now.

    Raises:
        ImproperlyConfigured: A key is unknown, or a value makes no sense.
    """
    return read(getattr(settings, "SPOOLED", {}))


def read(raw: object) -> SpooledSettings:
    """Check a `SPOOLED` dictionary.

    Raises:
        ImproperlyConfigured: See there.
    """
    if not isinstance(raw, Mapping):
        raise ImproperlyConfigured(f"SPOOLED must be a dictionary, got {type(raw).__name__}")
    _known("SPOOLED", raw, KEYS)
    return SpooledSettings(
        api_key=_text(raw, "API_KEY") or os.environ.get("SPOOLED_API_KEY") or None,
        base_url=_text(raw, "BASE_URL") or os.environ.get("SPOOLED_BASE_URL") or None,
        queues=_queues(raw.get("QUEUES")),
        concurrency=_concurrency("SPOOLED['CONCURRENCY']", raw.get("CONCURRENCY", 5)),
        job_modules=_names(raw, "JOB_MODULES", ("jobs",)),
        shutdown_timeout=_seconds(raw, "SHUTDOWN_TIMEOUT", 30.0),
        middleware=_names(raw, "MIDDLEWARE", ()),
        outbox=_truth(raw, "OUTBOX"),
        client=_mapping(raw, "CLIENT", None),
        worker=_mapping(raw, "WORKER", _WORKER_OPTIONS),
    )


_followers: list[Callable[[], None]] = []


def on_change(follower: Callable[[], None]) -> None:
    """Call it when `override_settings` changes SPOOLED."""
    _followers.append(follower)


def follow_settings() -> None:
    """Begin to notice changes."""
    setting_changed.connect(_changed, dispatch_uid="spooled")


def _changed(*, setting: str, **_: Any) -> None:
    if setting == "SPOOLED":
        for follower in _followers:
            follower()


def _known(where: str, given: Mapping[str, Any], known: Any) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it may have {', '.join(known)}"
            raise ImproperlyConfigured(f"{where} has no setting {name!r}; {hint}")


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is None or isinstance(value, str):
        return value
    # The value itself may be a secret.
    raise ImproperlyConfigured(f"SPOOLED[{name!r}] must be text, got {type(value).__name__}")


def _queues(value: object) -> dict[str, int | None] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple | set | frozenset):
        value = {name: {} for name in value}
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(
            f"SPOOLED['QUEUES'] must be a dictionary or a list of names, got {value!r}"
        )
    queues: dict[str, int | None] = {}
    for name, options in value.items():
        where = f"SPOOLED['QUEUES'][{name!r}]"
        if not isinstance(options, Mapping):
            raise ImproperlyConfigured(f"{where} must be a dictionary, got {options!r}")
        _known(where, options, QUEUE_KEYS)
        number = options.get("CONCURRENCY")
        queues[str(name)] = None if number is None else _concurrency(f"{where}['CONCURRENCY']", number)
    return queues


def _concurrency(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise ImproperlyConfigured(f"{where} must be a whole number from 1 to 100, got {value!r}")
    return value


def _names(raw: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = raw.get(name, default)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ImproperlyConfigured(f"SPOOLED[{name!r}] must be a list of names, got {value!r}")
    return tuple(value)


def _seconds(raw: Mapping[str, Any], name: str, default: float) -> float:
    value = raw.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ImproperlyConfigured(f"SPOOLED[{name!r}] must be a number of seconds, got {value!r}")
    return float(value)


def _truth(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name, False)
    if not isinstance(value, bool):
        raise ImproperlyConfigured(f"SPOOLED[{name!r}] must be True or False, got {value!r}")
    return value


def _mapping(raw: Mapping[str, Any], name: str, known: tuple[str, ...] | None) -> Mapping[str, Any]:
    value = raw.get(name, {})
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"SPOOLED[{name!r}] must be a dictionary, got {value!r}")
    if known is not None:
        _known(f"SPOOLED[{name!r}]", value, known)
    return value
