"""Celery and kombu on Spooled: change the broker URL.

    app = Celery("shop", broker="spooled://:sp_live_...@api.spooled.cloud")

Importing this package makes the URL known; so does `broker_transport="spooled_contrib.kombu:Transport"`, and the
`celery` command knows it by itself. Install it with `pip install "spooled-contrib[celery]"`; docs/celery.md shows the
rest.
"""

from __future__ import annotations

from kombu.transport import TRANSPORT_ALIASES

from spooled_contrib.kombu._names import from_spooled, to_spooled
from spooled_contrib.kombu._transport import Channel, Transport

# kombu takes what is before the plus for the transport; but the whole scheme, when it goes on to a second broker.
for _scheme in ("spooled", "spooled+http", "spooled+https"):
    TRANSPORT_ALIASES.setdefault(_scheme, "spooled_contrib.kombu:Transport")

__all__ = ["Channel", "Transport", "from_spooled", "to_spooled"]
