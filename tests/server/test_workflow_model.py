"""Workflows of any shape, run to their end with any outcomes, against what the contract says of such a graph."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer


@pytest.fixture(scope="module")
def server():
    with EmbeddedServer(clock=ManualClock()) as running:
        yield running


@st.composite
def workflows(draw):
    """Steps as (keys that it waits for, mode, whether it succeeds), each waiting for earlier ones only."""
    steps = []
    for number in range(draw(st.integers(1, 7))):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        steps.append((sorted(parents), draw(st.sampled_from(["all", "any"])), draw(st.booleans())))
    return steps


def final_states(steps):
    states = []
    for parents, mode, succeeds in steps:
        done = [states[parent] == "completed" for parent in parents]
        runs = not done or (any(done) if mode == "any" else all(done))
        states.append(("completed" if succeeds else "deadletter") if runs else "cancelled")
    return states


# The server is shared on purpose: each example leaves nothing behind that could be claimed.
@given(steps=workflows(), order=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_graph_ends_as_the_contract_says(server, connect, steps, order):
    api = connect(server)
    jobs = [
        {
            "key": str(key),
            "queue_name": f"q{key}",
            "payload": key,
            "depends_on": [str(parent) for parent in parents],
            "dependency_mode": mode,
            "max_retries": 0,
        }
        for key, (parents, mode, _) in enumerate(steps)
    ]
    body = api.post("/workflows", {"name": "w", "jobs": jobs}).json()
    ids = [made["job_id"] for made in body["job_ids"]]
    expected, finished = final_states(steps), []
    for _ in range(2 * len(steps)):
        queues = list(range(len(steps)))
        order.shuffle(queues)
        for key in queues:
            for job in api.claim(f"q{key}"):
                parents, mode, succeeds = steps[key]
                done = [parent in finished for parent in parents]
                assert not parents or (any(done) if mode == "any" else all(done))
                assert (api.complete(job) if succeeds else api.fail(job)).status_code == 200
                if succeeds:
                    finished.append(key)
        api.server.advance(10)
    assert [api.status(job_id) for job_id in ids] == expected
    shown = api.get(f"/workflows/{body['workflow_id']}").json()
    if "deadletter" in expected:
        assert shown["status"] == "failed"
    else:
        assert (shown["status"], set(expected)) == ("completed", {"completed"})
    assert shown["progress"]["completed"] == expected.count("completed")
    assert shown["progress"]["failed"] == len(steps) - expected.count("completed")
    assert shown["completed_at"] is not None
