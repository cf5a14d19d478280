"""The proxy the environment asks for, by httpx's rules, so that every transport obeys the same ones."""

from __future__ import annotations

import base64
import os
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from spooled.errors import ConfigurationError


class Proxy(NamedTuple):
    """A proxy, taken apart.

    Attributes:
        scheme: `http`, or `https` for one that is itself spoken to over TLS.
        host: Its name or number.
        port: Its port.
        authorization: The value of `Proxy-Authorization`; None when it wants none.
    """

    scheme: str
    host: str
    port: int
    authorization: str | None

    @property
    def address(self) -> str:
        """Return host and port, as they may appear in messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def proxy_for(base_url: str) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for `base_url`; None for none.

    Raises:
        ConfigurationError: It is not a proxy of a kind that is supported.
    """
    # Imported here: only a client that opens connections needs it.
    from urllib.request import getproxies

    proxies = getproxies()
    parts = urlsplit(base_url)
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind)
    exceptions = [entry.strip() for entry in proxies.get("no", "").split(",")]
    if not proxy or any(_covers(entry, parts.hostname or "") for entry in exceptions if entry):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    _check(proxy, f"{kind}_proxy")
    return proxy


def take_apart(proxy: str) -> Proxy:
    """Return the parts of a proxy's URL that `proxy_for` gave."""
    parts = urlsplit(proxy)
    assert parts.hostname is not None
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Proxy(parts.scheme, parts.hostname, port, authorization)


def _check(proxy: str, name: str) -> None:
    variable = next((each for each in (name, name.upper()) if os.environ.get(each)), name.upper())
    parts = urlsplit(proxy)
    try:
        port, host = parts.port, parts.hostname
    except ValueError:
        port = host = None
    if host is None:
        raise ConfigurationError(
            f"environment variable {variable} must be an address such as http://proxy.example:3128",
            hint=f"Correct or unset {variable}.",
        )
    if parts.scheme not in {"http", "https"}:
        shown = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
        raise ConfigurationError(
            f"environment variable {variable} names the proxy {shown}; supported are http:// and https:// proxies",
            hint=f"Correct or unset {variable}, name the server in NO_PROXY, or pass an httpx transport that can do "
            'it: transport=httpx.HTTPTransport(proxy=...) with "httpx[socks]".',
        )


def _covers(entry: str, host: str) -> bool:
    """Tell whether an entry of NO_PROXY means this host: `*`, a host and all below it, or `.domain` for those below."""
    entry = entry.partition("://")[2] or entry
    return entry == "*" or host == entry or host.endswith(entry if entry.startswith(".") else f".{entry}")
