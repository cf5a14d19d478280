"""Which handler a job goes to, and what type its payload has."""

from __future__ import annotations

import functools
import inspect
import logging
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from spooled.codec import JOB_TYPE, PayloadCodec, result_codec
from spooled.worker._results import Success, prepare_result
from spooled.worker.context import JobContext

logger = logging.getLogger("spooled.worker")


Prepare = Callable[[object], Success]
Wrap = Callable[[Callable[[Any], Any], bool, Prepare], Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One handler.

    Attributes:
        call: Takes the context. For a coroutine handler, awaiting what it returns runs it.
        plain: Whether it is a plain function, which must not run on a loop.
    """

    call: Callable[[Any], Any]
    plain: bool


class Routes:
    """The handlers of one worker: one for any job, and one for each job type."""

    def __init__(self) -> None:
        self._default: Callable[[Any], Any] | None = None
        self._typed: dict[str, Callable[[Any], Any]] = {}
        self._payloads: dict[Callable[[Any], Any], PayloadCodec | None] = {}
        self._declared: dict[str | None, Any] = {}

    def __bool__(self) -> bool:
        return self._default is not None or bool(self._typed)

    def __iter__(self) -> Iterator[Callable[[Any], Any]]:
        if self._default is not None:
            yield self._default
        yield from self._typed.values()

    @property
    def job_types(self) -> list[str]:
        return sorted(self._typed)

    def registered(self) -> list[tuple[Callable[[Any], Any], str | None, Any]]:
        """Return the arguments of `add` for each handler."""
        handlers = ([] if self._default is None else [(None, self._default)]) + list(self._typed.items())
        return [(handler, job_type, self._declared[job_type]) for job_type, handler in handlers]

    def add(self, handler: Callable[[Any], Any], job_type: str | None, payload: Any = None) -> None:
        """Register a handler for one job type, or for every job that no other handler takes.

        A second handler for every job takes the place of the first, as with the official SDK; the log says so.

        Raises:
            TypeError: It cannot be a handler, or the type of its payload cannot be found out.
            ValueError: There is a handler for that job type already.
        """
        check_handler(handler)
        taken = self._default if job_type is None else self._typed.get(job_type)
        if taken is not None and taken is not handler:
            if job_type is not None:
                raise ValueError(
                    f"this worker already has the handler {name_of(taken)} for jobs of type {job_type!r}; "
                    "give the new one a job type of its own"
                )
            logger.warning(
                'handler %s takes the place of %s; for several kinds of jobs use @worker.handler("...")',
                name_of(handler),
                name_of(taken),
            )
        kind = payload if payload is not None else payload_type_of(handler)
        self._payloads[handler] = None if kind is None else PayloadCodec(kind, job_type)
        self._declared[job_type] = payload
        if job_type is None:
            self._default = handler
        else:
            self._typed[job_type] = handler

    def bind(self, wrap: Wrap) -> BoundRoutes:
        """Return the routes as the engine uses them.

        Args:
            wrap: Puts the middleware around a handler; told whether that is a plain function, and how its result is
                prepared.
        """

        def route(handler: Callable[[Any], Any]) -> Route:
            plain = is_sync(handler)
            prepare = functools.partial(prepare_result, codec=result_codec(result_type_of(handler)))
            return Route(wrap(_typed(handler, self._payloads[handler], plain), plain, prepare), plain)

        default = None if self._default is None else route(self._default)
        return BoundRoutes(default, {name: route(handler) for name, handler in self._typed.items()})


class BoundRoutes:
    """Finds the route of a job."""

    def __init__(self, default: Route | None, typed: dict[str, Route]) -> None:
        self._default = default
        self._typed = typed

    def find(self, payload: object) -> Route | None:
        if self._typed:
            job_type = job_type_of(payload)
            if job_type is not None and job_type in self._typed:
                return self._typed[job_type]
        return self._default

    def explain(self, payload: object) -> str:
        """Return why there is no route."""
        known = ", ".join(repr(name) for name in sorted(self._typed))
        job_type = job_type_of(payload)
        found = (
            "the payload names no job_type" if job_type is None else f"no handler for job_type {job_type!r}"
        )
        return f"{found}; this worker handles {known}"


def is_sync(handler: Callable[[Any], Any]) -> bool:
    """Return whether no coroutine function is in a handler, however it is wrapped."""
    return not any(inspect.iscoroutinefunction(layer) for layer in _layers(handler))


def check_handler(handler: object) -> None:
    """Refuse what cannot be a handler.

    Raises:
        TypeError: It is not callable, a class, or a generator function, whose call would run nothing.
    """
    if not callable(handler) or isinstance(handler, type):
        raise TypeError(f"a handler must be a function that takes the job context, got {handler!r}")
    for layer in _layers(handler):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            raise TypeError(
                f"{name_of(handler)} is a generator: calling it would run nothing. "
                "Return the job's result in place of yielding it"
            )


def _layers(handler: Callable[..., Any]) -> Iterator[Any]:
    """Yield a handler and what it is made of: functions of partials and decorators, and the `__call__` of objects."""
    waiting: list[Any] = [handler]
    seen: list[Any] = []
    while waiting:
        layer = waiting.pop()
        if any(layer is one for one in seen):
            continue
        seen.append(layer)
        yield layer
        if isinstance(layer, functools.partial):
            waiting.append(layer.func)
        elif not inspect.isroutine(layer):
            waiting.append(type(layer).__call__)
        if hasattr(layer, "__wrapped__"):
            waiting.append(layer.__wrapped__)


def payload_type_of(handler: Callable[[Any], Any]) -> Any:
    """`Email` for a handler declared as `def send(ctx: JobContext[Email])`; None when it declares nothing.

    Raises:
        TypeError: The annotation is there, but its names cannot be found.
    """
    target = handler
    while isinstance(target, functools.partial):
        target = target.func
    if not (inspect.isfunction(target) or inspect.ismethod(target)):
        target = getattr(target, "__call__", target)  # noqa: B004
    parameters = list(getattr(target, "__annotations__", {}).items())
    if not parameters or parameters[0][0] == "return":
        return None
    name, annotation = parameters[0]
    if isinstance(annotation, str):
        if "JobContext[" not in annotation:
            return None
        try:
            annotation = typing.get_type_hints(target, include_extras=True)[name]
        except Exception as error:
            raise TypeError(
                f"the annotation {annotation!r} of {name_of(handler)} cannot be resolved ({error}); define the payload "
                "type at module level, or name it with @worker.handler(..., payload=TheType)"
            ) from error
    origin = typing.get_origin(annotation)
    if not (isinstance(origin, type) and issubclass(origin, JobContext)):
        return None
    (argument,) = typing.get_args(annotation)
    return None if argument is Any or isinstance(argument, typing.TypeVar) else argument


def name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def result_type_of(handler: Callable[..., Any]) -> Any:
    """Return the annotation of what a handler returns; None when it declares nothing, or nothing that can be found."""
    target: Any = handler
    while isinstance(target, functools.partial):
        target = target.func
    if not (inspect.isfunction(target) or inspect.ismethod(target)):
        target = getattr(target, "__call__", target)  # noqa: B004
    annotation = getattr(target, "__annotations__", {}).get("return")
    if isinstance(annotation, str):
        try:
            annotation = typing.get_type_hints(target, include_extras=True).get("return")
        except Exception:  # a name that is only there for type checkers
            return None
    return None if annotation in (Any, type(None)) else annotation


def _typed(handler: Callable[[Any], Any], payload: PayloadCodec | None, plain: bool) -> Callable[[Any], Any]:
    if payload is None:
        return handler
    if plain:

        def call(ctx: JobContext[Any]) -> Any:
            ctx.payload = payload.load(ctx.payload)
            return handler(ctx)

        return call

    async def call_async(ctx: JobContext[Any]) -> Any:
        ctx.payload = payload.load(ctx.payload)
        return await handler(ctx)

    return call_async


def job_type_of(payload: object) -> str | None:
    """Return the type that a payload names, if it is an object and the name is text."""
    found = payload.get(JOB_TYPE) if isinstance(payload, dict) else None
    return found if isinstance(found, str) else None
