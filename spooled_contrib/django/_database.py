"""Database connections around jobs: closed when they are broken or too old, as around requests."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from spooled.worker import JobContext, Middleware

logger = logging.getLogger("spooled.django")


class DatabaseCleanup(Middleware):
    """Does around every job what Django does around every request, in the thread that runs the job.

    Connections are thread-local, so it must be that thread. For coroutine handlers it is the thread in which asgiref
    runs what is thread-sensitive, the ORM's `a*` methods included. Connections that are in use, within `atomic`, are
    left alone, and so are pools: they belong to the process.
    """

    def run(self, ctx: JobContext[Any], call_next: Callable[[], object]) -> object:
        close_stale()
        try:
            return call_next()
        finally:
            close_stale()

    async def run_async(
        self,
        ctx: JobContext[Any],
        call_next: Callable[[], Awaitable[object]],
    ) -> object:
        await _close_stale_async()
        try:
            return await call_next()
        finally:
            await _close_stale_async()


def close_stale() -> None:
    """Close connections of this thread that are broken or too old, and forget the queries that DEBUG has logged.

    Never raises: the job's own queries will say what is wrong with its database.
    """
    try:
        for one in connections.all(initialized_only=True):
            one.queries_log.clear()
            # Django's own function for this would close a connection within `atomic`, and a test's with it.
            if not one.in_atomic_block:
                one.close_if_unusable_or_obsolete()
    except Exception:
        logger.exception("tidying up the database connections of this thread failed")


_close_stale_async = sync_to_async(close_stale, thread_sensitive=True)
