"""`spooled worker --reload` and `spooled dev`: one worker, told from parsed options, that ends with its supervisor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Api, Process, Spawn
from tests.proc import children_of, lives, needs_proc
from tests.waiting import wait_until

pytestmark = needs_proc

TASKS = """
import pathlib, time
from spooled import SpooledClient
from spooled.worker import SpooledWorker

worker = SpooledWorker(SpooledClient(), "q", poll_interval=0.1)

@worker.process
def handle(ctx):
    pathlib.Path("begun").touch()
    while not pathlib.Path("open").exists():
        time.sleep(0.01)
    return "done"
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")


def descendants(pid: int) -> list[int]:
    found = children_of(pid)
    return [*found, *(one for child in found for one in descendants(child))]


def reloading(spawn: Spawn, *argv: str) -> Process:
    process = spawn(*argv, strict=False)
    process.wait_for("started on queue q")
    return process


@pytest.mark.parametrize(
    "argv",
    [
        ["worker", "--reload", "tasks:worker"],
        ["worker", "tasks:worker", "--wait=5", "--reload"],
        ["worker", "--reload-dir=.", "--log-level", "info", "tasks:worker", "--reload"],
    ],
)
def test_there_is_one_worker_wherever_the_options_stand(spawn: Spawn, argv: list[str]) -> None:
    process = reloading(spawn, *argv)
    assert len(descendants(process.popen.pid)) == 1
    process.terminate()
    assert process.finish().code == 0


@pytest.mark.parametrize(
    "argv", [["--rel", "tasks:worker"], ["tasks:worker", "--reload=yes"], ["tasks:worker", "--reload-d", "."]]
)
def test_an_abbreviation_is_refused(spawn: Spawn, argv: list[str]) -> None:
    assert spawn("worker", *argv).finish().code == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_worker_drains_and_ends_with_its_supervisor(
    spawn: Spawn, api: Api, tmp_path: Path, number: signal.Signals
) -> None:
    job = api.enqueue("q")
    process = reloading(spawn, "worker", "tasks:worker", "--reload")
    wait_until((tmp_path / "begun").exists, process.log)
    (child,) = children_of(process.popen.pid)
    process.send(number)
    process.wait_for("finishing 1 running job")
    (tmp_path / "open").touch()
    wait_until(lambda: not lives(child), process.log)
    assert (api.job(job)["status"], api.job(job)["retry_count"]) == ("completed", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_counts_once(
    spawn: Spawn, api: Api, tmp_path: Path, number: signal.Signals
) -> None:
    job = api.enqueue("q")
    process = reloading(spawn, "worker", "tasks:worker", "--reload")
    wait_until((tmp_path / "begun").exists, process.log)
    os.killpg(process.popen.pid, number)
    process.wait_for("finishing 1 running job")
    assert "cutting off" not in process.log
    (tmp_path / "open").touch()
    assert process.finish().code == 0
    assert api.job(job)["status"] == "completed"


def test_a_signal_while_the_worker_is_replaced_cuts_nothing_off(
    spawn: Spawn, api: Api, tmp_path: Path
) -> None:
    job = api.enqueue("q")
    process = reloading(spawn, "worker", "tasks:worker", "--reload")
    wait_until((tmp_path / "begun").exists, process.log)
    (tmp_path / "tasks.py").write_text(TASKS + "\n", encoding="utf-8")
    process.wait_for("restarting the worker when its jobs are finished")
    process.wait_for("finishing 1 running job")
    process.send(signal.SIGINT)
    (tmp_path / "open").touch()
    assert process.finish().code == 0
    assert "cutting off" not in process.log
    assert api.job(job)["status"] == "completed"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_what_dev_runs_ends_with_it(spawn: Spawn, number: signal.Signals) -> None:
    program = "python3 -c \"import signal; print('up', flush=True); signal.pause()\""
    process = spawn("dev", "--port", "0", "tasks:worker", "--run", program, strict=False)
    process.wait_for("started on queue q")
    process.wait_for("| up")
    everything = descendants(process.popen.pid)
    # The worker's supervisor and the worker, where files are watched; what runs the program, and the program.
    assert len(everything) in (3, 4)
    process.send(number)
    wait_until(lambda: not any(map(lives, everything)), process.log)


IMPORTING = "print('importing', flush=True)\nimport threading; threading.Event().wait()\n"


@pytest.mark.parametrize("reload", [[], ["--reload"]], ids=["alone", "reload"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_import(
    spawn: Spawn, tmp_path: Path, number: signal.Signals, reload: list[str]
) -> None:
    (tmp_path / "tasks.py").write_text(IMPORTING, encoding="utf-8")
    process = spawn("worker", "tasks:worker", *reload, strict=False)
    process.wait_for("importing")
    process.send(number)
    # A worker that has claimed nothing simply ends; for a supervisor that is the end it has asked for.
    code = process.finish().code
    assert code == 0 if reload else code in (-number, 128 + number)
