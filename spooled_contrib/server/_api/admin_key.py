"""The key of those who run the server (contract section 1.1)."""

from __future__ import annotations

import hmac

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call


def admin_key_matches(call: Call) -> bool:
    """Return whether the request carries the server's admin key. Never, when the server has none."""
    wanted, sent = call.services.settings.admin_key, call.header(b"x-admin-key")
    return wanted is not None and sent is not None and hmac.compare_digest(wanted.encode(), sent)


def require_admin_key(call: Call) -> None:
    """Let in who runs the server.

    Raises:
        RefusalError: 401 without the header, 403 with a wrong key, or when the server was given no key.
    """
    if call.header(b"x-admin-key") is None:
        raise refuse.unauthorized("Send the server's admin key in the header X-Admin-Key")
    if not admin_key_matches(call):
        raise refuse.access_denied("The admin key is wrong, or this server was started without one")
