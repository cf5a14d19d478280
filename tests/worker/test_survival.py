"""Whatever is raised while a job runs: the job is settled, and every slot works afterwards."""

from __future__ import annotations

import _thread
import asyncio
import ctypes
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.testing import drain
from spooled.worker import (
    AckInfo,
    ClaimInfo,
    Fail,
    JobContext,
    Middleware,
    Retry,
    SpooledWorker,
    WorkerHealth,
)
from spooled.worker import _engine as engine
from spooled.worker import _thread_runner as thread_runner
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import Running

KINDS = ("threads", "coroutines", "plain in coroutines")
everywhere = pytest.mark.parametrize("kind", KINDS)

SLOTS = 3


class Unreadable(Exception):
    """What its methods raise is a class attribute."""

    raises: type[BaseException] = ValueError

    def __str__(self) -> str:
        raise self.raises("no text for you")

    __repr__ = __str__


class UnreadableExit(Unreadable):
    raises = SystemExit


class UnreadableInterrupt(Unreadable):
    raises = KeyboardInterrupt


class UnreadableGenerator(Unreadable):
    raises = GeneratorExit


class Text(str):
    """Text that cannot be worked with."""

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise SystemExit("encode")

    def __format__(self, _: str) -> str:
        raise SystemExit("format")


class Subtle(Exception):
    def __str__(self) -> str:
        return Text("looks like text")


class Lying(Exception):
    @property
    def __class__(self) -> Any:
        raise SystemExit("class")


class Result:
    """A result that cannot be read."""

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind

    def model_dump(self, **_: Any) -> Any:
        raise self._kind("no result")


def deep(number: int = 0) -> int:
    return deep(number + 1) + 1


def throw(error: BaseException) -> Any:
    raise error


EVIL: dict[str, Callable[[JobContext[Any]], Any]] = {
    "SystemExit": lambda ctx: sys.exit(3),
    "_thread.exit": lambda ctx: _thread.exit(),
    "KeyboardInterrupt": lambda ctx: throw(KeyboardInterrupt()),
    "GeneratorExit": lambda ctx: throw(GeneratorExit()),
    "StopIteration": lambda ctx: throw(StopIteration(1)),
    "StopAsyncIteration": lambda ctx: throw(StopAsyncIteration(1)),
    "CancelledError": lambda ctx: throw(asyncio.CancelledError()),
    "BaseException": lambda ctx: throw(BaseException("base")),
    "BaseExceptionGroup": lambda ctx: throw(BaseExceptionGroup("all", [KeyboardInterrupt(), SystemExit()])),
    "MemoryError": lambda ctx: throw(MemoryError()),
    "RecursionError": lambda ctx: deep(),
    "unreadable": lambda ctx: throw(Unreadable()),
    "unreadable, SystemExit": lambda ctx: throw(UnreadableExit()),
    "unreadable, KeyboardInterrupt": lambda ctx: throw(UnreadableInterrupt()),
    "unreadable, GeneratorExit": lambda ctx: throw(UnreadableGenerator()),
    "text with methods of its own": lambda ctx: throw(Subtle()),
    "no class": lambda ctx: throw(Lying()),
    "a cause that is unreadable": lambda ctx: throw(Fail("told") if ctx is None else _caused()),
    "Fail without text": lambda ctx: throw(Fail(None)),  # type: ignore[arg-type]
    "Retry in the year 30000": lambda ctx: throw(Retry(1e12)),
    "a long text": lambda ctx: throw(ValueError("x" * 1_000_000)),
    "result, SystemExit": lambda ctx: Result(SystemExit),
    "result, KeyboardInterrupt": lambda ctx: Result(KeyboardInterrupt),
    "result, GeneratorExit": lambda ctx: Result(GeneratorExit),
    "result, MemoryError": lambda ctx: Result(MemoryError),
    "a signal that is set": lambda ctx: (ctx.signal.set(), throw(ValueError("after the signal"))),
}


def _caused() -> Fail:
    error = Fail("told")
    error.__cause__ = UnreadableExit()
    return error


def running(
    kind: str, client: SpooledClient, handler: Callable[[JobContext[Any]], Any], **options: Any
) -> Running:
    made = Running(
        "threads" if kind == "threads" else "coroutines", client, handler, concurrency=SLOTS, **options
    )
    if kind == "plain in coroutines":
        made.worker._routes._default = None  # the harness has made a coroutine of it
        made.worker.process(handler)
    return made


def check_all_slots(worker: Running, outside: Outside, together: threading.Barrier) -> None:
    """As many jobs as there are slots run at the same time, and the worker is ready."""
    ids = [outside.enqueue(payload="normal") for _ in range(SLOTS)]
    wait_until(lambda: all(outside.status(job_id) == "completed" for job_id in ids), "every slot works")
    assert not together.broken
    wait_until(lambda: worker.worker.health.is_ready(), "the worker is ready")
    wait_until(lambda: worker.worker.active_job_count == 0, "nothing is left unsettled")


class Normal:
    """A handler that does what `evil` does, and for normal jobs waits until all slots run one."""

    def __init__(self, kind: str, evil: Callable[[JobContext[Any]], Any]) -> None:
        self.together = threading.Barrier(SLOTS, timeout=HOPELESS)
        self._kind = kind
        self._evil = evil
        self._entered = 0

    def __call__(self, ctx: JobContext[Any]) -> Any:
        if ctx.payload != "normal":
            return self._evil(ctx)
        if self._kind == "coroutines":
            return self._meet()
        self.together.wait()
        return "done"

    async def _meet(self) -> str:
        self._entered += 1
        while self._entered % SLOTS:
            await asyncio.sleep(0.01)
        return "done"


@everywhere
def test_every_job_is_settled_and_all_slots_work_on(kind: str, client: SpooledClient, outside: Outside):
    handler = Normal(kind, lambda ctx: EVIL[ctx.payload](ctx))
    with running(kind, client, handler) as worker:
        ids = {(name, n): outside.enqueue(payload=name, max_retries=0) for name in EVIL for n in range(SLOTS)}
        wait_until(
            lambda: not outside.counts()["pending"] and not worker.worker.active_job_count,
            "all jobs are settled",
        )
        ended = {name: outside.job(job_id) for name, job_id in ids.items()}
        assert {name: job["status"] for name, job in ended.items()} == dict.fromkeys(ids, "deadletter")
        assert not [name for name, job in ended.items() if not job["last_error"]]
        check_all_slots(worker, outside, handler.together)


def test_the_callers_thread_settles_every_job_too(client: SpooledClient, outside: Outside):
    ids = {name: outside.enqueue(payload=name, max_retries=0) for name in EVIL}
    worker = SpooledWorker(client, "q", poll_interval=0.05, concurrency=1)
    worker.process(lambda ctx: EVIL[ctx.payload](ctx) if ctx.payload in EVIL else "done")
    interrupted = []
    while outside.counts()["pending"]:
        try:
            drain(worker)
        except (
            BaseException
        ) as error:  # what is raised to end a test ends the drain, and the next one goes on
            interrupted.append(type(error))
    assert {name: outside.status(job_id) for name, job_id in ids.items()} == dict.fromkeys(ids, "deadletter")
    assert KeyboardInterrupt in interrupted


class Broken(logging.Filter):
    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self._kind = kind

    def filter(self, record: logging.LogRecord) -> bool:
        raise self._kind("the filter is broken")


@everywhere
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError])
@pytest.mark.parametrize("logger", ["spooled.worker", "spooled.worker.events", "spooled.worker.middleware"])
def test_a_logging_filter_that_raises_costs_no_job(
    logger: str,
    error: type[BaseException],
    kind: str,
    client: SpooledClient,
    outside: Outside,
    capfd: pytest.CaptureFixture[str],
):
    class Observer(Middleware):
        def acked(self, ack: AckInfo) -> None:
            raise ValueError("so that something is logged")

    handler = Normal(kind, lambda ctx: throw(ValueError("the reason")))
    broken = Broken(error)
    with running(kind, client, handler, middleware=[Observer()]) as worker:
        worker.worker.on("job:failed", lambda event: throw(ValueError("so that something is logged")))
        logging.getLogger(logger).addFilter(broken)
        try:
            ids = [outside.enqueue(payload="evil", max_retries=0) for _ in range(2 * SLOTS)]
            wait_until(lambda: all(outside.status(job_id) == "deadletter" for job_id in ids))
            check_all_slots(worker, outside, handler.together)
        finally:
            logging.getLogger(logger).removeFilter(broken)
    assert f"logging failed with {error.__name__}" in capfd.readouterr().err


@everywhere
@pytest.mark.parametrize(
    "error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, ValueError]
)
def test_hooks_and_event_handlers_that_raise_cost_no_job(
    error: type[BaseException], kind: str, client: SpooledClient, outside: Outside
):
    class Evil(Middleware):
        def claimed(self, claim: ClaimInfo) -> None:
            raise error("claimed")

        def acked(self, ack: AckInfo) -> None:
            raise error("acked")

        @contextmanager
        def around(self, ctx: JobContext[Any]) -> Iterator[None]:
            if ctx.payload != "normal":
                raise error("around")
            yield

    handler = Normal(kind, lambda ctx: "never run")
    with running(kind, client, handler, middleware=[Evil()]) as worker:
        told: list[str] = []
        for name in ("started", "job:claimed", "job:started", "job:failed", "job:completed", "error"):
            worker.worker.on(name, lambda event: throw(error("event")))  # type: ignore[arg-type]
        worker.worker.on("job:completed", lambda event: told.append(event.job_id))
        ids = [outside.enqueue(payload="evil", max_retries=0) for _ in range(2 * SLOTS)]
        wait_until(lambda: all(outside.status(job_id) == "deadletter" for job_id in ids))
        check_all_slots(worker, outside, handler.together)
        wait_until(lambda: len(told) == SLOTS, "events are still told")


# --- threads ------------------------------------------------------------------------------------------------


def threads_of(queue_name: str = "q") -> list[threading.Thread]:
    return [
        one
        for one in threading.enumerate()
        if one.name.startswith(f"spooled-{queue_name}-") and one.name.rpartition("-")[2].isdigit()
    ]


def raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError, GeneratorExit])
def test_an_exception_between_two_jobs_costs_neither(
    error: type[BaseException], client: SpooledClient, outside: Outside
):
    handler = Normal("threads", lambda ctx: None)
    with running("threads", client, handler) as worker:
        check_all_slots(worker, outside, handler.together)
        for thread in threads_of():
            raise_in(thread, error)
        check_all_slots(worker, outside, handler.together)
        check_all_slots(worker, outside, handler.together)


# One that comes while another is dealt with ends the thread, and Python says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exceptions_that_come_all_the_time_cost_no_job_its_ack(client: SpooledClient, outside: Outside):
    handler = Normal("threads", lambda ctx: sum(range(2000)))
    over = threading.Event()

    def bombard() -> None:
        while not over.wait(0.002):
            for thread in threads_of():
                raise_in(thread, ValueError)

    bombing = threading.Thread(target=bombard)
    # Logging takes locks, and what is interrupted right after taking one never gives it back.
    logging.disable(logging.CRITICAL)
    with running("threads", client, handler) as worker:
        bombing.start()
        try:
            outside.enqueue_many(200)
            wait_until(lambda: outside.counts()["completed"] + outside.counts()["deadletter"] >= 1)
            wait_until(lambda: not outside.counts()["processing"] and not outside.counts()["pending"])
        finally:
            over.set()
            bombing.join()
            logging.disable(logging.NOTSET)
        wait_until(lambda: not worker.worker.active_job_count)
        check_all_slots(worker, outside, handler.together)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with a job"])
def test_a_thread_that_has_died_is_replaced(
    busy: bool,
    client: SpooledClient,
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(engine, "THREAD_CHECK", 0.05)
    original = thread_runner.ThreadRunner._serve
    dying = threading.Event()

    def serve(self: Any, slot: Any) -> None:
        original(self, slot)

    def live(self: Any, slot: Any) -> None:
        while not slot.closed:
            slot.wake.get()
            if slot.assigned is not None and dying.is_set() and busy:
                return
            if slot.assigned is not None:
                self._run(slot, *slot.assigned)
            if dying.is_set():
                return

    handler = Normal("threads", lambda ctx: None)
    with monkeypatch.context() as patch:
        patch.setattr(thread_runner.ThreadRunner, "_live", live)
        worker = running("threads", client, handler)
        with worker:
            check_all_slots(worker, outside, handler.together)
            dying.set()
            patch.undo()
            ids = [outside.enqueue(payload="evil", max_retries=0) for _ in range(SLOTS)]
            wait_until(lambda: all(outside.status(one) in ("completed", "deadletter") for one in ids))
            wait_until(lambda: "has died" in caplog.text)
            check_all_slots(worker, outside, handler.together)
    if busy:
        # Not of all: a thread that was replaced may have run the next.
        assert "the thread that ran the job has died" in {outside.job(job_id)["last_error"] for job_id in ids}


def test_a_thread_that_cannot_be_replaced_makes_the_worker_unready(
    client: SpooledClient, outside: Outside, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "THREAD_CHECK", 0.05)
    handler = Normal("threads", lambda ctx: None)
    with running("threads", client, handler) as worker:
        check_all_slots(worker, outside, handler.together)
        with monkeypatch.context() as patch:
            patch.setattr(thread_runner.ThreadRunner, "replace_dead_threads", lambda self: 1)
            wait_until(lambda: not worker.worker.health.is_ready())
            assert worker.worker.health.dead_threads == 1
        wait_until(lambda: worker.worker.health.is_ready())


def test_a_job_fails_when_the_system_gives_no_thread(
    client: SpooledClient, outside: Outside, monkeypatch: pytest.MonkeyPatch
):
    handler = Normal("threads", lambda ctx: None)
    with running("threads", client, handler) as worker:
        with monkeypatch.context() as patch:
            patch.setattr(
                thread_runner.ThreadRunner,
                "_start_thread",
                lambda self, slot: throw(RuntimeError("can't start new thread")),
            )
            ids = [outside.enqueue(payload="evil", max_retries=0) for _ in range(2 * SLOTS)]
            wait_until(lambda: all(outside.status(job_id) == "deadletter" for job_id in ids))
            assert "can't start new thread" in outside.job(ids[0])["last_error"]
        check_all_slots(worker, outside, handler.together)


def test_a_part_of_the_engine_that_fails_ends_the_worker(
    client: SpooledClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "THREAD_CHECK", 0.05)
    with monkeypatch.context() as patch, running("threads", client, lambda ctx: None) as worker:
        patch.setattr(thread_runner.ThreadRunner, "replace_dead_threads", lambda self: 1 / 0)
        wait_until(lambda: worker.error is not None)
    assert isinstance(worker.error, ZeroDivisionError)
    assert worker.worker.state == "error"


def test_health_with_a_dead_thread_is_not_ready():
    fields = WorkerHealth.__dataclass_fields__
    assert fields["dead_threads"].default == 0
