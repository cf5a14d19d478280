"""`example_projects/django_shop` as its users meet it: processes, HTTP, files, mails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from spooled_contrib.server import EmbeddedServer
from tests.ports import free_port
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

SHOP = Path(__file__).parents[2] / "example_projects" / "django_shop"


def process(environment: dict[str, str], *command: str) -> Process:
    return Process(*command, cwd=SHOP, environment=environment)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPOOLED_", "PROJECT_", "DJANGO_", "SHOP_"))
    }
    return {**kept, "SHOP_DATA": str(tmp_path / "data")}


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def buy(url: str, quantity: int) -> str:
    wanted = {"product": "spoon", "quantity": quantity, "customer": "ada@example.org"}
    answer = httpx.post(f"{url}/orders/", json=wanted)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"])


def test_one_command_runs_it_all(environment: dict[str, str]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(environment, "run.py", "--port", str(port)) as running:
        wait_until(lambda: answers(f"{url}/") or running.ended)
        order = buy(url, 2)
        wait_until(lambda: httpx.get(url + order).json()["invoice"], running.log)
        invoice = httpx.get(f"{url}{order}invoice.pdf")
        assert invoice.headers["content-type"] == "application/pdf"
        assert invoice.content.startswith(b"%PDF")
        running.wait_for("Subject: spoon: 4 left")
        assert httpx.get(f"{url}/admin/login/").status_code == 200
        os.killpg(running.popen.pid, signal.SIGINT)  # as Ctrl-C does
        assert running.wait() == 0
        assert "Traceback" not in running.log


def test_manage_py_as_processes(environment: dict[str, str]) -> None:
    with EmbeddedServer() as server:
        outside = Outside(server)
        settings = {**environment, "SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}

        def manage(*argv: str) -> str:
            done = subprocess.run(
                [sys.executable, "manage.py", *argv],
                cwd=SHOP,
                env=settings,
                capture_output=True,
                text=True,
                check=False,
                timeout=HOPELESS,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        manage("migrate", "-v0")
        manage("fill_shop")
        manage("start_reports")
        manage("start_reports")  # with every deployment
        listed = manage("spooled_worker", "--list")
        assert re.findall(r"^\w+", listed, re.MULTILINE) == ["invoices", "mails", "reports"]
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with process(settings, "manage.py", "runserver", "--noreload", str(port)) as web:
            wait_until(lambda: answers(f"{url}/") or web.ended)
            orders = [buy(url, 1) for _ in range(3)]
            assert httpx.get(url + orders[0]).json()["invoice"] is None
            manage("spooled_worker", "--burst")
            assert all(httpx.get(url + order).json()["invoice"] for order in orders)
        # Asked for once, and due when the day is over.
        assert outside.counts("reports")["scheduled"] == 1
        assert outside.counts("invoices")["completed"] == 3
        outside.http.close()


def test_its_own_tests_pass(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "manage.py", "test"],
        cwd=SHOP,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Ran 4 tests" in done.stderr
    assert done.returncode == 0, done.stderr
