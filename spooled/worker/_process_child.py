"""The program of a child process: it runs one job after the other, in its main thread.

A second thread reads what the worker sends, so that a handler can be told to stop, and so that the child ends when the
worker does.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from spooled.worker._isolation import JobScopes
from spooled.worker._job_result import describe_error, run_handler
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
    decode_to_child,
    encode_reenqueue,
    frame,
    receive,
)
from spooled.worker._process_references import load_handlers
from spooled.worker._routing import BoundRoutes
from spooled.worker._signals import signal_handlers
from spooled.worker.context import JobContext

logger = logging.getLogger("spooled.worker")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal or a service manager may send to all processes of a program. The worker decides what follows
from them."""

ORPHAN_GRACE = 1.0
"""Seconds that a handler has to end when its worker is gone."""

CANNOT_LOAD = 3
"""The exit code of a child that cannot load the handlers."""

CANNOT_TELL = 4
"""The exit code of a child that cannot reach its worker any more."""

_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Serve a worker over the socket with this descriptor until it says that no job follows.

    Raises:
        SystemExit: The handlers cannot be loaded.
    """
    # Not ignored, for programs that a handler starts would inherit that.
    with signal_handlers(STOP_SIGNALS, lambda *_: None):
        connection = socket.socket(fileno=descriptor)
        os.register_at_fork(after_in_child=connection.close)
        content = receive(connection)
        if content is not None:
            setup: Setup = pickle.loads(content)  # noqa: S301 - the worker's own
            _die_with(setup.parent)
            sys.argv[:] = setup.argv
            _Child(connection, setup).serve()


class _Child:
    def __init__(self, connection: socket.socket, setup: Setup) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._setup = setup
        self._jobs: queue.SimpleQueue[RunJob | None] = queue.SimpleQueue()
        self._current: tuple[int, JobContext[Any]] | None = None
        # The latest; what is aborted before its turn must not begin.
        self._aborted = 0

    def serve(self) -> None:
        threading.Thread(target=self._listen, name="spooled-worker-pipe", daemon=True).start()
        routes = self._load()
        scopes = JobScopes(on_loop=False)
        self._send(Ready())
        served = 0
        while (job := self._jobs.get()) is not None:
            served += 1
            ended = self._run(job, routes, scopes)
            ended.retire = served == self._setup.max_jobs or self._is_too_large()
            self._send(ended)
            if ended.retire:
                return

    def _load(self) -> BoundRoutes:
        try:
            return load_handlers(self._setup.handlers, self._setup.main)
        except BaseException as error:
            self._send(LoadFailed(describe_error(error), traceback.format_exc()))
            raise SystemExit(CANNOT_LOAD) from None

    def _run(self, job: RunJob, routes: BoundRoutes, scopes: JobScopes) -> JobEnded:
        ctx: JobContext[Any] = JobContext(
            job_id=job.job_id,
            queue_name=job.queue_name,
            payload=pickle.loads(job.payload),  # noqa: S301 - the worker's own
            retry_count=job.retry_count,
            max_retries=job.max_retries,
            timeout_seconds=job.timeout_seconds,
            lease_id=job.lease_id,
            signal=threading.Event(),
        )
        route = routes.find(ctx.payload)
        assert route is not None
        self._current = job.run, ctx
        if self._aborted >= job.run:
            ctx.signal.set()
        try:
            ended = JobEnded.of(job.run, scopes.new().run(run_handler, route.call, ctx))
        finally:
            self._current = None
        ended.reenqueue = encode_reenqueue(ctx.reenqueue_payload, ctx.job_id)
        return ended

    def _is_too_large(self) -> bool:
        return self._setup.max_memory is not None and memory_in_use() > self._setup.max_memory

    def _send(self, message: FromChild) -> None:
        try:
            with self._sending:
                self._connection.sendall(frame(message))
        except OSError:
            # The worker is gone, or a handler has closed the connection.
            raise SystemExit(CANNOT_TELL) from None

    # --- in the thread that listens ---------------------------------------------------------------------------

    def _listen(self) -> None:
        while (content := receive(self._connection)) is not None:
            match decode_to_child(content):
                case RunJob() as job:
                    self._jobs.put(job)
                case AbortJob(run):
                    self._abort(run)
                case Finish():
                    self._jobs.put(None)
        self._end_orphaned()

    def _abort(self, run: int) -> None:
        self._aborted = run
        current = self._current
        if current is not None and current[0] == run:
            _, ctx = current
            ctx.signal.set()
            with suppress(SystemExit):
                self._send(JobAborted(run, encode_reenqueue(ctx.reenqueue_payload, ctx.job_id)))

    def _end_orphaned(self) -> None:
        """End this process, and those that it has started, for its worker is gone."""
        self._jobs.put(None)
        current = self._current
        if current is not None:
            current[1].signal.set()
        threading.Event().wait(ORPHAN_GRACE)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def memory_in_use() -> int:
    """Return the resident memory of this process in bytes; its peak where the system tells nothing else."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its worker dies, even while a handler does not let go of the GIL."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
