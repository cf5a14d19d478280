"""Every exception the client raises, and how an HTTP answer becomes one of them.

Catch `SpooledError` for "anything Spooled", a subclass for a case you can act on. `str(error)` carries the
status, the code, the server's message, the request id and what to do about it.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Mapping
from typing import Any, ClassVar, TypeGuard

import msgspec

_API_CODES = frozenset(
    {
        "ACCESS_DENIED",
        "AUTHENTICATION_FAILED",
        "BAD_REQUEST",
        "CACHE_ERROR",
        "CONFIGURATION_ERROR",
        "CONFLICT",
        "DATABASE_ERROR",
        "ERROR",
        "FEATURE_DISABLED",
        "INTERNAL_ERROR",
        "INVALID_JSON",
        "LEASE_EXPIRED",
        "METHOD_NOT_ALLOWED",
        "NOT_FOUND",
        "PAYLOAD_TOO_LARGE",
        "QUOTA_EXCEEDED",
        "RATE_LIMIT_EXCEEDED",
        "REQUEST_TIMEOUT",
        "SERVICE_UNAVAILABLE",
        "UNAUTHORIZED",
        "UNSUPPORTED_MEDIA_TYPE",
        "VALIDATION_ERROR",
    }
)
"""The codes of contract api-v1 §1.2."""

_TEXT_LIMIT = 500
_DEFAULT_RETRY_AFTER = 60.0


class SpooledError(Exception):
    """Root of all errors of this package.

    Attributes:
        message: What went wrong, without status, code or hint.
        status_code: HTTP status; 0 when no response was involved. An error that you make has its class's status.
        code: Machine-readable code, e.g. `LEASE_EXPIRED` (contract: error body).
        details: Field errors `[{"field", "message", "code"}]`, or what else the server sent; None if none.
        request_id: The server's `X-Request-Id`, to quote in a bug report; None when unknown.
        hint: What to do about it.
        server_wait: Seconds the server asked to wait (`Retry-After`); None when it did not ask.
        attempts: How many times the request was sent before this error was raised.
        foreign: Whether an answer came that is not in the API's own format (contract api-v1 §1.2), such as the page
            of a proxy, a firewall or a login. Such an answer says nothing about the request.
        unsent: Whether nothing of the request can have reached the server, because no connection came about: it was
            refused, the name is unknown, TLS or a proxy failed. Such a request is sent again whatever it is.
    """

    default_code: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""
    default_status: ClassVar[int] = 0
    default_message: ClassVar[str] = "The request failed"

    def __init__(
        self,
        message: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        details: Any = None,
        request_id: str | None = None,
        *,
        hint: str | None = None,
    ) -> None:
        self.message = self.default_message if message is None else message
        super().__init__(self.message)
        self.status_code = self.default_status if status_code is None else status_code
        self.code = code or self.default_code
        self.details = details
        self.request_id = request_id
        self.hint = self.default_hint if hint is None else hint
        self.server_wait: float | None = None
        self.attempts = 1
        self.foreign = False
        self.unsent = False

    def is_retryable(self) -> bool:
        """Return whether sending the same request again may succeed. Says nothing about whether that is safe."""
        return self.status_code == 408

    def __str__(self) -> str:
        label = f"{self.status_code} {self.code}" if self.status_code else self.code
        text = f"[{label}] {self.message}"
        if self.request_id:
            text += f" (request id {self.request_id})"
        if self.attempts > 1:
            text += f" (after {self.attempts} attempts)"
        if self.hint:
            text = f"{text if text.endswith(('.', '!', '?')) else text + '.'} {self.hint}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process borders (Celery, multiprocessing); Exception's own way would call
        # __init__ with the message alone and lose the rest.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[SpooledError], args: tuple[Any, ...], state: dict[str, Any]) -> SpooledError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(SpooledError, ValueError):
    """An option, or the environment variable it was read from, is missing or wrong."""

    default_code = "configuration_error"


class ValidationError(SpooledError, ValueError):
    """A field breaks a rule. Found before anything was sent (status_code 0) or by the server (400, 422)."""

    default_code = "VALIDATION_ERROR"
    default_message = "Validation failed"


class AuthenticationError(SpooledError):
    """401: the credential is missing, unknown, expired or revoked."""

    default_code = "UNAUTHORIZED"
    default_status = 401
    default_message = "Authentication failed"
    default_hint = (
        "Check that the API key (api_key= or SPOOLED_API_KEY) belongs to the server at base_url, "
        "is complete, active and not expired."
    )


class AuthorizationError(SpooledError):
    """403: the credential is good, but not for this."""

    default_code = "ACCESS_DENIED"
    default_status = 403
    default_message = "Access denied"
    default_hint = (
        "Use a key whose queues include this one, or an unrestricted key for organisation-wide calls."
    )


class NotFoundError(SpooledError):
    """404: no such thing, or the key's queue scope hides it."""

    default_code = "NOT_FOUND"
    default_status = 404
    default_message = "Resource not found"
    default_hint = "Check the id or name; a key that is limited to some queues cannot see the others."


class ConflictError(SpooledError):
    """409: the thing exists, but its state does not allow this."""

    default_code = "CONFLICT"
    default_status = 409
    default_message = "Resource conflict"
    default_hint = "Read its current status first; the action needs another one."


class LeaseExpiredError(ConflictError):
    """409 `LEASE_EXPIRED`: the lease ended or is not the current one; the job is no longer this worker's."""

    default_code = "LEASE_EXPIRED"
    default_hint = (
        "Drop this execution's result: the server gives the job to another worker. For longer jobs, "
        "send heartbeats before the lease ends or claim with a larger lease_duration_secs."
    )


class PayloadTooLargeError(SpooledError):
    """413: the payload is larger than the plan allows."""

    default_code = "PAYLOAD_TOO_LARGE"
    default_status = 413
    default_message = "Request payload too large"
    default_hint = "Store the data elsewhere and put a reference to it in the payload, or upgrade the plan."


class RateLimitError(SpooledError):
    """429: too many requests.

    Attributes:
        retry_after: Seconds to wait before the next request; 60 when the server named no time.
        limit: Capacity of the bucket that is empty.
        remaining: Requests left in it.
        reset: Unix time in seconds at which it is full again.
        scope: Whose bucket it is, e.g. `organization`.
    """

    default_code = "RATE_LIMIT_EXCEEDED"
    default_status = 429
    default_message = "Rate limit exceeded"
    default_hint = "Wait retry_after seconds, then send fewer requests: claim in batches and enqueue in bulk."

    def __init__(
        self,
        message: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        details: Any = None,
        request_id: str | None = None,
        *,
        retry_after: float = _DEFAULT_RETRY_AFTER,
        limit: int | None = None,
        remaining: int | None = None,
        reset: int | None = None,
        scope: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, status_code, code, details, request_id, hint=hint)
        self.retry_after = retry_after
        self.limit = limit
        self.remaining = remaining
        self.reset = reset
        self.scope = scope

    def get_retry_after(self) -> float:
        """Return seconds to wait before the next request."""
        return self.retry_after

    def is_retryable(self) -> bool:
        return True


class QuotaExceededError(RateLimitError):
    """429 `QUOTA_EXCEEDED`: a cap of the plan is reached. Waiting does not help, so it is never retried.

    Attributes:
        resource: What is capped, e.g. `active_jobs`.
        current: How many there are now.
        limit: How many the plan allows.
        plan: The plan.
        upgrade_to: The plan that allows more; None when there is none.
    """

    default_code = "QUOTA_EXCEEDED"
    default_message = "Plan limit exceeded"
    default_hint = "Let jobs finish or remove what is no longer used, or upgrade the plan."

    def __init__(
        self,
        message: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        details: Any = None,
        request_id: str | None = None,
        *,
        resource: str | None = None,
        current: int | None = None,
        limit: int | None = None,
        plan: str | None = None,
        upgrade_to: str | None = None,
        remaining: int | None = None,
        reset: int | None = None,
        scope: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(
            message,
            status_code,
            code,
            details,
            request_id,
            retry_after=0.0,
            limit=limit,
            remaining=remaining,
            reset=reset,
            scope=scope,
            hint=hint,
        )
        self.resource = resource
        self.current = current
        self.plan = plan
        self.upgrade_to = upgrade_to

    def is_retryable(self) -> bool:
        return False


class ServerError(SpooledError):
    """5xx: the server failed."""

    default_code = "INTERNAL_ERROR"
    default_status = 500
    default_message = "Server error"
    default_hint = "The fault is on the server's side: try again later and quote the request id if it stays."

    def is_retryable(self) -> bool:
        return True


class NetworkError(SpooledError):
    """The server was not reached, or the connection broke. Whether it acted on the request is unknown, unless `unsent`.

    Attributes:
        stale_connection: Whether a connection that was kept from an earlier request ended before a byte of the
            answer came, as happens when the server closes it at that moment.
    """

    default_code = "network_error"
    default_message = "Network request failed"
    default_hint = (
        "Check that the server runs, and that base_url (or SPOOLED_BASE_URL) and the proxy settings name it."
    )

    def __init__(
        self,
        message: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        details: Any = None,
        request_id: str | None = None,
        *,
        cause: Exception | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, status_code, code, details, request_id, hint=hint)
        self.stale_connection = False
        if cause is not None:
            self.__cause__ = cause

    def is_retryable(self) -> bool:
        return True


class TimeoutError(SpooledError, builtins.TimeoutError):  # noqa: A001 - the official name
    """No complete answer within the deadline. Whether the server acted on the request is unknown.

    Attributes:
        timeout_seconds: The deadline that passed.
    """

    default_code = "timeout"
    default_message = "Request timed out"
    default_hint = "Check the server and the network between; if answers are slow by nature, raise timeout=."

    def __init__(
        self,
        message: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        details: Any = None,
        request_id: str | None = None,
        *,
        timeout_seconds: float = 0.0,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, status_code, code, details, request_id, hint=hint)
        self.timeout_seconds = timeout_seconds

    def is_retryable(self) -> bool:
        return True


class CircuitBreakerOpenError(SpooledError):
    """Kept for code that catches it. This client has no circuit breaker, so it is never raised."""

    default_code = "circuit_breaker_open"
    default_message = "Circuit breaker is open"


class UnsupportedOperationError(SpooledError):
    """The server cannot do this, whoever asks."""

    default_code = "unsupported_operation"
    default_message = "This operation is not supported by the Spooled API"


class JobAbortedError(Exception):
    """Raise it in a handler that stops because their job was aborted. Not a `SpooledError`: no call failed."""


def is_spooled_error(error: object) -> TypeGuard[SpooledError]:
    """Return whether `error` came from this package."""
    return isinstance(error, SpooledError)


def is_lease_expired(error: object) -> TypeGuard[ConflictError]:
    """Return whether `error` says that the lease used in an ack or heartbeat is over."""
    return isinstance(error, ConflictError) and error.code == "LEASE_EXPIRED"


def parse_retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Return seconds to wait, from a `Retry-After` header: a number of seconds or an HTTP-date. None if neither."""
    if value is None:
        return None
    value = value.strip()
    try:
        seconds = float(value)
    except ValueError:
        # Imported here: it pulls in sockets and locales, and dates are rare in this header.
        from email.utils import mktime_tz, parsedate_tz

        parts = parsedate_tz(value)
        if parts is None:
            return None
        try:
            seconds = mktime_tz(parts) - (time.time() if now is None else now)
        except (ValueError, OverflowError):
            return None
    # The comparison is false for NaN as well.
    return max(seconds, 0.0) if seconds < float("inf") else None


_CLASS_BY_STATUS: dict[int, type[SpooledError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: AuthorizationError,
    404: NotFoundError,
    409: ConflictError,
    413: PayloadTooLargeError,
    422: ValidationError,
}

_CODE_BY_STATUS = {
    400: "BAD_REQUEST",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    415: "UNSUPPORTED_MEDIA_TYPE",
    503: "SERVICE_UNAVAILABLE",
}

_HINT_BY_CODE = {
    "FEATURE_DISABLED": "The organisation's plan does not include this feature: upgrade, or do without it.",
    "INVALID_JSON": "The server could not read the request body; one above 2 MiB is reported like this, too.",
    "METHOD_NOT_ALLOWED": "Check that base_url names a Spooled server and not a page in front of it.",
}


def create_error_from_response(
    status_code: int,
    body: bytes | str | Mapping[str, Any] | None = None,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> SpooledError:
    """Return the error that an HTTP answer outside 200-299 stands for.

    Args:
        status_code: HTTP status.
        body: The response body: raw, or already decoded from JSON. Text that is not JSON becomes the message.
        request_id: Overrides the `X-Request-Id` header.
        headers: Response headers, names in any case.
    """
    low = {name.lower(): value for name, value in (headers or {}).items()}
    fields, text = _read_body(body)
    request_id = request_id or low.get("x-request-id")
    code = _code(fields)
    message = (
        _first_text(fields, "message", "error")
        or text
        or f"The server answered {status_code} without a message."
    )
    details = fields.get("details")
    wait = parse_retry_after(low.get("retry-after"))

    error: SpooledError
    if status_code == 429:
        error = _too_many(message, code, details, request_id, fields, low, wait)
    else:
        kind = _CLASS_BY_STATUS.get(status_code, ServerError if status_code >= 500 else SpooledError)
        if status_code == 409 and code == "LEASE_EXPIRED":
            kind = LeaseExpiredError
        hint = _HINT_BY_CODE.get(code or "")
        if status_code == 404 and message.startswith("No route"):
            hint = "This server does not have the endpoint: it is older, or base_url holds a path too much."
        if 300 <= status_code < 400:
            hint = f"Set base_url to where it redirects: {low.get('location', 'unknown')}."
        code = code or _CODE_BY_STATUS.get(status_code)
        error = kind(message, status_code, code, details, request_id, hint=hint)
    error.server_wait = wait
    error.foreign = not (
        isinstance(fields.get("message"), str)
        and isinstance(fields.get("code"), str)
        and fields["code"] in _API_CODES
    )
    if error.foreign and not fields and 400 <= status_code < 500 and status_code != 429:
        kind_of_content = low.get("content-type") or "no content type"
        error.hint = (
            f"This is no answer of a Spooled server ({kind_of_content}): look at what stands before it, such as a "
            "proxy, a firewall or a login page."
        )
    return error


def _too_many(
    message: str,
    code: str | None,
    details: Any,
    request_id: str | None,
    fields: Mapping[str, Any],
    headers: Mapping[str, str],
    wait: float | None,
) -> RateLimitError:
    limit = _whole(headers.get("x-ratelimit-limit")) or _whole(fields.get("limit"))
    remaining = _whole(headers.get("x-ratelimit-remaining", fields.get("remaining")))
    reset = _whole(headers.get("x-ratelimit-reset", fields.get("reset_at")))
    scope = headers.get("x-ratelimit-scope")
    # Servers before the `code` field are told apart by the shape of the body.
    quota = code == "QUOTA_EXCEEDED" or (
        wait is None
        and (fields.get("error") == "limit_exceeded" or {"resource", "limit", "plan"} <= fields.keys())
    )
    if quota:
        return QuotaExceededError(
            message,
            429,
            "QUOTA_EXCEEDED",
            details,
            request_id,
            resource=_first_text(fields, "resource"),
            current=_whole(fields.get("current")),
            limit=_whole(fields.get("limit")),
            plan=_first_text(fields, "plan"),
            upgrade_to=_first_text(fields, "upgrade_to"),
            remaining=remaining,
            reset=reset,
            scope=scope,
        )
    return RateLimitError(
        message,
        429,
        code,
        details,
        request_id,
        retry_after=_DEFAULT_RETRY_AFTER if wait is None else wait,
        limit=limit,
        remaining=remaining,
        reset=reset,
        scope=scope,
    )


def _read_body(body: bytes | str | Mapping[str, Any] | None) -> tuple[Mapping[str, Any], str]:
    """Return the JSON object in the body, else the body's own text so that a proxy's error page is not lost."""
    if isinstance(body, Mapping):
        return body, ""
    if not body:
        return {}, ""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decoded = None
    if isinstance(decoded, dict):
        return decoded, ""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    text = " ".join(text.split())
    return {}, text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…"


def _code(fields: Mapping[str, Any]) -> str | None:
    code = fields.get("code")
    if isinstance(code, str) and code:
        return code
    # Older servers sent only `error`; it is a code when it looks like an identifier.
    legacy = fields.get("error")
    if isinstance(legacy, str) and 0 < len(legacy) <= 64 and legacy.isascii():
        plain = legacy.replace("-", "_").replace(".", "_")
        if plain.replace("_", "a").isalnum():
            return plain.upper()
    return None


def _first_text(fields: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    return None
