"""A server inside a program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from spooled.clock import Clock, ManualClock, SystemClock
from spooled.daemon_loops import held_at_exit
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._plans import Plan
from spooled_contrib.server._runtime import Runtime
from spooled_contrib.server._settings import ServerSettings

_Started = Future[tuple[str, Runtime, asyncio.AbstractEventLoop, asyncio.Event]]

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:
    new_event_loop = asyncio.new_event_loop

SWEEP_TIMEOUT = 60.0


class EmbeddedServer:
    """A real Spooled server in a thread of its own, reached over HTTP like any other.

    Usable as a context manager, with `with` or `async with`, or through `start()` and `stop()`. It can be started
    again after it was stopped: on the same port, and, with a database file, with everything that was in it.

    Args:
        host: Address to listen on. One that other machines can reach needs an `api_key`.
        port: TCP port; 0 picks a free one, which is kept for later starts.
        db: SQLite file, `postgresql://user:password@host/name` (extra `postgres`), or `:memory:` for one that ends
            with `stop()`.
        page: Whether there is a page for people at `/`.
        api_key: The server's own key, with full access to its "development" organization. Default: `DEVELOPMENT_KEY`.
        clock: Where all time comes from. With a `ManualClock` nothing happens by itself: see `advance`.
        plan: One of Spooled's plans to enforce: "free", "starter", "pro" or "enterprise". With one, the routes that
            need no key are rate limited too. Default: unlimited.
        limits: Limits of your own; with a plan, they take the place of the plan's.
        synchronous: "NORMAL" survives the death of the process, "FULL" also a power cut, at the price of an fsync for
            each group of writes. PostgreSQL has its own setting for that.
        open_registration: Whether `POST /organizations` needs no key. Default: False.
        allowed_hosts: More names that the server is called by, such as `jobs.example.org` or `*.example.org`. Default:
            on a loopback address this machine's names only, elsewhere any.
        allowed_origins: Web pages of other sites that may call the server, such as `http://localhost:3000`: they may
            open WebSockets and event streams, and read answers (CORS). Default: none but the server's own page.
        admin_key: Accepted in `X-Admin-Key` for everything under `/admin`, and for creating organizations when
            registration is closed. Default: nobody may.
        metrics_token: What `/metrics` wants to see as a bearer. Default: anybody may read them.
        retention_days: Completed and cancelled jobs are deleted this long after they ended, and logs of webhooks too.
            Default: what the plan says, else 30.
        allow_private_webhooks: Whether webhooks may call this machine and private networks. Default: public addresses
            only, because whoever may create a webhook can make the server send requests.
        ack_batches: Whether workers are told that they may send acks in batches (`POST /jobs/settle`). Default: yes.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        db: str = ":memory:",
        page: bool = True,
        api_key: str | None = None,
        clock: Clock | None = None,
        plan: Plan | None = None,
        limits: Limits | None = None,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        open_registration: bool = False,
        allowed_hosts: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
        admin_key: str | None = None,
        metrics_token: str | None = None,
        retention_days: float | None = None,
        allow_private_webhooks: bool = False,
        ack_batches: bool = True,
    ) -> None:
        self._options: dict[str, Any] = {
            "host": host,
            "db": str(db),
            "page": page,
            "api_key": api_key,
            "plan": plan,
            "limits": limits or Limits(),
            "synchronous": synchronous,
            "open_registration": open_registration,
            "allowed_hosts": tuple(allowed_hosts),
            "allowed_origins": tuple(origin.lower() for origin in allowed_origins),
            "admin_key": admin_key,
            "metrics_token": metrics_token,
            "retention_days": retention_days,
            "allow_private_webhooks": allow_private_webhooks,
            "ack_batches": ack_batches,
        }
        self._port = port
        self._clock: Clock = clock or SystemClock()
        self._thread: threading.Thread | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Base URL, such as `http://127.0.0.1:41234`. Known from the first start on.

        Raises:
            RuntimeError: the server was never started.
        """
        if self._url is None:
            raise RuntimeError("the server has no URL yet: call start(), or use it in a with statement")
        return self._url

    @property
    def api_key(self) -> str:
        """A key that may do everything in the server's own organization."""
        return self._settings().effective_key

    @property
    def clock(self) -> Clock:
        """The clock that the server was given."""
        return self._clock

    @property
    def running(self) -> bool:
        """Whether the server accepts connections."""
        return self._thread is not None

    def start(self) -> Self:
        """Start serving, and return when connections are accepted.

        Raises:
            ServerConfigurationError: the settings are refused.
            AddressUnavailableError: the address is not of this machine, or the port is taken.
            StorageUnavailableError: the database cannot be used.
            RuntimeError: the server runs already.
        """
        if self._thread is not None:
            raise RuntimeError(f"the server runs already at {self._url}")
        started: _Started = Future()
        thread = threading.Thread(
            target=self._serve, args=(self._settings(), started), name="spooled-server", daemon=True
        )
        thread.start()
        try:
            self._url, self._runtime, self._loop, self._stopping = started.result()
        except BaseException:
            # Either it did not start, or the wait was interrupted; then it must end as soon as it has started.
            started.add_done_callback(_stop_when_started)
            thread.join()
            raise
        self._thread = thread
        self._port = urlsplit(self._url).port or 0
        return self

    def stop(self) -> None:
        """Stop serving: streams end at once, accepted requests are finished. Does nothing when it does not run."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()

    def advance(self, seconds: float) -> None:
        """Move the manual clock, and do before returning everything that has become due.

        Due are: jobs whose time has come, schedules (one job each, however many of its times have passed), leases that
        ended, jobs that expired, workers that fell silent, dependants of jobs that ended, retention, and webhook
        deliveries, each of which is attempted once. To see a state that nobody has reacted to yet, move the clock
        itself instead: `server.clock.advance(seconds)`.

        Raises:
            TypeError: the server has another clock; time cannot be moved.
            RuntimeError: the server does not run.
        """
        if not isinstance(self._clock, ManualClock):
            raise TypeError("advance() needs EmbeddedServer(clock=ManualClock())")
        if self._thread is None:
            raise RuntimeError("the server does not run")
        self._clock.advance(seconds)
        asyncio.run_coroutine_threadsafe(self._runtime.sweep(), self._loop).result(SWEEP_TIMEOUT)

    def _settings(self) -> ServerSettings:
        return ServerSettings(port=self._port, **self._options)

    def _serve(
        self,
        settings: ServerSettings,
        started: _Started,
    ) -> None:
        async def main() -> None:
            runtime = Runtime(settings, self._clock)
            stopping = asyncio.Event()
            try:
                url = await runtime.start()
            except BaseException as error:
                started.set_exception(error)
                return
            started.set_result((url, runtime, asyncio.get_running_loop(), stopping))
            await stopping.wait()
            await runtime.stop()

        with asyncio.Runner(loop_factory=new_event_loop) as runner, held_at_exit(runner.get_loop()):
            runner.run(main())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().run_in_executor(None, self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.stop)


def _stop_when_started(started: _Started) -> None:
    if started.exception() is None:
        _, _, loop, stopping = started.result()
        loop.call_soon_threadsafe(stopping.set)
