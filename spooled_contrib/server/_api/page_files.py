"""The page's files, read once and served from memory.

Names are looked up in a dictionary of what the package has, so no path from outside ever reaches the file system.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from msgspec import Struct

from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Header, Reply

_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

# Nothing but this server's own files, no inline code or style, and no form that leads elsewhere.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

# The referrer policy is not `no-referrer`, because browsers then send `Origin: null` with a form, and the log-in looks
# at the origin.
SECURITY: Final[list[Header]] = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class PageFile(Struct, frozen=True):
    body: bytes
    content_type: bytes
    etag: bytes


@cache
def page_files() -> dict[str, PageFile]:
    """All files of the page by name."""
    found: dict[str, PageFile] = {}
    for entry in (files("spooled_contrib.server") / "page").iterdir():
        content_type = _TYPES.get(entry.name.rpartition(".")[2])
        if content_type is not None:
            body = entry.read_bytes()
            found[entry.name] = PageFile(
                body, content_type, b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'
            )
    return found


def file_reply(call: Call, file: PageFile) -> Reply:
    """Return the file, or 304 when the browser has it. It asks each time, so a new version shows at once."""
    headers = [*SECURITY, (b"etag", file.etag), (b"cache-control", b"no-cache"), (b"vary", b"cookie")]
    known = call.header(b"if-none-match")
    if known is not None and file.etag in [one.strip().removeprefix(b"W/") for one in known.split(b",")]:
        return Reply(304, b"", headers)
    return Reply(200, file.body, [(b"content-type", file.content_type), *headers])


def html_reply(body: str, status: int = 200, headers: list[Header] | None = None) -> Reply:
    """A page that is made for one request."""
    return Reply(
        status,
        body.encode(),
        [
            (b"content-type", _TYPES["html"]),
            *SECURITY,
            (b"cache-control", b"no-store"),
            *(headers or []),
        ],
    )


def redirect(location: str, headers: list[Header] | None = None) -> Reply:
    return Reply(
        303,
        b"",
        [(b"location", location.encode()), *SECURITY, (b"cache-control", b"no-store"), *(headers or [])],
    )
