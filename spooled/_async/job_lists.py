"""Jobs in lists, and the history of one: page by page, or all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._paging import OldestFirst
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import query
from spooled.models import JobHistoryEvent, JobSummary, Page

_HISTORY_PAGE = 500


class AsyncJobLists:
    """The part of `client.jobs` that lists. Contract: api-v1 §1.4, §3.4 and §3.5."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @accepts_dict
    async def list(
        self,
        *,
        queue_name: str | None = None,
        status: str | Sequence[str] | None = None,
        q: str | None = None,
        job_type: str | None = None,
        tag: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        order_by: str | None = None,
        order_dir: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Page[JobSummary]:
        """Return one page of the jobs, newest first. Contract: api-v1 §3.4. See `iterate` for all of them.

        Args:
            queue_name: Of this queue.
            status: In this state, or in one of several.
            q: Id prefix, or part of the queue's name or of `payload.job_type`.
            job_type: With exactly this `payload.job_type`.
            tag: With this tag (an entry of a list, or a key of a mapping).
            created_after: Created at this moment or later.
            created_before: Created before this moment.
            order_by: `created_at` (default), `updated_at`, `scheduled_at`, `completed_at`, `priority`,
                `status`, `queue_name` or `retry_count`.
            order_dir: `desc` (default) or `asc`.
            limit: 1 to 100. Default 50.
            offset: How many to skip. Default 0.

        Raises:
            SpooledError: As every call.
        """
        asked = query(
            fields.JOB_FILTER,
            queue_name=queue_name,
            status=status,
            q=q,
            job_type=job_type,
            tag=tag,
            created_after=created_after,
            created_before=created_before,
            order_by=order_by,
            order_dir=order_dir,
            limit=limit,
            offset=offset,
        )
        return await self._session.page(f"{API}/jobs", JobSummary, asked)

    @accepts_dict
    async def iterate(
        self,
        *,
        queue_name: str | None = None,
        status: str | Sequence[str] | None = None,
        q: str | None = None,
        job_type: str | None = None,
        tag: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> AsyncIterator[JobSummary]:
        """Iterate over all jobs, oldest first: one request for each hundred. Contract: api-v1 §1.4 and §3.4.

        Each job comes once. Jobs that are changed, deleted or created meanwhile, by the loop's own body too, never
        hide others. What comes is what the job was when its page was read.

        Args:
            queue_name: As in `list`, and so are the others.
            status: See there.
            q: See there.
            job_type: See there.
            tag: See there.
            created_after: See there.
            created_before: See there. Without it, jobs that are created meanwhile come too.

        Raises:
            SpooledError: As every call.
        """
        pages = OldestFirst(created_after)
        while not pages.done:
            asked = query(
                fields.JOB_FILTER,
                queue_name=queue_name,
                status=status,
                q=q,
                job_type=job_type,
                tag=tag,
                created_before=created_before,
                **pages.query(),
            )
            for job in pages.take(await self._session.page(f"{API}/jobs", JobSummary, asked)):
                yield job

    @takes_id_and_mapping
    async def history(
        self,
        job_id: str,
        *,
        order_dir: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Page[JobHistoryEvent]:
        """Return one page of what happened to a job. Contract: api-v1 §3.5. See `iterate_history` for all of it.

        Args:
            job_id: The job.
            order_dir: `asc` (default, oldest first) or `desc`.
            limit: 1 to 500. Default 100.
            offset: How many to skip. Default 0.

        Raises:
            NotFoundError: There is no such job, or the server is older than this endpoint.
            SpooledError: As every call.
        """
        asked = query(fields.HISTORY, order_dir=order_dir, limit=limit, offset=offset)
        return await self._session.page(_history_of(job_id), JobHistoryEvent, asked)

    async def iterate_history(self, job_id: str) -> AsyncIterator[JobHistoryEvent]:
        """Iterate over everything that happened to a job, oldest first: one request for each 500 events.

        Args:
            job_id: The job.

        Raises:
            NotFoundError: There is no such job, or the server is older than this endpoint.
            SpooledError: As every call.
        """
        seen: set[str] = set()
        offset = 0
        while True:
            asked = query(fields.HISTORY, limit=_HISTORY_PAGE, offset=offset)
            page = await self._session.page(_history_of(job_id), JobHistoryEvent, asked)
            new = [event for event in page if event.id not in seen]
            for event in new:
                yield event
            if not new or page.is_last(_HISTORY_PAGE):
                return
            seen.update(event.id for event in new)
            offset += len(page)


def _history_of(job_id: str) -> str:
    return f"{API}/jobs/{segment(job_id, 'job_id')}/history"
