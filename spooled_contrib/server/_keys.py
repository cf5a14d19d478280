"""API keys: how they look and what is kept of them."""

from __future__ import annotations

import base64
import hashlib
import secrets


def new_api_key() -> str:
    """`sp_test_` and 32 random bytes as unpadded base64url."""
    return "sp_test_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii")


def new_webhook_token() -> str:
    """`whk_` and 24 random bytes as unpadded base64url."""
    return "whk_" + base64.urlsafe_b64encode(secrets.token_bytes(24)).rstrip(b"=").decode("ascii")


def key_hash(key: str) -> str:
    """Return what the database holds instead of the key.

    A plain SHA-256 is right here: the input is 256 random bits, so there is nothing that a slow hash would protect.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_prefix(key: str) -> str:
    """Enough of a key to recognise it in a list, and far too little to use it."""
    return key[:12]
