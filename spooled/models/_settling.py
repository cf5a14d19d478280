"""Acks in batches: what is asked for, and the answers."""

from __future__ import annotations

from typing import Any

import msgspec

from spooled.models._jobs import ClaimedJob
from spooled.models._model import Model


class CompleteItem(msgspec.Struct, frozen=True):
    """A job to complete, with its result; `msgspec.Raw` is passed through."""

    job_id: str
    lease_id: str
    result: object = None


class FailItem(msgspec.Struct, frozen=True):
    """A job to fail, with what went wrong."""

    job_id: str
    lease_id: str
    error: str


class ClaimItem(msgspec.Struct, frozen=True):
    """A claim that rides on acks; see `jobs.claim`."""

    queue_name: str
    limit: int = 1
    lease_duration_secs: int = 30


class SettledItem(Model, frozen=True):
    """The answer that the endpoint for one job would have given."""

    status: int
    code: str | None = None
    message: str | None = None
    details: Any = None
    retry_after_secs: int | None = None


class SettledClaim(SettledItem, frozen=True):
    """The answer that `jobs.claim` would have given."""

    jobs: list[ClaimedJob] = []


class SettleResponse(Model, frozen=True):
    """The answers to acks in batches, in the order of the request."""

    completes: list[SettledItem] = []
    fails: list[SettledItem] = []
    claim: SettledClaim | None = None
