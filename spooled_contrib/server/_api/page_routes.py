"""The page at `/`: its files, logging in and out, and the numbers that it shows first.

Everything else on it comes from the calls of the contract, which take the session's cookie like an API key.
"""

from __future__ import annotations

import html
import uuid
from urllib.parse import parse_qsl

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import page_session
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.hosts import is_same_origin
from spooled_contrib.server._api.page_files import file_reply, html_reply, page_files, redirect
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route, no_route
from spooled_contrib.server._keys import key_hash
from spooled_contrib.server._rate import LOGINS_PER_MINUTE, MINUTE, PAGE_LOGINS_PER_MINUTE
from spooled_contrib.server._rules import organizations, overview
from spooled_contrib.server._settings import DEVELOPMENT_KEY
from spooled_contrib.server._times import SECOND, moment

_NO_STORE = (b"cache-control", b"no-store")


async def index(call: Call) -> Reply:
    """Return the shell, for whoever is logged in; the others are sent to the log-in."""
    token = page_session.cookie(call)
    if token is not None:
        try:
            await call.services.gate.authenticate(token)
        except refuse.RefusalError:
            return redirect("/login?ended=1", [page_session.clear_cookie(call)])
        return file_reply(call, page_files()["index.html"])
    return redirect("/login")


async def asset(call: Call) -> Reply:
    file = page_files().get(call.parameters[0])
    if file is None or file.content_type.startswith(b"text/html"):
        raise no_route()
    return file_reply(call, file)


async def login_form(call: Call) -> Reply:
    ended = "ended" in call.query
    return _login_page(call, "Your session has ended. Log in again." if ended else "")


async def login(call: Call) -> Reply:
    """Works as a plain form: the answer is the page, or the form again with what was wrong."""
    if not is_same_origin(call):
        return _login_page(call, "That form was not this server's own. Use this one.", 403)
    body = await call.body() or b""
    try:
        fields = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
    except ValueError:
        fields = {}
    key = fields.get("api_key", "").strip()
    if not key:
        return _login_page(call, "Enter an API key.", 400)
    gate = call.services.gate
    try:
        gate.limiter.check_window("page-login", call.address, PAGE_LOGINS_PER_MINUTE, MINUTE)
        gate.limiter.check_window("login", key_hash(key), LOGINS_PER_MINUTE, MINUTE)
        if key.startswith("eyJ"):
            raise refuse.unauthorized("Log in with an API key, not with a token")
        known = await gate.authenticate(key)
    except refuse.RefusalError as refusal:
        if refusal.status == 429:
            wait = (refusal.headers or {})["retry-after"]
            return _login_page(call, f"{refusal.message}.", 429, [(b"retry-after", wait.encode())])
        return _login_page(call, f"{refusal.message}. Check it, or make a new one with another key.", 401)
    token = gate.mint(known, "access", str(uuid.uuid4()))
    return redirect("/", [page_session.set_cookie(call, token)])


async def logout(call: Call) -> Reply:
    """Ends the login for good, so that a copy of the cookie is worth nothing either."""
    await call.services.gate.revoke_session(call.services.gate.claims(call.bearer))
    return Reply(NO_CONTENT, headers=[page_session.clear_cookie(call), _NO_STORE])


async def session(call: Call) -> Reply:
    """Return who is logged in, what they may see, and the token that changes need."""
    claims = call.services.gate.claims(call.bearer)
    key = await call.services.gate.key_of(claims)
    row = await call.read(lambda tx: organizations.get(tx, claims.org_id))
    return json_reply(
        {
            "csrf_token": page_session.csrf_token(call, call.bearer),
            "organization": row[1],
            "queues": None if key.principal.queues is None else sorted(key.principal.queues),
            "expires_at": moment(claims.exp * SECOND),
            "now": moment(call.services.now),
        },
        headers=[_NO_STORE],
    )


async def numbers(call: Call) -> Reply:
    since = call.integer("since", 0, 0, 2**40)
    principal = call.principal
    return json_reply(
        await call.read(lambda tx: overview.overview(tx, principal, since)), headers=[_NO_STORE]
    )


def _login_page(
    call: Call, error: str, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> Reply:
    files = page_files()
    text = files["login.html"].body.decode()
    told = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
    public = call.services.settings.effective_key == DEVELOPMENT_KEY and page_session.is_local(call)
    offer = files["login-development.html"].body.decode() if public else ""
    text = text.replace("<!-- error -->", told).replace("<!-- development -->", offer)
    return html_reply(text.replace("DEVELOPMENT_KEY", DEVELOPMENT_KEY), status, headers)


ROUTES = [
    Route("GET", "/", index, "public"),
    Route("GET", "/login", login_form, "public"),
    Route("POST", "/login", login, "public"),
    Route("POST", "/logout", logout, "jwt"),
    Route("GET", "/page/session", session, "jwt"),
    Route("GET", "/page/numbers", numbers),
    Route("GET", "/page/{name}", asset, "public"),
]
