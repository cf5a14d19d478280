"""`spooled worker`: what it runs, how it stops, and what it says when it cannot start."""

from __future__ import annotations

import signal
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.cli.conftest import Api, Process, Spawn
from tests.waiting import wait_until

THREADS = """
    import threading
    from spooled import SpooledClient
    from spooled.worker import SpooledWorker

    worker = SpooledWorker(SpooledClient(), "q", poll_interval=0.1)

    @worker.process
    def handle(ctx):
        print("running", flush=True)
        if ctx.payload.get("until") == "released":
            while not released():
                if ctx.signal.wait(0.02):
                    return "aborted"
        if ctx.payload.get("until") == "never":
            threading.Event().wait()
        return "done"
"""
COROUTINES = """
    import asyncio
    from spooled import AsyncSpooledClient
    from spooled.worker import AsyncSpooledWorker

    worker = AsyncSpooledWorker(AsyncSpooledClient(), "q", poll_interval=0.1)

    @worker.process
    async def handle(ctx):
        print("running", flush=True)
        if ctx.payload.get("until") == "released":
            while not released():
                await asyncio.sleep(0.02)
        if ctx.payload.get("until") == "never":
            await asyncio.Event().wait()
        return "done"
"""
RELEASED = """
    from pathlib import Path

    def released():
        return Path("released").exists()
"""
KINDS = pytest.mark.parametrize("source", [THREADS, COROUTINES], ids=["threads", "coroutines"])
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def write(folder: Path, source: str, name: str = "tasks.py") -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(textwrap.dedent(source), encoding="utf-8")


def busy(spawn: Spawn, api: Api, tmp_path: Path, source: str, until: str) -> tuple[Process, str]:
    """A worker in the middle of a job."""
    write(tmp_path, RELEASED + source)
    job_id = api.enqueue("q", {"until": until})
    process = spawn("worker", "tasks:worker")
    process.wait_for("running")
    return process, job_id


@KINDS
@SIGNALS
def test_the_first_signal_lets_the_job_finish(
    spawn: Spawn, api: Api, tmp_path: Path, source: str, number: signal.Signals
) -> None:
    process, job_id = busy(spawn, api, tmp_path, source, "released")
    process.send(number)
    process.wait_for(f"{number.name}: finishing 1 running job")
    assert api.job(job_id)["status"] == "processing"
    (tmp_path / "released").touch()
    result = process.finish()
    assert result.code == 0
    assert "Traceback" not in result.err
    job = api.job(job_id)
    assert (job["status"], job["result"]) == ("completed", "done")


@KINDS
@SIGNALS
def test_the_second_signal_stops_at_once(
    spawn: Spawn, api: Api, tmp_path: Path, source: str, number: signal.Signals
) -> None:
    process, job_id = busy(spawn, api, tmp_path, source, "never")
    process.send(number)
    process.wait_for("once more to stop at once")
    process.send(number)
    result = process.finish()
    assert result.code == 128 + number
    assert "cutting off 1 running job" in result.err
    assert "Traceback" not in result.err
    # Given back: a copy of it runs elsewhere. A thread may go on for a moment, so its copy waits for a lease's length.
    note = api.job(job_id)["result"]["spooled"]
    assert note["outcome"] == "released"
    assert api.job(note["successor"])["status"] == ("scheduled" if source is THREADS else "pending")


STARTS_IN_ITS_OWN_WAY = """
    import asyncio
    from spooled import AsyncSpooledClient
    from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup

    class Application(AsyncWorkerGroup):
        async def start(self, *, burst=False, max_jobs=None):
            print("starting", flush=True)
            await begin()
            await super().start(burst=burst, max_jobs=max_jobs)

    one = AsyncSpooledWorker(AsyncSpooledClient(), "q")
    one.process(lambda ctx: None)
    worker = Application(one)
"""


@SIGNALS
def test_a_start_that_hangs_can_be_ended(spawn: Spawn, tmp_path: Path, number: signal.Signals) -> None:
    write(tmp_path, STARTS_IN_ITS_OWN_WAY + "\n    async def begin(): await asyncio.Event().wait()\n")
    process = spawn("worker", "tasks:worker")
    process.wait_for("starting")
    process.send(number)
    process.wait_for("once more to stop at once")
    process.send(number)
    assert process.finish().code == 128 + number


def test_a_signal_during_the_start_is_obeyed_after_it(spawn: Spawn, tmp_path: Path) -> None:
    slow = "\n    async def begin():\n        while not released(): await asyncio.sleep(0.02)\n"
    write(tmp_path, RELEASED + STARTS_IN_ITS_OWN_WAY + slow)
    process = spawn("worker", "tasks:worker")
    process.wait_for("starting")
    process.send(signal.SIGTERM)
    process.wait_for("once more to stop at once")
    (tmp_path / "released").touch()
    assert process.finish().code == 0


def test_what_fails_in_a_start_of_the_users_own_shows_where(spawn: Spawn, tmp_path: Path) -> None:
    broken = "\n    async def begin(): raise RuntimeError('the database is down')\n"
    write(tmp_path, STARTS_IN_ITS_OWN_WAY + broken)
    result = spawn("worker", "tasks:worker").finish()
    assert result.code == 1
    lines = result.err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert 'tasks.py", line ' in lines[1]
    assert lines[-1] == "spooled: tasks:worker raised RuntimeError: the database is down"
    assert "spooled/cli" not in result.err


def test_two_kinds_of_signal_count_as_two(spawn: Spawn, api: Api, tmp_path: Path) -> None:
    process, _ = busy(spawn, api, tmp_path, THREADS, "never")
    process.send(signal.SIGINT)
    process.send(signal.SIGTERM)
    assert process.finish().code in (143, 130)


def test_an_echo_of_the_first_signal_cuts_nothing_off(spawn: Spawn, api: Api, tmp_path: Path) -> None:
    process, job_id = busy(spawn, api, tmp_path, THREADS, "released")
    for _ in range(3):
        process.send(signal.SIGTERM)
    process.wait_for("once more to stop at once")
    (tmp_path / "released").touch()
    assert process.finish().code == 0
    assert api.job(job_id)["status"] == "completed"


def test_an_idle_worker_stops(spawn: Spawn, tmp_path: Path) -> None:
    write(tmp_path, THREADS)
    process = spawn("worker", "tasks:worker")
    process.wait_for("started on queue q")
    process.send(signal.SIGTERM)
    assert process.finish().code == 0


def test_a_package_a_factory_and_dots(spawn: Spawn, api: Api, tmp_path: Path) -> None:
    write(tmp_path, "", "shop/__init__.py")
    write(
        tmp_path,
        THREADS + "\n    class Workers:\n        make = staticmethod(lambda: worker)\n",
        "shop/tasks.py",
    )
    job_id = api.enqueue("q")
    process = spawn("worker", "shop.tasks:Workers.make", "--log-level", "debug")
    wait_until(lambda: api.job(job_id)["status"] == "completed")
    process.send(signal.SIGTERM)
    assert process.finish().code == 0


def test_connection_options_reach_the_modules_client(
    spawn: Spawn, server: EmbeddedServer, api: Api, tmp_path: Path
) -> None:
    write(tmp_path, THREADS)
    job_id = api.enqueue("q")
    process = spawn(
        *("--api-key", server.api_key, "worker", "tasks:worker", "--base-url", server.url),
        SPOOLED_API_KEY="sp_test_wrong-wrong",
        SPOOLED_BASE_URL="http://127.0.0.1:9",
    )
    wait_until(lambda: api.job(job_id)["status"] == "completed")
    process.send(signal.SIGTERM)
    assert process.finish().code == 0


def test_log_levels(spawn: Spawn, api: Api, tmp_path: Path) -> None:
    write(tmp_path, THREADS)
    process = spawn("worker", "tasks:worker", "--log-level", "error")
    job_id = api.enqueue("q")
    wait_until(lambda: api.job(job_id)["status"] == "completed")
    process.send(signal.SIGTERM)
    assert process.finish().err == ""


def test_logging_that_the_module_has_set_up_stays(spawn: Spawn, tmp_path: Path) -> None:
    write(
        tmp_path,
        "    import logging; logging.basicConfig(format='MINE %(message)s', level='INFO')\n" + THREADS,
    )
    process = spawn("worker", "tasks:worker")
    process.wait_for("MINE worker")
    process.send(signal.SIGTERM)
    result = process.finish()
    assert all(line.startswith("MINE ") for line in result.err.splitlines())


@KINDS
def test_a_refused_key_has_its_own_exit_code(spawn: Spawn, tmp_path: Path, source: str) -> None:
    write(tmp_path, source)
    result = spawn(
        "worker", "tasks:worker", "--log-level", "error", SPOOLED_API_KEY="sp_test_wrong-wrong"
    ).finish()
    assert result.code == 3
    assert "the server refuses this worker" in result.error
    assert "wrong-wrong" not in result.err


@KINDS
def test_an_unreachable_server_has_its_own_exit_code(spawn: Spawn, tmp_path: Path, source: str) -> None:
    write(tmp_path, source)
    process = spawn("worker", "tasks:worker", "--log-level", "error", SPOOLED_BASE_URL="http://127.0.0.1:9")
    result = process.finish()
    assert result.code == 4
    assert result.error.startswith("spooled: cannot reach the server")


class _Pages(BaseHTTPRequestHandler):
    """What stands in a server's place: a proxy's page of log-in, or another program."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>Please log in</html>")

    def log_message(self, *_: object) -> None: ...


@KINDS
def test_a_page_in_the_servers_place_is_no_server(spawn: Spawn, tmp_path: Path, source: str) -> None:
    write(tmp_path, source)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{pages.server_port}"
        result = spawn("worker", "tasks:worker", "--log-level", "error", SPOOLED_BASE_URL=url).finish()
        pages.shutdown()
        thread.join()
    assert result.code == 4
    assert result.error.startswith("spooled: cannot reach the server")


def test_a_server_that_comes_up_later(spawn: Spawn, tmp_path: Path) -> None:
    with EmbeddedServer() as later:
        port_is_known = later.url
    write(tmp_path, THREADS)
    process = spawn("worker", "tasks:worker", "--wait", "60", SPOOLED_BASE_URL=port_is_known)
    process.wait_for("trying again")
    with later:
        process.wait_for("started on queue q")
        process.send(signal.SIGTERM)
        assert process.finish().code == 0


def test_a_module_that_raises_shows_its_own_frames_only(spawn: Spawn, tmp_path: Path) -> None:
    write(tmp_path, "    def inner():\n        return 1 / 0\n    inner()\n")
    result = spawn("worker", "tasks:worker").finish()
    assert result.code == 1
    lines = result.err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert 'tasks.py", line 3, in <module>' in lines[1]
    assert lines[-2] == "ZeroDivisionError: division by zero"
    assert lines[-1] == "spooled: module tasks raised ZeroDivisionError: division by zero"
    assert "importlib" not in result.err
    assert "spooled/cli" not in result.err


STUCK = """
    import threading
    from spooled import SpooledClient
    from spooled.worker import SpooledWorker

    worker = SpooledWorker(
        SpooledClient(), "q", poll_interval=0.1, timeout_grace=0.1, cleanup_grace=0.1, lease_duration=5
    )

    @worker.process
    def handle(ctx):
        print("running", flush=True)
        threading.Event().wait()
"""


@pytest.mark.parametrize("kind", ["alone", "group"])
def test_a_stuck_handler_ends_the_command_with_a_code_of_its_own(
    spawn: Spawn, api: Api, tmp_path: Path, kind: str
) -> None:
    group = "\n    from spooled.worker import WorkerGroup\n    group = WorkerGroup(worker)\n"
    write(tmp_path, STUCK + (group if kind == "group" else ""))
    job_id = api.enqueue("q", {}, timeout_seconds=1)
    process = spawn("worker", "tasks:group" if kind == "group" else "tasks:worker", "--on-stuck", "exit")
    result = process.finish()
    assert result.code == 5
    assert result.err.splitlines()[-1].startswith(f"spooled: job {job_id} on q still runs")
    assert "Traceback" not in result.err
    # Not acked: it runs again when its lease is over.
    assert api.job(job_id)["status"] == "processing"
