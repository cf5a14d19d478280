"""For tests of code that enqueues jobs and works on them.

    done = drain(worker)
    assert [job.status for job in done] == ["completed"]

`drain` runs plain workers, `drain_async` asynchronous ones. A server to run against is
`spooled_contrib.server.EmbeddedServer`, or the pytest fixture `spooled_server`. Time is moved by a `ManualClock`.
"""

from __future__ import annotations

from spooled.clock import ManualClock
from spooled.testing._drain import drain, drain_async

__all__ = ["ManualClock", "drain", "drain_async"]
