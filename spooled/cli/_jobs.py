"""`spooled jobs`: list, retry and cancel; `create` and `show` have files of their own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spooled.cli import _create, _output, _show
from spooled.cli._connection import connect
from spooled.cli._parser import add_commands, add_connection, add_json, suggestion, whole_number
from spooled.cli._table import Column, table
from spooled.cli._times import since
from spooled.cli.failure import EXIT_CODES, CommandError, Exit, failure_of

if TYPE_CHECKING:
    from spooled.client import SpooledClient

_STATUSES = ("pending", "scheduled", "processing", "completed", "failed", "deadletter", "cancelled")
_ORDERS = (
    "created_at",
    "updated_at",
    "scheduled_at",
    "completed_at",
    "priority",
    "status",
    "queue_name",
    "retry_count",
)
_LIMIT = 50

_COLUMNS = (
    Column("ID"),
    Column("QUEUE", least=8),
    Column("STATUS"),
    Column("RUN", right=True),
    Column("PRIO", right=True),
    Column("AGE", right=True),
    Column("TYPE", least=4),
    Column("LAST ERROR", least=10),
)

_EXAMPLES = """\
examples:
  spooled jobs create emails '{"to": "ada@example.org"}'
  spooled jobs list --queue emails --status pending --status processing
  spooled jobs show 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e --history
  spooled jobs retry 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e
  spooled jobs cancel 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e"""

_LIST_EXAMPLES = f"""\
examples:
  spooled jobs list --status deadletter
  spooled jobs list --queue emails --status pending,processing --order priority
  spooled jobs list --tag newsletter --limit 100 --json | jq -r '.jobs[].id'

{EXIT_CODES}"""

_RETRY_EXAMPLES = f"""\
examples:
  spooled jobs retry 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e
  spooled jobs list --status deadletter --all --json | jq -r '.jobs[].id' | xargs spooled jobs retry

{EXIT_CODES}"""

_CANCEL_EXAMPLES = f"""\
examples:
  spooled jobs cancel 018f6c1e-7a52-4c1d-9d0e-3c0a5f1b2d3e

{EXIT_CODES}"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "jobs",
        help="create, list, show, retry and cancel jobs",
        description="Create, list, show, retry and cancel jobs.",
        epilog=_EXAMPLES,
    )
    add_connection(parser, quiet=True)
    add_json(parser, quiet=True)
    actions = add_commands(parser)
    _create.add(actions)
    _add_list(actions)
    _show.add(actions)
    _add_change(
        actions,
        "retry",
        _retry,
        help_text="run jobs again that failed for good",
        description="Put jobs that failed for good (status deadletter) back on their queue, with all their retries.",
        epilog=_RETRY_EXAMPLES,
    )
    _add_change(
        actions,
        "cancel",
        _cancel,
        help_text="cancel jobs that have not started",
        description="Cancel jobs that wait. A job that is running goes on: workers are not told.",
        epilog=_CANCEL_EXAMPLES,
    )


def _add_list(actions: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = actions.add_parser(
        "list",
        help="list jobs, newest first",
        description="List jobs, newest first.",
        epilog=_LIST_EXAMPLES,
    )
    parser.add_argument("--queue", metavar="QUEUE", help="of this queue")
    parser.add_argument(
        "--status",
        action="append",
        type=_statuses,
        metavar="STATUS",
        help=f"with this status; may be repeated. One of {', '.join(_STATUSES)}",
    )
    parser.add_argument("--job-type", metavar="TYPE", help="whose payload has this job_type")
    parser.add_argument("--tag", metavar="TAG", help="with this tag")
    parser.add_argument(
        "--limit",
        type=whole_number(1, 100),
        metavar="N",
        help=f"at most so many, 1 to 100 (default: {_LIMIT})",
    )
    parser.add_argument(
        "--offset", type=whole_number(0, 2**31 - 1), metavar="N", help="leave out the first N"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="all of them, however many, oldest first; without --limit and the rest",
    )
    parser.add_argument(
        "--order",
        type=_order,
        metavar="FIELD[:asc]",
        help=f"sort by this field, largest first, or smallest first with :asc (default: created_at). "
        f"One of {', '.join(_ORDERS)}",
    )
    add_json(parser)
    add_connection(parser)
    parser.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    import msgspec

    from spooled.models import Page

    if args.all and (args.limit, args.offset, args.order) != (None, None, None):
        raise CommandError(
            "jobs list: --all lists everything, oldest first, and takes no --limit, --offset or --order",
            Exit.USAGE,
        )
    limit, offset = args.limit or _LIMIT, args.offset or 0
    filters: dict[str, Any] = {
        "queue_name": args.queue,
        "status": ",".join(name for names in args.status for name in names) if args.status else None,
        "job_type": args.job_type,
        "tag": args.tag,
    }
    filters = {name: value for name, value in filters.items() if value is not None}
    params = {**filters, "limit": limit, "offset": offset}
    if args.order is not None:
        params["order_by"], params["order_dir"] = args.order
    with connect(args) as client:
        jobs = Page(client.jobs.iterate(filters), has_more=False) if args.all else client.jobs.list(params)
    if hasattr(args, "json"):
        _output.write_json(
            {
                "jobs": msgspec.to_builtins(list(jobs)),
                "limit": None if args.all else limit,
                "offset": offset,
                "has_more": jobs.has_more,
            }
        )
        return Exit.DONE
    if not jobs:
        filtered = offset or filters
        _output.write("no such jobs" if filtered else "no jobs")
        return Exit.DONE
    now = datetime.now(UTC)
    rows = [
        (
            job.id,
            job.queue_name,
            job.status,
            f"{job.retry_count + 1}/{job.max_retries + 1}",
            job.priority,
            since(job.created_at, now),
            job.job_type,
            job.last_error,
        )
        for job in jobs
    ]
    # Most jobs have no type and no error; their columns then only take room.
    kept = [
        index
        for index, column in enumerate(_COLUMNS)
        if column.title not in ("TYPE", "LAST ERROR") or any(row[index] for row in rows)
    ]
    _output.write(
        table([_COLUMNS[i] for i in kept], [[row[i] for i in kept] for row in rows], _output.columns())
    )
    if not jobs.is_last(limit) and not args.all:
        _output.write(f"there {'are' if jobs.has_more else 'may be'} more: --offset {offset + len(jobs)}")
    return Exit.DONE


def _add_change(
    actions: argparse._SubParsersAction[Any],
    name: str,
    change: Callable[[SpooledClient, str], str],
    *,
    help_text: str,
    description: str,
    epilog: str,
) -> None:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=help_text, description=description, epilog=epilog
    )
    parser.add_argument("ids", metavar="ID", nargs="+", help="a job's id")
    add_json(parser)
    add_connection(parser)
    parser.set_defaults(run=lambda args: _change(args, change))


def _change(args: argparse.Namespace, change: Callable[[SpooledClient, str], str]) -> int:
    """Do it to each job. One that cannot be changed does not keep the others from it."""
    from spooled.errors import ConflictError, NotFoundError, ValidationError

    done: list[dict[str, str]] = []
    failed: list[dict[str, str]] = []
    with connect(args) as client:
        for job_id in args.ids:
            try:
                status = change(client, job_id)
            except (ConflictError, NotFoundError, ValidationError) as error:
                message = failure_of(error, client.config.base_url, "such job").message
                failed.append({"id": job_id, "error": message})
                _output.print_error(f"job {job_id}: {message}")
            else:
                done.append({"id": job_id, "status": status})
                if not hasattr(args, "json"):
                    _output.write(f"job {job_id} is {status}")
    if hasattr(args, "json"):
        _output.write_json({"done": done, "failed": failed})
    return Exit.ERROR if failed else Exit.DONE


def _retry(client: SpooledClient, job_id: str) -> str:
    return client.jobs.retry(job_id).status


def _cancel(client: SpooledClient, job_id: str) -> str:
    client.jobs.cancel(job_id)
    return "cancelled"


def _statuses(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in _STATUSES:
            raise argparse.ArgumentTypeError(
                f"{name!r} is not a status{suggestion(name, _STATUSES) or ': ' + ', '.join(_STATUSES)}"
            )
    return names


def _order(text: str) -> tuple[str, str]:
    field, _, direction = text.partition(":")
    if field not in _ORDERS:
        raise argparse.ArgumentTypeError(
            f"{field!r} is not a field to sort by{suggestion(field, _ORDERS) or ': ' + ', '.join(_ORDERS)}"
        )
    if direction not in ("", "asc", "desc"):
        raise argparse.ArgumentTypeError(f"{direction!r} is neither asc nor desc")
    return field, direction or "desc"
