"""The surface that code written for the official SDK uses: names, methods, parameters, in both clients.

The table is the contract's part 2 in this file's own words: for each method what may be given by position, then what
by keyword or in the mapping. A parameter that ends in `?` may be left out. Of our own are `iterate`, `iterate_history`
and `settle`.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import httpx
import pytest

import spooled
from spooled import AsyncSpooledClient, SpooledClient, errors
from spooled.types import CreateJobParams

from .conftest import KEY, Client, Kind, make_client, result

JOB = (
    "queue_name payload priority? max_retries? timeout_seconds? scheduled_at? expires_at? idempotency_key? tags? "
    "parent_job_id? completion_webhook? completion_webhook_secret?"
)
JOB_FILTER = (
    "queue_name? q? job_type? tag? created_after? created_before? order_by? order_dir? limit? offset?"
)
API_KEY = "name queues? rate_limit? expires_at?"
SCHEDULE = "description? timezone? priority? max_retries? timeout_seconds? tags? metadata?"

# resource -> method -> (by position, by keyword or mapping)
SURFACE: dict[str, dict[str, tuple[str, str]]] = {
    "jobs": {
        "create": ("", JOB),
        "create_and_get": ("", JOB),
        "list": ("", f"{JOB_FILTER} status?"),
        "get": ("job_id", ""),
        "history": ("job_id", "order_dir? limit? offset?"),
        "iterate": ("", f"{JOB_FILTER.partition(' order_by')[0]} status?"),
        "iterate_history": ("job_id", ""),
        "cancel": ("job_id", ""),
        "retry": ("job_id", ""),
        "boost_priority": ("job_id priority", ""),
        "get_stats": ("queue_name?", ""),
        "batch_status": ("ids", ""),
        "bulk_enqueue": (
            "",
            "queue_name jobs default_priority? default_max_retries? default_timeout_seconds?",
        ),
        "claim": ("", "queue_name worker_id limit? lease_duration_secs?"),
        "complete": ("job_id", "worker_id lease_id result?"),
        "fail": ("job_id", "worker_id lease_id error"),
        "heartbeat": ("job_id", "worker_id lease_id lease_duration_secs?"),
        "settle": ("", "worker_id completes? fails? claim?"),
    },
    "jobs.dlq": {
        "list": ("", JOB_FILTER),
        "retry": ("", "queue_name? job_ids? limit?"),
        "purge": ("", "confirm queue_name? older_than? older_than_days? limit?"),
    },
    "queues": {
        "list": ("", ""),
        "get": ("name", ""),
        "update_config": ("name", "max_retries? default_timeout? rate_limit? enabled? settings?"),
        "get_stats": ("name", ""),
        "pause": ("name reason?", ""),
        "resume": ("name", ""),
        "delete": ("name delete_jobs?", ""),
    },
    "workers": {
        "list": ("", ""),
        "get": ("worker_id", ""),
        "register": (
            "",
            "queue_name hostname worker_id? worker_type? max_concurrency? metadata? version?",
        ),
        "heartbeat": ("worker_id", "current_jobs status? metadata?"),
        "deregister": ("worker_id", ""),
    },
    "schedules": {
        "list": ("", "queue_name? is_active? limit? offset?"),
        "create": ("", f"name cron_expression queue_name payload_template {SCHEDULE}"),
        "get": ("schedule_id", ""),
        "update": ("schedule_id", f"name? cron_expression? payload_template? is_active? {SCHEDULE}"),
        "delete": ("schedule_id", ""),
        "pause": ("schedule_id", ""),
        "resume": ("schedule_id", ""),
        "trigger": ("schedule_id", ""),
        "get_history": ("schedule_id limit?", ""),
    },
    "workflows": {
        "list": ("", "status? limit? offset?"),
        "create": ("", "name jobs description? metadata?"),
        "get": ("workflow_id", ""),
        "cancel": ("workflow_id", ""),
        "retry": ("workflow_id", ""),
    },
    "workflows.jobs": {
        "list": ("workflow_id", ""),
        "get": ("workflow_id job_id", ""),
        "get_status": ("workflow_id", ""),
        "get_dependencies": ("job_id", ""),
        "add_dependencies": ("job_id", "dependency_job_ids dependency_mode?"),
    },
    "webhooks": {
        "list": ("", ""),
        "create": ("", "name url events secret? enabled? format?"),
        "get": ("webhook_id", ""),
        "update": ("webhook_id", "name? url? events? secret? enabled? format?"),
        "delete": ("webhook_id", ""),
        "test": ("webhook_id", ""),
        "get_deliveries": ("webhook_id", "status? limit? offset?"),
        "retry_delivery": ("webhook_id delivery_id", ""),
        "list_inbound_deliveries": ("", "status? since? queue_name? limit? offset?"),
    },
    "ingest": {
        "custom": (
            "org_id",
            "queue_name payload event_type? idempotency_key? priority? webhook_token?",
        ),
    },
    "api_keys": {
        "list": ("", ""),
        "create": ("", API_KEY),
        "get": ("key_id", ""),
        "update": ("key_id", "name? queues? rate_limit? is_active?"),
        "delete": ("key_id", ""),
    },
    "organizations": {
        "create": ("", "name slug billing_email?"),
        "list": ("", ""),
        "get": ("organization_id", ""),
        "update": ("organization_id", "name? billing_email? settings?"),
        "delete": ("organization_id", ""),
        "get_usage": ("", ""),
        "get_members": ("organization_id", ""),
        "check_slug": ("slug", ""),
        "generate_slug": ("name", ""),
        "get_webhook_token": ("", ""),
        "regenerate_webhook_token": ("", ""),
        "clear_webhook_token": ("", ""),
    },
    "auth": {
        "login": ("", "api_key"),
        "refresh": ("", "refresh_token"),
        "logout": ("refresh_token?", ""),
        "me": ("", ""),
        "validate": ("", "token"),
        "start_email_login": ("email", ""),
        "check_email": ("email", ""),
    },
    "billing": {"get_status": ("", ""), "create_portal": ("", "return_url")},
    "dashboard": {"get": ("", "")},
    "health": {"get": ("", ""), "liveness": ("", ""), "readiness": ("", "")},
    "metrics": {"get": ("token?", "")},
    "admin": {
        "list_organizations": ("", "search? plan_tier? sort_by? sort_order? limit? offset?"),
        "get_organization": ("org_id", ""),
        "create_organization": ("", "name slug billing_email? plan_tier?"),
        "update_organization": ("org_id", "name? billing_email? plan_tier? settings? custom_limits?"),
        "delete_organization": ("org_id hard?", ""),
        "create_api_key": ("org_id", API_KEY),
        "reset_usage": ("org_id", ""),
        "get_stats": ("", ""),
        "list_plans": ("", ""),
    },
}

METHODS = [(resource, method) for resource, methods in SURFACE.items() for method in methods]

OPTIONS = """
    api_key access_token refresh_token admin_key base_url ws_url grpc_address timeout connect_timeout retry
    circuit_breaker headers user_agent auto_refresh_token debug
"""


def resource_of(client: Client, path: str) -> Any:
    found = client
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.fixture
async def offline(kind: Kind) -> Any:
    """A client that is only looked at."""
    client = make_client(
        kind, api_key=KEY, transport=httpx.MockTransport(lambda request: httpx.Response(200))
    )
    yield client
    await result(client.close())


@pytest.mark.parametrize(("resource", "method"), METHODS)
async def test_every_method_takes_its_parameters(
    offline: Client, kind: Kind, resource: str, method: str
) -> None:
    by_position, by_keyword = SURFACE[resource][method]
    function = getattr(resource_of(offline, resource), method)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert [spelt(p) for p in positional] == by_position.split()
    assert {spelt(p) for p in keywords} == set(by_keyword.split())
    unwrapped = inspect.unwrap(function)
    coroutine = inspect.iscoroutinefunction(unwrapped) or inspect.isasyncgenfunction(unwrapped)
    assert coroutine is (kind == "async")
    assert function.__doc__


def spelt(parameter: inspect.Parameter) -> str:
    return parameter.name + ("" if parameter.default is inspect.Parameter.empty else "?")


async def test_the_table_has_every_method(offline: Client) -> None:
    for path, methods in SURFACE.items():
        resource = resource_of(offline, path)
        public = {name for name in dir(type(resource)) if not name.startswith("_")}
        assert public == set(methods), path
    resources = {
        name
        for name in dir(offline)
        if not name.startswith("_") and name != "grpc" and hasattr(getattr(offline, name), "_session")
    }
    assert resources == {path for path in SURFACE if "." not in path}


@pytest.mark.parametrize(("resource", "method"), [m for m in METHODS if SURFACE[m[0]][m[1]][1]])
async def test_what_takes_keywords_takes_a_mapping(offline: Client, resource: str, method: str) -> None:
    """An unknown name is refused by its own method, so the mapping is read before anything is sent."""
    by_position, _ = SURFACE[resource][method]
    function = getattr(resource_of(offline, resource), method)
    with pytest.raises(TypeError, match=r"has no parameter 'no_such_thing'"):
        await result(function(*by_position.replace("?", "").split(), {"no_such_thing": 1}))


async def test_the_client_itself(offline: Client, kind: Kind) -> None:
    assert list(inspect.signature(offline.realtime).parameters) == [
        "type",
        "auto_reconnect",
        "max_reconnect_attempts",
        "reconnect_delay",
        "max_reconnect_delay",
    ]
    assert offline.rate_limit is None
    assert offline.get_config() is offline.config
    assert {name for name in dir(offline.get_config()) if name in OPTIONS.split()} == set(OPTIONS.split())
    assert (offline.get_circuit_breaker_stats().state, offline.reset_circuit_breaker()) == ("closed", None)
    with pytest.raises(errors.UnsupportedOperationError, match=r"client\.jobs"):
        _ = offline.grpc
    other = offline.with_options(timeout=5)
    assert type(other) is type(offline)
    await result(other.close())
    leave = "__exit__" if kind == "sync" else "__aexit__"
    assert hasattr(offline, leave)
    assert inspect.iscoroutinefunction(offline.get_jwt_token) is (kind == "async")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "spooled",
            """SpooledClient AsyncSpooledClient SpooledWorker AsyncSpooledWorker SpooledRealtime
            SpooledClientConfig RetryConfig CircuitBreakerConfig SpooledError AuthenticationError
            AuthorizationError NotFoundError ConflictError ValidationError PayloadTooLargeError RateLimitError
            ServerError NetworkError TimeoutError CircuitBreakerOpenError JobAbortedError is_spooled_error
            __version__""",
        ),
        (
            "spooled.errors",
            "QuotaExceededError UnsupportedOperationError is_lease_expired create_error_from_response",
        ),
        ("spooled.client", "SpooledClient create_client"),
        (
            "spooled.worker",
            """JobContext JobHandler WorkerState WorkerEvent StartedEventData StoppedEventData ErrorEventData
            JobClaimedEventData JobStartedEventData JobCompletedEventData JobFailedEventData
            JobLeaseLostEventData""",
        ),
        ("spooled.async_client", "AsyncSpooledClient create_async_client"),
        ("spooled.types", "CreateJobParams Job JobSummary Page Schedule Workflow OutgoingWebhook JobStats"),
        (
            "spooled.realtime",
            """SpooledRealtime WebSocketClient AsyncWebSocketClient WebSocketConnectionOptions SSEClient
            AsyncSSEClient SubscriptionFilter RealtimeEvent""",
        ),
    ],
)
def test_names_are_where_they_are_imported_from(module: str, names: str) -> None:
    home = importlib.import_module(module)
    for name in names.split():
        assert hasattr(home, name), f"{module}.{name}"


def test_the_parameters_of_a_job_are_a_mapping() -> None:
    params = CreateJobParams(queue_name="q", payload=1)
    assert params == {"queue_name": "q", "payload": 1}
    taken = inspect.signature(inspect.unwrap(SpooledClient(KEY).jobs.create)).parameters
    assert set(CreateJobParams.__annotations__) == {name for name in taken if name != "self"}


def test_both_clients_have_the_same_resources() -> None:
    with SpooledClient(KEY) as client:
        other = AsyncSpooledClient(KEY)
        public = {name for name in dir(client) if not name.startswith("_")}
        assert public | {"aclose"} == {name for name in dir(other) if not name.startswith("_")}


def test_the_error_classes() -> None:
    """Which status is which class, and what may be tried again."""
    for status, kind, again in [
        (400, errors.ValidationError, False),
        (401, errors.AuthenticationError, False),
        (403, errors.AuthorizationError, False),
        (404, errors.NotFoundError, False),
        (408, errors.SpooledError, True),
        (409, errors.ConflictError, False),
        (413, errors.PayloadTooLargeError, False),
        (418, errors.SpooledError, False),
        (422, errors.ValidationError, False),
        (429, errors.RateLimitError, True),
        (500, errors.ServerError, True),
        (503, errors.ServerError, True),
    ]:
        error = errors.create_error_from_response(status, b"{}", headers={"retry-after": "1"})
        assert type(error) is kind, status
        assert error.is_retryable() is again, status
        assert spooled.is_spooled_error(error)
