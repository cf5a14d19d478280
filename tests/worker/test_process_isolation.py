"""Handlers in child processes: what they get and give, how they are ended, and what becomes of their jobs."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spooled import AsyncSpooledClient, SpooledClient
from spooled.clock import ManualClock
from spooled.testing import drain
from spooled.worker import AckInfo, AsyncSpooledWorker, Middleware, SpooledWorker, WorkerGroup
from spooled.worker import _process_pool as process_pool
from spooled_contrib.server import EmbeddedServer
from tests import forks
from tests.proc import children_of, lives, needs_proc
from tests.waiting import wait_until
from tests.worker import process_handlers as handlers
from tests.worker.conftest import Outside
from tests.worker.harness import Running

pytestmark = needs_proc


def running(client: SpooledClient, handler: Callable[[Any], Any], **options: Any) -> Running:
    return Running("threads", client, handler, **{"isolation": "process", "concurrency": 2, **options})


def run(client: SpooledClient, handler: Callable[[Any], Any], **options: Any) -> None:
    """Work off what is due."""
    worker = SpooledWorker(
        client, "q", **{"isolation": "process", "concurrency": 2, "poll_interval": 0.05, **options}
    )
    worker.process(handler)
    worker.start(burst=True)


def pool_of() -> list[int]:
    """The child processes of workers in this process."""
    found = []
    for pid in children_of(os.getpid()):
        with suppress(OSError):
            if b"_process_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    assert pool_of() == []


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


class DeadAtAck(Middleware):
    """Looks, when the server has taken an ack, whether the processes of the job live."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self.alive: dict[str, list[int]] = {}

    def acked(self, ack: AckInfo) -> None:
        pids = {one["pid"] for one in handlers.notes_of(self._notes) if one["job"] == ack.job_id}
        self.alive[ack.job_id] = [pid for pid in pids if lives(pid)]


# --- what a handler gets and gives --------------------------------------------------------------------------


def test_a_handler_gets_its_context_and_gives_its_result(client: SpooledClient, outside: Outside):
    job_id = outside.enqueue(payload={"to": "ada", "at": "2024-05-01T00:00:00Z"})
    run(client, handlers.send)
    job = outside.job(job_id)
    lease = job["result"].pop("lease")
    assert lease
    assert job["result"] == {
        "to": "ada",
        "year": 2024,
        "attempt": 1,
        "queue": "q",
        "set": False,
        "main": True,
    }


@pytest.mark.parametrize(
    "payload",
    [None, 0, "", [], {}, {"n": 2**63 + 1}, {"n": -(10**40)}, {"x": 1.5}, {"ü\u0000": ["\U0001f600"]}],
    ids=str,
)
def test_payloads_arrive_as_they_were_sent(payload: Any, client: SpooledClient, outside: Outside):
    threads, processes = outside.enqueue("t", payload), outside.enqueue("q", payload)
    run(client, handlers.echo)
    plain = SpooledWorker(client, "t", poll_interval=0.05)
    plain.process(handlers.echo)
    plain.start(burst=True)
    assert outside.job(processes)["result"] == outside.job(threads)["result"]
    assert outside.job(processes)["status"] == outside.job(threads)["status"]


def test_large_payloads_and_results_pass(client: SpooledClient, outside: Outside):
    # The server takes payloads of 1 MiB and results of 2.
    payload = "x" * (2**20 - 1000)
    ids = [outside.enqueue(payload=payload) for _ in range(4)]
    run(client, handlers.double)
    assert [outside.job(job_id)["result"] == payload * 2 for job_id in ids] == [True] * 4


@pytest.mark.parametrize(
    ("way", "status", "error"),
    [
        ("returns", "completed", None),
        ("raises", "deadletter", "ValueError: no luck"),
        ("fails", "deadletter", "exactly this"),
        ("sys.exit", "deadletter", "SystemExit: 4"),
        ("KeyboardInterrupt", "deadletter", "KeyboardInterrupt"),
        ("MemoryError", "deadletter", "MemoryError"),
        ("not JSON", "deadletter", "its result cannot be sent"),
        ("discards", "completed", None),
        ("fallback", "completed", None),
        ("fallback that is a lambda", "deadletter", "its result was refused"),
        ("SIGKILL", "deadletter", "the process that ran the job was killed by SIGKILL"),
        ("SIGSEGV", "deadletter", "the process that ran the job was killed by SIGSEGV"),
        ("SIGABRT", "deadletter", "the process that ran the job was killed by SIGABRT"),
        ("_exit(0)", "deadletter", "the process that ran the job ended with exit code 0"),
        ("_exit(7)", "deadletter", "the process that ran the job ended with exit code 7"),
        ("closes everything", "deadletter", "the process that ran the job "),
    ],
)
def test_the_end_of_a_handler_is_the_end_of_its_job_only(
    way: str, status: str, error: str | None, client: SpooledClient, outside: Outside, tmp_path: Path
):
    until = tmp_path / "until"
    other = outside.enqueue(payload={"notes": str(tmp_path / "notes"), "until": str(until)}, max_retries=0)
    with running(client, handlers.end_unless_kept):
        wait_until(lambda: handlers.notes_of(tmp_path / "notes"))
        job_id = outside.enqueue(payload={"end": way}, max_retries=0)
        wait_until(lambda: outside.status(job_id) == status)
        after = outside.enqueue(payload={"end": "returns"})
        wait_until(lambda: outside.status(after) == "completed")
        assert outside.status(other) == "processing"
        until.touch()
        wait_until(lambda: outside.status(other) == "completed")
    assert (error or "") in (outside.job(job_id)["last_error"] or "")


@pytest.mark.parametrize(("way", "retries"), [("snoozes", 3), ("retries", 2)])
def test_a_handler_may_put_its_job_off(way: str, retries: int, client: SpooledClient, outside: Outside):
    job_id = outside.enqueue(payload={"end": way}, max_retries=3)
    run(client, handlers.end)
    note = outside.job(job_id)["result"]["spooled"]
    copy = outside.job(note["successor"])
    assert (copy["status"], copy["max_retries"]) == ("scheduled", retries)
    assert note["reason"] in ("not yet", "busy")


def test_a_copy_gets_the_payload_that_the_handler_has_left(client: SpooledClient, outside: Outside):
    job_id = outside.enqueue(payload={"done": 0})
    run(client, handlers.snooze_with_progress)
    successor = outside.job(job_id)["result"]["spooled"]["successor"]
    assert outside.job(successor)["payload"] == {"done": 17}


def test_each_job_has_a_fresh_context(client: SpooledClient, outside: Outside):
    ids = [outside.enqueue() for _ in range(3)]
    run(client, handlers.set_and_get, concurrency=1)
    seen = [outside.job(job_id)["result"] for job_id in ids]
    assert len({pid for _, _, pid in seen}) == 1
    assert [[name, prec] for name, prec, _ in seen] == [["none", 28]] * 3


@pytest.mark.parametrize(
    "handler",
    [
        functools.partial(handlers.Greeter.__call__, handlers.Greeter("part")),
        handlers.Greeter("object"),
        handlers.Greeter("method").method,
    ],
    ids=["partial", "object", "method"],
)
def test_handlers_that_pickle_takes_by_reference(
    handler: Callable[[Any], Any], client: SpooledClient, outside: Outside
):
    job_id = outside.enqueue()
    run(client, handler)
    assert outside.job(job_id)["result"].endswith(job_id)


@pytest.mark.parametrize("way", list(forks.WAYS))
def test_a_handler_may_start_processes(way: str, client: SpooledClient, outside: Outside):
    ids = [outside.enqueue(payload={"way": way}) for _ in range(2)]
    run(client, handlers.fork, concurrency=1)
    assert [outside.job(job_id)["result"] for job_id in ids] == [forks.WAYS[way][1]] * 2


# --- middleware ---------------------------------------------------------------------------------------------


def test_middleware_runs_around_the_handler_in_the_child_and_is_told_of_acks_here(
    client: SpooledClient, outside: Outside
):
    job_id = outside.enqueue()
    tag = handlers.Tag("tagged")
    run(client, handlers.say_tenant, middleware=[tag])
    tenant, pid = outside.job(job_id)["result"]
    assert tenant == f"tagged in MainProcess {pid}"
    assert pid != os.getpid()
    assert tag.acked_in == [os.getpid()]


def test_a_middleware_that_cannot_be_pickled_is_refused_at_the_start(client: SpooledClient):
    with pytest.raises(RuntimeError, match=r"middleware Locked cannot be used .* variable of a module"):
        run(client, handlers.echo, middleware=[handlers.Locked("locked")])


# --- handlers that cannot be found --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (handlers.anonymous, r"handler <lambda> cannot .* it is a lambda; define it with `def` at the top"),
        (handlers.make_nested(), r"handler make_nested.<locals>.nested cannot .* inside of a function"),
        (functools.partial(print, threading.Lock()), "handler .* cannot be used by child processes .*pickle"),
    ],
    ids=["lambda", "nested", "partial"],
)
def test_a_handler_that_a_child_cannot_import_is_refused_at_the_start(
    handler: Callable[[Any], Any], message: str, client: SpooledClient
):
    worker = SpooledWorker(client, "q", isolation="process")
    worker.process(handler)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            worker.start()
    assert worker.state == "idle"


def test_a_name_that_means_something_else_is_refused(client: SpooledClient, monkeypatch: pytest.MonkeyPatch):
    original = handlers.echo
    monkeypatch.setattr(handlers, "echo", lambda ctx: original(ctx))
    worker = SpooledWorker(client, "q", isolation="process")
    worker.process(original)
    with pytest.raises(RuntimeError, match=r"handler echo cannot be used .* not the same object"):
        worker.start()


# --- time-outs, shutdown, lost leases -----------------------------------------------------------------------


@pytest.mark.parametrize("handler", [handlers.ignore_everything, handlers.stop_itself])
def test_a_job_that_ignores_its_time_out_is_killed_before_it_fails(
    handler: Callable[[Any], Any], client: SpooledClient, outside: Outside, notes: Path
):
    watch = DeadAtAck(notes)
    payload = {"notes": str(notes)}
    ids = [outside.enqueue(payload=payload, timeout_seconds=1, max_retries=0) for _ in range(3)]
    run(client, handler, middleware=[watch], cleanup_grace=0.1)
    for job_id in ids:
        job = outside.job(job_id)
        assert job["status"] == "deadletter"
        assert job["last_error"] == "Job timeout exceeded: timed out after 1 s; its process was killed"
    assert watch.alive == {job_id: [] for job_id in ids}


@pytest.mark.parametrize("on_stuck", ["fail", "exit"])
def test_a_job_whose_process_will_be_killed_is_not_stuck(
    on_stuck: str, client: SpooledClient, outside: Outside, notes: Path
):
    watch = DeadAtAck(notes)
    job_id = outside.enqueue(payload={"notes": str(notes)}, timeout_seconds=1, max_retries=0)
    options: dict[str, Any] = {"timeout_grace": 0, "cleanup_grace": 0.5, "on_stuck": on_stuck}
    with running(client, handlers.ignore_everything, middleware=[watch], **options) as worker:
        wait_until(lambda: worker.of("job:failed"))
        assert not worker.of("job:stuck")
        assert worker.worker.state == "running"
    assert watch.alive == {job_id: []}
    assert outside.job(job_id)["last_error"].endswith("its process was killed")


def test_a_process_that_does_not_get_ready_is_killed_and_said_so(
    client: SpooledClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process_pool, "START_TIME", 0.3)
    monkeypatch.setattr(process_pool, "START_TRIES", 2)
    worker = SpooledWorker(client, "q", isolation="process", concurrency=1)
    worker.process(handlers.ignore_everything)
    worker._override(handlers.hang)
    with pytest.raises(RuntimeError, match=r"was not ready after 0.3 s, and was killed"):
        worker.start()
    assert pool_of() == []


def test_a_job_that_ends_when_asked_keeps_its_process(client: SpooledClient, outside: Outside, notes: Path):
    job_id = outside.enqueue(payload={"notes": str(notes)}, timeout_seconds=1, max_retries=0)
    with running(client, handlers.stop_when_asked, concurrency=1, cleanup_grace=60):
        wait_until(lambda: outside.status(job_id) == "deadletter")
        started, asked = handlers.notes_of(notes)
        assert pool_of() == [started["pid"]] == [asked["pid"]]
    assert outside.job(job_id)["last_error"] == "Job timeout exceeded"


def test_a_time_out_never_lets_two_runs_overlap(client: SpooledClient, outside: Outside, notes: Path):
    outside.enqueue(payload={"notes": str(notes)}, timeout_seconds=1, max_retries=3)
    watch = DeadAtAck(notes)
    with running(
        client, handlers.ignore_everything, middleware=[watch], concurrency=3, cleanup_grace=0.1
    ) as worker:
        wait_until(lambda: len(worker.of("job:failed")) == 1)
        assert list(watch.alive.values()) == [[]]
        assert not worker.of("job:lease_lost")


def test_what_a_handler_has_started_is_killed_with_it(
    client: SpooledClient, outside: Outside, tmp_path: Path
):
    program = tmp_path / "program"
    payload = {"notes": str(tmp_path / "notes"), "program": str(program)}
    outside.enqueue(payload=payload, timeout_seconds=1, max_retries=0)
    run(client, handlers.start_a_program, cleanup_grace=0.1)
    assert not lives(int(program.read_text()))


def test_what_a_handler_has_left_behind_ends_with_the_child_unless_it_is_apart(
    client: SpooledClient, outside: Outside
):
    ids = [outside.enqueue(payload={"apart": apart}) for apart in (False, True)]
    run(client, handlers.start_a_program_and_return)
    left, apart = (outside.job(job_id)["result"] for job_id in ids)
    try:
        assert not lives(left)
        assert lives(apart)
    finally:
        os.kill(apart, signal.SIGKILL)


def test_a_handler_that_holds_the_gil_keeps_its_lease_and_is_killed_at_its_time_out(
    client: SpooledClient, outside: Outside, notes: Path
):
    job_id = outside.enqueue(payload={"notes": str(notes)}, timeout_seconds=7, max_retries=0)
    options: dict[str, Any] = {"lease_duration": 5, "heartbeat_fraction": 0.2, "cleanup_grace": 0.1}
    with (
        running(client, handlers.hold_the_gil, **options) as first,
        running(client, handlers.hold_the_gil, **options),
    ):
        wait_until(lambda: handlers.notes_of(notes))
        before = outside.job(job_id)["lease_expires_at"]
        # Longer than a lease.
        wait_until(lambda: outside.status(job_id) == "deadletter")
        assert before
    assert [one["what"] for one in handlers.notes_of(notes)] == ["start"]
    assert "its process was killed" in outside.job(job_id)["last_error"]
    assert not first.of("job:lease_lost")


def test_jobs_that_burn_cpu_run_at_the_same_time(client: SpooledClient, outside: Outside, notes: Path):
    ids = [outside.enqueue(payload={"notes": str(notes), "of": 2}) for _ in range(2)]
    run(client, handlers.meet)
    assert len({outside.job(job_id)["result"] for job_id in ids} | {os.getpid()}) == 3


@pytest.mark.parametrize("handler", [handlers.remember_and_ignore, handlers.hold_the_gil])
def test_a_job_that_is_cut_off_is_given_back_when_its_process_is_gone(
    handler: Callable[[Any], Any], client: SpooledClient, outside: Outside, notes: Path
):
    watch = DeadAtAck(notes)
    job_id = outside.enqueue(payload={"notes": str(notes)}, max_retries=0)
    with running(client, handler, middleware=[watch], cleanup_grace=0.3) as worker:
        wait_until(lambda: handlers.notes_of(notes))
        worker.stop(0)
        assert pool_of() == []
    assert watch.alive == {job_id: []}
    note = outside.job(job_id)["result"]["spooled"]
    assert note["outcome"] == "released"
    copy = outside.job(note["successor"])
    assert copy["status"] == "pending"
    assert copy["payload"].get("done") == (17 if handler is handlers.remember_and_ignore else None)


def test_a_lost_lease_ends_the_process(client: SpooledClient, outside: Outside, notes: Path):
    outside.enqueue(payload={"notes": str(notes)})
    with running(
        client, handlers.ignore_everything, lease_duration=5, heartbeat_fraction=0.05, cleanup_grace=0.1
    ) as worker:
        wait_until(lambda: handlers.notes_of(notes))
        assert outside.http.delete("/queues/q", params={"delete_jobs": "true"}).status_code == 204
        wait_until(lambda: worker.of("job:lease_lost"))
        wait_until(lambda: not lives(handlers.notes_of(notes)[0]["pid"]))
        wait_until(lambda: worker.worker.health.is_ready())


# --- children -----------------------------------------------------------------------------------------------


def test_children_are_started_as_they_are_needed_and_used_again(client: SpooledClient, outside: Outside):
    with running(client, handlers.say_pid, concurrency=5):
        pids = set()
        for _ in range(5):
            job_id = outside.enqueue()
            wait_until(lambda job_id=job_id: outside.status(job_id) == "completed")
            pids.add(outside.job(job_id)["result"])
        assert len(pids) == 1
        assert pool_of() == [*pids]


def test_a_child_is_replaced_after_so_many_jobs(client: SpooledClient, outside: Outside):
    ids = [outside.enqueue() for _ in range(6)]
    run(client, handlers.say_pid, concurrency=1, max_jobs_per_child=2)
    pids = [outside.job(job_id)["result"] for job_id in ids]
    assert sorted(Counter(pids).values()) == [2, 2, 2]


def test_a_child_is_replaced_when_it_has_grown(client: SpooledClient, outside: Outside):
    small = [outside.enqueue(payload={"mib": 0}) for _ in range(2)]
    large = outside.enqueue(payload={"mib": 400})
    after = outside.enqueue(payload={"mib": 0})
    run(client, handlers.leak, concurrency=1, max_memory_per_child=350)
    pids = [outside.job(job_id)["result"] for job_id in [*small, large, after]]
    assert pids[0] == pids[1] == pids[2] != pids[3]


def test_a_child_that_dies_idle_costs_no_job(client: SpooledClient, outside: Outside):
    with running(client, handlers.say_pid, concurrency=1):
        wait_until(pool_of)
        (first,) = pool_of()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: first not in children_of(os.getpid()))
        job_id = outside.enqueue(max_retries=0)
        wait_until(lambda: outside.status(job_id) in ("completed", "deadletter"))
    assert outside.job(job_id)["result"] != first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_to_a_child_ends_no_job(
    number: signal.Signals, client: SpooledClient, outside: Outside, tmp_path: Path
):
    until, notes = tmp_path / "until", tmp_path / "notes"
    job_id = outside.enqueue(payload={"notes": str(notes), "until": str(until)}, max_retries=0)
    with running(client, handlers.wait_for_file):
        wait_until(lambda: handlers.notes_of(notes))
        (one,) = handlers.notes_of(notes)
        os.kill(one["pid"], number)
        until.touch()
        wait_until(lambda: outside.status(job_id) == "completed")
        after = outside.enqueue(payload={"notes": str(notes), "until": str(until)})
        wait_until(lambda: outside.status(after) == "completed")


def test_a_child_that_does_not_end_by_itself_is_killed(
    client: SpooledClient, outside: Outside, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process_pool, "END_GRACE", 0.2)
    ids = [outside.enqueue() for _ in range(3)]
    run(client, handlers.hang_at_exit, concurrency=1, max_jobs_per_child=1)
    assert len({outside.job(job_id)["result"] for job_id in ids}) == 3


# --- other workers ------------------------------------------------------------------------------------------


async def say_pid_async(ctx: Any) -> int:
    return os.getpid()


def test_an_asynchronous_worker_runs_its_plain_handlers_in_processes(client: SpooledClient, outside: Outside):
    plain, coroutine = (
        outside.enqueue(payload={"job_type": "plain"}),
        outside.enqueue(payload={"job_type": "loop"}),
    )

    async def main() -> None:
        async with AsyncSpooledClient(config=client.config) as mine:
            worker = AsyncSpooledWorker(mine, "q", isolation="process", poll_interval=0.05)
            worker.handler("plain")(handlers.say_pid)
            worker.handler("loop")(say_pid_async)
            await worker.start(burst=True)

    asyncio.run(main())
    assert outside.job(coroutine)["result"] == os.getpid()
    assert outside.job(plain)["result"] not in (None, os.getpid())


def test_a_drain_runs_handlers_in_the_callers_thread(client: SpooledClient, outside: Outside):
    outside.enqueue()
    worker = SpooledWorker(client, "q", poll_interval=0.05, isolation="process")
    worker.process(handlers.anonymous_pid)
    (job,) = drain(worker)
    assert job.result == os.getpid()


def test_a_group_may_have_workers_of_both_kinds(client: SpooledClient, outside: Outside):
    threads, processes = outside.enqueue("t"), outside.enqueue("q")
    members = [
        SpooledWorker(client, "t", poll_interval=0.05),
        SpooledWorker(client, "q", poll_interval=0.05, isolation="process"),
    ]
    for one in members:
        one.process(handlers.say_pid)
    WorkerGroup(*members).start(burst=True)
    assert outside.job(threads)["result"] == os.getpid()
    assert outside.job(processes)["result"] not in (None, os.getpid())


# --- chaos --------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server_with_clock(clock: ManualClock) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(clock=clock) as server:
        yield server


def test_random_kills_lose_nothing_and_double_nothing(
    server_with_clock: EmbeddedServer, clock: ManualClock, notes: Path
):
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    outside = Outside(server_with_clock)
    ids = [
        outside.enqueue(payload={"notes": str(notes), "seconds": chance.uniform(0, 0.02)}, max_retries=20)
        for _ in range(200)
    ]
    killed: Counter[int] = Counter()

    def has_completed(worker: Running, count: int) -> bool:
        clock.advance(0.1)  # so that retries become due
        return len(_completed(worker)) >= min(count, len(ids))

    with (
        SpooledClient(api_key=server_with_clock.api_key, base_url=server_with_clock.url) as client,
        running(client, handlers.chaos, concurrency=4, lease_duration=3600) as worker,
    ):
        for count in range(12, 200, 16):
            wait_until(
                lambda count=count: has_completed(worker, count), f"{count} jobs are done (seed {seed})"
            )
            with suppress(ProcessLookupError):
                victim = chance.choice(pool_of() or [0])
                os.kill(victim or 2**30, signal.SIGKILL)
                killed[victim] += 1
        wait_until(lambda: has_completed(worker, len(ids)), f"all jobs are done (seed {seed})")
    outside.http.close()
    assert killed, seed
    failed = Counter(event.job_id for event in worker.of("job:failed"))
    assert all("was killed by SIGKILL" in event.error for event in worker.of("job:failed")), seed
    assert sum(failed.values()) <= sum(killed.values()), seed
    assert not worker.of("job:lease_lost"), seed
    runs: dict[str, list[dict[str, Any]]] = {job_id: [] for job_id in ids}
    for one in handlers.notes_of(notes):
        runs[one["job"]].append(one)
    for job_id, told in runs.items():
        attempts = [one["attempt"] for one in told if one["what"] == "start"]
        # A run that was killed before it could write anything has failed too.
        assert sorted(set(attempts)) == attempts, seed
        assert max(attempts) == 1 + failed[job_id], seed
        # Each run is over, or its process is, before the next begins.
        assert [one["at"] for one in told] == sorted(one["at"] for one in told), seed


def _completed(worker: Running) -> set[str]:
    return {event.job_id for event in worker.of("job:completed")}


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolation": "fork"}, "isolation must be one of thread, process, got 'fork'"),
        ({"isolation": "process", "max_jobs_per_child": 0}, "max_jobs_per_child must be from 1"),
        ({"isolation": "process", "max_memory_per_child": -1}, "max_memory_per_child must be from 1"),
        ({"max_jobs_per_child": 5}, "max_jobs_per_child needs isolation='process'"),
        ({"max_memory_per_child": 5}, "max_memory_per_child needs isolation='process'"),
        ({"isolation": "process", "auto_start": True}, "auto_start needs isolation='thread'"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str, client: SpooledClient):
    with pytest.raises(ValueError, match=message):
        SpooledWorker(client, "q", **options)


@pytest.mark.parametrize("value", ["512MB", 1.5, True])
def test_limits_are_whole_numbers(value: Any, client: SpooledClient):
    for name in ("max_jobs_per_child", "max_memory_per_child"):
        with pytest.raises(TypeError, match=f"{name} must be a whole number"):
            SpooledWorker(client, "q", isolation="process", **{name: value})
