"""Refuse requests that another web site may have made somebody's browser send.

A page that anybody visits can give its own name the address of this machine (DNS rebinding), and then read what the
server answers: so a server on this machine answers to this machine's names. And it can open WebSockets and event
streams of any server without asking it first: so those are taken from the server's own pages. A credential in a header,
or JSON in the body, needs no look: browsers send such requests to another site only with its consent (CORS).
"""

from __future__ import annotations

import ipaddress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._settings import ServerSettings, is_loopback

if TYPE_CHECKING:
    from spooled_contrib.server._api.call import Call

_MOST = 100


class Hosts:
    """The names that a server answers to. Remembers what it has seen, because nearly every request has the same."""

    def __init__(self, settings: ServerSettings) -> None:
        self._allowed = tuple(name.lower() for name in settings.allowed_hosts)
        self._names = (settings.host.lower(), *self._allowed)
        # Elsewhere the names are unknown here, so they are looked at only when they were told.
        self.checks = bool(self._allowed) or is_loopback(settings.host)
        self._known: set[bytes] = set()

    def check(self, host: bytes) -> None:
        """Look at a `Host` header.

        Raises:
            RefusalError: 403 for a name that is not the server's.
        """
        if host in self._known:
            return
        name = _name_of(host.decode("latin-1"))
        if not (_is_this_machine(name) or any(fnmatchcase(name, one) for one in self._names)):
            raise refuse.access_denied(
                f"This server does not answer to the host name {name!r}. If the name is right, start the server with "
                f"--allow-host {name or 'NAME'} (allowed_hosts=); else call it as localhost or 127.0.0.1"
            )
        if len(self._known) < _MOST:
            self._known.add(host)


def require_own_page(call: Call) -> None:
    """Refuse what a page of another site made a browser send, unless the settings allow that site.

    Raises:
        RefusalError: 403.
    """
    origin = call.header(b"origin")
    if origin is not None and origin.decode("latin-1").lower() in call.services.settings.allowed_origins:
        return
    if not is_same_origin(call):
        shown = (origin or b"another site").decode("latin-1")
        raise refuse.access_denied(
            f"Refused a request that a page of {shown} made a browser send. Send the key in the Authorization header, "
            "or start the server with --allow-origin for this site (allowed_origins=)"
        )


def is_same_origin(call: Call) -> bool:
    """Return whether a browser says that a page of this server made it send the request, or the person at it.

    Only host and port are compared: a proxy may have taken the TLS off. Programs send neither header.
    """
    if call.header(b"sec-fetch-site") not in (None, b"same-origin", b"none"):
        return False
    origin = call.header(b"origin")
    host = call.header(b"host") or b""
    return origin is None or origin.partition(b"://")[2].lower() == host.lower()


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host


def _is_this_machine(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
