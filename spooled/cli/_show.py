"""`spooled jobs show`."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spooled.cli import _output
from spooled.cli._connection import connect
from spooled.cli._parser import add_connection, add_json
from spooled.cli._table import Column, pairs, table
from spooled.cli._times import clock, since
from spooled.cli.failure import EXIT_CODES, Exit

if TYPE_CHECKING:
    from spooled.models import Job, JobHistoryEvent

_EXAMPLES = f"""\
examples:
  spooled jobs show 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e
  spooled jobs show 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e --history
  spooled jobs show 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e --json | jq .result

{EXIT_CODES}"""

_HISTORY = (Column("WHEN"), Column("EVENT"), Column("WORKER", least=8), Column("DETAILS", least=10))


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "show",
        help="show everything about a job",
        description="Show a job: its state, payload, result, last error.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("id", metavar="ID", help="the job's id")
    parser.add_argument("--history", action="store_true", help="also show what happened to it")
    add_json(parser)
    add_connection(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args, f"job {args.id}") as client:
        job = client.jobs.get(args.id)
        history = list(client.jobs.iterate_history(args.id)) if args.history else None
    if hasattr(args, "json"):
        document = msgspec.to_builtins(job)
        if history is not None:
            document["history"] = msgspec.to_builtins(history)
        _output.write_json(document)
        return Exit.DONE
    now = datetime.now(UTC)
    _output.write(pairs(_facts(job, now)))
    for title, value in (("payload", job.payload), ("result", job.result)):
        if title == "payload" or job.status == "completed":
            _output.write(f"\n{title}\n{_indented(json.dumps(value, ensure_ascii=False, indent=2))}")
    if job.last_error:
        _output.write(f"\nlast error\n{_indented(job.last_error)}")
    if history is not None:
        _output.write("\nhistory")
        _output.write(table(_HISTORY, map(_event, history), _output.columns()))
    return Exit.DONE


def _facts(job: Job, now: datetime) -> list[tuple[str, object]]:
    """Return what there is to say, leaving out what was never set."""
    facts: list[tuple[str, object]] = [
        ("id", job.id),
        ("queue", job.queue_name),
        ("status", job.status),
        ("run", f"{job.retry_count + 1} of {job.max_retries + 1}"),
        ("priority", job.priority),
        ("timeout", f"{job.timeout_seconds} s"),
    ]
    times = (
        ("created", job.created_at),
        ("not before", job.scheduled_at),
        ("expires", job.expires_at),
        ("started", job.started_at),
        ("ended", job.completed_at),
        ("lease until", job.lease_expires_at if job.status == "processing" else None),
    )
    facts += [(name, f"{clock(when)} ({_distance(when, now)})") for name, when in times if when is not None]
    more = (
        ("worker", job.assigned_worker_id),
        ("idempotency key", job.idempotency_key),
        ("tags", json.dumps(job.tags, ensure_ascii=False) if job.tags else None),
        ("parent job", job.parent_job_id),
        ("workflow", job.workflow_id),
        ("waits for", "other jobs" if job.dependencies_met is False else None),
    )
    return facts + [(name, value) for name, value in more if value is not None]


def _distance(when: datetime, now: datetime) -> str:
    text = since(when, now) or ""
    return text if text.startswith("in ") else f"{text} ago"


def _event(event: JobHistoryEvent) -> tuple[object, ...]:
    details = event.details
    if isinstance(details, dict):
        # The organisation is the caller's own and the worker has a column.
        left = {
            name: value for name, value in details.items() if name not in ("organization_id", "worker_id")
        }
        details = ", ".join(f"{name}={_brief(value)}" for name, value in left.items())
    return clock(event.created_at), event.event_type, event.worker_id, details


def _brief(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
