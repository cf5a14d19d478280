"""`Spooled`: jobs and workers for one FastAPI application."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any, Literal, Protocol, TypedDict, Unpack

from fastapi import APIRouter, FastAPI, params

from spooled import AsyncSpooledClient, ClientConfig, Job
from spooled.client import ClientOptions
from spooled.worker import AsyncWorkerGroup, Middleware
from spooled_contrib.fastapi._health import make_router
from spooled_contrib.fastapi._jobs import JobRouter
from spooled_contrib.fastapi._runtime import Runtime, make_workers
from spooled_contrib.fastapi._standalone import AppWorkers, find_app

logger = logging.getLogger("spooled.fastapi")

RUN_WORKER = "SPOOLED_RUN_WORKER"
"""Environment variable: whether applications run workers, when `Spooled(run_worker=...)` does not say it."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Server(Protocol):
    """What a test points the application at; the embedded server is one."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str: ...


class WorkerOptions(TypedDict, total=False):
    """Options of every queue's worker, see `AsyncSpooledWorker`."""

    poll_interval: float
    lease_duration: int
    heartbeat_fraction: float
    cleanup_grace: float
    timeout_grace: float
    on_stuck: Literal["keep", "fail", "exit"]
    hostname: str | None
    metadata: Mapping[str, Any] | None
    transport: Literal["auto", "httpx", "aiohttp"]
    wakeups: bool | Literal["auto"]


class Spooled(JobRouter):
    """Background jobs for a FastAPI application.

        spooled = Spooled()
        app = FastAPI(lifespan=spooled.lifespan)

        @spooled.job("emails", concurrency=10)
        async def send_welcome(mail: Welcome) -> None: ...

        @app.post("/signup")
        async def sign_up(user: User) -> None:
            await send_welcome.enqueue(Welcome(to=user.email))

    Nothing is read from the environment and nothing is connected before the lifespan begins.

    Args:
        api_key: Default: the environment variable SPOOLED_API_KEY.
        config: A ready client configuration, in place of the environment.
        run_worker: Whether the application's own process works on the jobs. Default: the environment variable
            SPOOLED_RUN_WORKER, else no; then `spooled worker main:spooled` does it.
        shutdown_timeout: Seconds that running jobs get when the application ends; what has not ended by then is
            given back. Keep it below the time that the server's supervisor allows (gunicorn, Kubernetes: 30 s).
            Default 20.
        ready_within: The application is ready while the server has answered each worker within so many seconds.
            Default 60.
        statistics: A dependency, or several, that protect `/queues` of `router`. Without it there is no `/queues`.
        app: The application, as an object, a factory, or text like "shop.main:app". Only `spooled worker` needs it,
            and only when the module it is given has not exactly one FastAPI object.
        middleware: Hooks around every job, see `spooled.worker.Middleware`; the first is the outermost.
        worker: Further options of the workers, such as `{"lease_duration": 60}`.
        options: Options of the client: base_url, timeout, retry, ...; see `AsyncSpooledClient`.

    Raises:
        TypeError: An option is unknown.
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        config: ClientConfig | None = None,
        run_worker: bool | None = None,
        shutdown_timeout: float = 20.0,
        ready_within: float = 60.0,
        statistics: params.Depends | Sequence[params.Depends] | None = None,
        app: FastAPI | Callable[[], FastAPI] | str | None = None,
        middleware: Sequence[Middleware] = (),
        worker: WorkerOptions | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__()
        _check_names("Spooled", options, ClientOptions)
        _check_names("Spooled(worker=...)", worker or {}, WorkerOptions)
        self._client_options: dict[str, Any] = {"api_key": api_key, "config": config, **options}
        self._worker_options: dict[str, Any] = {
            **(worker or {}),
            "middleware": middleware,
            "shutdown_timeout": shutdown_timeout,
        }
        self._run_worker = run_worker
        self._ready_within = ready_within
        self._statistics = [statistics] if isinstance(statistics, params.Depends) else list(statistics or ())
        self._app = app
        self._server: Server | None = None
        self._standalone = False
        self._runtime: Runtime | None = None
        self._find_runtime = self._current

    # --- lifespan ---------------------------------------------------------------------------------------------

    def lifespan(self, app: Any) -> AbstractAsyncContextManager[None]:
        """Return the application's lifespan: `FastAPI(lifespan=spooled.lifespan)`.

        Opens the client and, with `run_worker`, starts the workers; drains them at the end. Installs no signal
        handlers. Also usable by itself: `async with spooled.lifespan(app): ...` in a script or test.

        Raises:
            ConfigurationError: There is no API key, or an environment variable has a bad value.
            RuntimeError: This object serves another application at the moment.
        """
        return self._running(app, {})

    def wrap(self, lifespan: Lifespan | Callable[[Any], AsyncGenerator[Any, None]]) -> Lifespan:
        """`FastAPI(lifespan=spooled.wrap(my_lifespan))`: yours around ours.

        So jobs find everything that yours has opened, and have ended before it is closed. What yours yields reaches
        `request.state`, and the `state` of a job's connection.
        """
        given: Any = lifespan
        outer: Lifespan = (
            contextlib.asynccontextmanager(given) if inspect.isasyncgenfunction(given) else given
        )

        @contextlib.asynccontextmanager
        async def wrapped(app: Any) -> AsyncGenerator[Any, None]:
            async with outer(app) as state, self._running(app, state or {}):
                yield state

        return wrapped

    @functools.cached_property
    def router(self) -> APIRouter:
        """Probes, and statistics when they are protected: `app.include_router(spooled.router, prefix="/spooled")`.

        `/health/live` answers while the event loop does. `/health/ready` is 503 while a worker of this process does
        not work. `/health/drain` is 503 while the workers are being stopped. `/queues` is there when
        `Spooled(statistics=...)` names a dependency that protects it.

        Its lifespan is `lifespan`, and merges into that of the application that includes it.
        """
        return make_router(self, self._statistics, self._ready_within, lambda app: self._running(app, None))

    @contextlib.asynccontextmanager
    async def _running(self, app: Any, state: Mapping[str, Any] | None) -> AsyncGenerator[None, None]:
        running = self._runtime
        if running is not None:
            if running.app is not app:
                raise RuntimeError(
                    "this Spooled object serves another application already; give each application its own"
                )
            # The application has our lifespan, and includes our router too.
            yield
            return
        runtime = Runtime(app, self._make_client(), state)
        async with runtime.open():
            self._runtime = runtime
            app.state.spooled = self
            try:
                if self._wants_workers():
                    await self._start_workers(runtime)
                yield
            finally:
                try:
                    await runtime.stop_workers()
                finally:
                    self._runtime = None

    async def _start_workers(self, runtime: Runtime) -> None:
        if not self.jobs:
            logger.warning(
                "no jobs are declared, so there is nothing to work on; import the modules that do it"
            )
            return
        await runtime.start_workers(
            make_workers(self.jobs, runtime.client, self._worker_options, self._current)
        )

    def _wants_workers(self) -> bool:
        if self._standalone or self._server is not None:
            return False
        if self._run_worker is not None:
            return self._run_worker
        return _truth(os.environ.get(RUN_WORKER, ""))

    def _make_client(self) -> AsyncSpooledClient:
        options = dict(self._client_options)
        if self._server is not None:
            options.update(api_key=self._server.api_key, base_url=self._server.url)
        return AsyncSpooledClient(**options)

    # --- in use -----------------------------------------------------------------------------------------------

    @property
    def client(self) -> AsyncSpooledClient:
        """The client, for code that is no endpoint; endpoints and handlers take `SpooledDep`.

        Raises:
            RuntimeError: The lifespan is not running.
        """
        return self._current().client

    @property
    def runtime(self) -> Runtime | None:
        """What runs at the moment, or None."""
        return self._runtime

    def _current(self) -> Runtime:
        if self._runtime is None:
            raise RuntimeError(
                "Spooled is not running: the application's lifespan has not begun. Pass "
                "FastAPI(lifespan=spooled.lifespan); in tests, write `with TestClient(app)`; elsewhere, "
                "`async with spooled.lifespan(app)`"
            )
        return self._runtime

    # --- tests ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def testing(self, server: Server) -> Generator[Spooled, None, None]:
        """Point the application at another server, without workers of its own, for as long as the block lasts.

            with EmbeddedServer() as server, spooled.testing(server), TestClient(app) as client: ...

        Raises:
            RuntimeError: The application runs already.
        """
        if self._runtime is not None:
            raise RuntimeError("enter spooled.testing(server) before the application's lifespan begins")
        before, self._server = self._server, server
        try:
            yield self
        finally:
            self._server = before

    async def drain(self) -> list[Job]:
        """Run the jobs that are due, until none is left, and return them as they ended.

        Jobs that these jobs enqueue are run too. What is scheduled for later, retries included, stays.

        Raises:
            RuntimeError: The application's own workers run, or its lifespan does not.
            SpooledError: The server refuses the key, or cannot be reached.
        """
        from spooled.testing import drain_async

        runtime = self._current()
        if runtime.group is not None:
            raise RuntimeError(
                "drain() is for tests, where no workers run: enter spooled.testing(server), or run_worker=False"
            )
        if not self.jobs:
            return []
        return await drain_async(
            *make_workers(self.jobs, runtime.client, self._worker_options, self._current)
        )

    def drain_sync(self) -> list[Job]:
        """As `drain`, from a thread: for tests with `TestClient`.

        Raises:
            RuntimeError: As `drain`; or this is the application's event loop.
        """
        return self._current().run_sync(self.drain)

    # --- a process of its own ---------------------------------------------------------------------------------

    def __spooled_worker__(self, module: ModuleType) -> AsyncWorkerGroup:
        """Return the workers as `spooled worker MODULE:NAME` runs them.

        Raises:
            ValueError: There are no jobs, or the application is not found.
        """
        if not self.jobs:
            raise ValueError(
                f"{module.__name__} declares no jobs; import the modules that do it, or include their routers"
            )
        app = find_app(self._app, module)
        self._standalone = True
        client = self._make_client()
        workers = make_workers(self.jobs, client, self._worker_options, self._current)
        return AppWorkers(workers, client, app, self._enter)

    @contextlib.asynccontextmanager
    async def _enter(self, app: FastAPI) -> AsyncGenerator[None, None]:
        """The application's lifespan, and ours if it is no part of that."""
        async with app.router.lifespan_context(app) as state, self._running(app, state or {}):
            self._current().state = dict(state or {})
            yield

    def __repr__(self) -> str:
        queues = sorted({job.queue_name for job in self.jobs})
        return f"<Spooled queues={queues} running={self._runtime is not None}>"


def _check_names(owner: str, given: Mapping[str, Any], known: Any) -> None:
    for name in given:
        if name not in known.__annotations__:
            near = difflib.get_close_matches(name, known.__annotations__, n=1)
            hint = (
                f"; did you mean {near[0]!r}?"
                if near
                else f"; it has {', '.join(sorted(known.__annotations__))}"
            )
            raise TypeError(f"{owner} has no option {name!r}{hint}")


def _truth(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"{RUN_WORKER} must be 1 or 0, true or false, got {text!r}")
