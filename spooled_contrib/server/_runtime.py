"""One running server on the current event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import socket
from functools import partial

from spooled.clock import Clock, ManualClock
from spooled_contrib.server._api.access import Gate
from spooled_contrib.server._api.app import SpooledApp, for_browsers
from spooled_contrib.server._api.routes import ROUTES
from spooled_contrib.server._api.services import Services
from spooled_contrib.server._database_health import DatabaseHealth
from spooled_contrib.server._events import DELIVERIES_DUE, TALLY, Hub
from spooled_contrib.server._listener import Listener, bind
from spooled_contrib.server._metrics import Metrics
from spooled_contrib.server._plans import Plans
from spooled_contrib.server._rate import RateLimiter
from spooled_contrib.server._rules import (
    dependencies,
    organizations,
    retention,
    schedule_runs,
    sweeps,
    workflows,
)
from spooled_contrib.server._settings import AddressUnavailableError, ServerSettings, is_loopback, resolve
from spooled_contrib.server._storage import Storage, Tx
from spooled_contrib.server._storage.errors import (
    DatabaseOutageError,
    StorageFailedError,
    StorageUnavailableError,
    UncertainCommitError,
)
from spooled_contrib.server._storage.opening import storage_for
from spooled_contrib.server._times import SECOND
from spooled_contrib.server._webhooks.courier import Courier
from spooled_contrib.server._webhooks.sender import Sender

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
        settings.check()
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
            self._metrics = Metrics()
            self._hub.inside[TALLY] = self._metrics.tally
            self._storage = storage_for(settings, self._clock, self._hub)
            await self._storage.open()
            undo.push_async_callback(self._storage.close)
            self._health = DatabaseHealth(self._storage)
            undo.push_async_callback(self._health.stop)
            sender = Sender(self._storage.clock, allow_private=settings.allow_private_webhooks)
            self._courier = Courier(self._storage, self._storage.clock, sender)
            undo.push_async_callback(self._courier.stop)
            try:
                services = await self._services(sender)
                if self._storage.leads:
                    # Nobody else is there, so nobody could renew a lease.
                    await self._storage.write(sweeps.forgive_downtime)
                    await self._sweep_rules()
            except StorageFailedError as error:
                detail = " ".join(str(error).split())
                raise StorageUnavailableError(
                    f"cannot use the database {settings.shown_db!r}: {detail}"
                ) from error
            self._hub.database_failed = self._health.failed
            self._listener = Listener(for_browsers(SpooledApp(services, ROUTES), settings))
            await self._listener.start(bound)
            undo.pop_all()
        self._sweeping = asyncio.ensure_future(self._sweep_forever())
        if not isinstance(self._clock, ManualClock):
            self._hub.inside[DELIVERIES_DUE.type] = lambda _: self._courier.wake()
            self._courier.start()
        host, port = address[0], bound.getsockname()[1]
        return f"http://[{host}]:{port}" if family == socket.AF_INET6 else f"http://{host}:{port}"

    async def _services(self, sender: Sender) -> Services:
        settings = self._settings
        secret = await self._storage.write(lambda tx: _prepare(tx, settings.effective_key))
        clock = self._storage.clock
        # On this machine alone, and without a plan to try out, strangers are the developer's own tests.
        limiter = RateLimiter(clock, public=settings.plan is not None or not is_loopback(settings.host))
        self._plans = Plans(settings.effective_limits)
        await self._load_plans()
        self._gate = Gate(self._storage, self._hub, clock, limiter, secret)
        await self._gate.load()
        return Services(
            settings=settings,
            storage=self._storage,
            health=self._health,
            hub=self._hub,
            clock=clock,
            gate=self._gate,
            sender=sender,
            plans=self._plans,
            metrics=self._metrics,
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
        await self._courier.stop()
        await self._health.stop()
        await self._storage.close()

    async def sweep(self) -> None:
        """Do now what time has made due, webhook deliveries included."""
        await self._sweep_rules()
        await self._courier.deliver_due()

    async def _sweep_rules(self) -> None:
        await self._sweep_due()
        # After the leases: what a lost lease killed takes its dependants along.
        await self._storage.write(dependencies.sweep)
        # And after the dependants: a workflow ends when none of them is left.
        while await self._storage.write(workflows.sweep) >= workflows.WORKFLOWS_PER_SWEEP:
            pass
        await self._load_plans()
        await self._clean()

    async def _sweep_due(self) -> None:
        while await self._storage.write(sweeps.run_frequent) >= sweeps.ROWS_PER_SWEEP:
            pass
        await self._fire_schedules()

    async def _fire_schedules(self) -> None:
        # Only what is due now, each once: new due times that come meanwhile must not keep the other sweeps waiting.
        find_due = partial(schedule_runs.find_due, until=round(self._clock.now() * SECOND))
        while due := await self._storage.read(find_due):
            # Handed over together, they are committed together, and yet one that fails harms no other.
            outcomes = await asyncio.gather(
                *(
                    self._storage.write(partial(schedule_runs.fire, plans=self._plans, due=one))
                    for one in due
                ),
                return_exceptions=True,
            )
            for one, outcome in zip(due, outcomes, strict=True):
                if isinstance(outcome, (DatabaseOutageError, UncertainCommitError)):
                    raise outcome
                if isinstance(outcome, BaseException):
                    logger.error(
                        "schedule %s could not fire; it is tried again with the next sweep",
                        one.schedule_id,
                        exc_info=outcome,
                    )
            # A full turn may have left some over. One in which nothing moved would only repeat itself.
            if len(due) < schedule_runs.SCHEDULES_PER_TURN or not any(fired is True for fired in outcomes):
                return

    async def _clean(self) -> None:
        now = self._clock.monotonic()
        if now - self._cleaned_at < CLEANING_SECONDS:
            return
        self._cleaned_at = now
        plans = self._plans
        while await self._storage.write(lambda tx: retention.run(tx, plans)) >= sweeps.ROWS_PER_SWEEP:
            pass
        await self._storage.write(sweeps.forget_ended_sessions)

    async def _load_plans(self) -> None:
        # Another server on the same database may have changed them.
        changes = self._plans.changes
        self._plans.load(await self._storage.read(organizations.plans), changes)

    async def _sweep_forever(self) -> None:
        # A manual clock stands still between two moves, and each move sweeps: nothing would ever be due here, and a
        # test can see the state between "the lease ended" and "somebody noticed".
        if isinstance(self._clock, ManualClock):
            return
        for turn in itertools.count(1):
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                if not self._storage.leads:
                    if turn % DEPENDENCY_TURNS == 0:
                        await self._load_plans()
                    continue
                # The dependency sweep reads every gated job, due or not, so it keeps to the contract's interval.
                await (self._sweep_rules() if turn % DEPENDENCY_TURNS == 0 else self._sweep_due())
            except (DatabaseOutageError, UncertainCommitError) as error:
                logger.debug("a sweep failed; it is tried again in %s s: %s", SWEEP_SECONDS, error)
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
    tx.execute("INSERT INTO meta (name, value) VALUES ('probe', '0') ON CONFLICT (name) DO NOTHING")
    row = tx.select_one("SELECT value FROM meta WHERE name = 'jwt_secret'")
    assert row is not None
    return str(row[0])
