"""`spooled server` as a process: what it prints, how it stops, how it fails, what survives `kill -9`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from spooled_contrib.server import DEVELOPMENT_KEY, EmbeddedServer, StorageUnavailableError
from tests.processes import Process
from tests.waiting import HOPELESS

MAIN = (
    "import argparse, sys; from spooled_contrib.server.command import add_server;"
    "parser = argparse.ArgumentParser(prog='spooled'); add_server(parser.add_subparsers(required=True));"
    "args = parser.parse_args(); sys.exit(args.run(args))"
)


def arguments(*args):
    return ["-W", "error", "-c", MAIN, "server", *args]


def environment(**extra):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
    return {**kept, **extra}


def fails(*args, **extra):
    done = subprocess.run(
        [sys.executable, *arguments(*args)],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=HOPELESS,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.fixture
def spawn():
    with ExitStack() as processes:

        def start(*args, **extra):
            process = processes.enter_context(
                Process(*arguments("--port", "0", *args), environment=environment(**extra), apart=True)
            )
            return process, json.loads(process.find(r"(?m)^\{.*\}$"))

        yield start


def caller(url, key=DEVELOPMENT_KEY):
    return httpx.Client(
        base_url=url + "/api/v1", headers={"authorization": f"Bearer {key}"}, verify=False, timeout=20
    )


def test_one_line_of_json_says_where_it_listens(spawn):
    process, told = spawn()
    assert told["event"] == "listening"
    assert told["pid"] == process.popen.pid
    assert told["url"] == f"http://127.0.0.1:{told['port']}"
    assert told["db"] == ":memory:"
    with caller(told["url"]) as http:
        assert http.get("/jobs").json() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_even_with_a_stream_open(spawn, number):
    process, told = spawn()
    with caller(told["url"]) as http, http.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": connected"
        process.send(number)
        assert list(lines) == [""]
    assert process.wait() == 0
    assert len(process.lines) == 1
    assert "development key" in process.log
    assert "Traceback" not in process.log


def test_flags_can_come_from_the_environment(spawn, tmp_path):
    path = str(tmp_path / "jobs.db")
    process, told = spawn(
        SPOOLED_SERVER_DB=path, SPOOLED_SERVER_API_KEY="a-key-of-my-own", SPOOLED_SERVER_HOST="0.0.0.0"
    )
    assert (told["db"], told["host"]) == (path, "0.0.0.0")
    with caller(f"http://127.0.0.1:{told['port']}", "a-key-of-my-own") as http:
        assert http.get("/jobs").status_code == 200
    process.terminate()
    process.wait()
    assert "a-key-of-my-own" not in process.log


def test_limits_can_be_given(spawn):
    _, told = spawn("--active-jobs", "1", "--requests-per-second", "500")
    with caller(told["url"]) as http:
        job = {"queue_name": "mail", "payload": 1}
        first, second = (http.post("/jobs", json=job) for _ in range(2))
        assert (first.status_code, second.json()["code"]) == (201, "QUOTA_EXCEEDED")
        assert first.headers["x-ratelimit-limit"] == "1000"


def unusable(path):
    """Make what no server can use; the name says what it is."""
    match path.name:
        case "text":
            path.write_text("hello\n" * 2000)
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "foreign":
            with closing(sqlite3.connect(path)) as database:
                database.execute("CREATE TABLE t (x)")
        case _:
            with EmbeddedServer(db=str(path)) as server, caller(server.url) as http:
                job = {"queue_name": "mail", "payload": "x" * 200_000}
                assert http.post("/jobs", json=job).status_code == 201
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
            with path.open("r+b") as opened:
                size = opened.seek(0, os.SEEK_END)
                if path.name == "short":
                    opened.truncate(size // 2)
                elif path.name == "header":
                    opened.seek(16)
                    opened.write(b"\xff" * 84)
                elif path.name == "pages":
                    opened.seek(size // 3)
                    opened.write(os.urandom(size // 3))
            if path.name == "newer":
                with closing(sqlite3.connect(path)) as database:
                    database.execute("PRAGMA user_version = 999")


class TestFailing:
    def test_the_development_key_on_an_open_address(self):
        code, line = fails("--host", "0.0.0.0", "--port", "0")
        assert code == 2
        assert line.startswith(
            "spooled server: refusing to listen on 0.0.0.0 with the public development key"
        )
        assert "--api-key" in line

    def test_a_key_that_is_too_short(self):
        assert fails("--api-key", "short", "--port", "0")[0] == 2

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.1", "", "a" * 300])
    def test_a_host_that_is_not_here(self, host):
        code, line = fails("--host", host, "--port", "0", "--api-key", "a-key-of-my-own")
        assert line.startswith("spooled server: ")
        assert code in (1, 2)

    @pytest.mark.parametrize("port", ["-1", "65536", "http", "8080.5", "٣"])
    def test_a_port_that_is_none(self, port):
        code, line = fails(f"--port={port}")
        assert code == 2
        assert "is not a port" in line

    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            code, line = fails("--port", str(port))
        assert code == 1
        assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in line

    @pytest.mark.parametrize("name", ["missing/jobs.db", ".", "bad\nname/x"])
    def test_a_database_that_cannot_be_opened(self, tmp_path, name):
        code, line = fails("--port", "0", "--db", str(tmp_path / name))
        assert code == 1
        assert "Name a file" in line

    @pytest.mark.parametrize("name", ["", " "])
    def test_a_database_without_a_name(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        code, line = fails("--port", "0", "--db", name)
        assert code == 2
        assert "is empty" in line
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("text", "it is not a SQLite database"),
            ("directory", "it is a directory"),
            ("pipe", "it is no regular file"),
            ("foreign", "was not made by this version of the server"),
            ("newer", "was not made by this version of the server"),
            ("short", "damaged"),
            ("header", "damaged"),
            ("pages", "damaged"),
        ],
    )
    def test_a_file_that_is_no_database_of_ours(self, tmp_path, name, words):
        path = tmp_path / name
        unusable(path)
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(StorageUnavailableError, match=words) as caught:
            EmbeddedServer(db=str(path)).start()
        assert "\n" not in str(caught.value)
        # It is left as it was, and nothing is left beside it.
        assert (path.read_bytes() if path.is_file() else None) == before
        assert [one.name for one in tmp_path.iterdir()] == [name]

    def test_a_file_with_broken_pages_is_one_line(self, tmp_path):
        unusable(tmp_path / "pages")
        code, line = fails("--port", "0", "--db", str(tmp_path / "pages"))
        assert code == 1
        assert line.startswith("spooled server: cannot use the database file")
        assert line.endswith("Put a backup in its place")

    @pytest.mark.skipif(not hasattr(os, "setresuid"), reason="this system has no users to change to")
    @pytest.mark.parametrize("what", ["the file", "its directory"])
    def test_a_file_that_this_user_may_not_use(self, what):
        # Not below the directory of the tests, which nobody else may enter.
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            path = folder / "jobs.db"
            if what == "the file":
                path.touch(mode=0o400)
                folder.chmod(0o777)
            else:
                folder.chmod(0o555)
            root = os.getuid() == 0
            if root:
                os.setresuid(65534, 65534, 0)  # nobody, and the way back
            try:
                with pytest.raises(StorageUnavailableError, match="cannot use the database file") as caught:
                    EmbeddedServer(db=str(path)).start()
            finally:
                if root:
                    os.setresuid(0, 0, 0)
            assert "\n" not in str(caught.value)
            assert [one.name for one in folder.iterdir()] == (["jobs.db"] if what == "the file" else [])

    def test_a_database_in_use(self, spawn, tmp_path):
        path = str(tmp_path / "jobs.db")
        spawn("--db", path)
        code, line = fails("--port", "0", "--db", path)
        assert code == 1
        assert "in use by another server" in line

    def test_a_limit_that_is_none(self):
        assert fails("--active-jobs", "0")[0] == 2
        assert fails("--requests-per-second", "nan")[0] == 2


def test_every_answered_enqueue_survives_a_kill(spawn, tmp_path):
    path = str(tmp_path / "jobs.db")
    process, told = spawn("--db", path)
    answered: list[str] = []
    enough = threading.Event()

    def enqueue(thread):
        with caller(told["url"]) as http:
            number = 0
            while True:
                try:
                    if number % 3:
                        response = http.post(
                            "/jobs", json={"queue_name": "mail", "payload": [thread, number]}
                        )
                        ids = [response.json()["id"]]
                    else:
                        jobs = [{"payload": [thread, number, item]} for item in range(10)]
                        response = http.post("/jobs/bulk", json={"queue_name": "mail", "jobs": jobs})
                        ids = [item["job_id"] for item in response.json()["succeeded"]]
                except (httpx.HTTPError, json.JSONDecodeError):
                    return
                answered.extend(ids)
                number += 1
                if len(answered) > 500:
                    enough.set()

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(enqueue, number) for number in range(4)]
        assert enough.wait(HOPELESS)
        process.kill()
        for future in futures:
            future.result()
    _, told = spawn("--db", path)
    with caller(told["url"]) as http:
        for start in range(0, len(answered), 100):
            wanted = answered[start : start + 100]
            found = http.get("/jobs/status", params={"ids": ",".join(wanted)}).json()
            assert {job["id"] for job in found} == set(wanted)
        total = http.get("/jobs/stats").json()["total"]
        # What was not answered may be there or not, but a batch is there as a whole.
        assert total >= len(answered)
    database = sqlite3.connect(path)
    (broken,) = database.execute(
        "SELECT COUNT(*) FROM (SELECT substr(payload, 1, length(payload) - 3) AS batch, COUNT(*) AS size "
        "FROM jobs WHERE json_array_length(payload) = 3 GROUP BY batch HAVING size <> 10)"
    ).fetchone()
    (check,) = database.execute("PRAGMA integrity_check").fetchone()
    database.close()
    assert (broken, check) == (0, "ok")


def test_a_plan_can_come_from_the_environment_and_a_flag_wins(spawn):
    for arguments, plan in (((), "starter"), (("--plan", "pro"), "pro")):
        _, told = spawn(*arguments, SPOOLED_SERVER_PLAN="starter")
        with caller(told["url"]) as http:
            assert http.get("/organizations/usage").json()["plan"] == plan


def test_a_plan_that_there_is_not_is_refused():
    assert fails("--plan", "gold")[0] == 2
    code, message = fails("--port", "0", SPOOLED_SERVER_PLAN="gold")
    assert (code, "gold" in message) == (2, True)


def test_secrets_of_the_environment_open_metrics_and_administration(spawn):
    process, told = spawn(SPOOLED_SERVER_METRICS_TOKEN="scrape-me", SPOOLED_SERVER_ADMIN_KEY="admin-secret")
    with httpx.Client(base_url=told["url"], verify=False) as http:
        assert http.get("/metrics").status_code == 401
        assert http.get("/metrics", headers={"authorization": "Bearer scrape-me"}).status_code == 200
        assert http.get("/api/v1/admin/stats", headers={"x-admin-key": "admin-secret"}).status_code == 200
    process.terminate()
    process.wait()
    assert "scrape-me" not in process.log
    assert "admin-secret" not in process.log


def test_webhook_deliveries_survive_a_kill(spawn, tmp_path, receiver, eventually):
    path = str(tmp_path / "jobs.db")
    receiver.status = 500
    process, told = spawn("--db", path, "--allow-private-webhooks")
    with caller(told["url"]) as http:
        body = {"name": "x", "url": receiver.url(), "events": ["job.created"]}
        webhook = f"/outgoing-webhooks/{http.post('/outgoing-webhooks', json=body).json()['id']}/deliveries"
        http.post("/jobs", json={"queue_name": "mail", "payload": 1})
        (delivery,) = eventually(lambda: [row for row in http.get(webhook).json() if row["attempts"]])
        process.kill()
    receiver.status = 200
    _, told = spawn("--db", path, "--allow-private-webhooks")
    with caller(told["url"]) as http:
        eventually(lambda: http.get(webhook).json()[0]["status"] == "success")
    assert {request.json["id"] for request in receiver.requests} == {delivery["id"]}


def test_a_missing_extra_is_told_in_one_line(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'uvicorn' else find(name, *rest)\n"
    )
    code, line = fails("--port", "0", PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    assert code == 1
    assert line == 'spooled server: uvicorn not installed: pip install "spooled-contrib[server]"'


def test_more_connections_than_a_shell_allows_are_taken():
    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, {hard})); {MAIN}"
    with ExitStack() as stack:
        process = stack.enter_context(
            Process("-c", lowered, "server", "--port", "0", environment=environment(), apart=True)
        )
        url = json.loads(process.find(r"(?m)^\{.*\}$"))["url"]
        host, port = url.removeprefix("http://").split(":")
        opened = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=HOPELESS))
            for _ in range(200)
        ]
        for connection in opened:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert {connection.recv(12) for connection in opened} == {b"HTTP/1.1 200"}
