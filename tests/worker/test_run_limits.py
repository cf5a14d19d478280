"""What a run is to do: the decision, for every order of claims and ends; and real workers that follow it."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled import AsyncSpooledClient, SpooledClient
from spooled.clock import ManualClock
from spooled.errors import AuthenticationError, NetworkError
from spooled.testing import drain, drain_async
from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, SpooledWorker, WorkerGroup, WorkerState
from spooled.worker._run_limits import RunLimits
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


class Participant:
    def __init__(self) -> None:
        self.stopped = 0
        self.looks = 0
        self.changes = 0

    def request_stop(self) -> None:
        self.stopped += 1

    def poll_now(self) -> None:
        self.looks += 1

    def room_changed(self) -> None:
        self.changes += 1


def assigned(count: int, **options: Any) -> tuple[RunLimits, list[Participant]]:
    limits, members = RunLimits(**options), [Participant() for _ in range(count)]
    for participant in members:
        limits.join(participant)
    return limits, members


def test_without_a_limit_nothing_ends_by_itself() -> None:
    limits, (participant,) = assigned(1)
    assert limits.allowed(7) == 7
    limits.asking(7)
    limits.answered(participant, 7, 0, 1.0)
    assert not participant.stopped


def test_a_burst_ends_with_an_empty_answer() -> None:
    limits, (participant,) = assigned(1, burst=True)
    limits.asking(5)
    limits.answered(participant, 5, 2, 1.0)
    limits.ended("a", 2.0)
    assert not participant.looks  # one job is active; its end is waited for
    limits.asking(4)
    limits.answered(participant, 4, 0, 2.5)
    assert not participant.stopped
    limits.ended("b", 3.0)
    assert (participant.stopped, participant.looks) == (0, 1)  # b may have enqueued something after 2.5
    limits.asking(5)
    limits.answered(participant, 5, 0, 3.5)
    assert participant.stopped == 1


def test_an_empty_answer_to_a_claim_that_was_sent_too_early_proves_nothing() -> None:
    limits, (one, two) = assigned(2, burst=True)
    limits.asking(5)
    limits.answered(one, 5, 1, 1.0)
    limits.asking(5)  # two's claim is on its way while one's job enqueues for two and ends
    limits.ended("a", 3.0)
    limits.answered(two, 5, 0, 2.0)
    assert not one.stopped
    assert two.looks
    limits.asking(5)
    limits.answered(two, 5, 1, 3.1)
    limits.ended("b", 4.0)
    for participant in (one, two):
        assert not participant.stopped
        limits.asking(5)
        limits.answered(participant, 5, 0, 4.1)
    assert (one.stopped, two.stopped) == (1, 1)


def test_max_jobs_is_never_exceeded_and_what_is_not_used_is_shared() -> None:
    limits, (one, two) = assigned(2, max_jobs=5)
    assert limits.allowed(10) == 5
    limits.asking(5)
    assert limits.allowed(10) == 0
    limits.answered(one, 5, 3, 1.0)
    assert two.changes == 1
    assert limits.allowed(10) == 2
    limits.asking(2)
    limits.unanswered(2)
    assert two.changes == 2
    limits.asking(2)
    limits.answered(two, 2, 2, 2.0)
    for job in "abcd":
        limits.ended(job, 3.0)
        assert not one.stopped
    limits.ended("e", 3.0)
    assert (one.stopped, two.stopped) == (1, 1)


def test_a_burst_does_not_wait_for_a_member_that_has_left() -> None:
    limits, (one, two) = assigned(2, burst=True)
    limits.asking(5)
    limits.answered(one, 5, 1, 1.0)
    limits.asking(5)
    limits.answered(two, 5, 0, 1.5)
    limits.leave(one, 1, 2.0)  # cut off: its job may have enqueued for two until then
    assert (one.stopped, two.stopped, two.looks) == (0, 0, 1)
    limits.asking(5)
    limits.answered(two, 5, 0, 2.5)
    assert (one.stopped, two.stopped) == (0, 1)


def test_a_member_that_leaves_with_nothing_to_do_ends_the_wait_for_it() -> None:
    limits, (one, two) = assigned(2, burst=True)
    limits.asking(5)
    limits.answered(two, 5, 0, 1.0)
    assert not two.stopped
    limits.leave(one, 0, 2.0)
    assert (one.stopped, two.stopped) == (0, 1)
    limits.leave(two, 0, 3.0)
    assert two.stopped == 1


def test_what_a_member_leaves_behind_counts_as_ended() -> None:
    limits, (one, two) = assigned(2, max_jobs=3)
    limits.asking(3)
    limits.answered(one, 3, 2, 1.0)
    limits.leave(one, 2, 2.0)
    assert limits.allowed(9) == 1
    limits.asking(1)
    limits.answered(two, 1, 1, 3.0)
    limits.ended("c", 4.0)
    assert two.stopped == 1


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_impossible_numbers(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_jobs"):
        RunLimits(max_jobs=value)


@given(st.data())
def test_any_order_of_events_ends_quiet_and_within_the_limit(data: st.DataObject) -> None:
    """A model with queues: jobs enqueue others anywhere while they run. A run that ends has left nothing."""
    count = data.draw(st.integers(1, 3))
    limit = data.draw(st.none() | st.integers(1, 8))
    limits, members = assigned(count, burst=True, max_jobs=limit)
    queues = [data.draw(st.integers(0, 3)) for _ in members]
    seeds = data.draw(st.integers(0, 6))  # jobs that running ones may still enqueue
    claims: dict[int, tuple[int, int, float]] = {}  # member -> asked, got, sent_at
    active = taken = ended = 0
    now = 0.0
    present = set(range(count))
    for _ in range(200):
        if not present or any(participant.stopped for participant in members):
            break
        now += 1.0
        steps = [("claim", n) for n in present if n not in claims and limits.allowed(2)]
        steps += [("answer", n) for n in claims]
        steps += [("leave", n) for n in present if n not in claims]
        steps += [("end", n) for n in range(count) if active] * 2
        if active and seeds:
            steps += [("enqueue", n) for n in range(count)]
        what, n = data.draw(st.sampled_from(steps))
        if what == "claim":
            asked = limits.allowed(2)
            limits.asking(asked)
            got = min(asked, queues[n])  # the server decides when it is sent, and the answer comes later
            queues[n] -= got
            claims[n] = (asked, got, now)
        elif what == "answer":
            asked, got, sent_at = claims.pop(n)
            taken += got
            active += got
            limits.answered(members[n], asked, got, sent_at)
        elif what == "end":
            active -= 1
            ended += 1
            limits.ended(str(ended), now)
        elif what == "leave":
            present.remove(n)
            unsettled = data.draw(st.integers(0, active))
            active -= unsettled
            ended += unsettled
            limits.leave(members[n], unsettled, now)
        else:
            seeds -= 1
            queues[n] += 1
    assert limit is None or taken <= limit
    if any(participant.stopped for participant in members):
        assert [participant.stopped for participant in members] == [int(n in present) for n in range(count)]
        if limit is None or ended < limit:
            assert not active
            assert sum(queues[n] for n in present) == 0
            assert not any(got for _, got, _ in claims.values())


# --- real workers ---------------------------------------------------------------------------------------------


def test_a_worker_in_burst_ends_when_its_queue_is_empty(client: SpooledClient, outside: Outside) -> None:
    outside.enqueue_many(30)
    outside.enqueue(payload={"n": 1000}, scheduled_at="2099-01-01T00:00:00Z")
    worker = SpooledWorker(client, "q", concurrency=4, poll_interval=60)
    seen: list[int] = []
    worker.process(lambda ctx: seen.append(ctx.payload["n"]))
    worker.start(burst=True)
    assert sorted(seen) == list(range(30))
    assert worker.state is WorkerState.STOPPED
    worker.start(burst=True)  # with nothing to do
    assert outside.counts()["completed"] == 30


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_no_more_than_max_jobs_are_claimed(client: SpooledClient, outside: Outside, limit: int) -> None:
    outside.enqueue_many(30)
    worker = SpooledWorker(client, "q", concurrency=10)
    claimed: list[str] = []
    worker.on("job:claimed", lambda event: claimed.append(event.job_id))
    worker.process(lambda ctx: None)
    worker.start(max_jobs=limit)
    assert len(claimed) == limit
    assert outside.counts()["completed"] == limit
    assert outside.counts()["pending"] == 30 - limit


async def test_an_async_group_in_burst_follows_jobs_from_queue_to_queue(
    server: EmbeddedServer, outside: Outside
) -> None:
    outside.enqueue_many(20, "a")
    async with AsyncSpooledClient(server.api_key, base_url=server.url) as client:
        a, b, c = (AsyncSpooledWorker(client, name, poll_interval=60) for name in "abc")

        @a.process
        async def to_b(ctx: Any) -> None:
            await client.jobs.create(queue_name="b", payload=None)

        @b.process
        async def to_c(ctx: Any) -> None:
            await client.jobs.create(queue_name="c", payload=None)

        @c.process
        def end(ctx: Any) -> None: ...

        await AsyncWorkerGroup(a, b, c).start(burst=True)
    assert [outside.counts(name)["completed"] for name in "abc"] == [20, 20, 20]


def test_a_group_shares_max_jobs(client: SpooledClient, outside: Outside) -> None:
    for name in "abc":
        outside.enqueue_many(20, name)
    workers = [SpooledWorker(client, name, concurrency=10) for name in "abc"]
    for worker in workers:
        worker.process(lambda ctx: None)
    WorkerGroup(*workers).start(max_jobs=25)
    assert sum(outside.counts(name)["completed"] for name in "abc") == 25
    assert sum(outside.counts(name)["pending"] for name in "abc") == 35


def test_a_group_whose_other_queues_are_empty_reaches_max_jobs(
    client: SpooledClient, outside: Outside
) -> None:
    outside.enqueue_many(20, "b")
    workers = [SpooledWorker(client, name, concurrency=10, poll_interval=0.05) for name in "abc"]
    for worker in workers:
        worker.process(lambda ctx: None)
    WorkerGroup(*workers).start(max_jobs=20)
    assert outside.counts("b")["completed"] == 20


def test_a_member_that_stops_alone_does_not_hold_up_a_burst(client: SpooledClient, outside: Outside) -> None:
    outside.enqueue("a")
    outside.enqueue("b")
    a, b = SpooledWorker(client, "a"), SpooledWorker(client, "b")
    a.process(lambda ctx: a.stop())
    b.process(lambda ctx: None)
    WorkerGroup(a, b).start(burst=True)
    assert (outside.counts("a")["completed"], outside.counts("b")["completed"]) == (1, 1)


def test_a_member_that_is_cut_off_does_not_hold_up_a_burst(client: SpooledClient, outside: Outside) -> None:
    outside.enqueue("a")
    outside.enqueue("b")
    a, b = SpooledWorker(client, "a"), SpooledWorker(client, "b")

    @a.process
    def handle(ctx: Any) -> None:
        a.stop(0)
        assert ctx.signal.wait(HOPELESS)

    b.process(lambda ctx: None)
    WorkerGroup(a, b).start(burst=True)
    assert (a.state, b.state) == ("stopped", "stopped")
    assert outside.counts("b")["completed"] == 1


def test_a_group_looks_like_a_worker(client: SpooledClient, outside: Outside) -> None:
    workers = [SpooledWorker(client, name) for name in "ab"]
    begun, go_on = threading.Event(), threading.Event()

    def handle(ctx: Any) -> None:
        begun.set()
        assert go_on.wait(HOPELESS)

    for worker in workers:
        worker.process(handle)
    group = WorkerGroup(*workers)
    started: list[str] = []
    group.on("started", lambda event: started.append(event.queue_name))

    @group.on("stopped")
    def stopped(event: Any) -> None: ...

    with pytest.raises(ValueError, match="did you mean 'started'"):
        group.on("starte")  # type: ignore[call-overload]
    assert (group.state, group.active_job_count, group.is_ready()) == ("idle", 0, False)
    assert repr(group) == "<WorkerGroup queue_names=['a', 'b'] state=idle>"
    with group:
        outside.enqueue("b")
        assert begun.wait(HOPELESS)
        assert (group.state, group.active_job_count) == ("running", 1)
        assert [one.active_jobs for one in group.health] == [0, 1]
        assert group.is_ready()
        go_on.set()
    assert group.state == "stopped"
    assert sorted(started) == ["a", "b"]


# --- drain ----------------------------------------------------------------------------------------------------


def test_drain_returns_the_jobs_as_they_ended(outside: Outside, client: SpooledClient) -> None:
    good, bad = outside.enqueue(payload={"n": 1}), outside.enqueue(payload={"n": 2}, max_retries=0)
    worker = SpooledWorker(client, "q", concurrency=1)

    @worker.process
    def handle(ctx: Any) -> int:
        if ctx.payload["n"] == 2:
            raise RuntimeError("no")
        return 10

    first, second = drain(worker)
    assert (first.id, first.status, first.result) == (good, "completed", 10)
    assert (second.id, second.status) == (bad, "deadletter")
    assert drain(worker) == []


async def test_drain_async_with_a_clock_that_is_moved() -> None:
    with EmbeddedServer(clock=ManualClock()) as server:
        async with AsyncSpooledClient(server.api_key, base_url=server.url) as client:
            await client.jobs.create(queue_name="q", payload=None)
            worker = AsyncSpooledWorker(client, "q")

            @worker.process
            async def handle(ctx: Any) -> None:
                if ctx.attempt < 3:
                    raise RuntimeError("not yet")

            assert [job.retry_count for job in await drain_async(worker)] == [1]
            assert await drain_async(worker) == []
            server.advance(3600)
            await drain_async(worker)
            server.advance(3600)
            (job,) = await drain_async(worker)
    assert (job.status, job.retry_count) == ("completed", 2)


def test_handlers_run_in_the_thread_that_drains(outside: Outside, client: SpooledClient) -> None:
    outside.enqueue_many(5, "a")
    outside.enqueue_many(5, "b")
    threads = set()
    workers = [SpooledWorker(client, name) for name in "ab"]
    for worker in workers:
        worker.process(lambda ctx: threads.add(threading.current_thread()))
    assert len(drain(*workers)) == 10
    assert threads == {threading.current_thread()}


def test_drain_raises_when_it_cannot_drain(server: EmbeddedServer) -> None:
    def worker(key: str, url: str) -> SpooledWorker:
        made = SpooledWorker(SpooledClient(key, base_url=url, retry={"max_retries": 0}), "q")
        made.process(lambda ctx: None)
        return made

    with pytest.raises(AuthenticationError):
        drain(worker("sp_test_" + "x" * 40, server.url))
    with pytest.raises(NetworkError):
        drain(worker(server.api_key, "http://127.0.0.1:9"))
    with pytest.raises(ValueError, match="at least one worker"):
        drain()


def test_drain_takes_groups(client: SpooledClient, outside: Outside) -> None:
    ids = {outside.enqueue(name) for name in "abc"}
    a, b, c = (SpooledWorker(client, name) for name in "abc")
    for worker in (a, b, c):
        worker.process(lambda ctx: None)
    assert {job.id for job in drain(WorkerGroup(a, b), c)} == ids
    with pytest.raises(ValueError, match="twice"):
        drain(WorkerGroup(a, b), a)


async def test_drain_async_takes_groups_that_start_as_groups_do(
    server: EmbeddedServer, outside: Outside
) -> None:
    class Special(AsyncWorkerGroup):
        async def start(self, *, burst: bool = False, max_jobs: int | None = None) -> None:
            await super().start(burst=burst, max_jobs=max_jobs)

    ids = {outside.enqueue(name) for name in "ab"}
    async with AsyncSpooledClient(server.api_key, base_url=server.url) as client:
        workers = [AsyncSpooledWorker(client, name) for name in "ab"]
        for worker in workers:
            worker.process(lambda ctx: None)
        assert {job.id for job in await drain_async(AsyncWorkerGroup(*workers))} == ids
        # What it does around its workers, such as an application's lifespan, would be left out.
        with pytest.raises(TypeError, match=r"Special has a start\(\) of its own"):
            await drain_async(Special(*workers))


def test_drain_finds_the_jobs_of_every_workers_own_server(client: SpooledClient, outside: Outside) -> None:
    with (
        EmbeddedServer() as other,
        SpooledClient(other.api_key, base_url=other.url) as elsewhere,
    ):
        ids = {outside.enqueue("a"), elsewhere.jobs.create(queue_name="b", payload=None).id}
        workers = [SpooledWorker(client, "a"), SpooledWorker(elsewhere, "b")]
        for worker in workers:
            worker.process(lambda ctx: None)
        assert {job.id for job in drain(*workers)} == ids


def test_drain_talks_through_the_clients_own_transport(server: EmbeddedServer, outside: Outside) -> None:
    """A client behind a proxy, or with certificates of its own, reaches the server by no other way."""

    class Proxy(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.url = request.url.copy_with(port=int(server.url.rpartition(":")[2]))
            return super().handle_request(request)

    job = outside.enqueue()
    with SpooledClient(server.api_key, base_url="http://127.0.0.1:9", transport=Proxy()) as client:
        worker = SpooledWorker(client, "q")
        worker.process(lambda ctx: None)
        assert [one.id for one in drain(worker)] == [job]


class Interruption(BaseException):
    """As Ctrl-C, and what test frameworks raise to end a test."""


def test_what_interrupts_a_drain_leaves_no_worker_behind(client: SpooledClient, outside: Outside) -> None:
    outside.enqueue_many(5)
    worker = SpooledWorker(client, "q", shutdown_timeout=60)

    @worker.process
    def handle(ctx: Any) -> None:
        raise Interruption

    with pytest.raises(Interruption):
        drain(worker)
    assert worker.state == "stopped"
    counts = outside.counts()
    assert counts["processing"] == 0
    assert counts["scheduled"] + counts["pending"] == 5  # one has failed, the others are given back


def test_a_job_that_has_timed_out_while_it_waited_for_its_turn_is_not_run(
    client: SpooledClient, outside: Outside
) -> None:
    first = outside.enqueue(payload={"n": 1}, priority=10)
    second = outside.enqueue(payload={"n": 2}, timeout_seconds=1, max_retries=0)
    worker = SpooledWorker(client, "q", concurrency=2)
    ran = []

    @worker.process
    def handle(ctx: Any) -> None:
        ran.append(ctx.payload["n"])
        wait_until(lambda: outside.status(second) == "deadletter")

    assert {job.id: job.status for job in drain(worker)} == {first: "completed", second: "deadletter"}
    assert ran == [1]
