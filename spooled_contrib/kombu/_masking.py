"""Keep the API key out of what a kombu connection tells about itself.

kombu and Celery print and send a connection's parameters: `Connection.info()`, `celery inspect stats`, logs. The same
parameters make its clones and those of its pools, so the key cannot be taken out. Here it is a text that reads as
`**`, and knows what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self
from urllib.parse import quote

from spooled_contrib.kombu._url import MASK, masked, refuse_key

SHORTEST = 10
"""Letters that a key has at least (contract api-v1 section 1.1): fewer would be found in other words."""


class Masked(str):
    """A text to be shown in the place of another one, which only `reveal` gives back.

    It is equal to the text that it stands for, because kombu finds pools by their parameters. Pickled or sent
    anywhere, it is a plain text without the secret.
    """

    __slots__ = ("_plain",)
    _plain: str

    def __new__(cls, shown: str, plain: str) -> Self:
        made = super().__new__(cls, shown)
        made._plain = plain
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._plain == reveal(other)

    def __ne__(self, other: object) -> bool:  # str has one of its own
        return not self == other

    def __hash__(self) -> int:
        return hash(self._plain)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce_ex__(self, _: object) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def reveal(text: Any) -> str:
    """Return what the text stands for: itself, unless it is masked. None is an empty text; a callable is asked."""
    if isinstance(text, Masked):
        return text._plain
    return str(text() if callable(text) else text or "")


def hide_key(connection: Any) -> None:
    """Mask the key in every parameter of a kombu connection, and in those of all that is made from it.

    Args:
        connection: A `kombu.Connection`. It can be connected, cloned and pooled as before.

    Raises:
        ValueError: There is a key among the transport options.
    """
    refuse_key(connection.transport_options)
    # kombu would write the prefix in front, into a text without what it stands for. Our URLs need none.
    connection.uri_prefix = None
    connection.hostname = _url(connection.hostname)
    connection.alt = [_url(one) for one in connection.alt]
    for name in ("userid", "password"):
        value = getattr(connection, name)
        if isinstance(value, str) and value and not isinstance(value, Masked):
            setattr(connection, name, Masked(MASK, value))
    if connection.cycle is not None and not isinstance(connection.cycle, _Revealing):
        connection.cycle = _Revealing(connection.cycle)


def blank_out(body: str | bytes, keys: Iterable[str]) -> str | bytes:
    """Write stars over every key in a message's body, in a URL or alone.

    Celery answers `inspect conf` and `inspect report` with all settings, and takes a URL in one whose name has a prefix
    (`CELERY_BROKER_URL`) for a text like any other. As many stars as letters, so that a pickle can still be read.
    """
    for key in keys:
        if len(key) < SHORTEST:
            continue
        for text in {key, quote(key, safe="")}:
            stars = "*" * len(text)
            if isinstance(body, str):  # noqa: SIM108 - mypy tells the two apart only so
                body = body.replace(text, stars)
            else:
                body = body.replace(text.encode(), stars.encode())
    return body


def _url(text: Any) -> Any:
    if not isinstance(text, str) or isinstance(text, Masked):
        return text
    shown = masked(text)
    return text if shown == text else Masked(shown, text)


class _Revealing(Iterator[str]):
    """The URLs that kombu goes on to: it takes them apart, and so needs all of them."""

    def __init__(self, urls: Iterator[Any]) -> None:
        self._urls = urls

    def __next__(self) -> str:
        return reveal(next(self._urls))
