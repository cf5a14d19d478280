"""What people do on the page, in headless Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spooled_contrib.server import EmbeddedServer
from tests.page.conftest import NASTY, Outside, log_in

UNKNOWN = {"code": "NOT_FOUND", "message": "No route matches this path"}


def chip(page: Any) -> Any:
    return page.locator("h1 .chip")


def confirm(page: Any, text: str) -> None:
    page.locator("dialog button", has_text=text).click()


def test_a_wrong_key_and_then_the_right_one(open_page: Callable[..., Any], server: EmbeddedServer):
    page = open_page()
    page.goto("/#/dead")
    page.fill("#api_key", "sp_test_this-is-not-it")
    page.click("button:has-text('Log in')")
    assert "Unknown API key" in page.locator("[role=alert]").inner_text()
    page.fill("#api_key", server.api_key)
    page.keyboard.press("Enter")
    # Back to where one wanted to go.
    page.locator("h1:has-text('Dead letters')").wait_for()
    cookies = page.context.cookies()
    assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")]
    assert page.evaluate("document.cookie") == ""


def test_logging_in_without_javascript(open_page: Callable[..., Any]):
    page = open_page(java_script_enabled=False)
    page.goto("/")
    page.click("text=Use the development key")
    assert "spooled jobs list" in page.locator("noscript, main").first.inner_text()


def test_jobs_created_outside_appear_by_themselves(page: Any, outside: Outside):
    page.locator("text=No queue has a job yet").wait_for()
    page.locator("#live[data-state=live]").wait_for()
    outside.create("mail")
    row = page.locator("tr[data-key=mail]")
    row.locator("[data-name=pending]", has_text="1").wait_for()
    outside.create("mail")
    row.locator("[data-name=pending]", has_text="2").wait_for()
    outside.claim()
    row.locator("[data-name=processing]", has_text="1").wait_for()  # a claim is not announced
    outside.bury("other", error="it broke")
    page.locator(".attention", has_text="it broke").wait_for()


def test_one_job_from_its_creation_to_its_result(page: Any, outside: Outside):
    job_id = outside.create(
        payload={"job_type": "welcome", "to": NASTY, "id": 12345678901234567890},
        tags=["nightly", NASTY],
        idempotency_key="once",
    )
    page.goto(f"/#/jobs/{job_id}")
    page.locator("h1:has-text('welcome')").wait_for()
    assert chip(page).inner_text() == "pending"
    assert NASTY.replace('"', '\\"') in page.locator("pre").first.inner_text()
    assert "12345678901234567890" in page.locator("pre").first.inner_text()
    assert page.locator(".tags li").all_inner_texts() == ["nightly", NASTY]
    assert "once" in page.locator(".facts").inner_text()
    claimed = outside.claim(lease=600)
    page.locator(".lease:has-text('ends in 9 min')").wait_for()
    outside.ack("complete", claimed, result={"sent": NASTY})
    page.locator("h1 .chip.is-completed").wait_for()
    assert NASTY.replace('"', '\\"') in page.locator("section:has-text('Result') pre").inner_text()
    assert page.locator(".timeline b").all_inner_texts() == ["Created", "Claimed", "Completed"]
    assert page.locator("#announce").inner_text() == "The job is completed"
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "welcome · Spooled"


def test_nasty_text_is_text_everywhere(page: Any, outside: Outside):
    outside.bury("mail", error=NASTY, payload={"job_type": NASTY})
    for path in ("/#/", "/#/jobs", "/#/dead", "/#/queues/mail", f"/#/jobs?q={NASTY}&queue={NASTY}"):
        page.goto(path)
        page.locator("main h1").wait_for()
        page.locator("main", has_text="onerror").wait_for()
        assert page.locator("main img, main script").count() == 0
    assert "owned" not in page.title()


def test_priority_cancel_and_retry(page: Any, outside: Outside):
    job_id = outside.create()
    page.goto(f"/#/jobs/{job_id}")
    page.click("button:has-text('Priority')")
    page.fill("dialog input", "70")
    confirm(page, "Change")
    page.locator(".facts dd:has-text('70')").wait_for()
    page.click("button:has-text('Cancel job')")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert outside.status(job_id) == "pending"
    page.click("button:has-text('Cancel job')")
    confirm(page, "Cancel the job")
    page.locator("h1 .chip.is-cancelled").wait_for()
    assert outside.status(job_id) == "cancelled"

    dead = outside.bury(error="ValueError: no")
    page.goto(f"/#/jobs/{dead}")
    assert page.locator(".failure pre").inner_text() == "ValueError: no"
    page.click("button:has-text('Retry')")
    page.locator("h1 .chip.is-pending").wait_for()
    assert outside.status(dead) == "pending"


def test_what_the_server_refuses_is_said(page: Any, outside: Outside):
    job_id = outside.create()
    page.goto(f"/#/jobs/{job_id}")
    page.click("button:has-text('Cancel job')")
    outside.claim()  # meanwhile
    confirm(page, "Cancel the job")
    page.locator("#messages .error").wait_for()
    page.goto("/#/jobs/no-such-job")
    page.locator("h1:has-text('Not found')").wait_for()


def test_dead_letters_are_retried_and_purged(page: Any, outside: Outside):
    ids = [outside.bury("mail") for _ in range(3)]
    other = outside.bury("other")
    page.goto("/#/dead")
    page.locator("tbody tr").nth(3).wait_for()
    page.check(f"[data-id='{ids[0]}']")
    page.check(f"[data-id='{ids[1]}']")
    page.click("button:has-text('Retry selected (2)')")
    page.locator("tbody tr").nth(2).wait_for(state="detached")
    assert [outside.status(one) for one in [*ids, other]] == [
        "pending",
        "pending",
        "deadletter",
        "deadletter",
    ]

    page.select_option("[data-filter=queue]", "other")
    page.locator("button:has-text('Retry all in other')").click()
    confirm(page, "Retry all")
    page.locator(".empty:has-text('No dead letters in other')").wait_for()
    assert outside.status(other) == "pending"

    page.select_option("[data-filter=queue]", "")
    page.click("button:has-text('Purge')")
    assert "Delete 1 job for good?" in page.locator("dialog h2").inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    confirm(page, "Delete for good")
    page.locator(".empty").wait_for()
    assert outside.call("GET", f"/jobs/{ids[2]}", status=404)["code"] == "NOT_FOUND"


def test_a_key_for_some_queues_retries_what_it_sees(open_page: Callable[..., Any], outside: Outside):
    job_id, hidden = outside.bury("mail"), outside.bury("other")
    key, _ = outside.new_key("mail")
    page = open_page()
    page.goto("/login#/dead")
    page.fill("#api_key", key)
    page.keyboard.press("Enter")
    page.locator("button:has-text('Purge'):disabled").wait_for()
    page.check("thead input")
    page.click("button:has-text('Retry selected (1)')")
    page.locator(".empty").wait_for()
    assert (outside.status(job_id), outside.status(hidden)) == ("pending", "deadletter")
    assert page.locator("#who").inner_text().endswith(": mail")


def test_a_queue_is_paused_and_resumed(page: Any, outside: Outside):
    outside.create("mail")
    page.goto("/#/queues/mail")
    page.click("button:has-text('Pause')")
    page.fill("dialog input", "migration until noon")
    confirm(page, "Pause")
    page.locator(".note:has-text('migration until noon')").wait_for()
    assert outside.call("GET", "/queues/mail")["enabled"] is False
    page.click("button:has-text('Resume')")
    page.locator(".note").wait_for(state="detached")
    assert outside.call("GET", "/queues/mail")["enabled"] is True


def test_jobs_are_filtered_searched_ordered_and_paged(page: Any, outside: Outside):
    for n in range(60):
        outside.create("mail", {"job_type": "welcome" if n % 2 else "goodbye"}, tags=[f"t{n}"])
    outside.create("other", {"job_type": "report"}, priority=9)
    page.goto("/#/jobs")
    rows = page.locator("tbody tr")
    rows.nth(49).wait_for()
    page.click(".pager >> text=Next")
    rows.nth(11).wait_for(state="detached")
    assert rows.count() == 11
    page.select_option("[data-filter=queue]", "mail")
    page.fill("[data-filter=type]", "welcome")
    rows.nth(30).wait_for(state="detached")
    page.locator("text=goodbye").first.wait_for(state="detached")
    assert rows.count() == 30
    assert page.url.endswith("#/jobs?queue=mail&type=welcome")
    page.fill("[data-filter=tag]", "t7")
    rows.nth(1).wait_for(state="detached")
    page.click(".filters >> text=Clear")
    rows.nth(49).wait_for()
    page.select_option("[data-filter=order]", "highest priority")
    page.locator("tbody tr:first-child:has-text('report')").wait_for()
    page.fill("#search", "REPO")
    rows.nth(1).wait_for(state="detached")
    assert "report" in rows.inner_text()
    page.select_option("[data-filter=status]", "completed")
    page.locator(".empty:has-text('No job matches')").wait_for()


def test_a_revoked_key_ends_the_session_on_the_page(open_page: Callable[..., Any], outside: Outside):
    key, key_id = outside.new_key()
    page = open_page()
    page.goto("/login")
    page.fill("#api_key", key)
    page.keyboard.press("Enter")
    page.locator("#live[data-state=live]").wait_for()
    outside.call("DELETE", f"/api-keys/{key_id}", status=204)
    page.locator("[role=alert]:has-text('Your session has ended')").wait_for()
    assert page.context.cookies() == []


def test_logging_in_anew_in_another_tab(page: Any, outside: Outside):
    job_id = outside.create()
    page.goto(f"/#/jobs/{job_id}")
    page.locator("button:has-text('Cancel job')").wait_for()
    log_in(page.context.new_page(), "/login?ended=1")
    page.click("button:has-text('Cancel job')")
    confirm(page, "Cancel the job")
    page.locator("h1 .chip.is-cancelled").wait_for()


def test_logging_out(page: Any):
    page.click("text=Log out")
    page.locator("#api_key").wait_for()
    assert page.context.cookies() == []
    page.goto("/")
    page.locator("#api_key").wait_for()


def test_a_server_that_comes_back(open_page: Callable[..., Any], tmp_path: Path):
    with EmbeddedServer(db=str(tmp_path / "jobs.db")) as server:
        page = open_page(base_url=server.url)
        log_in(page)
        page.locator("#live[data-state=live]").wait_for()
        server.stop()
        page.locator("#live[data-state=reconnecting]").wait_for()
        server.start()
        others = Outside(server)
        others.create("mail")
        page.locator("tr[data-key=mail]").wait_for()
        page.locator("#live[data-state=live]").wait_for()
        others.http.close()


def test_workers_and_parts_that_the_server_does_not_have(page: Any, outside: Outside):
    page.goto("/#/workers")
    page.locator(".empty code:has-text('spooled worker')").wait_for()
    outside.call(
        "POST", "/workers/register", {"queue_name": "mail", "hostname": "web-1", "worker_id": "w1"}, 201
    )
    page.locator("tr[data-key=w1]:has-text('web-1')").wait_for()
    for part in ("schedules", "workflows"):
        page.route(f"**/api/v1/{part}*", lambda route: route.fulfill(status=404, json=UNKNOWN))
        page.goto(f"/#/{part}")
        page.locator(f".empty:has-text('This server has no {part}.')").wait_for()


def test_a_schedule_is_run_paused_and_resumed(page: Any, outside: Outside):
    body = {
        "name": "nightly",
        "cron_expression": "0 3 * * *",
        "timezone": "Europe/Amsterdam",
        "queue_name": "reports",
        "payload_template": {"job_type": "report"},
    }
    which = outside.call("POST", "/schedules", body, 201)["id"]
    page.goto("/#/schedules")
    row = page.locator(f"tr[data-key='{which}']")
    row.locator("button:has-text('Pause')").click()
    row.locator(".chip:has-text('paused')").wait_for()
    assert outside.call("GET", f"/schedules/{which}")["is_active"] is False
    row.locator("button:has-text('Resume')").click()
    row.locator(".chip:has-text('active')").wait_for()
    row.locator("a:has-text('nightly')").click()
    page.locator(".empty:has-text('It has not run yet')").wait_for()
    page.click("button:has-text('Run now')")
    page.locator("tr:has(.chip.is-pending)").click()
    page.locator("h1:has-text('report')").wait_for()


def test_a_workflow_is_followed_and_cancelled(page: Any, outside: Outside):
    jobs = [
        {"key": "fetch", "queue_name": "etl", "payload": {"job_type": "fetch"}},
        {"key": "load", "queue_name": "etl", "payload": {"job_type": "load"}, "depends_on": ["fetch"]},
    ]
    which = outside.call("POST", "/workflows", {"name": "nightly load", "jobs": jobs})["workflow_id"]
    page.goto("/#/workflows")
    page.click("a:has-text('nightly load')")
    page.locator(".node.is-pending").nth(1).wait_for()
    outside.ack("complete", outside.claim("etl"))
    page.locator(".node.is-completed .name:has-text('fetch')").wait_for()
    page.click("button:has-text('Cancel')")
    confirm(page, "Cancel the workflow")
    page.locator("h1 .chip.is-cancelled").wait_for()
    assert outside.call("GET", f"/workflows/{which}")["status"] == "cancelled"
    page.locator(".node.is-cancelled").click()
    page.locator("h1:has-text('load')").wait_for()
    page.locator("section:has-text('Waits for') li").wait_for()  # of which a second one would be an error
