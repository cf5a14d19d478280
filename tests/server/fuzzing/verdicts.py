"""Which of Schemathesis's complaints are the contract's will. Each entry says why; everything else is a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import schemathesis

from spooled_contrib.server._rules.names import is_queue_name

_SEMANTIC = {
    # JSON Schema cannot say "in the future" or "an id of a job in the queue that is named beside it".
    "must be in the future",
    "must name a job in the queue",
    # Nor which hosts may be called, which queues are open to webhooks, or what an address without any letters is.
    "url: ",
    "is not open to webhooks",
    "email: is required",
    "custom_limits",
    "settings: must be an object",
}

# Cron expressions, time zones, edges between the steps of a workflow: section 1.2 has BAD_REQUEST for what only a
# handler can judge.
_WITH_MEANING = ("/api/v1/schedules", "/api/v1/workflows")


def _has_whole_float(value: Any) -> bool:
    """JSON Schema takes 44.0 for an integer, and Spooled does not: 422, wrong JSON type (section 1.2)."""
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, dict):
        return any(_has_whole_float(item) for item in value.values())
    return isinstance(value, list) and any(_has_whole_float(item) for item in value)


def _refused_for_its_meaning(case: Any, response: Any) -> bool:
    if not any(status.startswith("2") for status in case.operation.definition.raw["responses"]):
        return True  # a call that is always refused, and says so
    message = response.json()["message"]
    if response.json()["code"] == "BAD_REQUEST" and case.operation.path.startswith(_WITH_MEANING):
        return True
    if any(text in message for text in _SEMANTIC):
        return True
    return response.status_code == 422 and "got float" in message and _has_whole_float(case.body)


def _is_a_soft_deletion(case: Any, response: Any) -> bool:
    """Cancelling a job and revoking a key leave both to be looked at (sections 3.6 and 8)."""
    return case.operation.path.startswith(("/api/v1/jobs/{id}", "/api/v1/api-keys/{id}"))


def _is_another_organization(case: Any, response: Any) -> bool:
    """Who creates an organization does not become a member of it: only its own key sees it (section 8)."""
    return case.operation.path.startswith("/api/v1/organizations/{id}")


def _is_a_queue_after_all(case: Any, response: Any) -> bool:
    """Python's expressions have no \\p{L}: what judges the data there misses letters such as the micro sign."""
    return is_queue_name((case.path_parameters or {}).get("name", ""))


EXPECTED: dict[str, Callable[[Any, Any], bool]] = {
    "RejectedPositiveData": _refused_for_its_meaning,
    "AcceptedNegativeData": _is_a_queue_after_all,
    "UseAfterFree": _is_a_soft_deletion,
    "EnsureResourceAvailability": _is_another_organization,
}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """False drops a failure."""
    expected = EXPECTED.get(type(failure).__name__)
    try:
        return expected is None or not expected(case, response)
    except (json.JSONDecodeError, KeyError, TypeError):
        return True  # an answer of another form is a failure in any case
