"""What a handler function asks for, read from its parameters. For adapters that call handlers in their own way.

A handler's first parameter is the job's context or its payload, and it may have none:

    def send(ctx: JobContext[Email]): ...     the context, with the payload as an Email
    def send(email: Email): ...               the payload
    def send(email): ...                      the payload, whatever it is
    def send(ctx): ...                        the context: without an annotation, its name tells
    def clean_up(): ...                       a job that needs nothing

Any other parameter that is annotated as a context gets it too. What is left is the adapter's to fill.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from spooled.worker._results import prepare_result
from spooled.worker._routing import check_handler, is_sync, name_of, result_type_of
from spooled.worker.context import JobContext

__all__ = ["HandlerSignature", "is_context", "prepare_result", "signature_of"]

_CONTEXT_NAMES = ("ctx", "context")
"""What an unannotated first parameter is called when it takes the context."""


@dataclass(frozen=True, slots=True)
class HandlerSignature:
    """The parameters of one handler.

    Attributes:
        name: The function's name, for messages.
        coroutine: Whether what it returns must be awaited.
        first: What its first parameter takes.
        payload_type: The payload's type, or None where nothing is said about it.
        default: What the payload is when none is sent, or `inspect.Parameter.empty`.
        result_type: The annotation of what it returns, or None where nothing is said about it.
        contexts: Names of further parameters that take the context.
        others: All other parameters, with annotations as objects; `*args` and `**kwargs` are left out.
    """

    name: str
    coroutine: bool
    first: Literal["context", "payload", "nothing"]
    payload_type: Any
    default: Any
    result_type: Any
    contexts: tuple[str, ...]
    others: tuple[inspect.Parameter, ...]


def signature_of(function: Callable[..., Any]) -> HandlerSignature:
    """Read a handler's parameters.

    Raises:
        TypeError: It is not callable, or an annotation names something that cannot be found.
    """
    check_handler(function)
    name = name_of(function)
    parameters = _parameters(function, name)
    first: Literal["context", "payload", "nothing"] = "nothing"
    payload_type: Any = None
    default: Any = inspect.Parameter.empty
    if parameters and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        parameter = parameters.pop(0)
        annotation, unsaid = parameter.annotation, parameter.annotation is inspect.Parameter.empty
        if is_context(annotation) or (unsaid and parameter.name in _CONTEXT_NAMES):
            first, payload_type = "context", _payload_of(annotation)
        else:
            first, payload_type = "payload", None if unsaid or annotation is Any else annotation
            default = parameter.default
    return HandlerSignature(
        name=name,
        coroutine=not is_sync(function),
        first=first,
        payload_type=payload_type,
        default=default,
        result_type=result_type_of(function),
        contexts=tuple(one.name for one in parameters if is_context(one.annotation)),
        others=tuple(one for one in parameters if not is_context(one.annotation)),
    )


def is_context(annotation: Any) -> bool:
    """Return whether an annotation stands for the job's context."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        # `Annotated[JobContext, ...]` says more than that, and whoever made it knows what.
        return False
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, JobContext)


def _payload_of(annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    if not arguments or arguments[0] is Any or isinstance(arguments[0], typing.TypeVar):
        return None
    return arguments[0]


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    target = inspect.unwrap(target)
    if not (inspect.isfunction(target) or inspect.ismethod(target)):
        target = getattr(target, "__call__", target)  # noqa: B004
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except Exception as error:
        raise TypeError(
            f"an annotation of {name} cannot be resolved ({error}); define the types that it names at module level"
        ) from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        one.replace(annotation=hints.get(one.name, inspect.Parameter.empty))
        for one in inspect.signature(function).parameters.values()
        if one.kind not in variadic
    ]
