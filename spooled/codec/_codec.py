"""Dump values of one annotation as JSON, and read them, by the rules of the library whose types they are."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from spooled._http._json import foreign_form
from spooled.codec._annotations import is_pydantic, parts_of
from spooled.codec._changes import first_change
from spooled.codec._errors import PayloadError, ResultError, Unreadable
from spooled.codec._msgspec import MsgspecRules, UntypedRules
from spooled.errors import ValidationError


class Rules(Protocol):
    """The rules by which values of one annotation become JSON, and JSON values of it."""

    def texts(self, value: Any) -> Iterator[bytes]:
        """Yield the JSON texts that a value may be sent as, the usual one first."""

    def load(self, form: object) -> Any:
        """Read a JSON value."""

    def read_back(self, text: bytes, form: object) -> Any:
        """Read JSON text, of which `form` is known, as a worker will."""

    def dump_result(self, value: Any) -> object:
        """Return what is sent of a result."""


class Codec:
    """Dumps and reads the values of one annotation.

    Args:
        annotation: The type, or None for anything that has a JSON form.

    Raises:
        TypeError: No value of this type can be read from JSON.
    """

    def __init__(self, annotation: Any = None) -> None:
        self.annotation = annotation
        self._rules = _rules_for(annotation)

    def dump(self, value: Any) -> Any:
        """Return the JSON form of a payload, from which a worker reads the same value.

        Raises:
            PayloadError: It does not fit the type, or would arrive as something else.
            ValidationError: JSON cannot say it.
        """
        problem = None
        try:
            for text in self._rules.texts(value):
                form = msgspec.json.decode(text)
                try:
                    back = self._rules.read_back(text, form)
                except Unreadable as error:
                    problem = problem or self._misfit(error)
                    continue
                change = first_change(value, text, form, back)
                if change is None:
                    return form
                problem = problem or PayloadError(f"payload{change.path} {change.problem}")
        except PayloadError:
            raise
        except ValidationError as error:
            if isinstance(error.__cause__, PayloadError):
                raise error.__cause__ from None
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise PayloadError(f"the payload cannot be sent as JSON: {error}") from error
        assert problem is not None
        raise problem

    def load(self, form: object) -> Any:
        """Read a value from its JSON form.

        Raises:
            PayloadError: It does not fit the type; the text says where.
        """
        try:
            return self._rules.load(form)
        except Unreadable as error:
            raise self._misfit(error) from error.__cause__

    def dump_result(self, value: Any) -> object:
        """Return what a function returned as JSON, or as something that has a JSON form of its own.

        Raises:
            ResultError: It is not what the annotation says.
        """
        try:
            return self._rules.dump_result(value)
        except Unreadable as error:
            raise ResultError(f"it is no {_name(self.annotation)}: {error}") from error.__cause__

    def _misfit(self, error: Unreadable) -> PayloadError:
        return PayloadError(f"the payload is no {_name(self.annotation)}: {error}")


def result_codec(annotation: Any) -> Codec | None:
    """Return the codec of a return annotation, or None where the value's own types say all about how it is sent."""
    if annotation is None or not any(is_pydantic(part) for part in parts_of(annotation)):
        return None
    rules, _ = _pydantic_rules(annotation)
    return None if rules is None else Codec(annotation)


@functools.lru_cache(maxsize=512)
def codec_of(kind: Any) -> Codec:
    """Return the codec of a class."""
    return Codec(kind)


def whole_form(value: object) -> object:
    """Return the JSON form of a value that msgspec does not know, if nothing of the value is lost in it.

    Raises:
        PayloadError: A model would arrive as something else.
        TypeError: It has none.
    """
    kind: Any = type(value)
    return codec_of(kind).dump(value) if _has_own_rules(kind) else foreign_form(value)


def _load_foreign(kind: type, form: object) -> object:
    return codec_of(kind).load(form)


def _has_own_rules(kind: type) -> bool:
    return hasattr(kind, "__get_pydantic_core_schema__") or hasattr(kind, "__pydantic_core_schema__")


def _rules_for(annotation: Any) -> Rules:
    if annotation in (None, Any, object):
        return UntypedRules(whole_form)
    problem: Exception | None = None
    if any(is_pydantic(part) for part in parts_of(annotation)):
        rules, problem = _pydantic_rules(annotation)
        if rules is not None:
            return rules
    # What pydantic refuses may be a Struct with a model in it. msgspec knows nothing of pydantic's constraints.
    if not any(
        not isinstance(part, type) and is_pydantic(part) for part in parts_of(annotation, models=False)
    ):
        try:
            chosen = MsgspecRules(annotation, whole_form, _load_foreign)
            unknown = [kind for kind in chosen.foreign_types() if not is_pydantic(kind)]
        except (TypeError, NameError) as error:
            problem = problem or error
        else:
            if not unknown:
                return chosen
            problem = problem or TypeError(f"{_name(unknown[0])} objects cannot be read from JSON")
    if "pydantic" in sys.modules:
        rules, _ = _pydantic_rules(annotation)
        if rules is not None:
            return rules
    raise TypeError(f"a payload cannot be read as {_name(annotation)}: {_first_line(problem)}") from problem


def _pydantic_rules(annotation: Any) -> tuple[Rules | None, Exception | None]:
    try:
        from spooled.codec._pydantic import PydanticRules

        return PydanticRules(annotation), None
    except (ImportError, TypeError, ValueError, RuntimeError, AttributeError, NameError) as error:
        # pydantic's own errors about types are TypeErrors and RuntimeErrors.
        return None, error


def _first_line(problem: object) -> str:
    return str(problem).partition("\n")[0]


def _name(annotation: Any) -> str:
    name = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    return name or str(annotation)
