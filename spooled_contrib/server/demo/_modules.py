"""The work: which files there are, and what is counted in one."""

from __future__ import annotations

import ast
import sysconfig
import threading
import tokenize
from collections.abc import Iterator
from pathlib import Path

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))

# Up to CPython 3.11.7 and 3.12.1 two threads in ast.parse share a recursion counter, and now and then one gets a
# SystemError. Parsing holds the interpreter's lock anyway, so waiting costs nothing.
_one_at_a_time = threading.Lock()

_NOT_STANDARD = frozenset({"site-packages", "dist-packages", "__pycache__"})


def standard_library_files() -> list[str]:
    """Return the standard library's source files, relative to it, in the order of their names.

    Left out are the test suite's own specimens, such as `test/tokenizedata/badsyntax_3131.py` or
    `lib2to3/tests/data/py2_test_grammar.py`: they are broken on purpose or written for Python 2, and in the demo
    exactly the jobs that are meant to fail shall fail.
    """
    return sorted(
        file.relative_to(STANDARD_LIBRARY).as_posix() for file in _walk(STANDARD_LIBRARY, in_tests=False)
    )


def _walk(folder: Path, *, in_tests: bool) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir():
            specimens = in_tests and entry.name.endswith("data")
            if entry.name not in _NOT_STANDARD and not specimens:
                yield from _walk(entry, in_tests=in_tests or entry.name in ("test", "tests"))
        elif entry.suffix == ".py" and not (in_tests and entry.name.startswith("bad")):
            yield entry


def measure(file: Path) -> dict[str, int]:
    """Parse a Python file and count what is in it.

    The caller silences warnings about old code, once for all threads: the filter belongs to the process.

    Raises:
        OSError: It cannot be read.
        SyntaxError: It is not Python.
    """
    # Honours the file's own encoding declaration.
    with tokenize.open(file) as stream:
        source = stream.read()
    with _one_at_a_time:
        tree = ast.parse(source, str(file))
    counts = {"lines": source.count("\n"), "functions": 0, "classes": 0, "imports": 0}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            counts["functions"] += 1
        elif isinstance(node, ast.ClassDef):
            counts["classes"] += 1
        elif isinstance(node, ast.Import | ast.ImportFrom):
            counts["imports"] += 1
    return counts
