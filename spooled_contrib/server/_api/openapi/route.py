"""The route that serves the document."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from spooled import __version__
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply
from spooled_contrib.server._api.routing import Route

PATH = "/openapi.json"


def document_route(routes: Sequence[Route]) -> Route:
    """Return a public route that describes `routes`. The document is built when it is first asked for."""
    built: list[bytes] = []

    async def openapi(_: Call) -> Reply:
        if not built:
            # Describing takes a thousand lines that a server which is never asked need not load.
            from spooled_contrib.server._api.openapi.document import build

            built.append(msgspec.json.encode(build(routes, __version__)))
        return Reply(200, built[0], [(b"content-type", b"application/json")])

    return Route("GET", PATH, openapi, "public")
