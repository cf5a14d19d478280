"""The trace context in a job's payload: Spooled has no headers, so a reserved key carries it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from opentelemetry import propagate
from opentelemetry.context import Context

TRACE_KEY = "_spooled_trace"
"""The key of a payload object under which the trace context travels, as `{"traceparent": ...}`."""


def inject_trace_context(payload: object, context: Context | None = None) -> object:
    """Return the payload with the current trace context in it, written by OpenTelemetry's global propagator.

    Payloads that are JSON objects (mappings, dataclasses, msgspec, attrs and pydantic models) come back as a new dict
    with `TRACE_KEY`. Every other payload has no place for it and comes back as it is, as all do when nothing is
    being traced. A context that the payload has already is replaced.

    Args:
        payload: What is to be sent. It is not changed.
        context: The context to write. Default: the current one.
    """
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    if not carrier:
        return payload
    fields = _as_object(payload)
    return payload if fields is None else {**fields, TRACE_KEY: carrier}


def split(payload: object) -> tuple[object, dict[str, str]]:
    """The payload without `TRACE_KEY`, and what stood there; empty when that is nothing a producer of ours writes."""
    if not isinstance(payload, dict) or TRACE_KEY not in payload:
        return payload, {}
    rest = {key: value for key, value in payload.items() if key != TRACE_KEY}
    carried = payload[TRACE_KEY]
    if not isinstance(carried, dict):
        return rest, {}
    return rest, {k: v for k, v in carried.items() if isinstance(k, str) and isinstance(v, str)}


def _as_object(payload: object) -> Mapping[str, Any] | None:
    if isinstance(payload, Mapping):
        return payload
    dump = getattr(payload, "model_dump", None)
    if callable(dump) and not isinstance(payload, type):
        dumped = dump(mode="json")
        return dumped if isinstance(dumped, Mapping) else None
    if (
        isinstance(payload, msgspec.Struct)
        or hasattr(payload, "__dataclass_fields__")
        or hasattr(payload, "__attrs_attrs__")
    ):
        # What cannot be converted is refused with a better message by the client, which gets it unchanged.
        with contextlib.suppress(TypeError, ValueError):
            built = msgspec.to_builtins(payload, enc_hook=_foreign)
            return built if isinstance(built, Mapping) else None
    return None


def _foreign(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise TypeError(f"{type(value).__qualname__} has no JSON form")
