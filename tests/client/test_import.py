"""What importing the package costs and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROBE = """
import json, sys, time
started = time.perf_counter()
{code}
elapsed = time.perf_counter() - started
print(json.dumps({{"milliseconds": elapsed * 1000, "modules": sorted(sys.modules)}}))
"""


def loaded_by(code: str) -> set[str]:
    """Modules in a fresh interpreter after `code`; the time goes to the test's output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.format(code=code)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    print(f"{code!r}: {found['milliseconds']:.1f} ms")
    return set(found["modules"])


def test_importing_the_package_loads_next_to_nothing() -> None:
    modules = loaded_by("import spooled")
    assert {name for name in modules if name.startswith("spooled")} == {"spooled", "spooled._version"}
    assert not modules & {"httpx", "httpcore", "msgspec", "asyncio", "ssl", "aiohttp"}


@pytest.mark.parametrize(
    "code",
    [
        "from spooled import SpooledClient, AsyncSpooledClient",
        "import spooled.client, spooled.config, spooled.errors, spooled.models",
    ],
)
def test_importing_the_clients_leaves_http_for_later(code: str) -> None:
    modules = loaded_by(code)
    assert not modules & {"httpx", "httpcore", "aiohttp", "anyio", "pydantic"}


def test_making_a_client_needs_nothing_but_what_it_talks_through() -> None:
    modules = loaded_by("from spooled import SpooledClient; SpooledClient('sp_test_0123456789')")
    assert {"http.client", "msgspec"} <= modules
    assert not modules & {
        "aiohttp",
        "httpx",
        "pydantic",
        "starlette",
        "uvicorn",
        "uvloop",
        "django",
        "kombu",
        "celery",
    }
    assert not {name for name in modules if name.startswith("spooled_contrib")}
    assert not {
        name for name in modules if name.startswith(("spooled.worker", "spooled.testing", "spooled.cli"))
    }


def test_an_asynchronous_client_does_without_httpx() -> None:
    modules = loaded_by("from spooled import AsyncSpooledClient; AsyncSpooledClient('sp_test_0123456789')")
    assert "aiohttp" in modules
    assert not modules & {"httpx", "httpcore", "httpx2", "uvloop", "starlette"}
