"""JWTs: how a login is written down and read back (contract section 8)."""

from __future__ import annotations

import hmac
import uuid
from typing import Any, Literal

import jwt
import msgspec
from msgspec import Struct

ACCESS_SECONDS = 86_400
REFRESH_SECONDS = 24 * ACCESS_SECONDS


class Claims(Struct, omit_defaults=True, kw_only=True):
    """What a token says. `sub` and `api_key_id` name the key it was minted from, whose scope and life it shares.

    `bound` ties it to that key's secret: an id may get another secret, and tokens of the one before must end with it.
    """

    sub: str
    api_key_id: str
    org_id: str
    iat: int
    exp: int
    nbf: int
    jti: str
    queues: list[str]
    token_type: Literal["access", "refresh"]
    sid: str
    bound: str = ""


class InvalidTokenError(Exception):
    """Not a token of this server."""


def mint(
    secret: str,
    token_type: Literal["access", "refresh"],
    *,
    key_id: str,
    key_hash: str,
    organization_id: str,
    queues: list[str],
    sid: str,
    now: int,
) -> str:
    """A signed token that is valid from `now` (seconds since the epoch) for its type's lifetime."""
    lifetime = ACCESS_SECONDS if token_type == "access" else REFRESH_SECONDS  # noqa: S105
    claims = Claims(
        sub=key_id,
        api_key_id=key_id,
        org_id=organization_id,
        iat=now,
        exp=now + lifetime,
        nbf=now,
        jti=str(uuid.uuid4()),
        queues=queues,
        token_type=token_type,
        sid=sid,
        bound=binding(secret, key_hash),
    )
    return jwt.encode(msgspec.to_builtins(claims), secret, algorithm="HS256")


def binding(secret: str, key_hash: str) -> str:
    """Return what ties a token to an API key. It tells nothing about the key to those who do not know the secret."""
    return hmac.new(secret.encode(), b"key:" + key_hash.encode(), "sha256").hexdigest()[:32]


def read(secret: str, token: str) -> Claims:
    """Check the signature, and nothing about time: that is asked of the server's clock on each use.

    Raises:
        InvalidTokenError: the signature or the shape is wrong.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            options={
                "verify_signature": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
            },
        )
        return msgspec.convert(claims, Claims)
    except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise InvalidTokenError(str(error)) from None
