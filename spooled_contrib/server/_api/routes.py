"""Every call that the server answers."""

from __future__ import annotations

from spooled_contrib.server._api import (
    health_routes,
    job_creation,
    job_leases,
    job_reads,
    worker_routes,
)

ROUTES = [
    *health_routes.ROUTES,
    *job_creation.ROUTES,
    *job_leases.ROUTES,
    *job_reads.ROUTES,
    *worker_routes.ROUTES,
]
