"""The JSON form of what Django Tasks are given and return."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.db import models
from django.utils.functional import Promise

RESULT_LIMIT = 2 * 1024 * 1024 - 1024
"""Bytes of a result as JSON: a request's body may have 2 MiB (contract api-v1 §1), and the ids need some of it."""

_SHOWN = 100
"""Characters of a value that an error shows."""

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def json_form(value: object, where: str) -> Any:
    """Return `value` in the form in which it is read back: None, booleans, numbers, text, lists and dicts.

    The rules are those of Django's own backends (text stays text, `bytes` are UTF-8, sequences become lists, sets are
    refused), and besides: text that is lazy or of a subclass, such as a translation or `SafeString`, becomes plain
    text; keys become text as `json.dumps` has it.

    Args:
        value: The value.
        where: What errors call it.

    Raises:
        TypeError: A part of it has no JSON form, or raises while it is read.
        ValueError: A part of it is beyond JSON: NaN, Infinity, a whole number above 64 bits, bytes or text that are
            no UTF-8; or it holds itself.
    """
    try:
        return _form(value)
    except _UnfitError as unfit:
        place = f"{where}{''.join(reversed(unfit.path))}"
        raise unfit.kind(f"{place} {unfit.problem}") from unfit.__cause__
    except RecursionError:
        raise ValueError(f"{where} holds itself, or is nested too deeply for JSON") from None


def result_form(value: object) -> Any:
    """Return the JSON form of what a task has returned.

    Raises:
        TypeError: As `json_form`.
        ValueError: As `json_form`; or it is too large to be sent.
    """
    form = json_form(value, "the return value")
    size = len(msgspec.json.encode(form))
    if size > RESULT_LIMIT:
        raise ValueError(
            f"the return value is of type {_type_of(value)} and has {size:,} bytes as JSON, more than the "
            f"{RESULT_LIMIT:,} that Spooled takes; store it elsewhere and return where it is"
        )
    return form


class _UnfitError(Exception):
    """A part of the value that has no JSON form; `path` leads there, innermost step first."""

    def __init__(self, kind: type[Exception], problem: str) -> None:
        super().__init__(problem)
        self.kind = kind
        self.problem = problem
        self.path: list[str] = []


def _form(value: object) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Promise):
        value = _lazy_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise _unfit(ValueError, value, "is no UTF-8 text") from error
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        # Of subclasses, such as enumerations, the number itself.
        number = int.__index__(value)
        if not _SMALLEST <= number <= _LARGEST:
            raise _unfit(ValueError, value, "has more than 64 bits")
        return number
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _unfit(ValueError, value, "has no JSON form")
        return float.__float__(value)
    if isinstance(value, Mapping):
        return _dict(value)
    if isinstance(value, Sequence):
        return _list(value)
    if isinstance(value, models.Model):
        problem = f"is the {_type_of(value)} instance {_shown(value.pk)}; pass its primary key and load it"
        raise _UnfitError(TypeError, problem)
    if isinstance(value, models.QuerySet):
        # Its repr would ask the database.
        problem = f"is a QuerySet of {_type_of_class(value.model)}; pass a list of primary keys"
        raise _UnfitError(TypeError, problem)
    raise _unfit(TypeError, value, "has no JSON form")


def _dict(value: Mapping[Any, Any]) -> dict[str, Any]:
    try:
        items = list(value.items())
    except Exception as error:
        raise _unreadable(value, error) from error
    form = {}
    for key, item in items:
        try:
            form[_key(key)] = _form(item)
        except _UnfitError as unfit:
            unfit.path.append(f"[{_shown(key)}]")
            raise
    if len(form) < len(items):
        raise _unfit(ValueError, value, "has keys that are the same text in JSON")
    return form


def _list(value: Sequence[Any]) -> list[Any]:
    try:
        items = list(value)
    except Exception as error:
        raise _unreadable(value, error) from error
    form = []
    for index, item in enumerate(items):
        try:
            form.append(_form(item))
        except _UnfitError as unfit:
            unfit.path.append(f"[{index}]")
            raise
    return form


def _key(key: object) -> str:
    form = _form(key)
    if isinstance(form, str):
        return form
    if form is None or isinstance(form, bool | int | float):
        return msgspec.json.encode(form).decode()
    raise _unfit(TypeError, key, "cannot be a key in JSON")


def _text(value: str) -> str:
    # Of subclasses, such as SafeString and enumerations, the text itself, whatever their own methods do.
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _unfit(ValueError, value, "is no text that UTF-8 can write") from error
    return text


def _lazy_text(value: object) -> object:
    try:
        return str(value)
    except Exception as error:
        raise _unreadable(value, error) from error


def _unfit(kind: type[Exception], value: object, problem: str) -> _UnfitError:
    return _UnfitError(kind, f"is of type {_type_of(value)} and {problem}: {_shown(value)}")


def _unreadable(value: object, error: Exception) -> _UnfitError:
    return _UnfitError(
        TypeError, f"is of type {_type_of(value)} and cannot be read: {type(error).__name__}: {_shown(error)}"
    )


def _type_of(value: object) -> str:
    return _type_of_class(type(value))


def _type_of_class(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        # Also of whole numbers that are too long to be written out.
        return f"(its repr cannot be read: {type(error).__name__})"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
