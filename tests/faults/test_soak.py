"""Two thousand jobs through processes that are killed at random: none is lost and none has two holders at once."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from spooled_contrib.server import DEVELOPMENT_KEY
from tests.faults.soak_worker import LEASE
from tests.waiting import wait_until

JOBS = 2000
LONG_JOBS = 6
WORKERS = 3
WORKER_KILLS = 9
SERVER_KILLS = 3
FREEZES = 2

ROUND_TRIP = 0.05
"""Seconds to a server that is far away, and back."""

FROZEN = LEASE + 2.0
"""Seconds that a worker is stopped for: long enough that others get its jobs before it wakes up and goes on."""

HOPELESS = 280.0
"""Seconds after which the run will not end any more. It takes twenty to fifty: a restarted server gives leases 30 s."""

CLOCK_SLACK = 0.05
"""Seconds by which two readings of one clock may be apart: the server rounds its times to milliseconds."""

ABORT_SLACK = 2.0
"""Seconds within which a worker on a busy machine notices that a lease has run out and aborts the run."""

ROOT = Path(__file__).parents[2]
QUEUE = "soak"

Run = dict[str, Any]


class Site:
    """The processes, and the three things that are known about them: journal, times of death, the server's word."""

    def __init__(
        self, directory: Path, seed: int, server_option: str, *, isolation: str, is_far: bool
    ) -> None:
        self.server_option = server_option
        self.isolation = isolation
        self.chance = random.Random(seed)
        self.seed = seed
        self.journal = directory / "journal"
        self.journal.touch()
        self.db = directory / "soak.db"
        self.died: dict[int, float] = {}
        self.frozen: dict[int, tuple[float, float]] = {}
        self.workers: list[subprocess.Popen[bytes]] = []
        self.groups: list[int] = []
        self.server, self.port = self._start_server(0)
        self.url = f"http://127.0.0.1:{self.port}"
        self.proxy: subprocess.Popen[bytes] | None = None
        if is_far:
            self.proxy = self._spawn("benchmarks.delay_proxy", self.url, str(ROUND_TRIP))
            assert self.proxy.stdout is not None
            self.url = json.loads(self.proxy.stdout.readline())["url"]
        self._read, self._offset = [], 0

    def _start_server(self, port: int) -> tuple[subprocess.Popen[bytes], int]:
        process = self._spawn(
            "spooled", "server", "--port", str(port), "--db", str(self.db), self.server_option
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the server did not start"
        return process, int(json.loads(line)["port"])

    def start_worker(self) -> None:
        seed = f"{self.seed}-{len(self.groups)}"
        arguments = self.url, DEVELOPMENT_KEY, QUEUE, str(self.journal), seed, self.isolation
        self.workers.append(self._spawn("tests.faults.soak_worker", *arguments))
        self.groups.append(self.workers[-1].pid)

    def _spawn(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill_worker(self) -> None:
        victim = self.workers.pop(self.chance.randrange(len(self.workers)))
        victim.kill()
        victim.communicate()  # which waits for its children as well: they end by themselves
        self.died[victim.pid] = time.monotonic()
        self.start_worker()

    def freeze_worker(self) -> None:
        """Stop a worker and its children until `thaw` finds that its time is over. Each is frozen once."""
        victim = self.chance.choice([worker for worker in self.workers if worker.pid not in self.frozen])
        os.killpg(victim.pid, signal.SIGSTOP)
        now = time.monotonic()
        self.frozen[victim.pid] = (now, now + FROZEN)

    def thaw(self, *, everyone: bool = False) -> None:
        for worker in self.workers:
            _, until = self.frozen.get(worker.pid, (0.0, 0.0))
            if until and (everyone or until <= time.monotonic()):
                os.killpg(worker.pid, signal.SIGCONT)  # which does nothing to one that runs already

    def kill_server(self) -> None:
        self.server.kill()
        self.server.communicate()
        self.server, _ = self._start_server(self.port)

    def lines(self) -> list[Run]:
        """Everything in the journal so far."""
        with self.journal.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written
                self._offset += len(line)
                self._read.append(json.loads(line))
        return self._read

    def ended(self) -> int:
        self.thaw()
        return sum(line["what"] == "end" for line in self.lines())

    def stop(self) -> list[int]:
        """Stop everything politely; the exit codes."""
        self.thaw(everyone=True)
        codes = []
        for process in (*self.workers, self.server):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=HOPELESS)
            codes.append(process.returncode)
        return codes

    def kill(self) -> None:
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for process in (*self.workers, self.server, *([self.proxy] if self.proxy else [])):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate(timeout=HOPELESS)


class Api:
    """The server's word. Plain `http.client`, because thousands of calls are made and nothing of ours is between."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HOPELESS)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {DEVELOPMENT_KEY}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body)
        self._connection.request(method, f"/api/v1{path}", data, headers)
        response = self._connection.getresponse()
        text = response.read()
        assert response.status < 300, text
        return json.loads(text)

    def enqueue(self, count: int, long: set[int]) -> list[str]:
        ids: list[str] = []
        for first in range(0, count, 100):
            jobs = [
                {"payload": {"long": number in long}, "max_retries": 50}
                for number in range(first, min(first + 100, count))
            ]
            answer = self.call("POST", "/jobs/bulk", {"queue_name": QUEUE, "jobs": jobs})
            ids += [one["job_id"] for one in answer["succeeded"]]
        return ids

    def counts(self) -> dict[str, int]:
        return dict(self.call("GET", f"/jobs/stats?queue_name={QUEUE}"))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(
    params=[
        ("--ack-batches", "thread", False),
        ("--no-ack-batches", "thread", True),
        ("--ack-batches", "process", True),
    ],
    ids=["batches", "single acks, far away", "batches, processes, far away"],
)
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    # A seed gives the same kills at the same points of the work again; what the processes make of it may differ.
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(10**6))
    print(f"SOAK_SEED={seed}")
    option, isolation, is_far = request.param
    made = Site(tmp_path, seed, option, isolation=isolation, is_far=is_far)
    yield made
    made.kill()


def test_no_job_is_lost_and_none_runs_under_two_leases_when_processes_are_killed(
    site: Site, capsys: pytest.CaptureFixture[str]
):
    began = time.monotonic()
    api = Api(site.port)
    ids = api.enqueue(JOBS, set(site.chance.sample(range(JOBS), LONG_JOBS)))
    api.close()
    assert len(set(ids)) == JOBS
    for _ in range(WORKERS):
        site.start_worker()

    # Kills are spread over the work and not over time, so a slow machine sees as many.
    plan = (
        [site.kill_worker] * WORKER_KILLS + [site.kill_server] * SERVER_KILLS + [site.freeze_worker] * FREEZES
    )
    site.chance.shuffle(plan)
    moments = sorted(site.chance.sample(range(JOBS // 50, JOBS * 9 // 10), len(plan)))
    for moment, strike in zip(moments, plan, strict=True):
        wait_until(lambda moment=moment: site.ended() >= moment, f"{moment} runs have ended")
        strike()

    api = Api(site.port)
    while (counts := api.counts())["completed"] < JOBS:
        assert time.monotonic() < began + HOPELESS, f"not finished after {HOPELESS:g} s: {counts}"
        seen = site.ended()
        wait_until(lambda seen=seen: site.ended() > seen or api.counts()["completed"] == JOBS)
    jobs = {job_id: api.call("GET", f"/jobs/{job_id}") for job_id in ids}
    runs = runs_by_job(site.lines())
    repeated = {job_id: of for job_id, of in runs.items() if len(of) > 1}
    histories = {job_id: api.call("GET", f"/jobs/{job_id}/history?limit=500") for job_id in repeated}
    api.close()
    codes = site.stop()

    with capsys.disabled():
        print(
            f"\nsoak: {JOBS} jobs completed in {time.monotonic() - began:.1f} s; killed and restarted {WORKER_KILLS} "
            f"workers and {SERVER_KILLS} servers, froze {FREEZES} workers; "
            f"{sum(map(len, runs.values())) - JOBS} duplicate runs of {len(repeated)} jobs; seed {site.seed}"
        )
    assert codes == [0] * (WORKERS + 1)
    with contextlib.closing(sqlite3.connect(site.db)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check_results(jobs, runs)
    for job_id, of in repeated.items():
        check_fencing(of, histories[job_id], site)
    check_events(site.lines(), jobs)


def runs_by_job(journal: list[Run]) -> dict[str, list[Run]]:
    """The runs of each job in the order of their claims, each with how it ended, if it did."""
    runs: dict[str, list[Run]] = defaultdict(list)
    by_lease: dict[str, Run] = {}
    for line in journal:
        if line["what"] == "start":
            assert line["lease"] not in by_lease, f"one lease was run twice: {line}"
            by_lease[line["lease"]] = line
            runs[line["job"]].append(line)
        elif line["what"] == "end":
            by_lease[line["lease"]]["end"] = line
    for of in runs.values():
        # A worker that froze between claim and start may start its run after the next one's.
        of.sort(key=lambda run: run["attempt"])
    return runs


def check_results(jobs: dict[str, Any], runs: dict[str, list[Run]]) -> None:
    """Each job is completed, by a run that came to its own end, under the lease that the server names."""
    assert {job["status"] for job in jobs.values()} == {"completed"}
    for job_id, job in jobs.items():
        (settled,) = [run for run in runs[job_id] if run["lease"] == job["result"]]
        assert "end" in settled, f"a job was completed by a run that never came to its end: {settled}"
        assert not settled["end"]["aborted"], f"an aborted run has completed its job: {settled}"
        assert settled is runs[job_id][-1], f"a job was run after it was completed: {runs[job_id]}"


def check_fencing(runs: list[Run], history: list[Run], site: Site) -> None:
    """No run started while an earlier one still held the job, by the server's word and by the worker's own."""
    claims = {
        event["details"]["lease_id"]: datetime.fromisoformat(event["created_at"]).timestamp()
        for event in history
        if event["event_type"] == "claimed"
    }
    for earlier, later in itertools.pairwise(runs):
        assert earlier["attempt"] < later["attempt"], f"a lost lease costs a retry: {earlier} {later}"
        # No handler fails and no worker gives jobs back, so only the end of a lease can have freed the job. It
        # lasted at least this long; heartbeats may have made it longer, which the second condition is about.
        lease_end = claims[earlier["lease"]] + LEASE
        assert claims[later["lease"]] >= lease_end - CLOCK_SLACK, (
            f"claimed under a live lease: {earlier} {later}"
        )
        assert later["wall"] >= lease_end - CLOCK_SLACK, f"run under a live lease: {earlier} {later}"
        # A run that is still going when the next one starts must have been told to stop by then, or be dead. A
        # frozen process is told when it wakes up.
        since, until = site.frozen.get(earlier["pid"], (0.0, 0.0))
        at_most = (until if since <= later["at"] <= until else later["at"]) + ABORT_SLACK
        end = earlier.get("end")
        if end is None:
            assert site.died[earlier["pid"]] <= at_most, f"two runs at once: {earlier} {later}"
        elif not end["aborted"]:
            assert end["at"] <= at_most, f"two runs at once: {earlier} {later}"


def check_events(journal: list[Run], jobs: dict[str, Any]) -> None:
    """No worker said "completed" twice about a job, and none said that one has failed."""
    told = [line["job"] for line in journal if line["what"] == "job:completed"]
    assert len(told) == len(set(told))
    assert set(told) <= set(jobs)
    assert not [line for line in journal if line["what"] == "job:failed"]
