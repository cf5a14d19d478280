"""Dump and read values by msgspec's rules: plain types, dataclasses, TypedDicts, Structs and attrs classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from spooled._http._json import encode, encoder_with
from spooled.codec._errors import Unreadable


class MsgspecRules:
    """msgspec's rules for one annotation.

    Args:
        annotation: The type.
        dump_foreign: Returns the JSON form of a value that msgspec does not know.
        load_foreign: Reads a value of a type that msgspec does not know: `load_foreign(type, form)`.

    Raises:
        TypeError: msgspec cannot read this from JSON.
    """

    def __init__(
        self,
        annotation: Any,
        dump_foreign: Callable[[object], object],
        load_foreign: Callable[[type, object], object],
    ) -> None:
        self._annotation = annotation
        self._encoder = encoder_with(dump_foreign)
        self._load_foreign = load_foreign
        msgspec.json.Decoder(annotation)

    def foreign_types(self) -> list[Any]:
        """Return the types in the annotation that msgspec itself cannot read."""
        found: list[Any] = []
        waiting: list[Any] = [msgspec.inspect.type_info(self._annotation)]
        seen: set[int] = set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, msgspec.inspect.CustomType):
                found.append(node.cls)
            elif isinstance(node, tuple):
                waiting.extend(node)
            elif isinstance(node, msgspec.Struct):
                waiting.extend(getattr(node, name) for name in node.__struct_fields__)
        return found

    def texts(self, value: Any) -> Iterator[bytes]:
        """Yield the JSON text of a value.

        Raises:
            ValidationError: It has none.
        """
        yield encode(value, "payload", self._encoder)

    def load(self, form: object) -> Any:
        """Read a JSON value.

        Raises:
            Unreadable: It does not fit.
        """
        try:
            return msgspec.convert(form, self._annotation, str_keys=True, dec_hook=self._load_foreign)
        except ValueError as error:
            raise Unreadable(str(error)) from error

    def read_back(self, text: bytes, form: object) -> Any:  # noqa: ARG002
        """Read JSON text, of which `form` is known, as `load`."""
        return self.load(form)

    def dump_result(self, value: Any) -> object:
        """Return what a function returned as it is: its own types say how it is sent."""
        return value


class UntypedRules:
    """The rules where nothing is declared: what JSON can say arrives, and anything with a JSON form may be sent."""

    def __init__(self, dump_foreign: Callable[[object], object]) -> None:
        self._encoder = encoder_with(dump_foreign)

    def texts(self, value: Any) -> Iterator[bytes]:
        """Yield the JSON text of a value.

        Raises:
            ValidationError: It has none.
        """
        yield encode(value, "payload", self._encoder)

    def load(self, form: object) -> Any:
        """Return a JSON value as it is."""
        return form

    def read_back(self, text: bytes, form: object) -> Any:  # noqa: ARG002
        """Return what JSON text says."""
        return form

    def dump_result(self, value: Any) -> object:
        """Return what a function returned as it is: its own types say how it is sent."""
        return value
