"""`spooled schedules list`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from spooled.cli import _output
from spooled.cli._connection import connect
from spooled.cli._parser import add_commands, add_connection, add_json
from spooled.cli._table import Column, table
from spooled.cli.failure import EXIT_CODES, Exit

if TYPE_CHECKING:
    from spooled.client import SpooledClient
    from spooled.models import Schedule

_EXAMPLES = f"""\
examples:
  spooled schedules list
  spooled schedules list --queue emails --json | jq -r '.schedules[].next_run_at'

{EXIT_CODES}"""

_PAGE = 500

_COLUMNS = (
    Column("ID"),
    Column("NAME", least=8),
    Column("STATE"),
    Column("CRON"),
    Column("ZONE"),
    Column("QUEUE", least=8),
    Column("NEXT RUN"),
    Column("RUNS", right=True),
)


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "schedules",
        help="list the schedules",
        description="List the schedules.",
        epilog=_EXAMPLES,
    )
    add_connection(parser, quiet=True)
    add_json(parser, quiet=True)
    actions = add_commands(parser)
    listing: argparse.ArgumentParser = actions.add_parser(
        "list",
        help="list the schedules",
        description="List the schedules, the newest first, and when they run next.",
        epilog=_EXAMPLES,
    )
    listing.add_argument("--queue", metavar="QUEUE", help="those that create jobs in this queue")
    add_json(listing)
    add_connection(listing)
    listing.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args) as client:
        found, whole = _read_all(client, args.queue)
    # Older servers do not filter.
    schedules = [each for each in found if args.queue in (None, each.queue_name)]
    json = hasattr(args, "json")
    if json:
        _output.write_json({"schedules": msgspec.to_builtins(schedules)})
    elif not schedules:
        _output.write("no schedules")
    else:
        rows = [
            (
                each.id,
                each.name,
                "active" if each.is_active else "paused",
                each.cron_expression,
                each.timezone,
                each.queue_name,
                None if each.next_run_at is None else each.next_run_at.strftime("%Y-%m-%d %H:%M:%SZ"),
                each.run_count,
            )
            for each in schedules
        ]
        _output.write(table(_COLUMNS, rows, _output.columns()))
    if not whole:
        _output.say_more(f"of the newest {len(found)}; this server lists no more", json=json)
    return Exit.DONE


def _read_all(client: SpooledClient, queue: str | None) -> tuple[list[Schedule], bool]:
    """Return the schedules of all pages, and whether that is all of them: older servers have one page only."""
    found: dict[str, Schedule] = {}
    offset = 0
    while True:
        page = client.schedules.list(queue_name=queue, limit=_PAGE, offset=offset)
        before = len(found)
        found.update((each.id, each) for each in page)
        if page.is_last(_PAGE):
            return list(found.values()), True
        if len(found) == before:
            return list(found.values()), False
        offset += len(page)
