"""`example_projects/celery_migration` on Spooled, with real `celery worker` processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HOPELESS

EXAMPLE = Path(__file__).parents[2] / "example_projects" / "celery_migration"


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_one_command_runs_it_all(tmp_path: Path, pool: str) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPOOLED_", "SHOP_", "DJANGO_", "PROJECT_"))
    }
    done = subprocess.run(
        [sys.executable, "run.py", "--pool", pool],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=1.9 * HOPELESS,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "one price: 1380"
    assert lines[1] == "an order:  charged 53.16 at attempt 3"
    assert re.fullmatch(r"a reminder: reminded ada@example.org, \d+ s after the time", lines[2])
    assert lines[3].endswith("3 products")
