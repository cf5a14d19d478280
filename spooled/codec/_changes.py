"""Compare a value with what the reader of its JSON gets: the first place where something would be lost."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from spooled._http._json import encode
from spooled._http._nearest import did_you_mean
from spooled.codec._annotations import fields_of, is_pydantic, json_keys

_LEAST, _GREATEST = -(2**63), 2**64 - 1
_GREAT = re.compile(rb"[0-9]{19}")
_JSON = (str, int, float, bool, type(None))
_NOTHING = object()
_SHOWN = 80


class Change(NamedTuple):
    """A place where what arrives is not what was given.

    Attributes:
        path: The place, from the value on: `.lines[2].price`; empty for the value itself.
        problem: The rest of the sentence, with what to do about it.
    """

    path: str
    problem: str


def first_change(given: Any, text: bytes, form: Any, back: Any) -> Change | None:
    """Return the first place where `back`, which was read from `text`, is not what was `given`.

    A value that is JSON already is read by its type's own rules, as the body of a request is; what is looked for then
    are members that its type does not know.

    Args:
        given: The value that is to be sent.
        text: Its JSON.
        form: What that text says.
        back: What a worker reads from it.
    """
    found = _great_number(form, "") if _GREAT.search(text) else None
    if found is not None:
        return found
    if _is_json(given, form):
        return None if back is form else _unread(form, back, "")
    return _change(given, back, "")


def _is_json(given: Any, form: Any) -> bool:
    if type(given) is not type(form):
        return False
    try:
        return bool(given == form)
    except Exception:  # whatever a user's __eq__ does
        return False


def _great_number(form: Any, path: str) -> Change | None:
    if isinstance(form, int) and not _LEAST <= form <= _GREATEST:
        return Change(path, "has more than 64 bits, and not every reader of JSON keeps them: send it as text")
    if isinstance(form, dict):
        return _first(_great_number(item, f"{path}.{key}") for key, item in form.items())
    if isinstance(form, list):
        return _first(_great_number(item, f"{path}[{index}]") for index, item in enumerate(form))
    return None


def _first(changes: Iterable[Change | None]) -> Change | None:
    return next((change for change in changes if change is not None), None)


def _unread(form: Any, back: Any, path: str) -> Change | None:
    """Find members of JSON objects that the reader drops."""
    back = _unwrapped(back)
    if isinstance(form, dict):
        if isinstance(back, Mapping):
            known: Any = None if len(back) >= len(form) else {_text(key) for key in back}
        else:
            known = _names(back)
        for key, item in form.items():
            if known is not None and key not in known:
                return _unknown(path, key, known, back)
            if isinstance(item, dict | list):
                found = _unread(item, _member(back, key), f"{path}.{key}")
                if found is not None:
                    return found
    elif isinstance(form, list):
        others = back if isinstance(back, list | tuple) and len(back) == len(form) else [None] * len(form)
        for index, item in enumerate(form):
            if isinstance(item, dict | list):
                found = _unread(item, others[index], f"{path}[{index}]")
                if found is not None:
                    return found
    return None


def _change(given: Any, back: Any, path: str) -> Change | None:
    kind = type(given)
    if kind in _JSON and type(back) is kind:
        return None if _same(given, back) else _changed(path, given, back)
    if isinstance(given, dict | Mapping):
        return _mapping(given, back, path)
    if isinstance(given, list | tuple):
        return _sequence(given, back, path)
    if isinstance(given, set | frozenset):
        if isinstance(back, set | frozenset):
            return None if given == back else _changed(path, given, back)
        return _sequence(list(given), back, path)
    if _names_of_fields(given) is not None:
        return _object(given, back, path)
    if hasattr(given, "get_secret_value") and not hasattr(back, "get_secret_value"):
        return _changed(path, given, back)
    return None if _same(given, back) else _changed(path, given, back)


def _object(given: Any, back: Any, path: str) -> Change | None:
    if isinstance(back, Mapping) and not isinstance(back, type(given)):
        # A place without a type of its own, such as Any: an object arrives as its JSON form.
        return _untyped(given, _attributes(given) or {}, back, path)
    if not (isinstance(given, type(back)) or isinstance(back, type(given))):
        return _changed(path, given, back)
    names, found = _attributes(given) or {}, _attributes(back) or {}
    for name, item in names.items():
        arrived = found.get(name, _NOTHING)
        if arrived is _NOTHING:
            return Change(
                f"{path}.{name}",
                f"would not arrive: {type(back).__name__} has no field of that name and {type(given).__name__}'s own "
                f"fields are cut off; declare the payload as {type(given).__name__}",
            )
        kind = type(item)
        if kind in _JSON and type(arrived) is kind and item == arrived:
            continue
        change = _change(item, arrived, f"{path}.{name}")
        if change is not None:
            return _explained(given, name, change, f"{path}.{name}")
    return None


def _untyped(given: Any, names: Mapping[str, Any], back: Mapping[Any, Any], path: str) -> Change | None:
    if fields_of(type(given)):
        from spooled.codec._codec import codec_of  # which looks for changes

        kind: Any = type(given)
        codec_of(kind).dump(given)
        return None
    for name, item in names.items():
        key = next((one for one in _keys(given, name) if one in back), None)
        if key is None:
            return Change(f"{path}.{name}", "would not arrive")
        change = _change(item, back[key], f"{path}.{name}")
        if change is not None:
            return change
    return None


def _mapping(given: Mapping[Any, Any], back: Any, path: str) -> Change | None:
    if not isinstance(back, Mapping):
        back = _unwrapped(back)
        if isinstance(back, Mapping):
            return _mapping(given, back, path)
        if _attributes(back) is None:
            return _changed(path, given, back)
        known = _names(back)
        for key, item in given.items():
            if known is not None and key not in known:
                return _unknown(path, key, known, back)
            change = _change(item, _member(back, key), f"{path}.{key}")
            if change is not None:
                return change
        return None
    if given.keys() <= back.keys():
        pairs = [(key, given[key], back[key]) for key in given]
    elif len(given) > len(back):
        lost = next((key for key in given if key not in back), None)
        if all(_text(one) in map(_text, back) for one in given):
            problem = "would not arrive: another key is the same text in JSON"
        else:
            problem = "would not arrive: the type has no member of that name"
        return Change(f"{path}[{lost!r}]", problem)
    else:
        # JSON's keys are text. They come in the order in which they were given.
        pairs = []
        for (key, item), (other, arrived) in zip(given.items(), back.items(), strict=False):
            change = None if _text(key) == other else _change(key, other, f"{path}[{key!r}]")
            if change is not None:
                return change
            pairs.append((key, item, arrived))
    for key, item, arrived in pairs:
        kind = type(item)
        if kind in _JSON and type(arrived) is kind and item == arrived:
            continue
        change = _change(item, arrived, f"{path}.{key}" if isinstance(key, str) else f"{path}[{key!r}]")
        if change is not None:
            return change
    return None


def _text(key: Any) -> str:
    return str.__str__(key) if isinstance(key, str) else str(key)


def _sequence(given: Sequence[Any], back: Any, path: str) -> Change | None:
    if not isinstance(back, list | tuple) or len(back) != len(given):
        if (
            isinstance(back, set | frozenset)
            and len(back) == len(given)
            and all(one in back for one in given)
        ):
            return None
        return _changed(path, given, back)
    for index, (item, arrived) in enumerate(zip(given, back, strict=True)):
        kind = type(item)
        if kind in _JSON and type(arrived) is kind and item == arrived:
            continue
        change = _change(item, arrived, f"{path}[{index}]")
        if change is not None:
            return change
    return None


def _same(given: Any, back: Any) -> bool:
    if isinstance(given, bool) is not isinstance(back, bool) and isinstance(back, _JSON):
        return isinstance(given, Enum) and _same(given.value, back)
    if isinstance(given, datetime) and isinstance(back, datetime):
        if given.tzinfo is not None and back.tzinfo is not None:
            # Two zones never compare equal in the hour that a clock change repeats.
            return given.astimezone(UTC) == back.astimezone(UTC)
        return given.replace(fold=0) == back.replace(fold=0)
    try:
        if bool(given == back):
            return True
    except Exception:  # arrays compare item by item
        return False
    if isinstance(given, float) and isinstance(back, float):
        return math.isnan(given) and math.isnan(back)
    kind: Any = type(given)
    if kind.__eq__ is object.__eq__ and kind is type(back):
        return vars(given) == vars(back) if hasattr(given, "__dict__") else True
    # A place without a type of its own: the JSON form is what was asked for.
    return isinstance(back, _JSON) and not isinstance(given, _JSON) and back in _forms(given)


def _forms(given: Any) -> list[object]:
    found: list[object] = []
    with contextlib.suppress(ValueError):
        found.append(msgspec.json.decode(encode(given)))
    try:
        from pydantic_core import to_jsonable_python

        found.append(to_jsonable_python(given))
    except (ImportError, ValueError):
        pass
    return found


def _names_of_fields(value: Any) -> tuple[str, ...] | None:
    kind: Any = type(value)
    return _field_names(kind)


@functools.lru_cache(maxsize=1024)
def _field_names(kind: Hashable) -> tuple[str, ...] | None:
    """Return the names of a class's fields; None for one that is not made of fields."""
    fields = fields_of(kind)
    if fields or hasattr(kind, "__pydantic_fields_set__"):
        return tuple(fields)
    if dataclasses.is_dataclass(kind):
        return tuple(one.name for one in dataclasses.fields(kind))
    names = getattr(kind, "__struct_fields__", None)
    if names is None and hasattr(kind, "__attrs_attrs__"):
        names = tuple(one.name for one in kind.__attrs_attrs__)
    return names


def _attributes(value: Any) -> dict[str, Any] | None:
    """Return the fields of an object that is made of fields, with what a model holds beyond; None for others."""
    names = _names_of_fields(value)
    if names is None:
        return None
    own = getattr(value, "__dict__", None) or {}
    # A class with slots has its fields elsewhere, and a model that nobody has validated may lack some.
    pairs = ((name, own[name] if name in own else getattr(value, name, _NOTHING)) for name in names)
    found = {name: item for name, item in pairs if item is not _NOTHING}
    extra = getattr(value, "__pydantic_extra__", None)
    return {**found, **extra} if extra else found


def _names(back: Any) -> set[Any] | None:
    """Return the names under which the members of an object may be given; None where any may be."""
    found = _attributes(back)
    if found is None or _rearranges(type(back)):
        return None
    names = set(found)
    for name in found:
        names.update(_keys(back, name))
    return names


def _rearranges(kind: Any) -> bool:
    """Return whether a model has a validator that sees the members before its fields do, and may take any."""
    decorators = getattr(kind, "__pydantic_decorators__", None)
    validators = getattr(decorators, "model_validators", None) or {}
    return any(one.info.mode != "after" for one in validators.values())


def _unwrapped(value: Any) -> Any:
    """Return what a pydantic RootModel holds, and anything else as it is."""
    return _unwrapped(value.root) if getattr(type(value), "__pydantic_root_model__", False) else value


def _keys(owner: Any, name: str) -> set[str]:
    """Return what a field is called in JSON: its name, its aliases, and for msgspec what it was renamed to."""
    kind = type(owner)
    field = fields_of(kind).get(name)
    if field is not None:
        return {name, *json_keys(name, field)}
    fields = getattr(kind, "__struct_fields__", None)
    return {name, kind.__struct_encode_fields__[fields.index(name)]} if fields else {name}


def _member(back: Any, key: Any) -> Any:
    if isinstance(back, Mapping):
        return back.get(key)
    found = _attributes(back) or {}
    return next((item for name, item in found.items() if key in _keys(back, name)), None)


def _unknown(path: str, key: Any, known: Any, back: Any) -> Change:
    owner = "the type" if isinstance(back, Mapping) else type(back).__name__
    names = sorted(str(one) for one in known)
    hint = did_you_mean(str(key), names)
    return Change(f"{path}.{key}", f"would not arrive: {owner} has no such field. {hint}".rstrip(". "))


def _explained(given: Any, name: str, change: Change, path: str) -> Change:
    field = fields_of(type(given)).get(name)
    if change.path == path and field is not None and (field.exclude or getattr(field, "exclude_if", None)):
        return Change(path, "would not arrive: the field is declared with exclude; send what the job needs")
    return change


def _changed(path: str, given: Any, back: Any) -> Change:
    if hasattr(given, "get_secret_value"):
        return Change(
            path,
            f"is a {type(given).__name__}, which hides its value in JSON. Give the field a serializer that reveals it, "
            "or send a reference to the secret",
        )
    if is_pydantic(given) or is_pydantic(back):
        return Change(
            path, f"would not arrive as it is: a {type(given).__name__} would be read as {_show(back)}"
        )
    return Change(path, f"is {_show(given)} and would arrive as {_show(back)}; send what its type declares")


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a user's object
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({type(value).__name__})"
