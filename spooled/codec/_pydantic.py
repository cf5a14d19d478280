"""Dump and read values by pydantic's rules.

Only imported for annotations that pydantic's types stand in: the core does not depend on pydantic.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from spooled._http._json import encode
from spooled.codec._annotations import fields_of, parts_of
from spooled.codec._errors import Unreadable

_ERRORS_SHOWN = 3
_SHOWN = 80


class PydanticRules:
    """pydantic's rules for one annotation.

    Raises:
        pydantic.errors.PydanticUserError: pydantic cannot read this from JSON.
    """

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def texts(self, value: Any) -> Iterator[bytes]:
        """Yield the JSON texts that a value may be sent as, the usual one first.

        Raises:
            ValueError: pydantic cannot say it in JSON.
        """
        if self._reads_other_names:
            yield self._renamed(value)
        yield self._dump(value, by_alias=True)
        if not self._reads_other_names:
            yield self._renamed(value)
        # A default need not be valid, as in `name: str = None`: it arrives when it is not sent.
        yield self._dump(value, by_alias=True, exclude_defaults=True)

    def load(self, form: object) -> Any:
        """Read a JSON value.

        Raises:
            Unreadable: It does not fit.
        """
        return self.read_back(msgspec.json.encode(form), form)

    def read_back(self, text: bytes, form: object) -> Any:  # noqa: ARG002
        """Read JSON text. The rules for JSON take times, UUIDs and sets as text and lists in strict mode too.

        Raises:
            Unreadable: It does not fit.
        """
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise Unreadable(self._explain(error)) from error

    def dump_result(self, value: Any) -> object:
        """Return the JSON form of what a function returns, as FastAPI answers with it.

        Raises:
            ValueError: It does not fit the annotation, or cannot be said in JSON.
        """
        try:
            fitting = self._adapter.validate_python(value, from_attributes=True)
        except ValidationError as error:
            raise Unreadable(self._explain(error)) from error
        return self._adapter.dump_python(fitting, mode="json", by_alias=True)

    def _dump(self, value: Any, *, by_alias: bool, exclude_defaults: bool = False) -> bytes:
        try:
            return self._adapter.dump_json(
                value,
                by_alias=by_alias,
                exclude_defaults=exclude_defaults,
                round_trip=True,
                # What is wrong with the value is told by reading it again.
                warnings=False,
            )
        except PydanticSerializationError:
            if not isinstance(value, dict | list):
                raise
            # Given as JSON, which pydantic need not know how to dump, or with values that it does not know.
            return encode(value, "payload")

    def _renamed(self, value: Any) -> bytes:
        form = msgspec.json.decode(self._dump(value, by_alias=False))
        return msgspec.json.encode(_with_names_to_read(value, form))

    @functools.cached_property
    def _parts(self) -> list[Any]:
        return list(parts_of(self._annotation))

    @functools.cached_property
    def _reads_other_names(self) -> bool:
        """Whether a model in the annotation is read by other names than it is dumped by."""
        return any(
            _path_to_read(kind, name, field) != [field.serialization_alias or name]
            for kind in self._parts
            for name, field in fields_of(kind).items()
        )

    @functools.cached_property
    def _hides_values(self) -> bool:
        """Whether the value holds a secret, so that messages must not show what was given."""
        return any(
            hasattr(kind, "get_secret_value")
            or (isinstance(kind, type) and _config(kind).get("hide_input_in_errors"))
            for kind in self._parts
        )

    def _explain(self, error: ValidationError) -> str:
        problems = error.errors(include_url=False, include_context=False)
        told = []
        for problem in problems[:_ERRORS_SHOWN]:
            place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in problem["loc"])
            text = problem["msg"]
            if problem["type"] == "missing":
                text += self._why_missing(problem["loc"])
            elif not self._hides_values:
                text += f", got {_show(problem['input'])}"
            told.append(f"{place.lstrip('.')}: {text}" if place else text)
        more = len(problems) - len(told)
        return "; ".join(told) + (f"; and {more} more" if more else "")

    def _why_missing(self, place: tuple[int | str, ...]) -> str:
        for kind in self._parts:
            for name, field in fields_of(kind).items():
                if field.exclude and place and place[-1] in (name, field.alias, field.validation_alias):
                    return " (it is declared with exclude, so it is not sent)"
        return ""


def _with_names_to_read(value: Any, form: Any) -> Any:
    """Return a form with the names of fields replaced by those that the models in the value read."""
    fields = fields_of(type(value))
    if fields and getattr(type(value), "__pydantic_root_model__", False):
        return _with_names_to_read(value.root, form)
    if fields and isinstance(form, dict):
        made: dict[str, Any] = {}
        for name, item in form.items():
            field = fields.get(name)
            path = [name] if field is None else _path_to_read(type(value), name, field)
            _put(made, path, _with_names_to_read(getattr(value, name, None), item))
        return made
    if isinstance(value, Mapping) and isinstance(form, dict) and len(value) == len(form):
        pairs = zip(value.values(), form.items(), strict=True)
        return {key: _with_names_to_read(item, inner) for item, (key, inner) in pairs}
    if (
        isinstance(value, list | tuple | set | frozenset)
        and isinstance(form, list)
        and len(value) == len(form)
    ):
        return [_with_names_to_read(item, inner) for item, inner in zip(value, form, strict=True)]
    if isinstance(form, dict) and hasattr(value, "__dataclass_fields__"):
        return {name: _with_names_to_read(getattr(value, name, None), item) for name, item in form.items()}
    return form


def _path_to_read(kind: Any, name: str, field: Any) -> list[str | int]:
    """Return where in the JSON object a field is read from."""
    config = _config(kind)
    alias = field.validation_alias
    if alias is None or config.get("validate_by_alias") is False:
        return [name]
    choices = getattr(alias, "choices", [alias])
    for choice in choices:
        if isinstance(choice, str):
            return [choice]
    return list(choices[0].path)


def _put(made: Any, path: list[str | int], item: Any) -> None:
    *way, last = path
    for step, following in zip(way, path[1:], strict=True):
        inner: Any = {} if isinstance(following, str) else []
        if isinstance(step, int):
            made.extend([None] * (step + 1 - len(made)))
            made[step] = made[step] if made[step] is not None else inner
            made = made[step]
        else:
            made = made.setdefault(step, inner)
    if isinstance(last, int):
        made.extend([None] * (last + 1 - len(made)))
    made[last] = item


def _config(kind: Any) -> Mapping[str, Any]:
    found = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None)
    return found if isinstance(found, Mapping) else {}


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({type(value).__name__})"
