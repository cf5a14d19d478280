"""The proxy the environment asks for, by httpx's rules, so that every transport obeys the same ones."""

from __future__ import annotations

from urllib.parse import urlsplit


def proxy_for(base_url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for `base_url`; None for none."""
    # Imported here: only a client that opens connections needs it.
    from urllib.request import getproxies

    proxies = getproxies()
    parts = urlsplit(base_url)
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    exceptions = [entry.strip() for entry in proxies.get("no", "").split(",")]
    if not proxy or any(_covers(entry, parts.hostname or "") for entry in exceptions if entry):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of NO_PROXY means this host: `*`, a host and all below it, or `.domain` for those below."""
    entry = entry.partition("://")[2] or entry
    return entry == "*" or host == entry or host.endswith(entry if entry.startswith(".") else f".{entry}")
