"""What two servers are asked at the same moment has one outcome."""

from __future__ import annotations

import itertools

import pytest

from tests.server_postgres.conftest import KEY, Caller


def test_an_idempotency_key_makes_one_job(pair, caller, at_once):
    for number in range(10):
        body = {"queue_name": "mail", "payload": {}, "idempotency_key": f"order-{number}"}
        replies = at_once(*(lambda n=n, body=body: caller.post(pair[n % 2], "/jobs", body) for n in range(8)))
        assert sorted(reply.status_code for reply in replies) == [200] * 7 + [201]
        assert len({reply.json()["id"] for reply in replies}) == 1


def test_bulks_with_the_same_keys_in_opposite_order_both_succeed(pair, caller, at_once):
    for number in range(5):
        jobs = [{"payload": {}, "idempotency_key": f"{number}-{n}"} for n in range(30)]
        bodies = [{"queue_name": "mail", "jobs": jobs}, {"queue_name": "mail", "jobs": jobs[::-1]}]
        replies = at_once(
            *(
                lambda n=n, body=body: caller.post(pair[n], "/jobs/bulk", body)
                for n, body in enumerate(bodies)
            )
        )
        assert [reply.status_code for reply in replies] == [200, 200]
        assert sum(job["created"] for reply in replies for job in reply.json()["succeeded"]) == 30


def test_a_job_is_claimed_once(pair, caller, at_once):
    made = caller.create_many(pair[0], 300)

    def take(server, worker):
        found = []
        while jobs := caller.claim(server, worker, limit=5):
            found += [job["id"] for job in jobs]
        return found

    taken = at_once(*(lambda n=n: take(pair[n % 2], f"w{n}") for n in range(8)))
    assert sorted(itertools.chain(*taken)) == sorted(made)


@pytest.mark.parametrize("flag", ["--active-jobs"])
def test_a_quota_is_not_exceeded(spawn, db, owner, at_once, flag):
    servers = [spawn(db, flag, "10") for _ in range(2)]
    for server in servers:
        server.started()
    replies = at_once(
        *(
            lambda n=n: owner.post(servers[n % 2], "/jobs", {"queue_name": "mail", "payload": {}})
            for n in range(24)
        )
    )
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [201] * 10 + [429] * 14
    assert owner.get(servers[0], "/jobs/stats").json()["total"] == 10


def test_a_job_is_cancelled_or_claimed_but_not_both(pair, caller, at_once):
    for _ in range(25):
        job_id = caller.create(pair[0])
        cancelled, claimed = at_once(
            lambda job_id=job_id: caller.http.delete(f"{pair[0].url}/api/v1/jobs/{job_id}"),
            lambda: caller.claim(pair[1]),
        )
        assert (cancelled.status_code, len(claimed)) in ((204, 0), (200, 0), (409, 1))
        status = caller.job(pair[0], job_id)["status"]
        assert status == ("processing" if claimed else "cancelled")


def test_the_last_of_two_parents_opens_the_child_at_once(pair, caller, at_once):
    for _ in range(15):
        parents = [caller.create(pair[0]) for _ in range(2)]
        held = {job["id"]: job for job in caller.claim(pair[0], limit=2)}
        assert sorted(held) == sorted(parents)
        child = caller.create(pair[0])
        reply = caller.post(pair[0], f"/jobs/{child}/dependencies", {"depends_on": parents})
        assert reply.status_code == 200
        done = at_once(*(lambda n=n, job=held[parents[n]]: caller.complete(pair[n], job) for n in (0, 1)))
        assert [reply.status_code for reply in done] == [200, 200]
        # Not by the sweep, which would take seconds.
        (job,) = caller.claim(pair[1])
        assert job["id"] == child
        caller.complete(pair[1], job)


def test_a_child_is_not_left_behind_by_a_parent_that_completes_meanwhile(pair, caller, at_once):
    for _ in range(15):
        parent = caller.create(pair[0])
        (held,) = caller.claim(pair[0])
        done, child = at_once(
            lambda held=held: caller.complete(pair[0], held),
            lambda parent=parent: caller.create(pair[1], parent_job_id=parent),
        )
        assert done.status_code == 200
        (job,) = caller.claim(pair[1])
        assert job["id"] == child
        caller.complete(pair[1], job)


def test_two_edges_do_not_close_a_circle(pair, caller, at_once):
    for _ in range(10):
        one, two = (caller.create(pair[0], "circle") for _ in range(2))
        replies = at_once(
            lambda a=one, b=two: caller.post(pair[0], f"/jobs/{a}/dependencies", {"depends_on": [b]}),
            lambda a=two, b=one: caller.post(pair[1], f"/jobs/{a}/dependencies", {"depends_on": [b]}),
        )
        assert sorted(caller.job(pair[0], job)["dependencies_met"] for job in (one, two)) == [False, True]
        assert {reply.status_code for reply in replies} == {200}


def test_changes_of_one_queue_keep_each_other(pair, caller, at_once):
    for number in range(10):
        queue = f"/queues/q{number}/config"
        bodies = [{"max_retries": 7}, {"default_timeout": 77}, {"settings": {"a": 1}}, {"settings": {"b": 2}}]
        at_once(
            *(
                lambda n=n, body=body, queue=queue: caller.http.put(
                    f"{pair[n % 2].url}/api/v1{queue}", json={"queue_name": queue.split("/")[2], **body}
                )
                for n, body in enumerate(bodies)
            )
        )
        found = caller.get(pair[0], f"/queues/q{number}").json()
        assert (found["max_retries"], found["default_timeout"], found["settings"]) == (
            7,
            77,
            {"a": 1, "b": 2},
        )


def test_a_slug_is_given_once(pair, at_once):
    caller = Caller(KEY)
    for number in range(10):
        body = {"name": "Raced", "slug": f"raced-{number}"}
        replies = at_once(
            *(lambda n=n, body=body: caller.post(pair[n % 2], "/organizations", body) for n in range(4))
        )
        assert sorted(reply.status_code for reply in replies) == [201, 409, 409, 409]
    caller.http.close()


def test_a_worker_id_belongs_to_one_organization(pair, caller, at_once):
    other = Caller(KEY)
    for number in range(10):
        body = {"queue_name": "mail", "hostname": "h", "worker_id": f"worker-{number}"}
        replies = at_once(
            lambda body=body: caller.post(pair[0], "/workers/register", body),
            lambda body=body: other.post(pair[1], "/workers/register", body),
        )
        assert sorted(reply.status_code for reply in replies) in ([200, 409], [201, 409])
    other.http.close()
