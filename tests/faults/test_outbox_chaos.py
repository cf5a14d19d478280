"""A Django project whose processes are killed at random: its jobs are those of its committed transactions."""

from __future__ import annotations

import itertools
import json
import os
import random
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
from tests.faults.test_soak import CLOCK_SLACK, Api
from tests.ports import free_port
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until

pytest.importorskip("django", reason="Django is not installed")

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "tests" / "django" / "project"
CHAOS = Path(__file__).parent / "outbox_project"

WRITERS = 3
ORDERS = 60
"""Transactions that each writer comes to; about a fifth of them is rolled back."""

WORKERS = 2
WORKER_KILLS = 5
SERVER_KILLS = 2
LEASE = 5

ASK = """
import django, json
django.setup()
from shop.models import Order
from spooled_contrib.django.models import OutboxEntry
waiting = list(OutboxEntry.objects.values("attempts", "last_error", "claimed_by"))
print(json.dumps({"orders": list(Order.objects.values_list("customer", flat=True)), "waiting": waiting}))
"""


class Site:
    """The processes of the project and its server."""

    def __init__(self, folder: Path, seed: int, databases: dict[str, Any] | None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.journal = folder / "journal"
        self.journal.touch()
        self.db = folder / "spooled.db"
        self.port = free_port()
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SPOOLED_", "PROJECT_"))
        }
        spooled = {
            "API_KEY": DEVELOPMENT_KEY,
            "BASE_URL": f"http://127.0.0.1:{self.port}",
            "OUTBOX": True,
            "WORKER": {"poll_interval": 0.1, "lease_duration": LEASE},
            "CLIENT": {"timeout": 10},
        }
        self.environment = {
            **kept,
            "DJANGO_SETTINGS_MODULE": "settings",
            "PROJECT_DB": str(folder / "shop.sqlite3"),
            "PROJECT_DATABASES": json.dumps(databases),
            "PROJECT_SPOOLED": json.dumps(spooled),
            "PROJECT_APPS": '["chaos"]',
            "CHAOS_JOURNAL": str(self.journal),
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(CHAOS), str(ROOT)]),
        }
        self.run(str(PROJECT / "manage.py"), "migrate", "-v0")
        self.writer_kills = 0
        self.server = self._start_server()
        self.workers: list[Process] = []
        self.writers: list[tuple[str, Process]] = []

    def run(self, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, *argv],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=HOPELESS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _start_server(self) -> Process:
        made = Process(
            *("-m", "spooled", "server", "--port", str(self.port), "--db", str(self.db)),
            environment=self.environment,
        )
        made.wait_for(str(self.port))
        return made

    def kill_server(self) -> None:
        self.server.kill()
        self.server = self._start_server()

    def start_worker(self) -> None:
        manage = str(PROJECT / "manage.py")
        self.workers.append(
            Process(
                manage,
                *("spooled_worker", "--queue", "chaos", "--concurrency", "4", "--wait", str(HOPELESS)),
                environment=self.environment,
            )
        )

    def kill_worker(self) -> None:
        self.workers.pop(self.chance.randrange(len(self.workers))).kill()
        self.start_worker()

    def start_writer(self, name: str, first: int) -> None:
        program = str(CHAOS / "write_orders.py")
        process = Process(
            program, name, str(first), str(ORDERS), str(self.seed), environment=self.environment, apart=True
        )
        self.writers.append((name, process))

    def writers_are_done(self) -> bool:
        """Start writers again that have killed themselves, behind where they died."""
        for pair in [pair for pair in self.writers if pair[1].ended]:
            self.writers.remove(pair)
            name, process = pair
            code = process.wait()
            assert code in (0, -9), process.log
            if code:
                self.writer_kills += 1
                self.start_writer(name, int(process.lines[-1]) + 1)
        return not self.writers

    def runs(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in self.journal.read_text(encoding="utf-8").splitlines(keepends=True)
            if line.endswith("\n")
        ]

    def ended(self) -> int:
        self.writers_are_done()
        return sum(line["what"] == "end" for line in self.runs())

    def kill(self) -> None:
        for process in (*self.workers, self.server, *(process for _, process in self.writers)):
            process.kill()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    seed = int(os.environ.get("CHAOS_SEED") or 20260)
    made = Site(tmp_path, seed, None)
    yield made
    made.kill()


def test_the_jobs_are_those_of_the_committed_transactions_each_once(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    for _ in range(WORKERS):
        site.start_worker()
    for number in range(WRITERS):
        site.start_writer(f"writer{number}", 0)

    # Spread over the work and not over time, so that a slow machine sees as many.
    plan = [site.kill_worker] * WORKER_KILLS + [site.kill_server] * SERVER_KILLS
    site.chance.shuffle(plan)
    for moment, strike in enumerate(plan, 1):
        goal = moment * WRITERS * ORDERS // 2 // len(plan)
        wait_until(lambda goal=goal: site.ended() >= goal, f"{goal} runs have ended")
        strike()
    wait_until(site.writers_are_done, "all orders are written")

    def settled() -> bool:
        api = Api(site.port)
        try:
            counts = api.call("GET", "/jobs/stats?queue_name=chaos")
        finally:
            api.close()
        return counts["completed"] == counts["total"] >= len(committed)

    committed = json.loads(site.run("-c", ASK))["orders"]
    wait_until(settled, "every job has run")
    # A relay that was killed between the answer of the server and its delete has left rows; they are sent again.
    wait_until(lambda: json.loads(site.run("-c", ASK))["waiting"] == [], "the outbox is empty")
    assert json.loads(site.run("-c", ASK))["orders"] == committed

    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in site.runs():
        if line["what"] == "start":
            runs[line["job"]].append(line)
    api = Api(site.port)
    jobs = _jobs(api)
    repeated = [job_id for job_id, of in runs.items() if len(of) > 1]
    histories = {job_id: api.call("GET", f"/jobs/{job_id}/history?limit=500") for job_id in repeated}
    api.close()
    for worker in site.workers:
        worker.terminate()
    for worker in site.workers:
        assert worker.wait() == 0, worker.log

    with capsys.disabled():
        print(
            f"\nchaos: {len(committed)} of {WRITERS * ORDERS} transactions committed, {len(jobs)} jobs in "
            f"{time.monotonic() - began:.1f} s; killed {site.writer_kills} writers, {WORKER_KILLS} workers, "
            f"{SERVER_KILLS} servers; {len(repeated)} jobs ran more than once; seed {site.seed}"
        )
    assert site.writer_kills > 0
    assert len(committed) < WRITERS * ORDERS
    # Exactly the committed ones: none lost, none doubled, none of a transaction that was rolled back.
    assert sorted(job["payload"] for job in jobs.values()) == sorted(committed)
    for job_id, job in jobs.items():
        assert job["status"] == "completed"
        # The run that the server has an ack of is the last one.
        assert runs[job_id][-1]["lease"] == job["result"], runs[job_id]
    for job_id in repeated:
        _explain(runs[job_id], histories[job_id])


def _jobs(api: Api) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    offset = 0
    while page := api.call("GET", f"/jobs?queue_name=chaos&limit=100&offset={offset}"):
        found |= {one["id"]: api.call("GET", f"/jobs/{one['id']}") for one in page}
        offset += len(page)
    return found


def _explain(runs: list[dict[str, Any]], history: list[dict[str, Any]]) -> None:
    """Each run but the last had lost its lease when the next one was claimed: no ack of it had arrived in its time."""
    claims = {
        event["details"]["lease_id"]: datetime.fromisoformat(event["created_at"]).timestamp()
        for event in history
        if event["event_type"] == "claimed"
    }
    assert len({run["lease"] for run in runs}) == len(runs), f"one lease was run twice: {runs}"
    for earlier, later in itertools.pairwise(runs):
        lost_at = claims[earlier["lease"]] + LEASE - CLOCK_SLACK
        assert claims[later["lease"]] >= lost_at, f"claimed under a live lease: {earlier} {later}"
