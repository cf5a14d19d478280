"""What code for the official SDK reads from answers, and what its tests make of errors and options."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from spooled import errors
from spooled.models import WorkflowDetail, WorkflowProgress
from spooled.realtime import WebSocketClient, WebSocketConnectionOptions
from spooled_contrib.server import EmbeddedServer

from .conftest import KEY, Client, Kind, make_client, result

ADMIN = "the-admin-key-of-this-test"


@pytest.fixture(scope="module")
def governed() -> Iterator[EmbeddedServer]:
    """A server with an admin key and open registration."""
    with EmbeddedServer(admin_key=ADMIN, open_registration=True) as running:
        yield running


async def test_the_jobs_of_a_workflow(client: Client, queue: str):
    jobs = [{"key": "first", "queue_name": queue, "payload": {}, "timeout_seconds": 7}]
    jobs.append({"key": "second", "queue_name": queue, "payload": {}, "depends_on": ["first"]})
    made = await result(client.workflows.create(name="two", jobs=jobs))
    listed = await result(client.workflows.jobs.list(made.workflow_id))
    assert {job.key for job in listed} <= {None, "first", "second"}
    assert {(job.queue_name, job.queue) for job in listed} == {(queue, queue)}
    assert {job.timeout_seconds for job in listed} == {7, 300}
    for job in listed:
        assert job.depends_on is None or isinstance(job.depends_on, list)
        assert job.dependency_mode in (None, "all", "any")
    one = await result(client.workflows.jobs.get(made.workflow_id, listed[0].id))
    assert one.key == listed[0].key
    states = await result(client.workflows.jobs.get_status(made.workflow_id))
    assert {state.job_id for state in states} == {job.id for job in listed}
    assert [(state.key, state.progress) for state in states] == [(None, None)] * 2


async def test_the_counters_of_a_workflow(client: Client, queue: str):
    jobs = [{"key": key, "queue_name": queue, "payload": {}} for key in "abcd"]
    made = await result(client.workflows.create(name="four", jobs=jobs))
    (job,) = (await result(client.jobs.claim(queue_name=queue, worker_id="w"))).jobs
    await result(client.jobs.complete(job.id, worker_id="w", lease_id=job.lease_id))
    found = await result(client.workflows.get(made.workflow_id))
    counters = (found.total_jobs, found.completed_jobs, found.failed_jobs, found.progress_percent)
    assert counters == (4, 1, 0, 25.0)
    (listed,) = (flow for flow in await result(client.workflows.list()) if flow.id == made.workflow_id)
    assert counters == (
        listed.total_jobs, listed.completed_jobs, listed.failed_jobs, listed.progress_percent
    )  # fmt: skip


def test_a_workflow_without_jobs_has_no_progress():
    assert WorkflowDetail(id="w", progress=WorkflowProgress()).progress_percent == 0.0


async def test_what_tokens_say(kind: Kind, governed: EmbeddedServer):
    client = make_client(kind, api_key=governed.api_key, base_url=governed.url)
    login = await result(client.auth.login(api_key=governed.api_key))
    told = await result(client.auth.validate(token=login.access_token))
    assert told.valid
    assert told.organization_id == "00000000-0000-4000-8000-000000000001"
    assert told.api_key_id
    assert told.queues == ["*"]
    assert told.expires_at > datetime.now(UTC)
    wrong = await result(client.auth.validate(token="no token"))
    assert (wrong.valid, wrong.organization_id, wrong.api_key_id) == (False, None, None)
    assert (wrong.queues, wrong.expires_at) == (None, None)
    await result(client.close())
    me = make_client(kind, access_token=login.access_token, base_url=governed.url)
    found = await result(me.auth.me())
    assert isinstance(found.issued_at, datetime)
    assert found.expires_at == told.expires_at
    await result(me.close())


async def test_organizations_are_a_list(kind: Kind, governed: EmbeddedServer):
    client = make_client(kind, api_key=governed.api_key, base_url=governed.url, admin_key=ADMIN)
    page = await result(client.admin.list_organizations())
    assert [one.slug for one in page] == [one.slug for one in page.organizations]
    assert len(page) == len(page.organizations) > 0
    assert page[0] is page.organizations[0]
    await result(client.close())


# --- errors that users' tests make ---


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.AuthenticationError, 401),
        (errors.AuthorizationError, 403),
        (errors.NotFoundError, 404),
        (errors.ConflictError, 409),
        (errors.LeaseExpiredError, 409),
        (errors.PayloadTooLargeError, 413),
        (errors.RateLimitError, 429),
        (errors.QuotaExceededError, 429),
        (errors.ServerError, 500),
        (errors.NetworkError, 0),
        (errors.TimeoutError, 0),
        (errors.CircuitBreakerOpenError, 0),
        (errors.UnsupportedOperationError, 0),
    ],
)
def test_an_error_of_ones_own_has_its_classes_status_and_text(kind: Any, status: int):
    assert kind("x").status_code == status
    assert (kind("x").message, str(kind("x"))) == ("x", str(kind("x")))
    assert kind().message
    assert kind().message in str(kind())
    assert kind("x", status_code=418).status_code == 418
    assert kind("").message == ""


def test_a_network_error_knows_its_cause():
    cause = OSError("refused")
    error = errors.NetworkError(cause=cause)
    assert error.__cause__ is cause
    assert error.is_retryable()


def test_the_request_id_comes_third():
    error = errors.create_error_from_response(404, {"code": "NOT_FOUND", "message": "gone"}, "r-7")
    assert (type(error), error.request_id) == (errors.NotFoundError, "r-7")
    headers = {"x-request-id": "r-8"}
    assert errors.create_error_from_response(404, b"", headers=headers).request_id == "r-8"
    assert errors.create_error_from_response(404, b"", "r-7", headers).request_id == "r-7"


# --- realtime ---


def test_a_server_that_is_silent_is_given_up_after_the_commands_time():
    assert WebSocketConnectionOptions(ws_url="wss://h", token="t").command_timeout == 10.0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = WebSocketConnectionOptions(
            ws_url=f"ws://127.0.0.1:{silent.getsockname()[1]}", token=KEY, command_timeout=0.05
        )
        client = WebSocketClient(options)
        with pytest.raises(errors.TimeoutError) as caught:
            client.connect()
    assert caught.value.timeout_seconds == 0.05


def test_the_time_of_a_command_is_checked():
    with pytest.raises(errors.ConfigurationError, match="command_timeout"):
        WebSocketClient(WebSocketConnectionOptions(ws_url="ws://h", token=KEY, command_timeout=0))
