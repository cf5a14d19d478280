"""Real processes: `spooled worker main:spooled`, uvicorn with several workers and with --reload."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

MAIN = """
import asyncio, os, pathlib
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from spooled_contrib.fastapi import Spooled
from starlette.requests import HTTPConnection

HERE = pathlib.Path(__file__).parent

@asynccontextmanager
async def lifespan(app):
    app.state.color = "red"
    yield {"shape": "round"}
    (HERE / "closed").touch()

spooled = Spooled(worker={"poll_interval": 0.1})
app = FastAPI(lifespan=spooled.wrap(lifespan))
app.include_router(spooled.router, prefix="/spooled")

def things(conn: HTTPConnection) -> list[str]:
    return [conn.app.state.color, conn.state.shape]

@spooled.job("things")
async def thing(payload: dict[str, int], seen: Annotated[list[str], Depends(things)]) -> list[str]:
    return [*seen, str(os.getpid())]

@spooled.job("gates")
async def gate(payload: dict[str, int]) -> int:
    (HERE / f"begun-{os.getpid()}").touch()
    while not (HERE / "open").exists():
        await asyncio.sleep(0.01)
    return os.getpid()
"""


@pytest.fixture
def environment(server: EmbeddedServer) -> dict[str, str]:
    return {**os.environ, "SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(MAIN, encoding="utf-8")
    return tmp_path


@contextmanager
def uvicorn(folder: Path, environment: dict[str, str], *options: str) -> Iterator[Process]:
    """uvicorn on a free port, that has begun to listen."""
    command = ["-m", "uvicorn", "main:app", "--port", "0", *options]
    settings = {**environment, "SPOOLED_RUN_WORKER": "1"}
    with Process(*command, cwd=folder, environment=settings) as running:
        running.wait_for("running on http://")
        yield running


def test_two_processes_share_the_jobs_and_run_each_once(
    main: Path, environment: dict[str, str], outside: Outside
) -> None:
    with uvicorn(main, environment, "--workers", "2") as running:
        wait_until(lambda: len([one for one in outside.workers() if one["queue_name"] == "gates"]) == 2)
        jobs = [outside.enqueue("gates", {"n": n}) for n in range(20)]
        wait_until(lambda: len(list(main.glob("begun-*"))) == 2, running.log)
        (main / "open").touch()
        wait_until(lambda: all(outside.status(job) == "completed" for job in jobs))
    assert len({outside.job(job)["result"] for job in jobs}) == 2
    assert {outside.job(job)["retry_count"] for job in jobs} == {0}


def test_sigterm_lets_the_running_job_finish(
    main: Path, environment: dict[str, str], outside: Outside
) -> None:
    with uvicorn(main, environment) as running:
        job = outside.enqueue("gates", {"n": 1})
        wait_until(lambda: list(main.glob("begun-*")), running.log)
        running.terminate()
        running.wait_for("Waiting for application shutdown")
        assert not (main / "closed").exists()
        (main / "open").touch()
        running.wait()
        assert (main / "closed").exists()
    assert outside.status(job) == "completed"
    assert outside.job(job)["retry_count"] == 0


def test_a_reload_lets_the_running_job_finish_in_the_old_process(
    main: Path, environment: dict[str, str], outside: Outside
) -> None:
    with uvicorn(main, environment, "--reload") as running:
        job = outside.enqueue("gates", {"n": 1})
        wait_until(lambda: list(main.glob("begun-*")), running.log)
        (main / "main.py").write_text(MAIN.replace('"red"', '"green"'), encoding="utf-8")
        running.wait_for("Waiting for application shutdown")
        (main / "open").touch()
        after = outside.enqueue("things", {"n": 2})
        wait_until(lambda: outside.status(after) == "completed", running.log)
    (begun,) = main.glob("begun-*")
    assert str(outside.job(job)["result"]) == begun.name.partition("-")[2]
    assert outside.job(job)["retry_count"] == 0
    assert outside.job(after)["result"][:2] == ["green", "round"]


def worker(folder: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooled", "worker", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=HOPELESS
    )


def test_the_worker_command_runs_inside_the_applications_lifespan(
    main: Path, environment: dict[str, str], outside: Outside
) -> None:
    job = outside.enqueue("things", {"n": 1})
    # Even so: the application must not start workers of its own in here.
    done = worker(main, {**environment, "SPOOLED_RUN_WORKER": "1"}, "main:spooled", "--burst")
    assert done.returncode == 0, done.stderr
    assert outside.job(job)["result"][:2] == ["red", "round"]
    assert (main / "closed").exists()


def test_the_worker_command_drains_at_sigterm(
    main: Path, environment: dict[str, str], outside: Outside
) -> None:
    command = ["-m", "spooled", "worker", "main:spooled"]
    with Process(*command, cwd=main, environment=environment) as running:
        job = outside.enqueue("gates", {"n": 1})
        wait_until(lambda: list(main.glob("begun-*")))
        running.terminate()
        (main / "open").touch()
        assert running.wait() == 0
    assert outside.status(job) == "completed"
    assert (main / "closed").exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("spooled = Spooled()", "shop declares no jobs"),
        ("spooled = Spooled()\nspooled.job('q')(lambda ctx: None)", "shop has no FastAPI application"),
        (
            "spooled = Spooled()\nspooled.job('q')(lambda ctx: None)\none, two = FastAPI(), FastAPI()",
            r"several FastAPI applications (one, two); say whose lifespan jobs run in",
        ),
        (
            "spooled = Spooled(app='shop:create')\nspooled.job('q')(lambda ctx: None)",
            "module shop has no 'create'",
        ),
        ("spooled = Spooled(app='shop')\nspooled.job('q')(lambda ctx: None)", 'must be "MODULE:NAME"'),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, environment: dict[str, str], program: str, message: str
) -> None:
    source = f"from fastapi import FastAPI\nfrom spooled_contrib.fastapi import Spooled\n{program}\n"
    (tmp_path / "shop.py").write_text(source, encoding="utf-8")
    done = worker(tmp_path, environment, "shop:spooled", "--burst")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_an_application_from_a_factory(main: Path, environment: dict[str, str], outside: Outside) -> None:
    source = MAIN.replace("app = FastAPI(", "def create():\n    return FastAPI(").replace(
        "app.include", "# app.include"
    )
    source = source.replace("Spooled(", "Spooled(app='main:create', ")
    (main / "main.py").write_text(source, encoding="utf-8")
    job = outside.enqueue("things", {"n": 1})
    done = worker(main, environment, "main:spooled", "--burst")
    assert done.returncode == 0, done.stderr
    assert outside.job(job)["result"][:2] == ["red", "round"]
