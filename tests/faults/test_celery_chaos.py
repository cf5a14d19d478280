"""Five hundred tasks of Celery's, in chords, chains and groups, while workers and servers are killed."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.result import AsyncResult
from kombu.pools import reset as reset_pools

from spooled_contrib.server import DEVELOPMENT_KEY
from tests.faults.test_soak import Api
from tests.processes import Process
from tests.waiting import wait_until

CHORDS, WIDTH = 40, 8
CHAINS, LENGTH = 20, 4
GROUPS, SIZE = 6, 10
TASKS = CHORDS * (WIDTH + 1) + CHAINS * LENGTH + GROUPS * SIZE

WORKERS = 3
PLAN = ("child", "main", "server", "main", "child", "server", "child", "main")
"""What is killed, in this order, at points of the work that are equally far apart."""

HOPELESS = 420.0
"""Seconds after which the run will not end any more. It takes about sixty: leases last thirty after a restart."""

APP = """
import json, os, time
import spooled_contrib.kombu
from celery import Celery
from celery.signals import task_postrun, task_prerun

app = Celery("app", broker=os.environ["BROKER"], backend="spooled://")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    result_chord_retry_interval=0.3,
    result_backend_always_retry=True,
    # Celery gives up after half a second, and a server on a busy machine takes longer to come back.
    task_publish_retry_policy={"max_retries": 100, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1},
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)
JOURNAL = os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, task):
    request = task.request
    told = {"what": what, "id": request.id, "task": task.name, "lease": request.properties["delivery_tag"]}
    os.write(JOURNAL, json.dumps({**told, "pid": os.getpid()}).encode() + b"\\n")

@task_prerun.connect
def begins(task=None, **_):
    note("begin", task)

@task_postrun.connect
def ends(task=None, **_):
    note("end", task)

@app.task(name="chaos.square")
def square(number):
    time.sleep(0.03)
    return number * number

@app.task(name="chaos.total")
def total(numbers):
    return sum(numbers)

@app.task(name="chaos.add")
def add(one, two):
    time.sleep(0.03)
    return one + two
"""


class Site:
    """The processes, and what they have written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(APP, encoding="utf-8")
        self.kept = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
        self.workers: list[Process] = []
        self.ended: list[Process] = []
        self.server, self.port = self._serve(0)

    @property
    def broker(self) -> str:
        return f"spooled+http://:{DEVELOPMENT_KEY}@127.0.0.1:{self.port}?poll=0.1&lease=6&redeliveries=20"

    def _serve(self, port: int) -> tuple[subprocess.Popen[bytes], int]:
        command = ["-m", "spooled", "server", "--port", str(port), "--db", str(self.folder / "jobs.db")]
        process = subprocess.Popen(
            [sys.executable, *command], env=self.kept, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the server did not start"
        return process, int(json.loads(line)["port"])

    def start_worker(self) -> None:
        name = f"w{len(self.workers) + len(self.ended)}@chaos"
        command = [
            "-m",
            "celery",
            "-A",
            "app",
            "worker",
            "-P",
            "prefork",
            "-c",
            "2",
            "-n",
            name,
            "-l",
            "info",
        ]
        environment = {**self.kept, "BROKER": self.broker}
        self.workers.append(Process(*command, cwd=self.folder, environment=environment))

    def kill_main(self) -> None:
        """Its children see that it is gone, and end; what they work on is finished first."""
        victim = self.workers.pop(0)
        victim.popen.kill()
        self.ended.append(victim)
        self.start_worker()

    def kill_child(self) -> None:
        """One that has begun a task, as far as that can be known from outside."""
        wait_until(lambda: self._children(), "a worker has children")
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._children()[0], signal.SIGKILL)

    def _children(self) -> list[int]:
        found = []
        for worker in self.workers:
            path = Path(f"/proc/{worker.popen.pid}/task/{worker.popen.pid}/children")
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in path.read_text().split()]
        return found

    def kill_server(self) -> None:
        self.server.kill()
        self.server.communicate()
        self.server, _ = self._serve(self.port)

    def lines(self) -> list[dict[str, Any]]:
        path = self.folder / "journal"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def done(self) -> int:
        return len({line["id"] for line in self.lines() if line["what"] == "end" and _is_ours(line)})

    @property
    def log(self) -> str:
        return "\n".join(worker.log for worker in [*self.ended, *self.workers])

    def close(self) -> None:
        for worker in [*self.workers, *self.ended]:
            worker.kill()
        self.server.kill()
        self.server.communicate()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if not Path("/proc/self/task").exists():
        pytest.skip("children of a process are found in /proc, which only Linux has")
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture
def app(site: Site) -> Iterator[Celery]:
    made = Celery("sender", broker=site.broker, backend="spooled://", set_as_current=False)
    made.conf.result_chord_retry_interval = 0.3
    yield made
    made.backend.close()
    made.close()
    reset_pools()


def publish(app: Celery) -> dict[str, int]:
    """All tasks; the ids of those whose results say that all others ran, and the results."""
    square, add = app.signature("chaos.square"), app.signature("chaos.add")
    total = app.signature("chaos.total")
    expected: dict[str, int] = {}
    for number in range(CHORDS):
        numbers = range(number, number + WIDTH)
        body = chord((square.clone((n,)) for n in numbers), app=app)(total.clone())
        expected[body.id] = sum(n * n for n in numbers)
    for number in range(CHAINS):
        steps = [add.clone((number, 1)), *(add.clone((10**n,)) for n in range(1, LENGTH))]
        expected[chain(*steps, app=app).apply_async().id] = number + 1 + sum(10**n for n in range(1, LENGTH))
    for number in range(GROUPS):
        numbers = range(number * SIZE, (number + 1) * SIZE)
        results = group((square.clone((n,)) for n in numbers), app=app).apply_async().results
        expected |= {result.id: n * n for result, n in zip(results, numbers, strict=True)}
    return expected


def test_nothing_is_lost_wrong_or_doubled_without_a_reason(
    site: Site, app: Celery, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    expected = publish(app)
    for _ in range(WORKERS):
        site.start_worker()
    strikes: dict[str, Callable[[], None]] = {
        "main": site.kill_main,
        "child": site.kill_child,
        "server": site.kill_server,
    }
    for number, what in enumerate(PLAN, start=1):
        # Kills are spread over the work and not over time, so that a slow machine sees as many.
        _wait(lambda number=number: site.done() >= TASKS * number // (len(PLAN) + 2), began, site)
        strikes[what]()

    api = Api(site.port)
    _wait(lambda: not _unfinished(api), began, site)
    results = [AsyncResult(task_id, app=app) for task_id in expected]
    missing = [(one.id, one.state, one.result) for one in results if one.state != "SUCCESS"]
    assert not missing, site.log
    values = {one.id: one.result for one in results}

    runs = collections.defaultdict(list)
    for line in site.lines():
        if line["what"] == "begin":
            runs[line["id"]].append(line)
    ours = {task_id: of for task_id, of in runs.items() if _is_ours(of[0])}
    doubled = {task_id: of for task_id, of in ours.items() if len(of) > 1}
    with capsys.disabled():
        print(
            f"\nchaos: {TASKS} tasks in {time.monotonic() - began:.1f} s; killed {PLAN.count('server')} servers and "
            f"{len(PLAN) - PLAN.count('server')} workers or children; {len(doubled)} tasks ran more than once"
        )
    assert values == expected
    assert len(ours) == TASKS
    counts = api.call("GET", "/jobs/stats")
    assert (counts["deadletter"], counts["failed"]) == (0, 0), site.log
    for task_id, of in doubled.items():
        assert_explained(api, task_id, of, runs)
    api.close()


def assert_explained(
    api: Api, task_id: str, runs: list[dict[str, Any]], all_runs: dict[str, list[dict[str, Any]]]
) -> None:
    """Each run has a lease of its own, and each but the last was lost, its message given back, or sent twice."""
    jobs = [
        api.call("GET", f"/jobs/{one['id']}")
        for one in api.call("GET", f"/jobs?tag=id:{task_id}&queue_name=celery")
    ]
    leases: list[str] = []
    parents: set[str | None] = set()
    reasons = given_back = copies = 0
    for job in jobs:
        history = api.call("GET", f"/jobs/{job['id']}/history?limit=500")
        claims = [event["details"]["lease_id"] for event in history if event["event_type"] == "claimed"]
        leases += claims
        assert len(claims) == job["retry_count"] + 1, f"a lease ended that was not lost: {history}"
        reasons += job["retry_count"]
        given_back += (job["result"] or {}).get("spooled", {}).get("outcome") == "requeued"
        copies += "spooled_begun" in job["payload"]["kombu"]["properties"]
        # A step of a chain is sent by each run of the step before, the body of a chord by each run that saw its end.
        parents.add(job["payload"]["kombu"]["headers"].get("parent_id"))
    # A copy whose original was completed meanwhile, by a child that then died, is cancelled unless it has begun.
    reasons += max(given_back, copies)
    sendings = sum(len(all_runs.get(parent, ())) for parent in parents)
    reasons += max(0, sendings - 1)
    seen = [run["lease"] for run in runs]
    assert len(seen) == len(set(seen)), f"one delivery was run twice: {runs}"
    assert set(seen) <= set(leases)
    assert reasons >= len(runs) - 1, f"{task_id} ran {len(runs)} times, which nothing explains: {runs} {jobs}"


def _is_ours(line: dict[str, Any]) -> bool:
    return str(line["task"]).startswith("chaos.")


def _unfinished(api: Api) -> int:
    counts = api.call("GET", "/jobs/stats?queue_name=celery")
    return int(counts["pending"] + counts["scheduled"] + counts["processing"])


def _wait(condition: Callable[[], object], began: float, site: Site) -> None:
    while not condition():
        assert time.monotonic() < began + HOPELESS, f"not finished after {HOPELESS:g} s: {site.log}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            site.server.wait(0.05)  # it does not end by itself; a wait for it is a pause
