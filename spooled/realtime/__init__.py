"""What happens on the server, as it happens: `client.realtime()`, and clients of their own.

    realtime = client.realtime("sse")
    realtime.on("job.completed", lambda data: print(data.job_id, data.result))
    realtime.connect({"queue": "emails"})

WebSockets need the extra `realtime`: `pip install "spooled-contrib[realtime]"`.
"""

from __future__ import annotations

from spooled.realtime._filters import SubscriptionFilter
from spooled.realtime._reconnect_policy import ReconnectOptions
from spooled.realtime._standalone import (
    AsyncSSEClient,
    AsyncWebSocketClient,
    SSEClient,
    WebSocketClient,
    WebSocketConnectionOptions,
)
from spooled.realtime._unified import AsyncSpooledRealtime, SpooledRealtime
from spooled.realtime.events import (
    EVENT_TYPES,
    ConnectionState,
    ErrorReported,
    EventData,
    JobCompleted,
    JobCreated,
    JobFailed,
    JobStatusChanged,
    Ping,
    QueueCounts,
    RealtimeEvent,
    SystemHealth,
    WorkerDeregistered,
    WorkerRegistered,
    WorkerReported,
)

__all__ = [
    "EVENT_TYPES",
    "AsyncSSEClient",
    "AsyncSpooledRealtime",
    "AsyncWebSocketClient",
    "ConnectionState",
    "ErrorReported",
    "EventData",
    "JobCompleted",
    "JobCreated",
    "JobFailed",
    "JobStatusChanged",
    "Ping",
    "QueueCounts",
    "RealtimeEvent",
    "ReconnectOptions",
    "SSEClient",
    "SpooledRealtime",
    "SubscriptionFilter",
    "SystemHealth",
    "WebSocketClient",
    "WebSocketConnectionOptions",
    "WorkerDeregistered",
    "WorkerRegistered",
    "WorkerReported",
]
