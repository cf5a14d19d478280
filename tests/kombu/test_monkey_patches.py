"""Publishing in processes that gevent or eventlet patches late, as gunicorn's greenlet workers do."""

from __future__ import annotations

import textwrap

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import GREENLETS, url_of
from tests.kombu.test_greenlets import PATCHES
from tests.processes import Process
from tests.worker.conftest import Outside

APP = """
import os, sys, threading
import spooled_contrib.kombu
from celery import Celery

app = Celery("web", broker={broker!r}, backend="spooled://")

@app.task(name="web.add")
def add(one, two): ...
"""
WARM = "add.delay(0, 0)\n"
FORK = "child = os.fork()\nif child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
TWO_AT_ONCE = """
sent = []

def request(number):
    sent.append(add.delay(number, number))

requests = [threading.Thread(target=request, args=(number,)) for number in (1, 2)]
for one in requests: one.start()
for one in requests: one.join()
sys.stdout.write(f"{len(sent)} sent\\n")  # in one piece: others print too
"""


@pytest.fixture(params=GREENLETS)
def patch(request: pytest.FixtureRequest) -> str:
    return PATCHES[str(request.param)]


ORDERS = {
    "patched, then imported": "{patch}{app}{two}",
    "imported, then patched": "{app}{patch}{two}",
    "used, then patched": "{app}{warm}{patch}{two}",
    "imported, forked, patched, as gunicorn --preload does": "{app}{fork}{patch}{two}",
    "used, forked, patched": "{app}{warm}{fork}{patch}{two}",
    "patched, used, forked": "{patch}{app}{warm}{fork}{two}",
    "used while it is not patched, and after": "{app}{warm}{two}{patch}{two}",
}


@pytest.mark.parametrize("order", ORDERS)
def test_requests_that_publish_at_once_are_not_stopped_by_a_late_patch(
    server: EmbeddedServer, outside: Outside, patch: str, order: str
) -> None:
    app = APP.format(broker=url_of(server))
    program = ORDERS[order].format(patch=patch, app=app, warm=WARM, fork=FORK, two=TWO_AT_ONCE)
    expected = 2 * program.count(TWO_AT_ONCE) + program.count(WARM)
    # Eventlet warns that it is deprecated, and of locks that it finds in other libraries.
    with Process("-W", "ignore", "-c", program) as running:
        assert running.wait() == 0, running.log
        assert "2 sent" in running.log
    assert outside.counts("celery")["pending"] == expected


def test_a_fork_while_other_threads_publish_leaves_no_lock_behind(server: EmbeddedServer) -> None:
    """The child may be made while a thread that it does not have holds whatever lock there is."""
    program = APP.format(broker=url_of(server)) + textwrap.dedent(
        """
        from kombu import Connection

        with Connection(app.conf.broker_url) as connection:
            connection.connect()  # a fork in the middle of an import leaves half a module, whatever the library
        going = True

        def come_and_go():
            while going:
                with Connection(app.conf.broker_url) as connection:
                    connection.transport.manager

        threads = [threading.Thread(target=come_and_go) for _ in range(3)]
        for one in threads: one.start()
        for number in range(20):
            child = os.fork()
            if not child:
                with Connection(app.conf.broker_url) as connection:
                    connection.connect()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        going = False
        for one in threads: one.join()
        print("done")
        """
    )
    with Process("-W", "ignore", "-c", program) as running:
        assert running.wait() == 0, running.log
        assert "done" in running.log
