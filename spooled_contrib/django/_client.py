"""The clients of this process: made when first needed, and again after a fork or a change of settings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from spooled import AsyncSpooledClient, ConfigurationError, SpooledClient
from spooled_contrib.django import conf

_lock = threading.Lock()
_client: tuple[int, SpooledClient] | None = None
_async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncSpooledClient] = (
    weakref.WeakKeyDictionary()
)

_keepers: weakref.WeakKeyDictionary[AsyncSpooledClient, AsyncGenerator[None, None]] = (
    weakref.WeakKeyDictionary()
)


def get_client() -> SpooledClient:
    """Return the client of this process; any thread may use it.

    Raises:
        ImproperlyConfigured: There is no API key, or a setting has a bad value.
    """
    global _client
    known = _client
    if known is not None and known[0] == os.getpid():
        return known[1]
    with _lock:
        known = _client
        if known is None or known[0] != os.getpid():
            # The parent's connections are the parent's: they are left alone.
            known = _client = (os.getpid(), new_client())
    return known[1]


def get_async_client() -> AsyncSpooledClient:
    """Return the client of the running event loop.

    Raises:
        ImproperlyConfigured: There is no API key, or a setting has a bad value.
        RuntimeError: No event loop is running.
    """
    loop = asyncio.get_running_loop()
    client = _async_clients.get(loop)
    if client is None:
        client = _async_clients[loop] = new_async_client()
        _close_with_loop(client)
    return client


def _close_with_loop(client: AsyncSpooledClient) -> None:
    """Have the client closed when its loop ends: whoever ends a loop closes its asynchronous generators first.

    Loops may be short: `async_to_sync` makes one for each call.
    """

    async def keep() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await client.close()

    keeper = keep()
    # Its first step makes the loop know it. There is nothing to wait for before the yield.
    with contextlib.suppress(StopIteration):
        keeper.asend(None).send(None)
    _keepers[client] = keeper


def new_client() -> SpooledClient:
    """Return a client of one's own, to be closed by its user."""
    try:
        return SpooledClient(**_options())
    except (ConfigurationError, TypeError) as error:
        raise ImproperlyConfigured(_explain(error)) from error


def new_async_client() -> AsyncSpooledClient:
    """Return a client of one's own, to be closed by its user."""
    try:
        return AsyncSpooledClient(**_options())
    except (ConfigurationError, TypeError) as error:
        raise ImproperlyConfigured(_explain(error)) from error


def _options() -> dict[str, Any]:
    settings = conf.current()
    return {**settings.client, "api_key": settings.api_key, "base_url": settings.base_url}


def _explain(error: Exception) -> str:
    text = error.message if isinstance(error, ConfigurationError) else str(error)
    if text.startswith("no credentials"):
        return "SPOOLED has no API key: set SPOOLED['API_KEY'] or the environment variable SPOOLED_API_KEY"
    return f"SPOOLED: {text}"


def _forget() -> None:
    global _client
    with _lock:
        known, _client = _client, None
        _async_clients.clear()
    if known is not None and known[0] == os.getpid():
        known[1].close()


conf.on_change(_forget)
