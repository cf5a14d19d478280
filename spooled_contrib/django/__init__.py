"""Spooled in a Django project.

    INSTALLED_APPS += ["spooled_contrib.django"]
    SPOOLED = {"API_KEY": "sp_live_..."}

    # shop/jobs.py
    from spooled_contrib.django import job

    @job("invoices")
    def make_invoice(order: int) -> None: ...

`manage.py spooled_worker` finds the jobs of all installed apps and runs them. Install it with
`pip install "spooled-contrib[django]"`; docs/django.md shows the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spooled_contrib.django._client import get_async_client, get_client
    from spooled_contrib.django._jobs import Job, PendingEnqueue, job

__all__ = ["Job", "PendingEnqueue", "get_async_client", "get_client", "job"]


def __getattr__(name: str) -> object:
    # pytest loads our plugin, and with it this package, in every project, also where no Django is installed.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spooled_contrib.django import _client, _jobs

    value = getattr(_client if name.startswith("get_") else _jobs, name)
    globals()[name] = value
    return value
