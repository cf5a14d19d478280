"""How a child process finds the handlers of its worker: by module and name, never by their code.

A pickle of a function is its module and its name, and Python checks that exactly this function is found there. A
middleware is mostly made on the spot and may hold locks. So it is found as a part of the worker, where that is a
variable of a module, and pickled where it is not.
"""

from __future__ import annotations

import importlib
import io
import pickle
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from spooled.worker._forks import end_forks
from spooled.worker._options import WorkerOptions
from spooled.worker._routing import BoundRoutes, Routes, is_sync, name_of
from spooled.worker.middleware import Middleware, runs_around_handlers, tell_no_acks, wrap_handler

_MAIN = "__main__"
_MAIN_IN_CHILD = "__mp_main__"
"""The name that `multiprocessing` gives to the main module in its children, which the usual guard does not let in."""

Main = tuple[str, str]
"""How to find the main module: `("module", name)` or `("path", file)`."""


class _Worker(Protocol):
    """What is used of a worker."""

    _routes: Routes
    _options: WorkerOptions
    _process_setup: Callable[[], object] | None


@dataclass(frozen=True, slots=True)
class _HandlerReference:
    handler: bytes
    job_type: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class _MiddlewareReference:
    """Either the variable that holds the worker, and the place among its middlewares, or the pickled middleware."""

    variable: tuple[str, str] | None
    index: int
    pickled: bytes


@dataclass(frozen=True, slots=True)
class _References:
    setup: bytes
    handlers: list[_HandlerReference]
    middlewares: list[_MiddlewareReference]


# --- in the worker ------------------------------------------------------------------------------------------


def dump_handlers(worker: _Worker) -> bytes:
    """Return where a child finds the plain handlers of a worker, and what runs around them.

    Raises:
        RuntimeError: A child could not find a handler, the type of its payload, or a middleware.
    """
    handlers = []
    for handler, job_type, payload in worker._routes.registered():
        if is_sync(handler):
            name = f"handler {name_of(handler)}"
            advice = "define it with `def` at the top of a module"
            dumped = _dump(handler, name, advice, _why_not_found(handler))
            payload_type = _dump(payload, f"the payload type of {name}", "define it at the top of a module")
            handlers.append(_HandlerReference(dumped, job_type, payload_type))
    around = [
        (index, one) for index, one in enumerate(worker._options.middleware) if runs_around_handlers(one)
    ]
    variable = _variable_of(worker) if around else None
    middlewares = []
    for index, one in around:
        pickled = b""
        if variable is None:
            advice = "make the worker a variable of a module, where child processes then find it"
            pickled = _dump(one, f"middleware {type(one).__name__}", advice)
        middlewares.append(_MiddlewareReference(variable, index, pickled))
    setup = pickle.dumps(worker._process_setup)
    return pickle.dumps(_References(setup, handlers, middlewares))


def main_module() -> Main | None:
    """Return how the main module is found anew; None when it has no file."""
    main = sys.modules[_MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return "module", spec.name
    path = getattr(main, "__file__", None)
    return None if path is None else ("path", path)


def _dump(value: object, what: str, advice: str, reason: str = "") -> bytes:
    try:
        dumped = pickle.dumps(value)
    except Exception as error:
        raise RuntimeError(_refusal(what, reason or str(error), advice)) from error
    if _MAIN.encode() in dumped and main_module() is None:
        raise RuntimeError(_refusal(what, "it is defined in a session or by `python -c`", advice))
    return dumped


def _refusal(what: str, reason: str, advice: str) -> str:
    return (
        f"{what} cannot be used by child processes (isolation='process'), which import it by module and name: "
        f"{reason}; {advice}"
    )


def _why_not_found(handler: Callable[[Any], Any]) -> str:
    name = getattr(handler, "__qualname__", "")
    if "<lambda>" in name:
        return "it is a lambda"
    if "<locals>" in name:
        return "it is defined inside of a function"
    return ""


def _variable_of(worker: _Worker) -> tuple[str, str] | None:
    for module_name, module in list(sys.modules.items()):
        if module_name == _MAIN and main_module() is None:
            continue
        try:
            # Past a `__getattr__` that imports what is asked for.
            variables = object.__getattribute__(module, "__dict__")
        except AttributeError:
            continue
        for name, value in list(variables.items()):
            if value is worker:
                return module_name, name
    return None


# --- in a child ---------------------------------------------------------------------------------------------

_loading = False


def check_not_loading() -> None:
    """Refuse to start a worker while a child process imports the modules of its handlers.

    Raises:
        RuntimeError: It does.
    """
    if _loading:
        raise RuntimeError(
            "a worker was started while a child process of it imports its handlers (isolation='process'); start it "
            'below `if __name__ == "__main__":`, so that only the program itself does'
        )


def load_handlers(dumped: bytes, main: Main | None) -> BoundRoutes:
    """Import the handlers, and what runs around them.

    Raises:
        BaseException: What a module raises while it is imported.
    """
    tell_no_acks()
    references: _References = pickle.loads(dumped)  # noqa: S301 - the worker's own
    with _while_loading():
        routes = Routes()
        for one in references.handlers:
            routes.add(_load(one.handler, main), one.job_type, _load(one.payload, main))
        middlewares = [_load_middleware(one, main) for one in references.middlewares]
    setup = _load(references.setup, main)
    if setup is not None:
        setup()
    return routes.bind(lambda handler, _, prepare: wrap_handler(end_forks(handler), middlewares, prepare))


@contextmanager
def _while_loading() -> Iterator[None]:
    global _loading
    _loading = True
    try:
        yield
    finally:
        _loading = False


def _load(pickled: bytes, main: Main | None) -> Any:
    return _Unpickler(pickled, main).load()


class _Unpickler(pickle.Unpickler):
    """Runs the main module anew when something is looked for in it."""

    def __init__(self, pickled: bytes, main: Main | None) -> None:
        super().__init__(io.BytesIO(pickled))
        self._main = main

    def find_class(self, module_name: str, name: str) -> Any:
        if module_name == _MAIN:
            _import_main(self._main)
        return super().find_class(module_name, name)


def _load_middleware(reference: _MiddlewareReference, main: Main | None) -> Middleware:
    if reference.variable is None:
        middleware: Middleware = _load(reference.pickled, main)
        return middleware
    module_name, name = reference.variable
    if module_name == _MAIN:
        _import_main(main)
    worker: _Worker = getattr(importlib.import_module(module_name), name)
    return worker._options.middleware[reference.index]


def _import_main(main: Main | None) -> None:
    if _MAIN_IN_CHILD in sys.modules or main is None:
        return
    kind, where = main
    if kind == "module":
        content = runpy.run_module(where, run_name=_MAIN_IN_CHILD, alter_sys=True)
    else:
        content = runpy.run_path(where, run_name=_MAIN_IN_CHILD)
    module = ModuleType(_MAIN_IN_CHILD)
    module.__dict__.update(content)
    # A process that a handler starts with `multiprocessing` finds the file by this, and not by a name that is none.
    module.__spec__ = None
    sys.modules[_MAIN] = sys.modules[_MAIN_IN_CHILD] = module
