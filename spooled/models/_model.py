"""What all models are, and pages of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the server, or a part of one."""


class Page(list[T], Generic[T]):
    """One page of a list.

    Attributes:
        has_more: Whether there is another page at `offset + limit`; None when the server does not say.
    """

    def __init__(self, items: Iterable[T] = (), *, has_more: bool | None = None) -> None:
        super().__init__(items)
        self.has_more = has_more

    def __repr__(self) -> str:
        return f"Page({super().__repr__()}, has_more={self.has_more})"
