"""The threads in which plain functions run.

Nothing that is raised in such a thread ends it or leaves its job without an outcome: not what a handler raises, and not
what another thread raises in it (`PyThreadState_SetAsyncExc`) while it is between two jobs. So each job is assigned to
one thread by the I/O loop, which then knows what a thread that has died was running; and a thread that is interrupted
looks up how far it had come.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

from spooled.models import ClaimedJob
from spooled.worker._isolation import JobScopes
from spooled.worker._job_result import Failure, JobResult, describe_error, run_handler
from spooled.worker._log import WorkerLogger
from spooled.worker._loop_queue import LoopQueue
from spooled.worker._routing import Route
from spooled.worker._runners import Deliver, new_context
from spooled.worker._running_job import RunningJob
from spooled.worker.context import JobContext

logger = WorkerLogger("spooled.worker")

Assigned = tuple[int, RunningJob]
"""A job's run, and its number among those of its thread."""


class _Slot:
    """One thread and its work.

    Attributes:
        thread: The thread.
        assigned: What it is to run; set and removed on the I/O loop.
        wake: Gets an item whenever there is something to look at.
        closed: Whether the thread is to end.
        begun: The number of the run that was begun last.
        reported: The number of the run whose outcome was reported last.
        outcome: Of the run that was begun last; None before it ended and after it was reported.
        interruption: What was raised in the thread from outside, if that ended the run.
    """

    __slots__ = ("assigned", "begun", "closed", "interruption", "outcome", "reported", "thread", "wake")

    def __init__(self) -> None:
        self.thread: threading.Thread
        self.assigned: Assigned | None = None
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.closed = False
        self.begun = self.reported = 0
        self.outcome: JobResult | None = None
        self.interruption = ""


class ThreadRunner:
    """Runs plain functions in at most `size` daemon threads, started as they are needed.

    Daemon, because a handler that hangs must not keep the process alive after the worker has stopped.
    """

    overtime = 0.0

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._slots: list[_Slot] = []
        self._idle: list[_Slot] = []
        self._turns = 0
        self._scopes = JobScopes(on_loop=False)
        self._done: LoopQueue[tuple[_Slot, int, JobResult]] | None = None
        self._deliver: Deliver | None = None

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver, *_: object) -> None:
        self._deliver = deliver
        self._done = LoopQueue(loop, self._finished)

    async def open(self) -> None:
        """Nothing to do: threads are started as they are needed."""

    def capacity(self) -> int:
        return self._size

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:  # noqa: ARG002
        return new_context(JobContext, job, queue_name, threading.Event())

    def submit(self, running_job: RunningJob) -> None:
        """Assign a handler to a thread.

        Raises:
            RuntimeError: The operating system gives no further thread.
        """
        if not self._idle:
            self._open_slot()
        if not self._idle[-1].thread.is_alive():
            self._start_thread(self._idle[-1])
        slot = self._idle.pop()
        self._turns += 1
        slot.assigned = self._turns, running_job
        slot.wake.put(None)

    def abort(self, running_job: RunningJob) -> None:
        running_job.context.signal.set()

    def time_to_force(self, running_job: RunningJob) -> float:  # noqa: ARG002
        return 0.0

    def replace_dead_threads(self) -> int:
        dead = 0
        for slot in self._slots:
            if slot.closed or slot.thread.is_alive():
                continue
            logger.error("thread %s of the worker has died; starting another", slot.thread.name)
            if slot.assigned is not None:
                turn, _ = slot.assigned
                died = Failure("the thread that ran the job has died")
                self._finished((slot, turn, (slot.outcome if slot.begun == turn else None) or died))
            try:
                self._start_thread(slot)
            except RuntimeError as error:
                dead += 1
                logger.error("no thread can be started: %s", error)
        return dead

    def close(self) -> None:
        for slot in self._slots:
            slot.closed = True
            slot.wake.put(None)

    async def wait_closed(self) -> None:
        """Nothing to wait for: a handler may never return."""

    def is_current(self) -> bool:
        current = threading.current_thread()
        return any(slot.thread is current for slot in self._slots)

    # --- on the I/O loop ------------------------------------------------------------------------------------

    def _open_slot(self) -> None:
        if len(self._slots) >= self._size:
            raise RuntimeError(f"all {self._size} threads of the worker are busy")
        slot = _Slot()
        self._slots.append(slot)
        try:
            self._start_thread(slot)
        except BaseException:
            self._slots.remove(slot)
            raise
        self._idle.append(slot)

    def _start_thread(self, slot: _Slot) -> None:
        name = f"{self._name}-{self._slots.index(slot) + 1}"
        thread = threading.Thread(target=self._live, args=(slot,), name=name, daemon=True)
        slot.thread = thread
        thread.start()

    def _finished(self, finished: tuple[_Slot, int, JobResult]) -> None:
        assert self._deliver is not None
        slot, turn, outcome = finished
        if slot.assigned is None or slot.assigned[0] != turn:
            return  # told twice, by a thread that was interrupted
        _, running_job = slot.assigned
        slot.assigned = None
        self._idle.append(slot)
        self._deliver((running_job, outcome))

    # --- in the threads -------------------------------------------------------------------------------------

    def _live(self, slot: _Slot) -> None:
        while True:
            try:
                return self._serve(slot)
            except BaseException as error:
                slot.interruption = describe_error(error)
                logger.error(
                    "thread %s of the worker was interrupted: %s", slot.thread.name, slot.interruption
                )

    def _serve(self, slot: _Slot) -> None:
        while True:
            assigned = slot.assigned
            if assigned is not None and assigned[0] != slot.reported:
                self._run(slot, *assigned)
            elif slot.closed:
                return
            else:
                del assigned  # an idle thread must not keep the last payload alive
                slot.wake.get()

    def _run(self, slot: _Slot, turn: int, running_job: RunningJob) -> None:
        assert self._done is not None
        assert running_job.route is not None
        if slot.begun != turn:
            slot.outcome = None
            slot.begun = turn
            slot.outcome = self._scopes.new().run(run_handler, running_job.route.call, running_job.context)
        # Without an outcome, it was interrupted outside of the handler.
        outcome = slot.outcome or Failure(f"the thread that ran the job was interrupted: {slot.interruption}")
        self._done.put((slot, turn, outcome))
        slot.reported = turn
        slot.outcome = None
