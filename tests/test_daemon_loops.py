"""Processes that end while event loops of ours still run in threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS

# Registered before anything of ours is imported, and so called after all that is registered by ours.
LOOK = """
import atexit, sys, threading, traceback

def look():
    for thread in threading.enumerate():
        if thread.name.startswith("spooled") and thread.is_alive():
            names = [frame.name for frame in traceback.extract_stack(sys._current_frames()[thread.ident])]
            print(thread.name, "held" if "_hold" in names else "runs")

atexit.register(look)
"""
WORKER = """
from spooled import SpooledClient
from spooled.worker import SpooledWorker
worker = SpooledWorker(SpooledClient(), "q", auto_start=True, poll_interval=0.01)
done = threading.Event()
worker.on("started", lambda event: done.set())
worker.process(lambda ctx: None)
done.wait()
"""
REALTIME = """
from spooled import SpooledClient
client = SpooledClient()
stream = client.realtime()
stream.connect()
"""
SERVER = """
from spooled_contrib.server import EmbeddedServer
EmbeddedServer().start()
"""
KOMBU = """
import os
from celery import Celery
import spooled_contrib.kombu
broker = os.environ["SPOOLED_BASE_URL"].replace("http://", "spooled+http://:" + os.environ["SPOOLED_API_KEY"] + "@")
app = Celery("x", broker=broker, backend="spooled://")
print(app.AsyncResult("nobody").status)
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (WORKER, "spooled-q-io held"),
        (REALTIME, "spooled-realtime held"),
        (SERVER, "spooled-server held"),
        (KOMBU, "PENDING"),
    ],
    ids=["worker", "realtime", "server", "kombu"],
)
def test_no_loop_runs_when_the_interpreter_is_taken_down(
    server: EmbeddedServer, tmp_path: Path, code: str, printed: str
) -> None:
    environment = {**os.environ, "SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}
    ended = subprocess.run(
        [sys.executable, "-c", LOOK + code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HOPELESS,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert printed in lines
    loops = ("spooled-q-io", "spooled-realtime", "spooled-server", "spooled-kombu")
    assert [line for line in lines if line.split()[0] in loops and not line.endswith(" held")] == []
