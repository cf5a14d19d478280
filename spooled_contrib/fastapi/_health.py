"""The router: probes for whoever supervises the process, and statistics for those who may see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from fastapi import APIRouter, HTTPException, Response, params
from pydantic import BaseModel, Field

from spooled import SpooledError
from spooled_contrib.fastapi._jobs import Job
from spooled_contrib.fastapi._runtime import Runtime, logger


class Live(BaseModel):
    """The event loop answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Whether this process does its work."""

    status: Literal["ready", "not ready"]
    workers: dict[str, str] = Field(description="State of each queue's worker in this process.")


class Drain(BaseModel):
    """Whether the workers of this process are being stopped."""

    status: Literal["serving", "draining"]
    active_jobs: int = Field(description="Jobs that are claimed and not settled.")


class QueueStatistics(BaseModel):
    """The jobs of one queue, by state."""

    queue_name: str
    pending: int = Field(description="Due, and waiting for a worker.")
    scheduled: int = Field(description="Not due yet, retries included.")
    processing: int
    completed: int
    deadletter: int = Field(description="Failed for good.")
    cancelled: int


class _Plugin(Protocol):
    jobs: list[Job[Any, ..., Any]]

    @property
    def runtime(self) -> Runtime | None: ...


def make_router(
    plugin: _Plugin,
    statistics: Sequence[params.Depends],
    ready_within: float,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
) -> APIRouter:
    """Return the routes of one plugin object."""
    router = APIRouter(lifespan=lifespan, tags=["spooled"])

    @router.get("/health/live")
    async def live() -> Live:
        """200 as long as the event loop answers."""
        return Live()

    @router.get("/health/ready", responses={503: {"model": Ready}})
    async def ready(response: Response) -> Ready:
        """200 when the workers of this process work, or none belong to it; else 503."""
        runtime = plugin.runtime
        fine = runtime is not None and runtime.is_ready(ready_within)
        response.status_code = 200 if fine else 503
        states = {} if runtime is None else runtime.worker_states()
        return Ready(
            status="ready" if fine else "not ready",
            workers={queue: state.value for queue, state in states.items()},
        )

    @router.get("/health/drain", responses={503: {"model": Drain}})
    async def drain(response: Response) -> Drain:
        """503 while the workers of this process are being stopped; else 200."""
        runtime = plugin.runtime
        draining = runtime is not None and runtime.draining
        response.status_code = 503 if draining else 200
        active = 0 if runtime is None or runtime.group is None else runtime.group.active_job_count
        return Drain(status="draining" if draining else "serving", active_jobs=active)

    if statistics:

        @router.get("/queues", dependencies=list(statistics), responses={503: {"description": "No answer"}})
        async def queues() -> list[QueueStatistics]:
            """Return how many jobs the queues of this application have, by state."""
            runtime = plugin.runtime
            if runtime is None:
                raise HTTPException(503, "the application's lifespan is not running")
            names = sorted({job.queue_name for job in plugin.jobs})
            try:
                return list(await asyncio.gather(*(_statistics(runtime, name) for name in names)))
            except SpooledError as error:
                logger.warning("statistics of the queues are not to be had: %s", error)
                raise HTTPException(503, "the Spooled server does not answer; the log says more") from error

    return router


async def _statistics(runtime: Runtime, queue_name: str) -> QueueStatistics:
    stats = await runtime.client.jobs.get_stats(queue_name)
    return QueueStatistics(
        queue_name=queue_name,
        pending=stats.pending,
        scheduled=stats.scheduled,
        processing=stats.processing,
        completed=stats.completed,
        deadletter=stats.deadletter,
        cancelled=stats.cancelled,
    )
