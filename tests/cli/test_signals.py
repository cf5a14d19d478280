from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from spooled.cli.signals import listen_for_signals
from tests.waiting import HOPELESS


@pytest.fixture
def inbox() -> queue.SimpleQueue[int]:
    return queue.SimpleQueue()


def test_each_signal_is_reported_once(inbox: queue.SimpleQueue[int]) -> None:
    with listen_for_signals([signal.SIGUSR1, signal.SIGUSR2], inbox.put):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            os.kill(os.getpid(), number)
            assert inbox.get(timeout=HOPELESS) == number
    assert inbox.empty()


def test_a_signal_that_another_thread_gets_is_heard_while_the_main_thread_waits(
    inbox: queue.SimpleQueue[int],
) -> None:
    heard_it = threading.Event()
    reports: list[int] = []

    def report(number: int) -> None:
        reports.append(number)
        heard_it.set()

    with listen_for_signals([signal.SIGUSR1], report):
        # To that thread only: the main thread's wait is not interrupted, and no handler runs until it is over.
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        thread.start()
        assert heard_it.wait(HOPELESS)
        thread.join()
    assert reports == [signal.SIGUSR1]


def test_a_loop_that_takes_the_wake_up_descriptor_does_not_silence_it(inbox: queue.SimpleQueue[int]) -> None:
    with listen_for_signals([signal.SIGUSR1], inbox.put):
        ours = signal.set_wakeup_fd(-1)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert inbox.get(timeout=HOPELESS) == signal.SIGUSR1
        signal.set_wakeup_fd(ours)


def test_everything_is_put_back(inbox: queue.SimpleQueue[int]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with listen_for_signals([signal.SIGUSR1], inbox.put):
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(-1) == -1


def fork(child: Callable[[], None]) -> int:
    """Run it in a forked process; the exit code, negative for a signal."""
    pid = os.fork()
    if not pid:
        try:
            child()
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def raise_usr1() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def test_a_forked_child_has_the_signals_from_before(inbox: queue.SimpleQueue[int]) -> None:
    with (
        listen_for_signals([signal.SIGUSR1], inbox.put),
        listen_for_signals([signal.SIGUSR1, signal.SIGUSR2], inbox.put),
    ):
        assert fork(raise_usr1) == -signal.SIGUSR1
        assert fork(lambda: os._exit(signal.set_wakeup_fd(-1) + 1)) == 0
    assert inbox.empty()


def test_a_forked_child_has_the_handler_from_before(inbox: queue.SimpleQueue[int]) -> None:
    previous = signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))
    try:
        with listen_for_signals([signal.SIGUSR1], inbox.put), listen_for_signals([signal.SIGUSR1], inbox.put):
            assert fork(raise_usr1) == 5
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert inbox.empty()


def test_a_child_that_is_signalled_while_it_is_forked_does_not_tell_the_parent(
    inbox: queue.SimpleQueue[int],
) -> None:
    with listen_for_signals([signal.SIGUSR1], inbox.put):
        for _ in range(100):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(99)
            os.kill(pid, signal.SIGUSR1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGUSR1
        assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert inbox.empty()


def test_a_child_that_leaves_the_block_changes_nothing(inbox: queue.SimpleQueue[int]) -> None:
    leave = contextlib.ExitStack()
    leave.enter_context(listen_for_signals([signal.SIGUSR1], inbox.put))

    def child() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(6))
        leave.close()
        raise_usr1()

    assert fork(child) == 6
    raise_usr1()
    assert inbox.get(timeout=HOPELESS) == signal.SIGUSR1
    leave.close()


def test_a_child_that_lives_on_does_not_hold_the_block(inbox: queue.SimpleQueue[int]) -> None:
    with listen_for_signals([signal.SIGUSR1], inbox.put):
        pid = os.fork()
        if not pid:
            signal.pause()
            os._exit(99)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_child_may_hear_signals_itself(inbox: queue.SimpleQueue[int]) -> None:
    def child() -> None:
        with listen_for_signals([signal.SIGUSR1], os._exit):
            raise_usr1()
            threading.Event().wait()

    with listen_for_signals([signal.SIGUSR1], inbox.put):
        assert fork(child) == signal.SIGUSR1
    assert inbox.empty()


def test_preexec_fn_and_exec(inbox: queue.SimpleQueue[int]) -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGUSR1)"]
    with listen_for_signals([signal.SIGUSR1], inbox.put):
        for preexec in (None, raise_usr1, lambda: None):
            try:
                done = subprocess.run(command, preexec_fn=preexec, check=False).returncode
            except subprocess.SubprocessError:
                done = None
            assert done in (-signal.SIGUSR1, None)
    assert inbox.empty()
