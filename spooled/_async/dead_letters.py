"""Jobs whose retries are used up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._parameters import accepts_dict
from spooled._http._paths import API
from spooled._http._rules import body, query
from spooled.models import JobSummary, Page, PurgeDlqResponse, RetryDlqResponse


class AsyncDeadLetters:
    """`client.jobs.dlq`. Contract: api-v1 §3.8."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @accepts_dict
    async def list(
        self,
        *,
        queue_name: str | None = None,
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
        """One page of the dead jobs, newest first. The filters are those of `jobs.list`.

        Raises:
            SpooledError: As every call.
        """
        asked = query(
            fields.JOB_FILTER,
            queue_name=queue_name,
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
        return await self._session.page(f"{API}/jobs/dlq", JobSummary, asked)

    @accepts_dict
    async def retry(
        self,
        *,
        queue_name: str | None = None,
        job_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> RetryDlqResponse:
        """Give dead jobs all their retries again, oldest first.

        Args:
            queue_name: Those of this queue. A key that is limited to some queues must name one.
            job_ids: Exactly these, up to 100; `queue_name` then does not matter.
            limit: How many at most, 1 to 100. Default 100.

        Raises:
            QuotaExceededError: They would pass a cap of the plan.
            SpooledError: As every call.
        """
        sent = body(fields.DLQ_RETRY, queue_name=queue_name, job_ids=job_ids, limit=limit)
        return await self._session.call("POST", f"{API}/jobs/dlq/retry", RetryDlqResponse, body=sent)

    @accepts_dict
    async def purge(
        self,
        *,
        confirm: bool,
        queue_name: str | None = None,
        older_than: datetime | timedelta | None = None,
        older_than_days: int | None = None,
        limit: int | None = None,
    ) -> PurgeDlqResponse:
        """Delete dead jobs for good.

        Args:
            confirm: Must be True.
            queue_name: Those of this queue. A key that is limited to some queues must name one.
            older_than: Those created before this moment, or longer ago than this timedelta.
            older_than_days: The same in days, 1 to 36500. Give one of the two.
            limit: How many at most, 1 to 10000. Default 10000.

        Raises:
            ValidationError: `confirm` is not True, or both ages are given.
            SpooledError: As every call.
        """
        sent = body(
            fields.DLQ_PURGE,
            required=("confirm",),
            confirm=confirm,
            queue_name=queue_name,
            older_than=fields.age(older_than, older_than_days),
            limit=limit,
        )
        return await self._session.call("POST", f"{API}/jobs/dlq/purge", PurgeDlqResponse, body=sent)
