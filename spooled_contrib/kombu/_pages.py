"""Read a list of jobs to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from spooled import AsyncSpooledClient
from spooled.models import JobSummary

PAGE = 100
OVERLAP = 10
"""How far a page goes back into the one before it: jobs may go meanwhile, and others move up."""


async def every_job(client: AsyncSpooledClient, **query: Any) -> AsyncIterator[JobSummary]:
    """Yield every job of a list, each once, newest first. A request for each ninety.

    Args:
        client: The client.
        query: What `client.jobs.list` takes, but for the limit and the offset.

    Raises:
        SpooledError: As the client.
    """
    offset, seen = 0, set[str]()
    while True:
        page = await client.jobs.list(**query, limit=PAGE, offset=offset)
        for job in page:
            if job.id not in seen:
                seen.add(job.id)
                yield job
        if len(page) < PAGE:
            return
        offset += PAGE - OVERLAP
