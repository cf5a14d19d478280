"""`spooled workflows list`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from spooled.cli import _output
from spooled.cli._connection import connect
from spooled.cli._parser import add_commands, add_connection, add_json, whole_number
from spooled.cli._table import Column, table
from spooled.cli._times import since
from spooled.cli.failure import EXIT_CODES, Exit

_STATES = ("pending", "running", "completed", "failed", "cancelled")

_EXAMPLES = f"""\
examples:
  spooled workflows list
  spooled workflows list --status failed --json | jq -r '.workflows[].id'

{EXIT_CODES}"""

_COLUMNS = (
    Column("ID"),
    Column("NAME", least=8),
    Column("STATUS"),
    Column("DONE", right=True),
    Column("FAILED", right=True),
    Column("AGE", right=True),
)


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "workflows",
        help="list the workflows",
        description="List the workflows.",
        epilog=_EXAMPLES,
    )
    add_connection(parser, quiet=True)
    add_json(parser, quiet=True)
    actions = add_commands(parser)
    listing: argparse.ArgumentParser = actions.add_parser(
        "list",
        help="list the workflows",
        description="List the newest workflows and how far they are.",
        epilog=_EXAMPLES,
    )
    listing.add_argument("--status", choices=_STATES, help="in this state")
    listing.add_argument(
        "--limit",
        type=whole_number(1, 100),
        default=50,
        metavar="N",
        help="at most so many, 1 to 100 (default: 50)",
    )
    listing.add_argument(
        "--offset", type=whole_number(0, 2**31 - 1), default=0, metavar="N", help="leave out the first N"
    )
    add_json(listing)
    add_connection(listing)
    listing.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args) as client:
        workflows = client.workflows.list(status=args.status, limit=args.limit, offset=args.offset)
    if hasattr(args, "json"):
        _output.write_json({"workflows": msgspec.to_builtins(list(workflows))})
    elif not workflows:
        _output.write("no workflows")
    else:
        now = datetime.now(UTC)
        rows = [
            (
                each.id,
                each.name,
                each.status,
                f"{each.completed_jobs}/{each.total_jobs}",
                each.failed_jobs,
                since(each.created_at, now),
            )
            for each in workflows
        ]
        _output.write(table(_COLUMNS, rows, _output.columns()))
    if not workflows.is_last(args.limit):
        text = f"there may be more: --offset {args.offset + len(workflows)}"
        _output.say_more(text, json=hasattr(args, "json"))
    return Exit.DONE
