"""Handlers that start processes of their own in every way Python has; imported by workers under test."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def wait_for_ever(ready: Any) -> None:
    ready.send(None)
    signal.pause()


def with_pool() -> Any:
    with multiprocessing.Pool(2) as pool:
        return pool.map(abs, [-1, -2])


def with_executor() -> Any:
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(abs, [-1, -2]))


def with_terminated_process() -> Any:
    """The exit code of a process that is told to end while it waits."""
    mine, other = multiprocessing.Pipe()
    process = multiprocessing.Process(target=wait_for_ever, args=[other])
    process.start()
    mine.recv()
    process.terminate()
    process.join()
    return process.exitcode


def with_process_terminated_at_once() -> Any:
    """The exit codes of processes that are told to end while they begin."""
    # Both ends stay open: what a process writes before it is told to end must not fail.
    ours, other = multiprocessing.Pipe()
    codes = []
    for _ in range(20):
        process = multiprocessing.Process(target=wait_for_ever, args=[other])
        process.start()
        process.terminate()
        process.join()
        codes.append(process.exitcode)
    ours.close()
    return codes == [-signal.SIGTERM] * 20


def with_manager() -> Any:
    with multiprocessing.Manager() as manager:
        return list(manager.list([1, 2]))


def with_queue() -> Any:
    queue: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=queue.put, args=["x" * 100_000])
    process.start()
    text = queue.get()
    process.join()
    return len(text)


def with_spawn() -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


def with_forkserver() -> Any:
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


def with_fork_and_signals() -> Any:
    """The signal that ends a forked process, told so by itself and by a process that it has forked."""
    pid = os.fork()
    if not pid:
        inner = os.fork()
        if not inner:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(9)
        _, status = os.waitpid(inner, 0)
        if os.waitstatus_to_exitcode(status) in (-signal.SIGINT, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def with_fork_that_returns() -> Any:
    """The exit code of a forked process that goes on as if it were the worker."""
    pid = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else "the child's result"


def with_fork_that_exits() -> Any:
    pid = os.fork()
    if not pid:
        sys.exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def with_fork_that_raises() -> Any:
    pid = os.fork()
    if not pid:
        raise ValueError("in the child")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


WAYS: dict[str, tuple[Callable[[], Any], Any]] = {
    "pool": (with_pool, [1, 2]),
    "executor": (with_executor, [1, 2]),
    "terminated": (with_terminated_process, -signal.SIGTERM),
    "terminated at once": (with_process_terminated_at_once, True),
    "manager": (with_manager, [1, 2]),
    "queue": (with_queue, 100_000),
    "spawn": (with_spawn, [1, 2]),
    "forkserver": (with_forkserver, [1, 2]),
    "signals": (with_fork_and_signals, -signal.SIGTERM),
    "returns": (with_fork_that_returns, 0),
    "exits": (with_fork_that_exits, 7),
    "raises": (with_fork_that_raises, 1),
}
"""Each way, and what it returns."""


def run(way: str) -> Any:
    """Start processes in this way; `module pool` and the like use what the module keeps."""
    if way.startswith("kept "):
        return use_kept(way.removeprefix("kept "))
    return WAYS[way][0]()


kept: dict[str, Any] = {}


def use_kept(what: str) -> Any:
    """Use a pool that is never closed, as programs have them at the top of a module."""
    if what == "thread":
        kept[what] = threading.Thread(target=threading.Event().wait, name="never-ends", daemon=False)
        kept[what].start()
        return "kept"
    if what == "atexit":
        atexit.register(threading.Event().wait)
        return "kept"
    context = multiprocessing.get_context(what.partition(" ")[0])
    if what not in kept:
        kept[what] = {
            "executor": lambda: ProcessPoolExecutor(2, mp_context=context),
            "pool": lambda: context.Pool(2),
            "manager": context.Manager,
            "queue": lambda: _filled(context.Queue()),
        }[what.rpartition(" ")[2]]()
    if what.endswith(("executor", "pool")):
        return list(kept[what].map(abs, [-1, -2]))
    return "kept"


def _filled(queue: Any) -> Any:
    queue.put(1)
    return queue
