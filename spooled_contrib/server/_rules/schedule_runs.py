"""What schedules do: making a job when its time has come, or when somebody asks (lifecycle section 12)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._plans import Plans
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import creation, events, quotas, schedules
from spooled_contrib.server._rules.wall_clock import next_run
from spooled_contrib.server._storage import Row, Tx

SCHEDULES_PER_TURN = 100
"""Due schedules that are looked up at once. Each of them fires in an operation of its own."""

CRON = "cron"
BY_HAND = "schedule_trigger"

_TEMPLATE = "queue_name, payload_template, job_type, priority, max_retries, timeout_seconds, tags"


class Due(Struct, frozen=True):
    """A schedule whose time has come, and that time: whoever moves it on fires."""

    schedule_id: str
    next_run_at: int


def find_due(tx: Tx, until: int) -> list[Due]:
    """Active schedules whose time is not after `until`, at most `SCHEDULES_PER_TURN`; who waits longest goes first."""
    rows = tx.select(
        "SELECT id, next_run_at FROM schedules WHERE is_active = 1 AND next_run_at <= ? "
        "ORDER BY next_run_at, seq LIMIT ?",
        (until, SCHEDULES_PER_TURN),
    )
    return [Due(*row) for row in rows]


def fire(tx: Tx, plans: Plans, due: Due) -> bool:
    """Make the job of a due time, once however many servers see it, and move on to the next time after now.

    Times that were missed are not made up for: there is one run now. A plan that does not allow the job costs that run:
    it is recorded as failed, and counts neither as a run nor as the last one.

    Returns:
        Whether this call was the one that moved the schedule on.
    """
    row = tx.select_one(
        f"SELECT organization_id, cron_expression, timezone, {_TEMPLATE} FROM schedules WHERE id = ?",  # noqa: S608
        (due.schedule_id,),
    )
    if row is None:
        return False
    organization_id, cron_expression, timezone, *template = row
    job = _job(template)
    limits = plans.of(organization_id)
    refusal = _refusal(tx, organization_id, limits, job)
    claimed = tx.execute(
        "UPDATE schedules SET next_run_at = ?, run_count = run_count + ?, last_run_at = COALESCE(?, last_run_at), "
        # Only one of several servers finds the time that all of them saw; it may also have been paused meanwhile.
        "updated_at = ? WHERE id = ? AND is_active = 1 AND next_run_at = ?",
        (
            next_run(cron_expression, timezone, tx.now),
            int(refusal is None),
            tx.now if refusal is None else None,
            tx.now,
            due.schedule_id,
            due.next_run_at,
        ),
    )
    if not claimed:
        return False
    if refusal is None:
        _make(tx, organization_id, limits, due.schedule_id, job, CRON)
    else:
        _record(tx, due.schedule_id, None, refusal.message)
    return True


def trigger(tx: Tx, principal: Principal, limits: Limits, schedule_id: str) -> str:
    """Make its job now, paused or not; the job's id. The next time stays.

    Raises:
        RefusalError: 404; 413 and 429 when the plan does not allow the job. Then nothing is recorded.
    """
    schedules.get(tx, principal, schedule_id)
    row = tx.select_one(f"SELECT {_TEMPLATE} FROM schedules WHERE id = ?", (schedule_id,))  # noqa: S608
    assert row is not None
    job = _job(row)
    organization_id = principal.organization_id
    refusal = _refusal(tx, organization_id, limits, job)
    if refusal is not None:
        raise refusal
    # Cron fires are free of the cap on queues; a request is not.
    quotas.check_queue(tx, organization_id, limits, job.queue_name)
    tx.execute(
        "UPDATE schedules SET run_count = run_count + 1, last_run_at = ?, updated_at = ? WHERE id = ?",
        (tx.now, tx.now, schedule_id),
    )
    return _make(tx, organization_id, limits, schedule_id, job, BY_HAND)


def list_runs(tx: Tx, principal: Principal, schedule_id: str, limit: int) -> list[Row]:
    """Id, schedule, job, status, error, start, end and the job's present status of each run, the newest first."""
    schedules.get(tx, principal, schedule_id)
    return tx.select(
        "SELECT r.id, r.schedule_id, r.job_id, r.status, r.error_message, r.started_at, r.completed_at, j.status "
        "FROM schedule_runs r LEFT JOIN jobs j ON j.id = r.job_id WHERE r.schedule_id = ? "
        "ORDER BY r.seq DESC LIMIT ?",
        (schedule_id, limit),
    )


def delete_old_runs(tx: Tx, whose: str, params: Sequence[str], before: int, limit: int) -> int:
    """Runs that began before a time, of the schedules that a condition on organizations names; how many."""
    return tx.execute(
        "DELETE FROM schedule_runs WHERE seq IN (SELECT seq FROM schedule_runs WHERE started_at < ? "  # noqa: S608
        f"AND schedule_id IN (SELECT id FROM schedules WHERE {whose}) ORDER BY started_at LIMIT ?)",
        (before, *params, limit),
    )


def _job(template: Sequence[Any]) -> creation.NewJob:
    queue_name, payload, job_type, priority, max_retries, timeout_seconds, tags = template
    return creation.NewJob(
        queue_name=queue_name,
        payload=payload,
        job_type=job_type,
        priority=priority,
        max_retries=max_retries,
        timeout_seconds=timeout_seconds,
        tags=tags,
    )


def _refusal(
    tx: Tx, organization_id: str, limits: Limits, job: creation.NewJob
) -> refuse.RefusalError | None:
    """Return why the plan does not allow one more such job, if it does not."""
    try:
        quotas.check_payload(len(job.payload.encode()), limits)
        quotas.check_new_jobs(tx, organization_id, limits, 1)
    except refuse.RefusalError as refusal:
        return refusal
    return None


def _make(
    tx: Tx, organization_id: str, limits: Limits, schedule_id: str, job: creation.NewJob, source: str
) -> str:
    origin = events.Origin(source=source, schedule_id=schedule_id)
    (made,) = creation.insert_jobs(tx, organization_id, limits, [job], origin)
    _record(tx, schedule_id, made.id, None)
    events.schedule_triggered(tx, organization_id, job.queue_name, schedule_id, made.id, source)
    return made.id


def _record(tx: Tx, schedule_id: str, job_id: str | None, error: str | None) -> None:
    tx.execute(
        "INSERT INTO schedule_runs (id, schedule_id, job_id, status, error_message, started_at, completed_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            str(uuid.uuid4()),
            schedule_id,
            job_id,
            "completed" if error is None else "failed",
            error,
            tx.now,
            tx.now,
        ),
    )
