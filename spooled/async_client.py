"""The official SDK's home of the asynchronous client."""

from __future__ import annotations

from spooled.client import AsyncSpooledClient, create_async_client

__all__ = ["AsyncSpooledClient", "create_async_client"]
