"""What the docs show is run as it is written; `tests/readme` runs the README's blocks."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spooled
from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import WorkerGroup
from spooled_contrib.server import DEVELOPMENT_KEY, EmbeddedServer
from tests.processes import Process
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str = "python") -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the README's reader has typed: a server on a file, and two variables."""
    with Process("-m", "spooled", "server", "--db", str(tmp_path / "jobs.db"), "--port", "0") as process:
        url = json.loads(process.find(r"(?m)^\{.*\}$"))["url"]
        yield {**os.environ, "SPOOLED_BASE_URL": url, "SPOOLED_API_KEY": DEVELOPMENT_KEY}


def test_the_readme_names_the_real_development_key():
    assert f"SPOOLED_API_KEY={DEVELOPMENT_KEY} " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_of_the_docs_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_client_page(monkeypatch: pytest.MonkeyPatch):
    threaded, coroutine, transported = blocks("docs/client.md")
    with EmbeddedServer(api_key="sp_live_...") as server:
        monkeypatch.setenv("SPOOLED_BASE_URL", server.url)
        monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
        exec(threaded, {"__name__": "page"})
        body = "".join(f"    {line}\n" for line in coroutine.splitlines() if not line.startswith("from "))
        exec(
            f"import asyncio\nfrom spooled import AsyncSpooledClient\nasync def main():\n{body}\nasyncio.run(main())"
        )
        with SpooledClient() as client:
            assert client.jobs.get_stats(queue_name="emails").pending == 101
        exec(transported, {"__name__": "page"})


def test_the_page_about_acks_in_batches():
    (example,) = blocks("docs/acks-in-batches.md")
    with EmbeddedServer() as server, SpooledClient(server.api_key, base_url=server.url) as client:
        ids = [client.jobs.create(queue_name="emails", payload=number).id for number in range(2)]
        exec(example, {"client": client})
        assert [client.jobs.get(one).status for one in ids] == ["completed", "pending"]


def test_the_client_page_lists_every_method():
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    with SpooledClient(api_key="sp_test_never-used-0000") as client:
        for name, methods in re.findall(r"^\| `([a-z_.]+)` \| `([a-z_ ]+)` \|$", page, re.MULTILINE):
            resource: Any = client
            for part in name.split("."):
                resource = getattr(resource, part)
            public = {m for m in dir(resource) if not m.startswith("_") and callable(getattr(resource, m))}
            assert set(methods.split()) == public, name


def test_the_resources_page_has_every_parameter():
    page = (ROOT / "docs" / "client-resources.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `([a-z_.]+)`\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    with SpooledClient(api_key="sp_test_never-used-0000") as client:
        resources = {
            name
            for name in dir(client)
            if not name.startswith("_") and name != "grpc" and hasattr(getattr(client, name), "_session")
        }
        assert resources == {name for name in sections if "." not in name}
        for name, section in sections.items():
            resource: Any = client
            for part in name.split("."):
                resource = getattr(resource, part)
            rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \| \S+ \|$", section, re.MULTILINE))
            public = {m for m in dir(resource) if not m.startswith("_") and callable(getattr(resource, m))}
            assert set(rows) == public, name
            for method, cell in rows.items():
                parameters = inspect.signature(inspect.unwrap(getattr(resource, method))).parameters
                shown = [word for word in cell.replace("\\|", "").split() if word]
                assert shown == [
                    f"**{p.name}**" if p.default is p.empty else p.name
                    for p in parameters.values()
                    if p.name != "self"
                ], (name, method)


def test_the_realtime_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    threaded, coroutine = blocks("docs/realtime.md")
    with EmbeddedServer() as server:
        monkeypatch.setenv("SPOOLED_BASE_URL", server.url)
        monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
        exec(threaded, {"__name__": "page"})
        body = "".join(f"    {line}\n" for line in coroutine.splitlines() if not line.startswith("from "))
        exec(
            f"import asyncio\nfrom spooled import AsyncSpooledClient\nasync def main():\n{body}\nasyncio.run(main())"
        )
    shown = capsys.readouterr().out
    for line in ("connected", "created", "job.created emails", "pending", "cancelled"):
        assert line in shown


def test_the_testing_page(tmp_path: Path):
    fixture, clock, draining, worker = blocks("docs/testing.md")
    (tmp_path / "test_page.py").write_text(fixture + draining, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "2 passed" in ran.stdout, ran.stdout
    names: dict[str, Any] = {}
    exec(
        "from spooled import SpooledClient\nfrom spooled_contrib.server import EmbeddedServer\n" + clock,
        names,
    )
    with EmbeddedServer() as server, SpooledClient(api_key=server.api_key, base_url=server.url) as client:
        job = client.jobs.create(queue_name="emails", payload={})
        done = worker.replace(
            "...  #", "wait_until(lambda: client.jobs.get(job.id).status == 'completed')  #"
        )
        exec(
            "from spooled.worker import SpooledWorker\n" + done,
            {"client": client, "job": job, "wait_until": wait_until},
        )
        assert client.jobs.get(job.id).result == {"sent": True}


def test_every_public_name_can_be_had():
    for name in spooled.__all__:
        assert getattr(spooled, name) is not None
    assert AsyncSpooledClient.__doc__


def test_the_worker_page(monkeypatch: pytest.MonkeyPatch):
    with EmbeddedServer() as server:
        monkeypatch.setenv("SPOOLED_BASE_URL", server.url)
        monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
        page = types.ModuleType("worker_page")
        monkeypatch.setitem(sys.modules, page.__name__, page)
        names = vars(page)
        for block in blocks("docs/worker.md"):
            # As a file of its own: not with this file's future imports.
            exec(compile(block, "docs/worker.md", "exec", dont_inherit=True), names)
        jobs = {
            "welcome": {"job_type": "welcome", "to": "ada"},
            "newsletter": {"job_type": "newsletter", "list": "all"},
            "discarded": {"job_type": "sync"},
            "snoozed": {"job_type": "sync", "account": 1, "too_early": True},
            "retried": {"job_type": "sync", "account": 1, "busy": True},
        }
        with SpooledClient() as client:
            ids = {
                name: client.jobs.create(queue_name="mail", payload=payload).id
                for name, payload in jobs.items()
            }
            with WorkerGroup(names["worker"], names["invoices"]):
                wait_until(lambda: client.jobs.get_stats(queue_name="mail").completed == len(jobs))
            results = {name: client.jobs.get(job).result for name, job in ids.items()}
    assert results["welcome"] == {"sent_to": "ada"}
    assert results["newsletter"] == {"sent_to": "all"}
    for outcome in ("discarded", "snoozed", "retried"):
        assert results[outcome]["spooled"]["outcome"] == outcome


def test_the_fastapi_page(tmp_path: Path):
    pages: dict[str, str] = {}
    for block in blocks("docs/fastapi.md"):
        first, _, _ = block.partition("\n")
        name = first[2:] if first.startswith("# ") else "main.py"
        pages[name] = pages.get(name, "") + block + "\n"
    # What the page says in words, and the rest of its jobs in use.
    pages["main.py"] += "import billing\nspooled.include_router(billing.jobs)\napp.state.pool = 'the pool'\n"
    pages["test_main.py"] += """

def test_the_rest_of_the_page(client):
    from billing import Invoice, make_invoice, remind
    from main import report, watched_app, watched

    jobs = [make_invoice.enqueue_sync(Invoice(number=7)), remind.enqueue_sync(Invoice(number=8))]
    jobs.append(report.enqueue_sync({"n": 1}))
    done = {job.id: job for job in spooled.drain_sync()}
    assert [done[job.id].result for job in jobs] == [
        "invoice 7, attempt 1", None, "session of the pool for reports"
    ]
    assert client.get(f"/jobs/{jobs[0].id}").json() == {"status": "completed"}


def test_statistics(spooled_server):
    from main import watched, watched_app

    with watched.testing(spooled_server), TestClient(watched_app) as client:
        assert client.get("/spooled/queues").status_code == 403
        assert client.get("/spooled/queues", headers={"X-Admin-Token": "change me"}).json() == []
        assert client.get("/spooled/health/ready").status_code == 200
"""
    for name, source in pages.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "3 passed" in ran.stdout, ran.stdout


def test_the_django_page(tmp_path: Path, environment: dict[str, str]):
    for block in blocks("docs/django.md"):
        first, _, source = block.partition("\n")
        path = tmp_path / first.removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
    (tmp_path / "shop" / "__init__.py").touch()
    settings = tmp_path / "settings.py"
    settings.write_text(settings.read_text() + "from tasks_settings import TASKS\n")
    manage = [
        sys.executable,
        "-c",
        "from django.core.management import execute_from_command_line as run; run()",
    ]
    django = {**environment, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(tmp_path)}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*manage, *argv], env=django, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    assert "OK" in run("test", "shop").stderr
    run("migrate", "-v0")
    run("shell", "-c", "from shop.orders import place; place(3)")
    run("spooled_worker", "--burst")
    with SpooledClient(environment["SPOOLED_API_KEY"], base_url=environment["SPOOLED_BASE_URL"]) as client:
        (job,) = client.jobs.list(queue_name="invoices")
        assert client.jobs.get(job.id).result == "invoice of order 3"
        assert job.priority == 10


def test_the_celery_page(tmp_path: Path, environment: dict[str, str]):
    shown = {
        block.partition("\n")[0].removeprefix("# "): block
        for block in blocks("docs/celery.md")
        if block.startswith(("# app.py", "# worker.py", "# light.py"))
    }
    key, url = environment["SPOOLED_API_KEY"], environment["SPOOLED_BASE_URL"]
    broker = f"spooled+{url.replace('http://', f'http://:{key}@')}"
    app = shown["app.py"].replace("spooled://:sp_live_...@api.spooled.cloud", broker)
    (tmp_path / "app.py").write_text(app, encoding="utf-8")
    light = shown["light.py"].replace("spooled://:sp_live_...@api.spooled.cloud", broker)
    (tmp_path / "light.py").write_text(light, encoding="utf-8")
    program = (
        "import light\nr = light.resize.delay(64)\nlight.worker.start(burst=True)\nprint(r.get(timeout=10))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "64 wide, attempt 1\n"
    enqueue = [sys.executable, "-c", "import app; app.send_mail.apply_async(('ada',))"]
    subprocess.run(enqueue, cwd=tmp_path, env=environment, check=True)
    (tmp_path / "worker.py").write_text(shown["worker.py"], encoding="utf-8")
    command = [sys.executable, "-m", "spooled", "worker", "worker:worker", "--burst"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    with SpooledClient(key, base_url=url) as client:
        job = client.jobs.list(queue_name="celery")[0]
        assert client.jobs.get(job.id).result == "sent to ada"
