"""Schedules: jobs that are made again and again (contract section 6, lifecycle section 12)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import creation, quotas
from spooled_contrib.server._rules.cron import CronError, parse
from spooled_contrib.server._rules.wall_clock import TimeZoneError, next_run, parse_zone
from spooled_contrib.server._storage import Row, Tx

COLUMNS = (
    "id, organization_id, name, description, cron_expression, timezone, queue_name, payload_template, job_type, "
    "priority, max_retries, timeout_seconds, is_active, last_run_at, next_run_at, run_count, tags, metadata, "
    "created_at, updated_at"
)


class NewSchedule(Struct, kw_only=True):
    """A schedule to be made, already checked field by field. JSON members are text; None means the default."""

    name: str
    description: str | None
    cron_expression: str
    timezone: str
    queue_name: str
    payload_template: str
    job_type: str
    priority: int
    max_retries: int | None
    timeout_seconds: int | None
    tags: str | None
    metadata: str | None


def check_times(cron_expression: str, timezone: str) -> None:
    """Refuse what could never be read again: 400 `BAD_REQUEST`."""
    try:
        parse(cron_expression)
    except CronError as error:
        raise refuse.bad_request(f"cron_expression: {error}") from None
    try:
        parse_zone(timezone)
    except TimeZoneError as error:
        raise refuse.bad_request(f"timezone: {error}") from None


def create(tx: Tx, principal: Principal, limits: Limits, new: NewSchedule) -> Row:
    """Make an active schedule; its `COLUMNS`. The queue's defaults are copied into it now, as into a job."""
    organization_id = principal.organization_id
    principal.require_queue(new.queue_name)
    check_times(new.cron_expression, new.timezone)
    quotas.check_schedule(tx, organization_id, limits)
    quotas.check_queue(tx, organization_id, limits, new.queue_name)
    max_retries, timeout = creation.queue_defaults(tx, organization_id, new.queue_name)
    return tx.change(
        f"INSERT INTO schedules ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, NULL, ?, 0, ?, ?, ?, ?) "  # noqa: S608
        f"RETURNING {COLUMNS}",
        (
            str(uuid.uuid4()),
            organization_id,
            new.name,
            new.description,
            new.cron_expression,
            new.timezone,
            new.queue_name,
            new.payload_template,
            new.job_type,
            new.priority,
            max_retries if new.max_retries is None else new.max_retries,
            timeout if new.timeout_seconds is None else new.timeout_seconds,
            next_run(new.cron_expression, new.timezone, tx.now),
            new.tags,
            new.metadata,
            tx.now,
            tx.now,
        ),
    )[0]


def list_schedules(
    tx: Tx, principal: Principal, *, queue_name: str | None, is_active: bool | None, limit: int, offset: int
) -> list[Row]:
    """`COLUMNS` of each, the newest first."""
    scope, params = principal.queue_condition()
    where = "organization_id = ?" + scope
    if queue_name is not None:
        where += " AND queue_name = ?"
        params.append(queue_name)
    if is_active is not None:
        where += " AND is_active = ?"
        params.append(int(is_active))
    return tx.select(
        f"SELECT {COLUMNS} FROM schedules WHERE {where} ORDER BY seq DESC LIMIT ? OFFSET ?",  # noqa: S608
        (principal.organization_id, *params, limit, offset),
    )


def get(tx: Tx, principal: Principal, schedule_id: str) -> Row:
    """Its `COLUMNS`; 404 when it is unknown, foreign or out of scope."""
    scope, names = principal.queue_condition()
    row = tx.select_one(
        f"SELECT {COLUMNS} FROM schedules WHERE id = ? AND organization_id = ?{scope}",  # noqa: S608
        (schedule_id, principal.organization_id, *names),
    )
    if row is None:
        raise refuse.not_found()
    return row


def update(
    tx: Tx, principal: Principal, limits: Limits, schedule_id: str, changes: Mapping[str, object]
) -> Row:
    """Set what `changes` names, columns by name; the row after that.

    The next time is found anew when, and only when, the expression or the zone is among the changes.
    """
    row = get(tx, principal, schedule_id)
    values = dict(changes)
    if "cron_expression" in values or "timezone" in values:
        cron = str(values.get("cron_expression", row[4]))
        zone = str(values.get("timezone", row[5]))
        check_times(cron, zone)
        values["next_run_at"] = next_run(cron, zone, tx.now)
    if values.get("is_active") == 1 and not row[12]:
        quotas.check_schedule(tx, principal.organization_id, limits)
    return _set(tx, schedule_id, values)


def delete(tx: Tx, principal: Principal, schedule_id: str) -> None:
    """Jobs that it made stay."""
    get(tx, principal, schedule_id)
    tx.execute("DELETE FROM schedule_runs WHERE schedule_id = ?", (schedule_id,))
    tx.execute("DELETE FROM schedules WHERE id = ?", (schedule_id,))


def pause(tx: Tx, principal: Principal, schedule_id: str) -> Row:
    get(tx, principal, schedule_id)
    return _set(tx, schedule_id, {"is_active": 0})


def resume(tx: Tx, principal: Principal, limits: Limits, schedule_id: str) -> Row:
    """Let it fire again, from its next time after now: what it missed is not made up for."""
    row = get(tx, principal, schedule_id)
    if not row[12]:
        quotas.check_schedule(tx, principal.organization_id, limits)
    return _set(tx, schedule_id, {"is_active": 1, "next_run_at": next_run(row[4], row[5], tx.now)})


def _set(tx: Tx, schedule_id: str, values: Mapping[str, object]) -> Row:
    # The names are columns that this module and its callers write out, never texts of a request.
    assignments = "".join(f"{name} = ?, " for name in values)
    return tx.change(
        f"UPDATE schedules SET {assignments}updated_at = ? WHERE id = ? RETURNING {COLUMNS}",  # noqa: S608
        (*values.values(), tx.now, schedule_id),
    )[0]
