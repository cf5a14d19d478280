"""Names from OpenTelemetry's conventions for messaging, and what both sides need of them.

Spelled out here because the package that holds them moves them between releases while they are not stable.
"""

from __future__ import annotations

import contextlib

from opentelemetry.trace import Span, Status, StatusCode

SYSTEM = "messaging.system"
DESTINATION = "messaging.destination.name"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
MESSAGE_ID = "messaging.message.id"
BATCH_COUNT = "messaging.batch.message_count"
CLIENT_ID = "messaging.client.id"
ERROR_TYPE = "error.type"

SCOPE = "spooled_contrib.otel"


def attributes(queue_name: str, name: str, kind: str) -> dict[str, str]:
    """Return what every span and every measurement of an operation carries."""
    return {SYSTEM: "spooled", DESTINATION: queue_name, OPERATION_NAME: name, OPERATION_TYPE: kind}


def error_type(error: BaseException) -> str:
    """Return the exception's class, as `error.type` wants it: few values, no message."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def record_error(span: Span, error: BaseException) -> None:
    """Mark the span as failed. Never raises: the exception itself is what must get on."""
    span.set_attribute(ERROR_TYPE, error_type(error))
    # `str(error)` is the user's code.
    with contextlib.suppress(Exception):
        span.record_exception(error)
    try:
        description = f"{type(error).__name__}: {error}"
    except Exception:
        description = type(error).__name__
    span.set_status(Status(StatusCode.ERROR, description))
