"""The child processes in which plain functions run, when a worker is made with `isolation="process"`.

A child runs one job at a time, so that the end of a child is the end of exactly that job. A job that is aborted is
asked to end first, and its child is killed when it has not done so within a grace. The outcome of a job is delivered
when its handler has returned, or its child is gone: nothing of it runs any more then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import threading
from collections import deque
from typing import Any, Literal

import msgspec

from spooled.models import ClaimedJob
from spooled.worker._backoff import Backoff
from spooled.worker._job_result import Failure, JobResult, fit_error
from spooled.worker._log import WorkerLogger
from spooled.worker._process_control import ChildProcess
from spooled.worker._process_messages import (
    AbortJob,
    Finish,
    FromChild,
    JobAborted,
    JobEnded,
    LoadFailed,
    Ready,
    RunJob,
    Setup,
)
from spooled.worker._process_references import main_module
from spooled.worker._routing import Route
from spooled.worker._runners import Begun, Deliver, Recovered, new_context
from spooled.worker._running_job import RunningJob
from spooled.worker.context import JobContext

logger = WorkerLogger("spooled.worker")

MIB = 1024 * 1024

START_TRIES = 3
"""Children that end before they are ready, one after the other, until jobs that wait for one fail."""

START_TIME = 60.0
"""Seconds that a child has to load the handlers; by as much the time-out of a job is put off that waits for one."""

END_GRACE = 5.0
"""Seconds that children have for their own end, such as what is registered with `atexit`."""

KILL_TIME = 10.0
"""Seconds after which a process that was killed is given up; the kernel may be waiting for a device."""


class _Child:
    """A child and what it does.

    Attributes:
        process: The process.
        state: `starting`: it loads the handlers. `ending`: it takes no more jobs.
        run: The number of its job.
        running_job: Its job, or None.
        killer: Kills it when it does not get ready, or its aborted job does not end.
        killed: Whether we have killed it while it ran a job.
        slow: Whether we have killed it because it did not get ready.
    """

    def __init__(self) -> None:
        self.process: ChildProcess
        self.state: Literal["starting", "idle", "busy", "ending"] = "starting"
        self.run = 0
        self.running_job: RunningJob | None = None
        self.killer: asyncio.TimerHandle | None = None
        self.killed = False
        self.slow = False
        self.load_error: LoadFailed | None = None


class ProcessRunner:
    """Runs plain functions in at most `size` child processes, started as they are needed.

    Args:
        size: The most children at once.
        name: What children are called in the list of processes.
        handlers: Where they find the handlers, see `dump_handlers`.
        grace: Seconds between asking a job to end and killing its child.
        max_jobs: Jobs after which a child is replaced; None for no limit.
        max_memory: MiB of resident memory above which a child is replaced after a job; None for no limit.
    """

    overtime = KILL_TIME

    def __init__(
        self,
        size: int,
        name: str,
        handlers: bytes,
        *,
        grace: float,
        max_jobs: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self._size = size
        self._name = f"{name} child of {os.getpid()}"
        self._grace = grace
        memory = None if max_memory is None else max_memory * MIB
        self._setup = Setup(handlers, main_module(), list(sys.argv), os.getpid(), max_jobs, memory)
        self._children: list[_Child] = []
        self._idle: list[_Child] = []
        self._waiting: deque[RunningJob] = deque()
        self._by_running_job: dict[RunningJob, _Child] = {}
        self._runs = 0
        self._closed = False
        self._failures = 0
        self._last_failure = ""
        self._backoff = Backoff(0.2, 30.0)
        self._retry: asyncio.TimerHandle | None = None
        self._opening: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._deliver: Deliver
        self._begun: Begun
        self._recovered: Recovered

    def bind(
        self, loop: asyncio.AbstractEventLoop, deliver: Deliver, begun: Begun, recovered: Recovered
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._begun = begun
        self._recovered = recovered

    async def open(self) -> None:
        """Start a first child.

        Raises:
            RuntimeError: It cannot load the handlers, or has died again and again.
        """
        self._opening = self._loop.create_future()
        self._start_child()
        await self._opening

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:  # noqa: ARG002
        return new_context(JobContext, job, queue_name, threading.Event())

    def capacity(self) -> int:
        return (
            self._size if not self._failures else sum(one.state in ("idle", "busy") for one in self._children)
        )

    def submit(self, running_job: RunningJob) -> None:
        if self._idle:
            self._assign(self._idle.pop(), running_job)
        else:
            # The time that a child takes to start is not the job's.
            running_job.deadline += START_TIME
            self._waiting.append(running_job)
            self._grow()

    def abort(self, running_job: RunningJob) -> None:
        running_job.context.signal.set()
        child = self._by_running_job.get(running_job)
        if child is not None:
            child.process.send(AbortJob(child.run))
            child.killer = self._loop.call_later(self._grace, self._kill, child, child.run)
        elif running_job in self._waiting:
            self._waiting.remove(running_job)
            self._loop.call_soon(self._deliver, (running_job, Failure("aborted: it had not begun")))

    def time_to_force(self, running_job: RunningJob) -> float:  # noqa: ARG002
        return self._grace + KILL_TIME

    def replace_dead_threads(self) -> int:
        return 1 if self._failures else 0

    def close(self) -> None:
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for child in self._children:
            if child.state == "idle":
                child.state = "ending"
                child.process.send(Finish())
            elif child.state in ("starting", "busy"):
                child.killed = True
                child.process.kill()
        self._idle.clear()

    async def wait_closed(self) -> None:
        """Wait until all children have ended. One that does not end by itself is killed."""
        left = {child.process.task for child in self._children}
        if left:
            _, left = await asyncio.wait(left, timeout=END_GRACE)
        if left:
            for child in self._children:
                self._kill_late(child)
            await asyncio.wait(left, timeout=KILL_TIME)
        for child in self._children:
            logger.error("child process %s of the worker was killed and has not ended", child.process.pid)

    def is_current(self) -> bool:
        return False

    # --- children -----------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Start children for the jobs that wait, as far as there may be more."""
        if self._closed or self._retry is not None:
            return
        starting = sum(child.state == "starting" for child in self._children)
        wanted = min(len(self._waiting) - starting, self._size - len(self._children))
        for _ in range(wanted if not self._failures else min(wanted, 1 - starting)):
            self._start_child()

    def _start_child(self) -> None:
        child = _Child()
        child.process = ChildProcess(
            self._name, self._setup, lambda message: self._heard(child, message), lambda: self._gone(child)
        )
        self._children.append(child)
        child.killer = self._loop.call_later(START_TIME, self._kill_slow, child)

    def _kill_slow(self, child: _Child) -> None:
        child.slow = True
        child.process.kill()

    def _assign(self, child: _Child, running_job: RunningJob) -> None:
        self._runs += 1
        child.state, child.run, child.running_job = "busy", self._runs, running_job
        self._by_running_job[running_job] = child
        self._begun(running_job)
        child.process.send(RunJob.of(child.run, running_job))

    def _release(self, child: _Child, outcome: JobResult) -> None:
        """Take a child's job away from it, and deliver how it ended."""
        running_job = child.running_job
        assert running_job is not None
        del self._by_running_job[running_job]
        child.running_job = None
        if child.killer is not None:
            child.killer.cancel()
            child.killer = None
        self._deliver((running_job, outcome))

    def _feed(self, child: _Child) -> None:
        """Give a child that is free the next job."""
        if self._closed:
            child.state = "ending"
            child.process.send(Finish())
        elif self._waiting:
            self._assign(child, self._waiting.popleft())
        else:
            child.state = "idle"
            self._idle.append(child)

    def _heard(self, child: _Child, message: FromChild) -> None:
        match message:
            case Ready():
                if child.killer is not None:
                    child.killer.cancel()
                    child.killer = None
                self._feed(child)
                self._started()
            case LoadFailed():
                child.load_error = message
            case JobAborted():
                if child.running_job is not None and child.run == message.run:
                    _keep_reenqueue(child.running_job, message.reenqueue)
            case JobEnded():
                if child.running_job is not None and child.run == message.run:
                    _keep_reenqueue(child.running_job, message.reenqueue)
                    child.state = "ending"
                    self._release(child, message.outcome())
                    if message.retire:
                        self._limit_end(child)
                    elif not child.killed:
                        self._feed(child)

    def _limit_end(self, child: _Child) -> None:
        """Kill a child that ends when it has not ended after a while: what a handler has left behind may hang."""
        child.killer = self._loop.call_later(END_GRACE, self._kill_late, child)

    def _kill_late(self, child: _Child) -> None:
        logger.warning(
            "child process %s of the worker has not ended %g s after its last job; killing it",
            child.process.pid,
            END_GRACE,
        )
        child.process.kill()

    def _kill(self, child: _Child, run: int) -> None:
        if child.running_job is not None and child.run == run:
            logger.warning(
                "job %s has not ended %g s after it was aborted; killing its process %s",
                child.running_job.job.id,
                self._grace,
                child.process.pid,
            )
            child.killed = True
            child.process.kill()

    def _gone(self, child: _Child) -> None:
        self._children.remove(child)
        if child in self._idle:
            self._idle.remove(child)
        if child.killer is not None:
            child.killer.cancel()
        how = (
            f"was not ready after {START_TIME:g} s, and was killed"
            if child.slow
            else _how_ended(child.process)
        )
        logger.debug("child process %s of the worker %s", child.process.pid, how)
        if child.state == "starting":
            self._start_failed(child, how)
        elif child.running_job is not None:
            if child.killed:
                _tell_killed(child.running_job)
                self._release(child, Failure("its process was killed"))
            else:
                text = f"the process that ran the job {how}"
                logger.error("job %s: %s", child.running_job.job.id, text)
                self._release(child, Failure(fit_error(text)))
        elif child.state == "idle":
            logger.warning("child process %s of the worker %s while it had no job", child.process.pid, how)
        self._grow()

    # --- children that do not start -----------------------------------------------------------------------------

    def _started(self) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)
        if self._failures:
            logger.info("child processes of the worker start again")
            self._failures = 0
            self._last_failure = ""
            self._backoff.reset()
            self._recovered()
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            self._grow()

    def _start_failed(self, child: _Child, how: str) -> None:
        if self._closed:
            return
        self._failures += 1
        loading = child.load_error
        text = (
            f"a child process cannot load the worker's handlers: {loading.error}"
            if loading
            else f"a child process of the worker {how}{'' if child.slow else ' before it was ready'}"
        )
        if text != self._last_failure:
            self._last_failure = text
            detail = f"\n{loading.traceback.rstrip()}" if loading else ""
            logger.error("%s%s", text, detail)
        if self._opening is not None and not self._opening.done():
            if loading or self._failures >= START_TRIES:
                self._opening.set_exception(RuntimeError(text))
                return
        elif self._failures >= START_TRIES and not any(one.state == "busy" for one in self._children):
            while self._waiting:
                self._deliver((self._waiting.popleft(), Failure(fit_error(text))))
        # Also when no job waits: the worker claims again only when a child has started.
        self._retry = self._retry or self._loop.call_later(self._backoff.next(), self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        starting = any(child.state == "starting" for child in self._children)
        if not starting and len(self._children) < self._size and not self._closed:
            self._start_child()


def _keep_reenqueue(running_job: RunningJob, payload: bytes | None) -> None:
    if payload is not None:
        running_job.context.reenqueue_payload = msgspec.json.decode(payload)


def _tell_killed(running_job: RunningJob) -> None:
    """Have the failure of an aborted job say that its process was killed."""
    decided = running_job.decided
    if isinstance(decided, Failure):
        seconds = running_job.job.timeout_seconds
        text = f"{decided.error}: timed out after {seconds} s; its process was killed"
        running_job.decided = dataclasses.replace(decided, error=text)


def _how_ended(process: ChildProcess) -> str:
    code = process.exit_code
    if process.lost:
        return "closed its connection to the worker, and was killed"
    if code is None:
        return f"could not be started: {process.error}"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
