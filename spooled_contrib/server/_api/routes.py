"""Every call that the server answers."""

from __future__ import annotations

from spooled_contrib.server._api import (
    admin_routes,
    api_key_routes,
    auth_routes,
    dashboard_routes,
    dead_letter_routes,
    email_routes,
    health_routes,
    ingest_routes,
    job_control,
    job_creation,
    job_leases,
    job_reads,
    job_settling,
    metrics_routes,
    organization_routes,
    queue_routes,
    schedule_routes,
    sockets,
    streams,
    usage_routes,
    webhook_routes,
    worker_routes,
    workflow_routes,
)
from spooled_contrib.server._api.openapi.route import document_route

_CALLS = [
    *health_routes.ROUTES,
    *metrics_routes.ROUTES,
    *job_creation.ROUTES,
    *job_leases.ROUTES,
    *job_settling.ROUTES,
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
    *email_routes.ROUTES,
    *dashboard_routes.ROUTES,
    *admin_routes.ROUTES,
    *usage_routes.ROUTES,
    *webhook_routes.ROUTES,
    *ingest_routes.ROUTES,
    *streams.ROUTES,
    *sockets.ROUTES,
]

ROUTES = [*_CALLS, document_route(_CALLS)]
