"""How a browser stays logged in: a cookie that holds an access token, and what a request with it must prove.

A browser sends cookies along with requests that another site made it send. So the cookie is only taken from pages of
this very server, and a request that changes something must also carry a token that no other site can read.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.hosts import is_same_origin
from spooled_contrib.server._api.reply import Header
from spooled_contrib.server._sessions import ACCESS_SECONDS

CSRF_HEADER = b"x-csrf-token"
_SAFE = ("GET", "HEAD")


def bearer_of_cookie(call: Call) -> str | None:
    """Return the access token of the cookie, for a request that may use it; None without a cookie.

    Raises:
        RefusalError: 403 when the request comes from another site, or changes something without the session's token;
            401 when the login has ended.
    """
    token = cookie(call)
    if token is None:
        return None
    if not is_same_origin(call):
        raise refuse.access_denied("A cookie is only accepted from this server's own pages")
    if call.scope["method"] not in _SAFE:
        shown = call.header(CSRF_HEADER) or b""
        if not hmac.compare_digest(shown, csrf_token(call, token).encode()):
            raise refuse.access_denied("With a cookie, changes need the session's token in X-CSRF-Token")
    return token


def cookie(call: Call) -> str | None:
    """Return what the session cookie holds, unchecked."""
    if not call.services.settings.page:
        return None
    wanted = cookie_name(call)
    for header, value in call.headers:
        if header == b"cookie":
            # Not `http.cookies`: it gives up at the first cookie it dislikes, and other programs on this machine may
            # have set such ones.
            for pair in value.decode("latin-1").split(";"):
                name, _, content = pair.partition("=")
                if name.strip() == wanted and content.startswith("eyJ"):
                    return content.strip()
    return None


def csrf_token(call: Call, token: str) -> str:
    """Return what a page of this session has to send along with changes.

    Raises:
        RefusalError: 401 when the login has ended.
    """
    gate = call.services.gate
    return gate.sign("csrf:" + gate.claims(token).sid)


def set_cookie(call: Call, token: str) -> Header:
    return _header(call, token, ACCESS_SECONDS)


def clear_cookie(call: Call) -> Header:
    return _header(call, "", 0)


def cookie_name(call: Call) -> str:
    """Has the port in it: browsers do not tell ports apart, and two servers on one machine must not share a login."""
    try:
        port = urlsplit(f"//{_host(call)}").port
    except ValueError:
        port = None
    return "spooled_session" if port is None else f"spooled_session_{port}"


def is_local(call: Call) -> bool:
    """Whether the browser's address bar names this machine. Another name may be somebody else's that leads here."""
    try:
        return urlsplit(f"//{_host(call)}").hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        return False


def _header(call: Call, value: str, seconds: int) -> Header:
    text = f"{cookie_name(call)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    # The proxy's word is good enough: who lies about it only makes their own cookie stricter.
    if call.scope["scheme"] == "https" or call.header(b"x-forwarded-proto") == b"https":
        text += "; Secure"
    return (b"set-cookie", text.encode("latin-1"))


def _host(call: Call) -> str:
    return (call.header(b"host") or b"").decode("latin-1")
