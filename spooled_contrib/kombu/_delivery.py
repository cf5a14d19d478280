"""A message that this process holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from spooled.models import ClaimedJob
from spooled.worker import Lease, LeaseState
from spooled_contrib.kombu._envelope import task_fields
from spooled_contrib.kombu._redelivery import is_suspect


@dataclass(eq=False, slots=True)
class Delivery:
    """A message that this process holds.

    Attributes:
        queue_name: Spooled's name of its queue.
        job: As it was claimed.
        lease: Kept until it is settled. Another one when it was lost, and the message came back to this process.
        tag: Unique for each delivery, also of the same message.
        delivered: Whether a consumer has got it.
        lease_uncertain: Whether its lease ended without an answer from the server, which may have given it away.
        settled: Whether it is decided what becomes of it; only the first decision counts.
        awaiting_result: Whether it was acked, and only waits for its result.
        ending: The job's result in case that its task stores none.
        idle: Whether its task was not running when the awaiting_result messages were last looked through.
        work: What was decided, as long as the server has not delivered it.
    """

    queue_name: str
    job: ClaimedJob
    lease: Lease
    tag: str
    delivered: bool = False
    lease_uncertain: bool = False
    settled: bool = False
    awaiting_result: bool = False
    ending: object = None
    idle: bool = False
    work: Callable[[], Coroutine[Any, Any, bool]] | None = None

    @property
    def lost(self) -> bool:
        """Whether the message went to somebody else."""
        return self.lease.state is LeaseState.LOST

    @property
    def suspect(self) -> bool:
        """Whether a mark is to be made when it begins; see `_redelivery`."""
        return is_suspect(self.job)

    @property
    def is_running(self) -> bool:
        """Whether Celery's worker still has the task: this delivery of it, and not another run with the same id."""
        state = sys.modules.get("celery.worker.state")
        if state is None:
            return False
        request = state.requests.get(self.task_id)
        if request is not None and request.message.delivery_tag == self.tag:
            return True
        try:
            known = [*state.active_requests, *state.reserved_requests]
        except RuntimeError:  # another thread has just added one
            return True
        return any(one.message.delivery_tag == self.tag for one in known)

    @property
    def task_id(self) -> str | None:
        """The id of its task, if it is one."""
        return task_fields(self.job.payload).get("id")
