"""The two clients: `SpooledClient` for threads, `AsyncSpooledClient` for coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled._async.client import AsyncSpooledClient
from spooled._http._options import Options as ClientOptions
from spooled._http._rate_limit import RateLimitInfo
from spooled._sync.client import SpooledClient

if TYPE_CHECKING:
    from typing import Unpack

__all__ = [
    "AsyncSpooledClient",
    "ClientOptions",
    "RateLimitInfo",
    "SpooledClient",
    "create_async_client",
    "create_client",
]


def create_client(api_key: str | None = None, **options: Unpack[ClientOptions]) -> SpooledClient:
    """Return the same as `SpooledClient(api_key, **options)`."""
    return SpooledClient(api_key, **options)


def create_async_client(api_key: str | None = None, **options: Unpack[ClientOptions]) -> AsyncSpooledClient:
    """Return the same as `AsyncSpooledClient(api_key, **options)`."""
    return AsyncSpooledClient(api_key, **options)
