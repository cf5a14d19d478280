"""Resolve the newest versions of everything that the project and its tests need, and pin them in constraints.txt.

Resolves once for each supported Python of this machine (`scripts/find_pythons.py`), because some packages have given up
the older ones: a version that differs gets a line for each range of Pythons. Installs only into temporary folders.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "constraints.txt"
HEADER = "# Versions that are tested together. Names and versions only; written by: make constraints\n"

WANTED = ["pip", "-e", ".[all]", "--group", "dev"]


def main() -> int:
    found = subprocess.run(
        [sys.executable, ROOT / "scripts" / "find_pythons.py"], capture_output=True, text=True, check=True
    )
    pythons = dict(line.split(" ", 1) for line in found.stdout.splitlines())
    pins: dict[str, dict[str, str]] = {}
    for version, python in pythons.items():
        print(f"resolving for Python {version}", file=sys.stderr)
        for name, pinned in _resolve(python).items():
            pins.setdefault(name, {})[version] = pinned
    lines = [line for name, versions in pins.items() for line in _lines(name, versions, list(pythons))]
    TARGET.write_text(
        HEADER + "".join(f"{line}\n" for line in sorted(lines, key=str.lower)), encoding="utf-8"
    )
    return 0


def _resolve(python: str) -> dict[str, str]:
    """Return the newest versions that fit together on this interpreter, by name."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        # The pip that comes with an interpreter may know neither reports nor dependency groups.
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
        command = [*pip, "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *WANTED]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    installed = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    return {one["name"]: one["version"] for one in installed if one["name"] != "spooled-contrib"}


def _lines(name: str, versions: dict[str, str], pythons: list[str]) -> list[str]:
    """Return a line for each range of Pythons with the same version; one without a marker when they all agree."""
    if len(set(versions.values())) == 1:
        return [f"{name}=={next(iter(versions.values()))}"]
    known = [python for python in pythons if python in versions]
    starts = [
        python
        for index, python in enumerate(known)
        if not index or versions[python] != versions[known[index - 1]]
    ]
    lines = []
    for index, start in enumerate(starts):
        limits = [f'python_version >= "{start}"'] if index else []
        limits += [f'python_version < "{starts[index + 1]}"'] if index + 1 < len(starts) else []
        lines.append(f"{name}=={versions[start]}; {' and '.join(limits)}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
