"""One running server on the current event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

from spooled.clock import Clock, ManualClock
from spooled_contrib.server._api.access import Gate
from spooled_contrib.server._api.app import SpooledApp
from spooled_contrib.server._api.routes import ROUTES
from spooled_contrib.server._api.services import Services
from spooled_contrib.server._events import Hub
from spooled_contrib.server._listener import Listener, bind
from spooled_contrib.server._rate import RateLimiter
from spooled_contrib.server._rules import organizations, sweeps
from spooled_contrib.server._settings import ServerConfigurationError, ServerSettings, resolve
from spooled_contrib.server._storage import Storage, Tx
from spooled_contrib.server._storage.sqlite import SqliteStorage
from spooled_contrib.server._times import SECOND

logger = logging.getLogger("spooled.server")

SWEEP_SECONDS = 1.0
"""The contract allows 5 s for scheduled jobs and 10 s for lost leases; each search is cheap, so look more often."""

CLEANING_SECONDS = 300.0


class Runtime:
    """Storage, application and listener, started and stopped together."""

    def __init__(self, settings: ServerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._cleaned_at = clock.monotonic()

    async def start(self) -> str:
        """Serve; the URL.

        Raises:
            ServerConfigurationError: the settings are refused, or the address cannot be listened on.
            StorageUnavailableError: the database cannot be used.
        """
        settings = self._settings
        registration_is_open = settings.check()
        family, (host, port) = resolve(settings.host, settings.port)[0]
        try:
            bound = bind(family, (host, port))
        except OSError as error:
            raise ServerConfigurationError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}. "
                "Choose another port (0 picks a free one) or an address of this machine"
            ) from error
        self._hub = Hub()
        self._storage: Storage = SqliteStorage(
            settings.db, clock=self._clock, hub=self._hub, synchronous=settings.synchronous
        )
        try:
            await self._storage.open()
        except BaseException:
            bound.close()
            raise
        secret = await self._storage.write(lambda tx: _prepare(tx, settings.effective_key))
        limits = settings.limits
        self._gate = Gate(
            self._storage,
            self._clock,
            RateLimiter(self._clock, limits.requests_per_second, limits.bucket),
            secret,
        )
        await self._gate.load()
        services = Services(
            settings=settings,
            registration_is_open=registration_is_open,
            storage=self._storage,
            hub=self._hub,
            clock=self._clock,
            gate=self._gate,
            started_at=self._clock.monotonic(),
        )
        await self.sweep()
        self._listener = Listener(SpooledApp(services, ROUTES))
        await self._listener.start(bound)
        self._sweeping = asyncio.ensure_future(self._sweep_forever())
        port = bound.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{port}"

    async def stop(self) -> None:
        """Close streams at once, finish what was accepted, let go of the database."""
        self._sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeping
        self._hub.close()
        await self._listener.stop()
        await self._gate.settle()
        await self._storage.close()

    async def sweep(self) -> None:
        """Do now what time has made due."""
        await self._storage.write(sweeps.run_frequent)
        now = self._clock.monotonic()
        if now - self._cleaned_at >= CLEANING_SECONDS:
            self._cleaned_at = now
            retention = round(self._settings.retention_days * 86_400 * SECOND)
            await self._storage.write(lambda tx: sweeps.delete_old_jobs(tx, retention))
            await self._storage.write(sweeps.forget_ended_sessions)

    async def _sweep_forever(self) -> None:
        # A manual clock stands still between two moves, and each move sweeps: nothing would ever be due here, and a
        # test can see the state between "the lease ended" and "somebody noticed".
        if isinstance(self._clock, ManualClock):
            return
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except Exception:
                logger.exception("a sweep failed; it is tried again in %s s", SWEEP_SECONDS)


def _prepare(tx: Tx, key: str) -> str:
    """Let the server's own key in; the secret that signs tokens, which lives as long as the database."""
    organizations.ensure_server_key(tx, key)
    tx.execute(
        "INSERT INTO meta (name, value) VALUES ('jwt_secret', ?) ON CONFLICT (name) DO NOTHING",
        (secrets.token_hex(32),),
    )
    row = tx.select_one("SELECT value FROM meta WHERE name = 'jwt_secret'")
    assert row is not None
    return str(row[0])
