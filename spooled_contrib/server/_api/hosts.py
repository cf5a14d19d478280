"""By which names a server is called (against DNS rebinding).

A server with the public development key listens on this machine only. But a website that anybody visits could give its
own name this machine's address, and then call the server, with the key that everybody knows, as if it were its own.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from spooled_contrib.server import _refusals as refuse

_MOST = 100


class Hosts:
    """Accepts names of this machine. Remembers what it has seen, because nearly every request has the same."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def check(self, host: bytes) -> None:
        """Look at a `Host` header.

        Raises:
            RefusalError: 403 for any other name.
        """
        if host in self._known:
            return
        if not _is_this_machine(host.decode("latin-1")):
            raise refuse.access_denied(
                "A server with the public development key answers to localhost, 127.0.0.1 and [::1] only; "
                "start it with an API key of your own"
            )
        if len(self._known) < _MOST:
            self._known.add(host)


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
