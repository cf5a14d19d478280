"""The manager's thread in processes that gevent or eventlet has patched. Each is a process of its own."""

from __future__ import annotations

import pytest

from tests.kombu.conftest import GREENLETS
from tests.processes import Process

PATCHES = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()\n",
    "eventlet": "import eventlet; eventlet.monkey_patch()\n",
}
LOOP = """
import asyncio, threading, time
from spooled_contrib.kombu import _threads

loop = _threads.new_loop()
thread = _threads.new_thread(loop.run_forever, "loop")
thread.start()
"""


@pytest.fixture(params=GREENLETS)
def patch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(patch: str, program: str) -> Process:
    # Eventlet warns that it is deprecated.
    return Process("-W", "ignore", "-c", PATCHES[patch] + program)


def test_the_loop_goes_on_while_a_greenlet_keeps_all_others_from_running(patch: str) -> None:
    program = """
seen = []
loop.call_soon_threadsafe(seen.append, 1)
while not seen:
    pass
print("seen")
"""
    with run(patch, LOOP + program) as running:
        assert running.wait() == 0, running.log
        assert running.log == "seen\n"


def test_other_greenlets_run_while_one_waits_for_the_loop(patch: str) -> None:
    program = """
opened, waiting = asyncio.Event(), []

async def gate():
    waiting.append(1)
    await opened.wait()
    return "opened"

def other():
    while not waiting:
        time.sleep(0)
    loop.call_soon_threadsafe(opened.set)

threading.Thread(target=other).start()
print(_threads.call(loop, gate()))

async def fail():
    raise ValueError("no")

try:
    _threads.call(loop, fail())
except ValueError as error:
    print(error)
"""
    with run(patch, LOOP + program) as running:
        assert running.wait() == 0, running.log
        assert running.log == "opened\nno\n"


def test_a_condition_wakes_greenlets(patch: str) -> None:
    program = """
changed, found = _threads.new_condition(), []

def find():
    with changed:
        found.append(1)
        changed.notify_all()

with changed:
    assert not changed.wait(0.01)
    loop.call_soon_threadsafe(find)
    while not found:
        assert changed.wait(30)
loop.call_soon_threadsafe(loop.stop)
thread.join(30)
print(thread.is_alive())
"""
    with run(patch, LOOP + program) as running:
        assert running.wait() == 0, running.log
        assert running.log == "False\n"


def test_the_thread_logs_while_a_greenlet_holds_a_handlers_lock(patch: str) -> None:
    program = """
import logging
logger = logging.getLogger("spooled.kombu")
handler = logging.StreamHandler()
logger.addHandler(handler)
logged = []

def log():
    logger.warning("from the thread")
    logged.append(1)

with handler.lock:
    loop.call_soon_threadsafe(log)
    while not logged:
        time.sleep(0)
    print("goes on")
loop.call_soon_threadsafe(loop.stop)
thread.join(30)
"""
    with run(patch, LOOP + program) as running:
        assert running.wait() == 0, running.log
        assert running.log == "goes on\nfrom the thread\n"


def test_without_uvloop_it_says_what_is_missing(patch: str) -> None:
    with run(patch, "import sys; sys.modules['uvloop'] = None\n" + LOOP) as running:
        assert running.wait() == 1
        assert f'with {patch}, Spooled needs uvloop: pip install "spooled-contrib[fast]"' in running.log
