"""Spooled in a Django project.

    INSTALLED_APPS += ["spooled_contrib.django"]
    SPOOLED = {"API_KEY": "sp_live_..."}

    # shop/jobs.py
    from spooled_contrib.django import job

    @job("invoices")
    def make_invoice(order: int) -> None: ...

`manage.py spooled_worker` finds the jobs of all installed apps and runs them. Install it with
`pip install "spooled[django]"`; docs/django.md shows the rest.
"""

from __future__ import annotations

from spooled_contrib.django._client import get_async_client, get_client
from spooled_contrib.django._jobs import Job, Promised, job

__all__ = ["Job", "Promised", "get_async_client", "get_client", "job"]
