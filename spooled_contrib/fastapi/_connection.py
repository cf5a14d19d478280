"""The connection that a dependency sees while a job runs: the application and its state, and no request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.requests import HTTPConnection


class JobConnection(HTTPConnection):
    """What `conn: HTTPConnection` is in a job: `conn.app` and `conn.state` are those that requests have.

    Looking up a header, cookie or query parameter raises RuntimeError, and so does the URL.

    Args:
        app: The application.
        state: What its lifespan has yielded; copied, as for a request. None when that is not known.
        request_stack: Cleans up after the job.
        function_stack: Cleans up first.
    """

    def __init__(
        self,
        app: Starlette,
        state: Mapping[str, Any] | None,
        request_stack: AsyncExitStack,
        function_stack: AsyncExitStack,
    ) -> None:
        # Starlette knows connections of two types only. The stacks are where FastAPI looks for them.
        super().__init__(
            {
                "type": "http",
                "app": app,
                "path": "/",
                "path_params": {},
                "query_string": b"",
                "headers": [],
                "fastapi_inner_astack": request_stack,
                "fastapi_function_astack": function_stack,
            }
        )
        self._job_state: State = State(dict(state)) if state is not None else _UnknownState()

    @property
    def state(self) -> State:
        """The lifespan's state, in a copy of this job's own."""
        return self._job_state

    @property
    def headers(self) -> Any:
        """Raises when something is looked up: nobody has sent a request."""
        return _Nothing("headers")

    @property
    def cookies(self) -> Any:
        """Raises when something is looked up: nobody has sent a request."""
        return _Nothing("cookies")

    @property
    def query_params(self) -> Any:
        """Raises when something is looked up: nobody has sent a request."""
        return _Nothing("query parameters")

    @property
    def url(self) -> NoReturn:
        """Not there: nobody has sent a request."""
        raise _no("URL")

    @property
    def base_url(self) -> NoReturn:
        """Not there: nobody has sent a request."""
        raise _no("base URL")


class _Nothing(Mapping[str, Any]):
    """What a request would have. Were it only empty, a dependency might take its caller for an anonymous one."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getitem__(self, key: str) -> NoReturn:
        raise _no(self._what)

    def __iter__(self) -> NoReturn:
        raise _no(self._what)

    def __len__(self) -> NoReturn:
        raise _no(self._what)

    def __contains__(self, key: object) -> NoReturn:
        raise _no(self._what)

    def getlist(self, key: str) -> NoReturn:  # noqa: ARG002 - the signature is Starlette's
        raise _no(self._what)


def _no(what: str) -> RuntimeError:
    return RuntimeError(f"a job has no {what}: it is no HTTP request; put what it needs into the payload")


class _UnknownState(State):
    def __init__(self) -> None:
        super().__init__({})

    def __getattr__(self, key: Any) -> Any:
        if key in self._state:
            return self._state[key]
        raise AttributeError(
            f"jobs do not see state.{key}: the worker was started by include_router(spooled.router), which is not told "
            "what the application's own lifespan yields; use FastAPI(lifespan=spooled.wrap(my_lifespan))"
        )
