"""Reaching the database, and saying in one line why it cannot be reached. A password is in none of these lines."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8Dumper

from spooled_contrib.server._settings import without_password
from spooled_contrib.server._storage.errors import StorageUnavailableError
from spooled_contrib.server._storage.postgres.silence import STATEMENT_SECONDS, Patience

OLDEST = 14
"""The oldest major version of PostgreSQL that is accepted."""

# A machine that vanishes without a word is noticed within about half a minute, on both sides.
_KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_SESSION = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; "
    # A server that was stopped in the middle of a transaction must not hold its rows for ever.
    "SET idle_in_transaction_session_timeout = '10s'; SET timezone = 'UTC'; SET client_encoding = 'UTF8'; "
    "SET standard_conforming_strings = on"
)
_CONNECT_SECONDS = 5


class Address:
    """A database by its URL, and how to connect to it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.shown = without_password(url)

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    def conninfo(self) -> str:
        """Return what the driver takes.

        Raises:
            StorageUnavailableError: the URL is not one.
        """
        defaults: dict[str, Any] = {"application_name": "spooled server", "connect_timeout": _CONNECT_SECONDS}
        try:
            given = conninfo_to_dict(self._url)
            return make_conninfo(**{**defaults, **_KEEPALIVE, **given})
        except psycopg.Error:
            # The driver's own words may quote the password.
            raise StorageUnavailableError(
                f"cannot read the database URL {self.shown!r}. Write it as postgresql://user:password@host:5432/name, "
                "with special characters of the password percent-encoded"
            ) from None

    def connect(self, patience: Patience | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection for one thread, which begins and ends its transactions itself.

        Args:
            patience: Watches the connection from now on. Statements are then limited to `STATEMENT_SECONDS`.

        Raises:
            psycopg.Error: see `explain`.
        """
        connection = psycopg.connect(self.conninfo(), autocommit=True)
        try:
            prepare(connection)
            if patience is None:
                connection.execute(_SESSION)
            else:
                patience.heard_at = time.monotonic()
                patience.watch(connection)
                connection.execute(f"{_SESSION}; SET statement_timeout = '{STATEMENT_SECONDS}s'".encode())
        except BaseException:
            if patience is not None:
                patience.watch(None)
            connection.close()
            raise
        return connection

    async def connect_async(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        """Return a connection for the event loop.

        Raises:
            psycopg.Error: see `explain`.
        """
        connection = await psycopg.AsyncConnection.connect(self.conninfo(), autocommit=True)
        try:
            prepare(connection)
            await connection.execute(_SESSION)
        except BaseException:
            await connection.close()
            raise
        return connection

    def explain(self, error: psycopg.Error) -> StorageUnavailableError:
        """Return what to tell whoever starts the server."""
        reason = " ".join(str(error).split())
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            advice = "Let its user create tables, with GRANT CREATE ON SCHEMA public, or give it a schema of its own"
        elif "authentication failed" in reason or "no password supplied" in reason:
            advice = "Check the user and the password in the URL"
        elif "does not exist" in reason:
            advice = "Create it first, or correct the URL"
        else:
            advice = "Check that it runs and that the URL is right"
        return StorageUnavailableError(f"cannot use the database {self.shown}: {reason}. {advice}")


def prepare(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """One width for all integers: a statement is planned once, not once for each size of number."""
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.prepared_max = 512


def check_version(address: Address, server_version: int) -> None:
    """Refuse a PostgreSQL (version as in `server_version`, such as 140005) that nobody tested this with."""
    if server_version < OLDEST * 10_000:
        raise StorageUnavailableError(
            f"the database {address.shown} is PostgreSQL {server_version // 10_000}; "
            f"at least version {OLDEST} is needed"
        )
