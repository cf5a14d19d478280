"""Transports that users plug in: those of httpx, and of httpx2, which has the same interface."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

if TYPE_CHECKING:
    import httpx
    import httpx2

    UserTransport: TypeAlias = httpx.BaseTransport | httpx2.BaseTransport
    AsyncUserTransport: TypeAlias = httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport

_LIBRARIES = ("httpx", "httpx2")


def library_of(transport: object, *kinds: str) -> ModuleType:
    """Return the module that a transport belongs to: httpx or httpx2.

    Args:
        transport: What the user gave.
        kinds: Names of the classes one of which it must have, such as `BaseTransport`.

    Raises:
        TypeError: It is no such transport.
    """
    for name in _LIBRARIES:
        library = sys.modules.get(name)  # a transport of a library that is not loaded cannot exist
        if library is not None and isinstance(transport, tuple(getattr(library, kind) for kind in kinds)):
            return library
    raise TypeError(f"transport must be an httpx.{kinds[0]}, got {type(transport).__name__}")


def is_async_transport(transport: object) -> TypeGuard[AsyncUserTransport]:
    """Tell whether a transport serves coroutines, of httpx or httpx2."""
    try:
        library_of(transport, "AsyncBaseTransport")
    except TypeError:
        return False
    return True
