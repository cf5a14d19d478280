"""The server is killed or frozen while tasks end: their results wait, and nothing fails or runs twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery, chord, group
from kombu.pools import reset as reset_pools

from spooled import NetworkError
from tests.kombu.conftest import needs
from tests.kombu.result_ways import PATIENCE, Ways
from tests.ports import free_port
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until

KEY = "sp_test_outage_0123456789"
GEVENT = needs("gevent")
ALL = ["prefork", "threads", "solo", "bridge", pytest.param("gevent", marks=GEVENT.marks)]


class RealServer:
    """A server as a process on one file and one port, which can be killed, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: Process
        self.start()

    def start(self) -> None:
        options = [
            "--port",
            str(self.port),
            "--db",
            str(self.folder / "jobs.db"),
            "--api-key",
            KEY,
            "--no-page",
        ]
        self.process = Process("-m", "spooled", "server", *options, cwd=self.folder)
        self.process.wait_for('"listening"')

    def kill(self) -> None:
        self.process.kill()

    @property
    def broker(self) -> str:
        return f"spooled+http://:{KEY}@127.0.0.1:{self.port}?poll=0.1&timeout=2"

    def counts(self, queue: str = "celery") -> dict[str, int]:
        answer = httpx.get(
            f"http://127.0.0.1:{self.port}/api/v1/jobs/stats",
            params={"queue_name": queue},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=PATIENCE,
        )
        return dict(answer.json())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    running = RealServer(folder)
    yield running
    running.kill()


@pytest.fixture
def ways(server: RealServer, tmp_path: Path) -> Ways:
    return Ways(tmp_path, server.broker)


@pytest.fixture
def app(ways: Ways) -> Iterator[Celery]:
    made = ways.app()
    yield made
    made.backend.close()
    made.pool.force_close_all()
    made.close()
    reset_pools()


def get(result: Any) -> Any:
    return result.get(timeout=PATIENCE, interval=0.05)


@pytest.mark.parametrize("way", ALL)
def test_tasks_that_end_while_the_server_is_away(
    app: Celery, ways: Ways, server: RealServer, way: str
) -> None:
    with ways.run(way) as process:
        ways.wait_until_ready(process)
        held, fails = app.tasks["held"], app.tasks["held_fails"]
        if way == "solo":
            results = [held.delay("one")]
        else:
            results = [chord([held.s("one"), held.s("two")])(app.tasks["joined"].s())]
        wait_until(lambda: len(ways.notes) == len(results) * (1 if way == "solo" else 2), process.log)
        server.kill()
        (ways.folder / "open").touch()
        wait_until(lambda: "end one" in ways.notes, process.log)
        process.find("trying again|failed; all are tried again|claiming from celery failed")
        server.start()
        assert get(results[0]) == ("one" if way == "solo" else "one two"), process.log
        bad = fails.delay("three")
        with pytest.raises(ValueError, match="three"):
            get(bad)
        words = [note for note in ways.notes if note.startswith("begin")]
        assert sorted(words) == sorted(set(words)), process.log
        assert "INTERNAL ERROR" not in process.log


@pytest.mark.parametrize("way", ["prefork", "threads"])
def test_failures_and_states_while_the_server_is_away(
    app: Celery, ways: Ways, server: RealServer, way: str
) -> None:
    with ways.run(way) as process:
        ways.wait_until_ready(process)
        bad, states = app.tasks["held_fails"].delay("bad"), app.tasks["held_states"].delay("states")
        wait_until(lambda: len(ways.notes) == 2, process.log)
        server.kill()
        (ways.folder / "open").touch()
        wait_until(lambda: "end bad" in ways.notes, process.log)
        process.find("storing .* failed; trying again")
        server.start()
        with pytest.raises(ValueError, match="bad"):
            get(bad)
        assert get(states) == "states", process.log
        assert sorted(note for note in ways.notes if note.startswith("begin")) == [
            "begin bad",
            "begin states",
        ]


@pytest.mark.parametrize("way", ["prefork", "threads", "bridge"])
def test_a_frozen_server(app: Celery, ways: Ways, server: RealServer, way: str) -> None:
    with ways.run(way) as process:
        ways.wait_until_ready(process)
        result = app.tasks["held"].delay("one")
        wait_until(lambda: ways.notes == ["begin one"], process.log)
        server.process.send(signal.SIGSTOP)
        (ways.folder / "open").touch()
        wait_until(lambda: "end one" in ways.notes, process.log)
        process.find("trying again|failed; all are tried again|claiming from celery failed")
        server.process.send(signal.SIGCONT)
        assert get(result) == "one", process.log
        assert ways.notes == ["begin one", "end one"]


@pytest.mark.parametrize("way", ["prefork", "threads"])
def test_a_worker_that_is_told_to_end_does_not_wait_for_ever(
    app: Celery, ways: Ways, server: RealServer, way: str
) -> None:
    with ways.run(way) as process:
        ways.wait_until_ready(process)
        app.tasks["held"].delay("one")
        app.tasks["held_states"].delay("two")
        wait_until(lambda: len(ways.notes) == 2, process.log)
        server.kill()
        (ways.folder / "open").touch()
        process.find("storing .* failed; trying again")
        process.terminate()
        process.wait_for("Warm shutdown")
        wait_until(lambda: process.ended or "were not accepted in time" in process.log, process.log)
        assert process.wait() == 0, process.log
        assert "was not stored before the worker ended" in process.log


def test_retries_end_where_the_settings_say_so(tmp_path: Path, server: RealServer) -> None:
    ways = Ways(tmp_path, server.broker, result_backend_max_retries=1)
    app = ways.app()
    with ways.run("prefork") as process:
        ways.wait_until_ready(process)
        result = app.tasks["held"].delay("one")
        wait_until(lambda: ways.notes == ["begin one"], process.log)
        server.kill()
        (ways.folder / "open").touch()
        process.find("was not stored in 2 attempts")
        server.start()
        wait_until(lambda: result.status == "FAILURE", process.log)
        assert "BackendStoreError" in repr(result.result)
    app.backend.close()
    app.pool.force_close_all()
    app.close()
    reset_pools()


def test_a_group_is_saved_when_the_server_is_back(app: Celery, server: RealServer) -> None:
    made = group(app.tasks["add"].s(n) for n in range(2))()
    server.kill()

    def save() -> None:
        made.save()
        app.backend.close()  # each thread has its own

    saving = threading.Thread(target=save)
    saving.start()
    server.start()
    saving.join(HOPELESS)
    assert not saving.is_alive()
    restored = app.GroupResult.restore(made.id, app=app)
    assert [one.id for one in restored.results] == [one.id for one in made.results]


def test_reading_says_at_once_that_the_server_is_away(tmp_path: Path, server: RealServer) -> None:
    ways = Ways(tmp_path, server.broker)
    app = ways.app()
    result = app.tasks["add"].delay(1)
    server.kill()
    with pytest.raises(NetworkError):
        result.status  # noqa: B018
    server.start()
    assert result.status == "PENDING"
    app.backend.close()
    app.pool.force_close_all()
    app.close()
    reset_pools()
