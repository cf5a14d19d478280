"""`spooled://:KEY@host[:port]?option=value`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from spooled import ClientConfig

CLOUD = "api.spooled.cloud"


@dataclass(frozen=True, slots=True)
class Options:
    """What the URL's query, or `broker_transport_options`, may say.

    Attributes:
        lease: Seconds that a message belongs to a worker without a sign of life, 5 to 3600. It is renewed all the time,
            so this only decides how soon a dead worker's messages go to others.
        poll: Longest pause in seconds between two looks into empty queues.
        redeliveries: How often a message may come back because its worker died; then it is a dead letter. 0 to 100.
        prefix: In front of the name of every queue.
        transport: `auto`, `httpx` or `aiohttp`, see `SpooledWorker`.
        timeout: Seconds that a request may take.
        connections: Requests that may be under way at the same time.
    """

    lease: int = 30
    poll: float = 1.0
    redeliveries: int = 5
    prefix: str = ""
    transport: str = "auto"
    timeout: float = 30.0
    connections: int = 20


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
        """The client's configuration; the key may come from SPOOLED_API_KEY.

        Raises:
            ConfigurationError: There is no key, or it cannot be one.
        """
        given: dict[str, Any] = {
            "base_url": self.base_url,
            "timeout": self.options.timeout,
            # kombu and Celery have policies of their own for publishing; claims and acks are repeated by the courier.
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
        ValueError: It is no such URL, or has an unknown option or a bad value.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.removeprefix("spooled+")
    if scheme not in ("spooled", "http", "https"):
        raise ValueError(f"{masked(url)!r} must begin with spooled:// or spooled+http://")
    if parts.path.strip("/"):
        raise ValueError(f"{masked(url)!r} has a path; a Spooled server has no virtual hosts")
    host = parts.hostname or CLOUD
    if ":" in host:
        host = f"[{host}]"
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ValueError(f"{masked(url)!r}: {error}") from error
    key = parts.password or parts.username
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in given:
        if name not in Options.__dataclass_fields__:
            near = difflib.get_close_matches(name, Options.__dataclass_fields__, n=1)
            known = ", ".join(Options.__dataclass_fields__)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {known}"
            raise ValueError(f"a spooled:// URL has no option {name!r}; {hint}")
    return Address(
        f"{'http' if scheme == 'http' else 'https'}://{host}{port}",
        unquote(key) if key else None,
        _read(given, Options()),
    )


def masked(url: str, mask: str = "**") -> str:
    """The URL without its key."""
    parts = urlsplit(url)
    if parts.password is None and parts.username is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f":{quote(mask, safe='*')}@{host}").geturl()


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
    if values.get("transport", "auto") not in ("auto", "httpx", "aiohttp"):
        raise ValueError(f"option 'transport' must be auto, httpx or aiohttp, got {values['transport']!r}")
    return replace(base, **values)
