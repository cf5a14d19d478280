"""One way to call every endpoint: keywords, or the official SDK's mapping as the last positional argument.

`jobs.create(queue_name="q", payload=1)` and `jobs.create({"queue_name": "q", "payload": 1})` are the same call. An
endpoint is declared once, with keywords; type checkers see both forms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from spooled._http._nearest import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Method(Protocol[P, R_co]):
    """A bound method: keywords or a mapping."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, params: Mapping[str, Any] | None) -> R_co: ...


class MethodOfOne(Protocol[P, R_co]):
    """A bound method about one thing: its id, then keywords or a mapping."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, id: str, /, params: Mapping[str, Any] | None) -> R_co: ...


class MethodWithToken(Protocol[P, R_co]):
    """A bound method about one thing, whose mapping may be followed by a token."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, id: str, /, params: Mapping[str, Any], webhook_token: str | None = None) -> R_co: ...


class Declared(Protocol[P, R_co]):
    """A `Method` in its class body."""

    def __get__(self, instance: object, owner: Any = None) -> Method[P, R_co]: ...


class DeclaredOfOne(Protocol[P, R_co]):
    """A `MethodOfOne` in its class body."""

    def __get__(self, instance: object, owner: Any = None) -> MethodOfOne[P, R_co]: ...


class DeclaredWithToken(Protocol[P, R_co]):
    """A `MethodWithToken` in its class body."""

    def __get__(self, instance: object, owner: Any = None) -> MethodWithToken[P, R_co]: ...


def accepts_dict(method: Callable[Concatenate[Any, P], R]) -> Declared[P, R]:
    """Let a method with keyword-only parameters take one mapping instead."""
    return cast("Declared[P, R]", _accepts_both(method))


def takes_id_and_mapping(method: Callable[Concatenate[Any, P], R]) -> DeclaredOfOne[P, R]:
    """As `accepts_dict`, for a method whose first parameter is an id or a name."""
    return cast("DeclaredOfOne[P, R]", _accepts_both(method))


def accepts_dict_and_token(method: Callable[Concatenate[Any, P], R]) -> DeclaredWithToken[P, R]:
    """As `takes_id_and_mapping`, for a method that takes `webhook_token` beside the mapping."""
    return cast("DeclaredWithToken[P, R]", _accepts_both(method, beside="webhook_token"))


def _accepts_both(method: Callable[..., R], *, beside: str = "") -> Callable[..., R]:
    code = method.__code__
    ids = code.co_varnames[1 : code.co_argcount]
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = method.__kwdefaults__ or {}
    required = tuple(name for name in names if name not in defaults)
    label = f"{method.__qualname__}()"
    known, needed = frozenset(names), frozenset(required)

    @functools.wraps(method)
    def call(self: object, *args: Any, **keywords: Any) -> R:
        if len(args) == len(ids) and needed <= keywords.keys() <= known:
            return method(self, *args, **keywords)
        expected = len(ids) - sum(name in keywords for name in ids)
        if len(args) == expected and "params" not in keywords:
            _check_names(label, keywords.keys() - set(ids), names, required)
            return method(self, *args, **keywords)
        if beside and len(args) == expected + 2 and beside not in keywords:
            *args, keywords[beside] = args  # type: ignore[assignment]
        if len(args) == expected + 1:
            *args, params = args  # type: ignore[assignment]
        elif len(args) == expected:
            params = keywords.pop("params")
        else:
            wanted = "".join(f"{name}, " for name in ids)
            raise TypeError(
                f"{label} takes {wanted}then keywords or one mapping of them; "
                f"got {len(args)} positional arguments"
            )
        params = _mapping_of(params)
        if not isinstance(params, Mapping):
            shown = f"{required[0] if required else names[0]}=..."
            raise TypeError(
                f"{label} takes its parameters as keywords ({shown}) or as one mapping, "
                f"got {type(params).__name__}"
            )
        extra = keywords.keys() - {*ids, beside}
        if extra:
            raise TypeError(
                f"{label} takes its parameters as keywords or as one mapping, not both: "
                f"put {', '.join(sorted(extra))} into the mapping"
            )
        _check_names(label, params, names, required)
        return method(self, *args, **keywords, **params)

    return call


def _mapping_of(params: Any) -> Any:
    """None is no parameters; a pydantic model, which the official SDK takes too, is what was set in it."""
    if params is None:
        return {}
    if not isinstance(params, Mapping) and hasattr(params, "model_dump"):
        return params.model_dump(exclude_unset=True)
    return params


def _check_names(label: str, given: Any, names: tuple[str, ...], required: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            raise TypeError(f"{label} has no parameter {name!r}. {did_you_mean(str(name), names)}")
    missing = [name for name in required if name not in given]
    if missing:
        raise TypeError(f"{label} needs {', '.join(repr(name) for name in missing)}")
