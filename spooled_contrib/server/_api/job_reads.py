"""Looking at jobs (contract sections 3.4 and 3.5)."""

from __future__ import annotations

from typing import Any

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_objects import job, raw, summary
from spooled_contrib.server._api.reply import Reply, json_reply, page_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import dependencies, history, reading
from spooled_contrib.server._rules.statuses import ALL
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import moment

_LONGEST_TEXT = 1024
MOST_IDS = 100
BIGGEST_OFFSET = 2**62


async def list_jobs(call: Call) -> Reply:
    wanted = job_filter(call)
    wanted.statuses = _statuses(call)
    return await reply_with_jobs(call, wanted)


async def reply_with_jobs(call: Call, wanted: reading.JobFilter) -> Reply:
    principal = call.principal
    rows, more = await call.read(lambda tx: reading.list_jobs(tx, principal, wanted))
    return page_reply([summary(row) for row in rows], more)


def job_filter(call: Call) -> reading.JobFilter:
    """Everything that `GET /jobs` and `GET /jobs/dlq` have in common."""
    return reading.JobFilter(
        queue_name=queue_parameter(call),
        search=call.text("q", _LONGEST_TEXT),
        job_type=call.text("job_type", _LONGEST_TEXT),
        created_after=call.time("created_after"),
        created_before=call.time("created_before"),
        tag=call.text("tag", _LONGEST_TEXT),
        order_by=_choice(call, "order_by", reading.ORDERS, "created_at"),
        descending=_choice(call, "order_dir", ("asc", "desc"), "desc") == "desc",
        limit=call.integer("limit", 50, 1, 100),
        offset=call.integer("offset", 0, 0, BIGGEST_OFFSET),
    )


def queue_parameter(call: Call) -> str | None:
    """`queue_name`, also spelled `queue`."""
    # Both are looked at: what is wrong is refused, whether it counts or not.
    name, other = call.text("queue_name", _LONGEST_TEXT), call.text("queue", _LONGEST_TEXT)
    return name or other


def _statuses(call: Call) -> list[str]:
    text = call.text("status", _LONGEST_TEXT)
    if text is None:
        return []
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    for status in wanted:
        if status not in ALL:
            raise refuse.invalid("status", f"{status!r} is not one of {', '.join(ALL)}", code="format")
    return list(dict.fromkeys(wanted))


def _choice(call: Call, name: str, choices: Any, default: str) -> str:
    text = call.text(name, _LONGEST_TEXT)
    if text is None:
        return default
    if text not in choices:
        raise refuse.invalid(name, f"{text!r} is not one of {', '.join(sorted(choices))}", code="format")
    return text


async def get_job(call: Call) -> Reply:
    principal, job_id = call.principal, call.parameters[0]
    return json_reply(job(await call.read(lambda tx: reading.get_job(tx, principal, job_id))))


async def job_stats(call: Call) -> Reply:
    principal, queue_name = call.principal, queue_parameter(call)
    if queue_name is not None:
        principal.require_sight(queue_name)
    return json_reply(await call.read(lambda tx: reading.count_by_status(tx, principal, queue_name)))


async def job_statuses(call: Call) -> Reply:
    text = call.query.get("ids")
    if text is None:
        raise refuse.bad_request("Name the jobs: ?ids=a,b,c")
    ids = [part.strip() for part in text.replace("\0", "").split(",") if part.strip()]
    if len(ids) > MOST_IDS:
        raise refuse.bad_request(f"{len(ids)} ids were sent; at most {MOST_IDS} are allowed")
    if not ids:
        return json_reply([])
    principal = call.principal
    rows = await call.read(lambda tx: reading.statuses_of(tx, principal, ids))
    return json_reply(
        [
            {
                "id": row[0],
                "status": row[1],
                "queue_name": row[2],
                "retry_count": row[3],
                "created_at": moment(row[4]),
                "completed_at": moment(row[5]),
            }
            for row in rows
        ]
    )


async def job_history(call: Call) -> Reply:
    principal, job_id = call.principal, call.parameters[0]
    descending = _choice(call, "order_dir", ("asc", "desc"), "asc") == "desc"
    limit = call.integer("limit", 100, 1, 500)
    offset = call.integer("offset", 0, 0, BIGGEST_OFFSET)

    def find(tx: Tx) -> list[Row]:
        reading.get_job(tx, principal, job_id)
        return history.list_history(tx, job_id, descending=descending, limit=limit + 1, offset=offset)

    rows = await call.read(find)
    return page_reply(
        [
            {
                "id": str(row[0]),
                "job_id": row[1],
                "event_type": row[2],
                "worker_id": row[3],
                "details": raw(row[4]),
                "created_at": moment(row[5]),
            }
            for row in rows[:limit]
        ],
        len(rows) > limit,
    )


async def job_dependencies(call: Call) -> Reply:
    principal, job_id = call.principal, call.parameters[0]

    def find(tx: Tx) -> tuple[Row, list[Row], list[Row]]:
        row = reading.get_job(tx, principal, job_id)
        return row, dependencies.dependencies_of(tx, job_id), dependencies.dependents_of(tx, job_id)

    row, above, below = await call.read(find)
    found = job(row)
    return json_reply(
        {
            "job_id": job_id,
            "dependencies": [_related(other) for other in above if principal.may_use(other[1])],
            "dependents": [_related(other) for other in below if principal.may_use(other[1])],
            "dependencies_met": found.dependencies_met,
            "dependency_mode": found.dependency_mode,
        }
    )


def _related(row: Row) -> dict[str, str]:
    return {"job_id": row[0], "queue_name": row[1], "status": row[2]}


ROUTES = [
    Route("GET", "/api/v1/jobs", list_jobs),
    Route("GET", "/api/v1/jobs/stats", job_stats),
    Route("GET", "/api/v1/jobs/status", job_statuses),
    Route("GET", "/api/v1/jobs/{id}", get_job),
    Route("GET", "/api/v1/jobs/{id}/history", job_history),
    Route("GET", "/api/v1/jobs/{id}/dependencies", job_dependencies),
]
