"""How transports report that there is no response."""

from __future__ import annotations

from spooled import errors
from spooled._http._messages import Request


def overdue(request: Request) -> errors.TimeoutError:
    """The response was not complete in time."""
    return errors.TimeoutError(
        f"{request.method} {request.path}: no complete answer within {request.timeout:g} s",
        timeout_seconds=request.timeout,
    )


def unconnected(base_url: str, request: Request, seconds: float) -> errors.TimeoutError:
    """No connection came about in time."""
    seconds = min(seconds, request.timeout)
    return errors.TimeoutError(
        f"{request.method} {request.path}: no connection to {base_url} within {seconds:g} s",
        timeout_seconds=seconds,
    )


def crowded(request: Request) -> errors.TimeoutError:
    """All connections were busy with other requests until the time was up."""
    return errors.TimeoutError(
        f"{request.method} {request.path}: no connection became free within {request.timeout:g} s",
        timeout_seconds=request.timeout,
        hint="Raise max_connections= or make fewer calls at a time.",
    )


def broken(base_url: str, request: Request, error: Exception) -> errors.NetworkError:
    """The server was not reached, or the connection broke."""
    reason = str(error) or type(error).__name__
    return errors.NetworkError(f"{request.method} {request.path} at {base_url}: {reason}")
