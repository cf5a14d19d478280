"""How a server is set up, and the one set-up that is refused. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field, replace
from typing import Literal

from spooled_contrib.server._limits import Limits
from spooled_contrib.server._plans import PLAN_NAMES, PLANS, Plan, with_overrides

DEVELOPMENT_KEY = "sp_test_development-key-for-local-use-only-0000"
"""The API key of a server that was given none. It is public, so such a server listens on this machine only."""


_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


class ServerConfigurationError(ValueError):
    """The server was asked to run in a way that makes no sense or is not safe. The message is one line."""


class AddressUnavailableError(OSError):
    """The server cannot listen where it was asked to. The message is one line."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything that can be chosen about a server. See `EmbeddedServer` for the meaning of each."""

    host: str = "127.0.0.1"
    port: int = 0
    page: bool = True
    db: str = field(default=":memory:", repr=False)  # may hold a password
    api_key: str | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    open_registration: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    admin_key: str | None = field(default=None, repr=False)
    metrics_token: str | None = field(default=None, repr=False)
    plan: Plan | None = None
    retention_days: float | None = None
    allow_private_webhooks: bool = False
    ack_batches: bool = True

    @property
    def shown_db(self) -> str:
        """`db` for a human: a PostgreSQL URL without password and options."""
        return without_password(self.db) if is_postgres(self.db) else self.db

    @property
    def effective_key(self) -> str:
        return self.api_key if self.api_key is not None else DEVELOPMENT_KEY

    @property
    def effective_limits(self) -> Limits:
        """The plan's limits, changed by those that were set by hand."""
        limits = self.limits if self.plan is None else with_overrides(PLANS[self.plan], self.limits)
        if self.retention_days is not None:
            limits = replace(
                limits, job_retention_days=self.retention_days, history_retention_days=self.retention_days
            )
        return limits

    def check(self) -> None:
        """Refuse what is not safe or makes no sense.

        Raises:
            ServerConfigurationError: with one line that says what to change.
        """
        if not 0 <= self.port <= 65535:
            raise ServerConfigurationError(f"port {self.port} is not between 0 and 65535")
        if not self.db.strip():
            raise ServerConfigurationError(
                "the name of the database is empty. Name a file, a postgresql:// URL, or :memory:"
            )
        key = self.effective_key
        if not 10 <= len(key) <= 255 or not key.isascii() or not key.isprintable() or " " in key:
            raise ServerConfigurationError(
                "the API key must have 10 to 255 printable ASCII characters and no spaces"
            )
        if key.startswith("eyJ"):
            raise ServerConfigurationError(
                'the API key must not start with "eyJ": such a bearer is read as a JWT'
            )
        if self.plan is not None and self.plan not in PLAN_NAMES:
            raise ServerConfigurationError(
                f"there is no plan {self.plan!r}; choose one of {', '.join(PLAN_NAMES)}"
            )
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ServerConfigurationError(
                    f"{origin!r} is not an origin; write it as browsers send it, such as http://localhost:3000"
                )
        if key == DEVELOPMENT_KEY and (self.allowed_hosts or self.allowed_origins):
            raise ServerConfigurationError(
                "refusing to open a server with the public development key to other host names or web pages. "
                "Pass --api-key (api_key=) with a key of your own"
            )
        if key == DEVELOPMENT_KEY and not is_loopback(self.host):
            raise ServerConfigurationError(
                f"refusing to listen on {self.host} with the public development key: other machines could use it. "
                "Pass --api-key (api_key=) with a key of your own, or listen on 127.0.0.1"
            )


def is_postgres(db: str) -> bool:
    """Return whether a `db` setting names a PostgreSQL database. Everything else is a SQLite file."""
    return db.startswith(("postgresql://", "postgres://"))


def without_password(url: str) -> str:
    """Who, where and which database, without password and options."""
    scheme, _, rest = url.partition("://")
    place, _, database = rest.partition("?")[0].partition("/")
    account, _, hosts = place.rpartition("@")
    user = account.partition(":")[0]
    return f"{scheme}://{user + '@' if user else ''}{hosts}/{database}"


def is_loopback(host: str) -> bool:
    """Only this machine can reach every address that `host` stands for.

    Raises:
        AddressUnavailableError: the name does not resolve.
    """
    return all(
        ipaddress.ip_address(address[0].partition("%")[0]).is_loopback for _, address in resolve(host, 0)
    )


def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Return the addresses of `host`, in the resolver's order.

    Raises:
        AddressUnavailableError: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AddressUnavailableError(
            f"cannot listen on {host!r}: {reason}. Use an address of this machine, such as 127.0.0.1"
        ) from error
    addresses: list[tuple[socket.AddressFamily, tuple[str, int]]] = []
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            addresses.append((family, (str(address[0]), port)))
    if not addresses:
        raise AddressUnavailableError(f"cannot listen on {host!r}: it has no IPv4 or IPv6 address")
    return addresses
