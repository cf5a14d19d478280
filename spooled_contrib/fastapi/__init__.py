"""Spooled in a FastAPI application: jobs as functions, workers in the lifespan or beside it.

    from fastapi import FastAPI
    from spooled_contrib.fastapi import Spooled

    spooled = Spooled()
    app = FastAPI(lifespan=spooled.lifespan)

Install it with `pip install "spooled-contrib[fastapi]"`. docs/fastapi.md shows the rest.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from spooled import AsyncSpooledClient
from spooled.worker import JobContext, current_job
from spooled_contrib.fastapi._jobs import Job, JobRouter
from spooled_contrib.fastapi._plugin import Spooled

__all__ = ["Job", "JobDep", "JobRouter", "Spooled", "SpooledDep", "get_job", "get_spooled"]


async def get_spooled(conn: HTTPConnection) -> AsyncSpooledClient:
    """Return the application's client, as a dependency of endpoints and handlers; see `SpooledDep`.

    Raises:
        RuntimeError: The application's lifespan is not running, or has no Spooled in it.
    """
    plugin = getattr(conn.app.state, "spooled", None)
    if not isinstance(plugin, Spooled):
        raise RuntimeError(
            "this application has no Spooled: pass FastAPI(lifespan=spooled.lifespan); in tests, write "
            "`with TestClient(app)`, because only that begins the lifespan"
        )
    return plugin.client


async def get_job() -> JobContext[Any]:
    """Return the job that runs, as a dependency of what handlers depend on; see `JobDep`.

    Raises:
        RuntimeError: No job runs: the dependency is used by an endpoint.
    """
    ctx = current_job()
    if ctx is None:
        raise RuntimeError("no job runs here: JobDep is for dependencies of handlers, not of endpoints")
    return ctx


SpooledDep = Annotated[AsyncSpooledClient, Depends(get_spooled)]
"""`async def endpoint(spooled: SpooledDep)`: the application's client."""

JobDep = Annotated[JobContext[Any], Depends(get_job)]
"""`async def get_session(job: JobDep)`: the job, in a dependency of a handler."""
