"""The client for coroutines."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from spooled._async._jwt import AsyncJwtCache
from spooled._async._session import AsyncSession
from spooled._async.api_keys import AsyncApiKeys
from spooled._async.auth import AsyncAuth
from spooled._async.health import AsyncHealth
from spooled._async.jobs import AsyncJobs
from spooled._async.organizations import AsyncOrganizations
from spooled._async.queues import AsyncQueues
from spooled._async.workers import AsyncWorkers
from spooled._http._defaults import async_transport_for
from spooled._http._options import Options, config_of
from spooled._http._rate_limit import RateLimitInfo
from spooled.config import CircuitBreakerStats, ClientConfig
from spooled.errors import UnsupportedOperationError

if TYPE_CHECKING:
    from typing import Literal, NoReturn, Self, Unpack

    from spooled._async.admin import AsyncAdmin
    from spooled._async.billing import AsyncBilling
    from spooled._async.dashboard import AsyncDashboard
    from spooled._async.ingest import AsyncIngest
    from spooled._async.metrics import AsyncMetrics
    from spooled._async.schedules import AsyncSchedules
    from spooled._async.webhooks import AsyncWebhooks
    from spooled._async.workflows import AsyncWorkflows
    from spooled._http._transport import AsyncTransport
    from spooled._http._user_transports import AsyncUserTransport
    from spooled.realtime import AsyncSpooledRealtime


class AsyncSpooledClient:
    """Talks to a Spooled server from coroutines. Use it on one event loop and close it at the end.

    Every call raises a `SpooledError`: `AuthenticationError` when the server refuses the credential,
    `RateLimitError` when retries did not help, `NetworkError` or `TimeoutError` when there was no answer,
    `ServerError` when the server failed. Requests that do no harm when sent twice are retried by themselves.

    Args:
        api_key: `sp_live_...` or `sp_test_...`. Default: the environment variable SPOOLED_API_KEY.
        config: A ready configuration, used instead of the environment; options given as well change a copy.
        transport: A transport of httpx or httpx2 that sends the requests in place of the client's own connections:
            for mocks, special certificates, other proxies. Closed together with the client.
        options: The other fields of `ClientConfig`: access_token, refresh_token, admin_key, base_url, timeout,
            connect_timeout, retry, max_retry_after, max_connections, max_response_bytes, headers,
            user_agent, auto_refresh_token, debug, ... Each has an environment variable, SPOOLED_BASE_URL and so on.

    Attributes:
        jobs: Enqueue, look at, claim and ack jobs; `jobs.dlq` is the dead-letter queue.
        queues: Configure and pause queues.
        workers: Register workers.
        schedules: Jobs that a cron expression creates.
        workflows: Jobs that wait for each other; `workflows.jobs` is about single ones.
        webhooks: Addresses that are told about events.
        ingest: Jobs out of other people's webhooks.
        api_keys: API keys.
        organizations: Organisations and their plans.
        auth: Login sessions.
        billing: The subscription.
        dashboard: Everything at a glance.
        health: Whether the server is well.
        metrics: Numbers for Prometheus.
        admin: Administration of a whole server, with `admin_key`.

    Raises:
        TypeError: An option is unknown.
        ConfigurationError: An option or environment variable has a bad value, or there are no credentials.
            It is a ValueError.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        config: ClientConfig | None = None,
        transport: AsyncUserTransport | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._open(config_of(api_key, config, options), transport, owned=True)

    def _open(
        self,
        config: ClientConfig,
        transport: AsyncUserTransport | None,
        *,
        owned: bool,
        sender: AsyncTransport | None = None,
    ) -> None:
        config.require_credentials()
        self._config = config
        self._user_transport = transport
        self._owns_user_transport = owned
        self._session = AsyncSession(config, sender or async_transport_for(config, transport))
        self._jwt = AsyncJwtCache(self._session)
        self.jobs = AsyncJobs(self._session)
        self.queues = AsyncQueues(self._session)
        self.workers = AsyncWorkers(self._session)
        self.api_keys = AsyncApiKeys(self._session)
        self.organizations = AsyncOrganizations(self._session)
        self.auth = AsyncAuth(self._session)
        self.health = AsyncHealth(self._session)

    # Imported when they are used: most programs need none of these.

    @cached_property
    def schedules(self) -> AsyncSchedules:
        """Jobs that a cron expression creates."""
        from spooled._async.schedules import AsyncSchedules

        return AsyncSchedules(self._session)

    @cached_property
    def workflows(self) -> AsyncWorkflows:
        """Jobs that wait for each other; `workflows.jobs` is about single ones."""
        from spooled._async.workflows import AsyncWorkflows

        return AsyncWorkflows(self._session)

    @cached_property
    def webhooks(self) -> AsyncWebhooks:
        """Addresses that are told about events."""
        from spooled._async.webhooks import AsyncWebhooks

        return AsyncWebhooks(self._session)

    @cached_property
    def ingest(self) -> AsyncIngest:
        """Jobs out of other people's webhooks."""
        from spooled._async.ingest import AsyncIngest

        return AsyncIngest(self._session)

    @cached_property
    def billing(self) -> AsyncBilling:
        """The subscription."""
        from spooled._async.billing import AsyncBilling

        return AsyncBilling(self._session)

    @cached_property
    def dashboard(self) -> AsyncDashboard:
        """Everything at a glance."""
        from spooled._async.dashboard import AsyncDashboard

        return AsyncDashboard(self._session)

    @cached_property
    def metrics(self) -> AsyncMetrics:
        """Numbers for Prometheus."""
        from spooled._async.metrics import AsyncMetrics

        return AsyncMetrics(self._session)

    @cached_property
    def admin(self) -> AsyncAdmin:
        """Administration of a whole server, with `admin_key`."""
        from spooled._async.admin import AsyncAdmin

        return AsyncAdmin(self._session)

    @property
    def config(self) -> ClientConfig:
        """The options in force."""
        return self._config

    def get_config(self) -> ClientConfig:
        """Return the options in force."""
        return self._config

    @property
    def rate_limit(self) -> RateLimitInfo | None:
        """What the latest response said about the rate limit; None when none said anything."""
        return self._session.rate_limit

    def realtime(
        self,
        type: Literal["websocket", "sse"] = "websocket",  # noqa: A002 - the official name
        auto_reconnect: bool = True,
        max_reconnect_attempts: int = 10,
        reconnect_delay: float = 1.0,
        max_reconnect_delay: float = 30.0,
    ) -> AsyncSpooledRealtime:
        """Events of the server as they happen, with this client's credentials. Not connected yet.

        Args:
            type: `websocket` needs the extra `realtime`; `sse` needs nothing.
            auto_reconnect: Whether a lost connection is made again.
            max_reconnect_attempts: How often in a row.
            reconnect_delay: Seconds before the first attempt; each further one waits twice as long.
            max_reconnect_delay: The longest wait in seconds.

        Raises:
            ModuleNotFoundError: The extra `realtime` is not installed.
            ConfigurationError: An argument has a bad value.
        """
        from spooled.realtime import AsyncSpooledRealtime

        return AsyncSpooledRealtime(
            self,
            type,
            auto_reconnect=auto_reconnect,
            max_reconnect_attempts=max_reconnect_attempts,
            reconnect_delay=reconnect_delay,
            max_reconnect_delay=max_reconnect_delay,
        )

    @property
    def grpc(self) -> NoReturn:
        """Not there: this package talks HTTP only.

        Raises:
            UnsupportedOperationError: Always.
        """
        raise UnsupportedOperationError(
            "client.grpc is not part of this package",
            hint="Use client.jobs: every operation of the gRPC service exists over HTTP, and workers use that.",
        )

    def get_circuit_breaker_stats(self) -> CircuitBreakerStats:
        """That there is no circuit breaker, in the official SDK's terms: always closed, never a failure."""
        return CircuitBreakerStats()

    def reset_circuit_breaker(self) -> None:
        """Do nothing: there is no circuit breaker."""

    async def get_jwt_token(self, force_refresh: bool = False) -> str | None:
        """Return a JWT in exchange for the API key; kept, and renewed a minute before it expires.

        Args:
            force_refresh: Log in again now.

        Returns:
            None when the client has neither an API key nor an access token.

        Raises:
            SpooledError: As `auth.login`.
        """
        return await self._jwt.get(force_refresh)

    def with_options(
        self,
        *,
        api_key: str | None = None,
        transport: AsyncUserTransport | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Another client with some options changed. Close it separately.

        A transport that was passed to this client is shared unless another one is given, and closed by this
        client only. A new credential replaces the old ones, whatever their kind.

        Raises:
            TypeError: An option is unknown.
            ConfigurationError: An option has a bad value.
        """
        config = config_of(api_key, self._config, options)
        other = type(self).__new__(type(self))
        if transport is None:
            other._open(config, self._user_transport, owned=False)
        else:
            other._open(config, transport, owned=True)
        return other

    async def close(self) -> None:
        """Close the connections. The client must not be used afterwards; closing again does nothing."""
        await self._session.aclose()
        if self._user_transport is not None and self._owns_user_transport:
            self._owns_user_transport = False
            await self._user_transport.aclose()

    async def aclose(self) -> None:
        """As `close`."""
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._config.base_url}>"
