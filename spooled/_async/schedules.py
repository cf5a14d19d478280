"""Schedules: jobs that a cron expression creates."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _schedule_fields as fields
from spooled._http._json import list_of
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body, query
from spooled.models import CreateScheduleResponse, Page, Schedule, ScheduleRun, TriggerScheduleResponse

# In the class, `list` is the method.
_Runs = list[ScheduleRun]


class AsyncSchedules:
    """`client.schedules`. Contract: api-v1 §6."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @accepts_dict
    async def list(
        self,
        *,
        queue_name: str | None = None,
        is_active: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Page[Schedule]:
        """One page of the schedules, newest first.

        Args:
            queue_name: Those that create jobs in this queue. Older servers give all.
            is_active: Only running (True) or paused ones (False). Older servers give both.
            limit: 1 to 500. Default 100.
            offset: How many to skip. Default 0.

        Raises:
            SpooledError: As every call.
        """
        asked = query(
            fields.SCHEDULE_FILTER, queue_name=queue_name, is_active=is_active, limit=limit, offset=offset
        )
        return await self._session.page(f"{API}/schedules", Schedule, asked)

    @accepts_dict
    async def create(
        self,
        *,
        name: str,
        cron_expression: str,
        queue_name: str,
        payload_template: object,
        description: str | None = None,
        timezone: str | None = None,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        tags: object = None,
        metadata: object = None,
    ) -> CreateScheduleResponse:
        """Create a job whenever a cron expression says so.

        Args:
            name: 1 to 255 characters.
            cron_expression: Five or six fields, 9 to 100 characters: `0 9 * * 1-5`.
            queue_name: Where the jobs go.
            payload_template: The payload of each job: anything with a JSON form, at most 1 MiB.
            description: At most 1000 characters.
            timezone: A name such as `Europe/Rome`, or `+02:00`. Default: `UTC`.
            priority: Of each job, -100 to 100. Default 0.
            max_retries: Of each job, 0 to 100. Default: the queue's, else 3.
            timeout_seconds: Of each job, 1 to 86400. Default: the queue's, else 300.
            tags: Of each job: a mapping or a list of text.
            metadata: Kept with the schedule; anything with a JSON form.

        Raises:
            ValidationError: A value breaks a rule, or the server cannot read the expression or time zone.
            QuotaExceededError: The plan's number of schedules or queues is reached.
            SpooledError: As every call.
        """
        sent = body(
            fields.SCHEDULE,
            required=("name", "cron_expression", "queue_name", "payload_template"),
            name=name,
            cron_expression=cron_expression,
            queue_name=queue_name,
            payload_template=payload_template,
            description=description,
            timezone=timezone,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            tags=tags,
            metadata=metadata,
        )
        return await self._session.call("POST", f"{API}/schedules", CreateScheduleResponse, body=sent)

    async def get(self, schedule_id: str) -> Schedule:
        """Everything about one schedule.

        Raises:
            NotFoundError: There is no such schedule, or the key may not see it.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(schedule_id), Schedule)

    @takes_id_and_mapping
    async def update(
        self,
        schedule_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        cron_expression: str | None = None,
        timezone: str | None = None,
        payload_template: object = None,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        is_active: bool | None = None,
        tags: object = None,
        metadata: object = None,
    ) -> Schedule:
        """Change a schedule; what is not given, or None, keeps its value. The queue cannot be changed.

        Args:
            schedule_id: The schedule.
            name: As in `create`; so are the others.
            description: At most 1000 characters.
            cron_expression: The next run is worked out anew.
            timezone: The next run is worked out anew.
            payload_template: For jobs from now on.
            priority: -100 to 100.
            max_retries: 0 to 100.
            timeout_seconds: 1 to 86400.
            is_active: False pauses it.
            tags: A mapping or a list of text.
            metadata: Anything with a JSON form.

        Raises:
            NotFoundError: There is no such schedule.
            ValidationError: As in `create`.
            SpooledError: As every call.
        """
        sent = body(
            fields.SCHEDULE,
            name=name,
            description=description,
            cron_expression=cron_expression,
            timezone=timezone,
            payload_template=payload_template,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            is_active=is_active,
            tags=tags,
            metadata=metadata,
        )
        return await self._session.call("PUT", _of(schedule_id), Schedule, body=sent)

    async def delete(self, schedule_id: str) -> None:
        """Delete a schedule. Jobs that it created stay.

        Raises:
            NotFoundError: There is no such schedule.
            SpooledError: As every call.
        """
        await self._session.call("DELETE", _of(schedule_id), type(None))

    async def pause(self, schedule_id: str) -> Schedule:
        """Stop a schedule until it is resumed.

        Raises:
            NotFoundError: There is no such schedule.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_of(schedule_id)}/pause", Schedule)

    async def resume(self, schedule_id: str) -> Schedule:
        """Start a paused schedule again, from now: runs that were missed are not made up for.

        Raises:
            NotFoundError: There is no such schedule.
            QuotaExceededError: The plan's number of schedules is reached.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_of(schedule_id)}/resume", Schedule)

    async def trigger(self, schedule_id: str) -> TriggerScheduleResponse:
        """Create the schedule's job now, paused or not. The next run stays where it is.

        Raises:
            NotFoundError: There is no such schedule.
            QuotaExceededError: The plan's number of jobs is reached.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_of(schedule_id)}/trigger", TriggerScheduleResponse)

    async def get_history(self, schedule_id: str, limit: int = 10) -> _Runs:
        """Return the latest runs, newest first.

        Args:
            schedule_id: The schedule.
            limit: 1 to 500. Default 10.

        Raises:
            NotFoundError: There is no such schedule.
            SpooledError: As every call.
        """
        asked = query(fields.SCHEDULE_FILTER, limit=limit)
        return await self._session.call(
            "GET", f"{_of(schedule_id)}/history", list_of(ScheduleRun), query=asked
        )


def _of(schedule_id: str) -> str:
    return f"{API}/schedules/{segment(schedule_id, 'schedule_id')}"
