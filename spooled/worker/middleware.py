"""Hooks around claim, run and ack: the one place where tracing, metrics and the like attach to a worker.

A worker takes them as `middleware=[...]`. `wrap_handler`, `wrap_async_handler` and `notify` put them to work.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from spooled.worker._log import WorkerLogger
from spooled.worker._results import plain_result
from spooled.worker.context import JobContext

logger = WorkerLogger("spooled.worker.middleware")

Handler = Callable[[Any], object]
AsyncHandler = Callable[[Any], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ClaimInfo:
    """One request for work, answered or not.

    Attributes:
        queue_name: The queue that was asked.
        worker_id: Who asked.
        asked: The most jobs that the worker had room for.
        jobs: How many came; 0 when it failed.
        seconds: How long the request took.
        error: Why it failed, or None.
    """

    queue_name: str
    worker_id: str
    asked: int
    jobs: int
    seconds: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class AckInfo:
    """How one execution of a job ended for the server. There is one of these for every claimed job.

    Attributes:
        context: What the handler was given.
        operation: What the worker last asked for: `complete` or `fail`; `heartbeat` when a lost lease was noticed
            while the handler ran, so that there was nothing to ask for any more.
        outcome: `accepted`, `lost` (the lease was gone: the job is, or will be, run again), `refused` (the server
            will never take it; the lease runs out), or `unsettled` (the worker stopped before it was decided).
        attempts: Complete and fail requests that were sent; 0 for `heartbeat`.
        seconds: From the claim until now.
        run_seconds: How long the handler ran; None when it has not returned yet.
        error: The text that the job failed with, whether or not the server took it; None for a success.
        answer: Why the outcome is not `accepted`; None when it is.
        control: What became of the job when its handler decided that (`Retry`, `Snooze`, `Discard`) or the worker's
            shutdown did (`released`). Such a job is completed for the server, but its work was not done.
        job_type: `job_type` of the payload as it was claimed; by now the handler may have put something else into
            `context.payload`.
    """

    context: JobContext[Any]
    operation: Literal["complete", "fail", "heartbeat"]
    outcome: Literal["accepted", "lost", "refused", "unsettled"]
    attempts: int
    seconds: float
    run_seconds: float | None
    error: str | None = None
    answer: str | None = None
    control: Literal["retried", "snoozed", "released", "discarded"] | None = None
    job_type: str | None = None

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.context.job_id

    @property
    def queue_name(self) -> str:
        """The queue it came from."""
        return self.context.queue_name


class Middleware:
    """Subclass it and override what you need; every hook does nothing by itself.

    The first middleware of a worker is the outermost. One instance serves all jobs of its worker, many at a time
    and from several threads: what belongs to one job goes into local variables.

    A subclass whose hooks cannot work (misspelled, or `async` where it must not be) is refused when it is defined.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, participant in vars(cls).items():
            _check_hook(cls, name, participant)

    def claimed(self, claim: ClaimInfo) -> None:
        """A claim was answered or has failed.

        Called on the worker's I/O thread, which keeps the leases: be quick and never block. What it raises is
        logged and ignored.
        """

    def around(self, ctx: JobContext[Any]) -> contextlib.AbstractContextManager[object]:
        """A context manager that is entered before the handler and left after it.

        It serves plain functions, in their thread, and coroutines, in their task; with coroutines it must not
        block. Usually a method with `@contextmanager` and one `yield`, at which the handler's exception is raised.

        What it raises fails the job as if the handler had raised it. It cannot hide the handler's exception or
        change its result: override `run` and `run_async` for that.
        """
        return contextlib.nullcontext(ctx)

    def run(self, ctx: JobContext[Any], call_next: Callable[[], object]) -> object:
        """Run a plain function: call `call_next` and return what is to be the job's result.

        What it raises fails the job. When it does not call `call_next`, the handler does not run and the job is
        completed with what this returns.

        The result is encoded when the outermost `run` has returned; without one, when the handler has. So what the
        `around` of a middleware further out has opened is still open then.
        """
        with self.around(ctx):
            try:
                return call_next()
            except BaseException as error:
                failure = error
                raise
        raise failure  # `around` has swallowed it, and a failed job must not be completed by an oversight

    async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Awaitable[object]]) -> object:
        """As `run`, for a coroutine: `return await call_next()`.

        There, a job that is aborted raises `CancelledError`; let it through.
        """
        with self.around(ctx):
            try:
                return await call_next()
            except BaseException as error:
                failure = error
                raise
        raise failure

    def acked(self, ack: AckInfo) -> None:
        """It is decided how an execution ended for the server. Called once for every claimed job.

        Not so in the child processes of a worker with `isolation="process"`, where `around` and `run` are called:
        `acks_are_told` says so there.

        It may come before the handler has returned, when the job was aborted. Called on the I/O thread, like
        `claimed`.
        """


_acks_are_told = True


def acks_are_told() -> bool:
    """Return whether `claimed` and `acked` are called in this process: not in a worker's child processes."""
    return _acks_are_told


def tell_no_acks() -> None:
    """Say that this is a child process, which runs handlers only."""
    global _acks_are_told
    _acks_are_told = False


HOOKS = ("claimed", "around", "run", "run_async", "acked")


def check_middlewares(middlewares: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Return the middlewares of a worker as a tuple.

    Raises:
        TypeError: One of them is not an instance of `Middleware`.
    """
    if isinstance(middlewares, Middleware) or not isinstance(middlewares, Iterable):
        raise TypeError(f"middleware must be a list of middlewares, got {_shown(middlewares)}")
    checked = tuple(middlewares)
    for one in checked:
        if isinstance(one, type) and issubclass(one, Middleware):
            raise TypeError(f"middleware takes instances: write {one.__name__}(), not {one.__name__}")
        if not isinstance(one, Middleware):
            raise TypeError(
                f"a middleware must be an instance of spooled.worker.Middleware, got {_shown(one)}"
            )
    return checked


def wrap_handler(
    handler: Handler, middlewares: Sequence[Middleware], prepare: Callable[[object], object] | None = None
) -> Handler:
    """Return a plain function with the middlewares around it; the function itself when none of them runs around it.

    Args:
        handler: The function.
        middlewares: Outermost first.
        prepare: Called with the result as soon as no middleware can change it any more, within all that are outside.

    Raises:
        TypeError: A middleware has a `run_async` of its own but no `run`.
    """
    inside, outside = _split(middlewares, "run", "run_async")
    for one in inside:
        handler = _layer(one, handler)
    if prepare is not None:
        handler = _preparing(handler, prepare)
    for one in outside:
        handler = _layer(one, handler)
    return handler


def wrap_async_handler(
    handler: AsyncHandler,
    middlewares: Sequence[Middleware],
    prepare: Callable[[object], object] | None = None,
) -> AsyncHandler:
    """As `wrap_handler`, for a function whose result is awaited.

    Raises:
        TypeError: A middleware has a `run` of its own but no `run_async`.
    """
    inside, outside = _split(middlewares, "run_async", "run")
    for one in inside:
        handler = _async_layer(one, handler)
    if prepare is not None:
        handler = _async_preparing(handler, prepare)
    for one in outside:
        handler = _async_layer(one, handler)
    return handler


def runs_around_handlers(one: Middleware) -> bool:
    """Return whether a middleware has anything to do around handlers."""
    return any(_overrides(one, hook) for hook in ("around", "run", "run_async"))


def wants(middlewares: Sequence[Middleware], hook: Literal["claimed", "acked"]) -> bool:
    """Return whether any of them has this hook, so that what nobody looks at is not even made."""
    return any(_overrides(one, hook) for one in middlewares)


def notify(
    middlewares: Sequence[Middleware], hook: Literal["claimed", "acked"], info: ClaimInfo | AckInfo
) -> None:
    """Tell all of them, first to last. Never raises: a broken observer must not cost a job."""
    for one in middlewares:
        try:
            getattr(one, hook)(info)
        except BaseException:  # SystemExit would end the I/O loop, and all leases with it
            logger.exception("%s.%s raised; the worker goes on", type(one).__name__, hook)


def _split(
    middlewares: Sequence[Middleware], needed: str, other: str
) -> tuple[list[Middleware], list[Middleware]]:
    """Return, innermost first, the middlewares up to the last that can change the result, and those around them."""
    layers = [one for one in reversed(middlewares) if _runs(one, needed, other)]
    count = max((n for n, one in enumerate(layers, 1) if _overrides(one, needed)), default=0)
    return layers[:count], layers[count:]


def _layer(one: Middleware, inner: Handler) -> Handler:
    if not _overrides(one, "run"):
        return lambda ctx: one.run(ctx, partial(inner, ctx))
    return lambda ctx: one.run(ctx, lambda: plain_result(inner(ctx)))


def _async_layer(one: Middleware, inner: AsyncHandler) -> AsyncHandler:
    if not _overrides(one, "run_async"):
        return lambda ctx: one.run_async(ctx, partial(inner, ctx))

    async def plain(ctx: JobContext[Any]) -> object:
        return plain_result(await inner(ctx))

    return lambda ctx: one.run_async(ctx, partial(plain, ctx))


def _preparing(inner: Handler, prepare: Callable[[object], object]) -> Handler:
    return lambda ctx: prepare(inner(ctx))


def _async_preparing(inner: AsyncHandler, prepare: Callable[[object], object]) -> AsyncHandler:
    async def call(ctx: JobContext[Any]) -> object:
        return prepare(await inner(ctx))

    return call


def _runs(one: Middleware, needed: str, other: str) -> bool:
    """Return whether the middleware has anything to do around a handler of this kind."""
    if _overrides(one, needed) or _overrides(one, "around"):
        return True
    if _overrides(one, other):
        # Left out in silence, a middleware that checks or rewrites something would simply not do so.
        raise TypeError(
            f"{type(one).__name__} overrides {other}() and this handler needs {needed}(): "
            f"override it too, or override around(), which serves both"
        )
    return False


def _overrides(one: Middleware, hook: str) -> bool:
    return getattr(type(one), hook) is not getattr(Middleware, hook)


def _check_hook(cls: type, name: str, participant: object) -> None:
    if name.startswith("_") or not inspect.isfunction(participant):
        return
    if name not in HOOKS:
        near = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.7)
        if near:
            raise TypeError(
                f"{cls.__name__}.{name} is no hook of a middleware; did you mean {near[0]!r}? "
                "(a method that is not a hook needs a name less like one, or a leading underscore)"
            )
    elif name == "around":
        if inspect.isgeneratorfunction(participant):
            raise TypeError(f"{cls.__name__}.around is a generator: decorate it with @contextmanager")
        if inspect.iscoroutinefunction(participant) or inspect.isasyncgenfunction(participant):
            raise TypeError(
                f"{cls.__name__}.around must not be async, for it serves plain functions too; "
                "what has to be awaited goes into run_async()"
            )
    elif inspect.iscoroutinefunction(participant) is not (name == "run_async"):
        raise TypeError(f"{cls.__name__}.{name} must be {'async' if name == 'run_async' else 'a plain'} def")


def _shown(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
