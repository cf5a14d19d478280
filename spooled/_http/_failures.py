"""How transports report that there is no response."""

from __future__ import annotations

import ssl

from spooled import errors
from spooled._http._messages import Request

TOO_LARGE = "response_too_large"
UNTRUSTED = "untrusted_certificate"
"""Codes of errors that the next attempt would meet again."""

_LONGEST = 300
"""Characters of a reason that are shown."""


def overdue(request: Request) -> errors.TimeoutError:
    """Return the error for a response that was not complete in time."""
    return errors.TimeoutError(
        f"{request.method} {request.path}: no complete answer within {request.timeout:g} s",
        timeout_seconds=request.timeout,
    )


def unconnected(base_url: str, request: Request, seconds: float) -> errors.TimeoutError:
    """Return the error for a connection that did not come about in time."""
    seconds = min(seconds, request.timeout)
    error = errors.TimeoutError(
        f"{request.method} {request.path}: no connection to {base_url} within {seconds:g} s",
        timeout_seconds=seconds,
    )
    error.unsent = True
    return error


def crowded(request: Request) -> errors.TimeoutError:
    """Return the error for connections that were all busy with other requests until the time was up."""
    error = errors.TimeoutError(
        f"{request.method} {request.path}: no connection became free within {request.timeout:g} s",
        timeout_seconds=request.timeout,
        hint="Raise max_connections= or make fewer calls at a time.",
    )
    error.unsent = True
    return error


def broken(base_url: str, request: Request, error: Exception, *, stale: bool = False) -> errors.NetworkError:
    """Return the error for a connection that broke.

    Args:
        base_url: The server.
        request: What was asked.
        error: The reason.
        stale: Whether the connection had served an earlier request, and ended before a byte of this answer came.
    """
    failed = errors.NetworkError(_text(base_url, request, error))
    failed.stale_connection = stale
    return failed


def unreachable(base_url: str, request: Request, error: Exception) -> errors.NetworkError:
    """Return the error for a connection that did not come about: refused, no such name, no TLS, no way past a proxy."""
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, ssl.SSLCertVerificationError):
        reason = reason.__cause__ or reason.__context__
    failed = errors.NetworkError(_text(base_url, request, error))
    if reason is not None:
        failed.code = UNTRUSTED
        failed.hint = (
            "Name the file with the certificate of the authority that signed the server's in SSL_CERT_FILE."
        )
    failed.unsent = True
    return failed


def not_let_through(
    base_url: str, request: Request, proxy: str, status: int, reason: str
) -> errors.NetworkError:
    """Return the error for a proxy that refused to connect to the server.

    Args:
        base_url: The server.
        request: What was asked.
        proxy: Host and port of the proxy, without credentials.
        status: What the proxy answered.
        reason: The words to it.
    """
    failed = errors.NetworkError(
        f"{request.method} {request.path} at {base_url}: "
        f"the proxy {proxy} answered CONNECT with {status} {reason[:_LONGEST]}".rstrip(),
        hint="Check the proxy's credentials and rules, or name the server in NO_PROXY.",
    )
    failed.unsent = True
    return failed


def too_large(request: Request, limit: int) -> errors.NetworkError:
    """Return the error for an answer of more than `limit` bytes."""
    return errors.NetworkError(
        f"{request.method} {request.path}: the answer is larger than {limit} bytes (max_response_bytes)",
        code=TOO_LARGE,
        hint="Ask for less at a time, or raise max_response_bytes=.",
    )


def _text(base_url: str, request: Request, error: Exception) -> str:
    # What a stranger sends may be in it, of any length.
    reason = " ".join(str(error).split()) or type(error).__name__
    if len(reason) > _LONGEST:
        reason = reason[:_LONGEST] + "…"
    return f"{request.method} {request.path} at {base_url}: {reason}"
