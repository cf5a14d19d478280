"""One Celery app, and each way of running its tasks as a process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import Celery

from tests.kombu.test_celery import worker as celery_worker
from tests.processes import Process
from tests.waiting import HOPELESS

APP = """
import json, os, pathlib, time
import spooled_contrib.kombu
from celery import Celery
from celery.exceptions import Ignore, Reject

HERE = pathlib.Path(__file__).parent
app = Celery("results", broker=os.environ["BROKER"], backend="spooled://", set_as_current=False)
app.conf.update(result_chord_retry_interval=0.2, broker_connection_retry_on_startup=True)
app.conf.update(json.loads(os.environ.get("CONF", "{}")))

def note(word):
    with open(HERE / "notes", "a") as file:
        file.write(str(word) + "\\n")

@app.task(name="add", shared=False)
def add(one, two=0):
    return one + two

@app.task(name="late", acks_late=True, shared=False)
def late(n):
    return n * 2

@app.task(name="total", shared=False)
def total(numbers):
    return sum(numbers)

@app.task(name="fail", shared=False)
def fail(text, times=1):
    raise ValueError(text * times)

@app.task(name="deep", shared=False)
def deep(size):
    def fall(n):
        if n == 0:
            exec(compile("raise ValueError('bottom')", "f" * size, "exec"))
        fall(n - 1)
    fall(20)

@app.task(name="noted", shared=False)
def noted(word):
    note(word)
    return word

@app.task(name="big", shared=False)
def big(size, mark):
    note(mark)
    return "x" * size

@app.task(name="ignored", bind=True, shared=False)
def ignored(self, state=None):
    if state:
        self.update_state(state=state, meta={"by": "hand"})
    raise Ignore()

@app.task(name="rejected", shared=False)
def rejected():
    raise Reject("no", requeue=False)

@app.task(name="quiet", ignore_result=True, shared=False)
def quiet(n=1):
    return n

@app.task(name="retried", bind=True, max_retries=None, shared=False)
def retried(self, times, pause=0.01):
    if self.request.retries < times:
        raise self.retry(countdown=pause, exc=KeyError("not yet"))
    return self.request.retries

@app.task(name="gives_up", bind=True, max_retries=1, shared=False)
def gives_up(self):
    raise self.retry(countdown=0.01, exc=KeyError("never"))

@app.task(name="steps", bind=True, shared=False)
def steps(self, count):
    for n in range(count):
        self.update_state(state="PROGRESS", meta={"step": n})
    # The test is another process, and lets this go on with a file; nothing but a look says that it is there.
    while not (HERE / "open").exists():
        time.sleep(0.01)
    return count

def wait_at(word):
    note(f"begin {word}")
    while not (HERE / "open").exists():
        time.sleep(0.01)
    note(f"end {word}")

@app.task(name="held", shared=False)
def held(word):
    wait_at(word)
    return word

@app.task(name="held_fails", shared=False)
def held_fails(word):
    wait_at(word)
    raise ValueError(word)

@app.task(name="held_states", bind=True, shared=False)
def held_states(self, word):
    wait_at(word)
    self.update_state(state="PROGRESS")
    return word

@app.task(name="joined", shared=False)
def joined(words):
    return " ".join(words)

@app.task(name="handed_on", bind=True, shared=False)
def handed_on(self, n):
    raise self.replace(add.s(n, 1))
"""

BRIDGE = """
from app import app
from spooled import SpooledClient
from spooled.worker import SpooledWorker
from spooled_contrib.kombu import to_spooled
from spooled_contrib.kombu.celery_handler import celery_handler

worker = SpooledWorker(SpooledClient(), to_spooled("celery"), concurrency=2)
worker.process(celery_handler(app))
print("bridge@here ready.", flush=True)
worker.start()
"""


STARTS = 5
"""How often to wait for a worker that has not begun."""

PATIENCE = 4 * HOPELESS
"""Seconds for a result that needs several tasks, or a server that is on its way back. Never a measure of speed."""


class Ways:
    """A folder with the app, its producer in this process, and its workers as others."""

    def __init__(self, folder: Path, broker: str, **conf: Any) -> None:
        self.folder = folder
        there = urlsplit(broker.removeprefix("spooled+"))
        self.environment = {
            **os.environ,
            "BROKER": broker,
            "CONF": json.dumps(conf),
            "SPOOLED_API_KEY": str(there.password),
            "SPOOLED_BASE_URL": f"http://{there.hostname}:{there.port}",
        }
        (folder / "app.py").write_text(APP, encoding="utf-8")
        (folder / "bridge.py").write_text(BRIDGE, encoding="utf-8")

    def app(self) -> Celery:
        """The app as a producer sees it; to be closed."""
        names: dict[str, Any] = {"__name__": "app", "__file__": str(self.folder / "app.py")}
        before = {name: os.environ.get(name) for name in ("BROKER", "CONF")}
        os.environ.update({name: self.environment[name] for name in before})
        try:
            exec(compile(APP, "app.py", "exec"), names)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        made: Celery = names["app"]
        return made

    def run(self, way: str, *options: str) -> Process:
        """Run the app's tasks in that way: a pool of Celery's worker, or `bridge`."""
        if way == "bridge":
            return Process("bridge.py", cwd=self.folder, environment=self.environment)
        return celery_worker(self.folder, self.environment, way, *options)

    @staticmethod
    def wait_until_ready(process: Process) -> None:
        """Wait until it takes tasks: to begin takes long on a busy machine."""
        for _ in range(STARTS):
            try:
                return process.wait_for(" ready.")
            except AssertionError:
                if process.ended:
                    raise
        raise AssertionError(f"it did not begin; it said:\n{process.log}")

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []
