"""Rules for the values of options. Each refusal names the option, the rule and the value, unless it is a secret."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn
from urllib.parse import urlsplit

from spooled.errors import ConfigurationError

SECRETS = frozenset({"api_key", "access_token", "refresh_token", "admin_key"})


def mask(secret: str | None) -> str | None:
    """A secret as it may appear in logs: the public prefix of an API key, and nothing else of it."""
    if secret is None:
        return None
    for prefix in ("sp_live_", "sp_test_", "sk_"):
        if secret.startswith(prefix):
            return f"{prefix}***"
    return "***"


def refusal(option: str, message: str) -> ConfigurationError:
    return ConfigurationError(
        message, details=[{"field": option, "message": message, "code": "configuration"}]
    )


def refuse(option: str, rule: str, value: object) -> NoReturn:
    shown = mask(str(value)) if option in SECRETS else repr(value)
    raise refusal(option, f"{option} must be {rule}, got {shown}")


def number(option: str, value: object, low: float, *, above: bool = False) -> None:
    rule = f"a finite number of at least {low:g}" if not above else f"a finite number above {low:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        refuse(option, rule, value)
    if value < low or (above and value == low):
        refuse(option, rule, value)


def integer(option: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        refuse(option, f"a whole number from {low} to {high}", value)


def boolean(option: str, value: object) -> None:
    if not isinstance(value, bool):
        refuse(option, "True or False", value)


def credential(option: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise refusal(option, f"{option} must be a string, got {type(value).__name__}")
    value = value.strip()
    if option == "api_key" and len(value) < 10:
        raise refusal(option, f"api_key must have at least 10 characters, got {len(value)}")
    if not value:
        raise refusal(option, f"{option} is empty")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise refusal(option, f"{option} holds a space, a line break or a character that is not ASCII")
    return value


def base_url(value: object) -> str:
    rule = "an http:// or https:// address such as https://api.spooled.cloud or http://localhost:8080"
    if not isinstance(value, str):
        refuse("base_url", rule, value)
    url = value.strip().rstrip("/")
    # First, so that no other refusal shows a password.
    if "@" in url:
        raise refusal("base_url", "base_url must not hold a user or password; pass api_key= instead")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is not a number
    except ValueError:
        refuse("base_url", rule, value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isprintable() or " " in url:
        refuse("base_url", rule, value)
    if not _is_host(parts.hostname):
        refuse("base_url", "an address whose host is a name or a number", value)
    if parts.query or parts.fragment:
        refuse("base_url", "an address without ? and #", value)
    if parts.path.endswith("/api/v1"):
        refuse("base_url", "the server's address without /api/v1 (the client adds it)", value)
    return url


def _is_host(name: str) -> bool:
    if name.isascii():
        labels = name.removesuffix(".").split(".")
        return ":" in name or all(0 < len(label) < 64 for label in labels)
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def ws_url(value: object) -> str | None:
    if value is None:
        return None
    rule = "a ws:// or wss:// address such as wss://api.spooled.cloud"
    if not isinstance(value, str):
        refuse("ws_url", rule, value)
    url = value.strip().rstrip("/")
    if "@" in url:
        raise refusal("ws_url", "ws_url must not hold a user or password")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is not a number
    except ValueError:
        refuse("ws_url", rule, value)
    known = parts.scheme in {"ws", "wss", "http", "https"}
    if (
        not known
        or not parts.hostname
        or not url.isprintable()
        or " " in url
        or parts.query
        or parts.fragment
    ):
        refuse("ws_url", rule, value)
    return url


def header_text(option: str, value: object) -> None:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        refuse(option, "printable ASCII text", value)


def headers(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise refusal("headers", f"headers must be a mapping of names to values, got {kind}")
    for name, text in value.items():
        if not isinstance(name, str) or not name or not name.replace("-", "").replace("_", "").isalnum():
            refuse("headers", "a mapping whose keys are header names", name)
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise refusal("headers", f"headers[{name!r}] must be printable ASCII text")
    return MappingProxyType(dict(value))
