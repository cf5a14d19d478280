"""`spooled workers list`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spooled.cli import _output
from spooled.cli._connection import connect
from spooled.cli._parser import add_commands, add_connection, add_json
from spooled.cli._table import Column, table
from spooled.cli._times import since
from spooled.cli.failure import EXIT_CODES, Exit

if TYPE_CHECKING:
    from spooled.models import WorkerSummary

_EXAMPLES = f"""\
examples:
  spooled workers list
  spooled workers list --all --json | jq -r '.workers[] | select(.status == "offline").id'

{EXIT_CODES}"""

_COLUMNS = (
    Column("ID", least=16),
    Column("QUEUE", least=8),
    Column("STATUS"),
    Column("JOBS", right=True),
    Column("HOST", least=8),
    Column("SEEN", right=True),
)


_MOST = 100
"""How many workers the server lists; it has no second page of them (contract api-v1 §5)."""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "workers",
        help="list the workers that are registered",
        description="List the workers that are registered.",
        epilog=_EXAMPLES,
    )
    add_connection(parser, quiet=True)
    add_json(parser, quiet=True)
    actions = add_commands(parser)
    listing: argparse.ArgumentParser = actions.add_parser(
        "list",
        help="list the workers",
        description="List the workers. A worker that died is shown as healthy for some minutes; see when it was seen.",
        epilog=_EXAMPLES,
    )
    listing.add_argument("--all", action="store_true", help="also those that are offline")
    add_json(listing)
    add_connection(listing)
    listing.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    import msgspec

    with connect(args) as client:
        everyone = client.workers.list()
    workers = [worker for worker in everyone if args.all or worker.status != "offline"]
    json = hasattr(args, "json")
    if json:
        _output.write_json({"workers": msgspec.to_builtins(workers)})
    else:
        _write(workers, hidden=len(everyone) - len(workers))
    if len(everyone) >= _MOST:
        _output.say_more(f"the {len(everyone)} that were seen last; the server lists no more", json=json)
    return Exit.DONE


def _write(workers: list[WorkerSummary], *, hidden: int) -> None:
    if workers:
        now = datetime.now(UTC)
        rows = [
            (
                worker.id,
                worker.queue_name,
                worker.status,
                f"{worker.current_jobs}/{worker.max_concurrency}",
                worker.hostname,
                since(worker.last_heartbeat, now),
            )
            for worker in workers
        ]
        _output.write(table(_COLUMNS, rows, _output.columns()))
    else:
        _output.write("no workers")
    if hidden:
        _output.write(f"({hidden} offline; shown with --all)")
