"""The admin's pages, in headless Chromium and over Django's test client."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test import Client, override_settings
from django.test.testcases import LiveServerThread

from spooled import SpooledClient
from spooled_contrib.django import get_client
from spooled_contrib.server import EmbeddedServer
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db", "spooled_django")

CHROMIUM = shutil.which("chromium")
NASTY = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"

needs_browser = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="no chromium (Debian: apt install chromium)"
)


def user(*permissions: str, superuser: bool = False) -> User:
    User.objects.filter(username="ada").delete()
    made = User.objects.create_user("ada", password="secret", is_staff=True, is_superuser=superuser)
    made.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="spooled")
    )
    assert made.user_permissions.count() == len(permissions)
    return made


def client(*permissions: str, superuser: bool = False) -> Client:
    made = Client()
    made.force_login(user(*permissions, superuser=superuser))
    return made


def kill(spooled: SpooledClient, queue: str, error: str = "no", payload: Any = None) -> str:
    """A dead job."""
    job = spooled.jobs.create(queue_name=queue, payload=payload, max_retries=0)
    (claimed,) = spooled.jobs.claim(queue_name=queue, worker_id="w").jobs
    assert claimed.id == job.id
    spooled.jobs.fail(job.id, worker_id="w", lease_id=claimed.lease_id, error=error)
    return job.id


LIST = "/admin/spooled/queuedjob/"


def test_nothing_is_shown_without_permission() -> None:
    nobody = client()
    for path in ("queue/", "queue/numbers/", "queuedjob/", "deadletter/", "queuedjob/some-id/change/"):
        assert nobody.get(f"/admin/spooled/{path}").status_code == 403, path
    assert "spooled" not in nobody.get("/admin/").content.decode()
    assert Client().get("/admin/spooled/queue/").status_code == 302


def test_jobs_are_filtered_searched_and_paged(outside: Outside) -> None:
    outside.enqueue_many(30, "emails")
    other = outside.enqueue("invoices", {"job_type": "pdf"})
    ada = client("view_queuedjob")
    page = ada.get(LIST).content.decode()
    assert page.count('name="selected"') == 25
    assert "More &rarr;" in page
    assert ada.get(LIST, {"o": "25"}).content.decode().count('name="selected"') == 6
    page = ada.get(LIST, {"queue": "invoices", "status": "pending", "q": "pdf"}).content.decode()
    assert page.count('name="selected"') == 1
    assert other in page
    assert "No job matches." in ada.get(LIST, {"status": "completed"}).content.decode()
    # What makes no sense is as if it were not there.
    assert ada.get(LIST, {"status": "nonsense", "o": "-x"}).status_code == 200


@pytest.mark.parametrize(
    ("permission", "action"),
    [("retry_queuedjob", "retry"), ("cancel_queuedjob", "cancel")],
)
def test_actions_need_their_permission_and_a_confirmation(
    outside: Outside, permission: str, action: str
) -> None:
    job = outside.enqueue("emails") if action == "cancel" else kill(get_client(), "emails")
    before = outside.status(job)
    post = {"remote_action": action, "selected": [job]}
    watching = client("view_queuedjob")
    assert f'value="{action}"' not in watching.get(LIST).content.decode()
    assert watching.post(LIST, {**post, "confirmed": "yes"}).status_code == 403
    assert outside.status(job) == before

    ada = client("view_queuedjob", permission)
    assert f'value="{action}"' in ada.get(LIST).content.decode()
    asked = ada.post(LIST, post).content.decode()
    assert "are you sure" in asked
    assert job in asked
    assert outside.status(job) == before
    done = ada.post(LIST, {**post, "confirmed": "yes"}, follow=True)
    assert ("1 job will run again." if action == "retry" else "1 job cancelled.") in done.content.decode()
    assert outside.status(job) == ("pending" if action == "retry" else "cancelled")
    again = ada.post(LIST, {**post, "confirmed": "yes"}, follow=True).content.decode()
    assert f"Job {job}:" in again


def test_a_get_and_a_forged_post_do_nothing(outside: Outside) -> None:
    job = outside.enqueue("emails")
    ada = client(superuser=True)
    ada.get(LIST, {"remote_action": "cancel", "selected": job, "confirmed": "yes"})
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="ada"))
    post = {"remote_action": "cancel", "selected": job, "confirmed": "yes"}
    assert strict.post(LIST, post).status_code == 403
    assert outside.status(job) == "pending"
    assert (
        "Select at least one job" in ada.post(LIST, {"remote_action": "cancel"}, follow=True).content.decode()
    )
    assert "Choose what to do" in ada.post(LIST, {"selected": job}, follow=True).content.decode()


def test_queues_are_paused_resumed_and_purged(outside: Outside) -> None:
    outside.enqueue("emails")
    kill(get_client(), "reports")
    ada = client("view_queue", "pause_queue", "purge_deadletter")
    url = "/admin/spooled/queue/"

    def do(action: str, queue: str) -> str:
        post = {"remote_action": action, "selected": queue}
        assert "are you sure" in ada.post(url, post).content.decode()
        return ada.post(url, {**post, "confirmed": "yes"}, follow=True).content.decode()

    def numbers() -> Any:
        return ada.get(f"{url}numbers/").json()["queues"]

    assert "1 queue paused." in do("pause", "emails")
    assert numbers()["emails"]["paused"] is True
    assert "1 queue resumed." in do("resume", "emails")
    assert numbers()["emails"] == {
        "pending": 1,
        "scheduled": 0,
        "processing": 0,
        "completed": 0,
        "deadletter": 0,
        "cancelled": 0,
        "paused": False,
    }
    assert numbers()["reports"]["deadletter"] == 1
    assert "Dead letters of 1 queue deleted." in do("purge", "reports")
    assert numbers().get("reports", {}).get("deadletter", 0) == 0


def test_one_job_with_everything(outside: Outside) -> None:
    job = kill(get_client(), "emails", "RuntimeError: no such address", {"to": "ada@example.org"})
    ada = client("view_queuedjob")
    page = ada.get(f"{LIST}{job}/change/").content.decode()
    for text in ("deadletter", "no such address", "ada@example.org", "deadlettered"):
        assert text in page
    assert ada.get(f"{LIST}00000000-0000-0000-0000-000000000000/change/").status_code == 404
    dead = ada.get("/admin/spooled/deadletter/").content.decode()
    assert job in dead
    assert ada.get(f"/admin/spooled/deadletter/{job}/change/").status_code == 302


def test_texts_are_escaped_and_cut(outside: Outside) -> None:
    job = kill(get_client(), "emails", NASTY, {"text": NASTY, "long": "x" * 20_000})
    ada = client("view_queuedjob")
    for path in (f"{LIST}{job}/change/", LIST, "/admin/spooled/deadletter/"):
        page = ada.get(path).content.decode()
        assert "<script>document" not in page
        assert "<img src=x" not in page
    page = ada.get(f"{LIST}{job}/change/").content.decode()
    assert "more characters" in page
    assert "x" * 10_001 not in page


def test_a_server_that_is_away_is_said_on_the_page(spooled_server: EmbeddedServer) -> None:
    ada = client(superuser=True)
    spooled_server.stop()
    for path in ("queue/", "queuedjob/", "deadletter/", "queuedjob/some-id/change/"):
        answer = ada.get(f"/admin/spooled/{path}")
        assert answer.status_code == 200
        assert "Spooled does not answer" in answer.content.decode()
    assert ada.get("/admin/spooled/queue/numbers/").status_code == 503
    done = ada.post(LIST, {"remote_action": "cancel", "selected": "x", "confirmed": "yes"}, follow=True)
    assert "Job x:" in done.content.decode()
    with override_settings(SPOOLED={}):
        assert "no API key" in ada.get("/admin/spooled/queue/").content.decode()
    spooled_server.start()


# --- in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture
def live() -> Iterator[str]:
    """The project, served to a browser."""
    from django.db import connections

    thread = LiveServerThread("127.0.0.1", StaticFilesHandler, connections_override={})
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    assert thread.error is None
    yield f"http://127.0.0.1:{thread.port}"
    thread.terminate()
    connections.close_all()


@pytest.fixture
def page(live: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(base_url=live, viewport={"width": 1200, "height": 800})
        yield context.new_page()
        browser.close()


def shoot(page: Any, name: str) -> None:
    """A picture to look at, into the folder that SCREENSHOTS names. Browsers cannot always take one."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def log_in(page: Any) -> None:
    page.goto("/admin/")
    page.fill("input[name=username]", "ada")
    page.fill("input[name=password]", "secret")
    page.click("input[type=submit]")


@needs_browser
def test_in_a_browser(page: Any, outside: Outside) -> None:
    # Playwright's loop runs in this thread; Django would take it for a coroutine's.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    try:
        user(superuser=True)
        outside.enqueue_many(3, "emails")
        job = kill(get_client(), "reports", NASTY, {"text": NASTY})
        log_in(page)

        page.click("text=Queues")
        row = page.locator("tr[data-queue=emails]")
        assert row.locator("[data-state=pending]").inner_text() == "3"
        outside.enqueue("emails")
        row.locator("[data-state=pending]", has_text="4").wait_for()  # by itself
        shoot(page, "queues")
        row.locator("input").check()
        page.click("button:has-text('Pause')")
        shoot(page, "confirm")
        page.click("button:has-text('Yes, pause')")
        assert page.locator(".messagelist").inner_text() == "1 queue paused."
        assert page.locator("tr[data-queue=emails] [data-state=paused]").inner_text() == "paused"

        page.goto("/admin/spooled/deadletter/")
        shoot(page, "deadletters")
        page.click(f"a[href*='{job}']")
        assert NASTY in page.locator("pre").first.inner_text()
        shoot(page, "job")
        assert page.title() != "owned"
        page.click("button:has-text('Retry')")
        page.click("button:has-text('Yes, retry')")
        assert page.locator("h2 .spooled-status").inner_text() == "pending"
        page.set_viewport_size({"width": 400, "height": 800})
        page.goto("/admin/spooled/queuedjob/")
        shoot(page, "narrow")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 400
    finally:
        os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE")
    assert settings.DEBUG is False
