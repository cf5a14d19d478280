"""FastAPI's dependencies for handlers, solved by FastAPI itself.

So caching, nesting, threads for plain functions, clean-up and overrides are what they are in an endpoint. This is the
only file that knows FastAPI's insides; docs/decisions/fastapi-dependencies.md says why.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, cast, get_args, get_origin

from fastapi import Request, params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, solve_dependencies
from fastapi.security.base import SecurityBase
from starlette.applications import Starlette

from spooled_contrib.fastapi._connection import JobConnection
from spooled_contrib.fastapi._threads import in_own_threads

_FIELDS = {
    "path_params": "path",
    "query_params": "query",
    "header_params": "headers",
    "cookie_params": "cookies",
}
_OBJECTS = {
    "request_param_name": "the Request",
    "websocket_param_name": "the WebSocket",
    "response_param_name": "the Response",
    "background_tasks_param_name": "BackgroundTasks",
    "security_scopes_param_name": "SecurityScopes",
}


class Dependencies:
    """The dependencies of one handler.

    Args:
        handler: Its name, for messages.
        parameters: Those that are to be filled, each with `Depends`, and their annotations as objects.

    Raises:
        TypeError: A parameter is no dependency, or a dependency needs what only an HTTP request has.
    """

    def __init__(self, handler: str, parameters: Sequence[inspect.Parameter]) -> None:
        wanted = []
        for parameter in parameters:
            if is_dependency(parameter):
                wanted.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            elif parameter.default is inspect.Parameter.empty:
                raise TypeError(
                    f"{handler} has a parameter {parameter.name!r} that nothing fills: the first parameter is the "
                    "payload or the job's context, all others need Depends(...), a JobContext annotation or a default"
                )

        def slots() -> None:
            """Stands for the handler: FastAPI looks at its signature only."""

        slots.__signature__ = inspect.Signature(wanted)  # type: ignore[attr-defined] # that is how inspect is told
        self._dependant = get_dependant(path="/", call=slots)
        self._originals: dict[Callable[..., Any], Callable[..., Any]] = {}
        wrappers: dict[Callable[..., Any], Callable[..., Any]] = {}
        for dependant in self._dependant.dependencies:
            _refuse_requests(dependant, handler, ())
            self._move_to_own_threads(dependant, wrappers)

    def __bool__(self) -> bool:
        return bool(self._dependant.dependencies)

    def _move_to_own_threads(
        self, dependant: Dependant, wrappers: dict[Callable[..., Any], Callable[..., Any]]
    ) -> None:
        original = dependant.call
        if original is not None:
            # The same for the same function, for that is what FastAPI caches by.
            wrapper = wrappers.setdefault(original, in_own_threads(original))
            dependant.call = wrapper
            self._originals[wrapper] = original
        for inner in dependant.dependencies:
            self._move_to_own_threads(inner, wrappers)

    def _overrides_of(self, app: Starlette) -> object | None:
        overrides = getattr(app, "dependency_overrides", None)
        return _Overrides(overrides, self._originals) if overrides else None

    @asynccontextmanager
    async def solve(
        self, app: Starlette, state: Mapping[str, Any] | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The arguments by name; on leaving, what dependencies do after their `yield` is done.

        An exception of the block reaches them, and goes on even if one of them swallows it: a failed job must not
        count as done by an oversight.
        """
        failure: BaseException | None = None
        async with AsyncExitStack() as request_stack, AsyncExitStack() as function_stack:
            connection = JobConnection(app, state, request_stack, function_stack)
            solved = await solve_dependencies(
                # All that FastAPI does with it here is what every connection can do.
                request=cast("Request", connection),
                dependant=self._dependant,
                dependency_overrides_provider=self._overrides_of(app),
                async_exit_stack=request_stack,
                embed_body_fields=False,
            )
            if solved.errors:
                # Only an override can have come to need a request.
                raise TypeError(f"a dependency needs an HTTP request, and a job has none: {solved.errors}")
            try:
                yield solved.values
            except BaseException as error:
                failure = error
                raise
        if failure is not None:
            raise failure


class _Overrides:
    """The application's overrides, found by the functions that stand for the originals."""

    def __init__(self, overrides: Mapping[Any, Any], originals: Mapping[Any, Any]) -> None:
        self.dependency_overrides = self
        self._overrides = overrides
        self._originals = originals

    def get(self, call: Any, default: Any) -> Any:
        return self._overrides.get(self._originals.get(call, call), default)


def is_dependency(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter is filled by `Depends`, in its annotation or as its default."""
    if isinstance(parameter.default, params.Depends):
        return True
    annotation = parameter.annotation
    return get_origin(annotation) is Annotated and any(
        isinstance(extra, params.Depends) for extra in get_args(annotation)[1:]
    )


def _refuse_requests(dependant: Dependant, handler: str, path: tuple[str, ...]) -> None:
    name = getattr(dependant.call, "__qualname__", None) or repr(dependant.call)
    path = (*path, name)
    problem = _what_it_needs(dependant)
    if problem is not None:
        way = "" if len(path) == 1 else f" (by way of {' -> '.join(path)})"
        raise TypeError(f"{handler} depends on {name}{way}, which needs {problem}")
    for inner in dependant.dependencies:
        _refuse_requests(inner, handler, path)


def _what_it_needs(dependant: Dependant) -> str | None:
    call: object = dependant.call
    if isinstance(call, SecurityBase):
        return "the caller's credentials; a job has no caller. Put the user's id into the payload"
    for attribute, what in _OBJECTS.items():
        parameter = getattr(dependant, attribute)
        if parameter is not None:
            hint = "; a job has no HTTP request"
            if attribute in ("request_param_name", "websocket_param_name"):
                hint += f". If only .app or .state is used, declare {parameter}: HTTPConnection, which jobs have too"
            return f"{what} as {parameter!r}{hint}"
    for attribute, where in _FIELDS.items():
        fields = getattr(dependant, attribute)
        if fields:
            return f"{fields[0].name!r} from the {where}; a job has no HTTP request"
    if dependant.body_params:
        return f"{dependant.body_params[0].name!r} from the body; a job has no HTTP request"
    return None
