"""`spooled worker --isolation process` and scripts with such a worker: processes, signals, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cli.conftest import Api, Cli, Process, Spawn
from tests.proc import children_of, lives, needs_proc
from tests.waiting import wait_until

pytestmark = needs_proc

TASKS = """
    import logging, os, re, sys, time
    from pathlib import Path
    from spooled import SpooledClient
    from spooled.worker import SpooledWorker

    worker = SpooledWorker(SpooledClient(), "q", poll_interval=0.1, cleanup_grace=0.2)

    @worker.process
    def handle(ctx):
        print("running in", os.getpid(), flush=True)
        match ctx.payload.get("do"):
            case "wait":
                while not Path("released").exists():
                    time.sleep(0.02)
            case "hold":
                re.match(r"(a+)+$", "a" * 64 + "b")
            case "sleep":
                while True:
                    time.sleep(0.02)
            case "log":
                ctx.log("debug", "a detail")
                ctx.log("info", "hello")
        return os.getpid()
"""
IN_PROCESSES = TASKS.replace("poll_interval=0.1", 'poll_interval=0.1, isolation="process"')
SCRIPT = f"""{IN_PROCESSES}
    if __name__ == "__main__":
        worker.start(burst=True)
"""


def write(folder: Path, source: str, name: str = "tasks.py") -> None:
    (folder / name).write_text(textwrap.dedent(source), encoding="utf-8")


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path) -> None:
    write(tmp_path, TASKS)


@pytest.fixture
def connected(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Scripts find the test's server."""
    monkeypatch.setenv("SPOOLED_API_KEY", api.http.headers["Authorization"].removeprefix("Bearer "))
    monkeypatch.setenv("SPOOLED_BASE_URL", str(api.http.base_url).removesuffix("/api/v1/"))
    return api


def start(spawn: Spawn, *argv: str) -> Process:
    process = spawn("worker", "tasks:worker", "--isolation", "process", *argv)
    process.wait_for("started on queue q")
    return process


# --- the command --------------------------------------------------------------------------------------------


def test_handlers_run_in_child_processes_that_log_as_the_worker_does(spawn: Spawn, api: Api) -> None:
    job_id = api.enqueue(payload={"do": "log"})
    process = spawn("worker", "tasks:worker", "--isolation", "process", "--burst")
    result = process.finish()
    assert result.code == 0
    assert api.job(job_id)["result"] not in (None, process.popen.pid)
    (line,) = [line for line in result.err.splitlines() if "hello" in line]
    assert line.split()[1] == "INFO"
    assert "a detail" not in result.err


def test_the_log_level_reaches_the_child_processes(spawn: Spawn, api: Api) -> None:
    api.enqueue(payload={"do": "log"})
    process = spawn("worker", "tasks:worker", "--isolation", "process", "--burst", "--log-level", "debug")
    assert "a detail" in process.finish().err


def test_limits_of_child_processes_imply_them(spawn: Spawn, api: Api) -> None:
    ids = [api.enqueue() for _ in range(3)]
    process = spawn(
        "worker", "tasks:worker", "--burst", "--max-jobs-per-child", "1", "--max-memory-per-child", "4096"
    )
    assert process.finish().code == 0
    assert len({api.job(job_id)["result"] for job_id in ids} | {process.popen.pid}) == 4


def test_limits_need_child_processes(offline: Cli) -> None:
    result = offline("worker", "tasks:worker", "--isolation", "thread", "--max-jobs-per-child", "1")
    assert result.code == 2
    assert "limits of child processes need --isolation process" in result.error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_lets_the_jobs_finish(
    number: signal.Signals, spawn: Spawn, api: Api, tmp_path: Path
) -> None:
    job_id = api.enqueue(payload={"do": "wait"}, max_retries=0)
    process = start(spawn)
    child = int(process.find(r"running in (\d+)"))
    # A terminal signals the worker's group, and a service manager all of its processes.
    os.killpg(process.popen.pid, number)
    os.kill(child, number)
    process.wait_for("finishing 1 running job")
    (tmp_path / "released").touch()
    assert process.finish().code == 0
    assert api.job(job_id)["result"] == child
    assert not lives(child)


@pytest.mark.parametrize("do", ["sleep", "hold"])
def test_a_second_signal_ends_the_child_and_gives_the_job_back(do: str, spawn: Spawn, api: Api) -> None:
    job_id = api.enqueue(payload={"do": do}, max_retries=0)
    process = start(spawn)
    child = int(process.find(r"running in (\d+)"))
    process.terminate()
    process.wait_for("once more to stop at once")
    process.terminate()
    assert process.finish().code == 128 + signal.SIGTERM
    assert not lives(child)
    assert api.job(job_id)["result"]["spooled"]["outcome"] == "released"


@pytest.mark.parametrize("do", ["sleep", "hold", None])
def test_children_end_with_a_worker_that_is_killed(do: str | None, spawn: Spawn, api: Api) -> None:
    api.enqueue(payload={"do": do})
    process = start(spawn)
    child = int(process.find(r"running in (\d+)"))
    if do is None:
        wait_until(lambda: api.http.get("/jobs/stats").json()["completed"] == 1)
    process.popen.send_signal(signal.SIGKILL)
    wait_until(lambda: not lives(child))


def test_no_child_is_left_by_a_program_that_ends_with_a_worker_in_the_background(
    connected: Api, tmp_path: Path
) -> None:
    connected.enqueue(payload={"do": "sleep"})
    write(
        tmp_path,
        """
        import sys
        from tasks import worker
        from spooled.worker import SpooledWorker
        if __name__ == "__main__":
            mine = SpooledWorker(worker._client, "q", isolation="process")
            mine.process(worker._routes.registered()[0][0])
            mine.__enter__()
            sys.stdin.readline()
            sys.exit(5)
        """,
        "script.py",
    )
    program = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout
    assert program.stdin
    child = int(program.stdout.readline().split()[-1])
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.wait() == 5
    wait_until(lambda: not lives(child))
    program.stdin.close()
    program.stdout.close()


WITH_MIDDLEWARE = """
    import threading
    from contextlib import contextmanager
    from spooled.worker import Middleware

    class Locked(Middleware):
        def __init__(self, text):
            self.lock, self.text = threading.Lock(), text

        @contextmanager
        def around(self, ctx):
            with self.lock:
                print(self.text, os.getpid(), flush=True)
                yield

    class Observer(Middleware):
        def __init__(self):
            self.lock = threading.Lock()

        def acked(self, ack):
            print("observed in", os.getpid(), flush=True)
"""


def test_middleware_of_a_worker_that_is_a_variable_need_not_be_pickled(
    spawn: Spawn, api: Api, tmp_path: Path
) -> None:
    source = TASKS.replace("cleanup_grace=0.2", "middleware=[Observer(), Locked('around in')]")
    write(tmp_path, source.replace("    worker = ", f"{WITH_MIDDLEWARE}\n    worker = "))
    job_id = api.enqueue()
    process = spawn("worker", "tasks:worker", "--isolation", "process", "--burst")
    result = process.finish()
    assert result.code == 0
    assert f"around in {api.job(job_id)['result']}" in result.out
    assert f"observed in {process.popen.pid}" in result.out


# --- scripts ------------------------------------------------------------------------------------------------


def run_script(tmp_path: Path, source: str, *argv: str) -> tuple[int, str]:
    write(tmp_path, source, "script.py")
    with Process(*(argv or ("script.py",)), cwd=tmp_path, apart=True) as process:
        return process.wait(), process.log


@pytest.mark.parametrize("argv", [("script.py",), ("-m", "script"), ("-m", "package.script")])
def test_a_script_with_handlers_of_its_own(argv: tuple[str, ...], connected: Api, tmp_path: Path) -> None:
    job_id = connected.enqueue(payload={"do": "log"})
    (tmp_path / "package").mkdir()
    write(tmp_path / "package", "", "__init__.py")
    write(tmp_path / "package", SCRIPT, "script.py")
    code, log = run_script(tmp_path, SCRIPT, *argv)
    assert code == 0, log
    assert connected.job(job_id)["status"] == "completed"
    assert f"running in {connected.job(job_id)['result']}" in log


@pytest.mark.parametrize("start", ["worker.start()", "run_workers(worker)"])
def test_a_script_without_a_guard_is_told_so(start: str, connected: Api, tmp_path: Path) -> None:
    job_id = connected.enqueue()
    source = f"{IN_PROCESSES}\n    from spooled.worker import run_workers\n    {start}\n"
    code, log = run_script(tmp_path, source)
    assert code == 1
    assert "RuntimeError: a child process cannot load the worker's handlers" in log
    assert 'start it below `if __name__ == "__main__":`' in log
    assert connected.job(job_id)["status"] == "pending"


def test_a_session_is_told_that_its_functions_cannot_be_found(connected: Api, tmp_path: Path) -> None:
    with Process("-c", textwrap.dedent(SCRIPT), cwd=tmp_path, apart=True) as process:
        assert process.wait() == 1
        assert "handler handle cannot be used by child processes" in process.log
        assert "it is defined in a session or by `python -c`" in process.log


# --- children that do not start -----------------------------------------------------------------------------

BROKEN = """
    import sys
    if "spooled.worker._process_child" in sys.modules and Path("broken").exists():
        {how}
"""


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("import no_such_module", "cannot load the worker's handlers: ModuleNotFoundError: No module named"),
        ("sys.exit('not here')", "cannot load the worker's handlers: SystemExit: not here"),
        ("os._exit(9)", "a child process of the worker ended with exit code 9 before it was ready"),
        ("os.kill(os.getpid(), 9)", "a child process of the worker was killed by SIGKILL"),
    ],
)
def test_a_worker_whose_children_cannot_start_ends_and_says_why(
    how: str, message: str, spawn: Spawn, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    write(tmp_path, TASKS + BROKEN.format(how=how))
    job_id = api.enqueue()
    result = spawn("worker", "tasks:worker", "--isolation", "process").finish()
    assert result.code == 1
    assert message in result.err.splitlines()[-1]
    assert api.job(job_id)["retry_count"] == 0


def test_a_stop_is_heard_while_the_first_child_starts(spawn: Spawn, tmp_path: Path) -> None:
    hang = "print('loading in', os.getpid(), flush=True); time.sleep(3600)"
    (tmp_path / "broken").touch()
    write(tmp_path, TASKS + BROKEN.format(how=hang))
    process = spawn("worker", "tasks:worker", "--isolation", "process")
    child = int(process.find(r"loading in (\d+)"))
    process.terminate()
    assert process.finish().code == 0
    assert not lives(child)


def test_children_that_start_no_more_make_the_worker_unready_until_they_do(
    connected: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The code on disk is broken for a while, as in the middle of a deployment."""
    broken = tmp_path / "broken"
    write(tmp_path, IN_PROCESSES + BROKEN.format(how="import no_such_module"), "tasks_of_deployment.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    import tasks_of_deployment  # type: ignore[import-not-found]

    worker = tasks_of_deployment.worker
    with worker:
        wait_until(lambda: worker.health.is_ready())
        broken.touch()
        for pid in children_of(os.getpid()):
            if b"_process_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "while it had no job" in caplog.text)
        job_id = connected.enqueue(max_retries=0)
        wait_until(lambda: connected.job(job_id)["status"] == "deadletter")
        assert "No module named 'no_such_module'" in connected.job(job_id)["last_error"]
        wait_until(lambda: not worker.health.is_ready())
        assert worker.health.dead_threads == 1
        spared = connected.enqueue(max_retries=0)
        broken.unlink()
        wait_until(lambda: connected.job(spared)["status"] == "completed")
        wait_until(lambda: worker.health.is_ready())
    worker._client.close()
    sys.modules.pop("tasks_of_deployment")
