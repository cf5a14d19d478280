"""Find out what stands in an annotation: every class and every piece of `Annotated` metadata, at any depth."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

_PYDANTIC = frozenset({"annotated_types", "pydantic", "pydantic_core", "pydantic_extra_types"})


def parts_of(annotation: Any, *, models: bool = True) -> Iterator[Any]:
    """Yield the classes and the metadata of an annotation, with those of the fields of its classes.

    Args:
        annotation: The annotation.
        models: Whether to look into pydantic's models too.
    """
    waiting, seen = [annotation], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if models or not fields_of(part):
            waiting.extend(_inside(part))


def members_of(annotation: Any) -> Iterator[type]:
    """Yield the classes that a value of the annotation itself may have: one, or those of a union."""
    for part in _alternatives(annotation):
        origin = typing.get_origin(part) or part
        if isinstance(origin, type):
            yield origin


def is_pydantic(part: Any) -> bool:
    """Return whether a class or a piece of metadata is pydantic's, or made for pydantic."""
    if hasattr(part, "__get_pydantic_core_schema__") or hasattr(part, "__pydantic_core_schema__"):
        return True
    kind = part if isinstance(part, type) else type(part)
    return any(base.__module__.partition(".")[0] in _PYDANTIC for base in kind.__mro__)


def fields_of(kind: Any) -> dict[str, Any]:
    """Return the pydantic fields of a model or a pydantic dataclass by name; empty for anything else."""
    found = getattr(kind, "model_fields", None) or getattr(kind, "__pydantic_fields__", None)
    return found if isinstance(found, dict) else {}


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the annotations of a class that is made of fields, as objects; empty where they cannot be resolved."""
    if not (
        dataclasses.is_dataclass(kind)
        or typing.is_typeddict(kind)
        or hasattr(kind, "__struct_fields__")
        or hasattr(kind, "__attrs_attrs__")
        or (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"))
    ):
        return {}
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:  # a name that is defined later, or only for type checkers
        return {}


def json_names_of(kind: type) -> dict[str, Any]:
    """Return the members that a class reads from a JSON object: their names there, and their annotations."""
    fields = fields_of(kind)
    if fields:
        return {key: field.annotation for name, field in fields.items() for key in json_keys(name, field)}
    hints = hints_of(kind)
    names = getattr(kind, "__struct_fields__", None)
    if names is not None:
        return {key: hints.get(name) for name, key in zip(names, kind.__struct_encode_fields__, strict=True)}  # type: ignore[attr-defined]
    return hints


def json_keys(name: str, field: Any) -> set[str]:
    """Return what a pydantic field may be called in JSON."""
    keys = {field.alias, field.serialization_alias}
    for one in getattr(field.validation_alias, "choices", [field.validation_alias]):
        keys.add(one if isinstance(one, str) or one is None else one.path[0])
    keys.discard(None)
    return keys or {name}


def _inside(part: Any) -> Iterator[Any]:
    yield from typing.get_args(part)
    yield from getattr(part, "__metadata__", ())
    origin = typing.get_origin(part)
    if origin is not None:
        yield origin
    for attribute in ("__value__", "__supertype__", "__bound__"):  # type X = ..., NewType, TypeVar
        inner = getattr(part, attribute, None)
        if inner is not None and not isinstance(part, type):
            yield inner
    fields = fields_of(part)
    for field in fields.values():
        yield field.annotation
        yield from field.metadata
    if not fields:
        yield from hints_of(part).values()


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _alternatives(typing.get_args(annotation)[0])
    elif origin is typing.Union or (origin is not None and origin.__name__ == "UnionType"):
        for one in typing.get_args(annotation):
            yield from _alternatives(one)
    elif hasattr(annotation, "__value__") and not isinstance(annotation, type):
        yield from _alternatives(annotation.__value__)
    elif hasattr(annotation, "__supertype__"):
        yield from _alternatives(annotation.__supertype__)
    else:
        yield annotation
