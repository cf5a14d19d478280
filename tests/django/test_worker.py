"""`manage.py spooled_worker` and its relatives, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.django.conftest import PROJECT
from tests.ports import free_port
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


class Manage:
    """Runs `manage.py` on a database of the test's own."""

    def __init__(self, folder: Path, spooled: dict[str, Any]) -> None:
        self.folder = folder
        self.spooled = {
            "WORKER": {"poll_interval": 0.1},
            "SHUTDOWN_TIMEOUT": 20,
            **spooled,
        }

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SPOOLED_", "PROJECT_"))
        }
        return {
            **kept,
            "PROJECT_DEBUG": "1",
            "PROJECT_DB": str(self.folder / "db.sqlite3"),
            "PROJECT_SPOOLED": json.dumps(self.spooled),
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT.parents[2])]),
        }

    def __call__(self, *argv: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(PROJECT / "manage.py"), *argv],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=HOPELESS,
        )
        assert done.returncode == code, done.stderr
        return done

    def running(self, *argv: str, **environment: str) -> Process:
        return Process(
            str(PROJECT / "manage.py"),
            *argv,
            cwd=self.folder,
            environment={**self.environment, **environment},
        )


@pytest.fixture
def manage(tmp_path: Path, settings_of: dict[str, Any]) -> Manage:
    return Manage(tmp_path, settings_of)


def begun(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob("begun-*")]


def test_burst_runs_jobs_and_tasks_and_ends(manage: Manage, outside: Outside) -> None:
    manage("migrate", "-v0")
    sql = outside.enqueue("sql", "SELECT 41 + 1")
    task = outside.enqueue(
        "default", {"job_type": "shop.tasks.add", "backend": "default", "args": [1], "kwargs": {"two": 2}}
    )
    manage("spooled_worker", "--burst")
    assert (outside.job(sql)["result"], outside.job(task)["result"]) == ([42], 3)


def test_sigterm_drains(manage: Manage, outside: Outside, tmp_path: Path) -> None:
    job = outside.enqueue("gates", str(tmp_path))
    with manage.running("spooled_worker", "--queue", "gates") as running:
        wait_until(lambda: begun(tmp_path), running.log)
        running.terminate()
        running.wait_for("finishing 1 running job")
        (tmp_path / "open").touch()
        assert running.wait() == 0
    assert (outside.status(job), outside.job(job)["retry_count"]) == ("completed", 0)


def test_a_second_signal_gives_the_job_back(manage: Manage, outside: Outside, tmp_path: Path) -> None:
    outside.enqueue("gates", str(tmp_path))
    with manage.running("spooled_worker", "--queue", "gates") as running:
        wait_until(lambda: begun(tmp_path), running.log)
        running.send(signal.SIGINT)
        running.wait_for("once more to stop at once")
        running.send(signal.SIGINT)
        assert running.wait() == 130
    counts = outside.counts("gates")
    # Its thread may have gone on for a moment, so the copy waits for a lease's length.
    assert (counts["scheduled"], counts["processing"]) == (1, 0)


def test_autoreload_finishes_the_job_and_goes_on_with_the_new_code(
    manage: Manage, outside: Outside, tmp_path: Path
) -> None:
    app = tmp_path / "liveapp"
    app.mkdir()
    (app / "__init__.py").touch()
    code = (
        "from spooled_contrib.django import job\n@job('live')\ndef live(n: int) -> int:\n    return n + 1\n"
    )
    (app / "jobs.py").write_text(code, encoding="utf-8")
    environment = {
        "PROJECT_APPS": '["liveapp"]',
        "PROJECT_BASE": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([manage.environment["PYTHONPATH"], str(tmp_path)]),
    }
    with manage.running("spooled_worker", "--autoreload", **environment) as running:
        first = outside.enqueue("live", 1)
        gate = outside.enqueue("gates", str(tmp_path))
        wait_until(lambda: outside.status(first) == "completed" and begun(tmp_path), running.log)
        (app / "jobs.py").write_text(code.replace("n + 1", "n + 100"), encoding="utf-8")
        running.wait_for("jobs.py changed: restarting")
        (tmp_path / "open").touch()
        second = outside.enqueue("live", 1)
        wait_until(lambda: outside.status(second) == "completed", running.log)
        running.terminate()
        assert running.wait() == 0
    assert (outside.job(first)["result"], outside.job(second)["result"]) == (2, 101)
    assert (outside.status(gate), outside.job(gate)["retry_count"]) == ("completed", 0)


def test_processes_are_supervised(manage: Manage, outside: Outside, tmp_path: Path) -> None:
    with manage.running(
        "spooled_worker", "--queue", "gates", "--concurrency", "1", "--processes", "2"
    ) as running:
        jobs = [outside.enqueue("gates", str(tmp_path)) for _ in range(2)]
        wait_until(lambda: len(begun(tmp_path)) == 2, running.log)
        victim = begun(tmp_path)[0]
        os.kill(victim, signal.SIGKILL)
        running.wait_for(f"worker process {victim} has ended with exit code -9; starting it again")
        third = outside.enqueue("gates", str(tmp_path))
        wait_until(lambda: len(begun(tmp_path)) == 3, running.log)
        (tmp_path / "open").touch()
        wait_until(lambda: outside.status(third) == "completed")
        running.terminate()
        assert running.wait() == 0
    assert sorted(outside.status(job) for job in jobs) == ["completed", "processing"]


def test_list(manage: Manage) -> None:
    shown = manage("spooled_worker", "--list").stdout
    assert "invoices (3 at a time)\n" in shown
    assert "  make                 shop.jobs.make_invoice\n" in shown
    assert "  (any type)           shop.jobs.gate\n" in shown
    assert "  (Django Tasks)       any function with @task\n" in shown
    listed = json.loads(manage("spooled_worker", "--list", "--json", "--queue", "invoices").stdout)
    assert listed == [
        {
            "queue": "invoices",
            "concurrency": 3,
            "tasks": False,
            "jobs": [
                {"job_type": "make", "function": "shop.jobs.make_invoice"},
                {"job_type": "remind", "function": "shop.jobs.remind"},
            ],
        }
    ]


def test_health_port(manage: Manage, outside: Outside, tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}/health"

    def answer(path: str) -> tuple[int, Any]:
        try:
            got = httpx.get(f"{base}/{path}")
        except httpx.TransportError:
            return 0, None
        return got.status_code, got.json()

    with manage.running("spooled_worker", "--queue", "gates", "--health-port", str(port)) as running:
        wait_until(lambda: answer("ready")[0] == 200, running.log)
        outside.enqueue("gates", str(tmp_path))
        wait_until(lambda: begun(tmp_path))
        assert answer("live") == (200, {"status": "live"})
        assert answer("drain") == (200, {"status": "serving", "active_jobs": 1})
        assert answer("other")[0] == 404
        running.terminate()
        wait_until(lambda: answer("drain") == (503, {"status": "draining", "active_jobs": 1}))
        assert answer("ready")[0] == 503
        (tmp_path / "open").touch()
        assert running.wait() == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--queue", "nowhere"], "no job is declared for queue 'nowhere'; queues with jobs: broken, default"),
        (["--concurrency", "0"], "'0' is not a whole number from 1 to 100"),
        (["--max-jobs", "x"], "'x' is not a whole number"),
        (["--autoreload", "--processes", "2"], "--autoreload is for one process"),
        (["--processes", "2", "--health-port", "1"], "--health-port is for one process"),
    ],
)
def test_mistakes(manage: Manage, argv: list[str], message: str) -> None:
    command = [sys.executable, str(PROJECT / "manage.py"), "spooled_worker", *argv]
    done = subprocess.run(command, env=manage.environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_without_a_key_or_with_a_wrong_one(manage: Manage) -> None:
    url = manage.spooled["BASE_URL"]
    manage.spooled = {"BASE_URL": url}
    assert "SPOOLED has no API key: set SPOOLED['API_KEY']" in manage("spooled_worker", code=1).stderr
    manage.spooled = {"BASE_URL": url, "API_KEY": "sp_test_" + "x" * 40}
    assert "the server refuses this worker" in manage("spooled_worker", code=3).stderr
    manage.spooled = {"BASE_URL": "http://127.0.0.1:9", "API_KEY": "sp_test_" + "x" * 40}
    assert "cannot reach the server" in manage("spooled_worker", code=4).stderr


def test_verbosity(manage: Manage) -> None:
    assert manage("spooled_worker", "--burst", "-v0").stderr == ""
    assert "started on queue" in manage("spooled_worker", "--burst").stderr


def test_enqueue_and_status(manage: Manage, outside: Outside) -> None:
    created = manage(
        "spooled_enqueue", "invoices", '{"order": 1}', "--job-type", "make", "--priority", "3"
    ).stdout
    job = outside.job(created.split()[2])
    assert (job["payload"], job["priority"]) == ({"order": 1, "job_type": "make"}, 3)
    answer = json.loads(
        manage("spooled_enqueue", "sql", '"SELECT 1"', "--idempotency-key", "k", "--json").stdout
    )
    assert answer["created"]
    again = manage("spooled_enqueue", "sql", '"SELECT 1"', "--idempotency-key", "k").stdout
    assert f"job {answer['id']} exists" in again
    assert "no Invoice" in manage("spooled_enqueue", "invoices", "{}", "--job-type", "make", code=1).stderr
    assert "not JSON" in manage("spooled_enqueue", "invoices", "{", code=1).stderr
    shown = manage("spooled_status").stdout.splitlines()
    assert shown[0] == f"server  {manage.spooled['BASE_URL']}"
    (row,) = (line for line in shown if line.startswith("invoices"))
    assert row.split() == ["invoices", "1", "0", "0", "0", "0", "0", "0"]
    document = json.loads(manage("spooled_status", "--json").stdout)
    assert {one["queue"]: one["pending"] for one in document["queues"]}["sql"] == 1
    assert manage.spooled["API_KEY"] not in json.dumps(document)


def test_nothing_is_asked_at_start_up(manage: Manage) -> None:
    """No query and no request, neither at import nor in ready()."""
    program = """
import django, socket, sqlite3
def refuse(*args, **options):
    raise AssertionError("a connection was made")
socket.socket.connect = refuse
from django.db.backends.base.base import BaseDatabaseWrapper
BaseDatabaseWrapper.connect = refuse
django.setup()
import spooled_contrib.django, sys
print("shop.jobs" in sys.modules)
"""
    environment = {**manage.environment, "DJANGO_SETTINGS_MODULE": "settings"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "False\n", done.stderr
