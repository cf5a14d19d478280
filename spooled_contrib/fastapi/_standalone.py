"""`spooled worker main:spooled`: the workers in a process of their own, inside the application's lifespan."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import ModuleType

from fastapi import FastAPI

from spooled import AsyncSpooledClient
from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup


class AppWorkers(AsyncWorkerGroup):
    """A group of workers that runs between the start and the end of an application.

    Args:
        workers: Not started.
        client: Theirs; closed at the end.
        app: The application.
        enter: Begins its lifespan.
    """

    def __init__(
        self,
        workers: Sequence[AsyncSpooledWorker],
        client: AsyncSpooledClient,
        app: FastAPI,
        enter: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    ) -> None:
        super().__init__(*workers)
        self._client = client
        self._app = app
        self._enter = enter

    async def start(self, *, burst: bool = False, max_jobs: int | None = None) -> None:
        """Begin the lifespan, work until `stop()`, and end it."""
        async with self._client, self._enter(self._app):
            await super().start(burst=burst, max_jobs=max_jobs)


def find_app(app: FastAPI | Callable[[], FastAPI] | str | None, module: ModuleType) -> FastAPI:
    """The application that was named, or the only one in the module.

    Raises:
        ValueError: There is none, or more than one.
    """
    found: object = app
    if app is None:
        apps = {
            id(value): (name, value) for name, value in vars(module).items() if isinstance(value, FastAPI)
        }
        if len(apps) != 1:
            names = ", ".join(sorted(name for name, _ in apps.values()))
            what = f"several FastAPI applications ({names})" if apps else "no FastAPI application"
            raise ValueError(
                f'{module.__name__} has {what}; say whose lifespan jobs run in, as in Spooled(app="shop.main:app")'
            )
        ((_, found),) = apps.values()
    elif isinstance(app, str):
        found = _load(app)
    if not isinstance(found, FastAPI) and callable(found):
        found = found()
    if not isinstance(found, FastAPI):
        raise ValueError(f"Spooled(app={app!r}) is no FastAPI application, nor a function that returns one")
    return found


def _load(path: str) -> object:
    name, colon, attribute = path.partition(":")
    if not colon or not name or not attribute:
        raise ValueError(f'Spooled(app={path!r}) must be "MODULE:NAME", as in "shop.main:app"')
    module = importlib.import_module(name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"Spooled(app={path!r}): module {name} has no {attribute!r}") from None
