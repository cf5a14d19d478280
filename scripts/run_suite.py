"""Run pytest, and look at the few tests that failed a second time, alone.

The suite starts thousands of processes and servers beside each other, so a machine's load can fail a test that is
right. At most `FEW` tests that failed are run again, one after the other and `AGAIN` times each; the suite has passed
when they pass every time. Their names are printed at the end, for whoever wants to know what was unsteady.

    python scripts/run_suite.py -n 4 tests/server
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FEW = 4
AGAIN = 2

FAILED = 1
"""Pytest's exit code for "tests were run and some failed": no other is looked at again."""


def main() -> int:
    """Return the exit code."""
    with tempfile.TemporaryDirectory() as cache:
        code = _pytest(*sys.argv[1:], cache=cache)
        failed = _failed(Path(cache))
    if code != FAILED or not 0 < len(failed) <= FEW:
        return code
    print(f"Running the {len(failed)} tests that failed again, alone:", *failed, sep="\n  ", flush=True)
    for _ in range(AGAIN):
        with tempfile.TemporaryDirectory() as cache:
            code = _pytest("-n", "0", *failed, cache=cache)
        if code:
            return code
    print("UNSTEADY: failed beside the others, and passed alone:", *failed, sep="\n  ", flush=True)
    return 0


def _pytest(*arguments: str, cache: str) -> int:
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments]
    return subprocess.run(command, check=False).returncode


def _failed(cache: Path) -> list[str]:
    """Return the names of the tests that failed."""
    path = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(path.read_text())) if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
