"""What the example promises to those who read it: tests that pass, types that hold, names that are there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.example_fastapi.conftest import EXAMPLE


def run(*command: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLE,
        env=inherited,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_its_own_tests_pass() -> None:
    # Without pytest-asyncio, which warns where it is not configured: the example neither has nor needs it.
    done = run("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error")
    assert done.returncode == 0, done.stdout
    assert "configfile: pytest.ini" in done.stdout, "it must not depend on this repository's settings"
    assert re.search(r"\b6 passed\b", done.stdout), done.stdout


def test_it_is_well_typed() -> None:
    done = run("-m", "mypy", "--strict", "app", "run.py", "tests")
    assert done.returncode == 0, done.stdout


def test_the_readme_links_to_files_that_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (EXAMPLE / "README.md").read_text())
    assert links
    missing = [link for link in links if not Path(EXAMPLE, link).exists()]
    assert missing == []
