"""What all models are, and pages of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the server, or a part of one."""

    def model_dump(
        self, *, mode: Literal["python", "json"] = "python", exclude_none: bool = False
    ) -> dict[str, Any]:
        """As a dict, parts included; the name is that of the official SDK's models.

        Args:
            mode: "python" keeps datetimes, "json" makes text of them.
            exclude_none: Leave out what is None, in this answer itself.
        """
        kept = (datetime,) if mode == "python" else ()
        made: dict[str, Any] = msgspec.to_builtins(self, builtin_types=kept)
        return {name: value for name, value in made.items() if value is not None} if exclude_none else made

    def model_dump_json(self) -> str:
        """As JSON text."""
        return msgspec.json.encode(self).decode()


class Page(list[T], Generic[T]):
    """One page of a list.

    Attributes:
        has_more: Whether there is another page at `offset + limit`; None when the server does not say.
    """

    def __init__(self, items: Iterable[T] = (), *, has_more: bool | None = None) -> None:
        super().__init__(items)
        self.has_more = has_more

    def is_last(self, limit: int) -> bool:
        """Return whether nothing follows. When the server does not say, a page that is not full is the last one.

        Args:
            limit: The limit that was asked for, or the server's own.
        """
        return len(self) < limit if self.has_more is None else not (self.has_more and self)

    def __repr__(self) -> str:
        return f"Page({super().__repr__()}, has_more={self.has_more})"
