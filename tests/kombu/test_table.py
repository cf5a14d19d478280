"""The table of docs/celery.md names a test for each row, and these tests exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITHOUT = {"Flower", "`event_exchange`, `control_exchange`"}


def test_every_row_has_a_test() -> None:
    text = (ROOT / "docs" / "celery.md").read_text(encoding="utf-8")
    table = text.partition("## Each feature and setting")[2].partition("\n## ")[0]
    rows = [line.strip("| \n").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    sources = [*(ROOT / "tests" / "kombu").glob("*.py"), *(ROOT / "tests" / "example_celery").glob("*.py")]
    tests = set(re.findall(r"^def (test_\w+)", "\n".join(one.read_text() for one in sources), re.MULTILINE))
    assert len(rows) > 30
    named = {row[0]: re.findall(r"`(test_\w+)`", row[-1]) for row in rows}
    assert {row for row, names in named.items() if not names} == WITHOUT
    assert {name for names in named.values() for name in names} <= tests
