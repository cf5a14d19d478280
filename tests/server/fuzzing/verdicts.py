"""Which of Schemathesis's complaints are the contract's will, and what no request may do to the run itself.

Each entry says why; every other complaint is a failure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import schemathesis

from spooled_contrib.server._rules.names import is_queue_name
from spooled_contrib.server._rules.organizations import DEVELOPMENT_ORGANIZATION_ID, SERVER_KEY_ID
from spooled_contrib.server._webhooks.targets import URL_PATTERN
from tests.server.fuzzing import ADMIN_KEY, KEY

_INGEST = "/api/v1/webhooks/{organization_id}/custom"

_SEMANTIC = {
    # JSON Schema cannot say "in the future" or "an id of a job in the queue that is named beside it".
    "must be in the future",
    "must name a job in the queue",
    # Nor "as many as the member beside it says", "a range that rises", "a time zone that there is", or "a key of
    # another step".
    "job_ids: has",
    "is not a rising range",
    "is neither an IANA time zone nor an offset",
    "is no job of this workflow",
    "occurs more than once; keys are unique in a workflow",
    "These jobs wait for each other",
    # These depend on what became of the thing, and the contract says 400 and not 409 (sections 7 and 9).
    "only failed workflows can be retried",
    "The delivery was successful already",
    "The delivery was tried",
}


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
    if any(text in message for text in _SEMANTIC):
        return True
    return ("got float" in message or "or an integer" in message) and _has_whole_float(case.body)


def _is_a_soft_deletion(case: Any, response: Any) -> bool:
    """Cancelling a job, revoking a key and closing an organization leave all of them to be looked at."""
    return case.operation.path.startswith(
        ("/api/v1/jobs/{id}", "/api/v1/api-keys/{id}", "/api/v1/admin/organizations/{id}")
    )


def _is_another_organization(case: Any, response: Any) -> bool:
    """Who creates an organization does not become a member of it: only its own key sees it (section 8)."""
    return case.operation.path.startswith("/api/v1/organizations/{id}")


def _is_a_queue_after_all(case: Any, response: Any) -> bool:
    """Python's expressions have no \\p{L}: what judges the data there misses letters such as the micro sign."""
    return is_queue_name((case.path_parameters or {}).get("name", ""))


def _is_an_item_that_is_refused(case: Any, response: Any) -> bool:
    """Acks in batches are answered one by one, and a wrong one is refused in its own answer."""
    if case.operation.path != "/api/v1/jobs/settle":
        return False
    answer = response.json()
    items = [*answer["completes"], *answer["fails"], answer["claim"] or {"status": 200}]
    return any(item["status"] >= 400 for item in items)


def _is_accepted_all_the_same(case: Any, response: Any) -> bool:
    return _is_a_queue_after_all(case, response) or _is_an_item_that_is_refused(case, response)


EXPECTED: dict[str, Callable[[Any, Any], bool]] = {
    "RejectedPositiveData": _refused_for_its_meaning,
    "AcceptedNegativeData": _is_accepted_all_the_same,
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


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Keeps a request from calling strangers, and from taking away what the run itself lives on."""
    if isinstance(case.body, dict):
        for name in ("url", "completion_webhook"):
            url = case.body.get(name)
            if isinstance(url, str) and re.match(URL_PATTERN, url):
                # Nobody listens there, and no resolver has to be asked.
                case.body[name] = re.sub(r"://[^/?#]*", "://127.0.0.1:9", url, count=1)
    if case.operation.path == _INGEST and not _is_negated(case):
        case.path_parameters["organization_id"] = DEVELOPMENT_ORGANIZATION_ID
    elif (case.path_parameters or {}).get("id") in (DEVELOPMENT_ORGANIZATION_ID, SERVER_KEY_ID) and (
        case.method in ("PATCH", "PUT", "DELETE")
    ):
        # A plan, a revoked key or a limit would make every answer that follows the same one.
        case.path_parameters["id"] = "another"


def _is_negated(case: Any) -> bool:
    return (
        any(component.mode.is_negative for component in case.meta.components.values()) if case.meta else False
    )


@schemathesis.auth(refresh_interval=None).apply_to(path=_INGEST)
class WebhookToken:
    """Asks for the token each time: the run makes new ones."""

    def get(self, case: Any, context: Any) -> str:
        url = case.operation.schema.get_base_url().rstrip("/") + "/api/v1/organizations/webhook-token"
        token: str = httpx.get(url, headers={"authorization": f"Bearer {KEY}"}).json()["webhook_token"]
        return token

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["X-Webhook-Token"] = data


@schemathesis.auth().apply_to(path_regex="^/api/v1/admin/")
class AdminKey:
    """Nothing else of the API is to be called with it."""

    def get(self, case: Any, context: Any) -> str:
        return ADMIN_KEY

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["X-Admin-Key"] = data
