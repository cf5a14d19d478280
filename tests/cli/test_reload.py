"""`spooled worker --reload`, `--burst` and `--max-jobs`, and what may be named as the target."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooled.cli import reload
from spooled.cli.children import Child
from spooled.cli.failure import CommandError
from spooled_contrib.server import EmbeddedServer
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

TASKS = """
import pathlib, time
from spooled import SpooledClient
from spooled.worker import SpooledWorker, WorkerGroup

HERE = pathlib.Path(__file__).parent
VERSION = 1

worker = SpooledWorker(SpooledClient(), "q", poll_interval=0.1)

@worker.process
def handle(ctx):
    if ctx.payload.get("gate"):
        (HERE / "begun").touch()
        # The test is another process, and lets this go on with a file; nothing but a look says that it is there.
        while not (HERE / "open").exists():
            time.sleep(0.01)
    return VERSION

other = SpooledWorker(worker._client, "other")
other.process(lambda ctx: "other")
group = WorkerGroup(worker, other)

class Plugin:
    def __spooled_worker__(self, module):
        assert module.VERSION
        return group

class Broken:
    def __spooled_worker__(self, module):
        raise ValueError(f"{module.__name__} lacks something")

class Empty:
    def __spooled_worker__(self, module):
        return None

plugin, broken, empty = Plugin(), Broken(), Empty()

def make_group():
    return WorkerGroup(worker, other)

def make_plugin():
    return Plugin()
"""


@pytest.fixture
def outside(server: EmbeddedServer) -> Iterator[Outside]:
    looking = Outside(server)
    yield looking
    looking.http.close()


@pytest.fixture
def environment(server: EmbeddedServer) -> dict[str, str]:
    return {**os.environ, "SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.py"
    path.write_text(TASKS, encoding="utf-8")
    return path


def spooled_worker(folder: Path, environment: dict[str, str], *argv: str) -> Process:
    return Process("-m", "spooled", "worker", *argv, cwd=folder, environment=environment)


@pytest.fixture
def reloading(tasks: Path, environment: dict[str, str]) -> Iterator[Process]:
    with spooled_worker(tasks.parent, environment, "tasks:worker", "--reload") as running:
        running.wait_for("started on queue q")
        yield running


def write(path: Path, text: str) -> None:
    """As editors do: another file that takes the old one's place."""
    other = path.with_suffix(".tmp")
    other.write_text(text, encoding="utf-8")
    other.replace(path)


def test_a_change_restarts_the_worker_and_no_job_is_lost(
    tasks: Path, reloading: Process, outside: Outside
) -> None:
    running = outside.enqueue(payload={"gate": True})
    wait_until((tasks.parent / "begun").exists)
    write(tasks, TASKS.replace("VERSION = 1", "VERSION = 2"))
    reloading.wait_for("tasks.py changed: restarting the worker when its jobs are finished")
    waiting = outside.enqueue(payload={})
    (tasks.parent / "open").touch()
    wait_until(lambda: outside.status(waiting) == "completed", reloading.log)
    assert (outside.job(running)["result"], outside.job(running)["retry_count"]) == (1, 0)
    assert outside.job(waiting)["result"] == 2
    reloading.terminate()
    assert reloading.wait() == 0
    assert "change detected" not in reloading.log  # the watcher's own words


def test_code_that_does_not_start_waits_for_the_next_change(
    tasks: Path, reloading: Process, outside: Outside
) -> None:
    write(tasks, "1 / 0\n")
    reloading.wait_for("it is started again when a file changes")
    assert "ZeroDivisionError" in reloading.log
    write(tasks, TASKS.replace("VERSION = 1", "VERSION = 3"))
    job = outside.enqueue(payload={})
    wait_until(lambda: outside.status(job) == "completed", reloading.log)
    assert outside.job(job)["result"] == 3
    write(tasks, "2 / 0\n")
    reloading.wait_for("it is started again", times=2)
    reloading.send(signal.SIGINT)
    assert reloading.wait() == 130


def test_a_second_signal_reaches_the_worker(tasks: Path, reloading: Process, outside: Outside) -> None:
    job = outside.enqueue(payload={"gate": True})
    wait_until((tasks.parent / "begun").exists)
    reloading.terminate()
    reloading.wait_for("once more to stop at once")
    reloading.terminate()
    assert reloading.wait() == 143
    note = outside.job(job)["result"]["spooled"]
    assert (note["outcome"], outside.status(note["successor"])) == ("released", "scheduled")


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("tasks.py", True),
        ("shop/tasks.py", True),
        ("notes.txt", False),
        (".hidden/tasks.py", False),
        (".venv/lib/x.py", False),
        ("venv/lib/x.py", False),
        ("shop/__pycache__/tasks.py", False),
        ("lib/site-packages/x.py", False),
    ],
)
def test_which_files_matter(tmp_path: Path, path: str, matters: bool) -> None:
    assert reload._matters(str(tmp_path / path), [tmp_path]) is matters
    assert not reload._matters("/elsewhere/tasks.py", [tmp_path])


def test_a_folder_that_is_named_outright_matters_though_it_is_hidden(tmp_path: Path) -> None:
    generated = tmp_path / ".generated"
    assert reload._matters(str(generated / "x.py"), [tmp_path, generated])


def test_a_folder_behind_a_link_is_watched(
    tmp_path: Path, environment: dict[str, str], outside: Outside
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    tasks = tmp_path / "real" / "tasks.py"
    tasks.write_text(TASKS, encoding="utf-8")
    settings = {**environment, "PYTHONPATH": "link"}
    with spooled_worker(tmp_path, settings, "tasks:worker", "--reload-dir", "link") as running:
        running.wait_for("started on queue q")
        write(tasks, TASKS.replace("VERSION = 1", "VERSION = 2"))
        running.wait_for("started on queue q", times=2)
        assert "real/tasks.py changed: restarting" in running.log
        job = outside.enqueue(payload={})
        wait_until(lambda: outside.status(job) == "completed", running.log)
        assert outside.job(job)["result"] == 2


def test_a_folder_that_cannot_be_watched_ends_the_command(tmp_path: Path) -> None:
    program = "from spooled.cli import supervised; import signal; supervised.adopt(); signal.pause()"
    child = [sys.executable, "-c", program]
    with pytest.raises(CommandError, match="cannot watch"):
        reload.run(lambda ended: Child(child, ended), [tmp_path / "gone"])


def run(folder: Path, environment: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooled", "worker", *argv]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=HOPELESS
    )


@pytest.mark.parametrize(
    "target", ["tasks:group", "tasks:plugin", "tasks:make_group", "tasks:make_plugin", "tasks:Plugin"]
)
def test_a_group_and_a_plugin_work_off_what_is_due(
    tasks: Path, environment: dict[str, str], outside: Outside, target: str
) -> None:
    jobs = [outside.enqueue(payload={}), outside.enqueue("other", {})]
    done = run(tasks.parent, environment, target, "--burst")
    assert done.returncode == 0, done.stderr
    assert [outside.job(job)["result"] for job in jobs] == [1, "other"]


def test_max_jobs(tasks: Path, environment: dict[str, str], outside: Outside) -> None:
    outside.enqueue_many(5)
    done = run(tasks.parent, environment, "tasks:worker", "--max-jobs", "3")
    assert done.returncode == 0, done.stderr
    assert (outside.counts()["completed"], outside.counts()["pending"]) == (3, 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tasks:broken"], "spooled: tasks lacks something"),
        (["tasks:worker", "--max-jobs", "0"], "'0' is not a whole number of at least 1"),
        (["tasks:worker", "--reload-dir", "nowhere"], "'nowhere' is not a folder"),
        (["tasks:HERE"], "It has: broken, empty, group, other, plugin, worker"),
        (["tasks:empty"], "tasks:empty: Empty.__spooled_worker__() returned a NoneType, not a SpooledWorker"),
    ],
)
def test_mistakes(tasks: Path, environment: dict[str, str], argv: list[str], message: str) -> None:
    done = run(tasks.parent, environment, *argv)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
