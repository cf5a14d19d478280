"""What `spooled worker` says about a target that is no worker."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Result

SOURCE = """
from spooled import SpooledClient
from spooled.worker import SpooledWorker

worker = SpooledWorker(SpooledClient(api_key="sp_test_0123456789"), "q")
number = 5

async def coroutine(): return worker
def not_a_worker(): return 5
def with_arguments(a): return worker
def raises(): raise LookupError("no such shop")
"""
Try = Callable[[str], Result]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # Modules stay imported in this process, so that each test needs a name of its own.
    name = f"tasks_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("target", "message", "code"),
    [
        ("{m}", "'{m}' does not say where the worker is; write MODULE:WORKER, as in {m}:worker", 2),
        ("{m}:", "write MODULE:WORKER", 2),
        (":worker", "write MODULE:WORKER", 2),
        ("{m}.py:worker", "'{m}.py' is a file; name the module, as in {m}:worker", 2),
        ("{m}x:worker", "no module named '{m}x', looking from ", 2),
        ("{m}x:worker", "Did you mean {m}?", 2),
        ("{m}.sub:worker", "{m}", 2),
        (".{m}:worker", "is not a module's name", 2),
        ("{m}:wroker", "module {m} has no 'wroker'. Did you mean worker?", 2),
        ("{m}:zzz", "module {m} has no 'zzz'. It has: worker", 2),
        ("{m}:worker.zzz", "SpooledWorker in 'worker.zzz' has no 'zzz'", 2),
        ("{m}:number", "{m}:number is a int; it must be a SpooledWorker", 2),
        ("{m}:SpooledWorker", "takes arguments; it must be a SpooledWorker", 2),
        ("{m}:coroutine", "is a coroutine function", 2),
        ("{m}:not_a_worker", "{m}:not_a_worker() returned a int", 2),
        ("{m}:with_arguments", "takes arguments", 2),
        ("{m}:worker", "no handler: decorate a function with @worker.process", 1),
    ],
)
def test_a_target_that_is_no_worker(offline: Cli, module: str, target: str, message: str, code: int) -> None:
    result = offline("worker", target.format(m=module), "--log-level", "error")
    assert (result.code, result.out) == (code, "")
    assert message.format(m=module) in result.error


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("import nosuchthing", "ModuleNotFoundError: No module named 'nosuchthing'"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("raise TypeError('mine')", "TypeError: mine"),
    ],
)
def test_the_users_own_mistakes_show_where_they_are(
    module: str, capsys: pytest.CaptureFixture[str], source: str, last: str
) -> None:
    from spooled.cli import main

    Path(f"{module}.py").write_text(source, encoding="utf-8")
    assert main(["worker", f"{module}:worker"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert f'{module}.py", line 1' in lines[1]
    assert last in lines[-2]
    assert lines[-1].startswith(f"spooled: module {module} raised ")


def test_a_module_that_exits(offline: Cli, module: str) -> None:
    Path(f"{module}.py").write_text("raise SystemExit(0)", encoding="utf-8")
    result = offline("worker", f"{module}:worker")
    assert result.code == 1
    assert "ended the process while it was imported" in result.error
