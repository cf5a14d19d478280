"""Every call that the server answers."""

from __future__ import annotations

from spooled_contrib.server._api import (
    api_key_routes,
    auth_routes,
    dead_letter_routes,
    health_routes,
    job_control,
    job_creation,
    job_leases,
    job_reads,
    organization_routes,
    queue_routes,
    schedule_routes,
    streams,
    worker_routes,
    workflow_routes,
)

ROUTES = [
    *health_routes.ROUTES,
    *job_creation.ROUTES,
    *job_leases.ROUTES,
    *job_reads.ROUTES,
    *job_control.ROUTES,
    *dead_letter_routes.ROUTES,
    *queue_routes.ROUTES,
    *worker_routes.ROUTES,
    *schedule_routes.ROUTES,
    *workflow_routes.ROUTES,
    *organization_routes.ROUTES,
    *api_key_routes.ROUTES,
    *auth_routes.ROUTES,
    *streams.ROUTES,
]
