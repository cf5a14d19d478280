"""`spooled_worker --processes` and `--autoreload`: how many processes there are, what they run, and how they end."""

from __future__ import annotations

import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.django.test_worker import Manage, begun
from tests.proc import children_of, lives, needs_proc
from tests.processes import Process
from tests.waiting import wait_until
from tests.worker.conftest import Outside

pytestmark = needs_proc

SUBCLASS = """
import os
from pathlib import Path
from django.core.management.base import CommandParser
from spooled_contrib.django.management.commands import spooled_worker

class Command(spooled_worker.Command):
    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.set_defaults(processes=2)
        parser.add_argument("--folder", type=Path, required=True)

    def handle(self, *args, **options):
        (options["folder"] / f"handled-{os.getpid()}").touch()
        super().handle(*args, **{**options, "processes": 2, "queue": ["gates"]})
"""

SCRIPT = """
import django
django.setup()
from django.core.management import call_command
call_command("spooled_worker", CALL)
"""


@pytest.fixture
def manage(tmp_path: Path, settings_of: dict[str, Any]) -> Manage:
    return Manage(tmp_path, settings_of)


def script(manage: Manage, text: str, **environment: str) -> Process:
    path = manage.folder / "script.py"
    path.write_text(text, encoding="utf-8")
    everything = {**manage.environment, "DJANGO_SETTINGS_MODULE": "settings", **environment}
    return Process(str(path), cwd=manage.folder, environment=everything)


def registered(outside: Outside) -> list[dict[str, Any]]:
    return [worker for worker in outside.workers() if worker["status"] == "healthy"]


def expect_workers(running: Process, outside: Outside, count: int) -> list[int]:
    """Wait until that many are registered; the processes, which are no more and have no children."""
    wait_until(lambda: len(registered(outside)) >= count or running.ended, running.log)
    children = children_of(running.popen.pid)
    assert not running.ended, running.log
    assert len(children) == len(registered(outside)) == count, running.log
    assert not any(children_of(child) for child in children)
    return children


@pytest.mark.parametrize(
    ("argv", "count"),
    [
        (["--processes", "2"], 2),
        (["--process", "2"], 2),
        (["--proc=2"], 2),
        (["--autoreload"], 1),
        (["--auto"], 1),
        (["--processes", "1"], 0),
    ],
)
def test_there_are_as_many_as_were_asked_for(
    manage: Manage, outside: Outside, argv: list[str], count: int
) -> None:
    with manage.running("spooled_worker", *argv, "--queue", "gates", "--skip-checks") as running:
        if count:
            expect_workers(running, outside, count)
        else:
            wait_until(lambda: registered(outside), running.log)
            assert not children_of(running.popen.pid)
        running.terminate()
        assert running.wait() == 0
    assert "Traceback" not in running.log


@pytest.mark.parametrize(
    "call", ["processes=2, queue=['gates']", "'--queue=gates', processes='2', wait=30.0"]
)
def test_call_command(manage: Manage, outside: Outside, call: str) -> None:
    with script(manage, SCRIPT.replace("CALL", call)) as running:
        expect_workers(running, outside, 2)
        running.terminate()
        assert running.wait() == 0


def test_a_subclass_with_defaults_of_its_own(manage: Manage, outside: Outside, tmp_path: Path) -> None:
    commands = tmp_path / "liveapp" / "management" / "commands"
    commands.mkdir(parents=True)
    for folder in (commands, commands.parent, commands.parents[1]):
        (folder / "__init__.py").touch()
    (commands / "bomb.py").write_text(SUBCLASS, encoding="utf-8")
    path = os.pathsep.join([manage.environment["PYTHONPATH"], str(tmp_path)])
    environment = {"PROJECT_APPS": '["liveapp"]', "PYTHONPATH": path}
    with manage.running("bomb", "--folder", str(tmp_path), **environment) as running:
        children = expect_workers(running, outside, 2)
        handled = {int(path.name.partition("-")[2]) for path in tmp_path.glob("handled-*")}
        assert handled == {running.popen.pid, *children}
        running.terminate()
        assert running.wait() == 0


def test_settings_and_paths_and_options_reach_the_processes(
    manage: Manage, outside: Outside, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other_settings.py").write_text("from settings import *\nOTHER = True\n", encoding="utf-8")
    (elsewhere / "otherapp").mkdir()
    (elsewhere / "otherapp" / "__init__.py").touch()
    (elsewhere / "otherapp" / "jobs.py").write_text(
        "import os, sys\n"
        "from django.conf import settings\n"
        "from spooled_contrib.django import job\n"
        "@job('other')\n"
        "def other():\n"
        "    ours = [name for name in os.environ if name.startswith('SPOOLED_')]\n"
        "    return [settings.OTHER, os.environ.get('PYTHONPATH'), sys.argv[1:], ours, sys.flags.optimize]\n",
        encoding="utf-8",
    )
    argv = ["--queue", "other", "--processes", "2", "--settings", "other_settings", "--pythonpath"]
    job = outside.enqueue("other", None)
    program = str(Path(__file__).parent / "project" / "manage.py")
    environment = {**manage.environment, "PROJECT_APPS": '["otherapp"]', "DJANGO_SETTINGS_MODULE": "nowhere"}
    command = ["-O", program, "spooled_worker", *argv, str(elsewhere), "-v0"]
    with Process(*command, cwd=manage.folder, environment=environment) as running:
        wait_until(lambda: outside.status(job) == "completed", running.log)
        running.terminate()
        assert running.wait() == 0
    assert outside.job(job)["result"] == [True, environment["PYTHONPATH"], ["spooled_worker"], [], 1]
    assert "started on queue" not in running.log


def test_django_configurations_is_set_up(manage: Manage, outside: Outside, tmp_path: Path) -> None:
    # As that package does it; it is not needed for more.
    (tmp_path / "configurations.py").write_text(
        "import os, pathlib, django\n"
        "def setup():\n"
        "    pathlib.Path(f'configured-{os.getpid()}').touch()\n"
        "    django.setup()\n",
        encoding="utf-8",
    )
    text = SCRIPT.replace("django.setup()", "import configurations; configurations.setup()")
    text = text.replace("CALL", "processes=2, queue=['gates']")
    with script(manage, text, DJANGO_CONFIGURATION="Dev") as running:
        children = expect_workers(running, outside, 2)
        configured = {int(path.name.partition("-")[2]) for path in tmp_path.glob("configured-*")}
        assert configured == {running.popen.pid, *children}
        running.terminate()
        assert running.wait() == 0


def test_settings_that_only_this_process_has_are_refused(manage: Manage) -> None:
    configured = (
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['spooled_contrib.django'], SPOOLED={'API_KEY': 'sp_test_' + 'x' * 20})\n"
    )
    for call in ("processes=2", "autoreload=True"):
        with script(manage, configured + SCRIPT.replace("CALL", call)) as running:
            assert running.wait() == 1
        assert running.lines[-1].startswith("django.core.management.base.CommandError: several processes")
        assert "settings module" in running.lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"processes": 0}, "--processes: '0' is not a whole number from 1 to 64"),
        ({"processes": -1}, "--processes: '-1' is not a whole number"),
        ({"processes": "many"}, "--processes: 'many' is not a whole number"),
        ({"processes": True}, "--processes: 'True' is not a whole number"),
        ({"processes": 65}, "from 1 to 64"),
        ({"concurrency": "0"}, "--concurrency: '0' is not a whole number from 1 to 100"),
        ({"processes": 2, "autoreload": True}, "--autoreload is for one process"),
        ({"processes": "2", "health_port": 1}, "--health-port is for one process"),
    ],
)
def test_mistakes_of_call_command(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("spooled_worker", **options)


def test_another_thread_than_the_main_one_is_refused() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(CommandError, match="main thread"):
        pool.submit(call_command, "spooled_worker", processes=2).result()


def test_a_list_is_printed_once() -> None:
    output = io.StringIO()
    call_command("spooled_worker", list=True, processes=2, queue=["gates"], stdout=output)
    assert output.getvalue().count("gates") == 1


@pytest.mark.parametrize(
    ("argv", "number"),
    [
        (["--processes", "2"], signal.SIGKILL),
        (["--processes", "2"], signal.SIGHUP),
        (["--autoreload"], signal.SIGKILL),
        (["--autoreload"], signal.SIGHUP),
    ],
)
def test_workers_drain_and_end_with_their_supervisor(
    manage: Manage, outside: Outside, tmp_path: Path, argv: list[str], number: signal.Signals
) -> None:
    job = outside.enqueue("gates", str(tmp_path))
    with manage.running("spooled_worker", *argv, "--queue", "gates") as running:
        children = expect_workers(running, outside, 2 if "2" in argv else 1)
        wait_until(lambda: begun(tmp_path), running.log)
        running.send(number)
        running.wait_for("finishing 1 running job")
        (tmp_path / "open").touch()
        wait_until(lambda: not any(map(lives, children)), running.log)
        assert running.wait() == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    assert (outside.status(job), outside.job(job)["retry_count"]) == ("completed", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_counts_once(
    manage: Manage, outside: Outside, tmp_path: Path, number: signal.Signals
) -> None:
    job = outside.enqueue("gates", str(tmp_path))
    with manage.running("spooled_worker", "--processes", "2", "--queue", "gates") as running:
        expect_workers(running, outside, 2)
        wait_until(lambda: begun(tmp_path), running.log)
        os.killpg(running.popen.pid, number)
        running.wait_for("finishing 1 running job")
        assert "cutting off" not in running.log
        (tmp_path / "open").touch()
        assert running.wait() == 0
    assert (outside.status(job), outside.job(job)["retry_count"]) == ("completed", 0)


def test_a_process_that_ends_at_once_is_started_again_more_and_more_slowly(manage: Manage) -> None:
    text = (
        "import logging, sys\n"
        "from spooled.cli.children import Child\n"
        "from spooled_contrib.django import _processes\n"
        "logging.basicConfig()\n"
        "command = [sys.executable, '-c', 'raise SystemExit(3)']\n"
        "sys.exit(_processes.run(lambda ended: Child(command, ended), 1))\n"
    )
    with script(manage, text) as running:
        running.wait_for("exit code 3; starting it again in 2 s")
        running.terminate()
        assert running.wait() == 0
    assert "again in 0.5 s" in running.log
    assert "again in 1 s" in running.log
    assert running.log.count("starting it again") == 4


def test_a_pool_of_a_job_is_no_business_of_the_worker(
    manage: Manage, outside: Outside, tmp_path: Path
) -> None:
    (tmp_path / "poolapp").mkdir()
    (tmp_path / "poolapp" / "__init__.py").touch()
    (tmp_path / "poolapp" / "jobs.py").write_text(
        "from spooled_contrib.django import job\n"
        "from tests import forks\n"
        "@job('forks', max_retries=0)\n"
        "def fork(way: str) -> object:\n"
        "    return forks.run(way)\n",
        encoding="utf-8",
    )
    path = os.pathsep.join([manage.environment["PYTHONPATH"], str(tmp_path)])
    environment = {"PROJECT_APPS": '["poolapp"]', "PYTHONPATH": path}
    ways = ["pool", "terminated", "returns", "pool", "kept fork executor"]
    with manage.running("spooled_worker", "--queue", "forks", **environment) as running:
        jobs = [outside.enqueue("forks", way) for way in ways]
        wait_until(
            lambda: all(outside.status(job) == "completed" for job in jobs) or running.ended, running.log
        )
        assert not running.ended, running.log
        running.terminate()
        assert running.wait() == 0
