"""A virtual environment for each peer: the official SDK shares our import name, and peers pin what others need."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".bench"

REQUIREMENTS = {
    "official": ["spooled==1.6.0"],
    "celery": ["celery[redis]==5.7.0"],
    "dramatiq": ["dramatiq[redis]==2.2.1"],
    "huey": ["huey==3.5.4", "redis==8.1.0"],
    "taskiq": ["taskiq==0.13.0", "taskiq-redis==1.2.4"],
}
SHOWN = {"official": ("spooled", "httpx", "pydantic"), "ours": ("httpx", "aiohttp", "uvloop", "msgspec")}


def build(names: set[str]) -> dict[str, Path]:
    """Return the interpreter of each environment; those that could not be built are missing."""
    wanted = sorted(names & REQUIREMENTS.keys())
    with ThreadPoolExecutor(2) as pool:
        built = dict(zip(wanted, pool.map(_build, wanted), strict=True))
    found = {name: python for name, python in built.items() if python is not None}
    return {**found, "ours": Path(sys.executable)}


def packages(name: str, python: Path) -> dict[str, str]:
    """Return what matters of what is installed, with versions."""
    shown = SHOWN.get(name) or tuple(one.partition("=")[0].partition("[")[0] for one in REQUIREMENTS[name])
    script = "import sys, importlib.metadata as m\nfor n in sys.argv[1:]: print(n, m.version(n))"
    done = subprocess.run([python, "-c", script, *shown], capture_output=True, text=True)
    return dict(line.split() for line in done.stdout.splitlines())


def _build(name: str) -> Path | None:
    requirements = REQUIREMENTS[name]
    # Named after what is in it, so that other versions get another one.
    digest = hashlib.sha256(" ".join([*requirements, sys.version]).encode()).hexdigest()[:8]
    place = CACHE / f"{name}-{digest}"
    python = place / "bin" / "python"
    complete = place / "complete"
    if complete.exists():
        return python
    print(f"making an environment for {name} (once)...", file=sys.stderr)
    try:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True, stdout=subprocess.DEVNULL, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no environment for {name}, it is left out: {error}", file=sys.stderr)
        return None
    complete.touch()
    return python
