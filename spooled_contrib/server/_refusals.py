"""Every way in which a request is refused, with the status, code and body shape of the contract (section 1.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class RefusalError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        code: The machine-readable code of the contract.
        message: One sentence for a human.
        details: Per-field complaints, for validation errors.
        extras: Further members of the body.
        headers: Further response headers, lower case.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[Mapping[str, str]] | None = None,
        extras: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.extras = extras
        self.headers = headers

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details is not None:
            body["details"] = self.details
        if self.extras:
            body.update(self.extras)
        return body


def bad_request(message: str) -> RefusalError:
    return RefusalError(400, "BAD_REQUEST", message)


def invalid_json(message: str, *, field: str = "body", code: str = "invalid_json") -> RefusalError:
    """The body is not JSON, or a text in it is not what it must be (a timestamp, one of a few words)."""
    details = [{"field": field, "message": message, "code": code}]
    return RefusalError(
        400, "INVALID_JSON", f"{field}: {message}", details=details, extras={"error": "Invalid JSON"}
    )


def invalid(field: str, message: str, *, code: str = "custom", status: int = 400) -> RefusalError:
    """A rule about one field is violated. 422 when the field is missing or of the wrong JSON type."""
    details = [{"field": field, "message": message, "code": code}]
    return RefusalError(
        status,
        "VALIDATION_ERROR",
        f"{field}: {message}",
        details=details,
        extras={"error": "Validation failed"},
    )


def unauthorized(message: str) -> RefusalError:
    return RefusalError(401, "UNAUTHORIZED", message)


def authentication_failed(message: str) -> RefusalError:
    return RefusalError(401, "AUTHENTICATION_FAILED", message)


def access_denied(message: str) -> RefusalError:
    return RefusalError(403, "ACCESS_DENIED", message)


def out_of_scope(queue_name: str) -> RefusalError:
    return access_denied(f"This API key may not use the queue {queue_name!r}")


def not_found() -> RefusalError:
    # One text for unknown, foreign and out of scope: the answer must not tell them apart.
    return RefusalError(404, "NOT_FOUND", "Resource not found")


def conflict(message: str) -> RefusalError:
    return RefusalError(409, "CONFLICT", message)


def lease_expired(message: str) -> RefusalError:
    return RefusalError(409, "LEASE_EXPIRED", message)


def payload_too_large(current: int, limit: int, plan: str, upgrade_to: str | None) -> RefusalError:
    return RefusalError(
        413,
        "PAYLOAD_TOO_LARGE",
        f"The payload has {current} bytes, the plan allows {limit}",
        extras={
            "error": "payload_too_large",
            "current": current,
            "limit": limit,
            "plan": plan,
            "upgrade_to": upgrade_to,
        },
    )


def feature_disabled(feature: str, plan: str, upgrade_to: str | None) -> RefusalError:
    """The plan has none of it at all."""
    return RefusalError(
        403,
        "FEATURE_DISABLED",
        f"The plan {plan} has no {feature.replace('_', ' ')}",
        extras={"error": "feature_disabled", "feature": feature, "plan": plan, "upgrade_to": upgrade_to},
    )


def quota_exceeded(
    resource: str, current: int, limit: int, plan: str, upgrade_to: str | None
) -> RefusalError:
    """A plan's cap. Trying again does not help, so there is no Retry-After."""
    upgrade = {} if upgrade_to is None else {"upgrade_to": upgrade_to}
    return RefusalError(
        429,
        "QUOTA_EXCEEDED",
        f"The plan allows {limit} {resource.replace('_', ' ')}; {current} are in use",
        extras={
            "error": "limit_exceeded",
            "resource": resource,
            "current": current,
            "limit": limit,
            "plan": plan,
            **upgrade,
        },
    )


def unavailable(reason: str, *, retry_after: int | None) -> RefusalError:
    """The database did not do it, and nothing was changed.

    Args:
        reason: The cause in a few words, without names and paths.
        retry_after: Seconds after which to try again; None when nobody can say.
    """
    return RefusalError(
        503,
        "SERVICE_UNAVAILABLE",
        f"Nothing was done: {reason}",
        headers=None if retry_after is None else {"retry-after": str(retry_after)},
    )


def rate_limited(scope: str, limit: int, retry_after: int, reset_at: int) -> RefusalError:
    return RefusalError(
        429,
        "RATE_LIMIT_EXCEEDED",
        f"Too many requests; try again in {retry_after} s",
        extras={
            "error": "Rate limit exceeded",
            "retry_after_secs": retry_after,
            "limit": limit,
            "remaining": 0,
            "reset_at": reset_at,
        },
        headers={
            "retry-after": str(retry_after),
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(reset_at),
            "x-ratelimit-scope": scope,
        },
    )
