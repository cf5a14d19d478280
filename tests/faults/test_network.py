"""Workers on a network that breaks: what the server was told, what the worker said, and how often a job ran.

The proxy stands between the worker and the server; the tests look at the server past it. The server's clock stands
still, so a lease ends only where a test says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.worker import JobContext
from spooled.worker import _engine as engine
from spooled_contrib.server import EmbeddedServer
from tests.faults.conftest import Connect
from tests.faults.proxy import Answer, Cut, Delay, Fault, FaultProxy, Hang, Reset, Truncate
from tests.waiting import wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)

LEASE = 30
"""The worker's default lease in seconds; what the server's clock is moved by to end one."""

PATIENCE = 0.3
"""The client's timeout in seconds where a test is about one that runs out."""

LONGER = 2.0
"""The same where another request must not run out of time on a busy machine."""

QUICK_BEATS: dict[str, Any] = {"lease_duration": 5, "heartbeat_fraction": 0.05}


both_ways = pytest.mark.parametrize("ack_batches", [False, True], ids=["single", "batches"])
"""With single acks and in batches, for tests that do not depend on a claim being a request of its own."""


class Counting:
    """A handler that counts its runs, returns its lease, and may be made to wait or to fail.

    Args:
        kind: The kind of worker that it is for.
        gated: From which run of a job on it waits until `open` is set. Default: it never waits.
        errors: How many runs of each job fail.
    """

    def __init__(self, kind: str, *, gated: int | None = None, errors: int = 0) -> None:
        self.runs: Counter[str] = Counter()
        self.leases: list[str] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self._kind = kind
        self._gated = gated
        self._errors = errors

    def __call__(self, ctx: JobContext[Any]) -> Any:
        self.runs[ctx.job_id] += 1
        self.leases.append(ctx.lease_id)
        self.entered.set()
        if self.runs[ctx.job_id] <= self._errors:
            raise RuntimeError("boom")
        waits = self._gated is not None and self.runs[ctx.job_id] >= self._gated
        if self._kind == "coroutines":
            return self._coroutine(ctx, waits)
        while waits and not (self.open.wait(0.01) or ctx.signal.is_set()):
            pass
        return ctx.lease_id

    async def _coroutine(self, ctx: JobContext[Any], waits: bool) -> str:
        while waits and not self.open.is_set():
            await asyncio.sleep(0.01)
        return ctx.lease_id


def told(running: Running, job_id: str) -> list[str]:
    """What a worker said about how a job ended, in order."""
    return [name for name in running.names(job_id) if name not in ("job:claimed", "job:started")]


# --- acks ---------------------------------------------------------------------------------------------------

LOST_ANSWERS = [
    pytest.param(Cut(), id="closed"),
    pytest.param(Cut(after=30), id="cut in its head"),
    pytest.param(Cut(after=-5), id="cut in its body"),
    pytest.param(Reset(forward=True), id="reset"),
    pytest.param(Hang(forward=True), id="silence"),
    pytest.param(Delay(1.5 * LONGER), id="too late"),
]


@both_ways
@both
@pytest.mark.parametrize("fault", LOST_ANSWERS)
def test_a_complete_whose_answer_was_lost_is_told_once(
    kind: str, fault: Fault, proxy: FaultProxy, connect: Connect, outside: Outside
):
    lost = proxy.on("complete", fault, times=1)
    handler, job_id = Counting(kind), outside.enqueue()
    with Running(kind, connect(timeout=LONGER), handler) as running:
        wait_until(lambda: told(running, job_id))
    assert lost.hits == 1
    assert proxy.seen["complete"] == 2, "the ack was sent again, and then no more"
    assert told(running, job_id) == ["job:completed"]
    assert (outside.status(job_id), handler.runs[job_id]) == ("completed", 1)


@both_ways
@both
@pytest.mark.parametrize("fault", [Cut(), Hang(forward=True)])
def test_a_fail_whose_answer_was_lost_is_told_once_and_costs_one_retry(
    kind: str, fault: Fault, proxy: FaultProxy, connect: Connect, outside: Outside
):
    proxy.on("fail", fault, times=1)
    handler, job_id = Counting(kind, errors=9), outside.enqueue(max_retries=3)
    with Running(kind, connect(timeout=LONGER), handler) as running:
        wait_until(lambda: told(running, job_id))
    assert proxy.seen["fail"] == 2
    assert told(running, job_id) == ["job:failed"]
    assert running.of("job:failed")[0].will_retry
    job = outside.job(job_id)
    assert (job["status"], job["retry_count"], job["last_error"]) == ("pending", 1, "RuntimeError: boom")


@both_ways
@both
def test_the_last_fail_whose_answer_was_lost_dead_letters_once(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    proxy.on("fail", Cut(), times=2)
    handler, job_id = Counting(kind, errors=9), outside.enqueue(max_retries=0)
    with Running(kind, connect(), handler) as running:
        wait_until(lambda: told(running, job_id))
    assert told(running, job_id) == ["job:failed"]
    assert not running.of("job:failed")[0].will_retry
    assert (outside.status(job_id), handler.runs[job_id]) == ("deadletter", 1)


@both
def test_a_late_fail_does_not_touch_the_run_that_came_after_it(
    kind: str, server: EmbeddedServer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    # The first fail arrives and its answer is lost; before it is sent again, the same worker runs the job again.
    silent = proxy.on("fail", Hang(forward=True), times=1)
    handler, job_id = Counting(kind, gated=2, errors=1), outside.enqueue()
    with Running(kind, connect(timeout=1.0), handler) as running:
        wait_until(lambda: silent.hits and outside.status(job_id) == "pending")
        server.advance(5)
        wait_until(lambda: handler.runs[job_id] == 2)
        wait_until(lambda: proxy.seen["fail"] == 2 and "job:lease_lost" in running.names(job_id))
        handler.open.set()
        wait_until(lambda: "job:completed" in running.names(job_id))
    job = outside.job(job_id)
    assert (job["status"], job["retry_count"], job["result"]) == ("completed", 1, handler.leases[1])


@both_ways
@both
def test_acks_wait_for_a_server_that_is_away_and_leases_are_kept(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    handler = Counting(kind, gated=1)
    ids = [outside.enqueue() for _ in range(4)]
    with Running(kind, connect(), handler, concurrency=4, **QUICK_BEATS) as running:
        wait_until(lambda: len(handler.runs) == 4)
        proxy.refuse()
        handler.open.set()
        wait_until(lambda: len(running.of("error")) >= 8)
        assert {outside.status(job_id) for job_id in ids} == {"processing"}
        proxy.listen()
        wait_until(lambda: outside.counts()["completed"] == 4)
        wait_until(lambda: not running.worker.active_job_count)
    assert [told(running, job_id) for job_id in ids] == [["job:completed"]] * 4
    assert set(handler.runs.values()) == {1}


@both
def test_an_ack_that_outlives_its_lease_settles_nothing(
    kind: str, server: EmbeddedServer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    away = proxy.on("complete", Reset())
    handler, job_id = Counting(kind, gated=2), outside.enqueue()
    with Running(kind, connect(), handler) as running:
        wait_until(lambda: away.hits)
        server.advance(LEASE)
        wait_until(lambda: handler.runs[job_id] == 2)
        proxy.off(away)
        wait_until(lambda: "job:lease_lost" in running.names(job_id))
        handler.open.set()
        wait_until(lambda: "job:completed" in running.names(job_id))
    assert told(running, job_id) == ["job:lease_lost", "job:completed"]
    job = outside.job(job_id)
    assert (job["status"], job["result"]) == ("completed", handler.leases[1]), (
        "the second run's, not the first's"
    )


@both
def test_an_ack_is_not_told_as_done_when_a_later_run_completed_the_job(
    kind: str, server: EmbeddedServer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    # The first run's ack never arrives and its lease ends. The same worker runs the job again and completes it;
    # only then does the first ack get through, and is told that the job is completed, by this very worker.
    handler, job_id = Counting(kind), outside.enqueue()
    first = proxy.on(
        lambda request: bool(handler.leases) and handler.leases[0].encode() in request.body, Reset()
    )
    with Running(kind, connect(), handler) as running:
        wait_until(lambda: first.hits)
        server.advance(LEASE)
        wait_until(lambda: outside.status(job_id) == "completed")
        proxy.off(first)
        wait_until(lambda: len(told(running, job_id)) == 2)
    assert sorted(told(running, job_id)) == ["job:completed", "job:lease_lost"]
    assert [event.result for event in running.of("job:completed")] == [outside.job(job_id)["result"]]


@both
def test_a_claim_that_keeps_failing_blocks_neither_acks_nor_heartbeats(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    handler = Counting(kind, gated=1)
    ids = [outside.enqueue() for _ in range(3)]
    with Running(kind, connect(), handler, concurrency=8, **QUICK_BEATS) as running:
        wait_until(lambda: outside.counts()["processing"] == 3)
        broken = proxy.on("claim", Reset())
        beats = proxy.seen["heartbeat"]
        wait_until(lambda: broken.hits >= 2 and proxy.seen["heartbeat"] > beats)
        handler.open.set()
        wait_until(lambda: outside.counts()["completed"] == 3)
        more = outside.enqueue()
        proxy.off(broken)
        wait_until(lambda: outside.status(more) == "completed")
    assert [told(running, job_id) for job_id in ids] == [["job:completed"]] * 3


# --- claims -------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Cut(), id="closed"),
        pytest.param(Cut(after=-20), id="cut in its body"),
        pytest.param(Truncate(body=50), id="half of the JSON"),
        pytest.param(Truncate(body=0), id="no body"),
        pytest.param(Hang(forward=True), id="silence"),
    ],
)
def test_jobs_of_a_claim_whose_answer_was_lost_come_back_and_run_once(
    kind: str, fault: Fault, server: EmbeddedServer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    proxy.on("claim", fault, times=1)
    handler = Counting(kind)
    ids = [outside.enqueue() for _ in range(3)]
    with Running(kind, connect(timeout=LONGER), handler) as running:
        wait_until(lambda: running.of("error"))
        assert outside.counts()["processing"] == 3, "the server has given them to a worker that does not know"
        assert not handler.runs
        server.advance(LEASE)
        wait_until(lambda: outside.counts()["completed"] == 3)
    assert dict(handler.runs) == dict.fromkeys(ids, 1)
    assert [outside.job(job_id)["retry_count"] for job_id in ids] == [1, 1, 1]


@both
def test_a_claim_on_a_dead_connection_ends_by_its_own_timeout(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    dead = proxy.on("claim", Hang(), times=1)
    handler, job_id = Counting(kind), outside.enqueue()
    # The client's own timeout is out of reach: what ends the claim is that half of its lease is over.
    with Running(kind, connect(timeout=300.0), handler, lease_duration=5):
        wait_until(lambda: outside.status(job_id) == "completed")
    assert (dead.hits, handler.runs[job_id]) == (1, 1)


@both
def test_a_worker_stops_while_its_claim_hangs(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    dead = proxy.on("claim", Hang())
    # A claim that may take five minutes; the harness waits for a tenth of that.
    with Running(kind, connect(timeout=300.0), Counting(kind), lease_duration=600) as running:
        wait_until(lambda: dead.hits)
        running.stop(timeout=0.2)
    assert [worker["status"] for worker in outside.workers()] == ["offline"]


# --- heartbeats ---------------------------------------------------------------------------------------------


@both
def test_a_heartbeat_on_a_dead_connection_is_repeated_before_the_lease_ends(
    kind: str, server: EmbeddedServer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    dead = proxy.on("heartbeat", Hang(), times=1)
    handler, job_id = Counting(kind, gated=1), outside.enqueue()
    with Running(kind, connect(timeout=300.0), handler, **QUICK_BEATS) as running:
        wait_until(lambda: dead.hits)
        # Most of the lease passes on the server while the first beat hangs: only a second one can keep it.
        server.advance(4)
        wait_until(lambda: proxy.seen["heartbeat"] >= 3)
        server.advance(4)
        assert outside.status(job_id) == "processing"
        handler.open.set()
        wait_until(lambda: outside.status(job_id) == "completed")
    assert told(running, job_id) == ["job:completed"]
    assert handler.runs[job_id] == 1


@both
def test_a_heartbeat_whose_answer_was_lost_loses_no_lease(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    lost = proxy.on("heartbeat", Cut(), times=3)
    handler, job_id = Counting(kind, gated=1), outside.enqueue()
    with Running(kind, connect(), handler, **QUICK_BEATS) as running:
        wait_until(lambda: lost.hits == 3 and proxy.seen["heartbeat"] > 3)
        handler.open.set()
        wait_until(lambda: outside.status(job_id) == "completed")
    assert told(running, job_id) == ["job:completed"]


@both
def test_a_lease_that_ended_is_told_by_the_next_heartbeat_and_the_run_is_aborted(
    kind: str, server: EmbeddedServer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    dead = proxy.on("heartbeat", Reset())
    handler, job_id = Counting(kind, gated=1), outside.enqueue()
    with Running(kind, connect(), handler, concurrency=1, **QUICK_BEATS) as running:
        wait_until(lambda: dead.hits)
        server.advance(5)
        proxy.off(dead)
        wait_until(lambda: "job:lease_lost" in running.names(job_id))
        wait_until(lambda: handler.runs[job_id] == 2)
        handler.open.set()
        wait_until(lambda: outside.status(job_id) == "completed")
    assert told(running, job_id) == ["job:lease_lost", "job:completed"]
    assert outside.job(job_id)["result"] == handler.leases[1]


# --- everything at once -------------------------------------------------------------------------------------


@both
def test_slow_answers_change_nothing_but_the_time(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    proxy.on(lambda request: True, Delay(0.05))
    handler = Counting(kind)
    ids = outside.enqueue_many(30)
    with Running(kind, connect(), handler) as running:
        wait_until(lambda: outside.counts()["completed"] == 30)
    assert dict(handler.runs) == dict.fromkeys(ids, 1)
    assert not running.of("error")


@both
def test_no_job_is_lost_when_connections_are_reset_all_the_time(
    kind: str, server: EmbeddedServer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    # Of twelve requests one dies before the server saw it and one after; so each kind of request loses its way
    # there and its way back, whatever the number of connections.
    seen = {"there": 0, "back": 0}

    def each_twelfth(way: str) -> bool:
        seen[way] += 1
        return seen[way] % 12 == 0

    rules = [
        proxy.on(lambda request: each_twelfth("there"), Reset()),
        proxy.on(lambda request: each_twelfth("back"), Reset(forward=True)),
    ]
    handler = Counting(kind)
    ids = outside.enqueue_many(200)
    with Running(kind, connect(), handler, concurrency=20) as running:

        def finished() -> bool:
            counts = outside.counts()
            if counts["processing"] and not counts["pending"] and not running.worker.active_job_count:
                server.advance(LEASE)  # what is left belongs to claims whose answers were lost
            return counts["completed"] == 200

        wait_until(finished)
        wait_until(lambda: not running.worker.active_job_count)
        proxy.off(*rules)
    assert all(rule.hits for rule in rules)
    assert set(handler.runs) == set(ids)
    told_done = Counter(event.job_id for event in running.of("job:completed"))
    assert told_done == dict.fromkeys(ids, 1)


# --- the end ------------------------------------------------------------------------------------------------


@both
def test_a_server_that_is_away_during_shutdown_is_not_waited_for(
    kind: str,
    server: EmbeddedServer,
    proxy: FaultProxy,
    connect: Connect,
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(engine, "ACK_GRACE", 0.3)
    handler, job_id = Counting(kind, gated=1), outside.enqueue()
    with Running(kind, connect(), handler) as running:
        wait_until(handler.entered.is_set)
        proxy.refuse()
        running.stop(timeout=0.1)
    assert running.of("stopped")[0].reason == "forced"
    assert told(running, job_id) == [], "nothing is said about an ack that nobody has accepted"
    assert outside.status(job_id) == "processing"
    proxy.listen()
    server.advance(LEASE)
    handler.open.set()
    with Running(kind, connect(), handler) as next_one:
        wait_until(lambda: outside.status(job_id) == "completed")
    assert told(next_one, job_id) == ["job:completed"]
    assert handler.runs[job_id] == 2


@both
def test_a_finished_result_still_arrives_when_the_server_comes_back_during_shutdown(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    handler, job_id = Counting(kind, gated=1), outside.enqueue()
    with Running(kind, connect(), handler) as running:
        wait_until(handler.entered.is_set)
        proxy.refuse()
        running.request_stop()
        handler.open.set()
        wait_until(lambda: len(running.of("error")) >= 2)
        proxy.listen()
        running.join()
    assert (outside.status(job_id), told(running, job_id)) == ("completed", ["job:completed"])


@both
@pytest.mark.parametrize("fault", [Hang(), Reset(), Cut(), Answer(500)])
def test_a_goodbye_that_nobody_hears_does_not_hold_up_the_end(
    kind: str, fault: Fault, proxy: FaultProxy, connect: Connect, outside: Outside
):
    unheard = proxy.on("deregister", fault)
    job_id = outside.enqueue()
    with Running(kind, connect(timeout=PATIENCE), Counting(kind)) as running:
        wait_until(lambda: outside.status(job_id) == "completed")
        running.stop()
    assert unheard.hits == 1
    assert running.error is None
    assert running.of("stopped")[0].reason == "graceful"


@both
def test_a_worker_that_cannot_register_can_be_stopped(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    dead = proxy.on("register", Hang())
    running = Running(kind, connect(timeout=300.0), Counting(kind))
    running.start()
    wait_until(lambda: dead.hits)
    running.stop(timeout=0.1)
    assert running.error is None
    assert running.worker.state == "stopped"


@both
def test_a_worker_registers_when_the_server_comes_up_late(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    job_id = outside.enqueue()
    client: SpooledClient = connect()
    proxy.refuse()
    running = Running(kind, client, Counting(kind))
    running.start()
    wait_until(lambda: running.of("error"))
    proxy.listen()
    wait_until(lambda: outside.status(job_id) == "completed")
    running.stop()
    assert running.error is None
