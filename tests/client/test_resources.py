"""Every endpoint of both clients against the embedded server, over real HTTP."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from spooled import errors
from spooled.models import ClaimItem, CompleteItem, FailItem, WorkerRegistration
from spooled_contrib.server import EmbeddedServer

from .conftest import Client, Kind, make_client, result

HOUR = timedelta(hours=1)


async def create(client: Client, queue: str, **fields: object) -> str:
    made = await result(client.jobs.create(**({"queue_name": queue, "payload": {"n": 1}} | fields)))
    job_id: str = made.id
    return job_id


async def claim_one(client: Client, queue: str, worker_id: str = "w") -> tuple[str, dict[str, str]]:
    claimed = await result(client.jobs.claim(queue_name=queue, worker_id=worker_id))
    [job] = claimed.jobs
    return job.id, {"worker_id": worker_id, "lease_id": job.lease_id}


async def bury(client: Client, queue: str) -> str:
    await create(client, queue, max_retries=0)
    job_id, lease = await claim_one(client, queue)
    await result(client.jobs.fail(job_id, **lease, error="no use"))
    return job_id


# --- enqueueing ---


async def test_everything_a_job_can_be_created_with(client: Client, queue: str) -> None:
    later = datetime.now(UTC) + HOUR
    job = await result(
        client.jobs.create_and_get(
            queue_name=queue,
            payload={"to": "ada@example.com", "n": None},
            priority=-7,
            max_retries=9,
            timeout_seconds=60,
            scheduled_at=later,
            expires_at=timedelta(days=1),
            idempotency_key=uuid.uuid4().hex,
            tags={"team": "a"},
            completion_webhook="https://example.com/hook",
            completion_webhook_secret="secret",
        )
    )
    assert (job.queue_name, job.status, job.payload) == (
        queue,
        "scheduled",
        {"to": "ada@example.com", "n": None},
    )
    assert (job.priority, job.max_retries, job.timeout_seconds, job.retry_count) == (-7, 9, 60, 0)
    assert job.tags == {"team": "a"}
    assert abs(job.scheduled_at - later) < timedelta(milliseconds=1)
    assert job.expires_at.utcoffset() is not None
    assert job.completion_webhook == "https://example.com/hook"


async def test_the_mapping_of_the_official_sdk_works(client: Client, queue: str) -> None:
    made = await result(client.jobs.create({"queue_name": queue, "payload": {"a": 1}, "priority": 5}))
    job = await result(client.jobs.create_and_get({"queue_name": queue, "payload": [1]}))
    assert made.created is True
    assert job.payload == [1]
    claimed = await result(client.jobs.claim({"queue_name": queue, "worker_id": "w", "limit": 2}))
    assert {item.id for item in claimed.jobs} == {made.id, job.id}
    for item in claimed.jobs:
        lease = {"worker_id": "w", "lease_id": item.lease_id}
        await result(client.jobs.heartbeat(item.id, lease | {"lease_duration_secs": 60}))
        assert (await result(client.jobs.complete(item.id, lease | {"result": {"ok": True}}))).success
    assert len(await result(client.jobs.list({"queue_name": queue, "status": "completed"}))) == 2


@pytest.mark.parametrize("payload", [None, 0, "text", [], {}, {"a": None}, True, 1.5, "ü📮"])
async def test_any_json_is_a_payload(client: Client, queue: str, payload: object) -> None:
    job_id = await create(client, queue, payload=payload)
    assert (await result(client.jobs.get(job_id))).payload == payload
    claimed = await result(client.jobs.claim(queue_name=queue, worker_id="w"))
    assert claimed.jobs[0].payload == payload


async def test_an_idempotency_key_makes_one_job(client: Client, queue: str) -> None:
    key = uuid.uuid4().hex
    first = await result(client.jobs.create(queue_name=queue, payload=1, idempotency_key=key))
    second = await result(client.jobs.create(queue_name=queue, payload=2, idempotency_key=key))
    assert (first.created, second.created) == (True, False)
    assert first.id == second.id


async def test_bulk(client: Client, queue: str) -> None:
    key = uuid.uuid4().hex
    answer = await result(
        client.jobs.bulk_enqueue(
            queue_name=queue,
            jobs=[
                {"payload": None, "priority": 9},
                {"payload": 2, "idempotency_key": key, "scheduled_at": HOUR},
                {"payload": 3},
            ],
            default_priority=-1,
            default_max_retries=2,
            default_timeout_seconds=30,
        )
    )
    assert (answer.total, answer.success_count, answer.failure_count, answer.failed) == (3, 3, 0, [])
    assert [item.index for item in answer.succeeded] == [0, 1, 2]
    jobs = [await result(client.jobs.get(item.job_id)) for item in answer.succeeded]
    assert [job.priority for job in jobs] == [9, -1, -1]
    assert [job.status for job in jobs] == ["pending", "scheduled", "pending"]
    assert {(job.max_retries, job.timeout_seconds) for job in jobs} == {(2, 30)}


async def test_a_parent_holds_its_child_back(client: Client, queue: str) -> None:
    parent = await create(client, queue)
    child = await create(client, queue, parent_job_id=parent)
    assert (await result(client.jobs.get(child))).dependencies_met is False
    with pytest.raises(errors.ValidationError):
        await create(client, queue, parent_job_id=str(uuid.uuid4()))


# --- reading ---


async def test_lists_page_and_filter(client: Client, queue: str) -> None:
    before = datetime.now(UTC) - HOUR
    for number in range(3):
        await create(
            client, queue, payload={"job_type": f"kind-{number}"}, tags=[f"tag-{number}"], priority=number
        )
    page = await result(client.jobs.list(queue_name=queue, limit=2))
    assert (len(page), page.has_more) == (2, True)
    rest = await result(client.jobs.list(queue_name=queue, limit=2, offset=2))
    assert (len(rest), rest.has_more) == (1, False)
    assert {job.job_type for job in [*page, *rest]} == {"kind-0", "kind-1", "kind-2"}
    for filters, expected in [
        ({"job_type": "kind-1"}, 1),
        ({"tag": "tag-2"}, 1),
        ({"status": "pending"}, 3),
        ({"status": ["completed", "failed"]}, 0),
        ({"status": ["completed", "pending"]}, 3),
        ({"q": "kind-"}, 3),
        ({"created_after": before}, 3),
        ({"created_before": before}, 0),
    ]:
        assert len(await result(client.jobs.list(queue_name=queue, **filters))) == expected, filters
    ordered = await result(client.jobs.list(queue_name=queue, order_by="priority", order_dir="asc"))
    assert [job.priority for job in ordered] == [0, 1, 2]


async def test_acks_in_batches(client: Client, queue: str) -> None:
    for _ in range(4):
        await create(client, queue)
    claimed = await result(client.jobs.claim(queue_name=queue, worker_id="w", limit=3))
    done, failed, lost = claimed.jobs
    answer = await result(
        client.jobs.settle(
            worker_id="w",
            completes=[
                CompleteItem(done.id, done.lease_id, {"n": 1}),
                CompleteItem(lost.id, failed.lease_id),
            ],
            fails=[FailItem(failed.id, failed.lease_id, "no")],
            claim=ClaimItem(queue, limit=5),
        )
    )
    assert [item.status for item in answer.completes] == [200, 409]
    assert answer.completes[1].code == "LEASE_EXPIRED"
    assert [item.status for item in answer.fails] == [200]
    assert answer.claim is not None
    assert len(answer.claim.jobs) == 1
    assert (await result(client.jobs.get(done.id))).result == {"n": 1}
    assert (await result(client.jobs.get(failed.id))).last_error == "no"
    nothing = await result(client.jobs.settle({"worker_id": "w"}))
    assert (nothing.completes, nothing.fails, nothing.claim) == ([], [], None)


async def test_a_registration_says_how_many_acks_go_together(client: Client) -> None:
    registration = await result(client.workers.register(queue_name="q", hostname="h"))
    assert registration.settle_max == 100


@pytest.mark.parametrize(
    "offer", [None, "yes", 5, {}, {"max": None}, {"max": "9"}, {"max": -1}, {"max": 1.5}]
)
def test_another_servers_idea_of_settle_is_no_offer(offer: object) -> None:
    assert WorkerRegistration("w", settle=offer).settle_max == 0


async def test_history_tells_the_story(client: Client, queue: str) -> None:
    job_id = await create(client, queue)
    _, lease = await claim_one(client, queue)
    await result(client.jobs.complete(job_id, **lease))
    page = await result(client.jobs.history(job_id))
    assert page.has_more is False
    assert page[0].event_type == "created"
    assert page[-1].event_type == "completed"
    newest = await result(client.jobs.history(job_id, {"order_dir": "desc", "limit": 1}))
    assert (newest[0].event_type, newest.has_more) == ("completed", True)


async def test_stats_of_one_queue_and_of_all(client: Client, queue: str) -> None:
    await create(client, queue)
    await create(client, queue, scheduled_at=HOUR)
    stats = await result(client.jobs.get_stats(queue))
    assert (stats.pending, stats.scheduled, stats.total) == (1, 1, 2)
    assert (await result(client.jobs.get_stats(queue_name=queue))) == stats
    assert (await result(client.jobs.get_stats())).total >= 2


async def test_the_states_of_many_jobs(client: Client, queue: str) -> None:
    ids = [await create(client, queue) for _ in range(3)]
    found = await result(client.jobs.batch_status([*ids, str(uuid.uuid4())]))
    assert {item.id for item in found} == set(ids)
    assert {item.status for item in found} == {"pending"}
    assert await result(client.jobs.batch_status([])) == []
    with pytest.raises(ValueError, match="ids must hold 0 to 100 job ids, has 101"):
        await result(client.jobs.batch_status(["x"] * 101))


@pytest.mark.parametrize("job_id", ["unknown", "..", ".", "a b", "%2e%2e", "ü", "?", "#"])
async def test_what_does_not_exist_is_not_found(client: Client, job_id: str) -> None:
    with pytest.raises(errors.NotFoundError) as caught:
        await result(client.jobs.get(job_id))
    assert caught.value.request_id
    assert caught.value.request_id in str(caught.value)


async def test_an_id_cannot_reach_another_endpoint(client: Client, queue: str) -> None:
    victim = await create(client, queue)
    for job_id in (f"x/../{victim}", f"../jobs/{victim}?x", f"{victim}/retry", "stats?x=1"):
        with pytest.raises(errors.SpooledError) as caught:
            await result(client.jobs.cancel(job_id))
        assert caught.value.status_code in {404, 405}
    assert (await result(client.jobs.get(victim))).status == "pending"


# --- changing ---


async def test_cancel_and_its_conflict(client: Client, queue: str) -> None:
    job_id = await create(client, queue)
    assert await result(client.jobs.cancel(job_id)) is None
    assert (await result(client.jobs.get(job_id))).status == "cancelled"
    with pytest.raises(errors.ConflictError):
        await result(client.jobs.cancel(job_id))


async def test_retrying_a_dead_job(client: Client, queue: str) -> None:
    job_id = await bury(client, queue)
    job = await result(client.jobs.retry(job_id))
    assert (job.status, job.retry_count, job.last_error) == ("pending", 0, None)
    with pytest.raises(errors.ConflictError):
        await result(client.jobs.retry(job_id))


async def test_priorities_are_set(client: Client, queue: str) -> None:
    job_id = await create(client, queue, priority=1)
    answer = await result(client.jobs.boost_priority(job_id, 50))
    assert (answer.job_id, answer.old_priority, answer.new_priority) == (job_id, 1, 50)
    with pytest.raises(errors.ValidationError, match="priority"):
        await result(client.jobs.boost_priority(job_id, 101))


# --- claims and acks ---


async def test_claiming(client: Client, queue: str) -> None:
    assert (await result(client.jobs.claim(queue_name=queue, worker_id="w"))).jobs == []
    await create(client, queue, timeout_seconds=77)
    await create(client, queue)
    before = datetime.now(UTC)
    claimed = await result(
        client.jobs.claim(queue_name=queue, worker_id="w", limit=10, lease_duration_secs=600)
    )
    assert len(claimed.jobs) == 2
    assert claimed.skipped == []
    for job in claimed.jobs:
        assert job.lease_id
        assert job.lease_expires_at > before + timedelta(seconds=500)
    assert 77 in {job.timeout_seconds for job in claimed.jobs}


async def test_completing_once_and_twice(client: Client, queue: str) -> None:
    await create(client, queue)
    job_id, lease = await claim_one(client, queue)
    assert (await result(client.jobs.complete(job_id, **lease, result={"n": [1, None]}))).success
    assert (await result(client.jobs.get(job_id))).result == {"n": [1, None]}
    with pytest.raises(errors.ConflictError) as caught:
        await result(client.jobs.complete(job_id, **lease))
    assert not errors.is_lease_expired(caught.value)


async def test_failing_gives_the_job_back(client: Client, queue: str) -> None:
    await create(client, queue, max_retries=1)
    job_id, lease = await claim_one(client, queue)
    assert (await result(client.jobs.fail(job_id, **lease, error="boom"))).success
    job = await result(client.jobs.get(job_id))
    assert (job.status, job.retry_count, job.last_error) == ("pending", 1, "boom")
    with pytest.raises(errors.NotFoundError):
        await result(client.jobs.fail(job_id, **lease, error="boom"))


async def test_a_heartbeat_keeps_the_lease(client: Client, queue: str) -> None:
    await create(client, queue)
    job_id, lease = await claim_one(client, queue)
    before = (await result(client.jobs.get(job_id))).lease_expires_at
    assert await result(client.jobs.heartbeat(job_id, **lease, lease_duration_secs=300)) is None
    assert (await result(client.jobs.get(job_id))).lease_expires_at > before + timedelta(seconds=200)


async def test_a_wrong_lease_is_refused(client: Client, queue: str) -> None:
    await create(client, queue)
    job_id, lease = await claim_one(client, queue)
    stale = lease | {"lease_id": "stale"}
    for call in (
        lambda: client.jobs.complete(job_id, **stale),
        lambda: client.jobs.fail(job_id, **stale, error="e"),
        lambda: client.jobs.heartbeat(job_id, **stale),
    ):
        with pytest.raises(errors.LeaseExpiredError) as caught:
            await result(call())
        assert errors.is_lease_expired(caught.value)
    with pytest.raises(errors.NotFoundError):
        await result(client.jobs.complete(job_id, **(lease | {"worker_id": "someone else"})))


# --- dead letters ---


async def test_dead_letters(client: Client, queue: str) -> None:
    first, second, third = [await bury(client, queue) for _ in range(3)]
    page = await result(client.jobs.dlq.list(queue_name=queue, limit=2))
    assert (len(page), page.has_more) == (2, True)
    assert {job.status for job in page} == {"deadletter"}
    retried = await result(client.jobs.dlq.retry(job_ids=[first]))
    assert (retried.retried_count, retried.retried_jobs, retried.job_ids) == (1, [first], [first])
    again = await result(client.jobs.dlq.retry({"queue_name": queue, "limit": 1}))
    assert again.retried_jobs == [second]
    with pytest.raises(errors.ValidationError, match="confirm must be True"):
        await result(client.jobs.dlq.purge(confirm=False))
    old = await result(client.jobs.dlq.purge(confirm=True, queue_name=queue, older_than_days=1))
    assert old.purged_count == 0
    purged = await result(client.jobs.dlq.purge({"confirm": True, "queue_name": queue}))
    assert purged.purged_count == 1
    with pytest.raises(errors.NotFoundError):
        await result(client.jobs.get(third))


# --- queues ---


async def test_queues(client: Client, queue: str) -> None:
    queue = f"0-{queue}"  # the server of all tests lists the first hundred by name
    with pytest.raises(errors.NotFoundError):
        await result(client.queues.get(queue))
    await create(client, queue)
    assert (await result(client.queues.get(queue))).settings == {"implicit": True}
    config = await result(
        client.queues.update_config(queue, max_retries=7, default_timeout=50, rate_limit=5, settings={"a": 1})
    )
    assert (config.queue_name, config.max_retries, config.default_timeout) == (queue, 7, 50)
    assert (config.rate_limit, config.enabled, config.settings["a"]) == (5, True, 1)
    assert (await result(client.queues.update_config(queue, {"max_retries": 8}))).default_timeout == 50
    assert queue in {item.queue_name for item in await result(client.queues.list())}
    stats = await result(client.queues.get_stats(queue))
    assert (stats.queue_name, stats.pending_jobs, stats.processing_jobs) == (queue, 1, 0)


async def test_pausing_stops_claims(client: Client, queue: str) -> None:
    await create(client, queue)
    paused = await result(client.queues.pause(queue, "maintenance"))
    assert (paused.paused, paused.reason) == (True, "maintenance")
    assert (await result(client.jobs.claim(queue_name=queue, worker_id="w"))).jobs == []
    assert (await result(client.queues.resume(queue))).resumed is True
    await claim_one(client, queue)
    assert (await result(client.queues.pause(queue))).reason is None


async def test_deleting_a_queue(client: Client, queue: str) -> None:
    await create(client, queue)
    with pytest.raises(errors.ConflictError):
        await result(client.queues.delete(queue))
    assert await result(client.queues.delete(queue, delete_jobs=True)) is None
    assert (await result(client.jobs.get_stats(queue))).total == 0


@pytest.mark.parametrize("name", ["", "..", "a/b", "a?b", "x" * 101])
async def test_bad_queue_names_stay_here(client: Client, name: str) -> None:
    for call in (
        client.queues.get,
        client.queues.get_stats,
        client.queues.pause,
        client.queues.update_config,
    ):
        with pytest.raises(errors.ValidationError) as caught:
            await result(call(name))
        assert caught.value.status_code == 0
        assert repr(name)[:80] in str(caught.value)


# --- workers ---


async def test_workers(client: Client, queue: str) -> None:
    worker_id = f"worker-{uuid.uuid4().hex}"
    registered = await result(
        client.workers.register(
            queue_name=queue,
            hostname="host-1",
            worker_id=worker_id,
            worker_type="python",
            max_concurrency=7,
            metadata={"env": "test"},
            version="1.2",
        )
    )
    assert registered.id == worker_id
    assert registered.heartbeat_interval_secs > 0
    assert registered.lease_duration_secs > 0
    assert await result(client.workers.heartbeat(worker_id, current_jobs=3, status="draining")) is None
    worker = await result(client.workers.get(worker_id))
    assert (worker.status, worker.current_jobs, worker.max_concurrency) == ("draining", 3, 7)
    assert (worker.hostname, worker.metadata, worker.version) == ("host-1", {"env": "test"}, "1.2")
    assert worker_id in {item.id for item in await result(client.workers.list())}
    assert await result(client.workers.deregister(worker_id)) is None
    assert (await result(client.workers.get(worker_id))).status == "offline"
    anonymous = await result(client.workers.register({"queue_name": queue, "hostname": "h"}))
    assert anonymous.id
    with pytest.raises(errors.NotFoundError):
        await result(client.workers.heartbeat("nobody", {"current_jobs": 0}))


# --- health, auth, keys, organisations ---


async def test_health(client: Client) -> None:
    health = await result(client.health.get())
    assert (health.status, health.database) == ("healthy", True)
    assert await result(client.health.liveness()) is True
    assert await result(client.health.readiness()) is True


async def test_a_login_session(client: Client, kind: Kind, shared_server: EmbeddedServer, queue: str) -> None:
    login = await result(client.auth.login({"api_key": shared_server.api_key}))
    assert login.access_token.startswith("eyJ")
    assert login.expires_in > 0
    assert login.access_token not in repr(login)
    assert (await result(client.auth.validate(token=login.access_token))).valid is True
    assert (await result(client.auth.validate(token="nonsense"))).valid is False
    refreshed = await result(client.auth.refresh(refresh_token=login.refresh_token))
    assert refreshed.access_token.startswith("eyJ")
    assert refreshed.access_token not in repr(refreshed)
    with pytest.raises(errors.AuthenticationError):
        await result(client.auth.me())
    session = make_client(kind, access_token=login.access_token, base_url=shared_server.url)
    me = await result(session.auth.me())
    assert me.organization_id
    assert (await result(session.jobs.create(queue_name=queue, payload=1))).created
    assert await result(session.auth.logout()) is None
    with pytest.raises(errors.AuthenticationError):
        await result(session.auth.me())
    await result(session.close())


async def test_a_stale_token_is_renewed_by_itself(
    client: Client, kind: Kind, shared_server: EmbeddedServer
) -> None:
    login = await result(client.auth.login(api_key=shared_server.api_key))
    session = make_client(
        kind,
        access_token=login.access_token[:-4] + "AAAA",
        refresh_token=login.refresh_token,
        base_url=shared_server.url,
    )
    assert (await result(session.auth.me())).organization_id
    await result(session.close())


async def test_a_token_made_from_the_key(client: Client) -> None:
    token = await result(client.get_jwt_token())
    assert token.startswith("eyJ")
    assert await result(client.get_jwt_token()) == token


async def test_an_unknown_key_says_what_to_check(kind: Kind, shared_server: EmbeddedServer) -> None:
    stranger = make_client(kind, api_key="sp_test_" + "x" * 43, base_url=shared_server.url)
    with pytest.raises(errors.AuthenticationError, match="SPOOLED_API_KEY"):
        await result(stranger.queues.list())
    await result(stranger.close())


async def test_api_keys(client: Client, kind: Kind, shared_server: EmbeddedServer, queue: str) -> None:
    made = await result(
        client.api_keys.create(name="Key (1)", queues=[queue], rate_limit=100, expires_at=HOUR)
    )
    assert made.key.startswith("sp_")
    assert made.key not in repr(made)
    found = await result(client.api_keys.get(made.id))
    assert (found.name, found.queues, found.rate_limit, found.is_active) == ("Key (1)", [queue], 100, True)
    assert made.id in {key.id for key in await result(client.api_keys.list())}
    changed = await result(client.api_keys.update(made.id, {"name": "Key 2"}))
    assert (changed.name, changed.queues) == ("Key 2", [queue])

    scoped = make_client(kind, api_key=made.key, base_url=shared_server.url)
    await create(scoped, queue)
    with pytest.raises(errors.AuthorizationError):
        await create(scoped, "elsewhere")
    with pytest.raises(errors.AuthorizationError):
        await result(scoped.api_keys.list())
    assert await result(client.api_keys.delete(made.id)) is None
    with pytest.raises(errors.AuthenticationError):
        await create(scoped, queue)
    await result(scoped.close())


async def test_organizations(client: Client, kind: Kind, shared_server: EmbeddedServer) -> None:
    slug = f"org-{uuid.uuid4().hex}"
    made = await result(client.organizations.create(name="Second", slug=slug))
    assert made.organization.slug == slug
    assert made.api_key.key not in repr(made)
    with pytest.raises(errors.ConflictError):
        await result(client.organizations.create({"name": "Third", "slug": slug}))
    other = make_client(kind, api_key=made.api_key.key, base_url=shared_server.url)
    [own] = await result(other.organizations.list())
    assert own.slug == slug
    assert (await result(other.organizations.get(own.id))).name == "Second"
    usage = await result(other.organizations.get_usage())
    assert usage.plan
    assert usage.usage.active_jobs.current == 0
    await result(other.close())
