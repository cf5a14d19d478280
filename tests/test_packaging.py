"""What is installed, and what importing costs others."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def test_the_core_needs_three_packages_and_nothing_else():
    required = [Requirement(text) for text in importlib.metadata.requires("spooled-contrib") or []]
    core = {one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})}
    assert core == {"aiohttp", "certifi", "msgspec"}


def test_the_extras_that_are_promised_exist():
    extras = importlib.metadata.metadata("spooled-contrib").get_all("Provides-Extra")
    assert {"server", "fast", "fastapi", "django", "kombu", "celery", "all"} <= set(extras or [])


@pytest.mark.parametrize("module", ["spooled", "spooled.worker", "spooled.cli"])
def test_the_core_never_imports_an_adapter(module: str):
    look = f"import sys, {module}; print(*sorted(n for n in sys.modules if n.startswith('spooled_contrib')))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_importing_spooled_does_no_work():
    # Slow modules are loaded with the first client; `python -X importtime -c "import spooled"` shows the times.
    look = "import sys, spooled; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert not {"aiohttp", "httpx", "asyncio", "msgspec", "ssl"} & set(loaded.stdout.split())


def test_versions_are_pinned_by_name_and_nothing_else():
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.url is None, line
            assert [one.operator for one in requirement.specifier] == ["=="], line


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_supported_python_gets_a_django_that_it_can_run(python: str):
    """Where the pins do not fit, the suite cannot even be collected: Django 6 needs 3.12, and has the Tasks itself."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.lower().startswith("django==")]
    (pin,) = (pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python}))
    major = next(iter(pin.specifier)).version.partition(".")[0]
    assert major == ("5" if python == "3.11" else "6")


def test_both_packages_say_that_they_are_typed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for package in packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").is_file()


def test_pytest_starts_where_no_extra_is_installed():
    """pytest loads our plugins in every project that has the package."""
    look = """
import importlib.metadata, sys
sys.modules.update(dict.fromkeys(["django", "fastapi", "jwt", "kombu", "starlette", "uvicorn"]))
print(*[one.load() and one.name for one in importlib.metadata.entry_points(group="pytest11") if "spooled" in one.value])
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["spooled", "spooled_django"], done.stderr


def test_the_interpreters_that_the_suite_runs_on_are_found():
    """`make test-pythons` takes the first and the last."""
    tell = [sys.executable, str(ROOT / "scripts" / "find_pythons.py")]
    found = subprocess.run(tell, capture_output=True, text=True, check=True).stdout.splitlines()
    versions = [tuple(map(int, line.split()[0].split("."))) for line in found]
    assert versions == sorted(set(versions))
    assert sys.version_info[:2] in versions
    ends = subprocess.run([*tell, "--ends"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert ends == sorted({found[0], found[-1]}, key=found.index)
