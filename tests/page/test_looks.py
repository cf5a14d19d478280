"""What everybody should be able to use: keyboard, narrow screens, dark rooms, weak eyes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.page import contract
from tests.page.conftest import Outside, log_in

VIEWS = [
    "/",
    "/jobs",
    "/dead",
    "/workers",
    "/queues/mail",
    "/schedules",
    "/schedules/s1",
    "/workflows",
    "/workflows/w1",
]

# Every text and what is behind it. Colours are read from a canvas, because computed ones may be in any notation.
CONTRAST = """() => {
  const dot = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color) => { dot.clearRect(0, 0, 1, 1); dot.fillStyle = color; dot.fillRect(0, 0, 1, 1);
    return [...dot.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (e) => { for (; e; e = e.parentElement) {
    const color = rgba(getComputedStyle(e).backgroundColor); if (color[3] > 250) return color; }
    return rgba('Canvas'); };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest('.unseen, script')) continue;
    if (!e.checkVisibility({opacityProperty: true})) continue;
    const style = getComputedStyle(e);
    const under = e instanceof SVGElement ? e.closest('a')?.querySelector('rect') : null;
    const [one, two] = [light(rgba(e instanceof SVGElement ? style.fill : style.color)),
                        light(under ? rgba(getComputedStyle(under).fill) : behind(e))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${walk.currentNode.data.trim()}`);
  }
  return bad;
}"""


@pytest.fixture(autouse=True)
def life(outside: Outside) -> None:
    """Something of everything to look at."""
    long = "ConnectionRefusedError: [Errno 111] smtp.example.org:587 refused the connection " * 3
    outside.bury("mail", error=long, payload={"job_type": "a-rather-long-name-of-a-job-type-" * 3})
    outside.create("mail", {"job_type": "later"}, scheduled_at=contract.LATER, tags={"team": "billing"})
    for n in range(3):
        outside.create("mail", {"n": n}, priority=n)
    outside.ack("complete", outside.claim(), result={"sent": True})
    outside.claim()
    outside.call("POST", "/queues/mail/pause", {"reason": "migration"})
    worker = {"queue_name": "mail", "hostname": "web-1.example.org", "worker_id": "w" * 60}
    outside.call("POST", "/workers/register", worker, 201)


def fulfil(page: Any, path: str, body: Any) -> None:
    page.route(
        lambda url: url.partition("?")[0].endswith(f"/api/v1/{path}"),
        lambda route: route.fulfill(json=body),
    )


def with_contract(page: Any) -> Any:
    """Schedules and workflows in every state, which no test could bring about in time."""
    bodies = {
        "schedules": [
            contract.schedule("s1", "nightly"),
            contract.schedule("s2", "weekly", is_active=False, next_run_at=None),
        ],
        "schedules/s1": contract.schedule("s1", "nightly"),
        "schedules/s1/history": [contract.run("r1", "j1", "completed"), contract.run("r2", None, None)],
        "workflows": [contract.workflow("w1", "till to report", "failed")],
        "workflows/w1": contract.whole_workflow("w1", "till to report", "failed"),
    }
    for path, body in bodies.items():
        fulfil(page, path, body)
    return page


def visit(page: Any, view: str) -> None:
    page.goto(f"/#{view}")
    page.evaluate("document.fonts.ready")
    page.locator(f"main[data-shows='#{view}']").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(open_page: Callable[..., Any], outside: Outside, scheme: str):
    page = with_contract(open_page(color_scheme=scheme))
    page.goto("/login?ended=1")
    assert page.evaluate(CONTRAST) == []
    log_in(page)
    (job,) = outside.call("GET", "/jobs?status=processing")
    for view in [*VIEWS, f"/jobs/{job['id']}"]:
        visit(page, view)
        assert page.evaluate(CONTRAST) == [], view
    page.click("button:has-text('Log out')", trial=True)
    visit(page, "/dead")
    page.click("button:has-text('Purge')")
    assert page.evaluate(CONTRAST) == []


def test_at_400_pixels_the_page_does_not_scroll_sideways(open_page: Callable[..., Any], outside: Outside):
    page = with_contract(open_page(viewport={"width": 400, "height": 800}))
    page.goto("/login")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    log_in(page)
    jobs = outside.call("GET", "/jobs")
    for view in [*VIEWS, *(f"/jobs/{job['id']}" for job in jobs)]:
        visit(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, view
    # A picture scrolls in its own box.
    visit(page, "/workflows/w1")
    box = page.locator(".scroll.boxed")
    assert box.evaluate("one => one.scrollWidth > one.clientWidth")


def test_dark_follows_the_system_until_one_chooses(open_page: Callable[..., Any]):
    page = open_page(color_scheme="dark")
    log_in(page)

    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    assert paper() == "rgb(18, 22, 28)"
    page.click("#theme")
    assert paper() == "rgb(246, 247, 249)"
    page.reload()
    page.locator("main h1").wait_for()
    assert paper() == "rgb(246, 247, 249)"


def test_less_motion_is_no_motion(open_page: Callable[..., Any]):
    page = open_page(reduced_motion="reduce")
    log_in(page)
    page.locator("#live[data-state=live]").wait_for()
    assert page.evaluate("document.getAnimations().length") == 0


def test_everything_without_a_mouse(page: Any, outside: Outside):
    def focused() -> str:
        return str(page.evaluate("(document.activeElement.textContent || document.activeElement.id).trim()"))

    def press_until(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused() == wanted:
                return
        raise AssertionError(f"{wanted} is not reached with Tab")

    page.goto("/#/")
    page.reload()
    page.locator("tr[data-key=mail]").wait_for()
    page.keyboard.press("Tab")
    assert focused() == "Skip to content"
    page.keyboard.press("Enter")
    assert focused() == "Overview"
    page.locator("tr[data-key=mail]").focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.locator("h1:has-text('mail')").wait_for()
    assert focused().startswith("mail")  # a new view is read from its heading

    press_until("Resume")
    page.keyboard.press("Enter")
    page.locator("button:has-text('Pause')").wait_for()
    assert outside.call("GET", "/queues/mail")["enabled"] is True

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("later")
    page.keyboard.press("Enter")
    row = page.locator("tbody tr")
    row.nth(1).wait_for(state="detached")
    row.focus()
    page.keyboard.press("Enter")
    page.locator("h1:has-text('later')").wait_for()
    press_until("Cancel job…")
    page.keyboard.press("Enter")
    page.locator("dialog[open]").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert focused() == "Cancel job…"  # and the focus is back where it was


def test_focus_and_selection_survive_what_happens_meanwhile(page: Any, outside: Outside):
    page.goto("/#/dead")
    page.check("tbody input")
    page.locator("tbody tr").focus()
    key = page.evaluate("document.activeElement.dataset.key")
    outside.call("POST", "/queues/mail/resume")
    outside.bury("mail")
    page.locator("tbody tr").nth(1).wait_for()
    assert page.evaluate("document.activeElement.dataset.key") == key
    assert page.locator(f"tr[data-key='{key}'] input").is_checked()
    assert page.locator("button:has-text('Retry selected (1)')").is_enabled()


def test_a_workflow_is_drawn_in_layers(open_page: Callable[..., Any]):
    page = with_contract(open_page())
    log_in(page)
    page.goto("/#/workflows/w1")
    page.locator(".node").nth(5).wait_for()
    across = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.node')].map(n => [n.dataset.key, n.getCTM().e]))"
    )
    layers = sorted(set(across.values()))
    assert [layers.index(across[job]) for job in ("extract", "clean-a", "check", "join", "report")] == [
        0,
        1,
        1,
        2,
        3,
    ]
    assert page.locator(".edge").count() == 7
    assert page.locator(".node.is-deadletter").get_attribute("aria-label") == "clean-b, dead"
    page.locator(".node[data-key=extract]").focus()
    assert page.evaluate("document.activeElement.dataset.key") == "extract"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.graph') !== null")


def test_schedules_say_what_was_and_what_comes(open_page: Callable[..., Any]):
    page = with_contract(open_page())
    log_in(page)
    called: list[str] = []

    def answer(route: Any) -> None:
        called.append(route.request.url.rpartition("/api/v1")[2])
        assert route.request.headers["x-csrf-token"]
        route.fulfill(json={"job_id": "0123456789abcdef", "triggered_at": contract.BEFORE})

    page.route("**/api/v1/schedules/*/trigger", answer)
    page.route("**/api/v1/schedules/*/resume", answer)
    page.goto("/#/schedules")
    row = page.locator("tr[data-key=s1]")
    assert "0 3 * * *" in row.inner_text()
    row.locator("button:has-text('Run now')").click()
    page.locator("#messages:has-text('nightly has created job 01234567')").wait_for()
    page.locator("tr[data-key=s2] button:has-text('Resume')").click()
    page.locator("#messages:has-text('weekly is active')").wait_for()
    assert called == ["/schedules/s1/trigger", "/schedules/s2/resume"]
    row.locator("a:has-text('nightly')").click()
    page.locator("tr[data-key=r2]:has-text('the payload is too large')").wait_for()
