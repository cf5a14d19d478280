"""The limits of an organization (contract sections 1.2 and 1.3)."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_RETENTION_DAYS = 30.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A plan. Everything is unlimited unless it is set; `None` means unlimited.

    Sections 1.2 and 1.3 of the contract say what is answered when one is reached: 429 `QUOTA_EXCEEDED` for counts,
    429 `RATE_LIMIT_EXCEEDED` with `Retry-After` for request rate, 413 for payload size. 0 schedules, workflows or
    webhooks mean that there are none in this plan: 403 `FEATURE_DISABLED`.

    Args:
        jobs_per_day: Jobs created per UTC day.
        active_jobs: Jobs that are pending, scheduled or processing.
        queues: Queues that are configured, hold a job, or are the target of an active schedule.
        workers: Workers that are healthy or degraded.
        api_keys: Active API keys, the server's own included.
        schedules: Schedules that are active.
        workflows: Workflows that are pending or running; 0 turns the feature off (403 `FEATURE_DISABLED`).
        webhooks: Outgoing webhooks that are enabled.
        payload_bytes: Size of one payload as JSON text.
        requests_per_second: How fast an organization's bucket of requests refills.
        burst: How many requests the bucket holds. Default: twice `requests_per_second`.
        job_retention_days: Completed and cancelled jobs are kept this long. Default: 30.
        history_retention_days: Histories of jobs and logs of webhooks are kept this long. Default: as long as jobs.
        plan: The name of the plan that these are the limits of, for messages and reports.
    """

    jobs_per_day: int | None = None
    active_jobs: int | None = None
    queues: int | None = None
    workers: int | None = None
    api_keys: int | None = None
    schedules: int | None = None
    workflows: int | None = None
    webhooks: int | None = None
    payload_bytes: int | None = None
    requests_per_second: float | None = None
    burst: int | None = None
    job_retention_days: float | None = None
    history_retention_days: float | None = None
    plan: str | None = None

    @property
    def tier(self) -> str:
        """What reports call the plan. Without one it is what every new organization starts with."""
        return self.plan or "free"

    @property
    def job_days(self) -> float:
        return DEFAULT_RETENTION_DAYS if self.job_retention_days is None else self.job_retention_days

    @property
    def history_days(self) -> float:
        return self.job_days if self.history_retention_days is None else self.history_retention_days

    @property
    def bucket(self) -> int | None:
        """Capacity of the request bucket, or None when the rate is not limited."""
        if self.requests_per_second is None:
            return None
        return self.burst if self.burst is not None else max(1, round(self.requests_per_second * 2))
