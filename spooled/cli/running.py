"""Runs a worker until a signal or an error ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import signal
import threading
import time
import traceback
from enum import Enum
from typing import TYPE_CHECKING

from spooled import errors
from spooled.cli.exits import EXIT_GRACE, exit_now, exit_within
from spooled.cli.failure import CommandError, Exit
from spooled.cli.signals import listen_for_signals, stop_signals
from spooled.errors import AuthenticationError, AuthorizationError, SpooledError
from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, StuckWorkerError, WorkerState

if TYPE_CHECKING:
    from spooled.cli._target import AnyWorker
    from spooled.worker import ErrorEvent, StoppedEvent

logger = logging.getLogger("spooled.cli")

SIGNAL_DEBOUNCE = 0.1
"""Seconds in which the same signal, coming again, is still the first one."""


class _Mark(Enum):
    STOPPED = 1
    """The worker has stopped; what it ran in may not have ended yet."""
    OVER = 2
    """Nothing follows."""


_News = int | SpooledError | _Mark
"""A number is a signal."""


def run(
    worker: AnyWorker,
    wait: float,
    *,
    burst: bool = False,
    max_jobs: int | None = None,
    owns_process: bool = False,
) -> int:
    """Start the worker and return the exit code when it has ended.

    Args:
        worker: Not started yet.
        wait: Seconds to keep trying to reach the server at the start.
        burst: Stop when nothing is left to do.
        max_jobs: Stop after so many jobs.
        owns_process: Whether the process ends with the worker. When a signal has stopped the worker, and something
            else keeps the process alive, such as a thread that a handler has started, it is then ended after
            `EXIT_GRACE` seconds.

    Raises:
        CommandError: It could not start, or the server refused it.
        Exception: What a `start` of the user's own raised.
    """
    return _Run(worker, wait, burst, max_jobs, owns_process).run()


class _Run:
    """One run. The main thread is in the worker; a thread of its own acts on signals.

    A handler could not do that: what it interrupts may hold any lock, and stopping takes time in which a second
    signal must be heard.
    """

    def __init__(
        self, worker: AnyWorker, wait: float, burst: bool, max_jobs: int | None, owns_process: bool
    ) -> None:
        self._worker = worker
        self._burst = burst
        self._max_jobs = max_jobs
        self._owns_process = owns_process
        self._give_up_at = time.monotonic() + wait
        self._inbox: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._signals: list[int] = []
        self._started = False
        self._stopped = False
        self._limited = False
        self._unreachable: SpooledError | None = None
        self._reasons: set[str] = set()

    def run(self) -> int:
        worker = self._worker
        worker.on("started", self._on_started)
        worker.on("error", self._on_error)
        worker.on("stopped", self._on_stopped)
        watcher = threading.Thread(target=self._watch, name="spooled-watch", daemon=True)
        watcher.start()
        with listen_for_signals(stop_signals(), self._inbox.put):
            try:
                if isinstance(worker, AsyncSpooledWorker | AsyncWorkerGroup):
                    asyncio.run(self._run_async(worker))
                else:
                    worker.start(burst=self._burst, max_jobs=self._max_jobs)
            except (AuthenticationError, AuthorizationError) as error:
                raise CommandError(
                    f"the server refuses this worker: {error.message}; check the API key that its client is made with",
                    Exit.REFUSED,
                ) from error
            except SpooledError as error:
                raise CommandError(f"the server refuses this worker: {error}") from error
            except StuckWorkerError as error:
                raise CommandError(str(error), Exit.STUCK) from error
            except RuntimeError as error:
                if self._started or not _is_ours(error):
                    raise
                raise CommandError(_startable(str(error))) from error
            finally:
                self._inbox.put(_Mark.STOPPED)
                self._inbox.put(_Mark.OVER)
        code = self._exit_code()
        if len(self._signals) > 1:
            logger.warning("stopped at once by a second signal; jobs that were cut off run again elsewhere")
        return code

    async def _run_async(self, worker: AsyncSpooledWorker | AsyncWorkerGroup) -> None:
        try:
            await worker.start(burst=self._burst, max_jobs=self._max_jobs)
        finally:
            # The loop has yet to wait for the threads of its executor.
            self._inbox.put(_Mark.STOPPED)

    def _exit_code(self) -> int:
        if len(self._signals) > 1:
            return 128 + self._signals[1]
        if self._unreachable is not None:
            raise CommandError(
                f"cannot reach the server: {self._unreachable.message.rstrip('.')}; check that it runs "
                "and the base_url that the worker's client is made with, or keep trying with --wait SECONDS",
                Exit.UNREACHABLE,
            )
        if "forced" in self._reasons:
            raise CommandError(
                "some jobs could not be given back before the worker stopped; they run again when their leases end"
            )
        return Exit.DONE

    # --- events, in a thread of the worker or on the user's loop ----------------------------------------------

    def _on_started(self, _event: object) -> None:
        self._started = True

    def _on_error(self, event: ErrorEvent) -> None:
        error = event.error
        # A page of a proxy, or of another program at that address, is no better than no answer.
        unreachable = isinstance(error, errors.NetworkError | errors.TimeoutError) or (
            isinstance(error, SpooledError) and error.foreign
        )
        if not self._started and unreachable and time.monotonic() >= self._give_up_at:
            assert isinstance(error, SpooledError)
            self._inbox.put(error)

    def _on_stopped(self, event: StoppedEvent) -> None:
        self._reasons.add(event.reason)

    # --- signals ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while (news := self._inbox.get()) is not _Mark.OVER:
            if isinstance(news, SpooledError):
                if self._unreachable is None:
                    self._unreachable = news
                    self._stop(0.0)
            elif isinstance(news, _Mark):
                self._stopped = True
                self._limit_exit()
            else:
                self._signals.append(news)
                self._signalled(news)
        self._limit_exit()

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stopped:
            if len(self._signals) > 1:
                exit_now(128 + number)
            self._limit_exit()
        elif len(self._signals) == 1:
            count = self._worker.active_job_count
            self._stop(None)
            if self._swallow_echo(number):
                logger.info("%s: finishing %s; once more to stop at once", name, _jobs(count))
        elif len(self._signals) == 2:
            logger.warning("%s again: cutting off %s", name, _jobs(self._worker.active_job_count))
            if self._worker.state is WorkerState.IDLE:
                # It has claimed nothing, and its start may take for ever.
                exit_now(128 + number)
            self._stop(0.0)
        else:
            # Whatever the worker still waits for, its leases run out by themselves.
            exit_now(128 + number)

    def _limit_exit(self) -> None:
        if not self._owns_process or not self._signals or self._limited:
            return
        self._limited = True
        try:
            code = self._exit_code()
        except CommandError as error:
            code = error.code
        exit_within(EXIT_GRACE, code)

    def _swallow_echo(self, number: int) -> bool:
        """Drop repetitions that come with the first signal; False when the worker has ended meanwhile.

        `timeout`, npm and others signal the process and then its whole group, so that it hears everything twice.
        """
        others: list[_News] = []
        until = time.monotonic() + SIGNAL_DEBOUNCE
        while _Mark.STOPPED not in others and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                news = self._inbox.get(timeout=left)
                if news != number:
                    others.append(news)
        for news in others:
            self._inbox.put(news)
        return _Mark.STOPPED not in others

    def _stop(self, timeout: float | None) -> None:
        def stop() -> None:
            # Before it is idle no longer, the worker would not hear the request. An adapter may take its time.
            pause = threading.Event()
            while self._worker.state is WorkerState.IDLE:
                pause.wait(0.01)
            self._worker.stop(timeout)

        # It may return only when the worker has stopped, and the next signal must not wait for that.
        threading.Thread(target=stop, name="spooled-stop", daemon=True).start()


def _is_ours(error: BaseException) -> bool:
    """Return whether this library raised it, and so says all that there is to say."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] in ("spooled", "spooled_contrib")


def _startable(message: str) -> str:
    if "already" in message:
        return f"{message}; the module must not start it (auto_start=True, worker.start())"
    return message


def _jobs(count: int) -> str:
    return "1 running job" if count == 1 else f"{count} running jobs"
