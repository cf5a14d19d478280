"""`spooled://:KEY@host[:port]?option=value`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from spooled import ClientConfig

CLOUD = "api.spooled.cloud"

MASK = "**"
"""What is shown in the place of a key."""

_NOT_OPTIONS = frozenset({"api_key", "apikey", "key", "password", "token"})
"""Names under which a key may be looked for; but it stands in the URL, or in SPOOLED_API_KEY."""

_KEYS = ("sp_live_", "sp_test_", "sk_")
"""How keys begin (contract api-v1 section 1.1)."""

_ENCODE = "what is not a letter or a digit must be percent-encoded in a key"


@dataclass(frozen=True, slots=True)
class Options:
    """What the URL's query, or `broker_transport_options`, may say.

    Attributes:
        lease: Seconds that a message belongs to a worker without a sign of life, 5 to 3600. It is renewed all the time,
            so this only decides how soon a dead worker's messages go to others.
        poll: Longest pause in seconds between two looks into empty queues.
        redeliveries: How often a message may come back because its worker died; then it is a dead letter. 0 to 100.
        prefix: In front of the name of every queue.
        wakeups: `auto`: the server announces new messages, on one stream of events for each process that consumes;
            `off`: they are found by looking.
        transport: `auto`, `httpx` or `aiohttp`, see `SpooledWorker`.
        timeout: Seconds that a request may take.
        connections: Requests that may be under way at the same time.
    """

    lease: int = 30
    poll: float = 1.0
    redeliveries: int = 5
    prefix: str = ""
    wakeups: str = "auto"
    transport: str = "auto"
    timeout: float = 30.0
    connections: int = 20


_CHOICES = {"transport": ("auto", "httpx", "aiohttp"), "wakeups": ("auto", "off")}

_RANGES: dict[str, tuple[float, float]] = {
    "lease": (5, 3600),
    "poll": (0.01, 3600),
    "redeliveries": (0, 100),
    "timeout": (0.1, 3600),
    "connections": (1, 1000),
}


@dataclass(frozen=True)
class Address:
    """A server, the key, and the options."""

    base_url: str
    api_key: str | None = field(repr=False)
    options: Options

    def config(self) -> ClientConfig:
        """Return the client's configuration; the key may come from SPOOLED_API_KEY.

        Raises:
            ConfigurationError: There is no key, or it cannot be one.
        """
        given: dict[str, Any] = {
            "base_url": self.base_url,
            "timeout": self.options.timeout,
            # kombu and Celery have policies of their own for publishing; claims and acks are repeated by the manager.
            "retry": {"max_retries": 0},
        }
        if self.api_key:
            given["api_key"] = self.api_key
        config = ClientConfig.resolve(**given)
        config.require_credentials()
        return config

    def with_options(self, options: Mapping[str, Any]) -> Address:
        """With those of `broker_transport_options` that are ours; others belong to kombu and Celery."""
        ours = {name: value for name, value in options.items() if name in Options.__dataclass_fields__}
        return replace(self, options=_read(ours, self.options)) if ours else self


def parse(url: str) -> Address:
    """Read a URL: TLS with `spooled://`, plain with `spooled+http://` (which kombu hands on as `http://`).

    Raises:
        ValueError: It is no such URL, or has an unknown option or a bad value. The text never has the key in it.
    """
    shown = repr(masked(url))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or CLOUD, f":{parts.port}" if parts.port else ""
    except ValueError:
        # Not Python's own words: they have that part of the URL in them.
        raise ValueError(f"{shown} is no URL: {_ENCODE}, and a port must be a number") from None
    scheme = parts.scheme.removeprefix("spooled+")
    if scheme not in ("spooled", "http", "https"):
        raise ValueError(f"{shown} must begin with spooled:// or spooled+http://")
    if parts.path.strip("/"):
        hint = f"; {_ENCODE}" if "@" in parts.path else ""
        raise ValueError(f"{shown} has a path; a Spooled server has no virtual hosts{hint}")
    if host.startswith(_KEYS):
        raise ValueError(f"{shown} has the key where the host belongs; write spooled://:KEY@host")
    key = unquote(parts.password or parts.username or "") or None
    if key == MASK:
        raise ValueError(f"{shown} has {MASK} for its key: it was printed or pickled, which hides the key")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in given:
        if name not in Options.__dataclass_fields__:
            raise ValueError(f"a spooled:// URL has no option {_masked_option(name, MASK)!r}; {_hint(name)}")
    host = f"[{host}]" if ":" in host else host
    return Address(
        f"{'http' if scheme == 'http' else 'https'}://{host}{port}",
        key,
        _read(given, Options()),
    )


def refuse_key(options: Mapping[str, Any]) -> None:
    """Refuse a key among `broker_transport_options`, which kombu and Celery show.

    Raises:
        ValueError: There is one.
    """
    for name in options:
        if name in _NOT_OPTIONS:
            raise ValueError(f"broker_transport_options must not have {name!r}: {_hint(name)}")


def masked(url: str, mask: str = MASK) -> str:
    """Return the URL without its key, also where it is not well formed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    quoted = quote(mask, safe="*")
    # The last one: a key may have one too, and a slash or a question mark, though it should not.
    login, at, place = rest.rpartition("@")
    place, question, query = place.partition("?")
    _, colon, port = place.rstrip("/").rpartition(":")
    if place.startswith(_KEYS) or (colon and "]" not in port and not port.isdecimal()):
        place = quoted  # a key where the host or the port belongs
    shown = f"{scheme}://{f':{quoted}@' if login else at}{place}"
    if not question:
        return shown
    options = "&".join(_masked_option(one, mask) for one in query.split("&"))
    return f"{shown}?{options}"


def _masked_option(option: str, mask: str) -> str:
    """One option of a query: the value of one that there is not may be a key, and so may what is no name."""
    name, equals, value = option.partition("=")
    if name.startswith(_KEYS) or not name.isidentifier():
        name = mask
    return f"{name}{equals}{value if name in Options.__dataclass_fields__ or not value else mask}"


def _hint(name: str) -> str:
    if name in _NOT_OPTIONS:
        return "the key stands in front of the host: spooled://:KEY@host"
    near = difflib.get_close_matches(name, Options.__dataclass_fields__, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(Options.__dataclass_fields__)}"


def _read(given: Mapping[str, Any], base: Options) -> Options:
    values: dict[str, Any] = {}
    for name, value in given.items():
        kind = type(getattr(base, name))
        try:
            values[name] = kind(value)
        except (TypeError, ValueError):
            raise ValueError(f"option {name!r} must be a number, got {value!r}") from None
        low, high = _RANGES.get(name, (0, 0))
        if name in _RANGES and not low <= values[name] <= high:
            raise ValueError(f"option {name!r} must be from {low:g} to {high:g}, got {value!r}")
        choices = _CHOICES.get(name, ())
        if choices and values[name] not in choices:
            shown = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise ValueError(f"option {name!r} must be {shown}, got {value!r}")
    return replace(base, **values)
