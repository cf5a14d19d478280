"""Programs that use whole resources as their documentation says, against the embedded server."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import queue as queues
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spooled import errors
from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS

from .conftest import Client, Kind, make_client, result

ADMIN_KEY = "the-admin-key"
METRICS_TOKEN = "the-metrics-token"


# --- schedules ---


async def test_the_life_of_a_schedule(client: Client, queue: str) -> None:
    made = await result(
        client.schedules.create(
            name="Report",
            cron_expression="0 9 * * 1-5",
            queue_name=queue,
            payload_template={"report": "daily"},
            timezone="Europe/Rome",
            description="On working days",
            priority=7,
            max_retries=1,
            timeout_seconds=60,
            tags=["reports"],
            metadata={"team": "a"},
        )
    )
    assert made.next_run_at > datetime.now(UTC)
    schedule = await result(client.schedules.get(made.id))
    assert (schedule.name, schedule.queue_name, schedule.timezone) == ("Report", queue, "Europe/Rome")
    assert (schedule.payload_template, schedule.metadata) == ({"report": "daily"}, {"team": "a"})
    assert (schedule.priority, schedule.max_retries, schedule.timeout_seconds) == (7, 1, 60)
    assert (schedule.is_active, schedule.run_count, schedule.last_run_at) == (True, 0, None)

    triggered = await result(client.schedules.trigger(made.id))
    job = await result(client.jobs.get(triggered.job_id))
    assert (job.queue_name, job.payload, job.priority) == (queue, {"report": "daily"}, 7)
    [run] = await result(client.schedules.get_history(made.id))
    assert (run.job_id, run.status, run.job_status) == (job.id, "completed", "pending")
    assert len(await result(client.schedules.get_history(made.id, limit=1))) == 1

    assert (await result(client.schedules.pause(made.id))).is_active is False
    assert (await result(client.schedules.resume(made.id))).is_active is True
    changed = await result(
        client.schedules.update(made.id, {"name": "Later", "cron_expression": "0 10 * * *"})
    )
    assert (changed.name, changed.description) == ("Later", "On working days")
    assert changed.cron_expression == "0 10 * * *"

    found = await result(client.schedules.list({"queue_name": queue, "limit": 10}))
    assert made.id in {each.id for each in found}
    assert await result(client.schedules.delete(made.id)) is None
    with pytest.raises(errors.NotFoundError):
        await result(client.schedules.get(made.id))


async def test_a_cron_expression_that_cannot_be_read(client: Client, queue: str) -> None:
    with pytest.raises(errors.ValidationError) as caught:
        await result(
            client.schedules.create(
                name="n", cron_expression="a b c d e", queue_name=queue, payload_template=None
            )
        )
    assert caught.value.status_code == 400


# --- workflows ---


async def work(client: Client, queue: str, **outcome: str) -> str | None:
    """Claim one job and end it; its id."""
    claimed = await result(client.jobs.claim(queue_name=queue, worker_id="w"))
    for job in claimed.jobs:
        lease = {"worker_id": "w", "lease_id": job.lease_id}
        if outcome:
            await result(client.jobs.fail(job.id, lease | outcome))
        else:
            await result(client.jobs.complete(job.id, lease | {"result": {"ok": True}}))
        return str(job.id)
    return None


async def test_the_life_of_a_workflow(client: Client, queue: str) -> None:
    made = await result(
        client.workflows.create(
            {
                "name": "Import (nightly)",
                "description": "d",
                "metadata": {"a": 1},
                "jobs": [
                    {"key": "load", "queue_name": queue, "payload": None},
                    {
                        "key": "check",
                        "queue_name": queue,
                        "payload": 2,
                        "depends_on": ["load"],
                        "priority": 9,
                    },
                ],
            }
        )
    )
    ids = {each.key: each.job_id for each in made.job_ids}
    assert list(ids) == ["load", "check"]
    detail = await result(client.workflows.get(made.workflow_id))
    assert (detail.name, detail.metadata, detail.progress.total) == ("Import (nightly)", {"a": 1}, 2)
    [dependency] = detail.dependencies
    assert (dependency.parent_job_id, dependency.child_job_id) == (ids["load"], ids["check"])

    assert await work(client, queue) == ids["load"]
    statuses = await result(client.workflows.jobs.get_status(made.workflow_id))
    assert {each.id: each.status for each in statuses} == {ids["load"]: "completed", ids["check"]: "pending"}
    assert {each.id for each in await result(client.workflows.jobs.list(made.workflow_id))} == set(
        ids.values()
    )
    job = await result(client.workflows.jobs.get(made.workflow_id, ids["load"]))
    assert (job.queue, job.result, job.workflow_id) == (queue, {"ok": True}, made.workflow_id)
    with pytest.raises(errors.NotFoundError):
        await result(client.workflows.jobs.get(made.workflow_id, "nothing"))

    assert await work(client, queue) == ids["check"]
    [found] = [each for each in await result(client.workflows.list(limit=100)) if each.id == made.workflow_id]
    assert (found.status, found.completed_jobs, found.progress_percent) == ("completed", 2, 100.0)


async def test_a_workflow_that_fails_and_one_that_is_cancelled(
    kind: Kind, with_options: Callable[..., EmbeddedServer], queue: str
) -> None:
    server = with_options(clock=ManualClock())
    client = make_client(kind, api_key=server.api_key, base_url=server.url)
    jobs = [{"key": "only", "queue_name": queue, "payload": 1, "max_retries": 0}]
    failing = await result(client.workflows.create(name="failing", jobs=jobs))
    await work(client, queue, error="boom")
    server.advance(300)  # failures are noticed by a sweep
    assert (await result(client.workflows.get(failing.workflow_id))).status == "failed"
    [status] = await result(client.workflows.jobs.get_status(failing.workflow_id))
    assert (status.status, status.error) == ("deadletter", "boom")
    assert (await result(client.workflows.retry(failing.workflow_id))).id == failing.workflow_id
    with pytest.raises(errors.ValidationError):
        await result(client.workflows.retry(failing.workflow_id))
    assert (await result(client.workflows.cancel(failing.workflow_id))).status == "cancelled"
    with pytest.raises(errors.NotFoundError):
        await result(client.workflows.get("nothing"))
    await result(client.close())


async def test_jobs_wait_for_other_jobs(client: Client, queue: str) -> None:
    first, second, third = [
        (await result(client.jobs.create(queue_name=queue, payload=1))).id for _ in range(3)
    ]
    added = await result(
        client.workflows.jobs.add_dependencies(
            third, {"dependency_job_ids": [first, second], "dependency_mode": "any"}
        )
    )
    assert (added.dependencies_added, added.dependencies_met) == (2, False)
    found = await result(client.workflows.jobs.get_dependencies(third))
    assert {each.job_id for each in found.dependencies} == {first, second}
    assert (found.dependencies_met, found.dependency_mode, found.dependents) == (False, "any", [])
    reverse = await result(client.workflows.jobs.get_dependencies(first))
    assert [each.job_id for each in reverse.dependents] == [third]


# --- webhooks ---


class Receiver:
    """An address that webhooks are sent to."""

    def __init__(self) -> None:
        self.requests: queues.Queue[tuple[dict[str, str], bytes]] = queues.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.put(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def with_options() -> Iterator[Callable[..., EmbeddedServer]]:
    """Start servers with options of their own."""
    started: list[EmbeddedServer] = []

    def make(**options: Any) -> EmbeddedServer:
        server = EmbeddedServer(**options)
        started.append(server)
        return server.__enter__()

    yield make
    for server in started:
        server.__exit__(None, None, None)


async def test_the_life_of_a_webhook(
    kind: Kind, with_options: Callable[..., EmbeddedServer], receiver: Receiver, queue: str
) -> None:
    server = with_options(allow_private_webhooks=True)
    client = make_client(kind, api_key=server.api_key, base_url=server.url)
    made = await result(
        client.webhooks.create(name="CI", url=receiver.url, events=["job.created"], secret="s3cret")
    )
    assert (made.enabled, made.format, made.last_status) == (True, "json", None)
    assert [each.id for each in await result(client.webhooks.list())] == [made.id]

    tested = await result(client.webhooks.test(made.id))
    assert (tested.success, tested.status_code) == (True, 204)
    receiver.requests.get(timeout=HOPELESS)

    await result(client.jobs.create(queue_name=queue, payload=1))
    headers, body = receiver.requests.get(timeout=HOPELESS)
    signed = headers["x-spooled-timestamp"].encode() + b"." + body
    expected = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert headers["x-spooled-signature"] == f"sha256={expected}"

    deliveries: list[Any] = []
    while not [each for each in deliveries if each.status == "success"]:
        deliveries = await result(client.webhooks.get_deliveries(made.id, limit=10))
    [delivery] = deliveries
    assert (delivery.event, delivery.attempts, delivery.status_code) == ("job.created", 1, 204)
    with pytest.raises(errors.ValidationError):
        await result(client.webhooks.retry_delivery(made.id, delivery.id))

    changed = await result(client.webhooks.update(made.id, {"enabled": False, "secret": None}))
    assert (changed.enabled, changed.events) == (False, ["job.created"])
    assert (await result(client.webhooks.get(made.id))).enabled is False
    assert await result(client.webhooks.delete(made.id)) is None
    with pytest.raises(errors.NotFoundError):
        await result(client.webhooks.get(made.id))
    await result(client.close())


async def test_jobs_that_come_in(client: Client, shared_server: EmbeddedServer, queue: str) -> None:
    [organization] = await result(client.organizations.list())
    token = await result(client.organizations.regenerate_webhook_token())
    assert token.webhook_token.startswith("whk_")
    assert (await result(client.organizations.get_webhook_token())).webhook_token == token.webhook_token
    key = uuid.uuid4().hex
    params = {"queue_name": queue, "payload": {"n": 1}, "event_type": "push", "idempotency_key": key}
    first = await result(client.ingest.custom(organization.id, params, webhook_token=token.webhook_token))
    again = await result(client.ingest.custom(organization.id, **params, webhook_token=token.webhook_token))
    assert (first.job_id, first.queue_name, first.status) == (again.job_id, queue, "pending")
    page = await result(
        client.webhooks.list_inbound_deliveries(
            queue_name=queue, since=datetime.now(UTC) - timedelta(hours=1)
        )
    )
    assert {each.status for each in page} == {"created", "duplicate"}
    assert {each.job_id for each in page} == {first.job_id}
    assert {each.event_type for each in page} == {"push"}
    with pytest.raises(errors.AuthenticationError):
        await result(client.ingest.custom(organization.id, params, webhook_token="whk_wrong"))


# --- organisations, dashboard, metrics, administration ---


async def test_an_organization_of_ones_own(client: Client, kind: Kind, shared_server: EmbeddedServer) -> None:
    slug = (await result(client.organizations.generate_slug(f"My Shop {uuid.uuid4().hex[:8]}"))).slug
    assert (await result(client.organizations.check_slug(slug))).available is True
    made = await result(client.organizations.create(name="My Shop", slug=slug))
    taken = await result(client.organizations.check_slug(slug))
    assert (taken.available, taken.valid) == (False, True)
    own = make_client(kind, api_key=made.api_key.key, base_url=shared_server.url)
    organization_id = made.organization.id
    changed = await result(own.organizations.update(organization_id, {"settings": {"theme": "dark"}}))
    assert (changed.name, changed.settings["theme"]) == ("My Shop", "dark")
    assert isinstance(await result(own.organizations.get_members(organization_id)), list)
    assert await result(own.organizations.delete(organization_id)) is None
    with pytest.raises(errors.AuthenticationError):
        await result(own.queues.list())
    await result(own.close())


async def test_the_dashboard_and_billing(client: Client, shared_server: EmbeddedServer, queue: str) -> None:
    await result(client.jobs.create(queue_name=queue, payload=1))
    seen = await result(client.dashboard.get())
    assert seen.jobs.total >= seen.jobs.pending >= 1
    assert seen.system.started_at <= datetime.now(UTC)
    assert seen.recent_activity.jobs_created_1h >= 1
    assert (await result(client.billing.get_status())).plan_tier
    with pytest.raises(errors.ValidationError):
        await result(client.billing.create_portal(return_url="https://example.com"))


async def test_whether_an_address_is_known(client: Client, shared_server: EmbeddedServer) -> None:
    assert (await result(client.auth.check_email("nobody@example.com"))).exists is False


async def test_metrics(kind: Kind, with_options: Callable[..., EmbeddedServer], queue: str) -> None:
    server = with_options(metrics_token=METRICS_TOKEN)
    client = make_client(kind, api_key=server.api_key, base_url=server.url)
    await result(client.jobs.create(queue_name=queue, payload=1))
    assert "spooled_jobs_pending" in await result(client.metrics.get(token=METRICS_TOKEN))
    with pytest.raises(errors.AuthenticationError):
        await result(client.metrics.get())
    await result(client.close())


async def test_administration(kind: Kind, with_options: Callable[..., EmbeddedServer]) -> None:
    server = with_options(admin_key=ADMIN_KEY)
    admin = make_client(kind, admin_key=ADMIN_KEY, base_url=server.url)
    made = await result(admin.admin.create_organization(name="Tenant", slug="tenant", plan_tier="pro"))
    organization_id = made.organization.id
    found = await result(admin.admin.list_organizations(search="tenant", sort_by="name", sort_order="asc"))
    assert (found.total, found.organizations[0].id) == (1, organization_id)
    changed = await result(
        admin.admin.update_organization(organization_id, plan_tier="starter", custom_limits={"max_queues": 1})
    )
    assert (changed.plan_tier, changed.custom_limits) == ("starter", {"max_queues": 1})
    assert (
        await result(admin.admin.update_organization(organization_id, custom_limits=None))
    ).custom_limits is None
    key = await result(admin.admin.create_api_key(organization_id, {"name": "Support"}))
    tenant = make_client(kind, api_key=key.key, base_url=server.url)
    assert await result(tenant.queues.list()) == []
    assert await result(admin.admin.reset_usage(organization_id)) is None
    stats = await result(admin.admin.get_stats())
    assert stats.organizations.total >= 1
    assert stats.system.api_version
    assert {"free", "pro"} <= {plan.tier for plan in await result(admin.admin.list_plans())}
    assert (await result(admin.admin.get_organization(organization_id))).slug == "tenant"
    assert await result(admin.admin.delete_organization(organization_id)) is None
    with pytest.raises(errors.AuthenticationError):
        await result(tenant.queues.list())
    assert await result(admin.admin.delete_organization(organization_id, hard=True)) is None
    stranger = make_client(kind, admin_key="wrong", base_url=server.url)
    with pytest.raises((errors.AuthorizationError, errors.AuthenticationError)):
        await result(stranger.admin.get_stats())
    for each in (admin, tenant, stranger):
        await result(each.close())


async def test_answers_become_dicts_and_json(client: Client, queue: str) -> None:
    made = await result(client.jobs.create_and_get(queue_name=queue, payload={"n": 1}))
    dumped = made.model_dump(exclude_none=True)
    assert (dumped["id"], dumped["payload"], dumped["created_at"]) == (made.id, {"n": 1}, made.created_at)
    assert "last_error" not in dumped
    assert made.model_dump()["last_error"] is None
    assert isinstance(made.model_dump(mode="json")["created_at"], str)
    assert json.loads(made.model_dump_json())["id"] == made.id
