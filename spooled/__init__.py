"""Spooled for Python: enqueue jobs over HTTP and work on them.

    from spooled import SpooledClient

    with SpooledClient(api_key="sp_live_...") as client:
        client.jobs.create(queue_name="emails", payload={"to": "ada@example.com"})

The names are loaded when they are first used, so that `import spooled` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from spooled._version import __version__

if TYPE_CHECKING:
    from spooled._async.client import AsyncSpooledClient
    from spooled._http._rate_limit import RateLimitInfo
    from spooled._sync.client import SpooledClient
    from spooled.config import CircuitBreakerConfig, ClientConfig, RetryConfig, SpooledClientConfig
    from spooled.errors import (
        AuthenticationError,
        AuthorizationError,
        CircuitBreakerOpenError,
        ConfigurationError,
        ConflictError,
        JobAbortedError,
        LeaseExpiredError,
        NetworkError,
        NotFoundError,
        PayloadTooLargeError,
        QuotaExceededError,
        RateLimitError,
        ServerError,
        SpooledError,
        TimeoutError,  # noqa: A004 - the official name
        UnsupportedOperationError,
        ValidationError,
        is_lease_expired,
        is_spooled_error,
    )
    from spooled.models import ClaimedJob, Job, JobSummary, Page
    from spooled.realtime import AsyncSpooledRealtime, SpooledRealtime
    from spooled.worker import AsyncSpooledWorker, SpooledWorker

# Where each public name lives. A name in `__all__` is here and in the imports above.
_HOME = {
    "AsyncSpooledClient": "spooled._async.client",
    "AsyncSpooledRealtime": "spooled.realtime",
    "AsyncSpooledWorker": "spooled.worker",
    "AuthenticationError": "spooled.errors",
    "AuthorizationError": "spooled.errors",
    "CircuitBreakerConfig": "spooled.config",
    "CircuitBreakerOpenError": "spooled.errors",
    "ClaimedJob": "spooled.models",
    "ClientConfig": "spooled.config",
    "ConfigurationError": "spooled.errors",
    "ConflictError": "spooled.errors",
    "Job": "spooled.models",
    "JobAbortedError": "spooled.errors",
    "JobSummary": "spooled.models",
    "LeaseExpiredError": "spooled.errors",
    "NetworkError": "spooled.errors",
    "NotFoundError": "spooled.errors",
    "Page": "spooled.models",
    "PayloadTooLargeError": "spooled.errors",
    "QuotaExceededError": "spooled.errors",
    "RateLimitError": "spooled.errors",
    "RateLimitInfo": "spooled._http._rate_limit",
    "RetryConfig": "spooled.config",
    "ServerError": "spooled.errors",
    "SpooledClient": "spooled._sync.client",
    "SpooledClientConfig": "spooled.config",
    "SpooledError": "spooled.errors",
    "SpooledRealtime": "spooled.realtime",
    "SpooledWorker": "spooled.worker",
    "TimeoutError": "spooled.errors",
    "UnsupportedOperationError": "spooled.errors",
    "ValidationError": "spooled.errors",
    "is_lease_expired": "spooled.errors",
    "is_spooled_error": "spooled.errors",
}

__all__ = [
    "AsyncSpooledClient",
    "AsyncSpooledRealtime",
    "AsyncSpooledWorker",
    "AuthenticationError",
    "AuthorizationError",
    "CircuitBreakerConfig",
    "CircuitBreakerOpenError",
    "ClaimedJob",
    "ClientConfig",
    "ConfigurationError",
    "ConflictError",
    "Job",
    "JobAbortedError",
    "JobSummary",
    "LeaseExpiredError",
    "NetworkError",
    "NotFoundError",
    "Page",
    "PayloadTooLargeError",
    "QuotaExceededError",
    "RateLimitError",
    "RateLimitInfo",
    "RetryConfig",
    "ServerError",
    "SpooledClient",
    "SpooledClientConfig",
    "SpooledError",
    "SpooledRealtime",
    "SpooledWorker",
    "TimeoutError",
    "UnsupportedOperationError",
    "ValidationError",
    "__version__",
    "is_lease_expired",
    "is_spooled_error",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'spooled' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
