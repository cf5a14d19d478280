"""One running server on the current event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import socket

from spooled.clock import Clock, ManualClock
from spooled_contrib.server._api.access import Gate
from spooled_contrib.server._api.app import SpooledApp
from spooled_contrib.server._api.routes import ROUTES
from spooled_contrib.server._api.services import Services
from spooled_contrib.server._events import Hub
from spooled_contrib.server._listener import Listener, bind
from spooled_contrib.server._rate import RateLimiter
from spooled_contrib.server._rules import dependencies, organizations, sweeps
from spooled_contrib.server._settings import AddressUnavailableError, ServerSettings, resolve
from spooled_contrib.server._storage import Storage, Tx
from spooled_contrib.server._storage.opening import storage_for
from spooled_contrib.server._times import SECOND

logger = logging.getLogger("spooled.server")

SWEEP_SECONDS = 1.0
"""The contract allows 5 s for scheduled jobs and 10 s for lost leases; each search is cheap, so look more often."""

DEPENDENCY_TURNS = 10
CLEANING_SECONDS = 300.0


class Runtime:
    """Storage, application and listener, started and stopped together."""

    def __init__(self, settings: ServerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._storage: Storage
        self._cleaned_at = clock.monotonic()

    async def start(self) -> str:
        """Serve; the URL.

        Raises:
            ServerConfigurationError: the settings are refused.
            AddressUnavailableError: the address is not of this machine, or the port is taken.
            StorageUnavailableError: the database cannot be used.
        """
        settings = self._settings
        registration_is_open = settings.check()
        family, address = resolve(settings.host, settings.port)[0]
        try:
            bound = bind(family, address)
        except OSError as error:
            raise AddressUnavailableError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}. "
                "Choose another port (0 picks a free one) or an address of this machine"
            ) from error
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(bound.close)
            self._hub = Hub()
            self._storage = storage_for(settings, self._clock, self._hub)
            await self._storage.open()
            undo.push_async_callback(self._storage.close)
            services = await self._services(registration_is_open)
            if self._storage.leads:
                await self.sweep()
            self._listener = Listener(SpooledApp(services, ROUTES))
            await self._listener.start(bound)
            undo.pop_all()
        self._sweeping = asyncio.ensure_future(self._sweep_forever())
        host, port = address[0], bound.getsockname()[1]
        return f"http://[{host}]:{port}" if family == socket.AF_INET6 else f"http://{host}:{port}"

    async def _services(self, registration_is_open: bool) -> Services:
        settings, limits = self._settings, self._settings.limits
        secret = await self._storage.write(lambda tx: _prepare(tx, settings.effective_key))
        clock = self._storage.clock
        limiter = RateLimiter(clock, limits.requests_per_second, limits.bucket)
        self._gate = Gate(self._storage, self._hub, clock, limiter, secret)
        await self._gate.load()
        return Services(
            settings=settings,
            registration_is_open=registration_is_open,
            storage=self._storage,
            hub=self._hub,
            clock=clock,
            gate=self._gate,
            started_at=clock.monotonic(),
        )

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
        await self._sweep_due()
        # After the leases: what a lost lease killed takes its dependants along.
        await self._storage.write(dependencies.sweep)
        await self._clean()

    async def _sweep_due(self) -> None:
        while await self._storage.write(sweeps.run_frequent) >= sweeps.ROWS_PER_SWEEP:
            pass

    async def _clean(self) -> None:
        now = self._clock.monotonic()
        if now - self._cleaned_at < CLEANING_SECONDS:
            return
        self._cleaned_at = now
        retention = round(self._settings.retention_days * 86_400 * SECOND)
        while (
            await self._storage.write(lambda tx: sweeps.delete_old_jobs(tx, retention))
            >= sweeps.ROWS_PER_SWEEP
        ):
            pass
        await self._storage.write(sweeps.forget_ended_sessions)

    async def _sweep_forever(self) -> None:
        # A manual clock stands still between two moves, and each move sweeps: nothing would ever be due here, and a
        # test can see the state between "the lease ended" and "somebody noticed".
        if isinstance(self._clock, ManualClock):
            return
        for turn in itertools.count(1):
            await asyncio.sleep(SWEEP_SECONDS)
            if not self._storage.leads:
                continue
            try:
                # The dependency sweep reads every gated job, due or not, so it keeps to the contract's interval.
                await (self.sweep() if turn % DEPENDENCY_TURNS == 0 else self._sweep_due())
            except Exception:
                logger.exception("a sweep failed; it is tried again in %s s", SWEEP_SECONDS)


def _prepare(tx: Tx, key: str) -> str:
    """Let the server's own key in; the secret that signs tokens, which lives as long as the database."""
    tx.serialize("start")
    organizations.ensure_server_key(tx, key)
    tx.execute(
        "INSERT INTO meta (name, value) VALUES ('jwt_secret', ?) ON CONFLICT (name) DO NOTHING",
        (secrets.token_hex(32),),
    )
    row = tx.select_one("SELECT value FROM meta WHERE name = 'jwt_secret'")
    assert row is not None
    return str(row[0])
