"""Help, mistakes, and commands that other packages bring."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from spooled import __version__
from spooled.cli import _plugins
from tests.cli.conftest import Cli
from tests.waiting import HOPELESS

LEAVES = [
    ("worker",),
    ("jobs", "create"),
    ("jobs", "list"),
    ("jobs", "show"),
    ("jobs", "retry"),
    ("jobs", "cancel"),
    ("queues", "list"),
    ("queues", "stats"),
    ("queues", "pause"),
    ("queues", "resume"),
    ("workers", "list"),
    ("demo",),
    ("server",),
]


def test_without_arguments_it_shows_its_help(offline: Cli) -> None:
    result = offline()
    assert result.code == 0
    assert result.out.startswith("usage: spooled ")
    for word in (
        "worker",
        "jobs",
        "queues",
        "workers",
        "server",
        "demo",
        "SPOOLED_API_KEY",
        "SPOOLED_BASE_URL",
    ):
        assert word in result.out
    assert offline("--help").out == result.out


@pytest.mark.parametrize("group", ["jobs", "queues", "workers"])
def test_a_group_without_a_command_shows_its_help(offline: Cli, group: str) -> None:
    result = offline(group)
    assert result.code == 2
    assert result.out.startswith(f"usage: spooled {group}")
    assert "examples:" in result.out


@pytest.mark.parametrize("command", LEAVES)
def test_each_command_has_help(offline: Cli, command: tuple[str, ...]) -> None:
    result = offline(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"usage: spooled {' '.join(command)}")
    if command != ("server",):
        assert "examples:" in result.out
        assert "exit codes:" in result.out


def test_version(offline: Cli) -> None:
    assert offline("--version").out.startswith(f"spooled {__version__} (Python 3.")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["job"], "unknown command 'job'. Did you mean jobs? See spooled --help"),
        (["sever"], "unknown command 'sever'. Did you mean server? See spooled --help"),
        (["qqqqqq"], "unknown command 'qqqqqq' one of"),
        (["jobs", "lst"], "jobs: unknown command 'lst'. Did you mean list? See spooled jobs --help"),
        (["jobs", "list", "--statu", "x"], "jobs list: unknown option --statu. Did you mean --status?"),
        (["jobs", "list", "extra"], "jobs list: unexpected argument 'extra'. See spooled jobs list --help"),
        (["jobs", "list", "--status", "deadleter"], "'deadleter' is not a status. Did you mean deadletter?"),
        (
            ["jobs", "list", "--order", "priorty"],
            "'priorty' is not a field to sort by. Did you mean priority?",
        ),
        (["jobs", "list", "--order", "priority:up"], "'up' is neither asc nor desc"),
        (["jobs", "list", "--limit", "0"], "'0' is not a whole number from 1 to 100"),
        (["jobs", "list", "--timeout", "-1"], "'-1' is not a number of seconds above 0"),
        (["jobs", "create"], "jobs create: the following arguments are required: QUEUE"),
        (["jobs", "create", "q", "--priority", "101"], "'101' is not a whole number from -100 to 100"),
        (["jobs", "create", "q", "--delay", "soon"], "'soon' is not a length of time"),
        (["jobs", "create", "q", "--at", "noon"], "'noon' is not a time"),
        (["jobs", "create", "q", "--timeout", "2d"], "'2d' is not from 1s to 1d"),
        (["jobs", "create", "q", "--at", "2030-01-01", "--delay", "1"], "not allowed with argument"),
        (["jobs", "show"], "the following arguments are required: ID"),
        (["worker", "m:w", "--log-level", "loud"], "'loud' is not one of debug, info"),
        (["worker", "m:w", "--wait", "x"], "'x' is not a number of seconds"),
        (["demo", "--limit", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_mistakes_are_one_line(offline: Cli, argv: list[str], message: str) -> None:
    result = offline(*argv)
    assert (result.code, result.out) == (2, "")
    assert message in result.error


@pytest.mark.parametrize(
    "arguments", [("{x}",), ("NaN",), ("@missing.json",), ("{}", "--tag", "a", "--tag", "b=c")]
)
def test_bad_input_is_refused_before_anything_is_sent(offline: Cli, arguments: tuple[str, ...]) -> None:
    assert offline("jobs", "create", "q", *arguments).code == 2


def test_without_a_key_it_says_what_to_do(offline: Cli) -> None:
    result = offline("jobs", "list")
    assert result.code == 2
    assert result.error == "spooled: no API key: set SPOOLED_API_KEY or pass --api-key"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--api-key", "short"], "at least 10 characters"),
        (["--api-key", "sp_test_0123456789", "--base-url", "ftp://x"], "base_url must be an http"),
    ],
)
def test_bad_connection_options(offline: Cli, options: list[str], message: str) -> None:
    result = offline("jobs", "list", *options)
    assert result.code == 2
    assert message in result.error
    assert "short" not in result.err


def test_the_help_imports_neither_client_nor_server() -> None:
    code = (
        "import sys, spooled.cli; spooled.cli.main(['--help']); "
        "heavy = {'httpx', 'msgspec', 'starlette', 'uvicorn', 'rich', 'asyncio'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_does_not_import_the_command() -> None:
    code = "import sys, spooled; sys.exit('spooled.cli' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=HOPELESS).returncode == 0


def plugin(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    point = EntryPoint(name, value, _plugins.GROUP)
    monkeypatch.setattr(_plugins, "entry_points", lambda group: [point])


def add_greeting(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("greet", help="say hello")
    parser.add_argument("--loud", action="store_true")
    parser.set_defaults(run=lambda args: 7 if args.loud else 3)


def add_lazy(commands: argparse._SubParsersAction[Any]) -> None:
    def run(_args: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")

    commands.add_parser("lazy").set_defaults(run=run)


def test_a_plugin_adds_a_command(offline: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, "greet", f"{__name__}:add_greeting")
    assert offline("greet", "--loud").code == 7
    assert offline("--api-key", "sp_test_0123456789", "greet").code == 3
    assert "say hello" in offline("--help").out
    assert "Did you mean --loud?" in offline("greet", "--load").error


def test_a_missing_extra_is_one_line_and_harms_nothing_else(
    offline: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spooled_contrib.gone", None)

    class Gone(EntryPoint):
        def load(self) -> Any:
            raise ModuleNotFoundError("No module named 'starlette'", name="starlette")

    point = Gone("gone", "spooled_contrib.gone:add", _plugins.GROUP)
    monkeypatch.setattr(_plugins, "entry_points", lambda group: [point])
    result = offline("gone", "--port", "80")
    assert result.code == 1
    assert result.error == 'spooled: gone: needs starlette: pip install "spooled-contrib[gone]"'
    assert 'pip install "spooled-contrib[gone]"' in offline().out
    assert offline("jobs", "list").code == 2  # no key, as ever


def test_an_extra_that_is_missed_only_when_the_command_runs(
    offline: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(monkeypatch, "lazy", f"{__name__}:add_lazy")
    result = offline("lazy")
    assert result.code == 1
    assert "needs uvicorn" in result.error


def test_a_broken_plugin_harms_nothing_else(offline: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, "broken", f"{__name__}:no_such_function")
    assert offline("--help").code == 0
    result = offline("broken")
    assert result.code == 1
    assert "cannot be loaded: AttributeError" in result.error
