from __future__ import annotations

import os
import queue
import signal
import threading

import pytest

from spooled.cli.signals import heard
from tests.waiting import HOPELESS


@pytest.fixture
def inbox() -> queue.SimpleQueue[int]:
    return queue.SimpleQueue()


def test_each_signal_is_reported_once(inbox: queue.SimpleQueue[int]) -> None:
    with heard([signal.SIGUSR1, signal.SIGUSR2], inbox.put):
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

    with heard([signal.SIGUSR1], report):
        # To that thread only: the main thread's wait is not interrupted, and no handler runs until it is over.
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        thread.start()
        assert heard_it.wait(HOPELESS)
        thread.join()
    assert reports == [signal.SIGUSR1]


def test_a_loop_that_takes_the_wake_up_descriptor_does_not_silence_it(inbox: queue.SimpleQueue[int]) -> None:
    with heard([signal.SIGUSR1], inbox.put):
        ours = signal.set_wakeup_fd(-1)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert inbox.get(timeout=HOPELESS) == signal.SIGUSR1
        signal.set_wakeup_fd(ours)


def test_everything_is_put_back(inbox: queue.SimpleQueue[int]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with heard([signal.SIGUSR1], inbox.put):
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(-1) == -1
