"""`spooled server backup`: of a server that is busy, to a file that a server can be started on."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from spooled_contrib.server import EmbeddedServer
from spooled_contrib.server.command import add_server
from tests.processes import Process
from tests.server.test_command import arguments, caller, environment
from tests.waiting import HOPELESS, wait_until

pytestmark = pytest.mark.sqlite_only


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def backup(capsys, monkeypatch):
    """Run the command in this process."""

    def run(*args, **extra):
        for name in [name for name in os.environ if name.startswith("SPOOLED_")]:
            monkeypatch.delenv(name)
        for name, value in extra.items():
            monkeypatch.setenv(name, value)
        parser = argparse.ArgumentParser(prog="spooled")
        add_server(parser.add_subparsers(required=True))
        capsys.readouterr()
        parsed = parser.parse_args(["server", *args])
        return Done(parsed.run(parsed), *capsys.readouterr())

    return run


@pytest.fixture
def refused(backup):
    """Run the command; what it says when there is no backup: one line."""

    def run(*args, **extra):
        done = backup(*args, **extra)
        assert done.returncode in (1, 2), done.stderr
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("spooled server backup: ")
        return line

    return run


@contextlib.contextmanager
def served(path, *args):
    with Process(
        *arguments("--port", "0", "--db", str(path), *args), environment=environment(), apart=True
    ) as process:
        url = json.loads(process.find(r"(?m)^\{.*\}$"))["url"]
        with caller(url) as http:
            yield http, process


@pytest.fixture
def stopped(tmp_path):
    """The file of a server that was stopped, with one job in it."""
    path = tmp_path / "jobs.db"
    with EmbeddedServer(db=str(path)) as server, caller(server.url) as http:
        assert http.post("/jobs", json={"queue_name": "mail", "payload": 1}).status_code == 201
    return path


def names(folder):
    return sorted(one.name for one in folder.iterdir())


def jobs_in(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in database.execute("SELECT id FROM jobs")}


def test_a_backup_of_a_busy_server_holds_all_that_was_answered(tmp_path, backup):
    path, target = tmp_path / "jobs.db", tmp_path / "safe" / "backup.db"
    target.parent.mkdir()
    answered: list[str] = []
    stopping = threading.Event()

    def write(http):
        while not stopping.is_set():
            jobs = [{"payload": {"text": "x" * 500}} for _ in range(20)]
            reply = http.post("/jobs/bulk", json={"queue_name": "mail", "jobs": jobs}).json()
            answered.extend(job["job_id"] for job in reply["succeeded"])

    with served(path) as (http, process):
        threads = [threading.Thread(target=write, args=(http,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(answered) > 1000)
            before = set(answered)
            done = backup("backup", "--db", str(path), "--json", str(target))
            after = len(answered)
            wait_until(lambda: len(answered) > after, "the server goes on")
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
        assert done.returncode == 0, done.stderr
        assert http.get(str(http.base_url).replace("/api/v1/", "/health/ready")).status_code == 200
        told = json.loads(done.stdout)
        found = jobs_in(target)
        assert before <= found
        assert told == {
            "event": "backup",
            "source": str(path),
            "target": str(target),
            "bytes": target.stat().st_size,
            "jobs": len(found),
        }
        # A request is in it as a whole or not at all.
        assert len(found) % 20 == 0
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert names(target.parent) == ["backup.db"]
        process.terminate()
        assert process.wait() == 0
        assert "Traceback" not in process.log
    # The way back: stop, put the backup in the place of the file and of what lies beside it, start.
    for side in ("", "-wal", "-shm"):
        Path(f"{path}{side}").unlink(missing_ok=True)
    shutil.copy(target, path)
    with served(path) as (http, _):
        assert http.get("/jobs/stats").json()["total"] == len(found)
        job = http.post("/jobs/claim", json={"queue_name": "mail", "worker_id": "w"}).json()["jobs"][0]
        body = {"worker_id": "w", "lease_id": job["lease_id"]}
        assert http.post(f"/jobs/{job['id']}/complete", json=body).status_code == 200


def test_a_server_that_was_killed_leaves_a_log_that_is_in_the_backup(tmp_path, backup):
    path, target = tmp_path / "jobs.db", tmp_path / "backup.db"
    with served(path) as (http, process):
        made = http.post("/jobs", json={"queue_name": "mail", "payload": 1}).json()["id"]
        process.kill()
    assert backup("backup", "--db", str(path), str(target)).returncode == 0
    assert jobs_in(target) == {made}


def test_the_ways_to_name_the_source(stopped, tmp_path, backup):
    ways = [
        (["backup", "--db", str(stopped)], {}),
        (["--db", str(stopped), "backup"], {}),
        (["backup", str(stopped)], {}),
        (["backup"], {"SPOOLED_SERVER_DB": str(stopped)}),
        (["--db", "elsewhere.db", "backup", "--db", str(stopped)], {}),
    ]
    for number, (args, extra) in enumerate(ways):
        target = tmp_path / f"backup-{number}.db"
        done = backup(*args, str(target), **extra)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "1 jobs" in done.stderr
        assert len(jobs_in(target)) == 1


def test_nothing_is_replaced_unless_that_is_asked_for(stopped, tmp_path, backup, refused):
    target = tmp_path / "backup.db"
    target.write_text("precious")
    assert "exists. Name another file, or pass --force" in refused("backup", str(stopped), str(target))
    assert target.read_text() == "precious"
    assert backup("backup", "--force", str(stopped), str(target)).returncode == 0
    assert len(jobs_in(target)) == 1


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_file_that_is_in_use_is_no_target(stopped, tmp_path, force, refused):
    other = tmp_path / "other.db"
    with served(other) as (http, _):
        http.post("/jobs", json={"queue_name": "mail", "payload": 1})
        assert "exists" in refused("backup", *force, str(stopped), str(other))
        assert http.get("/jobs/stats").json()["total"] == 1


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_the_source_is_no_target(stopped, tmp_path, force, refused):
    (tmp_path / "link.db").symlink_to(stopped)
    for target in (stopped, tmp_path / "link.db", tmp_path / "." / "jobs.db"):
        assert "same file" in refused("backup", *force, str(stopped), str(target))
    assert len(jobs_in(stopped)) == 1


class TestFailing:
    def test_a_source_that_is_none(self, tmp_path, refused):
        target = tmp_path / "backup.db"
        (tmp_path / "text.db").write_text("hello\n" * 1000)
        (tmp_path / "empty.db").touch()
        with contextlib.closing(sqlite3.connect(tmp_path / "foreign.db")) as database:
            database.execute("CREATE TABLE jobs (x)")
        for name, words in (
            ("missing.db", "there is no database file"),
            ("", "in memory"),
            (":memory:", "in memory"),
            (".", "there is no database file"),
            ("text.db", "not a database"),
            ("empty.db", "not the database of a server"),
            ("foreign.db", "not the database of a server"),
        ):
            source = str(tmp_path / name) if name.endswith(("db", ".")) else name
            assert words in refused("backup", "--db", source, str(target)), name
        assert names(tmp_path) == ["empty.db", "foreign.db", "text.db"]

    def test_postgresql_has_its_own_tool(self, tmp_path, refused):
        line = refused("backup", "postgresql://ann:pa55word@db/jobs", str(tmp_path / "b.db"))
        assert "pg_dump" in line
        assert "pa55word" not in line

    @pytest.mark.parametrize("target", [".", "missing/b.db", "a/" * 3000 + "b"])
    def test_a_target_that_is_none(self, stopped, tmp_path, target, refused):
        before = names(tmp_path)
        refused("backup", str(stopped), str(tmp_path / target))
        assert names(tmp_path) == before

    def test_a_source_with_broken_pages(self, stopped, tmp_path, refused):
        with stopped.open("r+b") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(8192)
            opened.write(os.urandom(size // 2))
        before = names(tmp_path)
        line = refused("backup", str(stopped), str(tmp_path / "backup.db"))
        assert "damaged" in line or "malformed" in line
        assert names(tmp_path) == before

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
    def test_a_disk_without_room(self, stopped, tmp_path):
        limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        command = arguments()
        done = subprocess.run(
            [
                sys.executable,
                *command[:3],
                limited + command[3],
                "server",
                "backup",
                stopped,
                tmp_path / "b.db",
            ],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=HOPELESS,
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "cannot back up" in line
        assert not (tmp_path / "b.db").exists()
        assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_the_help_names_it(backup, capsys):
    for args, words in ((["--help"], "backup"), (["backup", "--help"], "TARGET")):
        with pytest.raises(SystemExit) as ended:
            backup(*args)
        assert ended.value.code == 0
        assert words in capsys.readouterr().out


def test_the_command_of_the_package_knows_it(stopped, tmp_path):
    main = "import sys; from spooled.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", main, "server", "backup", "--db", stopped, tmp_path / "b.db"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HOPELESS,
    )
    assert done.returncode == 0, done.stderr
    assert len(jobs_in(tmp_path / "b.db")) == 1
