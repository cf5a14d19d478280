"""No module of the packages needs another one that needs it, not even for its annotations."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]

RECURSIVE = {("spooled.codec._changes", "spooled.codec._codec")}
"""A payload is compared field by field, and a field may have a codec of its own: imported where it is used."""


def modules() -> dict[str, Path]:
    files = [path for package in ("spooled", "spooled_contrib") for path in (ROOT / package).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


def imported(path: Path, known: Container[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in known else node.module


def test_there_is_no_circle() -> None:
    known = modules()
    needs = {
        name: {
            one
            for one in imported(path, known)
            if one in known and one != name and (name, one) not in RECURSIVE
        }
        for name, path in known.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise AssertionError(" needs ".join(reversed(error.args[1]))) from None


def test_the_check_sees_a_circle(tmp_path: Path) -> None:
    module = tmp_path / "one.py"
    module.write_text("def f():\n    from two.three import four, six\n    import five\n", encoding="utf-8")
    assert set(imported(module, {"two.three.four"})) == {"two.three.four", "two.three", "five"}
