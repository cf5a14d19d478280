"""A real thread for the manager, also where gevent or eventlet has put greenlets in the place of threads.

With `celery worker --pool gevent` all of Python's threads are greenlets of one thread, and asyncio's loop would keep
the others from running. So the loop gets a real thread, and what it shares with greenlets is guarded by a real lock,
which nobody holds for long. A greenlet waits by looking again and again; in between, others run. In a process that
nobody has patched, all of this is Python's own.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from spooled import errors
from spooled.worker import engine_loop

T = TypeVar("T")

FIRST_PAUSE = 0.0005
LONGEST_PAUSE = 0.01
"""Seconds between two looks of a greenlet; short ones first, because most answers come soon."""

LOG_PAUSE = 0.1
LOGGERS = ("asyncio", "spooled.http", "spooled.kombu", "spooled.worker.leases")
"""Those that are used in the thread."""


class Outcome(Protocol[T]):
    """What another thread hands over, once: the part of `Future` that is used here."""

    def set_result(self, result: T, /) -> None: ...
    def set_exception(self, error: BaseException, /) -> None: ...
    def result(self) -> T: ...
    def done(self) -> bool: ...


class Condition(Protocol):
    """The part of `threading.Condition` that is used here. A wait may end early."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def wait(self, timeout: float) -> bool: ...
    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool: ...
    def notify_all(self) -> None: ...


class Thread(Protocol):
    """The part of `threading.Thread` that is used here."""

    def start(self) -> None: ...
    def is_alive(self) -> bool: ...
    def join(self, timeout: float) -> None: ...


def patched_by() -> str | None:
    """Return what has put greenlets in the place of this process' threads, if anything has."""
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop for the thread.

    Raises:
        ConfigurationError: This process is patched, and has no loop that works in spite of it.
    """
    patch = patched_by()
    if patch is None:
        return engine_loop()
    # Not the engines' own: it, and asyncio's, wait and resolve names with what has been patched. uvloop is all C.
    if importlib.util.find_spec("uvloop") is None:
        raise errors.ConfigurationError(
            f'with {patch}, Spooled needs uvloop: pip install "spooled-contrib[fast]"'
        )
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


def new_outcome() -> Outcome[Any]:
    """An outcome that is still to come."""
    return Future() if patched_by() is None else _Outcome()


def new_condition() -> Condition:
    """Return a condition for the thread and for everybody else."""
    return threading.Condition() if patched_by() is None else _Condition()


def new_thread(target: Callable[[], None], name: str) -> Thread:
    """Return a real thread, which does not keep the process from ending."""
    if patched_by() is None:
        return threading.Thread(target=target, name=name, daemon=True)
    return _Thread(target)


def call(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run it on the loop of the thread, and wait for it."""
    if patched_by() is None:
        return asyncio.run_coroutine_threadsafe(work, loop).result()
    outcome: Outcome[T] = _Outcome()

    async def run() -> None:
        try:
            outcome.set_result(await work)
        except BaseException as error:
            outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise

    running: list[asyncio.Task[None]] = []  # the loop itself does not keep them
    loop.call_soon_threadsafe(lambda: running.append(loop.create_task(run())))
    return outcome.result()


def _original(name: str) -> Any:
    """Return what a name of `_thread` meant before it was patched."""
    if patched_by() == "gevent":
        return sys.modules["gevent.monkey"].get_original("_thread", name)
    return getattr(sys.modules["eventlet.patcher"].original("_thread"), name)


def _look(done: Callable[[], object], timeout: float | None = None) -> bool:
    """Look until it is done, and let other greenlets run in between; False when that takes too long."""
    give_up_at = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_PAUSE
    while not done():
        left = LONGEST_PAUSE if give_up_at is None else give_up_at - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))  # patched, as all is: it hands over to another greenlet
        pause = min(LONGEST_PAUSE, pause * 2)
    return True


class _Outcome(Generic[T]):
    def __init__(self) -> None:
        self._done: list[tuple[T | None, BaseException | None]] = []

    def set_result(self, result: T, /) -> None:
        self._done.append((result, None))

    def set_exception(self, error: BaseException, /) -> None:
        self._done.append((None, error))

    def done(self) -> bool:
        return bool(self._done)

    def result(self) -> T:
        _look(lambda: self._done)
        result, error = self._done[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value] # there is a result where there is no error


class _Condition:
    def __init__(self) -> None:
        self._lock = _original("allocate_lock")()
        self._notified = 0

    def __enter__(self) -> bool:
        return bool(self._lock.acquire())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._lock.release()

    def wait(self, timeout: float) -> bool:
        seen = self._notified
        self._lock.release()
        try:
            return _look(lambda: self._notified != seen, timeout)
        finally:
            self._lock.acquire()

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        give_up_at = time.monotonic() + timeout
        while not (done := predicate()) and (left := give_up_at - time.monotonic()) > 0:
            self.wait(left)
        return done

    def notify_all(self) -> None:
        self._notified += 1


class _Thread:
    def __init__(self, target: Callable[[], None]) -> None:
        self._target = target
        self._alive = False
        self._relay = _Relay()

    def start(self) -> None:
        self._alive = True
        self._relay.install()
        threading.Thread(target=self._tell, name="spooled-kombu-log", daemon=True).start()  # a greenlet
        _original("start_new_thread")(self._run, ())

    def _run(self) -> None:
        try:
            self._relay.listen()
            self._target()
        finally:
            self._alive = False

    def _tell(self) -> None:
        while self._alive:
            time.sleep(LOG_PAUSE)
            self._relay.tell()
        self._relay.tell()
        self._relay.remove()

    def is_alive(self) -> bool:
        return self._alive

    def join(self, timeout: float) -> None:
        if not self._relay.listens:
            _look(lambda: not self._alive, timeout)
            self._relay.tell()  # this may be the process' last moment


class _Relay(logging.Filter):
    """Hands what the real thread logs to a greenlet.

    The locks of handlers are greenlets' too. A real thread that met one of them locked would wait for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ident_of: Callable[[], int] = _original("get_ident")
        self._ident: int | None = None
        self._records: deque[logging.LogRecord] = deque()

    @property
    def listens(self) -> bool:
        """Whether this is the real thread."""
        return self._ident_of() == self._ident

    def listen(self) -> None:
        """Keep what this thread logs."""
        self._ident = self._ident_of()

    def filter(self, record: logging.LogRecord) -> bool:
        if not self.listens:
            return True
        self._records.append(record)
        return False

    def tell(self) -> None:
        """Log what was kept."""
        while self._records:
            record = self._records.popleft()
            logging.getLogger(record.name).handle(record)

    def install(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)
