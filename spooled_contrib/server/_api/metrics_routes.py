"""`GET /metrics` for Prometheus (contract section 2)."""

from __future__ import annotations

import hmac

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._metrics import CONTENT_TYPE
from spooled_contrib.server._rules import gauges


async def metrics(call: Call) -> Reply:
    token = call.services.settings.metrics_token
    if token is not None:
        sent = call.header(b"authorization") or b""
        if not hmac.compare_digest(b"Bearer " + token.encode(), sent):
            raise refuse.unauthorized("Send the header Authorization: Bearer <metrics token>")
    found = await call.read(gauges.measure)
    # One connection that writes, and one that reads where there is a file for two.
    found["database_connections_active"] = 1 if call.services.settings.db == ":memory:" else 2
    text = call.services.metrics.render(found)
    return Reply(200, text.encode(), [(b"content-type", CONTENT_TYPE)])


ROUTES = [Route("GET", "/metrics", metrics, "open")]
