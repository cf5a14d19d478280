"""The embedded Spooled server: everything a laptop or a CI job needs, with no account and no network.

    from spooled_contrib.server import EmbeddedServer

    with EmbeddedServer() as server:
        print(server.url, server.api_key)

Needs the extra: `pip install "spooled-contrib[server]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_contrib.server._limits import Limits
from spooled_contrib.server._settings import (
    DEVELOPMENT_KEY,
    AddressUnavailableError,
    ServerConfigurationError,
)

if TYPE_CHECKING:
    from spooled_contrib.server._embedded import EmbeddedServer
    from spooled_contrib.server._storage.errors import StorageUnavailableError

__all__ = [
    "DEVELOPMENT_KEY",
    "AddressUnavailableError",
    "EmbeddedServer",
    "Limits",
    "ServerConfigurationError",
    "StorageUnavailableError",
]


def __getattr__(name: str) -> object:
    # Only who starts a server pays for importing one: the command line reads this package too.
    if name == "EmbeddedServer":
        try:
            from spooled_contrib.server._embedded import EmbeddedServer
        except ModuleNotFoundError as error:
            if error.name in ("jwt", "starlette", "uvicorn"):
                raise ModuleNotFoundError(
                    f'the embedded server needs {error.name}: pip install "spooled-contrib[server]"',
                    name=error.name,
                ) from error
            raise
        return EmbeddedServer
    if name == "StorageUnavailableError":
        from spooled_contrib.server._storage.errors import StorageUnavailableError

        return StorageUnavailableError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
