"""What each of the newer endpoints sends, and what it makes of the answer. Contract: api-v1 §2, §6 to §11.

The servers' own behaviour is tested where there is a server: see `test_resources.py` and `test_documented_usage.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from spooled import errors

from .conftest import KEY, Client, result

WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)
Z = "2026-01-31T12:00:00Z"
Mocked = Callable[..., Client]

KEY_ANSWER = {"id": "k", "key": "sp_live_secret", "name": "n", "created_at": Z}
ORGANIZATION = {"id": "o", "name": "O", "slug": "o", "plan_tier": "free", "created_at": Z, "updated_at": Z}

# name, call, method, path, query, body, answer, what to look at in the result and what is there
CALLS: list[tuple[Callable[[Any], Any], str, str, dict[str, str], Any, Any, Callable[[Any], Any], Any]] = [
    # --- schedules
    (
        lambda c: c.schedules.list(queue_name="q", is_active=True, limit=500, offset=3),
        "GET", "/api/v1/schedules",
        {"queue_name": "q", "is_active": "true", "limit": "500", "offset": "3"}, None,
        [{"id": "s", "cron_expression": "* * * * *", "next_run_at": Z}],
        lambda page: (page[0].id, page[0].next_run_at, page.has_more), ("s", WHEN, None),
    ),
    (
        lambda c: c.schedules.create(
            {
                "name": "n", "cron_expression": "0 9 * * 1", "queue_name": "q", "payload_template": None,
                "timezone": "Europe/Rome", "priority": 5, "max_retries": 0, "timeout_seconds": 60,
                "tags": ["a"], "metadata": {"b": 1}, "description": "d",
            }
        ),
        "POST", "/api/v1/schedules", {},
        {
            "name": "n", "cron_expression": "0 9 * * 1", "queue_name": "q", "payload_template": None,
            "timezone": "Europe/Rome", "priority": 5, "max_retries": 0, "timeout_seconds": 60,
            "tags": ["a"], "metadata": {"b": 1}, "description": "d",
        },
        {"id": "s", "name": "n", "cron_expression": "0 9 * * 1", "next_run_at": None},
        lambda made: (made.id, made.next_run_at), ("s", None),
    ),
    (
        lambda c: c.schedules.update("s", {"is_active": False, "payload_template": {"a": 1}}),
        "PUT", "/api/v1/schedules/s", {}, {"is_active": False, "payload_template": {"a": 1}},
        {"id": "s"}, lambda s: s.id, "s",
    ),
    (lambda c: c.schedules.get("a/b"), "GET", "/api/v1/schedules/a%2Fb", {}, None, {"id": "s"}, lambda s: s.id, "s"),
    (lambda c: c.schedules.delete("s"), "DELETE", "/api/v1/schedules/s", {}, None, None, lambda r: r, None),
    (lambda c: c.schedules.pause("s"), "POST", "/api/v1/schedules/s/pause", {}, None,
     {"id": "s", "is_active": False}, lambda s: s.is_active, False),
    (lambda c: c.schedules.resume("s"), "POST", "/api/v1/schedules/s/resume", {}, None,
     {"id": "s"}, lambda s: s.is_active, True),
    (lambda c: c.schedules.trigger("s"), "POST", "/api/v1/schedules/s/trigger", {}, None,
     {"job_id": "j", "triggered_at": Z}, lambda r: (r.job_id, r.triggered_at), ("j", WHEN)),
    (lambda c: c.schedules.get_history("s"), "GET", "/api/v1/schedules/s/history", {"limit": "10"}, None,
     [{"id": "r", "schedule_id": "s", "status": "completed", "started_at": Z, "job_status": "pending"}],
     lambda runs: runs[0].job_status, "pending"),
    # --- workflows
    (lambda c: c.workflows.list(status="running", limit=2, offset=1), "GET", "/api/v1/workflows",
     {"status": "running", "limit": "2", "offset": "1"}, None,
     [{"id": "w", "progress_percent": 50, "total_jobs": 2}], lambda p: p[0].progress_percent, 50.0),
    (
        lambda c: c.workflows.create(
            name="n", description="d", metadata=[1],
            jobs=[
                {"key": "a", "queue_name": "q", "payload": None, "expires_at": WHEN},
                {"key": "b", "queue_name": "q", "payload": 1, "depends_on": ["a"], "dependency_mode": "any"},
            ],
        ),
        "POST", "/api/v1/workflows", {},
        {
            "name": "n", "description": "d", "metadata": [1],
            "jobs": [
                {"key": "a", "queue_name": "q", "payload": None, "expires_at": Z},
                {"key": "b", "queue_name": "q", "payload": 1, "depends_on": ["a"], "dependency_mode": "any"},
            ],
        },
        {"workflow_id": "w", "job_ids": [{"key": "a", "job_id": "1"}], "status": "pending"},
        lambda made: (made.workflow_id, made.job_ids[0].key, made.job_ids[0].job_id), ("w", "a", "1"),
    ),
    (lambda c: c.workflows.get("w"), "GET", "/api/v1/workflows/w", {}, None,
     {"id": "w", "jobs": [{"id": "j", "error": {"type": "JobError", "message": "m", "stack": None}}],
      "progress": {"total": 1, "failed": 1}},
     lambda w: (w.jobs[0].error.message, w.progress.failed), ("m", 1)),
    (lambda c: c.workflows.cancel("w"), "POST", "/api/v1/workflows/w/cancel", {}, None,
     {"id": "w", "status": "cancelled"}, lambda w: w.status, "cancelled"),
    (lambda c: c.workflows.retry("w"), "POST", "/api/v1/workflows/w/retry", {}, None, {"id": "w"}, lambda w: w.id, "w"),
    (lambda c: c.workflows.jobs.list("w"), "GET", "/api/v1/workflows/w", {}, None,
     {"id": "w", "jobs": [{"id": "j"}]}, lambda jobs: jobs[0].id, "j"),
    (lambda c: c.workflows.jobs.get("w", "j"), "GET", "/api/v1/workflows/w", {}, None,
     {"id": "w", "jobs": [{"id": "i"}, {"id": "j", "queue": "q"}]}, lambda job: job.queue, "q"),
    (lambda c: c.workflows.jobs.get_status("w"), "GET", "/api/v1/workflows/w", {}, None,
     {"id": "w", "jobs": [{"id": "j", "status": "failed", "attempt": 2, "error": {"message": "m"}}]},
     lambda found: (found[0].id, found[0].status, found[0].attempt, found[0].error), ("j", "failed", 2, "m")),
    (lambda c: c.workflows.jobs.get_dependencies("j"), "GET", "/api/v1/jobs/j/dependencies", {}, None,
     {"job_id": "j", "dependencies": [{"job_id": "i", "status": "pending"}], "dependencies_met": False},
     lambda d: (d.dependencies[0].job_id, d.dependents, d.dependencies_met), ("i", [], False)),
    (lambda c: c.workflows.jobs.add_dependencies("j", {"dependency_job_ids": ["i"], "dependency_mode": "any"}),
     "POST", "/api/v1/jobs/j/dependencies", {}, {"depends_on": ["i"], "dependency_mode": "any"},
     {"dependencies_added": 1, "dependencies_met": False}, lambda r: r.dependencies_added, 1),
    # --- webhooks
    (lambda c: c.webhooks.list(), "GET", "/api/v1/outgoing-webhooks", {}, None,
     [{"id": "h", "events": ["job.exploded"], "last_status": None}], lambda hooks: hooks[0].events, ["job.exploded"]),
    (lambda c: c.webhooks.create(name="n", url="https://x.test", events=("job.created",), secret="s", format="slack"),
     "POST", "/api/v1/outgoing-webhooks", {},
     {"name": "n", "url": "https://x.test", "events": ["job.created"], "secret": "s", "format": "slack"},
     {"id": "h"}, lambda h: (h.id, h.format), ("h", "json")),
    (lambda c: c.webhooks.get("h"), "GET", "/api/v1/outgoing-webhooks/h", {}, None, {"id": "h"}, lambda h: h.id, "h"),
    (lambda c: c.webhooks.update("h", enabled=True), "PUT", "/api/v1/outgoing-webhooks/h", {},
     {"enabled": True}, {"id": "h"}, lambda h: h.id, "h"),
    (lambda c: c.webhooks.update("h", secret=None), "PUT", "/api/v1/outgoing-webhooks/h", {},
     {"secret": None}, {"id": "h"}, lambda h: h.id, "h"),
    (lambda c: c.webhooks.update("h", {"secret": None, "name": "n"}), "PUT", "/api/v1/outgoing-webhooks/h", {},
     {"secret": None, "name": "n"}, {"id": "h"}, lambda h: h.id, "h"),
    (lambda c: c.webhooks.delete("h"), "DELETE", "/api/v1/outgoing-webhooks/h", {}, None, None, lambda r: r, None),
    (lambda c: c.webhooks.test("h"), "POST", "/api/v1/outgoing-webhooks/h/test", {}, None,
     {"success": False, "status_code": 500, "response_time_ms": 12},
     lambda r: (r.success, r.status_code), (False, 500)),
    (lambda c: c.webhooks.get_deliveries("h", status="failed", limit=1), "GET",
     "/api/v1/outgoing-webhooks/h/deliveries", {"status": "failed", "limit": "1"}, None,
     [{"id": "d", "payload": {"a": 1}, "attempts": 5, "delivered_at": None}], lambda p: p[0].attempts, 5),
    (lambda c: c.webhooks.get_deliveries("h", {"offset": 100}), "GET",
     "/api/v1/outgoing-webhooks/h/deliveries", {"offset": "100"}, None, [], lambda p: list(p), []),
    (lambda c: c.webhooks.retry_delivery("h", "d"), "POST", "/api/v1/outgoing-webhooks/h/retry/d", {}, None,
     {"success": True, "message": "m"}, lambda r: r.message, "m"),
    (lambda c: c.webhooks.list_inbound_deliveries(status="duplicate", since=WHEN, queue_name="q"), "GET",
     "/api/v1/webhooks/deliveries", {"status": "duplicate", "since": Z, "queue_name": "q"}, None,
     [{"id": "d", "provider": "custom", "event_type": "e", "matched_queue": "q"}], lambda p: p[0].matched_queue, "q"),
    # --- ingest
    (lambda c: c.ingest.custom("o", {"queue_name": "q", "payload": [1], "event_type": "e", "priority": 1}),
     "POST", "/api/v1/webhooks/o/custom", {},
     {"queue_name": "q", "payload": [1], "event_type": "e", "priority": 1},
     {"job_id": "j", "queue_name": "q", "status": "pending"}, lambda r: r.job_id, "j"),
    # --- organisations
    (lambda c: c.organizations.update("o", {"name": "N", "settings": {"a": 1}}), "PUT", "/api/v1/organizations/o",
     {}, {"name": "N", "settings": {"a": 1}}, ORGANIZATION, lambda o: o.slug, "o"),
    (lambda c: c.organizations.delete("o"), "DELETE", "/api/v1/organizations/o", {}, None, None, lambda r: r, None),
    (lambda c: c.organizations.get_members("o"), "GET", "/api/v1/organizations/o/members", {}, None,
     [{"id": "m", "user_id": "u", "email": "a@b", "name": "A", "role": "owner", "joined_at": Z}],
     lambda members: (members[0].role, members[0].joined_at), ("owner", WHEN)),
    (lambda c: c.organizations.check_slug("My Slug"), "GET", "/api/v1/organizations/check-slug",
     {"slug": "My Slug"}, None, {"available": False, "valid": False, "suggestion": "my-slug"},
     lambda r: r.suggestion, "my-slug"),
    (lambda c: c.organizations.generate_slug("My Name"), "POST", "/api/v1/organizations/generate-slug", {},
     {"name": "My Name"}, {"slug": "my-name"}, lambda r: r.slug, "my-name"),
    (lambda c: c.organizations.get_webhook_token(), "GET", "/api/v1/organizations/webhook-token", {}, None,
     {"webhook_token": "whk_secret", "webhook_url": "https://x"}, lambda t: (t.webhook_token, "whk_" in repr(t)),
     ("whk_secret", False)),
    (lambda c: c.organizations.regenerate_webhook_token(), "POST", "/api/v1/organizations/webhook-token/regenerate",
     {}, None, {"webhook_token": None, "webhook_url": "u"}, lambda t: t.webhook_token, None),
    # --- auth
    (lambda c: c.auth.start_email_login("ada@example.org"), "POST", "/api/v1/auth/email/start", {},
     {"email": "ada@example.org"}, {"message": "m", "expires_in": 900}, lambda r: r.expires_in, 900),
    (lambda c: c.auth.check_email("ada+x@example.org"), "GET", "/api/v1/auth/check-email",
     {"email": "ada+x@example.org"}, None, {"exists": True}, lambda r: (r.exists, r.available), (True, None)),
    # --- billing, dashboard
    (lambda c: c.billing.get_status(), "GET", "/api/v1/billing/status", {}, None,
     {"plan_tier": "pro", "stripe_current_period_end": Z, "has_stripe_customer": True},
     lambda b: (b.plan_tier, b.stripe_current_period_end), ("pro", WHEN)),
    (lambda c: c.billing.create_portal({"return_url": "https://me.test"}), "POST", "/api/v1/billing/portal", {},
     {"return_url": "https://me.test"}, {"url": "https://pay"}, lambda p: (p.url, "pay" in repr(p)),
     ("https://pay", False)),
    (lambda c: c.dashboard.get(), "GET", "/api/v1/dashboard", {}, None,
     {"system": {"version": "1", "started_at": Z}, "jobs": {"total": 3, "avg_wait_time_ms": None},
      "queues": [{"name": "q", "paused": True}], "workers": {"healthy": 1}, "recent_activity": {"jobs_created_1h": 2}},
     lambda d: (d.system.started_at, d.jobs.total, d.queues[0].paused, d.workers.healthy), (WHEN, 3, True, 1)),
    # --- admin
    (lambda c: c.admin.list_organizations(sort_by="name", sort_order="asc", plan_tier="pro", search="x", limit=1),
     "GET", "/api/v1/admin/organizations",
     {"sort_by": "name", "sort_order": "asc", "plan_tier": "pro", "search": "x", "limit": "1"}, None,
     {"organizations": [ORGANIZATION], "total": 9, "limit": 1, "offset": 0},
     lambda found: (found.total, found.organizations[0].id), (9, "o")),
    (lambda c: c.admin.get_organization("o"), "GET", "/api/v1/admin/organizations/o", {}, None, ORGANIZATION,
     lambda o: o.id, "o"),
    (lambda c: c.admin.create_organization(name="N", slug="n", plan_tier="pro"), "POST",
     "/api/v1/admin/organizations", {}, {"name": "N", "slug": "n", "plan_tier": "pro"},
     {"organization": ORGANIZATION, "api_key": KEY_ANSWER}, lambda r: r.api_key.key, "sp_live_secret"),
    (lambda c: c.admin.update_organization("o", {"custom_limits": {"max_queues": 1}}), "PATCH",
     "/api/v1/admin/organizations/o", {}, {"custom_limits": {"max_queues": 1}}, ORGANIZATION, lambda o: o.id, "o"),
    (lambda c: c.admin.update_organization("o", custom_limits=None, plan_tier=None), "PATCH",
     "/api/v1/admin/organizations/o", {}, {"custom_limits": None, "plan_tier": None}, ORGANIZATION,
     lambda o: o.id, "o"),
    (lambda c: c.admin.update_organization("o", name="N"), "PATCH",
     "/api/v1/admin/organizations/o", {}, {"name": "N"}, ORGANIZATION, lambda o: o.id, "o"),
    (lambda c: c.admin.delete_organization("o"), "DELETE", "/api/v1/admin/organizations/o", {}, None, None,
     lambda r: r, None),
    (lambda c: c.admin.delete_organization("o", hard=True), "DELETE", "/api/v1/admin/organizations/o",
     {"hard_delete": "true"}, None, None, lambda r: r, None),
    (lambda c: c.admin.create_api_key("o", {"name": "n", "queues": ["q"]}), "POST",
     "/api/v1/admin/organizations/o/api-keys", {}, {"name": "n", "queues": ["q"]}, KEY_ANSWER, lambda k: k.id, "k"),
    (lambda c: c.admin.reset_usage("o"), "POST", "/api/v1/admin/organizations/o/reset-usage", {}, None, None,
     lambda r: r, None),
    (lambda c: c.admin.get_stats(), "GET", "/api/v1/admin/stats", {}, None,
     {"organizations": {"total": 2, "by_plan": [{"plan": "free", "count": 2}]}, "system": {"api_version": "1"}},
     lambda s: (s.organizations.by_plan[0]["count"], s.system.api_version, s.jobs.pending), (2, "1", 0)),
    (lambda c: c.admin.list_plans(), "GET", "/api/v1/admin/plans", {}, None,
     [{"tier": "free", "max_queues": 2, "max_jobs_per_day": None}], lambda plans: plans[0].max_queues, 2),
]  # fmt: skip


@pytest.mark.parametrize("row", CALLS, ids=lambda row: f"{row[1]} {row[2]}")
async def test_the_request_and_its_answer(mocked: Mocked, row: Any) -> None:
    call, method, path, query, body, answer, look, expected = row
    seen: list[httpx.Request] = []

    def answer_it(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204) if answer is None else httpx.Response(200, json=answer)

    found = await result(call(mocked(answer_it)))
    [request] = seen
    assert (request.method, request.url.raw_path.decode().partition("?")[0]) == (method, path)
    assert dict(request.url.params) == query
    assert (json.loads(request.content) if request.content else None) == body
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert look(found) == expected


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (
            lambda c: c.schedules.create(name="n", cron_expression="* *", queue_name="q", payload_template=1),
            "cron",
        ),
        (lambda c: c.schedules.get_history("s", limit=501), "limit"),
        (lambda c: c.schedules.get(""), "schedule_id"),
        (lambda c: c.workflows.list(status="dead"), "status"),
        (
            lambda c: c.workflows.create(name="a/b", jobs=[{"key": "k", "queue_name": "q", "payload": 1}]),
            "name",
        ),
        (lambda c: c.workflows.create(name="n", jobs=[]), "jobs"),
        (lambda c: c.workflows.create(name="n", jobs={"key": "k"}), "jobs"),
        (lambda c: c.workflows.create(name="n", jobs=[1]), r"jobs\[0\]"),
        (
            lambda c: c.workflows.create(name="n", jobs=[{"key": "k", "queue_name": "q"}]),
            r"jobs\[0\].payload",
        ),
        (
            lambda c: c.workflows.create(
                name="n", jobs=[{"key": "k", "queue_name": "q", "payload": 1, "keyy": 1}]
            ),
            "Did you mean 'key'",
        ),
        (
            lambda c: c.workflows.create(name="n", jobs=[{"key": "k", "queue_name": "q", "payload": 1}] * 2),
            "two jobs with the key 'k'",
        ),
        (
            lambda c: c.workflows.create(
                name="n", jobs=[{"key": "k", "queue_name": "q", "payload": 1, "depends_on": ["x"]}]
            ),
            "no job with the key 'x', which 'k' needs",
        ),
        (lambda c: c.workflows.jobs.add_dependencies("j", dependency_job_ids=[]), "dependency_job_ids"),
        (lambda c: c.webhooks.create(name="n", url="ftp://x", events=["e"]), "url"),
        (lambda c: c.webhooks.create(name="n", url="http://x", events=[]), "events"),
        (lambda c: c.webhooks.update("h", format="xml"), "format"),
        (lambda c: c.webhooks.retry_delivery("h", ""), "delivery_id"),
        (lambda c: c.ingest.custom("o", queue_name="q", payload="x" * 3_000_000), "payload"),
        (lambda c: c.ingest.custom("o", queue_name="q", payload=1, webhook_token=""), "webhook_token"),
        (lambda c: c.auth.start_email_login("nobody"), "email"),
        (lambda c: c.auth.check_email(""), "email"),
        (lambda c: c.billing.create_portal(return_url="here"), "return_url"),
        (lambda c: c.organizations.generate_slug(""), "name"),
        (lambda c: c.organizations.update("o", settings={"a": "x" * 70_000}), "settings"),
        (lambda c: c.admin.list_organizations(sort_order="up"), "sort_order"),
        (lambda c: c.admin.create_api_key("", name="n"), "org_id"),
        (lambda c: c.metrics.get(token=""), "token"),
    ],
)
async def test_bad_arguments_stay_here(mocked: Mocked, call: Callable[[Any], Any], field: str) -> None:
    client = mocked(lambda request: pytest.fail(f"sent {request.url}"))
    with pytest.raises(errors.ValidationError, match=field) as caught:
        await result(call(client))
    assert caught.value.status_code == 0


async def test_a_webhook_token_is_sent_beside_and_never_shown(mocked: Mocked) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-webhook-token"] == "whk_secret"
        text = f"bad token {request.headers['x-webhook-token']}"
        return httpx.Response(401, json={"code": "AUTHENTICATION_FAILED", "message": text})

    client = mocked(refuse)
    params = {"queue_name": "q", "payload": 1}
    for call in (
        lambda: client.ingest.custom("o", params, webhook_token="whk_secret"),
        lambda: client.ingest.custom("o", params, "whk_secret"),
        lambda: client.ingest.custom("o", **params, webhook_token="whk_secret"),
        lambda: client.ingest.custom("o", params | {"webhook_token": "whk_secret"}),
    ):
        with pytest.raises(errors.AuthenticationError, match=r"bad token \*\*\*"):
            await result(call())


async def test_very_old_servers_answer_an_ingest_with_nothing(mocked: Mocked) -> None:
    client = mocked(lambda request: httpx.Response(200))
    assert (await result(client.ingest.custom("o", queue_name="q", payload=1))).job_id == ""


async def test_metrics_are_text_and_may_have_a_token_of_their_own(mocked: Mocked) -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/metrics"
        sent.append(request.headers["authorization"])
        return httpx.Response(200, text="spooled_jobs_pending 3\n")

    client = mocked(answer)
    assert await result(client.metrics.get()) == "spooled_jobs_pending 3\n"
    await result(client.metrics.get(token="metrics-token"))
    assert sent == [f"Bearer {KEY}", "Bearer metrics-token"]


async def test_a_webhook_token_cannot_be_cleared(mocked: Mocked) -> None:
    client = mocked(lambda request: pytest.fail("sent"))
    with pytest.raises(errors.UnsupportedOperationError, match="regenerate_webhook_token"):
        await result(client.organizations.clear_webhook_token())


async def test_a_workflow_without_that_job(mocked: Mocked) -> None:
    client = mocked(lambda request: httpx.Response(200, json={"id": "w", "jobs": [{"id": "i"}]}))
    with pytest.raises(errors.NotFoundError, match="workflow w has no job j"):
        await result(client.workflows.jobs.get("w", "j"))


async def test_the_admin_key_goes_with_every_request(mocked: Mocked) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-admin-key"] == "admin-key"
        assert "authorization" not in request.headers
        return httpx.Response(200, json=[])

    client = mocked(answer, api_key=None, admin_key="admin-key")
    assert await result(client.admin.list_plans()) == []


async def test_a_model_of_the_users_is_a_mapping(mocked: Mocked) -> None:
    """The official SDK takes pydantic models; what was not set in one is not sent."""

    class Params:
        def model_dump(self, *, exclude_unset: bool) -> dict[str, Any]:
            assert exclude_unset
            return {"return_url": "https://me.test"}

    client = mocked(lambda request: httpx.Response(200, json={"url": request.content.decode()}))
    portal = await result(client.billing.create_portal(Params()))
    assert json.loads(portal.url) == {"return_url": "https://me.test"}
