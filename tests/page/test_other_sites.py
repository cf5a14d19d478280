"""What pages of other sites can do to somebody who is logged in: nothing. Links from them work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from spooled_contrib.server import DEVELOPMENT_KEY, EmbeddedServer
from tests.page.conftest import Outside, log_in

ELSEWHERE = """
<form id=pause method=post enctype=text/plain action="{url}/api/v1/queues/mail/pause"></form>
<form id=login method=post action="{url}/login"><input name=api_key value="{key}"></form>
<a href="{url}/#/queues/mail">look at this</a>
"""
ATTACKS = """async (url) => {
  const went = [];
  for (const [path, options] of [
    ["/api/v1/queues/mail/pause", {method: "POST", mode: "no-cors"}],
    ["/api/v1/queues/mail/pause", {method: "POST", headers: {"x-csrf-token": "x"}}],
    ["/api/v1/jobs", {}],
    ["/page/session", {}],
  ]) went.push(await fetch(url + path, {credentials: "include", ...options}).then((r) => r.type, () => "refused"));
  return went;
}"""


@pytest.fixture
def elsewhere(server: EmbeddedServer) -> Iterator[str]:
    """Another program's page on this machine: another origin, and for cookies the same site."""
    body = ELSEWHERE.format(url=server.url, key=DEVELOPMENT_KEY).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}/"
        other.shutdown()
        thread.join()


def test_they_change_and_read_nothing(page: Any, server: EmbeddedServer, outside: Outside, elsewhere: str):
    outside.create("mail")
    page.goto(elsewhere)
    assert page.evaluate(ATTACKS, server.url) == ["opaque", "refused", "refused", "refused"]
    page.evaluate("document.getElementById('pause').submit()")
    page.locator("text=A cookie is only accepted from this server's own pages").wait_for()
    assert outside.call("GET", "/queues/mail")["enabled"] is True


def test_they_do_not_log_anybody_in(open_page: Any, elsewhere: str):
    page = open_page()
    page.goto(elsewhere)
    page.evaluate("document.getElementById('login').submit()")
    page.locator("text=That form was not this server's own").wait_for()
    assert page.context.cookies() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_their_links_lead_to_what_they_name(page: Any, outside: Outside, elsewhere: str, host: str):
    outside.create("mail")
    # From "localhost" it is another site, and the browser keeps the strict cookie back at first.
    page.goto(elsewhere.replace("127.0.0.1", host))
    page.click("text=look at this")
    page.locator("h1:has-text('mail')").wait_for()


def test_a_link_waits_for_the_log_in(open_page: Any, server: EmbeddedServer, outside: Outside):
    outside.create("mail")
    page = open_page()
    log_in(page, "/#/queues/mail")
    page.locator("h1:has-text('mail')").wait_for()
