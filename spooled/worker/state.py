"""What a worker is doing."""

from __future__ import annotations

import enum


class WorkerState(enum.StrEnum):
    """The life of a worker. A stopped or failed one can be started again."""

    IDLE = "idle"
    """Made, never started."""
    STARTING = "starting"
    """Registering with the server; kept up while the server cannot be reached."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Claims nothing more; waits for its jobs."""
    STOPPED = "stopped"
    ERROR = "error"
    """Stopped because going on was pointless, for example because the API key was revoked."""


class StuckWorkerError(RuntimeError):
    """A handler has gone on for `timeout_grace` seconds after it was aborted, and the worker has `on_stuck="exit"`."""
