"""The official SDK's home of what is sent and answered: `spooled.models`, and the parameters of a new job."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NotRequired, TypedDict

from spooled import models
from spooled.models import *  # noqa: F403 - a second name for the same module


class CreateJobParams(TypedDict):
    """What `jobs.create` takes, as a mapping that type checkers know. The meanings are described there."""

    queue_name: str
    payload: Any
    priority: NotRequired[int]
    max_retries: NotRequired[int]
    timeout_seconds: NotRequired[int]
    scheduled_at: NotRequired[datetime | timedelta]
    expires_at: NotRequired[datetime | timedelta]
    idempotency_key: NotRequired[str]
    tags: NotRequired[Any]
    parent_job_id: NotRequired[str]
    completion_webhook: NotRequired[str]
    completion_webhook_secret: NotRequired[str]


__all__ = ["CreateJobParams", *models.__all__]
