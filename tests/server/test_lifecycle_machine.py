"""The life of jobs against a model: any order of requests and any movement of time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer


@dataclass
class Model:
    """What the contract says about one job."""

    id: str
    number: int
    created: float
    priority: int
    max_retries: int
    status: str = "pending"
    retries: int = 0
    not_before: tuple[float, float] = (
        0.0,
        0.0,
    )  # earliest and latest start of the next try: jitter is not known
    lease: str | None = None
    lease_end: float = 0.0
    executions: int = 0


NUMBERS = itertools.count()


class JobLife(RuleBasedStateMachine):
    leases = Bundle("leases")
    api_type: type
    server: EmbeddedServer

    def __init__(self):
        super().__init__()
        self.queue = f"q{next(NUMBERS)}"  # one server serves all examples
        self.api = self.api_type(self.server, self.server.api_key, "")
        self.jobs: dict[str, Model] = {}

    def teardown(self):
        self.api.close()

    @property
    def now(self):
        return self.server.clock.now()

    @rule(
        priority=st.integers(-2, 2),
        max_retries=st.integers(0, 2),
        delay=st.sampled_from([None, -5, 0, 3, 40]),
    )
    def create(self, priority, max_retries, delay):
        fields = {}
        if delay is not None:
            from datetime import UTC, datetime

            fields["scheduled_at"] = datetime.fromtimestamp(self.now + delay, UTC).isoformat()
        job_id = self.api.create(self.queue, priority=priority, max_retries=max_retries, **fields)
        due = 0.0 if delay is None else self.now + delay
        job = Model(job_id, len(self.jobs), self.now, priority, max_retries, not_before=(due, due))
        if due > self.now:
            job.status = "scheduled"
        self.jobs[job_id] = job

    @rule(
        target=leases,
        worker=st.sampled_from(["w1", "w2"]),
        limit=st.integers(1, 3),
        lease=st.sampled_from([5, 30]),
    )
    def claim(self, worker, limit, lease):
        waiting = [job for job in self.jobs.values() if job.status in ("pending", "scheduled")]
        ready = [job for job in waiting if job.not_before[1] <= self.now]
        maybe = {job.id for job in waiting if job.not_before[0] <= self.now < job.not_before[1]}
        got = self.api.claim(self.queue, worker, limit, lease)
        # Jobs within their jitter may or may not be there yet; everything else is exactly known.
        surely = [claimed["id"] for claimed in got if claimed["id"] not in maybe]
        ready.sort(key=lambda job: (-job.priority, job.created, job.number))
        assert surely == [job.id for job in ready][: len(surely)]
        assert len(got) == limit or len(surely) == len(ready)
        leases = []
        for claimed in got:
            job = self.jobs[claimed["id"]]
            assert claimed["retry_count"] == job.retries
            job.status, job.lease, job.lease_end = "processing", claimed["lease_id"], self.now + lease
            job.executions += 1
            leases.append((claimed["id"], worker, claimed["lease_id"]))
        return multiple(*leases)

    @rule(lease=leases)
    def complete(self, lease):
        if self.settle("complete", lease, {"result": 1}):
            self.jobs[lease[0]].status = "completed"

    @rule(lease=leases)
    def fail(self, lease):
        if self.settle("fail", lease, {"error": "boom"}):
            job = self.jobs[lease[0]]
            if job.retries < job.max_retries:
                delay = [1, 2, 4][job.retries]
                job.not_before = (self.now + delay, self.now + delay + 0.5)
                job.status, job.retries = "pending", job.retries + 1
            else:
                job.status = "deadletter"

    @rule(lease=leases, seconds=st.sampled_from([5, 60]))
    def heartbeat(self, lease, seconds):
        if self.settle("heartbeat", lease, {"lease_duration_secs": seconds}):
            self.jobs[lease[0]].lease_end = self.now + seconds

    def settle(self, verb, lease, fields):
        """Send an ack; whether it was accepted, which must be exactly when the model's lease holds."""
        job_id, worker, lease_id = lease
        job = self.jobs[job_id]
        holds = job.status == "processing" and job.lease == lease_id and self.now < job.lease_end
        response = self.api.post(
            f"/jobs/{job_id}/{verb}", {"worker_id": worker, "lease_id": lease_id, **fields}
        )
        assert (response.status_code == 200) == holds, response.text
        if not holds:
            assert response.status_code in (404, 409)
        return holds

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.9, 5.0, 31.0]))
    def advance(self, seconds):
        self.server.advance(seconds)
        for job in self.jobs.values():
            if job.status == "scheduled" and job.not_before[0] <= self.now:
                job.status = "pending"
            elif job.status == "processing" and job.lease_end <= self.now:
                if job.retries < job.max_retries:
                    job.status, job.retries = "pending", job.retries + 1
                    job.not_before = (0.0, 0.0)
                else:
                    job.status = "deadletter"

    @rule(data=st.data())
    def cancel(self, data):
        job = self.any_job(data)
        if job is not None:
            response = self.api.delete(f"/jobs/{job.id}")
            assert (response.status_code == 204) == (job.status in ("pending", "scheduled"))
            if response.status_code == 204:
                job.status = "cancelled"

    @rule(data=st.data())
    def retry(self, data):
        job = self.any_job(data)
        if job is not None:
            response = self.api.post(f"/jobs/{job.id}/retry")
            assert (response.status_code == 200) == (job.status == "deadletter")
            if response.status_code == 200:
                job.status, job.retries, job.executions = "pending", 0, 0

    def any_job(self, data):
        return data.draw(st.sampled_from(list(self.jobs.values()))) if self.jobs else None

    @invariant()
    def the_server_agrees(self):
        for job in self.jobs.values():
            row = self.api.job(job.id)
            assert (row["status"], row["retry_count"]) == (job.status, job.retries)
            assert job.executions <= job.max_retries + 1
        counts = self.api.get("/jobs/stats", queue_name=self.queue).json()
        assert counts["total"] == len(self.jobs)


@pytest.fixture(scope="module")
def server(fresh_db):
    with EmbeddedServer(db=fresh_db(), clock=ManualClock()) as running:
        yield running


def test_the_server_follows_the_model(server, api):
    JobLife.server, JobLife.api_type = server, type(api)
    run_state_machine_as_test(
        JobLife,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
